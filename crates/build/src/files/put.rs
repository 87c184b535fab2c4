//! Picked files into a tree that others wrote: every path is resolved inside it, nothing is written through a link.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use coracle_host::{Call, Root};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_NOW, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::lay::is_worth;
use super::order::Batch;
use super::pick::Tree;
use super::source::{Source, has_changed};
use super::unpack;
use super::way::{self, Way, in_the_way};
use super::{Entry, Node, Picked};
use crate::chmod::Chmod;
use crate::error::Result;

/// One COPY on its way into a tree.
pub(crate) struct Put<'a> {
    root: Root<'a>,
    /// In place of each entry's own.
    pub(super) owner: Option<(u32, u32)>,
    /// In place of each entry's own.
    mode: Option<Chmod>,
    /// Files that are archives are unpacked.
    unpack: bool,
    /// What becomes of what is there.
    pub(super) way: Way,
    /// Files of large directories are put off.
    puts_off: bool,
    /// Files later than this (seconds since the epoch) get this time.
    latest: Option<i64>,
    /// A file took another's place.
    pub(super) has_replaced: AtomicBool,
    /// A source file was written to after it had been listed: what was copied may not be what was hashed.
    pub(crate) changed: bool,
}

impl<'a> Put<'a> {
    pub(crate) fn new(root: Root<'a>, owner: Option<(u32, u32)>, mode: Option<Chmod>) -> Put<'a> {
        Put {
            root,
            owner,
            mode,
            unpack: false,
            way: Way::Kept,
            puts_off: false,
            latest: None,
            has_replaced: AtomicBool::new(false),
            changed: false,
        }
    }

    /// What would take long is put off, for [`lay`](super::lay::lay) to do; then times are at most `latest` at once.
    pub(crate) fn putting_off(mut self, yes: bool, latest: Option<i64>) -> Put<'a> {
        (self.puts_off, self.latest) = (yes, latest.filter(|_| yes));
        self
    }

    /// Whether anything that was put took the place of something else.
    pub(crate) fn has_replaced(&self) -> bool {
        self.has_replaced.load(Ordering::Relaxed)
    }

    pub(super) fn latest(&self) -> Option<i64> {
        self.latest
    }

