//! Copying a tree with everything that belongs to it, never through a link and never through a mount.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid, chmodat, chownat,
    fchmod, fchown, fstat, futimens, linkat, mkdirat, mknodat, openat, openat2, readlinkat, statat,
    symlinkat, utimensat,
};
use rustix::io::Errno;

use crate::dir::names;
use crate::{Call, Dir, Error, Kind, Result};

mod data;
mod xattr;

use data::Way;

impl Dir {
    /// Makes the empty directory `to` what this one is: entries, owners, modes, times to the nanosecond, extended
    /// attributes, links symbolic and hard, devices, sockets and pipes, holes. Nobody else may touch `to` meanwhile.
    ///
    /// # Errors
    /// As of the calls that read one tree and write the other; `InUse` where something is mounted in this one.
    pub fn copy_to(&self, to: &Dir) -> Result<()> {
        tree(self, to)
    }

    /// Gives the directory `to` this one's owner, mode, extended attributes and times.
    ///
    /// # Errors
    /// As of fchown(2), fchmod(2), fsetxattr(2) and futimens(3).
    pub fn dress(&self, to: &Dir) -> Result<()> {
        let stat = fstat(self).call(|| format!("fstat({:?})", self.path()))?;
        dress(self, to, &stat, self.path(), to.path())
    }
}

fn tree(from: &Dir, to: &Dir) -> Result<()> {
    let mut copier = Copier { from, to, way: Way::Clone, links: HashMap::new() };
    let mut levels = vec![copier.level(reopen(from)?, reopen(to)?, PathBuf::new())?];
    while let Some(level) = levels.last_mut() {
        match level.children.pop() {
            Some(name) => {
                let below = copier.entry(level, &name)?;
                levels.extend(below);
            }
            None => {
                // Last, so that nothing made in it changes its times, and no mode keeps us out.
                copier.dress(level)?;
                levels.pop();
            }
        }
    }
    Ok(())
}

struct Copier<'a> {
    from: &'a Dir,
    to: &'a Dir,
    way: Way,
    /// Files of more than one name, by device and inode: where their copy is.
    links: HashMap<(u64, u64), PathBuf>,
}

struct Level {
    from: OwnedFd,
    to: OwnedFd,
    path: PathBuf,
    stat: Stat,
    children: Vec<OsString>,
}

impl Copier<'_> {
    fn level(&self, from: OwnedFd, to: OwnedFd, path: PathBuf) -> Result<Level> {
        let at = self.from.path_of(&path);
        let stat = fstat(&from).call(|| format!("fstat({at:?})"))?;
        let children = names(&from).call(|| format!("getdents({at:?})"))?;
        Ok(Level { from, to, path, stat, children })
    }

    /// Copies one entry; a directory only so far that it can be gone into.
    fn entry(&mut self, level: &Level, name: &OsStr) -> Result<Option<Level>> {
        let path = level.path.join(name);
        let (source, target) = (self.from.path_of(&path), self.to.path_of(&path));
        let stat =
            statat(&level.from, name, AtFlags::SYMLINK_NOFOLLOW).call(|| format!("lstat({source:?})"))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            mkdirat(&level.to, name, Mode::RWXU).call(|| format!("mkdir({target:?})"))?;
            let from = open_dir(&level.from, name, &source)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let to = openat(&level.to, name, flags, Mode::empty()).call(|| format!("open({target:?})"))?;
            return self.level(from, to, path).map(Some);
        }
        if stat.st_nlink > 1 {
            let id = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&id) {
                linkat(self.to, first, &level.to, name, AtFlags::empty())
                    .call(|| format!("link({:?}, {target:?})", self.to.path_of(first)))?;
                return Ok(None);
            }
            self.links.insert(id, path);
        }
        match kind {
            FileType::RegularFile => self.file(level, name, &source, &target)?,
            FileType::Symlink => {
                let leads =
                    readlinkat(&level.from, name, Vec::new()).call(|| format!("readlink({source:?})"))?;
                symlinkat(&*leads, &level.to, name).call(|| format!("symlink({target:?})"))?;
                dress_entry(level, name, &stat, &source, &target)?;
            }
            kind => {
                mknodat(&level.to, name, kind, Mode::RUSR | Mode::WUSR, stat.st_rdev)
                    .call(|| format!("mknod({target:?})"))?;
                dress_entry(level, name, &stat, &source, &target)?;
            }
        }
        Ok(None)
    }

    fn file(&mut self, level: &Level, name: &OsStr, source: &Path, target: &Path) -> Result<()> {
        // Non-blocking: what was a file a moment ago may be a pipe by now.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let inside = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
        let from = openat2(&level.from, name, flags, Mode::empty(), inside)
            .map_err(|errno| refused(errno, source))?;
        let stat = fstat(&from).call(|| format!("fstat({source:?})"))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::new(Kind::Corrupt, format!("{source:?} changed while it was copied")));
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to = openat(&level.to, name, flags, Mode::RUSR | Mode::WUSR)
            .call(|| format!("open({target:?}, O_CREAT)"))?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        self.way.copy(&from, &to, size, source, target)?;
        dress(&from, &to, &stat, source, target)
    }

    fn dress(&self, level: &Level) -> Result<()> {
        let (source, target) = (self.from.path_of(&level.path), self.to.path_of(&level.path));
        dress(&level.from, &level.to, &level.stat, &source, &target)
    }
}

