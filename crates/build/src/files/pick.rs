//! What a COPY source means in a tree: wildcards, links and ignored files resolved, everything below listed.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use coracle_host::{Call, Kind, Root};
use rustix::fs::{AtFlags, FileType, OFlags, RawDir, Stat, Timespec};
use rustix::io::Errno;

use super::known::Known;
use super::walk::{Listed, walk};
use super::{Entry, Node, Picked, Stamp};
use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::glob;
use crate::ignore::Ignore;

/// How many links may be followed in one path, as path_resolution(7) has it.
const MAX_LINKS: usize = 40;

/// A tree to pick from: the context, or a snapshot.
#[derive(Clone, Copy)]
pub(crate) struct Tree<'a> {
    root: Root<'a>,
    label: &'a str,
    /// The context's.
    ignore: Option<&'a Ignore>,
    /// A snapshot's files keep owners and extended attributes; a context's are root's and have none.
    faithful: bool,
    cancel: Option<&'a Cancel>,
    known: Option<&'a Known>,
}

impl<'a> Tree<'a> {
    pub(crate) fn context(fd: BorrowedFd<'a>, label: &'a str, ignore: &'a Ignore) -> Tree<'a> {
        Tree {
            root: Root::new(fd, label),
            label,
            ignore: Some(ignore),
            faithful: false,
            cancel: None,
            known: None,
        }
    }

    /// A tree that was opened already.
    pub(super) fn of(root: Root<'a>, label: &'a str) -> Tree<'a> {
        Tree { root, label, ignore: None, faithful: true, cancel: None, known: None }
    }

    /// Reading it ends when that is cancelled.
    pub(crate) fn cancelled_by(self, cancel: Option<&'a Cancel>) -> Tree<'a> {
        Tree { cancel, ..self }
    }

    /// What is known there need not be read.
    pub(crate) fn knowing(self, known: &'a Known) -> Tree<'a> {
        Tree { known: Some(known), ..self }
    }

    pub(super) fn known(&self) -> Option<&'a Known> {
        self.known
    }

    /// # Errors
    /// `Interrupted` where the build was cancelled.
    pub(crate) fn go_on(&self) -> Result<()> {
        Cancel::go_on(self.cancel)
    }

    pub(crate) fn snapshot(fd: BorrowedFd<'a>, label: &'a str) -> Tree<'a> {
        Tree::of(Root::new(fd, label), label)
    }

