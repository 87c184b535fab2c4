//! Which files of an earlier layer get a further name in a new one, and in which order files are put into that: the oldest
//! first, as the tar of a layer has them.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, FileType, Timespec, Timestamps, UTIME_NOW};

use super::Entry;
use super::contents::Contents;
use super::digest::{FEW, side_by_side};
use super::dirs::Dirs;
use super::put::{Put, times};
use crate::error::Result;
use crate::worker::Coming;

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
#[derive(Clone, Copy)]
pub(crate) struct Earlier<'a> {
    pub(crate) root: BorrowedFd<'a>,
    pub(crate) contents: &'a Contents,
}

/// One of the files, and where it goes.
#[derive(Debug)]
pub(super) struct Item<'e> {
    pub(super) entry: &'e Entry,
    /// The number of its batch.
    pub(super) batch: usize,
    /// In the layer.
    pub(super) path: PathBuf,
    /// The earlier layer has it just so, as this inode.
    pub(super) inode: Option<u64>,
}

impl Item<'_> {
    pub(super) fn name(&self) -> &OsStr {
        self.path.file_name().unwrap_or(OsStr::new(""))
    }
}

/// How many are looked up at once by one thread.
const PART: usize = 128;

/// All files of the batches, in their order.
///
/// # Errors
/// Where the earlier layer can't be read.
pub(super) fn items<'e>(
    put: &Put<'_>,
    batches: &[Batch<'e>],
    earlier: Option<Earlier<'_>>,
) -> Result<Vec<Item<'e>>> {
    let item = |batch: usize, entry: &'e Entry| {
        let name = entry.below.file_name().unwrap_or(OsStr::new(""));
        Item { entry, batch, path: batches[batch].dir.join(name), inode: None }
    };
    let all = batches.iter().enumerate();
    let mut items: Vec<Item<'_>> =
        all.flat_map(|(nth, batch)| batch.files.iter().map(move |entry| item(nth, entry))).collect();
    if let Some(earlier) = earlier {
        let dirs = Dirs::new(earlier.root, "the earlier layer", batches);
        let few = items.len() < FEW;
        let parts = Mutex::new(items.chunks_mut(PART));
        side_by_side(few, || {
            let mut last = None;
            loop {
                let part = parts.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(part) = part else { return Ok(()) };
                for item in part {
                    if item.entry.digest.get().is_some_and(|digest| earlier.contents.get(&item.path) == Some(digest))
                        // It may have no such directory.
                        && let Ok(dir) = dirs.get(item.batch, &mut last)
                    {
                        item.inode = same(put, item, dir);
                    }
                }
            }
        })?;
    }
    items.sort_unstable_by(|a, b| older(put, a, b));
    Ok(items)
}

/// What is to come of them; `None` where the time of one is not known.
pub(super) fn coming(put: &Put<'_>, items: &[Item<'_>]) -> Option<Vec<Coming>> {
    let one = |item: &Item<'_>| {
        let Timespec { tv_sec, tv_nsec } = times(item.entry, put.latest()).last_modification;
        let (uid, gid) = put.owner(item.entry);
        (tv_nsec != UTIME_NOW && item.entry.xattrs.is_empty()).then(|| Coming {
            path: item.path.clone(),
            size: item.entry.stamp.size,
            mode: put.mode(item.entry),
            owner: (uid.as_raw(), gid.as_raw()),
            modified: (tv_sec, u32::try_from(tv_nsec).unwrap_or(0)),
            inode: item.inode,
        })
    };
    items.iter().map(one).collect()
}

fn older(put: &Put<'_>, a: &Item<'_>, b: &Item<'_>) -> Ordering {
    let time = |item: &Item<'_>| {
        let time = times(item.entry, put.latest()).last_modification;
        (time.tv_sec, time.tv_nsec)
    };
    time(a).cmp(&time(b)).then_with(|| a.path.as_os_str().as_bytes().cmp(b.path.as_os_str().as_bytes()))
}

/// The inode of the earlier layer's file, where all but the content, which is, is the same, too.
fn same(put: &Put<'_>, item: &Item<'_>, dir: BorrowedFd<'_>) -> Option<u64> {
    let entry = item.entry;
    let stat = rustix::fs::statat(dir, item.name(), AtFlags::SYMLINK_NOFOLLOW).ok()?;
    let (uid, gid) = put.owner(entry);
    let Timespec { tv_sec, tv_nsec } = times(entry, put.latest()).last_modification;
    let same = entry.modified.is_some()
        && entry.xattrs.is_empty()
        && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
        && stat.st_mode & 0o7777 == put.mode(entry)
        && (stat.st_uid, stat.st_gid) == (uid.as_raw(), gid.as_raw())
        && u64::try_from(stat.st_size) == Ok(entry.stamp.size)
        && (stat.st_mtime, i64::try_from(stat.st_mtime_nsec)) == (tv_sec, Ok(tv_nsec));
    same.then_some(stat.st_ino)
}
