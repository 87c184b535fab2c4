//! `coracle network prune`.

use std::collections::BTreeMap;
use std::time::SystemTime;

use coracle::Engine;

use crate::fail::{Done, Fail};
use crate::{filter, time};

/// Remove all unused networks
#[derive(clap::Args)]
pub(crate) struct PruneArgs {
    /// Provide filter values (e.g. "until=<timestamp>")
    #[arg(long, value_name = "KEY=VALUE", value_parser = filter::pair)]
    filter: Vec<(String, String)>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

/// Removes the networks that nobody is on, but the default one.
pub(crate) fn prune(args: &PruneArgs) -> Done {
    let wanted = Wanted::read(&args.filter)?;
    if !args.force && !agreed()? {
        return Ok(0);
    }
    let removed = Engine::open_default()?
        .prune_networks(|network| wanted.takes(network.created(), network.labels()))?;
    if !removed.is_empty() {
        crate::out::line(format_args!("Deleted Networks:\n{}\n", removed.join("\n")))?;
    }
    Ok(0)
}

/// A label, with a value or with any.
type Label = (String, Option<String>);

#[derive(Debug, Default)]
struct Wanted {
    until: Option<SystemTime>,
    labels: Vec<Label>,
    not_labels: Vec<Label>,
}

impl Wanted {
    fn read(filters: &[(String, String)]) -> Result<Wanted, Fail> {
        let mut wanted = Wanted::default();
        for (key, value) in filters {
            let label = || match value.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (value.clone(), None),
            };
            match key.as_str() {
                "until" if wanted.until.is_some() => {
                    return Err(Fail::new(1, "more than one until filter specified"));
                }
                "until" => {
                    let until = time::point(value);
                    let until = until.map_err(|why| Fail::new(1, format!("filter until={value}: {why}")))?;
                    wanted.until = Some(until);
                }
                "label" => wanted.labels.push(label()),
                "label!" => wanted.not_labels.push(label()),
                _ => return Err(Fail::new(1, format!("invalid filter '{key}'"))),
            }
        }
        Ok(wanted)
    }

    fn takes(&self, created: SystemTime, labels: &BTreeMap<String, String>) -> bool {
        let has = |(key, wanted): &Label| {
            labels.get(key).is_some_and(|value| wanted.as_ref().is_none_or(|wanted| wanted == value))
        };
        self.until.is_none_or(|until| created < until)
            && self.labels.iter().all(has)
            && !self.not_labels.iter().any(has)
    }
}

/// Asks first, as docker does; no answer is a no.
fn agreed() -> std::io::Result<bool> {
    crate::out::text(
        "WARNING! This will remove all custom networks not used by at least one container.\n\
         Are you sure you want to continue? [y/N] ",
    )?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_of_prune() {
        let read = |texts: &[&str]| {
            let pairs: Vec<_> = texts.iter().map(|text| filter::pair(text).unwrap()).collect();
            Wanted::read(&pairs)
        };
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        for (texts, kept) in [
            (&[][..], true),
            (&["label=a"], true),
            (&["label=a=2"], false),
            (&["label!=a=1"], false),
            (&["label!=b"], true),
            (&["until=1000"], false),
            (&["until=2000-01-01T00:00:00Z", "label=a=1"], true),
        ] {
            let created = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(2000);
            assert_eq!(read(texts).unwrap().takes(created, &labels), kept, "{texts:?}");
        }
        assert!(read(&["until=1", "until=2"]).unwrap_err().to_string().contains("more than one until"));
        assert!(read(&["until=x"]).is_err());
        assert!(read(&["name=x"]).unwrap_err().to_string().contains("invalid filter 'name'"));
    }
}