/// Owner, mode, attributes and times of what is open. In this order: chown(2) takes set-user-id bits and
/// capabilities away, and anything changes the times.
fn dress(from: impl AsFd, to: impl AsFd, stat: &Stat, source: &Path, target: &Path) -> Result<()> {
    let (uid, gid) = owner(stat);
    fchown(&to, Some(uid), Some(gid)).call(|| format!("chown({target:?})"))?;
    fchmod(&to, mode(stat)).call(|| format!("chmod({target:?})"))?;
    for (name, value) in xattr::of_open(&from, source)? {
        xattr::set_open(&to, &name, &value, target)?;
    }
    futimens(&to, &times(stat)).call(|| format!("utimensat({target:?})"))
}

/// [`dress`] of what can't be opened.
fn dress_entry(level: &Level, name: &OsStr, stat: &Stat, source: &Path, target: &Path) -> Result<()> {
    let (uid, gid) = owner(stat);
    chownat(&level.to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .call(|| format!("lchown({target:?})"))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        chmodat(&level.to, name, mode(stat), AtFlags::empty()).call(|| format!("chmod({target:?})"))?;
    }
    for (attribute, value) in xattr::of_entry(&level.from, name, source)? {
        xattr::set_entry(&level.to, name, &attribute, &value, target)?;
    }
    utimensat(&level.to, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
        .call(|| format!("utimensat({target:?})"))
}

fn owner(stat: &Stat) -> (Uid, Gid) {
    (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid))
}

fn mode(stat: &Stat) -> Mode {
    Mode::from_raw_mode(stat.st_mode & 0o7777)
}

fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime as _, tv_nsec: stat.st_atime_nsec as _ },
        last_modification: Timespec { tv_sec: stat.st_mtime as _, tv_nsec: stat.st_mtime_nsec as _ },
    }
}

/// Opens the directory `name`, which may be neither a link nor a mount point.
fn open_dir(above: impl AsFd, name: &OsStr, path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inside = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    openat2(above, name, flags, Mode::empty(), inside).map_err(|errno| refused(errno, path))
}

/// The error of something that could not be opened where it is.
fn refused(errno: Errno, path: &Path) -> Error {
    match errno {
        Errno::XDEV => Error::new(Kind::InUse, format!("open({path:?}): something is mounted there")),
        errno => Error::os(format!("open({path:?})"), errno),
    }
}

/// The same directory, to be read, also where it is open as a path only.
fn reopen(dir: &Dir) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(dir, ".", flags, Mode::empty()).call(|| format!("open({:?})", dir.path()))
}
