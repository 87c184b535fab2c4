//! What is in the way of what is put, and what has no content to be written.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::Ordering;

use coracle_host::{Call, Dir, Kind};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::Node;
use super::put::Put;
use crate::error::{Error, Result};

/// What becomes of what is there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Way {
    /// Directories stay, and a file in the place of one, or the reverse, is an error.
    #[default]
    Kept,
    /// It goes where it is of another kind: what comes out of archives wins (Dockerfile reference, "ADD").
    Replaced,
    /// As if nothing were there (Dockerfile reference, "COPY --link"): no link is followed, what is of another kind goes,
    /// and directories look as if they had been made.
    Unseen,
}

impl Put<'_> {
    /// Removes what is there. Nothing is ever written in place: other names and other layers may share it.
    pub(super) fn make_way(&self, parent: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<()> {
        match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                if self.way == Way::Kept {
                    return Err(in_the_way(path, "a file", "a directory"));
                }
                self.has_replaced.store(true, Ordering::Relaxed);
                let parent = parent.try_clone_to_owned().call(|| format!("dup({path:?})"))?;
                Dir::from_fd(parent, path.parent().unwrap_or(path)).remove_tree(name)?;
            }
            Ok(_) => {
                self.has_replaced.store(true, Ordering::Relaxed);
                rustix::fs::unlinkat(parent, name, AtFlags::empty()).call(|| format!("unlink({path:?})"))?;
            }
            Err(Errno::NOENT) => {}
            Err(errno) => Err(errno).call(|| format!("fstatat({path:?})"))?,
        }
        Ok(())
    }

    /// The directory `name`, made if it is not there, and whether it was.
    pub(super) fn enter(&self, parent: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<(OwnedFd, bool)> {
        let make = || match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(errno).call(|| format!("mkdir({path:?})")),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(parent, name, flags, Mode::empty());
        let fresh = make()?;
        match open() {
            Err(Errno::NOTDIR | Errno::LOOP) if self.way != Way::Kept => {
                self.make_way(parent, name, path)?;
                let fresh = make()?;
                Ok((open().call(|| format!("open({path:?})"))?, fresh))
            }
            Err(Errno::NOTDIR | Errno::LOOP) => Err(in_the_way(path, "a directory", "a file or link")),
            other => Ok((other.call(|| format!("open({path:?})"))?, fresh)),
        }
    }

    /// Makes a directory and those above it as they would be in a tree of their own, whatever is there.
    pub(super) fn make_unseen_dirs(&self, path: &Path) -> Result<OwnedFd> {
        let mut at = self.root().open("/", OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut shown = PathBuf::from("/");
        // Who builds is the owner of what it makes: root, but in tests.
        let own = || (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let (uid, gid) = self.owner.unwrap_or_else(own);
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            shown.push(name);
            let (fd, _) = self.enter(at.as_fd(), name, &shown)?;
            let stat = rustix::fs::fstat(&fd).call(|| format!("fstat({shown:?})"))?;
            if (stat.st_uid, stat.st_gid) != (uid, gid) {
                rustix::fs::fchown(&fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                    .call(|| format!("fchown({shown:?}, {uid}, {gid})"))?;
            }
            rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755))
                .call(|| format!("fchmod({shown:?}, 0755)"))?;
            at = fd;
        }
        Ok(at)
    }
}

pub(super) fn in_the_way(path: &Path, new: &str, old: &str) -> Error {
    Error::new(Kind::Invalid, format!("{new} can't be put at `{}`: {old} is there", path.display()))
}

/// Makes a link, fifo or device where nothing is; whether the node is one.
pub(super) fn make_special(node: &Node, parent: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<bool> {
    let mode = Mode::from_raw_mode(0o600);
    match node {
        Node::File | Node::Text(_) | Node::Dir => return Ok(false),
        Node::Link(target) => {
            rustix::fs::symlinkat(target, parent, name).call(|| format!("symlink({target:?}, {path:?})"))?;
        }
        Node::Fifo => {
            rustix::fs::mknodat(parent, name, FileType::Fifo, mode, 0)
                .call(|| format!("mkfifo({path:?})"))?;
        }
        // That is how an overlay marks what is removed (kernel documentation, "Overlay Filesystem", "whiteouts").
        Node::Device { block: false, number: 0 } => {
            let what = format!("a layer can't hold the device 0:0, as `{}` is", path.display());
            return Err(Error::new(Kind::Unsupported, what));
        }
        Node::Device { block, number } => {
            let kind = if *block { FileType::BlockDevice } else { FileType::CharacterDevice };
            rustix::fs::mknodat(parent, name, kind, mode, *number).call(|| format!("mknod({path:?})"))?;
        }
    }
    Ok(true)
}
