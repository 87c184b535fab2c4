//! Files into a layer's own directory, by several threads: those that an earlier layer has just so get a further name,
//! the others are copied.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use coracle_host::Call;
use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::contents;
use super::digest::{FEW, side_by_side};
use super::dirs::{Dirs, Last};
use super::order::{Batch, Earlier, Item, coming, items};
use super::pick::Tree;
use super::put::Put;
use super::source::{Hash, Source};
use super::{Entry, Node};
use crate::error::Result;
use crate::worker::{Coming, DraftFiles};

/// How many files one thread takes at once: few, so that they come about in their order.
const PART: usize = 16;
const BUFFER: usize = 256 << 10;
/// Bytes of a file that is read whole, so that what waits for it need not read it again.
const WHOLE: u64 = 256 << 10;

/// What was laid.
#[derive(Debug, Default)]
pub(crate) struct Laid {
    /// Those that were hashed.
    pub(crate) contents: Vec<([u8; 16], [u8; 32])>,
    /// A source was written to since it was listed.
    pub(crate) changed: bool,
}

impl Laid {
    pub(crate) fn add(&mut self, mut more: Laid) {
        self.contents.append(&mut more.contents);
        self.changed |= more.changed;
    }
}

/// What `put` has put off, in order.
pub(crate) struct Load<'a, 'e> {
    put: &'a Put<'a>,
    batches: &'a [Batch<'e>],
    earlier: Option<Earlier<'a>>,
    items: Vec<Item<'e>>,
}

impl<'a, 'e> Load<'a, 'e> {
    /// # Errors
    /// Where the earlier layer can't be read.
    pub(crate) fn new(
        put: &'a Put<'a>,
        batches: &'a [Batch<'e>],
        earlier: Option<Earlier<'a>>,
    ) -> Result<Load<'a, 'e>> {
        Ok(Load { put, batches, earlier, items: items(put, batches, earlier)? })
    }

    /// What will come, in the order in which it is put there; `None` where that can't be told.
    pub(crate) fn coming(&self) -> Option<Vec<Coming>> {
        coming(self.put, &self.items)
    }

    /// Puts it all there.
    ///
    /// # Errors
    /// The host's; `Interrupted` where the build was cancelled.
    pub(crate) fn lay(&self, files: DraftFiles<'_>, tree: Tree<'_>) -> Result<Laid> {
        let (next, all) = (AtomicUsize::new(0), Mutex::new(Laid::default()));
        let laying = Laying {
            put: self.put,
            into: Dirs::new(files.own, "the layer", self.batches),
            from: self.earlier.map(|earlier| Dirs::new(earlier.root, "the earlier layer", self.batches)),
            tree,
            clones: AtomicBool::new(true),
        };
        let parts: Vec<&[Item<'_>]> = self.items.chunks(PART).collect();
        side_by_side(self.items.len() < FEW, || {
            let mut own = Laid::default();
            let mut buffer = Vec::new();
            let (mut into, mut from) = (None, None);
            loop {
                let nth = next.fetch_add(1, Ordering::Relaxed);
                let Some(part) = parts.get(nth) else { break };
                for (n, item) in part.iter().enumerate() {
                    buffer.clear();
                    let made = laying.item(item, &mut own, (&mut into, &mut from), &mut buffer)?;
                    if let Some(coming) = files.coming {
                        let made = made.as_ref().map(File::as_fd);
                        buffer = coming.arrived(nth * PART + n, made, std::mem::take(&mut buffer));
                    }
                }
            }
            all.lock().unwrap_or_else(PoisonError::into_inner).add(own);
            Ok(())
        })?;
        for (nth, batch) in self.batches.iter().enumerate() {
            if let Some(times) = &batch.times {
                // What was put into it has changed them.
                let mut last = None;
                let dir = laying.into.get(nth, &mut last)?;
                rustix::fs::futimens(dir, times).call(|| format!("futimens({:?})", batch.dir))?;
            }
        }
        Ok(all.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Laying<'a> {
    put: &'a Put<'a>,
    into: Dirs<'a>,
    from: Option<Dirs<'a>>,
    tree: Tree<'a>,
    /// The file system may share blocks between files; it is asked until it says no.
    clones: AtomicBool,
}

impl Laying<'_> {
    fn item(
        &self,
        item: &Item<'_>,
        laid: &mut Laid,
        (into, from): (&mut Last, &mut Last),
        buffer: &mut Vec<u8>,
    ) -> Result<Option<File>> {
        self.tree.go_on()?;
        let to = self.into.get(item.batch, into)?;
        let linked = match &self.from {
            Some(dirs) if item.inode.is_some() => {
                let dir = dirs.get(item.batch, from)?;
                // A file can only have so many names: then it is copied.
                rustix::fs::linkat(dir, item.name(), to, item.name(), AtFlags::empty()).is_ok()
            }
            _ => false,
        };
        let mut made = None;
        if !linked {
            let (file, changed) = self.copy(item, to, buffer)?;
            made = file;
            laid.changed |= changed;
        }
        // One that has attributes may lose them, which nothing tells by looking at its name.
        if let Some(digest) = item.entry.digest.get().filter(|_| item.entry.xattrs.is_empty()) {
            laid.contents.push((contents::name(&item.path), *digest));
        }
        Ok(made)
    }

    /// The copy, and whether the source was written to meanwhile. What was read whole is left in `buffer`.
    fn copy(
        &self,
        item: &Item<'_>,
        to: BorrowedFd<'_>,
        buffer: &mut Vec<u8>,
    ) -> Result<(Option<File>, bool)> {
        let (entry, path) = (item.entry, &item.path);
        let mut hash = entry.digest.get().is_none().then(Hash::new);
        let mut changed = false;
        let made = self.put.create(entry, to, item.name(), path, &mut |file| {
            let mut from = Source::open(self.tree, entry)?;
            let failed = || format!("copy({:?}, {path:?})", entry.path);
            if self.clone_blocks(file, &from.file) {
                if let Some(hash) = &mut hash {
                    hash.update_reader(&from.file).call(failed)?;
                }
            } else if entry.stamp.size <= WHOLE {
                read_whole(&mut from.file, entry.stamp.size, buffer).call(failed)?;
                file.write_all(buffer).call(failed)?;
                if let Some(hash) = &mut hash {
                    hash.update(buffer);
                }
            } else {
                copy_all(&mut from.file, file, hash.as_mut()).call(failed)?;
            }
            changed = from.end(hash.as_ref())?;
            Ok(())
        })?;
        Ok((made, changed))
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

/// To the end, where about `size` bytes are expected.
fn read_whole(from: &mut File, size: u64, buffer: &mut Vec<u8>) -> std::io::Result<()> {
    let expected = usize::try_from(size).unwrap_or(0);
    // With room for more, so that its end is seen at once.
    buffer.reserve(expected + 1);
    loop {
        match rustix::io::read(&*from, rustix::buffer::spare_capacity(buffer)) {
            Ok(0) => return Ok(()),
            Ok(_) if buffer.len() < buffer.capacity() && buffer.len() >= expected => return Ok(()),
            Ok(_) => buffer.reserve(BUFFER),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn copy_all(from: &mut File, to: &mut File, mut hash: Option<&mut Hash>) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => {
                to.write_all(&buffer[..n])?;
                if let Some(hash) = &mut hash {
                    hash.update(&buffer[..n]);
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether it is worth to put off what goes into a directory.
pub(super) fn is_worth(entries: &[Entry]) -> bool {
    entries.iter().filter(|entry| entry.node == Node::File).take(FEW).count() == FEW
}
