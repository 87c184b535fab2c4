//! `--filter KEY=VALUE`: of several values of a key one is enough, of labels all are needed.

use std::collections::BTreeMap;

use regex::Regex;

use crate::fail::Fail;

/// What to keep in a list.
pub(crate) struct Filters(BTreeMap<String, Vec<String>>);

/// Reads a flag's value.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("bad format of filter (expected name=value)")?;
    Ok((key.trim().to_lowercase(), value.trim().to_owned()))
}

impl Filters {
    /// The filters of a list that knows these keys.
    pub(crate) fn new(pairs: &[(String, String)], known: &[&str]) -> Result<Filters, Fail> {
        let mut filters: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (key, value) in pairs {
            if !known.contains(&key.as_str()) {
                return Err(Fail::new(1, format!("invalid filter '{key}'")));
            }
            filters.entry(key.clone()).or_default().push(value.clone());
        }
        Ok(Filters(filters))
    }

    /// The values of a key.
    pub(crate) fn get(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// Whether a test holds for a value of the key, or there is none.
    pub(crate) fn any(&self, key: &str, test: impl Fn(&str) -> bool) -> bool {
        let values = self.get(key);
        values.is_empty() || values.iter().any(|value| test(value))
    }

    /// Whether it is a value of the key, or there is none.
    pub(crate) fn exactly(&self, key: &str, it: &str) -> bool {
        self.any(key, |value| value == it)
    }

    /// Whether a value of the key, a regular expression, is found in the name, or there is none.
    pub(crate) fn names(&self, key: &str, name: &str) -> Result<bool, Fail> {
        let values = self.get(key);
        for value in values {
            let pattern = Regex::new(value);
            let pattern =
                pattern.map_err(|error| Fail::new(1, format!("invalid filter '{key}={value}': {error}")))?;
            if value == name || pattern.is_match(name) {
                return Ok(true);
            }
        }
        Ok(values.is_empty())
    }

    /// Whether the labels have all that `label` asks for: a key, or a key and its value.
    pub(crate) fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        self.get("label").iter().all(|wanted| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|has| has == value),
            None => labels.contains_key(wanted),
        })
    }

    /// Whether the fact is as the key wants it, a boolean. Asked for only where somebody wants to know.
    pub(crate) fn flag(&self, key: &str, fact: impl Fn() -> Result<bool, Fail>) -> Result<bool, Fail> {
        for value in self.get(key) {
            let wanted = match value.as_str() {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
                "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
                _ => return Err(Fail::new(1, format!("invalid filter '{key}={value}'"))),
            };
            if fact()? != wanted {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(texts: &[&str]) -> Result<Filters, Fail> {
        let pairs: Vec<_> = texts.iter().map(|text| pair(text).unwrap()).collect();
        Filters::new(&pairs, &["name", "label", "status", "dangling"])
    }

    #[test]
    fn one_of_a_key_is_enough_and_all_keys_count() {
        let one = filters(&["name=^web$", "NAME = db", "status=exited"]).unwrap();
        for (name, kept) in [("web", true), ("web2", false), ("mydb1", true)] {
            assert_eq!(one.names("name", name).unwrap(), kept, "{name}");
        }
        assert!(one.exactly("status", "exited") && !one.exactly("status", "running"));
        assert!(one.exactly("driver", "x") && one.names("id", "x").unwrap(), "what is not asked for");
    }

    #[test]
    fn labels_are_needed_all() {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), String::new())]);
        for (texts, kept) in [
            (&["label=a"][..], true),
            (&["label=a=1", "label=b"], true),
            (&["label=a=1", "label=c"], false),
            (&["label=a=2"], false),
            (&["label=b="], true),
        ] {
            assert_eq!(filters(texts).unwrap().labels(&labels), kept, "{texts:?}");
        }
    }

    #[test]
    fn what_is_no_filter_is_said() {
        assert!(pair("x").is_err());
        assert_eq!(filters(&["size=1"]).err().unwrap().to_string(), "coracle: invalid filter 'size'");
        let wrong = filters(&["name=(", "dangling=maybe"]).unwrap();
        assert!(wrong.names("name", "x").unwrap_err().to_string().contains("invalid filter 'name=('"));
        let text = wrong.flag("dangling", || Ok(true)).unwrap_err().to_string();
        assert_eq!(text, "coracle: invalid filter 'dangling=maybe'");
        assert!(filters(&["dangling=0"]).unwrap().flag("dangling", || Ok(false)).unwrap());
    }
}
