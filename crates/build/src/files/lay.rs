//! Files into a layer's own directory, by several threads: those that an earlier layer has just so get a further name,
//! the others are copied.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use coracle_host::{Call, Root};
use rustix::fs::{AtFlags, FileType, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::contents::{self, Contents};
use super::digest::{FEW, side_by_side};
use super::pick::Tree;
use super::put::{Put, times, unchanged};
use super::{Entry, Node};
use crate::error::Result;

/// Files that go into one directory of the layer, which is there already.
#[derive(Debug)]
pub(crate) struct Batch<'e> {
    /// In the layer, links resolved.
    pub(super) dir: PathBuf,
    /// What it is dated with when all is in it.
    pub(super) times: Option<Timestamps>,
    pub(super) files: Vec<&'e Entry>,
}

/// An earlier layer that was made by the same step, and what is in its files.
pub(crate) struct Earlier<'a> {
    pub(crate) root: BorrowedFd<'a>,
    pub(crate) contents: &'a Contents,
}

/// How many files one thread takes at once.
const PART: usize = 128;
const BUFFER: usize = 256 << 10;

/// What was laid.
#[derive(Debug, Default)]
pub(crate) struct Laid {
    /// Those that were hashed.
    pub(crate) contents: Vec<([u8; 16], [u8; 32])>,
    /// How many have their content from the earlier layer.
    pub(crate) linked: usize,
    /// A source was written to since it was listed.
    pub(crate) changed: bool,
}

impl Laid {
    pub(crate) fn add(&mut self, mut more: Laid) {
        self.contents.append(&mut more.contents);
        self.linked += more.linked;
        self.changed |= more.changed;
    }
}

/// Carries out what `put` has put off.
///
/// # Errors
/// The host's; `Interrupted` where the build was cancelled.
pub(crate) fn lay(
    put: &Put<'_>,
    batches: &[Batch<'_>],
    into: BorrowedFd<'_>,
    earlier: Option<&Earlier<'_>>,
    tree: Tree<'_>,
) -> Result<Laid> {
    let parts: Vec<(&Batch<'_>, &[&Entry])> =
        batches.iter().flat_map(|batch| batch.files.chunks(PART).map(move |part| (batch, part))).collect();
    let files: usize = parts.iter().map(|(_, part)| part.len()).sum();
    let (next, all) = (AtomicUsize::new(0), Mutex::new(Laid::default()));
    let laying = Laying { put, into, earlier, tree, clones: AtomicBool::new(true) };
    side_by_side(files < FEW, || {
        let mut own = Laid::default();
        let mut buffer = vec![0; BUFFER];
        while let Some((batch, part)) = parts.get(next.fetch_add(1, Ordering::Relaxed)) {
            laying.part(batch, part, &mut own, &mut buffer)?;
        }
        all.lock().unwrap_or_else(PoisonError::into_inner).add(own);
        Ok(())
    })?;
    for batch in batches {
        if let Some(times) = &batch.times {
            // What was put into it has changed them.
            let dir = directory(into, "the layer", &batch.dir)?;
            rustix::fs::futimens(&dir, times).call(|| format!("futimens({:?})", batch.dir))?;
        }
    }
    Ok(all.into_inner().unwrap_or_else(PoisonError::into_inner))
}

struct Laying<'a> {
    put: &'a Put<'a>,
    into: BorrowedFd<'a>,
    earlier: Option<&'a Earlier<'a>>,
    tree: Tree<'a>,
    /// The file system may share blocks between files; it is asked until it says no.
    clones: AtomicBool,
}

impl Laying<'_> {
    fn part(&self, batch: &Batch<'_>, part: &[&Entry], laid: &mut Laid, buffer: &mut [u8]) -> Result<()> {
        let to = directory(self.into, "the layer", &batch.dir)?;
        let from = self.earlier.and_then(|earlier| {
            let dir = directory(earlier.root, "the earlier layer", &batch.dir).ok()?;
            Some((earlier.contents, dir))
        });
        for entry in part {
            self.tree.go_on()?;
            let name = entry.below.file_name().unwrap_or(OsStr::new(""));
            let path = batch.dir.join(name);
            let linked = match (&from, entry.digest) {
                (Some((contents, dir)), Some(digest)) if contents.get(&path) == Some(&digest) => {
                    self.link(entry, dir, &to, name)
                }
                _ => false,
            };
            if linked {
                laid.linked += 1;
            } else {
                laid.changed |= self.copy(entry, &to, name, &path, buffer)?;
            }
            if let Some(digest) = entry.digest {
                laid.contents.push((contents::name(&path), digest));
            }
        }
        Ok(())
    }

    /// A further name for the earlier layer's file, where all but the content is the same, too. A file can only have so many
    /// names: then it is copied.
    fn link(&self, entry: &Entry, from: &OwnedFd, to: &OwnedFd, name: &OsStr) -> bool {
        let Ok(stat) = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW) else { return false };
        let (uid, gid) = self.put.owner(entry);
        let Timespec { tv_sec, tv_nsec } = times(entry, self.put.latest()).last_modification;
        let same = entry.modified.is_some()
            && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && stat.st_mode & 0o7777 == self.put.mode(entry)
            && (stat.st_uid, stat.st_gid) == (uid.as_raw(), gid.as_raw())
            && u64::try_from(stat.st_size) == Ok(entry.stamp.size)
            && (stat.st_mtime, i64::try_from(stat.st_mtime_nsec)) == (tv_sec, Ok(tv_nsec));
        same && entry.xattrs.is_empty() && rustix::fs::linkat(from, name, to, name, AtFlags::empty()).is_ok()
    }

    /// Whether the source was written to meanwhile.
    fn copy(
        &self,
        entry: &Entry,
        to: &OwnedFd,
        name: &OsStr,
        path: &Path,
        buffer: &mut [u8],
    ) -> Result<bool> {
        let mut changed = false;
        self.put.create(entry, to.as_fd(), name, path, &mut |file| {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
            let mut from = File::from(self.tree.root().open(&entry.path, flags)?);
            if !self.clone_blocks(file, &from) {
                copy_all(&mut from, file, buffer).call(|| format!("copy({:?}, {path:?})", entry.path))?;
            }
            changed = !unchanged(&from, entry)?;
            Ok(())
        })?;
        Ok(changed)
    }

    fn clone_blocks(&self, to: &File, from: &File) -> bool {
        if !self.clones.load(Ordering::Relaxed) {
            return false;
        }
        match rustix::fs::ioctl_ficlone(to, from) {
            Ok(()) => true,
            Err(errno) => {
                let never = [Errno::OPNOTSUPP, Errno::XDEV, Errno::NOTTY, Errno::NOSYS];
                self.clones.fetch_and(!never.contains(&errno), Ordering::Relaxed);
                false
            }
        }
    }
}

fn copy_all(from: &mut File, to: &mut File, buffer: &mut [u8]) -> std::io::Result<()> {
    loop {
        match from.read(buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => to.write_all(&buffer[..n])?,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn directory(root: BorrowedFd<'_>, label: &str, path: &Path) -> Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    Ok(Root::new(root, label).open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)?)
}

/// Whether it is worth to put off what goes into a directory.
pub(super) fn is_worth(entries: &[Entry]) -> bool {
    entries.iter().filter(|entry| entry.node == Node::File).take(FEW).count() == FEW
}
