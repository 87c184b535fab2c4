//! `--filter` of lists of images.

use std::collections::BTreeMap;

use coracle::{Engine, Image};
use jiff::Timestamp;

use super::list::split;
use crate::fail::Fail;

/// Conditions, all of which hold for what is listed.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    dangling: Option<bool>,
    /// With a value, or the key alone. An image has all of them.
    labels: Vec<(String, Option<String>)>,
    /// With these an image has none of them.
    not_labels: Vec<(String, Option<String>)>,
    /// Patterns of names; one of them fits.
    references: Vec<String>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
}

impl Filters {
    /// Reads `key=value` conditions; `reference` is the argument of `images`, a pattern too.
    pub(crate) fn parse(
        engine: &Engine,
        pairs: &[(String, String)],
        reference: Option<&str>,
    ) -> Result<Filters, Fail> {
        let created =
            |name: &str| -> Result<Option<Timestamp>, Fail> { Ok(time(&super::find(engine, name)?)) };
        let mut filters = Filters::default();
        for (key, value) in pairs {
            match key.as_str() {
                "before" => filters.before(created(value)?),
                "since" => filters.since = filters.since.max(created(value)?),
                "reference" => filters.references.push(value.clone()),
                "dangling" => filters.dangling = Some(switch(key, value)?),
                _ => filters.common(key, value)?,
            }
        }
        filters.references.extend(reference.map(str::to_owned));
        Ok(filters)
    }

    /// Those that `image prune` knows.
    pub(crate) fn parse_prune(pairs: &[(String, String)]) -> Result<Filters, Fail> {
        let mut filters = Filters::default();
        for (key, value) in pairs {
            match key.as_str() {
                "dangling" => filters.dangling = Some(switch(key, value)?),
                "label!" => filters.not_labels.push(label(value)),
                _ => filters.common(key, value)?,
            }
        }
        Ok(filters)
    }

    fn common(&mut self, key: &str, value: &str) -> Result<(), Fail> {
        match key {
            "label" => self.labels.push(label(value)),
            "until" => {
                let now = Timestamp::now();
                let until = moment(value, now).ok_or_else(|| {
                    Fail::new(
                        1,
                        format!("invalid value for \"until\" filter: {value:?} is no time and no duration"),
                    )
                })?;
                self.before(Some(until));
            }
            _ => return Err(Fail::new(1, format!("invalid filter '{key}'"))),
        }
        Ok(())
    }

    fn before(&mut self, time: Option<Timestamp>) {
        self.before = [self.before, time].into_iter().flatten().min();
    }

    /// Whether dangling images are asked for, or all others.
    pub(crate) fn dangling(&self) -> Option<bool> {
        self.dangling
    }

    /// Whether all conditions hold for an image.
    pub(crate) fn takes(&self, image: &Image) -> bool {
        let labels = || image.config().map(|config| config.config.labels).unwrap_or_default();
        let has = |(key, value): &(String, Option<String>), labels: &BTreeMap<String, String>| {
            labels.get(key).is_some_and(|own| value.as_ref().is_none_or(|value| value == own))
        };
        let mut names = image.names();
        names.retain(|name| self.names(name));
        // What doesn't say when it was made is older than everything.
        let created = || time(image).unwrap_or(Timestamp::UNIX_EPOCH);
        self.dangling.is_none_or(|dangling| dangling == image.names().is_empty())
            && (self.references.is_empty() || !names.is_empty())
            && (self.labels.is_empty() || self.labels.iter().all(|label| has(label, &labels())))
            && (self.not_labels.is_empty() || !self.not_labels.iter().any(|label| has(label, &labels())))
            && self.before.is_none_or(|before| created() < before)
            && self.since.is_none_or(|since| created() > since)
    }

    /// Whether one of an image's names is asked for.
    pub(crate) fn names(&self, name: &str) -> bool {
        let (repository, _) = split(name);
        let fits = |pattern: &String| path_match(pattern, name) || path_match(pattern, &repository);
        self.references.is_empty() || self.references.iter().any(fits)
    }
}

fn label(text: &str) -> (String, Option<String>) {
    match text.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (text.to_owned(), None),
    }
}

fn switch(key: &str, value: &str) -> Result<bool, Fail> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(Fail::new(1, format!("invalid filter '{key}=[{value}]'"))),
    }
}

