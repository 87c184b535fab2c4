//! Where a copy goes, by `docker cp`'s rules.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use coracle_host::{Call, Dir};

use super::resolve::says_dir;
use crate::Kind;
use crate::error::{Error, Result};

/// What is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) is_dir: bool,
    /// What it is called; `None` for what is in a directory rather than the directory.
    pub(super) name: Option<OsString>,
}

/// What it is copied to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Destination {
    /// Without links at its end.
    pub(super) path: PathBuf,
    pub(super) exists: bool,
    pub(super) is_dir: bool,
    /// It was written as only directories are.
    pub(super) must_be_dir: bool,
}

/// The existing directory that is copied into, and the name there (`.` for the directory itself).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) dir: PathBuf,
    pub(super) name: OsString,
}

/// A directory takes what is copied; anything else is replaced by it, or made.
pub(super) fn destination(from: &Source, to: &Destination) -> Result<Target> {
    let invalid = |text: &str| Err(Error::new(Kind::Invalid, text));
    if to.exists && to.is_dir {
        let name = from.name.clone().unwrap_or_else(|| ".".into());
        return Ok(Target { dir: to.path.clone(), name });
    }
    if to.exists && to.must_be_dir {
        return invalid("not a directory");
    }
    if to.exists && from.is_dir {
        return invalid("cannot copy directory: the destination is a file");
    }
    if !to.exists && !from.is_dir && to.must_be_dir {
        return Err(Error::new(Kind::NotFound, "no such directory"));
    }
    match (to.path.parent(), to.path.file_name()) {
        (Some(dir), Some(name)) => {
            let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
            Ok(Target { dir: dir.to_owned(), name: name.to_owned() })
        }
        _ => invalid("the destination has no name"),
    }
}

/// What a source that was written so is called; `None` where what is in it is meant.
pub(super) fn name_of(text: &str) -> Option<OsString> {
    let last = text.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    (!matches!(last, "" | "." | "..")).then(|| last.into())
}

/// A source on this host: what it is, and the directory and name to read it by.
pub(super) fn host_source(path: &Path, follow: bool) -> Result<(Source, Dir, OsString)> {
    let text = path.to_string_lossy();
    let says_dir = says_dir(&text);
    let call = |name: &str| format!("{name}({path:?})");
    let stat = if follow || says_dir {
        std::fs::metadata(path).call(|| call("stat"))?
    } else {
        std::fs::symlink_metadata(path).call(|| call("lstat"))?
    };
    if says_dir && !stat.is_dir() {
        return Err(Error::new(Kind::Invalid, format!("{path:?} is not a directory")));
    }
    let last = path.as_os_str().as_bytes().rsplit(|byte| *byte == b'/').find(|part| !part.is_empty());
    let contents = text.ends_with("/.") || matches!(last, None | Some(b"." | b".."));
    let name = path.file_name().filter(|_| !contents);
    let source = Source { is_dir: stat.is_dir(), name: name.map(ToOwned::to_owned) };
    if stat.is_dir() {
        return Ok((source, Dir::open(path)?, ".".into()));
    }
    let real = if follow { std::fs::canonicalize(path).call(|| call("realpath"))? } else { path.to_owned() };
    let (Some(parent), Some(name)) = (real.parent(), real.file_name()) else {
        return Err(Error::new(Kind::Invalid, format!("{path:?} has no name")));
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    Ok((source, Dir::open(parent)?, name.to_owned()))
}

/// A destination on this host. Links at its end are followed, also to what is not there yet.
pub(super) fn host_destination(path: &Path) -> Result<Destination> {
    const MOST_LINKS: usize = 40;
    let must_be_dir = says_dir(&path.to_string_lossy());
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        match std::fs::metadata(&path) {
            Ok(stat) => {
                let exists = true;
                return Ok(Destination { path, exists, is_dir: stat.is_dir(), must_be_dir });
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).call(|| format!("stat({path:?})")).map_err(Error::from),
        }
        match std::fs::read_link(&path) {
            Ok(target) => path = path.parent().unwrap_or(Path::new("/")).join(target),
            Err(_) => return Ok(Destination { path, exists: false, is_dir: false, must_be_dir }),
        }
    }
    Err(Error::new(Kind::Invalid, format!("{path:?}: too many links")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_cps_table() {
        let file = || Source { is_dir: false, name: Some("f".into()) };
        let dir = || Source { is_dir: true, name: Some("d".into()) };
        let contents = || Source { is_dir: true, name: None };
        let to = |path: &str, exists, is_dir, must_be_dir| Destination {
            path: path.into(),
            exists,
            is_dir,
            must_be_dir,
        };
        let (new, new_dir) = (to("/x/y", false, false, false), to("/x/y", false, false, true));
        let (is_file, is_dir) = (to("/x/y", true, false, false), to("/x/y", true, true, false));
        // The table of `docker cp`'s reference, line by line.
        for (from, to, expected) in [
            (file(), &new, Ok(("/x", "y"))),
            (file(), &new_dir, Err("no such directory")),
            (file(), &is_file, Ok(("/x", "y"))),
            (file(), &is_dir, Ok(("/x/y", "f"))),
            (dir(), &new, Ok(("/x", "y"))),
            (dir(), &new_dir, Ok(("/x", "y"))),
            (dir(), &is_file, Err("cannot copy directory")),
            (dir(), &is_dir, Ok(("/x/y", "d"))),
            (contents(), &new, Ok(("/x", "y"))),
            (contents(), &is_file, Err("cannot copy directory")),
            (contents(), &is_dir, Ok(("/x/y", "."))),
            (file(), &Destination { must_be_dir: true, ..is_file.clone() }, Err("not a directory")),
        ] {
            match (destination(&from, to), expected) {
                (Ok(target), Ok((dir, name))) => {
                    assert_eq!((target.dir, target.name), (dir.into(), name.into()), "{from:?} {to:?}");
                }
                (Err(error), Err(says)) => assert!(error.to_string().contains(says), "{error}"),
                (got, expected) => panic!("{from:?} to {to:?}: {got:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn sources_are_named_by_how_they_are_written() {
        for (text, name) in [
            ("/a/b", Some("b")),
            ("/a/b/", Some("b")),
            ("b", Some("b")),
            ("/a/b/.", None),
            ("/", None),
            (".", None),
            ("..", None),
        ] {
            assert_eq!(name_of(text), name.map(OsString::from), "{text}");
        }
    }
}
