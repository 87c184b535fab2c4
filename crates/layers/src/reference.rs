//! Image names, in docker's grammar.

use std::fmt;
use std::str::FromStr;

use crate::{Digest, Error, Result};

const DEFAULT_DOMAIN: &str = "docker.io";
const OFFICIAL: &str = "library/";
const MOST_NAME: usize = 255;
const MOST_TAG: usize = 128;

/// An image name: `[domain[:port]/]path[:tag][@digest]` (distribution/reference, which docker, containerd and
/// skopeo share). Parsing completes what is missing: `busybox` is `docker.io/library/busybox:latest`.
///
/// `Display` prints it in full; [`Reference::familiar`] as people type it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// The registry: `docker.io`, `localhost:5000`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The path in the registry: `library/busybox`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag; `latest` where the name had neither tag nor digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The manifest digest that the name pins.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The same repository's image of that manifest digest, whatever its tag.
    #[must_use]
    pub fn pinned(&self, digest: Digest) -> Reference {
        Reference { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// Registry and path, without tag and digest.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The short form that docker prints: `busybox:latest`, `ghcr.io/a/b:1`.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        if self.domain != DEFAULT_DOMAIN {
            return full;
        }
        let path = &full[DEFAULT_DOMAIN.len() + 1..];
        match path.strip_prefix(OFFICIAL) {
            Some(name) if !self.path[OFFICIAL.len()..].contains('/') => name.to_owned(),
            _ => path.to_owned(),
        }
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Reference> {
        parse(text).map_err(|why| Error::invalid(format!("image name {text:?}: {why}")))
    }
}

fn parse(text: &str) -> Result<Reference, String> {
    if text.is_empty() {
        return Err("it is empty".into());
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest.parse::<Digest>().map_err(|error| error.to_string())?)),
        None => (text, None),
    };
    let (name, tag) = match rest.rfind(':') {
        Some(colon) if !rest[colon..].contains('/') => (&rest[..colon], Some(&rest[colon + 1..])),
        _ => (rest, None),
    };
    if Digest::from_hex(name).is_some() {
        return Err("64 hexadecimal digits are an image id, not a name".into());
    }
    let (domain, path) = match name.split_once('/') {
        Some((first, path)) if is_domain(first) => (first, path.to_owned()),
        _ => (DEFAULT_DOMAIN, name.to_owned()),
    };
    let domain = if domain == "index.docker.io" { DEFAULT_DOMAIN } else { domain };
    let path =
        if domain == DEFAULT_DOMAIN && !path.contains('/') { format!("{OFFICIAL}{path}") } else { path };
    check_domain(domain)?;
    for component in path.strip_prefix(OFFICIAL).filter(|_| !name.contains('/')).unwrap_or(&path).split('/') {
        check_component(component)?;
    }
    if domain.len() + 1 + path.len() > MOST_NAME {
        return Err(format!("it is longer than {MOST_NAME} bytes"));
    }
    if let Some(tag) = tag {
        check_tag(tag)?;
    }
    let tag = match (tag, digest) {
        (None, None) => Some("latest"),
        (tag, _) => tag,
    };
    Ok(Reference { domain: domain.to_owned(), path, tag: tag.map(str::to_owned), digest })
}

/// Whether the part before the first slash is a registry: only those have dots, ports or upper case.
fn is_domain(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn check_domain(domain: &str) -> Result<(), String> {
    let bad = |why: &str| Err(format!("the registry {domain:?} {why}"));
    let (host, port) = match domain.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            if !address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') {
                return bad("is not an IPv6 address");
            }
            ("", rest.strip_prefix(':').or_else(|| (!rest.is_empty()).then_some("?")))
        }
        None => match domain.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (domain, None),
        },
    };
    if port.is_some_and(|port| port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit())) {
        return bad("has a port that is no number");
    }
    if domain.starts_with('[') {
        return Ok(());
    }
    for label in host.split('.') {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        if label.is_empty() || !label.bytes().all(inner) || label.starts_with('-') || label.ends_with('-') {
            return bad("is not a host name");
        }
    }
    Ok(())
}

/// `[a-z0-9]+` joined by `.`, `_`, `__` or any number of `-`.
fn check_component(component: &str) -> Result<(), String> {
    let bad = |why: &str| Err(format!("the part {component:?} {why}"));
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    if component.is_empty() {
        return Err("a part between slashes is empty".into());
    }
    if component.bytes().any(|b| b.is_ascii_uppercase()) {
        return bad("must be lower case");
    }
    if let Some(wrong) = component.chars().find(|c| !(c.is_ascii() && alnum(*c as u8) || "._-".contains(*c)))
    {
        return bad(&format!("has {wrong:?}, and only a-z, 0-9, '.', '_' and '-' are allowed"));
    }
    for separator in component.split(|c: char| alnum(c as u8)).filter(|s| !s.is_empty()) {
        if !matches!(separator, "." | "_" | "__") && !separator.bytes().all(|b| b == b'-') {
            return bad(&format!("has {separator:?}, which is no separator"));
        }
    }
    let (first, last) = (component.as_bytes()[0], component.as_bytes()[component.len() - 1]);
    if !alnum(first) || !alnum(last) {
        return bad("must begin and end with a letter or digit");
    }
    Ok(())
}

