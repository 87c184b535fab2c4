//! Which networks of many: the filters of `network ls` and `network prune`.

use crate::{Error, Kind, Network, Result};

/// What networks must be like. Without any condition all are.
///
/// ```
/// let mine = coracle_net::Filter::new().condition("label=team=blue")?.condition("dangling=true")?;
/// # Ok::<(), coracle_net::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    names: Vec<String>,
    ids: Vec<String>,
    drivers: Vec<String>,
    labels: Vec<(String, Option<String>)>,
    dangling: Option<bool>,
}

impl Filter {
    /// No condition.
    pub fn new() -> Filter {
        Filter::default()
    }

    /// One more condition as docker's `--filter` takes it: `name=part`, `id=beginning`, `driver=bridge`,
    /// `label=key`, `label=key=value`, `dangling=true`. Of several about name, id or driver one must hold; about
    /// labels all.
    ///
    /// # Errors
    /// `Invalid` for what has not this form; `Unsupported` naming a key that is not one of these.
    pub fn condition(mut self, text: &str) -> Result<Filter> {
        let wrong = |why: &str| Error::new(Kind::Invalid, format!("filter `{text}`: {why}"));
        let (key, value) = text.split_once('=').ok_or_else(|| wrong("it must be key=value"))?;
        match key {
            "name" => self.names.push(value.into()),
            "id" => self.ids.push(value.to_ascii_lowercase()),
            "driver" => self.drivers.push(value.into()),
            "label" => self.labels.push(match value.split_once('=') {
                Some((key, value)) => (key.into(), Some(value.into())),
                None => (value.into(), None),
            }),
            "dangling" => match value {
                "true" | "1" => self.dangling = Some(true),
                "false" | "0" => self.dangling = Some(false),
                _ => return Err(wrong("dangling is true or false")),
            },
            other => {
                let text = format!("filter `{text}`: networks can't be filtered by `{other}`");
                return Err(Error::new(Kind::Unsupported, text));
            }
        }
        Ok(self)
    }

    /// Whether a network is like that now.
    ///
    /// # Errors
    /// As of [`Network::is_in_use`], which `dangling` asks for.
    pub fn matches(&self, network: &Network) -> Result<bool> {
        let label = |(key, wanted): &(String, Option<String>)| {
            let value = network.labels().get(key);
            value.is_some_and(|value| wanted.as_ref().is_none_or(|wanted| wanted == value))
        };
        let fits = any(&self.names, |part| network.name().contains(part))
            && any(&self.ids, |start| network.id().starts_with(start))
            && any(&self.drivers, |driver| network.driver() == driver)
            && self.labels.iter().all(label);
        Ok(match self.dangling {
            Some(wanted) if fits => wanted != network.is_in_use()?,
            _ => fits,
        })
    }
}

/// One of them, or nothing was asked.
fn any(wanted: &[String], holds: impl Fn(&str) -> bool) -> bool {
    wanted.is_empty() || wanted.iter().any(|wanted| holds(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_or_refused() {
        let filter = Filter::new().condition("label=a=b=c").and_then(|filter| filter.condition("label=x"));
        assert_eq!(filter.unwrap().labels, [("a".into(), Some("b=c".into())), ("x".into(), None::<String>)]);
        for (text, kind) in
            [("name", Kind::Invalid), ("dangling=maybe", Kind::Invalid), ("scope=swarm", Kind::Unsupported)]
        {
            let error = Filter::new().condition(text).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}