fn time(image: &Image) -> Option<Timestamp> {
    image.created()?.parse().ok()
}

/// A time (RFC 3339 or seconds since the epoch), or how long ago it was (`10m`, `1h30m`).
fn moment(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    if let Ok(seconds) = text.parse() {
        return Timestamp::from_second(seconds).ok();
    }
    let mut seconds = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |end| digits + end);
        seconds += number
            * match &rest[digits..unit] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 0.001,
                _ => return None,
            };
        rest = &rest[unit..];
    }
    (!text.is_empty()).then(|| now.checked_sub(std::time::Duration::from_secs_f64(seconds)).ok()).flatten()
}

/// Go's `path.Match`: `*` and `?` stop at slashes, `[a-z]`, `[^a]`, and `\` for what is meant as it is.
fn path_match(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // Where to go on after the last star took one more: names are short, and this is never worse than their product.
    let (mut p, mut n, mut star) = (0, 0, None);
    loop {
        let fits = match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
                continue;
            }
            None if n == name.len() => return true,
            None => None,
            Some(_) => name.get(n).and_then(|c| one(&pattern[p..], *c)),
        };
        match (fits, star) {
            (Some(length), _) => (p, n) = (p + length, n + 1),
            (None, Some((at, from))) if name.get(from).is_some_and(|c| *c != '/') => {
                star = Some((at, from + 1));
                (p, n) = (at + 1, from + 1);
            }
            (None, _) => return false,
        }
    }
}

/// How much of the pattern stands for this one character, if it fits.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match pattern[0] {
        '?' => (c != '/').then_some(1),
        '\\' => (pattern.get(1) == Some(&c)).then_some(2),
        '[' => {
            let end = pattern.iter().skip(2).position(|c| *c == ']')? + 2;
            let not = pattern[1] == '^';
            let set = &pattern[if not { 2 } else { 1 }..end];
            let mut at = 0;
            let mut found = false;
            while at < set.len() {
                if set.get(at + 1) == Some(&'-') && at + 2 < set.len() {
                    found |= (set[at]..=set[at + 2]).contains(&c);
                    at += 3;
                } else {
                    found |= set[at] == c;
                    at += 1;
                }
            }
            (found != not && c != '/').then_some(end + 1)
        }
        other => (other == c).then_some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_are_gos() {
        for (pattern, name, fits) in [
            ("acc", "acc", true),
            ("acc*", "acc-app:latest", true),
            ("*", "a", true),
            ("*", "a/b", false),
            ("*/*", "a/b:1", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abcd", false),
            ("?cc", "acc", true),
            ("[a-c]cc", "bcc", true),
            ("[^a-c]cc", "bcc", false),
            ("[^a-c]cc", "dcc", true),
            (r"a\*", "a*", true),
            (r"a\*", "ab", false),
            ("", "", true),
            ("[", "[", false),
            ("a**b", "axb", true),
        ] {
            assert_eq!(path_match(pattern, name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn names_and_repositories_fit() {
        let filters = Filters { references: vec!["acc-*".into(), "reg/x:1".into()], ..Filters::default() };
        assert!(filters.names("acc-app:latest") && filters.names("reg/x:1"));
        assert!(!filters.names("reg/x:2") && !filters.names("other:1"));
        assert!(Filters::default().names("anything"));
    }

    #[test]
    fn moments() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        for (text, time) in [
            ("1h30m", "2026-11-21T10:30:00Z"),
            ("10s", "2026-11-21T11:59:50Z"),
            ("0.5h", "2026-11-21T11:30:00Z"),
            ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
            ("1000000000", "2001-09-09T01:46:40Z"),
        ] {
            assert_eq!(moment(text, now), Some(time.parse().unwrap()), "{text}");
        }
        for text in ["", "h", "1", "5x", "1h-", "yesterday"].iter().filter(|text| **text != "1") {
            assert_eq!(moment(text, now), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(pattern in "[a-c*?/\\\\\\[\\]^-]{0,12}", name in "[a-c/]{0,12}") {
            path_match(&pattern, &name);
        }

        #[test]
        fn a_name_fits_itself(name in "[a-z0-9/:._-]{0,30}") {
            prop_assert!(path_match(&name, &name));
        }
    }
}