    pub(crate) fn root(&self) -> Root<'a> {
        self.root
    }

    /// What `source` (relative, without `..`) means. A wildcard may mean nothing, or several.
    ///
    /// # Errors
    /// `NotFound` where a plain source is not there, or a socket.
    pub(crate) fn pick(&self, source: &str) -> Result<Vec<Picked>> {
        Ok(self.pick_paths(source, false)?.into_iter().map(|(_, picked)| picked).collect())
    }

    /// [`Tree::pick`], each with the path that was matched; with `deep`, `**` is any number of directories.
    pub(super) fn pick_paths(&self, source: &str, deep: bool) -> Result<Vec<(PathBuf, Picked)>> {
        if !glob::is_pattern(source) {
            let path = PathBuf::from(source);
            return match self.one(&path)? {
                Some(picked) => Ok(vec![(path, picked)]),
                None => Err(self.missing(source)),
            };
        }
        let mut found = Vec::new();
        for path in self.matching(source, deep)? {
            found.extend(self.one(&path)?.map(|picked| (path, picked)));
        }
        Ok(found)
    }

    /// The entry of the directory at `path`, links followed; `None` where there is none.
    pub(super) fn directory_at(&self, path: &Path) -> Result<Option<Entry>> {
        let Some((real, stat)) = self.follow(path)? else { return Ok(None) };
        let fd = self.root.open(&real, OFlags::PATH | OFlags::NOFOLLOW)?;
        let entry = self.entry(fd.as_fd(), OsStr::new(""), real, PathBuf::new(), &stat)?;
        Ok((entry.node == Node::Dir).then_some(entry))
    }

    fn missing(&self, source: &str) -> Error {
        let ignored =
            self.ignore.is_some_and(|i| i.ignores(source)) && self.root.open(source, OFlags::PATH).is_ok();
        let why = if ignored { ": .dockerignore excludes it" } else { "" };
        let link = self.root.open(source, OFlags::PATH | OFlags::NOFOLLOW).ok();
        let target = link.and_then(|fd| rustix::fs::readlinkat(&fd, "", Vec::new()).ok());
        let why = match target {
            Some(to) if !ignored => {
                format!(": it is a link to `{}`, which {} does not have", to.to_string_lossy(), self.label)
            }
            _ if self.is_socket(source) => ": it is a socket, which no copy has".to_owned(),
            _ => why.to_owned(),
        };
        Error::new(Kind::NotFound, format!("`{source}` is not in {}{why}", self.label))
    }

    fn is_socket(&self, source: &str) -> bool {
        let fd = self.root.open(source, OFlags::PATH).ok();
        let stat = fd.and_then(|fd| rustix::fs::fstat(&fd).ok());
        stat.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Socket)
    }

    fn ignores(&self, path: &Path) -> bool {
        !path.as_os_str().is_empty() && self.ignore.is_some_and(|i| i.ignores(&path.to_string_lossy()))
    }

    fn matching(&self, pattern: &str, deep: bool) -> Result<Vec<PathBuf>> {
        let mut found = vec![PathBuf::new()];
        let mut components = pattern.split('/').filter(|c| !c.is_empty()).peekable();
        while let Some(component) = components.next() {
            if !glob::is_pattern(component) {
                found.iter_mut().for_each(|path| path.push(component));
                continue;
            }
            if deep && component == "**" {
                // At the end it is all that the directories hold, which they are copied with.
                if components.peek().is_some() {
                    found = self.at_any_depth(found)?;
                }
                continue;
            }
            let tokens = glob::parse(component).map_err(Error::invalid)?;
            let mut next = Vec::new();
            for path in found {
                let Some((real, stat)) = self.follow(&path)? else { continue };
                if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                    continue;
                }
                let names = self.names(&real)?.1;
                next.extend(
                    names
                        .iter()
                        .filter(|n| glob::matches(&tokens, &n.to_string_lossy()))
                        .map(|n| path.join(n)),
                );
            }
            found = next;
        }
        Ok(found)
    }

    /// The directories themselves, and all below them. Links are not followed: they may lead around.
    fn at_any_depth(&self, mut open: Vec<PathBuf>) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        open.reverse();
        while let Some(path) = open.pop() {
            let Some((real, stat)) = self.follow(&path)? else { continue };
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                continue;
            }
            let (fd, names) = self.names(&real)?;
            for name in names.iter().rev() {
                let stat = rustix::fs::statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW);
                if stat.is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Directory) {
                    open.push(path.join(name));
                }
            }
            found.push(path);
        }
        Ok(found)
    }

    /// One source and all below it; `None` where it is not there or ignored.
    fn one(&self, path: &Path) -> Result<Option<Picked>> {
        let Some((real, stat)) = self.follow(path)? else { return Ok(None) };
        let hidden = self.ignores(path) || self.ignores(&real);
        let mut picked = Picked {
            name: path.file_name().unwrap_or(OsStr::new("")).to_owned(),
            remote: None,
            entries: Vec::new(),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Directory {
            if hidden || kind == FileType::Socket {
                return Ok(None);
            }
            let fd = self.root.open(&real, OFlags::PATH | OFlags::NOFOLLOW)?;
            picked.entries.push(self.entry(fd.as_fd(), OsStr::new(""), real, PathBuf::new(), &stat)?);
            return Ok(Some(picked));
        }
        if hidden && !self.ignore.is_some_and(Ignore::brings_back) {
            return Ok(None);
        }
        let fd = self.root.open(&real, OFlags::PATH)?;
        picked.entries.push(self.entry(fd.as_fd(), OsStr::new(""), real.clone(), PathBuf::new(), &stat)?);
        picked.entries.append(&mut walk(self, &real)?);
        Ok((!hidden || picked.entries.len() > 1).then_some(picked))
    }

    /// What is in a directory, by name; of what is ignored, directories only, and only where something may be brought back.
    pub(super) fn list(&self, dir: &Path, below: &Path) -> Result<Vec<Listed>> {
        self.go_on()?;
        let (fd, names) = self.names(dir)?;
        let mut listed = Vec::with_capacity(names.len());
        for name in names {
            let path = dir.join(&name);
            let hidden = self.ignores(&path);
            if hidden && !self.ignore.is_some_and(Ignore::brings_back) {
                continue;
            }
            let stat = match rustix::fs::statat(&fd, &name, AtFlags::SYMLINK_NOFOLLOW) {
                // Removed since it was listed.
                Err(Errno::NOENT) => continue,
                other => other.call(|| format!("fstatat({}, {path:?})", self.label))?,
            };
            let kind = FileType::from_raw_mode(stat.st_mode);
            // A socket is the end of a connection: as with docker, no copy has it.
            if kind == FileType::Socket {
                continue;
            }
            if !hidden || kind == FileType::Directory {
                listed.push((self.entry(fd.as_fd(), &name, path, below.join(&name), &stat)?, hidden));
            }
        }
        Ok(listed)
    }

    fn names(&self, dir: &Path) -> Result<(OwnedFd, Vec<OsString>)> {
        let fd = self.root.open(dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)?;
        let mut buffer = Vec::with_capacity(32 << 10);
        let mut names = Vec::new();
        let mut listing = RawDir::new(&fd, buffer.spare_capacity_mut());
        while let Some(entry) = listing.next() {
            let entry = entry.call(|| format!("getdents64({}, {dir:?})", self.label))?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsStr::from_bytes(name).to_owned());
            }
        }
        names.sort();
        Ok((fd, names))
    }

    fn entry(
        &self,
        at: BorrowedFd<'_>,
        name: &OsStr,
        path: PathBuf,
        below: PathBuf,
        stat: &Stat,
    ) -> Result<Entry> {
        let node = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Node::File,
            FileType::Directory => Node::Dir,
            FileType::Fifo => Node::Fifo,
            kind @ (FileType::CharacterDevice | FileType::BlockDevice) => {
                Node::Device { block: kind == FileType::BlockDevice, number: stat.st_rdev }
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(at, name, Vec::new())
                    .call(|| format!("readlinkat({}, {path:?})", self.label))?;
                Node::Link(OsStr::from_bytes(target.to_bytes()).to_owned())
            }
            _ => {
                let what =
                    format!("`{}` in {} is of no kind that a layer can hold", path.display(), self.label);
                return Err(Error::new(Kind::Unsupported, what));
            }
        };
        let xattrs = match node {
            Node::File | Node::Dir if self.faithful => super::xattrs::of(&self.root, self.label, &path)?,
            _ => Vec::new(),
        };
        Ok(Entry {
            mode: stat.st_mode & 0o7777,
            owner: if self.faithful { (stat.st_uid, stat.st_gid) } else { (0, 0) },
            modified: Some(Timespec {
                tv_sec: stat.st_mtime,
                tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
            }),
            stamp: Stamp::of(stat),
            digest: OnceLock::new(),
            xattrs,
            node,
            path,
            below,
        })
    }

    /// Where `path` leads when all links are followed inside the tree, and what is there; `None` where nothing is.
    pub(super) fn follow(&self, path: &Path) -> Result<Option<(PathBuf, Stat)>> {
        let mut rest: VecDeque<OsString> = components(path).collect();
        let mut real = PathBuf::new();
        let mut links = 0;
        loop {
            let next = rest.pop_front();
            match next.as_deref().map(OsStr::as_bytes) {
                Some(b"..") => {
                    real.pop();
                    continue;
                }
                Some(name) => real.push(OsStr::from_bytes(name)),
                None => {}
            }
            let fd = match self.root.open(&real, OFlags::PATH | OFlags::NOFOLLOW) {
                Ok(fd) => fd,
                Err(e) if matches!(e.errno(), Some(Errno::NOENT | Errno::NOTDIR)) => return Ok(None),
                Err(e) => return Err(e.into()),
            };
            let stat = rustix::fs::fstat(&fd).call(|| format!("fstat({}, {real:?})", self.label))?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
                links += 1;
                if links > MAX_LINKS {
                    return Err(coracle_host::Error::os(
                        format!("open({}, {path:?})", self.label),
                        Errno::LOOP,
                    )
                    .into());
                }
                let target = rustix::fs::readlinkat(&fd, "", Vec::new())
                    .call(|| format!("readlinkat({}, {real:?})", self.label))?;
                let target = Path::new(OsStr::from_bytes(target.to_bytes()));
                real.pop();
                if target.is_absolute() {
                    real.clear();
                }
                for component in components(target).rev() {
                    rest.push_front(component);
                }
            } else if rest.is_empty() {
                return Ok(Some((real, stat)));
            }
        }
    }
}

/// The names and `..`s of a path.
fn components(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    path.components().filter_map(|c| match c {
        std::path::Component::Normal(name) => Some(name.to_owned()),
        std::path::Component::ParentDir => Some(OsString::from("..")),
        _ => None,
    })
}
