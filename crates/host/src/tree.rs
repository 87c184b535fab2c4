//! Removing a tree without following anything out of it.

use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags};
use rustix::io::Errno;

use crate::{Error, Kind, Result};

/// How often a directory that others still put lock files in is emptied again.
const RETRIES: u32 = 16;

/// Removes `name` in `parent`, whatever it is, but nothing through a mount: what is mounted in the tree is somebody
/// else's, and an error. Iterative: trees may be deeper than any stack, and only one descriptor per level is open.
pub(crate) fn remove(parent: BorrowedFd<'_>, name: &OsStr, parent_path: &Path) -> Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(Error::os(format!("unlink({:?})", parent_path.join(name)), errno)),
    }
    let mut failure: Option<Error> = None;
    let mut levels = Vec::new();
    match Level::open(parent, name, parent_path) {
        Ok(level) => levels.push(level),
        Err(error) => return Err(error),
    }
    while let Some(level) = levels.last_mut() {
        let Some((child, is_dir)) = level.children.pop() else {
            let Some(done) = levels.pop() else { break };
            let above = levels.last().map_or(parent, |up| up.fd.as_fd());
            match rustix::fs::unlinkat(above, &done.name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => {}
                // Somebody who waited for a lock in it made the lock's file anew.
                Err(Errno::NOTEMPTY) if failure.is_none() && done.retries > 0 => {
                    let above_path = done.path.parent().unwrap_or(parent_path);
                    if let Ok(again) = Level::open(above, &done.name, above_path) {
                        levels.push(Level { retries: done.retries - 1, ..again });
                    }
                }
                Err(errno) => {
                    failure.get_or_insert(Error::os(format!("rmdir({:?})", done.path), errno));
                }
            }
            continue;
        };
        if is_dir {
            match Level::open(level.fd.as_fd(), &child, &level.path) {
                Ok(next) => levels.push(next),
                Err(error) if error.errno() == Some(Errno::NOENT) => {}
                Err(error) => {
                    failure.get_or_insert(error);
                }
            }
        } else if let Err(errno) = rustix::fs::unlinkat(&level.fd, &child, AtFlags::empty())
            && errno != Errno::NOENT
        {
            failure.get_or_insert(Error::os(format!("unlink({:?})", level.path.join(&child)), errno));
        }
    }
    failure.map_or(Ok(()), Err)
}

struct Level {
    fd: OwnedFd,
    name: OsString,
    path: PathBuf,
    children: Vec<(OsString, bool)>,
    retries: u32,
}

impl Level {
    fn open(parent: BorrowedFd<'_>, name: &OsStr, parent_path: &Path) -> Result<Level> {
        let path = parent_path.join(name);
        let call = |errno| match errno {
            Errno::XDEV => Error::new(Kind::InUse, format!("remove {path:?}: something is mounted there")),
            errno => Error::os(format!("open({path:?})"), errno),
        };
        let open = || {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
            rustix::fs::openat2(parent, name, flags, Mode::empty(), resolve)
        };
        let fd = match open() {
            // A directory its owner may not read (mode 000, when not root) is still ours to remove.
            Err(Errno::ACCESS) => {
                rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty()).map_err(call)?;
                open()
            }
            other => other,
        }
        .map_err(call)?;
        let list = |errno| Error::os(format!("getdents({path:?})"), errno);
        let children = list_dir(fd.as_fd()).map_err(list)?;
        Ok(Level { fd, name: name.to_owned(), path, children, retries: RETRIES })
    }
}

/// The entries of a directory but `.` and `..`, and whether each is a directory. The descriptor must be just opened,
/// and nobody else's: it is read to its end.
fn list_dir(fd: BorrowedFd<'_>) -> rustix::io::Result<Vec<(OsString, bool)>> {
    let mut children = Vec::new();
    let mut buffer = [MaybeUninit::uninit(); 8 << 10];
    let mut entries = RawDir::new(fd, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let child = OsStr::from_bytes(entry.file_name().to_bytes());
        if child == "." || child == ".." {
            continue;
        }
        let is_dir = match entry.file_type() {
            FileType::Directory => true,
            FileType::Unknown => rustix::fs::statat(fd, child, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory),
            _ => false,
        };
        children.push((child.to_owned(), is_dir));
    }
    Ok(children)
}
