//! Going into trees that others wrote: no links followed, no mounts entered, one descriptor per level.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use coracle_host::{Call, Dir, Error, Kind, Result};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, openat, openat2, statat};
use rustix::io::Errno;

use crate::copy::name_of;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The same directory with a position of its own for reading.
pub(crate) fn reopen(dir: &Dir) -> Result<OwnedFd> {
    openat(dir, ".", DIRECTORY, Mode::empty()).call(|| format!("open({:?})", dir.path()))
}

/// Opens the directory `name`, which may be neither a link nor a mount point.
pub(crate) fn open_dir(above: impl AsFd, name: &OsStr, path: &Path) -> Result<OwnedFd> {
    let inside = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    openat2(above, name, DIRECTORY, Mode::empty(), inside).map_err(|errno| refused(errno, path))
}

/// The error of something that could not be opened where it is.
pub(crate) fn refused(errno: Errno, path: &Path) -> Error {
    match errno {
        Errno::XDEV => Error::new(Kind::InUse, format!("open({path:?}): something is mounted there")),
        errno => Error::os(format!("open({path:?})"), errno),
    }
}

/// The entries of a directory that was just opened.
pub(crate) fn names(dir: &OwnedFd) -> rustix::io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        names.extend(name_of(&entry?).map(OsStr::to_owned));
    }
    Ok(names)
}

/// How much there is in a volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// The lengths of all files, in bytes: what docker's `SIZE` is. A file of several names counts once.
    pub bytes: u64,
    /// What the file system says is allotted to them and to the directories, in bytes: less where there are holes.
    /// What a reflink shares counts on both sides.
    pub allotted: u64,
    /// Files, directories and the rest, by number; the volume's own directory not.
    pub entries: u64,
}

/// Adds up what is below `dir`. What vanishes meanwhile doesn't count; what is mounted there is somebody else's.
pub(crate) fn usage(dir: &Dir) -> Result<Usage> {
    let mut usage = Usage::default();
    let mut seen = HashSet::new();
    let mut levels = vec![level(reopen(dir)?, dir.path().to_owned())?];
    while let Some((fd, path, children)) = levels.last_mut() {
        let Some(name) = children.pop() else {
            levels.pop();
            continue;
        };
        let at = path.join(&name);
        let stat = match statat(&*fd, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            stat => stat.call(|| format!("lstat({at:?})"))?,
        };
        usage.entries += 1;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Directory && stat.st_nlink > 1 && !seen.insert((stat.st_dev, stat.st_ino)) {
            continue;
        }
        usage.allotted += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        if kind != FileType::Directory {
            usage.bytes += u64::try_from(stat.st_size).unwrap_or(0);
            continue;
        }
        let inside = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
        match openat2(&*fd, &name, DIRECTORY, Mode::empty(), inside) {
            Ok(below) => levels.push(level(below, at)?),
            Err(Errno::NOENT | Errno::XDEV | Errno::NOTDIR | Errno::LOOP) => {}
            Err(errno) => return Err(refused(errno, &at)),
        }
    }
    Ok(usage)
}

type Level = (OwnedFd, PathBuf, Vec<OsString>);

fn level(fd: OwnedFd, path: PathBuf) -> Result<Level> {
    let children = names(&fd).call(|| format!("getdents({path:?})"))?;
    Ok((fd, path, children))
}
