//! What a path means inside a container.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use coracle_host::{Call, Root};
use rustix::fs::{FileType, OFlags};

use super::plan::Destination;
use crate::Kind;
use crate::error::{Error, Result};

/// How many links may be followed in one path, as path_resolution(7) has it.
const MOST_LINKS: usize = 40;

/// Where a path leads.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// An absolute path without links or `..`.
    pub(super) path: PathBuf,
    pub(super) exists: bool,
    pub(super) is_dir: bool,
}

impl Place {
    /// As something to copy to, which was called `text`.
    pub(super) fn destination(&self, text: &str) -> Destination {
        Destination {
            path: self.path.clone(),
            exists: self.exists,
            is_dir: self.is_dir,
            must_be_dir: says_dir(text),
        }
    }
}

/// Whether a path can only be a directory's.
pub(super) fn says_dir(text: &str) -> bool {
    matches!(text.rsplit('/').next(), Some("" | "." | ".."))
}

/// Looks a path up in a tree, absolute or not from its root on. Links are followed inside the tree, one that is the last part
/// of the path only with `follow`, or where the path says that it is a directory. What it ends with need not be
/// there. The tree may change meanwhile: what is done with the answer must be done inside the root again.
///
/// # Errors
/// `NotFound` where the directory it is in is not there; `Invalid` where it goes through a file.
pub(super) fn resolve(root: &Root<'_>, text: &str, follow: bool) -> Result<Place> {
    if text.contains('\0') {
        return Err(Error::new(Kind::Invalid, "there is a NUL in the path"));
    }
    let follow = follow || says_dir(text);
    let mut path = PathBuf::from("/");
    let mut todo = parts(Path::new(text));
    let mut links = MOST_LINKS;
    let (mut exists, mut is_dir) = (true, true);
    while let Some(part) = todo.pop() {
        if part == ".." {
            path.pop();
            (exists, is_dir) = (true, true);
            continue;
        }
        let next = path.join(&part);
        let fd = match root.open(&next, OFlags::PATH | OFlags::NOFOLLOW) {
            Err(error) if error.kind() == Kind::NotFound && todo.is_empty() && is_dir => {
                return Ok(Place { path: next, exists: false, is_dir: false });
            }
            other => other?,
        };
        let stat = rustix::fs::fstat(&fd).call(|| format!("fstat({next:?})"))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink if follow || !todo.is_empty() => {
                let left = links.checked_sub(1);
                links =
                    left.ok_or_else(|| Error::new(Kind::Invalid, format!("too many links in {text:?}")))?;
                let target = rustix::fs::readlinkat(&fd, "", Vec::new());
                let target = target.call(|| format!("readlink({next:?})"))?;
                let target = PathBuf::from(<OsString as std::os::unix::ffi::OsStringExt>::from_vec(
                    target.into_bytes(),
                ));
                if target.is_absolute() {
                    path = PathBuf::from("/");
                }
                todo.extend(parts(&target));
            }
            kind => {
                path = next;
                (exists, is_dir) = (true, kind == FileType::Directory);
            }
        }
    }
    if says_dir(text) && !is_dir {
        return Err(Error::new(Kind::Invalid, format!("{text:?} is not a directory")));
    }
    Ok(Place { path, exists, is_dir })
}

/// The parts of a path, the first one last.
fn parts(path: &Path) -> Vec<OsString> {
    let part = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    let mut parts: Vec<OsString> = path.components().filter_map(part).collect();
    parts.reverse();
    parts
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn links_mean_the_tree() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("srv/data")).unwrap();
        std::fs::write(at("srv/file"), "x").unwrap();
        for (name, target) in [
            ("out", "/srv"),
            ("up", "../../../srv/data"),
            ("dangling", "/srv/new"),
            ("srv/loop", "loop"),
            ("tofile", "srv/file"),
        ] {
            std::os::unix::fs::symlink(target, at(name)).unwrap();
        }
        let fd = std::fs::File::open(dir.path()).unwrap();
        let root = Root::new(fd.as_fd(), "tree");
        let (yes, no) = (true, false);
        for (text, follow, path, exists, is_dir) in [
            ("/", no, "/", yes, yes),
            ("", no, "/", yes, yes),
            ("srv/./data/..", no, "/srv", yes, yes),
            ("../../srv", no, "/srv", yes, yes),
            ("out", no, "/out", yes, no),
            ("out", yes, "/srv", yes, yes),
            ("out/", no, "/srv", yes, yes),
            ("out/.", no, "/srv", yes, yes),
            ("out/file", no, "/srv/file", yes, no),
            ("up", yes, "/srv/data", yes, yes),
            ("dangling", yes, "/srv/new", no, no),
            ("dangling", no, "/dangling", yes, no),
            ("srv/nosuch", no, "/srv/nosuch", no, no),
            ("tofile", yes, "/srv/file", yes, no),
        ] {
            let place = Place { path: path.into(), exists, is_dir };
            assert_eq!(resolve(&root, text, follow).unwrap(), place, "{text} {follow}");
        }
        for (text, kind) in [
            ("nosuch/x", Kind::NotFound),
            ("srv/loop", Kind::Invalid),
            ("srv/file/", Kind::Invalid),
            ("tofile/.", Kind::Invalid),
            ("a\0b", Kind::Invalid),
        ] {
            let error = resolve(&root, text, yes).unwrap_err();
            assert_eq!(error.kind(), kind, "{text}: {error}");
        }
        assert!(resolve(&root, "srv/file/x", no).is_err());
    }
}
