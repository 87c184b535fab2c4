//! How far the hash of a layer's tar had come at certain places: where another tar begins with the same bytes, its hash goes
//! on from there.
//!
//! Which bytes those are is told by a print of the members before: their headers, and the inodes of their files. A file that
//! has the inode of a file of that layer *is* that file: the layer is kept while it is compared, and files of layers never
//! change.

use coracle_host::Dir;
use sha2::digest::common::hazmat::{SerializableState, SerializedState};
use sha2::{Digest as _, Sha256};

use crate::hasher::Hasher;
use crate::tar::BLOCK;

/// The format; others are not read.
const MAGIC: &[u8; 16] = b"coracle marks 1\n";
/// Bytes from one mark to the next, at least.
const APART: u64 = 1 << 20;

pub(crate) type State = SerializedState<Sha256>;

/// What the members up to a place come to.
#[derive(Clone, Default)]
pub(crate) struct Print {
    hash: Sha256,
    bytes: u64,
}

impl Print {
    /// A member: the blocks before its data, the inode that has these, and their length.
    pub fn add(&mut self, head: &[u8], inode: Option<u64>, size: u64) {
        self.hash.update((head.len() as u64).to_le_bytes());
        self.hash.update(head);
        self.hash.update(inode.unwrap_or(0).to_le_bytes());
        self.bytes += Print::length(head, size);
    }

    /// Bytes that a member takes in a tar.
    pub fn length(head: &[u8], size: u64) -> u64 {
        head.len() as u64 + size.next_multiple_of(BLOCK as u64)
    }

    /// Bytes of the tar so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[derive(Clone)]
struct Mark {
    bytes: u64,
    print: [u8; 32],
    /// Missing until it is known.
    state: Option<State>,
}

/// The marks of one tar, in their order.
#[derive(Default)]
pub(crate) struct Marks(Vec<Mark>);

impl Marks {
    /// Whether there is to be one after so many bytes, where the last one is. That depends on nothing but what is before.
    pub fn is_due(last: u64, bytes: u64) -> bool {
        bytes >= last + APART
    }

    /// Where the last one is.
    pub fn last(&self) -> u64 {
        self.0.last().map_or(0, |mark| mark.bytes)
    }

    /// One more, whose state is still to come.
    pub fn add(&mut self, print: &Print) {
        let mark = Mark { bytes: print.bytes, print: print.hash.clone().finalize().into(), state: None };
        self.0.push(mark);
    }

    /// Takes the next one from another tar's, if it is the same here.
    pub fn take(&mut self, known: &Marks, print: &Print) -> bool {
        let here: [u8; 32] = print.hash.clone().finalize().into();
        match known.0.get(self.0.len()) {
            Some(mark) if mark.bytes == print.bytes && mark.print == here => {
                self.0.push(mark.clone());
                true
            }
            _ => false,
        }
    }

    /// A hash that has come to the last one.
    pub fn resume(&self, hasher: Hasher) -> Hasher {
        match self.0.last().and_then(|mark| Some((mark.bytes, mark.state.as_ref()?))) {
            Some((bytes, state)) => match Sha256::deserialize(state) {
                Ok(hash) => hasher.at(hash, bytes),
                // Those that were read were tried.
                Err(_) => hasher,
            },
            None => hasher,
        }
    }

    /// Gives the marks that were added their states, in their order.
    pub fn fill(&mut self, states: Vec<State>) {
        for (mark, state) in self.0.iter_mut().filter(|mark| mark.state.is_none()).zip(states) {
            mark.state = Some(state);
        }
    }

    /// As a file beside the tree that they are about; none where there is nothing to tell.
    pub fn to_bytes(&self, tree: &Dir) -> Option<Vec<u8>> {
        let mut bytes = preamble(tree)?;
        for mark in &self.0 {
            bytes.extend_from_slice(&mark.bytes.to_le_bytes());
            bytes.extend_from_slice(&mark.print);
            bytes.extend_from_slice(mark.state.as_ref()?);
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
        let length = 8 + 32 + State::default().len();
        let row = |row: &[u8]| -> Option<Mark> {
            let state = State::try_from(row.get(40..)?).ok()?;
            Sha256::deserialize(&state).ok()?;
            Some(Mark {
                bytes: u64::from_le_bytes(row.get(..8)?.try_into().ok()?),
                print: row.get(8..40)?.try_into().ok()?,
                state: Some(state),
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
