//! The digest of what was picked: names, types, modes, owners, link targets and contents. Never times, and never where
//! in the tree it was.

use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use coracle_host::{Call, Kind};
use sha2::{Digest, Sha256};

use super::pick::Tree;
use super::source::{Hash, Source};
use super::{Entry, Node, Picked};
use crate::error::{Error, Result};
use crate::trace::{Files, print};

/// A digest of fields, each with its length, so that no two lists of fields are the same bytes.
pub(crate) struct Fields(Sha256);

impl Fields {
    pub(crate) fn new() -> Fields {
        Fields(Sha256::new())
    }

    pub(crate) fn add(&mut self, field: impl AsRef<[u8]>) -> &mut Fields {
        let field = field.as_ref();
        self.0.update((field.len() as u64).to_le_bytes());
        self.0.update(field);
        self
    }

    pub(crate) fn hex(self) -> String {
        hex(&self.0.finalize())
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]])
        .map(char::from)
        .collect()
}

/// What of an entry COPY will override, so that it does not matter.
#[derive(Clone, Copy)]
pub(crate) struct Overrides {
    pub(crate) mode: bool,
    pub(crate) owner: bool,
}

/// What was picked, in short.
pub(crate) struct Digested {
    /// Of all, in their order.
    pub(crate) digest: String,
    /// How many bytes the files have.
    pub(crate) bytes: u64,
    /// Each by itself, where it is from a context.
    pub(crate) list: Option<Files>,
    /// A file was written to between being listed and being read.
    pub(crate) changed: bool,
}

/// The digest of sources.
///
/// # Errors
/// Where a file can't be read.
pub(crate) fn digest(tree: Option<Tree<'_>>, picked: &[Picked], overrides: Overrides) -> Result<Digested> {
    let mut changed = false;
    for source in picked {
        if let Some(tree) = source.tree(tree) {
            changed |= contents(tree, &source.entries)?;
        }
    }
    let mut fields = Fields::new();
    let mut bytes = 0;
    let listed = tree.is_some_and(|tree| tree.known().is_some());
    let mut list = Files::new();
    for source in picked {
        let name: &[u8] = if source.is_dir() { b"" } else { source.name.as_bytes() };
        fields.add(name).add((source.entries.len() as u64).to_le_bytes());
        for entry in &source.entries {
            fields.add(entry.below.as_os_str().as_bytes());
            if !overrides.mode {
                fields.add(entry.mode.to_le_bytes());
            }
            if !overrides.owner {
                fields.add(entry.owner.0.to_le_bytes()).add(entry.owner.1.to_le_bytes());
            }
            for (name, value) in &entry.xattrs {
                fields.add(name.as_bytes()).add(value);
            }
            let mut content = 0;
            match &entry.node {
                Node::Dir => fields.add("dir"),
                Node::Fifo => fields.add("fifo"),
                Node::Device { block, number } => {
                    fields.add(if *block { "block" } else { "character" }).add(number.to_le_bytes())
                }
                Node::Link(target) => {
                    content = first(&Sha256::digest(target.as_bytes()));
                    fields.add("link").add(target.as_bytes())
                }
                Node::Text(text) => {
                    bytes += text.len() as u64;
                    fields.add("file").add(blake3::hash(text.as_bytes()).as_bytes())
                }
                Node::File => {
                    let digest = entry.digest.get();
                    let digest = digest.ok_or_else(|| Error::invalid("a file was picked from no tree"))?;
                    bytes += entry.stamp.size;
                    content = first(digest);
                    fields.add("file").add(digest)
                }
            };
            if listed && !matches!(entry.node, Node::Text(_)) {
                list.push((entry.path.to_string_lossy().into_owned(), print(content, attributes(entry))));
            }
        }
    }
    Ok(Digested { digest: fields.hex(), bytes, list: listed.then_some(list), changed })
}