fn check_tag(tag: &str) -> Result<(), String> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let bad = |why: &str| Err(format!("the tag {tag:?} {why}"));
    match tag.bytes().next() {
        None => return Err("the tag after ':' is empty".into()),
        Some(first) if !word(first) => return bad("must begin with a letter, digit or '_'"),
        Some(_) => {}
    }
    if tag.len() > MOST_TAG {
        return bad(&format!("is longer than {MOST_TAG} bytes"));
    }
    match tag.chars().find(|c| !(c.is_ascii() && (word(*c as u8) || matches!(c, '.' | '-')))) {
        Some(wrong) => bad(&format!("has {wrong:?}, and only letters, digits, '_', '.' and '-' are allowed")),
        None => Ok(()),
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain, self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn completes_and_shortens() {
        for (given, full, familiar) in [
            ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
            ("acc-base:1", "docker.io/library/acc-base:1", "acc-base:1"),
            ("docker.io/library/redis:7.2", "docker.io/library/redis:7.2", "redis:7.2"),
            ("index.docker.io/redis", "docker.io/library/redis:latest", "redis:latest"),
            ("shop/app:1.4.2", "docker.io/shop/app:1.4.2", "shop/app:1.4.2"),
            ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
            ("localhost/a", "localhost/a:latest", "localhost/a:latest"),
            ("localhost:5000/a", "localhost:5000/a:latest", "localhost:5000/a:latest"),
            ("[fe80::1]:5000/a:b", "[fe80::1]:5000/a:b", "[fe80::1]:5000/a:b"),
            ("ghcr.io/a/b__c-d---e.f:V_1", "ghcr.io/a/b__c-d---e.f:V_1", "ghcr.io/a/b__c-d---e.f:V_1"),
            ("Upper.case/a", "Upper.case/a:latest", "Upper.case/a:latest"),
        ] {
            let reference: Reference = given.parse().unwrap();
            assert_eq!((reference.to_string(), reference.familiar()), (full.into(), familiar.into()));
            assert_eq!(full.parse::<Reference>().unwrap(), reference);
            assert_eq!(familiar.parse::<Reference>().unwrap(), reference);
        }
        let pinned: Reference = format!("a@{DIGEST}").parse().unwrap();
        assert_eq!((pinned.tag(), pinned.familiar()), (None, format!("a@{DIGEST}")));
        let both: Reference = format!("a:1@{DIGEST}").parse().unwrap();
        assert_eq!(both.tag(), Some("1"));
    }

    #[test]
    fn says_what_is_wrong_with_a_name() {
        let long = "a".repeat(250);
        let tag = format!("a:{}", "t".repeat(129));
        for (given, says) in [
            ("", "it is empty"),
            ("Foo", "the part \"Foo\" must be lower case"),
            ("a b", "has ' '"),
            ("a/../b", "the part \"..\""),
            ("a//b", "between slashes is empty"),
            ("/a", "between slashes is empty"),
            ("a/", "between slashes is empty"),
            ("a:", "the tag after ':' is empty"),
            ("a:-b", "must begin with a letter"),
            ("a:b c", "has ' '"),
            (&tag, "longer than 128"),
            (&long, "longer than 255"),
            ("a___b", "no separator"),
            ("a..b", "no separator"),
            ("-a", "begin and end"),
            ("a-", "begin and end"),
            ("ä", "has 'ä'"),
            ("host.:x/a", "port that is no number"),
            ("-h.x/a", "is not a host name"),
            ("a@sha256:12", "64 lower-case"),
            ("a@md5:12", "only sha256"),
            (&DIGEST[7..], "are an image id"),
        ] {
            let error = given.parse::<Reference>().unwrap_err();
            assert_eq!(error.kind(), coracle_host::Kind::Invalid);
            assert!(error.to_string().contains(says), "{given}: {error}");
            assert!(error.to_string().contains(&format!("{given:?}")), "{error}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_round_trips(text in "\\PC{0,40}|[a-zA-Z0-9._:/@-]{0,30}") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(&reference.to_string().parse::<Reference>().unwrap(), &reference);
                prop_assert_eq!(&reference.familiar().parse::<Reference>().unwrap(), &reference);
            }
        }
    }
}
