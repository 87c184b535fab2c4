//! Files on their way into a snapshot: picked from a tree, hashed, and put in place.

pub(crate) mod contents;
pub(crate) mod digest;
mod dirs;
pub(crate) mod known;
pub(crate) mod lay;
pub(crate) mod order;
pub(crate) mod owner;
pub(crate) mod pick;
pub(crate) mod put;
mod select;
mod source;
#[cfg(test)]
mod tests;
pub(crate) mod unpack;
mod walk;
pub(crate) mod way;
mod xattrs;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rustix::fs::Timespec;

use self::pick::Tree;
use crate::remote::fetch::Fetched;

/// What one source of COPY means: a file, or a directory whose contents are copied.
#[derive(Debug)]
pub(crate) struct Picked {
    /// Its last component, which a file keeps where the destination is a directory.
    pub(crate) name: OsString,
    /// Where it is, if it was fetched; else in the tree that was picked from.
    pub(crate) remote: Option<Arc<Fetched>>,
    /// Itself first, then what is below it, parents before children, by name.
    pub(crate) entries: Vec<Entry>,
}

impl Picked {
    /// A here-document as a file.
    pub(crate) fn inline(name: &str, text: &str) -> Picked {
        let entry = Entry {
            below: PathBuf::new(),
            path: PathBuf::new(),
            node: Node::Text(text.to_owned()),
            mode: 0o644,
            owner: (0, 0),
            modified: None,
            stamp: Stamp::default(),
            xattrs: Vec::new(),
            digest: OnceLock::new(),
        };
        Picked { name: name.into(), remote: None, entries: vec![entry] }
    }

    /// Where its files are to be read: what was fetched is a tree of its own.
    pub(crate) fn tree<'t>(&'t self, of: Option<Tree<'t>>) -> Option<Tree<'t>> {
        self.remote.as_ref().map(|fetched| fetched.tree(None)).or(of)
    }

    pub(crate) fn is_dir(&self) -> bool {
        self.entries.first().is_some_and(|e| e.node == Node::Dir)
    }
}

/// One file, directory, link, fifo or device.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Relative to what was picked; empty for that itself.
    pub(crate) below: PathBuf,
    /// Relative to the root of the tree, links resolved.
    pub(crate) path: PathBuf,
    pub(crate) node: Node,
    /// Permission bits.
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    /// `None` is now.
    pub(crate) modified: Option<Timespec>,
    pub(crate) stamp: Stamp,
    /// Name and value.
    pub(crate) xattrs: Vec<(OsString, Vec<u8>)>,
    /// Of a file's content, as far as it was read.
    pub(crate) digest: OnceLock<[u8; 32]>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Node {
    File,
    Dir,
    Link(OsString),
    Fifo,
    Device {
        block: bool,
        /// As mknod(2) has it.
        number: u64,
    },
    /// A file whose content is here.
    Text(String),
}

/// Changes when a file does: how a write between hashing and copying is noticed, and what [`known`] goes by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    pub(crate) size: u64,
    changed: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(stat: &rustix::fs::Stat) -> Stamp {
        Stamp {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            changed: (stat.st_ctime, i64::try_from(stat.st_ctime_nsec).unwrap_or(0)),
        }
    }
}
