//! What a build takes from elsewhere: files at URLs, and git repositories.

pub(crate) mod fetch;
pub(crate) mod git;
pub(crate) mod web;

use std::fmt;

pub use git::{Git, GitSource};

/// Something that is not a path: the source of an ADD, or a context.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remote {
    /// A file, by its `http://` or `https://` URL.
    Web(String),
    /// A git repository.
    Git(GitSource),
}

impl Remote {
    /// What ADD makes of a source (Dockerfile reference, "ADD"): a repository where the text is `user@host:path`, `git://…`,
    /// `ssh://…`, or an http URL whose path ends with `.git`; another http URL is a file; all else is a path, `None`.
    ///
    /// ```
    /// use coracle_build::Remote;
    ///
    /// let Some(Remote::Git(source)) = Remote::parse("https://example.org/tool.git#v1:docs") else { panic!() };
    /// assert_eq!((source.url.as_str(), source.reference.as_deref()), ("https://example.org/tool.git", Some("v1")));
    /// assert_eq!(source.directory.as_deref(), Some("docs"));
    /// assert!(matches!(Remote::parse("https://example.org/a.tar.gz"), Some(Remote::Web(_))));
    /// assert_eq!(Remote::parse("src/main.c"), None);
    /// ```
    pub fn parse(text: &str) -> Option<Remote> {
        let lower = text.to_ascii_lowercase();
        let begins = |starts: &[&str]| starts.iter().any(|start| lower.starts_with(start));
        let web = begins(&["http://", "https://"]);
        let path = lower.split(['#', '?']).next().unwrap_or("");
        if begins(&["git://", "ssh://"]) || web && path.ends_with(".git") || is_scp(text) {
            return Some(Remote::Git(GitSource::parse(text)));
        }
        web.then(|| Remote::Web(text.to_owned()))
    }
}

/// `user@host:path`, as scp(1) has it.
fn is_scp(text: &str) -> bool {
    let Some((host, path)) = text.split_once(':') else { return false };
    let Some((user, host)) = host.split_once('@') else { return false };
    let plain = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    plain(user) && plain(host) && !path.is_empty() && !path.starts_with("//")
}

impl fmt::Display for Remote {
    /// Without the password that a URL may have.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Remote::Web(url) => f.write_str(&shown(url)),
            Remote::Git(source) => source.fmt(f),
        }
    }
}

/// A URL without its password and without what stands in a user's name that is a token.
pub(crate) fn shown(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rsplit_once('@') {
        Some((user, host)) if scheme.starts_with("http") || user.contains(':') => {
            let user = if user.contains(':') { "xxxxx:xxxxx" } else { "xxxxx" };
            format!("{scheme}://{user}@{host}{}", &rest[end..])
        }
        _ => url.to_owned(),
    }
}

/// What ADD fetches, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemoteSource {
    /// Where from.
    pub remote: Remote,
    /// What it has to be: of a file `sha256:` and 64 digits, of a repository the commit, or how its id begins.
    pub checksum: Option<String>,
    /// A file that is an archive is unpacked.
    pub unpack: bool,
}

impl RemoteSource {
    /// What can't change: there is no need to look whether it has.
    pub(crate) fn pinned(&self) -> Option<String> {
        match (&self.remote, &self.checksum) {
            (Remote::Web(_), Some(checksum)) => Some(checksum.clone()),
            (Remote::Git(source), _) => source.commit().map(str::to_owned),
            (Remote::Web(_), None) => None,
        }
    }

    /// Whether the checksum is one for this.
    pub(crate) fn check(&self) -> std::result::Result<(), String> {
        let Some(checksum) = &self.checksum else { return Ok(()) };
        let hex = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        match &self.remote {
            Remote::Web(_) => match checksum.strip_prefix("sha256:") {
                Some(digits) if digits.len() == 64 && hex(digits) => Ok(()),
                _ => Err(format!("`--checksum` of a URL is `sha256:` and 64 digits, not `{checksum}`")),
            },
            Remote::Git(_) if hex(checksum) && (1..=64).contains(&checksum.len()) => Ok(()),
            Remote::Git(_) => Err(format!("`--checksum` of a repository is a commit's id, not `{checksum}`")),
        }
    }
}

/// The last part of a URL's path, which names the file; `None` where there is none.
pub(crate) fn file_name(url: &str) -> Option<String> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = rest.split(['?', '#']).next()?.split_once('/')?.1;
    let name = decoded(path.trim_end_matches('/').rsplit('/').next()?)?;
    let good = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0']);
    good.then_some(name)
}

/// `%41` is `A` (RFC 3986, section 2.1).
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_source_is() {
        for (text, shown) in [
            ("https://h/a.tar?x=1", Some("file https://h/a.tar?x=1")),
            ("HTTP://h/a", Some("file HTTP://h/a")),
            ("https://me:secret@h/a", Some("file https://xxxxx:xxxxx@h/a")),
            ("https://token@h/a.git#main", Some("git https://xxxxx@h/a.git#main")),
            ("https://h/a.git", Some("git https://h/a.git")),
            ("git@h:a/b.git#ref:dir", Some("git git@h:a/b.git#ref:dir")),
            ("someone@h.example:a", Some("git someone@h.example:a")),
            ("git://h/a", Some("git git://h/a")),
            ("ssh://git@h:22/a", Some("git ssh://git@h:22/a")),
            ("a.git", None),
            ("dir/b@c:d", None),
            ("ftp://h/a", None),
            ("h:a", None),
        ] {
            let found = Remote::parse(text).map(|remote| match remote {
                Remote::Web(_) => format!("file {remote}"),
                Remote::Git(_) => format!("git {remote}"),
            });
            assert_eq!(found.as_deref(), shown, "{text}");
        }
    }

    #[test]
    fn names_of_files() {
        for (url, name) in [
            ("https://h/a/b.txt?c=/d#e", Some("b.txt")),
            ("https://h/a/", Some("a")),
            ("https://h/a%20b", Some("a b")),
            ("https://h/a%2f..%2fb", None),
            ("https://h/..", None),
            ("https://h/%zz", None),
            ("https://h/", None),
            ("https://h", None),
        ] {
            assert_eq!(file_name(url).as_deref(), name, "{url}");
        }
    }
}
