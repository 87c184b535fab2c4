//! How far the hash of a layer's tar had come at certain places: where another tar begins with the same bytes, its hash goes
//! on from there.
//!
//! Which bytes those are is told by a print of the members before: all that their headers say, and the inodes of their files. A
//! file that has the inode of a file of that layer *is* that file: the layer is kept while it is compared, and files of layers never
//! change.

use coracle_host::Dir;
use sha2::digest::common::hazmat::{SerializableState, SerializedState};
use sha2::{Digest as _, Sha256};

use crate::hasher::Hasher;
use crate::tar::{BLOCK, Entry, What};

/// The format; others are not read.
const MAGIC: &[u8; 16] = b"coracle marks 2\n";
/// Weight from one mark to the next, at least.
const APART: u64 = 1 << 20;

pub(crate) type State = SerializedState<Sha256>;

/// What the members up to a place come to.
#[derive(Clone, Default)]
pub(crate) struct Print {
    hash: Sha256,
    weight: u64,
}

impl Print {
    /// A member, and the inode that has its data.
    pub fn add(&mut self, entry: &Entry, inode: Option<u64>) {
        let Entry { path, what, mode, uid, gid, mtime, xattrs } = entry;
        let (kind, number, target): (u8, u64, &[u8]) = match what {
            What::File { size } => (0, *size, &[]),
            What::Dir => (1, 0, &[]),
            What::Symlink(to) => (2, 0, to),
            What::Hardlink(to) => (3, 0, to),
            What::Char { major, minor } => (4, u64::from(*major) << 32 | u64::from(*minor), &[]),
            What::Block { major, minor } => (5, u64::from(*major) << 32 | u64::from(*minor), &[]),
            What::Fifo => (6, 0, &[]),
        };
        let mut bytes = Vec::with_capacity(path.len() + 128);
        bytes.push(kind);
        for number in [number, inode.unwrap_or(0), xattrs.len() as u64] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for number in [*mode, *uid, *gid, mtime.nanos] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&mtime.secs.to_le_bytes());
        let mut field = |field: &[u8]| {
            bytes.extend_from_slice(&(field.len() as u64).to_le_bytes());
            bytes.extend_from_slice(field);
        };
        field(path);
        field(target);
        for (name, value) in xattrs {
            field(name);
            field(value);
        }
        self.hash.update(&bytes);
        self.weight += Print::weight_of(entry);
    }

    /// About as much as the tar has so far. It can be told without making its headers, and says where marks are due.
    pub fn weight(&self) -> u64 {
        self.weight
    }

    /// What a member adds to that.
    pub fn weight_of(entry: &Entry) -> u64 {
        let size = if let What::File { size } = entry.what { size } else { 0 };
        BLOCK as u64 + size.next_multiple_of(BLOCK as u64)
    }
}

/// How far a hash has come: bytes of the tar, and the state after them.
#[derive(Clone)]
pub(crate) struct Come {
    pub bytes: u64,
    pub state: State,
}

#[derive(Clone)]
struct Mark {
    weight: u64,
    print: [u8; 32],
    /// Missing until it is known.
    come: Option<Come>,
}

/// The marks of one tar, in their order.
#[derive(Default)]
pub(crate) struct Marks(Vec<Mark>);

impl Marks {
    /// Whether there is to be one at this weight, where the last one is. That depends on nothing but what is before.
    pub fn is_due(last: u64, weight: u64) -> bool {
        weight >= last + APART
    }

    /// Where the last one is.
    pub fn last(&self) -> u64 {
        self.0.last().map_or(0, |mark| mark.weight)
    }

    /// One more, whose state is still to come.
    pub fn add(&mut self, print: &Print) {
        let mark = Mark { weight: print.weight, print: print.hash.clone().finalize().into(), come: None };
        self.0.push(mark);
    }

    /// Takes the next one from another tar's, if it is the same here.
    pub fn take(&mut self, known: &Marks, print: &Print) -> bool {
        let here: [u8; 32] = print.hash.clone().finalize().into();
        match known.0.get(self.0.len()) {
            Some(mark) if mark.weight == print.weight && mark.print == here => {
                self.0.push(mark.clone());
                true
            }
            _ => false,
        }
    }

    /// A hash that has come to the last one.
    pub fn resume(&self, hasher: Hasher) -> Hasher {
        match self.0.last().and_then(|mark| mark.come.as_ref()) {
            Some(come) => match Sha256::deserialize(&come.state) {
                Ok(hash) => hasher.at(hash, come.bytes),
                // Those that were read were tried.
                Err(_) => hasher,
            },
            None => hasher,
        }
    }

    /// Gives the marks that were added their states, in their order.
    pub fn fill(&mut self, come: Vec<Come>) {
        for (mark, come) in self.0.iter_mut().filter(|mark| mark.come.is_none()).zip(come) {
            mark.come = Some(come);
        }
    }

    /// As a file beside the tree that they are about; none where there is nothing to tell.
    pub fn to_bytes(&self, tree: &Dir) -> Option<Vec<u8>> {
        let mut bytes = preamble(tree)?;
        for mark in &self.0 {
            let come = mark.come.as_ref()?;
            bytes.extend_from_slice(&mark.weight.to_le_bytes());
            bytes.extend_from_slice(&come.bytes.to_le_bytes());
            bytes.extend_from_slice(&mark.print);
            bytes.extend_from_slice(&come.state);
        }
        let sum = Sha256::digest(&bytes);
        bytes.extend_from_slice(&sum);
        (!self.0.is_empty()).then_some(bytes)
    }

    /// From such a file; none where it is damaged, or about another tree, or the hash now says its state in another way.
    pub fn from_bytes(bytes: &[u8], tree: &Dir) -> Option<Marks> {
        let (bytes, sum) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
        if Sha256::digest(bytes).as_slice() != sum {
            return None;
        }
        let rows = bytes.strip_prefix(preamble(tree)?.as_slice())?;
        let length = 2 * 8 + 32 + State::default().len();
        let row = |row: &[u8]| -> Option<Mark> {
            let state = State::try_from(row.get(48..)?).ok()?;
            Sha256::deserialize(&state).ok()?;
            let bytes = u64::from_le_bytes(row.get(8..16)?.try_into().ok()?);
            Some(Mark {
                weight: u64::from_le_bytes(row.get(..8)?.try_into().ok()?),
                print: row.get(16..48)?.try_into().ok()?,
                come: Some(Come { bytes, state }),
            })
        };
        rows.chunks(length).map(row).collect::<Option<Vec<_>>>().map(Marks)
    }
}

/// What has to be the same when marks are read: the way in which a state is written, and which tree the inodes are of.
fn preamble(tree: &Dir) -> Option<Vec<u8>> {
    let stat = rustix::fs::fstat(tree).ok()?;
    let mut probe = Sha256::new();
    probe.update([7; 3 * 64]);
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&probe.serialize());
    bytes.extend_from_slice(&stat.st_dev.to_le_bytes());
    bytes.extend_from_slice(&stat.st_ino.to_le_bytes());
    Some(bytes)
}
