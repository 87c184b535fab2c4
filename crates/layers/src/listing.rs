//! The members of a layer's tar, listed before they are written: first all that is no file, in the order of names, then the
//! files, those that changed last at the end. So two layers of which one came from the other by a few changes begin with the
//! same bytes, for as long as it can be; what was hashed of the one need not be hashed again, see [`Marks`].

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use coracle_host::Dir;
use rustix::fs::Stat;

use crate::blobs::Blob;
use crate::diff::{self, Members, Packing};
use crate::hasher::Hasher;
use crate::marks::{Come, Marks, Print};
use crate::tar::{Entry, What, Writer};
use crate::{Context, Error, Result};

/// What a layer's tar has in it.
pub(crate) struct Listing {
    members: Vec<Member>,
    /// Bytes of all files, each once.
    pub content: u64,
}

struct Member {
    entry: Entry,
    /// Of a file; that of one that is still to come is told when it is read.
    inode: Option<u64>,
    /// Which of those that are still to come.
    awaited: Option<usize>,
}

/// Where files come from that are not there yet.
pub(crate) trait Awaited {
    /// Returns when the `nth` is there, with all its bytes where they are at hand: then it is not read.
    fn wait(&mut self, nth: usize) -> Result<Option<Vec<u8>>>;

    /// The bytes were used.
    fn give_back(&mut self, content: Vec<u8>);
}

/// Nothing is awaited.
pub(crate) struct Nowhere;

impl Awaited for Nowhere {
    fn wait(&mut self, _: usize) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }

    fn give_back(&mut self, _: Vec<u8>) {}
}

/// No inode of a file.
const UNREAD: u64 = 0;
/// Bytes that are read from files before it is worth to hash them beside that.
const FEW: u64 = 4 << 20;

/// A tar's digest, and how far its hash had come where.
pub(crate) struct Hashed {
    pub blob: Blob,
    /// Members that were not hashed again, what they come to, and the marks of them.
    from: usize,
    print: Print,
    begun: Marks,
    /// At the places after them where marks are due.
    come: Vec<Come>,
}

#[derive(Default)]
struct Collect {
    others: Vec<Member>,
    files: Vec<Member>,
}

impl Members for Collect {
    fn entry(&mut self, entry: Entry) -> Result<()> {
        // A further name of a file stands after the file.
        let group = if matches!(entry.what, What::Hardlink(_)) { &mut self.files } else { &mut self.others };
        group.push(Member { entry, inode: None, awaited: None });
        Ok(())
    }

    fn file(&mut self, _: &Dir, _: &[u8], entry: Entry, stat: &Stat) -> Result<u64> {
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        self.files.push(Member { entry, inode: Some(stat.st_ino), awaited: None });
        Ok(size)
    }
}

impl Listing {
    /// Of a tree that nobody else works in.
    pub fn of(tree: &Dir, how: &Packing<'_>) -> Result<Listing> {
        Listing::with(tree, how, Vec::new())
    }

    /// Of a tree into which these files will come, whose inodes may be known.
    pub fn with(tree: &Dir, how: &Packing<'_>, coming: Vec<(Entry, Option<u64>)>) -> Result<Listing> {
        let mut collect = Collect::default();
        let content = diff::pack(tree, how, &mut collect)?;
        let Collect { others: mut members, mut files } = collect;
        let coming = coming.into_iter().enumerate();
        files.extend(coming.map(|(nth, (entry, inode))| Member {
            entry,
            inode: Some(inode.unwrap_or(UNREAD)),
            awaited: Some(nth),
        }));
        // All names of a file have one time.
        files.sort_by(|a, b| {
            let key = |member: &Member| (member.entry.mtime, member.inode.is_none());
            key(a).cmp(&key(b)).then_with(|| a.entry.path.cmp(&b.entry.path))
        });
        members.append(&mut files);
        Ok(Listing { members, content })
    }

    /// Whether they are the same members, down to the inodes of those that were read.
    pub fn is_same(&self, other: &Listing) -> bool {
        let same = |(a, b): (&Member, &Member)| {
            let handed = [a, b].iter().any(|member| member.inode == Some(UNREAD));
            a.inode.is_some() == b.inode.is_some() && (handed || a.inode == b.inode) && a.entry == b.entry
        };
        self.members.len() == other.members.len() && self.members.iter().zip(&other.members).all(same)
    }

    /// Writes them all, and the end mark.
    pub fn write<W: std::io::Write>(&self, tree: &Dir, mut out: Writer<W>) -> Result<W> {
        for member in &self.members {
            member.write(tree, &mut out)?;
        }
        out.finish()
    }

    /// Hashes the tar without writing it. What it has in common with the one that `known` is about is not read again. For
    /// each file that is still to come, `awaited` is asked before it is read.
    pub fn hash(
        &mut self,
        tree: &Dir,
        known: Option<&Marks>,
        hasher: Hasher,
        awaited: &mut dyn Awaited,
    ) -> Result<Hashed> {
        let mut begun = Marks::default();
        let (from, print) = match known {
            Some(known) => self.common(known, &mut begun),
            None => (0, Print::default()),
        };
        let mut out = Writer::new(begun.resume(hasher));
        let (mut at, mut last, mut read) = (print.weight(), begun.last(), 0);
        for member in self.members.iter_mut().skip(from) {
            if Marks::is_due(last, at) {
                out.get_mut().mark().map_err(|error| Error::reading("layer", &error))?;
                last = at;
            }
            at += Print::weight_of(&member.entry);
            let content = member.awaited.map(|nth| awaited.wait(nth)).transpose()?.flatten();
            if let Some(content) = content {
                out.add_bytes(&member.entry, &content)?;
                awaited.give_back(content);
                continue;
            }
            if let What::File { size } = member.entry.what {
                read += size;
            }
            if read > FEW {
                out.get_mut().beside();
            }
            member.inode = member.write(tree, &mut out)?;
        }
        let (blob, come) = out.finish()?.finish()?;
        Ok(Hashed { blob, from, print, begun, come })
    }

    /// The marks of this tar, which was hashed.
    pub fn marks(&self, hashed: Hashed) -> Marks {
        let Hashed { from, mut print, begun: mut marks, come, .. } = hashed;
        for member in self.members.iter().skip(from) {
            if Marks::is_due(marks.last(), print.weight()) {
                marks.add(&print);
            }
            print.add(&member.entry, member.inode);
        }
        marks.fill(come);
        marks
    }

    /// How many members are the same as those before the last mark that is the same, and what they come to.
    fn common(&self, known: &Marks, marks: &mut Marks) -> (usize, Print) {
        let (mut print, mut last) = (Print::default(), (0, Print::default()));
        for (nth, member) in self.members.iter().enumerate() {
            if Marks::is_due(marks.last(), print.weight()) {
                if !marks.take(known, &print) {
                    break;
                }
                last = (nth, print.clone());
            }
            print.add(&member.entry, member.inode);
        }
        last
    }
}

impl Member {
    /// Returns the inode whose bytes were written, if it has any.
    fn write<W: std::io::Write>(&self, tree: &Dir, out: &mut Writer<W>) -> Result<Option<u64>> {
        let doing = || format!("pack {}", self.entry.name());
        if self.inode.is_none() {
            out.add(&self.entry, &mut std::io::empty()).context(doing)?;
            return Ok(None);
        }
        let path = Path::new(std::ffi::OsStr::from_bytes(&self.entry.path));
        let (mut file, stat) = diff::open(tree, path, &self.entry)?;
        out.add(&self.entry, &mut file).context(doing)?;
        Ok(Some(stat.st_ino))
    }
}
