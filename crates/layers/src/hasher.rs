//! Hashing on a thread of its own: SHA-256 takes about as long as reading does.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use coracle_host::Kind;
use sha2::digest::common::hazmat::SerializableState;
use sha2::{Digest as _, Sha256};

use crate::blobs::Blob;
use crate::marks::Come;
use crate::{Digest, Error, Result};

const CHUNK: usize = 256 << 10;
/// Chunks on their way to the thread, and as many on their way back.
const CHUNKS: usize = 4;

/// Hashes and counts what is written to it. More than a chunk of it is hashed beside the caller's own work.
pub(crate) struct Hasher {
    chunk: Vec<u8>,
    bytes: u64,
    /// Bytes that were hashed before.
    begun: u64,
    state: State,
    /// No thread is started.
    alone: bool,
    /// Those that were asked for, as far as they are here.
    marks: Vec<Come>,
}

enum State {
    Here(Sha256),
    There {
        to: SyncSender<Message>,
        back: Receiver<Vec<u8>>,
        thread: JoinHandle<(Sha256, Vec<Come>)>,
    },
    /// A failure came in between; it has been told.
    Broken,
}

enum Message {
    Bytes(Vec<u8>),
    /// After so many bytes.
    Mark(u64),
}

impl Hasher {
    /// One that goes on from a hash of so many bytes.
    pub fn at(mut self, hash: Sha256, bytes: u64) -> Hasher {
        (self.state, self.bytes, self.begun) = (State::Here(hash), bytes, bytes);
        self
    }

    /// Keeps how the hash stands here.
    pub fn mark(&mut self) -> io::Result<()> {
        match &mut self.state {
            State::Here(hash) => {
                hash.update(&self.chunk);
                self.chunk.clear();
                self.marks.push(Come { bytes: self.bytes, state: hash.serialize() });
                Ok(())
            }
            State::There { .. } => {
                self.pass_on()?;
                let State::There { to, .. } = &self.state else { return Err(gone()) };
                to.send(Message::Mark(self.bytes)).map_err(|_| gone())
            }
            State::Broken => Err(gone()),
        }
    }

    pub fn new() -> Hasher {
        let state = State::Here(Sha256::new());
        let marks = Vec::new();
        Hasher { chunk: Vec::new(), bytes: 0, begun: 0, state, alone: false, marks }
    }

    /// All of it is hashed here, by who writes it, until [`Hasher::beside`] is called: what is in memory already takes no time
    /// to come by.
    pub fn alone(mut self) -> Hasher {
        self.alone = true;
        self
    }

    /// From here on more than a chunk is hashed beside the caller's own work.
    pub fn beside(&mut self) {
        self.alone = false;
    }

    /// The digest, and how the hash stood at the marks.
    pub fn finish(mut self) -> Result<(Blob, Vec<Come>)> {
        let lost = || Error::new(Kind::Other, "the thread that hashes a layer panicked");
        let hash = match std::mem::replace(&mut self.state, State::Broken) {
            State::Here(mut hash) => {
                hash.update(&self.chunk);
                hash
            }
            State::There { to, back, thread } => {
                to.send(Message::Bytes(std::mem::take(&mut self.chunk))).map_err(|_| lost())?;
                drop((to, back));
                let (hash, mut marks) = thread.join().map_err(|_| lost())?;
                self.marks.append(&mut marks);
                hash
            }
            State::Broken => return Err(lost()),
        };
        let blob = Blob { digest: Digest::from_hash(hash), size: self.bytes };
        Ok((blob, std::mem::take(&mut self.marks)))
    }

    /// The chunk is full.
    fn pass_on(&mut self) -> io::Result<()> {
        if let State::Here(hash) = &mut self.state {
            if self.bytes - self.begun <= CHUNK as u64 {
                hash.update(&self.chunk);
                self.chunk.clear();
                return Ok(());
            }
            let hash = hash.clone();
            self.state = start(hash)?;
        }
        let State::There { to, back, .. } = &self.state else { return Err(gone()) };
        let mut next = back.recv().map_err(|_| gone())?;
        next.clear();
        to.send(Message::Bytes(std::mem::replace(&mut self.chunk, next))).map_err(|_| gone())
    }
}

