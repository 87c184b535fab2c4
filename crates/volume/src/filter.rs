//! Finding volumes by what they are, as docker's `--filter` does.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result, Volume};

/// One condition on volumes. Of several, those on names have to be met by one, those on the driver too, all others
/// each. Written `label=tier`, `label=tier=1`, `label!=tier`, `name=db`, `driver=local`, `dangling=true`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Filter {
    /// Used by nobody (`true`), or by somebody (`false`).
    Dangling(bool),
    /// Has the label, with this value where one is given.
    Label(String, Option<String>),
    /// Has the label not, or another value where one is given.
    NotLabel(String, Option<String>),
    /// Its name contains this.
    Name(String),
    /// Its driver is this.
    Driver(String),
}

impl FromStr for Filter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Filter> {
        let invalid = |why: &str| Error::Invalid { name: text.to_owned(), problems: vec![why.to_owned()] };
        let Some((key, value)) = text.split_once('=') else {
            return Err(invalid("a filter is KEY=VALUE"));
        };
        let label = || match value.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (value.to_owned(), None),
        };
        match key {
            "dangling" => match value {
                "true" | "1" => Ok(Filter::Dangling(true)),
                "false" | "0" => Ok(Filter::Dangling(false)),
                _ => Err(invalid("`dangling` is true or false")),
            },
            "label" => Ok(Filter::Label(label().0, label().1)),
            "label!" => Ok(Filter::NotLabel(label().0, label().1)),
            "name" => Ok(Filter::Name(value.to_owned())),
            "driver" => Ok(Filter::Driver(value.to_owned())),
            _ => Err(invalid("the filters are dangling, driver, label, label! and name")),
        }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Filter::Dangling(dangling) => write!(f, "dangling={dangling}"),
            Filter::Label(key, None) => write!(f, "label={key}"),
            Filter::Label(key, Some(value)) => write!(f, "label={key}={value}"),
            Filter::NotLabel(key, None) => write!(f, "label!={key}"),
            Filter::NotLabel(key, Some(value)) => write!(f, "label!={key}={value}"),
            Filter::Name(name) => write!(f, "name={name}"),
            Filter::Driver(driver) => write!(f, "driver={driver}"),
        }
    }
}

/// Whether `volume` meets all of `filters`. `used` is asked at most once, and only where it matters.
pub(crate) fn matches(
    filters: &[Filter],
    volume: &Volume,
    mut used: impl FnMut() -> Result<bool>,
) -> Result<bool> {
    let has = |key: &str, value: &Option<String>| {
        volume.labels().get(key).is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
    };
    let (mut names, mut drivers, mut dangling) = (Vec::new(), Vec::new(), Vec::new());
    for filter in filters {
        match filter {
            Filter::Dangling(wanted) => dangling.push(*wanted),
            Filter::Label(key, value) if !has(key, value) => return Ok(false),
            Filter::NotLabel(key, value) if has(key, value) => return Ok(false),
            Filter::Label(..) | Filter::NotLabel(..) => {}
            Filter::Name(part) => names.push(volume.name().contains(part)),
            Filter::Driver(driver) => drivers.push(volume.driver() == driver),
        }
    }
    let one = |of: &[bool]| of.is_empty() || of.contains(&true);
    if !one(&names) || !one(&drivers) {
        return Ok(false);
    }
    if dangling.is_empty() {
        return Ok(true);
    }
    let is_dangling = !used()?;
    Ok(dangling.iter().all(|wanted| *wanted == is_dangling))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_and_read() {
        for text in [
            "dangling=true",
            "dangling=false",
            "label=a",
            "label=a=",
            "label=a=b=c",
            "label!=a",
            "label!=a=b",
            "name=db",
            "driver=local",
        ] {
            assert_eq!(text.parse::<Filter>().unwrap().to_string(), text);
        }
        let refused = |text: &str| text.parse::<Filter>().unwrap_err().to_string();
        assert_eq!(refused("dangling=maybe"), "volume \"dangling=maybe\": `dangling` is true or false");
        assert_eq!(refused("name"), "volume \"name\": a filter is KEY=VALUE");
        assert!(refused("until=1h").contains("the filters are dangling, driver, label"));
    }
}