/// What of the sources can be told without reading them: the same in all that have the same digest.
pub(crate) fn outline(picked: &[Picked]) -> String {
    let mut hash = Hash::new();
    for source in picked {
        hash.update(&(source.entries.len() as u64).to_le_bytes());
        for entry in &source.entries {
            let name = entry.below.as_os_str().as_bytes();
            let (kind, size) = match &entry.node {
                Node::Dir => (0, 0),
                Node::Fifo => (1, 0),
                Node::Device { block, number } => (4 + u8::from(*block), *number),
                Node::Link(target) => (2, target.len() as u64),
                Node::Text(text) => (3, text.len() as u64),
                Node::File => (3, entry.stamp.size),
            };
            hash.update(&[kind]).update(&size.to_le_bytes());
            hash.update(&(name.len() as u64).to_le_bytes()).update(name);
        }
    }
    hash.finalize().to_hex().to_string()
}

/// Enough of a digest to tell two apart that nobody has chosen.
/// What stands for a mode and extended attributes.
fn attributes(entry: &Entry) -> u64 {
    if entry.xattrs.is_empty() {
        return entry.mode.into();
    }
    let mut fields = Fields::new();
    fields.add(entry.mode.to_le_bytes());
    for (name, value) in &entry.xattrs {
        fields.add(name.as_bytes()).add(value);
    }
    first(&fields.0.finalize())
}

fn first(digest: &[u8]) -> u64 {
    digest.iter().take(8).fold(0, |all, byte| all << 8 | u64::from(*byte))
}

/// Gives every file its digest. Those that are not known are read, by several threads where they are many. Returns whether one
/// was written to since it was listed.
fn contents(tree: Tree<'_>, entries: &[Entry]) -> Result<bool> {
    let unknown = unread(tree, entries);
    let (few, all) = (unknown.len() < FEW, Mutex::new(unknown.into_iter()));
    let changed = AtomicBool::new(false);
    let work = || -> Result<()> {
        loop {
            let next = all.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(entry) = next else { return Ok(()) };
            changed.fetch_or(content(tree, entry)?, Ordering::Relaxed);
        }
    };
    side_by_side(few, work)?;
    Ok(changed.into_inner())
}

/// The files whose digest is not known, after those that were read before have got theirs.
pub(crate) fn unread<'e>(tree: Tree<'_>, entries: &'e [Entry]) -> Vec<&'e Entry> {
    let mut unread = Vec::new();
    for entry in entries.iter().filter(|entry| entry.node == Node::File && entry.digest.get().is_none()) {
        match tree.known().and_then(|known| known.get(entry)) {
            Some(digest) => _ = entry.digest.set(digest),
            None => unread.push(entry),
        }
    }
    unread
}

/// Files that no second thread is started for.
pub(crate) const FEW: usize = 64;
/// Threads that read and write files at once: more have to wait for the same disk.
const MOST: usize = 4;

/// Does the work on as many threads as there are processors, or here alone.
///
/// # Errors
/// The first failure; what the others do meanwhile comes to its end.
pub(super) fn side_by_side(alone: bool, work: impl Fn() -> Result<()> + Sync) -> Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST);
    if alone || threads < 2 {
        return work();
    }
    std::thread::scope(|scope| {
        let start = |_| {
            let thread = std::thread::Builder::new().name("coracle-files".into());
            // Where there can be no more threads, those that are there do it all.
            thread.spawn_scoped(scope, &work).ok()
        };
        let others: Vec<_> = (1..threads).filter_map(start).collect();
        let mut done = work();
        for thread in others {
            let panicked = || Err(Error::new(Kind::Other, "a thread that reads or writes files panicked"));
            done = done.and(thread.join().unwrap_or_else(|_| panicked()));
        }
        done
    })
}

/// Reads a file for its digest. Returns whether it was written to since it was listed.
fn content(tree: Tree<'_>, entry: &Entry) -> Result<bool> {
    let source = Source::open(tree, entry)?;
    let mut hash = Hash::new();
    hash.update_reader(&source.file).call(|| format!("read({:?})", entry.path))?;
    source.end(Some(&hash))
}
