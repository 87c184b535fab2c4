//! Which containers `ps` lists.

use std::path::Path;

use coracle::{Container, Engine, Image, Source, State, Status};

use jiff::Timestamp;

use crate::fail::Fail;
use crate::filter::Filters;
use crate::inspect::container::state_name;

/// What `--filter` knows.
pub(super) const KEYS: [&str; 15] = [
    "ancestor",
    "before",
    "expose",
    "exited",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];
/// Those of them that have nothing to say here yet.
const UNSUPPORTED: [&str; 1] = ["expose"];
const STATES: [&str; 7] = ["created", "restarting", "running", "removing", "paused", "exited", "dead"];
const HEALTH: [&str; 4] = ["starting", "healthy", "unhealthy", "none"];

/// Filters with what they speak of looked up.
pub(super) struct Keep {
    filters: Filters,
    all: bool,
    ancestors: Vec<Image>,
    /// When the containers that they name were made.
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    networks: Vec<String>,
    publish: Vec<(u16, u16, String)>,
}

fn invalid(key: &str, value: &str) -> Fail {
    Fail::new(1, format!("invalid filter '{key}={value}'"))
}

impl Keep {
    /// Looks up what the filters speak of. `all`: not only those that run.
    pub(super) fn new(engine: &Engine, filters: Filters, all: bool) -> Result<Keep, Fail> {
        if let Some(key) = UNSUPPORTED.iter().find(|key| !filters.get(key).is_empty()) {
            return Err(Fail::new(1, format!("ps --filter {key}: not supported yet")));
        }
        for (key, known) in [("status", &STATES[..]), ("health", &HEALTH[..])] {
            if let Some(value) = filters.get(key).iter().find(|value| !known.contains(&value.as_str())) {
                return Err(invalid(key, value));
            }
        }
        if let Some(value) = filters.get("exited").iter().find(|value| value.parse::<i64>().is_err()) {
            return Err(invalid("exited", value));
        }
        let made = |key: &str| -> Result<Option<Timestamp>, Fail> {
            let Some(name) = filters.get(key).last() else { return Ok(None) };
            Ok(created(&crate::each::container(engine, name)?))
        };
        let mut ancestors = Vec::new();
        for name in filters.get("ancestor") {
            // What is not there has no descendants.
            ancestors.extend(engine.image(name)?);
        }
        let mut networks = Vec::new();
        for name in filters.get("network") {
            let found = crate::inspect::network::find(engine, name)?;
            networks.push(found.map_or_else(|| name.clone(), |network| network.name().to_owned()));
        }
        let ports = |value: &String| ports(value).ok_or_else(|| invalid("publish", value));
        let publish = filters.get("publish").iter().map(ports).collect::<Result<_, _>>()?;
        let (before, since) = (made("before")?, made("since")?);
        let all = all || !filters.get("status").is_empty();
        Ok(Keep { filters, all, ancestors, before, since, networks, publish })
    }

    pub(super) fn wants(&self, container: &Container, status: &Status) -> Result<bool, Fail> {
        let exited = || match status.state {
            State::Exited(exit) => exit.code().to_string(),
            State::Dead => "255".into(),
            _ => String::new(),
        };
        let filters = &self.filters;
        Ok((self.all || matches!(status.state, State::Running | State::Paused | State::Restarting))
            && filters.names("id", container.id())?
            // A name also goes by the slash that it has in docker's API.
            && (filters.names("name", container.name())? || filters.names("name", &format!("/{}", container.name()))?)
            && filters.labels(container.labels())
            && filters.exactly("status", state_name(status.state))
            && filters.any("exited", |value| value.trim_start_matches('+') == exited())
            && filters.exactly("health", &health(status))
            && filters.any("is-task", |value| matches!(value, "0" | "f" | "F" | "false" | "FALSE" | "False"))
            && filters.exactly("isolation", "default")
            && (filters.get("ancestor").is_empty() || self.ancestors.iter().any(|image| container.descends_from(image)))
            && self.before.is_none_or(|time| created(container).is_some_and(|made| made < time))
            && self.since.is_none_or(|time| created(container).is_some_and(|made| made > time))
            && (self.networks.is_empty() || container.network_names().iter().any(|name| self.networks.iter().any(|wanted| wanted == name)))
            && filters.any("volume", |wanted| has_volume(container, wanted))
            && (self.publish.is_empty() || self.publishes(container)?))
    }

    fn publishes(&self, container: &Container) -> Result<bool, Fail> {
        let published = container.published()?;
        let wanted = |port: &coracle::Port| {
            let text = port.to_string();
            self.publish.iter().any(|(first, last, protocol)| {
                (*first..=*last).contains(&port.number()) && text.ends_with(protocol.as_str())
            })
        };
        Ok(published.iter().any(|one| wanted(&one.container())))
    }
}

/// By the volume's name, or the path on either side.
fn has_volume(container: &Container, wanted: &str) -> bool {
    container.mounts().iter().any(|mount| {
        let source = match mount.source() {
            Source::Volume(name) => name == wanted,
            Source::Bind(path) => path.as_path() == Path::new(wanted),
            _ => false,
        };
        source || mount.at() == Path::new(wanted)
    })
}

fn created(container: &Container) -> Option<Timestamp> {
    container.created().parse().ok()
}

fn health(status: &Status) -> String {
    status.health.as_ref().map_or_else(|| "none".to_owned(), |health| health.status.to_string())
}

/// `80`, `80/udp`, `8000-8010/tcp`: first, last, and `/protocol`.
fn ports(text: &str) -> Option<(u16, u16, String)> {
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
    let known = matches!(protocol, "tcp" | "udp" | "sctp");
    (first <= last && known).then(|| (first, last, format!("/{protocol}")))
}

#[cfg(test)]
mod tests {
    use super::ports;

    #[test]
    fn ports_are_ranges() {
        assert_eq!(ports("80"), Some((80, 80, "/tcp".into())));
        assert_eq!(ports("8000-8010/udp"), Some((8000, 8010, "/udp".into())));
        for wrong in ["", "x", "2-1", "80/x", "70000", "1-"] {
            assert_eq!(ports(wrong), None, "{wrong}");
        }
    }
}
