//! What the `prune` verbs share: their question, and which of the unused things they want.

use std::collections::BTreeMap;
use std::time::SystemTime;

use crate::fail::Fail;
use crate::{filter, time};

/// Their flags.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Flags {
    /// Provide filter values (e.g. "until=<timestamp>")
    #[arg(long, value_name = "KEY=VALUE", value_parser = filter::pair)]
    pub(crate) filter: Vec<(String, String)>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    pub(crate) force: bool,
}

/// Asks first, as docker does; no answer is a no.
pub(crate) fn agreed(what: &str) -> std::io::Result<bool> {
    crate::out::text(format_args!(
        "WARNING! This will remove {what}.\nAre you sure you want to continue? [y/N] "
    ))?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// A label, with a value or with any.
type Label = (String, Option<String>);

/// `--filter` of `prune`: made before a time, with labels and without.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    until: Option<SystemTime>,
    labels: Vec<Label>,
    not_labels: Vec<Label>,
}

impl Wanted {
    /// Reads the flags' values.
    pub(crate) fn read(filters: &[(String, String)]) -> Result<Wanted, Fail> {
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

    /// Whether it is one of those.
    pub(crate) fn takes(&self, created: SystemTime, labels: &BTreeMap<String, String>) -> bool {
        let has = |(key, wanted): &Label| {
            labels.get(key).is_some_and(|value| wanted.as_ref().is_none_or(|wanted| wanted == value))
        };
        self.until.is_none_or(|until| created < until)
            && self.labels.iter().all(has)
            && !self.not_labels.iter().any(has)
    }
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
