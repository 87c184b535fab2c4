//! A look at the tree that is captured from: paths and the links on the way. Nothing in it is ever changed.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use coracle_host::{Call, Dir};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::{Error, Result};

const MOST_LINKS: usize = 40;

/// The tree, by its root. Absolute links in it start there, whatever it is the root of.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    root: Dir,
}

/// Where a path leads.
pub(super) struct Found {
    /// The path without links, relative to the root.
    pub real: PathBuf,
    /// The links that were followed: where each is (its own directory without links) and what it says.
    pub links: Vec<(PathBuf, PathBuf)>,
    pub stat: Stat,
}

impl Found {
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }
}

impl Tree {
    pub fn new(root: Dir) -> Tree {
        Tree { root }
    }

    /// Follows `path` from the root. `None`: there is nothing.
    pub fn find(&self, path: &Path) -> Result<Option<Found>> {
        let mut links = Vec::new();
        let mut real = PathBuf::new();
        let mut todo = parts(path);
        let mut stat = self.lstat(Path::new(""))?.map(|(_, stat)| stat);
        while let Some(name) = todo.pop() {
            if name == ".." {
                real.pop();
                continue;
            }
            let next = real.join(&name);
            let Some((fd, found)) = self.lstat(&next)? else { return Ok(None) };
            if FileType::from_raw_mode(found.st_mode) == FileType::Symlink {
                let target = rustix::fs::readlinkat(&fd, "", Vec::new())
                    .call(|| format!("readlink({:?})", self.root.path_of(&next)))?;
                let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                if links.len() == MOST_LINKS {
                    return Err(Errno::LOOP).call(|| format!("open({:?})", self.root.path_of(path)))?;
                }
                if target.is_absolute() {
                    real = PathBuf::new();
                }
                todo.extend(parts(&target));
                links.push((next, target));
            } else {
                real = next;
                stat = Some(found);
            }
        }
        if todo.is_empty() && real.as_os_str().is_empty() {
            stat = self.lstat(Path::new(""))?.map(|(_, stat)| stat);
        }
        Ok(stat.map(|stat| Found { real, links, stat }))
    }

    /// The target of the link that `path` itself is, if it is one.
    pub fn link(&self, path: &Path) -> Result<Option<PathBuf>> {
        match self.lstat(path)? {
            Some((fd, stat)) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
                let target = rustix::fs::readlinkat(&fd, "", Vec::new())
                    .call(|| format!("readlink({:?})", self.root.path_of(path)))?;
                Ok(Some(PathBuf::from(OsString::from_vec(target.into_bytes()))))
            }
            _ => Ok(None),
        }
    }

    /// Opens a file by its path without links.
    pub fn open(&self, real: &Path) -> Result<File> {
        let call = || format!("open({:?})", self.root.path_of(real));
        Ok(File::from(self.openat2(real, OFlags::RDONLY | OFlags::NONBLOCK).call(call)?))
    }

    /// The text of a file, or `None` where there is none.
    pub fn text(&self, path: &Path) -> Result<Option<String>> {
        let Some(found) = self.find(path)?.filter(|found| found.kind() == FileType::RegularFile) else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        let read = self.open(&found.real)?.take(1 << 20).read_to_end(&mut bytes);
        read.map_err(|error| Error::reading(&format!("{path:?}"), &error))?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The names in a directory; none where there is none.
    pub fn names(&self, path: &Path) -> Result<Vec<OsString>> {
        match self.find(path)?.filter(|found| found.kind() == FileType::Directory) {
            Some(found) => Ok(Dir::from_fd(self.open(&found.real)?.into(), path).names()?),
            None => Ok(Vec::new()),
        }
    }

    fn lstat(&self, real: &Path) -> Result<Option<(std::os::fd::OwnedFd, Stat)>> {
        let call = |name: &str| format!("{name}({:?})", self.root.path_of(real));
        match self.openat2(real, OFlags::PATH | OFlags::NOFOLLOW) {
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            fd => {
                let fd = fd.call(|| call("open"))?;
                let stat = rustix::fs::fstat(&fd).call(|| call("stat"))?;
                Ok(Some((fd, stat)))
            }
        }
    }

    fn openat2(&self, real: &Path, flags: OFlags) -> rustix::io::Result<std::os::fd::OwnedFd> {
        let real = if real.as_os_str().is_empty() { Path::new(".") } else { real };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        loop {
            match rustix::fs::openat2(&self.root, real, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
    }
}

/// The components of a path, the first one last.
fn parts(path: &Path) -> Vec<OsString> {
    let part = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        _ => None,
    };
    path.components().rev().filter_map(part).collect()
}

/// A path as the root has it: without the leading slash.
pub(super) fn relative(path: &Path) -> PathBuf {
    PathBuf::from(OsString::from_vec(path.as_os_str().as_bytes().to_vec()))
        .components()
        .filter(|component| matches!(component, Component::Normal(_) | Component::ParentDir))
        .collect()
}
