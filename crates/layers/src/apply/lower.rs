//! What lower layers have at a path, as the overlay of them would show it.

use std::os::fd::{AsFd, BorrowedFd};

use coracle_host::{Call, Dir};
use rustix::fs::{AtFlags, FileType, Stat};
use rustix::io::Errno;

use crate::Result;
use crate::tar::{Time, Xattr};
use crate::xattr::{self, is_content, is_opaque, os};

/// Owner, mode and the rest of an entry.
#[derive(Clone, Debug)]
pub(crate) struct Attributes {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Time,
    pub xattrs: Vec<Xattr>,
}

impl Attributes {
    /// Of a directory that nobody described: root's, 0755, at the epoch.
    pub fn default_dir() -> Attributes {
        Attributes { mode: 0o755, uid: 0, gid: 0, mtime: Time::default(), xattrs: Vec::new() }
    }

    /// Those of the entry `name` of `dir`, without what is no content of a layer.
    pub fn of(dir: BorrowedFd<'_>, name: &[u8], stat: &Stat) -> Result<Attributes> {
        let mut xattrs = xattr::all(dir, os(name))?;
        xattrs.retain(|(name, _)| is_content(name));
        Ok(Attributes {
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: Time { secs: stat.st_mtime, nanos: stat.st_mtime_nsec as u32 },
            xattrs,
        })
    }
}

/// What lower layers have at a path.
pub(super) enum Found {
    Nothing,
    Dir(Attributes),
    Link(Vec<u8>),
}

/// Whether an entry is overlay's mark of a removal.
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Looks `path` up in `lowers` (the top one first). Its components must be real: no links on the way.
pub(super) fn find(lowers: &[Dir], path: &[Vec<u8>]) -> Result<Found> {
    let mut stack: Vec<Dir> = lowers.to_vec();
    for (depth, name) in path.iter().enumerate() {
        let last = depth + 1 == path.len();
        let mut next = Vec::new();
        for dir in &stack {
            let stat = match rustix::fs::statat(dir, os(name), AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                other => other.call(|| format!("stat({:?})", dir.path_of(os(name))))?,
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    if last && next.is_empty() {
                        return Ok(Found::Dir(Attributes::of(dir.as_fd(), name, &stat)?));
                    }
                    next.push(dir.dir(os(name))?);
                    if is_opaque(dir, os(name))? {
                        break;
                    }
                }
                // A file hides what is below it; seen from a directory above it, it is not there.
                FileType::Symlink if last && next.is_empty() => {
                    let target = rustix::fs::readlinkat(dir, os(name), Vec::new())
                        .call(|| format!("readlink({:?})", dir.path_of(os(name))))?;
                    return Ok(Found::Link(target.into_bytes()));
                }
                _ => break,
            }
        }
        stack = next;
    }
    Ok(Found::Nothing)
}

/// The attributes of the root of a stack of layers (the top one first).
pub(crate) fn root(lowers: &[Dir]) -> Result<Attributes> {
    let Some(top) = lowers.first() else { return Ok(Attributes::default_dir()) };
    let stat = rustix::fs::fstat(top).call(|| format!("fstat({:?})", top.path()))?;
    Attributes::of(top.as_fd(), b"", &stat)
}
