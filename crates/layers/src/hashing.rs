//! The digest of a tar that nobody writes: its members are hashed one after another, as far as their files are there.

use coracle_host::Dir;

use crate::arrivals::Take;
use crate::blobs::Blob;
use crate::hasher::Hasher;
use crate::listing::Listing;
use crate::marks::{Come, Marks, Print};
use crate::tar::{What, Writer};
use crate::{Error, Result};

/// Bytes that are read from files before it is worth to hash them beside that.
const FEW: u64 = 4 << 20;

/// A tar's digest, and how far its hash had come where.
pub(crate) struct Hashed {
    pub blob: Blob,
    /// Members that were not hashed again, what they come to, and the marks of them.
    pub from: usize,
    pub print: Print,
    pub begun: Marks,
    /// At the places after them where marks are due.
    pub come: Vec<Come>,
}

/// The hash of a listing's tar, on its way.
pub(crate) struct Hashing {
    listing: Listing,
    tree: Dir,
    stage: Stage,
}

enum Stage {
    /// Nothing was done so far. With the marks of another tar, what the two have in common is not read again.
    New(Hasher, Option<Marks>),
    Begun(Box<Begun>),
    /// A failure came in between; it has been told.
    Broken,
}

struct Begun {
    out: Writer<Hasher>,
    from: usize,
    print: Print,
    marks: Marks,
    /// The member that is next.
    next: usize,
    /// What the members before it come to, and where the last mark is.
    at: u64,
    last: u64,
    /// Bytes that were read from files.
    read: u64,
}

impl Hashing {
    /// Of a tree that has all of the listing, but what is still to come.
    pub fn new(listing: Listing, tree: &Dir, known: Option<Marks>, hasher: Hasher) -> Hashing {
        Hashing { listing, tree: tree.clone(), stage: Stage::New(hasher, known) }
    }

    /// Hashes it all where nothing is still to come.
    pub fn whole(mut self) -> Result<(Listing, Hashed)> {
        while self.next()?.is_some() {
            self.take(None)?;
        }
        self.finish()
    }

    /// The digest, once all members are hashed.
    pub fn finish(self) -> Result<(Listing, Hashed)> {
        let Stage::Begun(begun) = self.stage else { return Err(broken()) };
        let Begun { out, from, print, marks: begun, .. } = *begun;
        let (blob, come) = out.finish()?.finish()?;
        Ok((self.listing, Hashed { blob, from, print, begun, come }))
    }

    fn begin(&mut self) -> Result<Box<Begun>> {
        match std::mem::replace(&mut self.stage, Stage::Broken) {
            Stage::Begun(begun) => Ok(begun),
            Stage::Broken => Err(broken()),
            Stage::New(hasher, known) => {
                let mut marks = Marks::default();
                let (from, print) = match known {
                    Some(known) => self.listing.common(&known, &mut marks),
                    None => (0, Print::default()),
                };
                let out = Writer::new(marks.resume(hasher));
                let (at, last) = (print.weight(), marks.last());
                Ok(Box::new(Begun { out, from, print, marks, next: from, at, last, read: 0 }))
            }
        }
    }
}

impl Take for Hashing {
    fn next(&mut self) -> Result<Option<usize>> {
        let mut begun = self.begin()?;
        let awaited = loop {
            match self.listing.members.get(begun.next) {
                None => break None,
                Some(member) if member.awaited.is_some() => break member.awaited,
                Some(_) => begun.member(&mut self.listing, &self.tree, None)?,
            }
        };
        self.stage = Stage::Begun(begun);
        Ok(awaited)
    }

    fn take(&mut self, content: Option<&[u8]>) -> Result<()> {
        let mut begun = self.begin()?;
        begun.member(&mut self.listing, &self.tree, content)?;
        self.stage = Stage::Begun(begun);
        Ok(())
    }
}

impl Begun {
    /// Hashes the next member, with these bytes, or those that its file has.
    fn member(&mut self, listing: &mut Listing, tree: &Dir, content: Option<&[u8]>) -> Result<()> {
        let Some(member) = listing.members.get_mut(self.next) else { return Ok(()) };
        self.next += 1;
        if Marks::is_due(self.last, self.at) {
            self.out.get_mut().mark().map_err(|error| Error::reading("layer", &error))?;
            self.last = self.at;
        }
        self.at += Print::weight_of(&member.entry);
        if let Some(content) = content {
            return self.out.add_bytes(&member.entry, content);
        }
        if let What::File { size } = member.entry.what {
            self.read += size;
        }
        if self.read > FEW {
            self.out.get_mut().beside();
        }
        member.inode = member.write(tree, &mut self.out)?;
        Ok(())
    }
}

fn broken() -> Error {
    Error::new(coracle_host::Kind::Other, "the hash of a layer was broken off")
}