fn start(mut hash: Sha256) -> io::Result<State> {
    let (to, messages) = sync_channel(CHUNKS);
    let (give, back) = sync_channel(CHUNKS + 1);
    for _ in 0..CHUNKS {
        // There is room for all of them.
        let _ = give.send(Vec::with_capacity(CHUNK));
    }
    let thread = Builder::new().name("coracle-hash".into()).spawn(move || {
        let mut marks = Vec::new();
        for message in messages {
            match message {
                Message::Bytes(chunk) => {
                    hash.update(&chunk);
                    // Who has written all takes none back.
                    let _ = give.send(chunk);
                }
                Message::Mark(bytes) => marks.push(Come { bytes, state: hash.serialize() }),
            }
        }
        (hash, marks)
    })?;
    Ok(State::There { to, back, thread })
}

fn gone() -> io::Error {
    io::Error::other("the thread that hashes a layer is gone")
}

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.alone
            && let State::Here(hash) = &mut self.state
        {
            hash.update(bytes);
            self.bytes += bytes.len() as u64;
            self.begun = self.bytes;
            return Ok(bytes.len());
        }
        if self.chunk.capacity() < CHUNK {
            self.chunk.reserve_exact(CHUNK - self.chunk.len());
        }
        let take = bytes.len().min(CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..take]);
        self.bytes += take as u64;
        if self.chunk.len() == CHUNK {
            self.pass_on()?;
        }
        Ok(take)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Hasher {
    /// No thread outlives what it was started for.
    fn drop(&mut self) {
        if let State::There { to, back, thread } = std::mem::replace(&mut self.state, State::Broken) {
            drop((to, back));
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_digest_of_what_was_written_in_any_pieces() {
        let all: Vec<u8> = (0..5 * CHUNK + 77).map(|n| (n % 251) as u8).collect();
        for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, all.len()] {
            for piece in [1000, CHUNK, all.len()] {
                let mut hasher = Hasher::new();
                for bytes in all[..length].chunks(piece) {
                    hasher.write_all(bytes).unwrap();
                }
                let expect = Blob { digest: Digest::of(&all[..length]), size: length as u64 };
                assert_eq!(hasher.finish().unwrap().0, expect);
            }
        }
        // From every mark the hash goes on to the same digest.
        for length in [1000, all.len()] {
            let mut hasher = Hasher::new();
            let places = [0, 64, length / 2 / 64 * 64, length / 64 * 64];
            let mut at = 0;
            for place in places {
                hasher.write_all(&all[at..place]).unwrap();
                hasher.mark().unwrap();
                at = place;
            }
            hasher.write_all(&all[at..length]).unwrap();
            let (whole, marks) = hasher.finish().unwrap();
            assert_eq!(whole.digest, Digest::of(&all[..length]));
            assert_eq!(marks.len(), places.len());
            for (place, mark) in places.into_iter().zip(marks) {
                assert_eq!(mark.bytes, place as u64);
                let hash = Sha256::deserialize(&mark.state).unwrap();
                let mut hasher = Hasher::new().at(hash, place as u64);
                hasher.write_all(&all[place..length]).unwrap();
                assert_eq!(hasher.finish().unwrap().0, whole, "from {place} of {length}");
            }
        }
        // Alone, and from somewhere on not.
        for until in [0, 1000, 3 * CHUNK] {
            let mut hasher = Hasher::new().alone();
            hasher.write_all(&all[..until]).unwrap();
            hasher.mark().unwrap();
            assert!(matches!(hasher.state, State::Here(_)));
            hasher.beside();
            hasher.write_all(&all[until..]).unwrap();
            let (whole, marks) = hasher.finish().unwrap();
            assert_eq!((whole.digest, whole.size), (Digest::of(&all), all.len() as u64));
            assert_eq!(marks[0].bytes, until as u64);
        }
        // Given up half-way.
        let mut hasher = Hasher::new();
        hasher.write_all(&all).unwrap();
        drop(hasher);
    }
}
