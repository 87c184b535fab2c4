//! A source file while it is read: what its bytes were counts only if nobody wrote to it meanwhile.

use std::fs::File;

use coracle_host::Call;
use rustix::fs::OFlags;

use super::known::Known;
use super::pick::Tree;
use super::{Entry, Stamp};
use crate::error::Result;

/// The digest of a file's content: BLAKE3, which takes half the time of SHA-256 where the processor helps with that, and a
/// tenth where it doesn't. Nobody but this cache ever sees it.
pub(super) type Hash = blake3::Hasher;

/// A file of a tree, open.
pub(super) struct Source<'t> {
    tree: Tree<'t>,
    entry: &'t Entry,
    pub(super) file: File,
    begun: i128,
}

impl<'t> Source<'t> {
    /// # Errors
    /// As of openat2(2); `Interrupted` where the build was cancelled.
    pub(super) fn open(tree: Tree<'t>, entry: &'t Entry) -> Result<Source<'t>> {
        tree.go_on()?;
        let begun = Known::begin();
        // What was a file may be a pipe by now: opening that must not wait.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = File::from(tree.root().open(&entry.path, flags)?);
        Ok(Source { tree, entry, file, begun })
    }

    /// All was read; `hash` is of all bytes, where the entry had no digest. Returns whether the file was written to since it
    /// was listed.
    ///
    /// # Errors
    /// As of fstat(2).
    pub(super) fn end(&self, hash: Option<&Hash>) -> Result<bool> {
        let changed = has_changed(&self.file, self.entry)?;
        if let Some(hash) = hash {
            let digest = hash.finalize().into();
            // Another thread's would be the same.
            let _ = self.entry.digest.set(digest);
            if let Some(known) = self.tree.known().filter(|_| !changed) {
                known.put(self.entry, digest, &self.file, self.begun);
            }
        }
        Ok(changed)
    }
}

/// Whether the file was written to since it was listed.
pub(super) fn has_changed(file: &File, entry: &Entry) -> Result<bool> {
    let now = rustix::fs::fstat(file).call(|| format!("fstat({:?})", entry.path))?;
    Ok(Stamp::of(&now) != entry.stamp)
}
