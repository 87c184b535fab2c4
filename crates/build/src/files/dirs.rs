//! Directories of a tree that files are put into or taken from, in any order: some stay open.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;

use coracle_host::Root;
use rustix::fs::OFlags;

use super::order::Batch;
use crate::error::Result;

/// Those that stay open, for all threads. The descriptors are the embedding program's, too.
const OPEN: usize = 128;

/// The directories of batches in one tree.
pub(super) struct Dirs<'a> {
    root: Root<'a>,
    paths: Vec<&'a Path>,
    open: Vec<OnceLock<OwnedFd>>,
}

/// The one that a thread used last, where it is not among those that stay open.
pub(super) type Last = Option<(usize, OwnedFd)>;

impl<'a> Dirs<'a> {
    pub(super) fn new(root: BorrowedFd<'a>, label: &'a str, batches: &'a [Batch<'_>]) -> Dirs<'a> {
        let paths: Vec<&Path> = batches.iter().map(|batch| batch.dir.as_path()).collect();
        let open = std::iter::repeat_with(OnceLock::new).take(paths.len().min(OPEN)).collect();
        Dirs { root: Root::new(root, label), paths, open }
    }

    /// The directory of the `nth` batch.
    ///
    /// # Errors
    /// As of openat2(2).
    pub(super) fn get<'l>(&'l self, nth: usize, last: &'l mut Last) -> Result<BorrowedFd<'l>> {
        if let Some(open) = self.open.get(nth) {
            return match open.get() {
                Some(fd) => Ok(fd.as_fd()),
                None => {
                    let fd = self.directory(nth)?;
                    // Where another thread was faster, that one's is as good.
                    Ok(open.get_or_init(|| fd).as_fd())
                }
            };
        }
        if last.as_ref().is_some_and(|(which, _)| *which != nth) {
            // Before another is opened.
            *last = None;
        }
        let (_, fd): &(usize, OwnedFd) = match last {
            Some(open) => open,
            None => last.insert((nth, self.directory(nth)?)),
        };
        Ok(fd.as_fd())
    }

    fn directory(&self, nth: usize) -> Result<OwnedFd> {
        let path = self.paths[nth];
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        Ok(self.root.open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)?)
    }
}