    pub(super) fn root(&self) -> Root<'a> {
        self.root
    }

    /// As ADD does it: a file that is an archive becomes what is in it.
    pub(crate) fn unpacking(mut self, yes: bool) -> Put<'a> {
        self.unpack = yes;
        self
    }

    pub(crate) fn in_way(mut self, way: Way) -> Put<'a> {
        self.way = way;
        self
    }

    /// Puts one source at `dest`, an absolute path; one with a slash at its end, or where a directory is, is put into.
    /// Returns what was put off.
    ///
    /// # Errors
    /// `Invalid` where a file would have to become a directory or the reverse; else the host's.
    pub(crate) fn place<'e>(
        &mut self,
        tree: Option<Tree<'_>>,
        picked: &'e Picked,
        dest: &str,
    ) -> Result<Vec<Batch<'e>>> {
        let Some((top, below)) = picked.entries.split_first() else { return Ok(Vec::new()) };
        let tree = picked.tree(tree);
        if picked.is_dir() {
            return self.directory(tree, top, below, dest);
        }
        self.file(tree, picked, top, dest).map(|()| Vec::new())
    }

    fn file(&mut self, tree: Option<Tree<'_>>, picked: &Picked, top: &Entry, dest: &str) -> Result<()> {
        let unpack = picked.remote.as_ref().map_or(self.unpack, |fetched| fetched.unpack);
        if let Some(tree) = tree.filter(|_| unpack && top.node == Node::File)
            && let Some((file, archive)) = unpack::open(tree, &top.path)?
        {
            let made = self.make_dirs(Path::new(dest))?;
            let into = Put::new(Root::new(made.as_fd(), "the destination"), None, None).in_way(Way::Replaced);
            unpack::unpack(archive, &into, &top.path)?;
            return self.same(&file, top);
        }
        let mut target = PathBuf::from(dest);
        if dest.ends_with('/') {
            self.make_dirs(Path::new(dest))?;
            target.push(&picked.name);
        } else if self.kind(&target)? == Some(FileType::Directory) {
            target.push(&picked.name);
        } else {
            if self.way != Way::Unseen {
                target = self.follow(target)?;
            }
            self.make_dirs(target.parent().unwrap_or(Path::new("/")))?;
        }
        let (parent, name) = self.root.parent(&target)?;
        self.write(tree, top, parent.as_fd(), &name, &target)
    }

    /// Makes a directory and those above it, 0755 and of the new owner where there is one.
    ///
    /// # Errors
    /// `ENOTDIR` where a file is in the way.
    pub(crate) fn make_dirs(&self, path: &Path) -> Result<OwnedFd> {
        if self.way == Way::Unseen {
            return self.make_unseen_dirs(path);
        }
        let mut missing = Vec::new();
        let mut at = Some(path);
        while let Some(one) = at.filter(|p| !p.as_os_str().is_empty()) {
            match self.root.open(one, OFlags::PATH | OFlags::DIRECTORY) {
                Ok(_) => break,
                Err(e) if e.errno() == Some(Errno::NOENT) => missing.push(one),
                Err(e) => return Err(e.into()),
            }
            at = one.parent();
        }
        for one in missing.into_iter().rev() {
            let made = self.root.make_dirs(one, 0o755, self.owner)?;
            // The process's umask is not ours to change, and not to take from.
            rustix::fs::chmodat(&made, ".", Mode::from_raw_mode(0o755), AtFlags::empty())
                .call(|| format!("chmod({one:?}, 0755)"))?;
        }
        Ok(self.root.open(path, OFlags::PATH | OFlags::DIRECTORY)?)
    }

    /// What is at a destination.
    fn kind(&self, path: &Path) -> Result<Option<FileType>> {
        if self.way == Way::Unseen {
            return Ok(None);
        }
        match self.root.open(path, OFlags::PATH) {
            Ok(fd) => {
                let stat = rustix::fs::fstat(&fd).call(|| format!("fstat({path:?})"))?;
                Ok(Some(FileType::from_raw_mode(stat.st_mode)))
            }
            Err(e) if matches!(e.errno(), Some(Errno::NOENT)) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// A destination that is a link to a file means that file.
    fn follow(&self, mut path: PathBuf) -> Result<PathBuf> {
        for _ in 0..40 {
            let target = match self.root.open(&path, OFlags::PATH | OFlags::NOFOLLOW) {
                Ok(fd) => rustix::fs::readlinkat(&fd, "", Vec::new()).ok(),
                Err(_) => None,
            };
            let Some(target) = target else { return Ok(path) };
            let target = path.parent().unwrap_or(Path::new("/")).join(OsStr::from_bytes(target.to_bytes()));
            if target.file_name().is_none() {
                return Ok(path);
            }
            path = target;
        }
        Err(coracle_host::Error::os(format!("open({path:?})"), Errno::LOOP).into())
    }

    fn directory<'e>(
        &mut self,
        tree: Option<Tree<'_>>,
        top: &'e Entry,
        below: &'e [Entry],
        dest: &str,
    ) -> Result<Vec<Batch<'e>>> {
        let path = Path::new(dest);
        match self.kind(path)? {
            None | Some(FileType::Directory) => {}
            Some(_) => return Err(in_the_way(path, "a directory", "a file")),
        }
        let dates = if below.is_empty() { Vec::new() } else { self.dates(path, top)? };
        let made = self.make_dirs(path)?;
        let fd = reopen(made.as_fd(), path)?;
        let mut batches = Vec::new();
        let mut real = None;
        if tree.is_some() && self.puts_off && is_worth(below) {
            real = Tree::of(self.root, "the destination").follow(path)?.map(|(real, _)| real);
        }
        if let Some(real) = &real {
            let times = dates.first().map(|(_, times)| times.clone());
            batches.push(Batch { dir: real.clone(), times, files: Vec::new() });
            // What is there already becomes part of the layer.
            let mode = rustix::fs::fstat(&fd).call(|| format!("fstat({path:?})"))?.st_mode & 0o7777;
            rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode)).call(|| format!("fchmod({path:?})"))?;
        }
        // Directories that are open, outermost first; each gets its mode, owner and times when it is left.
        let mut open: Vec<Open<'e>> = vec![Open { entry: top, fd, fresh: false, batch: 0 }];
        for entry in below {
            let parent = entry.below.parent().unwrap_or(Path::new(""));
            while open.last().is_some_and(|dir| dir.entry.below != parent) && open.len() > 1 {
                self.leave(open.pop(), true)?;
            }
            let Some(at) = open.last() else { break };
            let name = entry.below.file_name().unwrap_or(OsStr::new(""));
            let target = path.join(&entry.below);
            if entry.node == Node::Dir {
                let (fd, fresh) = self.enter(at.fd.as_fd(), name, &target)?;
                open.push(Open { entry, fd, fresh, batch: batches.len() });
                if let Some(real) = &real {
                    let dir = real.join(&entry.below);
                    let times = Some(times(entry, self.latest));
                    batches.push(Batch { dir, times, files: Vec::new() });
                }
                continue;
            }
            let batch = batches.get_mut(at.batch).filter(|_| entry.node == Node::File);
            match batch {
                Some(batch) if at.fresh || is_free(at.fd.as_fd(), name) => batch.files.push(entry),
                _ => self.write(tree, entry, at.fd.as_fd(), name, &target)?,
            }
        }
        while open.len() > 1 {
            self.leave(open.pop(), true)?;
        }
        // The destination itself never looks like the source: only what is in that is copied.
        self.leave(open.pop(), false)?;
        for (path, times) in dates {
            let fd = self.root.open(&path, OFlags::RDONLY | OFlags::DIRECTORY)?;
            rustix::fs::futimens(&fd, &times).call(|| format!("futimens({path:?})"))?;
        }
        batches.retain(|batch| !batch.files.is_empty());
        Ok(batches)
    }

    /// The times that the destination is to have, and those that are made or changed for it: not that of the copying, so that
    /// the same sources are the same layer at any time. The destination is the first.
    fn dates(&self, path: &Path, top: &Entry) -> Result<Vec<(PathBuf, Timestamps)>> {
        let Some(modified) = top.modified else { return Ok(Vec::new()) };
        let mut dates = Vec::new();
        for one in path.ancestors() {
            let there = match self.root.open(one, OFlags::PATH | OFlags::DIRECTORY) {
                Ok(fd) => rustix::fs::fstat(&fd).call(|| format!("fstat({one:?})"))?,
                Err(error) if error.errno() == Some(Errno::NOENT) => {
                    dates.push((one.to_owned(), times(top, self.latest)));
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let old = (there.st_mtime, i64::try_from(there.st_mtime_nsec).unwrap_or(0));
            let (tv_sec, tv_nsec) = old.max((modified.tv_sec, modified.tv_nsec));
            let time = Timespec { tv_sec, tv_nsec };
            dates.push((one.to_owned(), Timestamps { last_access: time, last_modification: time }));
            break;
        }
        Ok(dates)
    }

    fn leave(&self, dir: Option<Open<'_>>, dress: bool) -> Result<()> {
        match dir {
            Some(dir) if dress => self.dress(dir.entry, dir.fd.as_fd()),
            _ => Ok(()),
        }
    }

    /// One entry that is no directory.
    fn write(
        &mut self,
        tree: Option<Tree<'_>>,
        entry: &Entry,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
    ) -> Result<()> {
        let mut changed = false;
        self.create(entry, parent, name, path, &mut |to| {
            if let Node::Text(text) = &entry.node {
                to.write_all(text.as_bytes()).call(|| format!("write({path:?})"))?;
            } else if let Some(tree) = tree {
                let mut from = Source::open(tree, entry)?;
                // Shares the blocks where the file system can, else the kernel copies (copy_file_range, sendfile).
                if rustix::fs::ioctl_ficlone(&*to, &from.file).is_err() {
                    std::io::copy(&mut from.file, to).call(|| format!("copy({:?}, {path:?})", entry.path))?;
                }
                changed = from.end(None)?;
            }
            Ok(())
        })?;
        self.changed |= changed;
        Ok(())
    }

    fn same(&mut self, file: &File, entry: &Entry) -> Result<()> {
        self.changed |= has_changed(file, entry)?;
        Ok(())
    }

    /// Makes what the entry says, in the place of what is there; `fill` writes the content of a file, which is returned.
    pub(super) fn create(
        &self,
        entry: &Entry,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
        fill: &mut dyn FnMut(&mut File) -> Result<()>,
    ) -> Result<Option<File>> {
        if !matches!(entry.node, Node::File | Node::Text(_) | Node::Dir) {
            self.make_way(parent, name, path)?;
            way::make_special(&entry.node, parent, name, path)?;
            return self.dress_at(entry, parent, name, path).map(|()| None);
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let create =
            || rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(self.mode(entry) & 0o777));
        let fd = match create() {
            Err(Errno::EXIST) => {
                self.make_way(parent, name, path)?;
                create()
            }
            fd => fd,
        };
        let mut to = File::from(fd.call(|| format!("open({path:?}, O_CREAT)"))?);
        fill(&mut to)?;
        self.dress(entry, to.as_fd())?;
        Ok(Some(to))
    }

    pub(super) fn mode(&self, entry: &Entry) -> u32 {
        self.mode.as_ref().map_or(entry.mode, |chmod| chmod.apply(entry.mode, entry.node == Node::Dir))
    }

    pub(super) fn owner(&self, entry: &Entry) -> (Uid, Gid) {
        let (uid, gid) = self.owner.unwrap_or(entry.owner);
        (Uid::from_raw(uid), Gid::from_raw(gid))
    }

    /// Owner, mode, attributes and time, in the order in which none undoes another.
    pub(super) fn dress(&self, entry: &Entry, fd: BorrowedFd<'_>) -> Result<()> {
        let what = &entry.below;
        let stat = rustix::fs::fstat(fd).call(|| format!("fstat({what:?})"))?;
        if let Some((uid, gid)) = self.new_owner(entry, &stat) {
            rustix::fs::fchown(fd, Some(uid), Some(gid))
                .call(|| format!("fchown({what:?}, {uid:?}, {gid:?})"))?;
        }
        let mode = self.mode(entry);
        if stat.st_mode & 0o7777 != mode {
            rustix::fs::fchmod(fd, Mode::from_raw_mode(mode))
                .call(|| format!("fchmod({what:?}, {mode:o})"))?;
        }
        for (name, value) in &entry.xattrs {
            rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty())
                .call(|| format!("fsetxattr({what:?}, {name:?})"))?;
        }
        rustix::fs::futimens(fd, &times(entry, self.latest)).call(|| format!("futimens({what:?})"))?;
        Ok(())
    }

    /// [`Put::dress`] for what can't be opened.
    fn dress_at(&self, entry: &Entry, parent: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<()> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let stat = rustix::fs::statat(parent, name, flags).call(|| format!("fstatat({path:?})"))?;
        if let Some((uid, gid)) = self.new_owner(entry, &stat) {
            rustix::fs::chownat(parent, name, Some(uid), Some(gid), flags)
                .call(|| format!("fchownat({path:?}, {uid:?}, {gid:?})"))?;
        }
        if !matches!(entry.node, Node::Link(_)) {
            let mode = Mode::from_raw_mode(self.mode(entry));
            // Nobody else writes here, and what was just made is no link.
            rustix::fs::chmodat(parent, name, mode, AtFlags::empty())
                .call(|| format!("fchmodat({path:?})"))?;
        }
        rustix::fs::utimensat(parent, name, &times(entry, self.latest), flags)
            .call(|| format!("utimensat({path:?})"))?;
        Ok(())
    }

    fn new_owner(&self, entry: &Entry, stat: &Stat) -> Option<(Uid, Gid)> {
        let (uid, gid) = self.owner(entry);
        (uid.as_raw() != stat.st_uid || gid.as_raw() != stat.st_gid).then_some((uid, gid))
    }
}

pub(super) fn times(entry: &Entry, latest: Option<i64>) -> Timestamps {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let modified = match (entry.modified, latest) {
        (Some(time), Some(latest)) if (latest, 0) < (time.tv_sec, time.tv_nsec) => {
            Timespec { tv_sec: latest, tv_nsec: 0 }
        }
        (time, _) => time.unwrap_or(now),
    };
    Timestamps { last_access: modified, last_modification: modified }
}

/// A directory opened for its metadata, from one opened as a path.
fn reopen(fd: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(fd, ".", flags, Mode::empty()).call(|| format!("open({path:?})"))?)
}

/// A directory that is being filled.
struct Open<'e> {
    entry: &'e Entry,
    fd: OwnedFd,
    /// It was made just now, so that nothing was in it.
    fresh: bool,
    /// Which of those that were put off.
    batch: usize,
}

fn is_free(parent: BorrowedFd<'_>, name: &OsStr) -> bool {
    matches!(rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW), Err(Errno::NOENT))
}
