//! `NAME=value` pairs from flags and files.

use coracle::Proxies;

use crate::fail::Fail;

/// Where a variable without a value is looked up: this program's environment, and a table in tests.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// This program's environment. What is not UTF-8 is not there.
pub(crate) fn own(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The time that what is made is to be dated with, in seconds since 1970 (reproducible-builds.org).
pub(crate) fn epoch(lookup: Lookup<'_>) -> Result<Option<i64>, Fail> {
    const NAME: &str = "SOURCE_DATE_EPOCH";
    let wrong = |text: &str| Fail::new(1, format!("{NAME}={text}: want seconds since 1970"));
    lookup(NAME).map(|text| text.parse().map_err(|_| wrong(&text))).transpose()
}

/// The proxies of this program's own requests, by the names and in the order that Go's programs have.
pub(crate) fn proxies(lookup: Lookup<'_>) -> Proxies {
    let either = |upper: &str, lower: &str| {
        let set = |name: &str| lookup(name).filter(|value| !value.is_empty());
        set(upper).or_else(|| set(lower)).unwrap_or_default()
    };
    Proxies::new()
        .http(either("HTTP_PROXY", "http_proxy"))
        .https(either("HTTPS_PROXY", "https_proxy"))
        .except(&either("NO_PROXY", "no_proxy"))
}

/// The variables of `--env-file` files and then of `-e` flags, so that flags win.
pub(crate) fn variables(
    files: &[String],
    flags: &[String],
    lookup: Lookup<'_>,
) -> Result<Vec<(String, String)>, Fail> {
    let mut all = Vec::new();
    for path in files {
        let text = std::fs::read(path).map_err(|error| Fail::new(125, format!("open({path:?}): {error}")))?;
        let text = String::from_utf8(text)
            .map_err(|_| Fail::new(125, format!("environment file {path}: it is not UTF-8")))?;
        let pairs = file(&text, lookup);
        all.extend(pairs.map_err(|problem| Fail::new(125, format!("environment file {path}:{problem}")))?);
    }
    for flag in flags {
        let pair = pair(flag, lookup);
        all.extend(
            pair.map_err(|problem| Fail::new(125, format!("environment variable {flag:?}: {problem}")))?,
        );
    }
    Ok(all)
}

/// docker's format: a pair a line, `#` comments, no quoting; a name alone is taken from the environment.
fn file(text: &str, lookup: Lookup<'_>) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split_once('=').map_or(line, |(name, _)| name);
        if name.contains([' ', '\t']) {
            return Err(format!("{}: the name {name:?} has a blank in it", number + 1));
        }
        pairs.extend(pair(line, lookup).map_err(|problem| format!("{}: {problem}", number + 1))?);
    }
    Ok(pairs)
}

/// `NAME=value`, or `NAME` for the value that it has in the environment, if any.
fn pair(text: &str, lookup: Lookup<'_>) -> Result<Option<(String, String)>, &'static str> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, lookup(text)),
    };
    if name.is_empty() {
        return Err("the name is missing");
    }
    Ok(value.map(|value| (name.to_owned(), value)))
}

/// `key=value`, or `key` with an empty value.
pub(crate) fn label(text: &str) -> (String, String) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    (key.to_owned(), value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        (name == "SET").then(|| "from outside".to_owned())
    }

    fn own(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn files_are_dockers() {
        let text =
            "\u{feff}A=1\n\n# comment\n  B=two words \"quoted\" \nSET\nUNSET\nC=\nD=a=b # no comment\r\n";
        let expected = own(&[
            ("A", "1"),
            ("B", "two words \"quoted\" "),
            ("SET", "from outside"),
            ("C", ""),
            ("D", "a=b # no comment"),
        ]);
        assert_eq!(file(text, &lookup).unwrap(), expected);
        assert_eq!(file("A=1\nB C=2", &lookup).unwrap_err(), "2: the name \"B C\" has a blank in it");
        assert_eq!(file("=1", &lookup).unwrap_err(), "1: the name is missing");
    }

    #[test]
    fn flags_come_last() {
        let flags = ["A=2".to_owned(), "SET".to_owned(), "UNSET".to_owned()];
        let all = variables(&[], &flags, &lookup).unwrap();
        assert_eq!(all, own(&[("A", "2"), ("SET", "from outside")]));
        let wrong = variables(&[], &["=x".to_owned()], &lookup).unwrap_err();
        assert_eq!(wrong.to_string(), "coracle: environment variable \"=x\": the name is missing");
        let missing = variables(&["/nosuch/env".to_owned()], &[], &lookup).unwrap_err();
        assert!(missing.to_string().contains("/nosuch/env"), "{missing}");
        assert_eq!(missing.status(), 125);
    }

    #[test]
    fn labels_may_be_keys_alone() {
        assert_eq!(label("a=b=c"), ("a".to_owned(), "b=c".to_owned()));
        assert_eq!(label("a"), ("a".to_owned(), String::new()));
    }
}
