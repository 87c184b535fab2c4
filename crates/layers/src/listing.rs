//! The members of a layer's tar, listed before they are written: first all that is no file, in the order of names, then the
//! files, those that changed last at the end. So two layers of which one came from the other by a few changes begin with the
//! same bytes, for as long as it can be; what was hashed of the one need not be hashed again, see [`Marks`].

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use coracle_host::Dir;

use crate::diff::{self, Members, Packing};
use crate::hashing::Hashed;
use crate::marks::{Marks, Print};
use crate::tar::{Entry, What, Writer};
use crate::{Context, Result};

/// What a layer's tar has in it.
pub(crate) struct Listing {
    pub members: Vec<Member>,
    /// Bytes of all files, each once.
    pub content: u64,
}

/// One of them.
pub(crate) struct Member {
    pub entry: Entry,
    /// Of a file; that of one that is still to come is told when it is read.
    pub inode: Option<u64>,
    /// Which of those that are still to come.
    pub awaited: Option<usize>,
}

/// No inode of a file.
const UNREAD: u64 = 0;
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

    fn file(&mut self, _: &Dir, _: &[u8], entry: Entry, inode: u64) -> Result<u64> {
        let size = if let What::File { size } = entry.what { size } else { 0 };
        self.files.push(Member { entry, inode: Some(inode), awaited: None });
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
        files.sort_unstable_by(|a, b| {
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
    pub fn common(&self, known: &Marks, marks: &mut Marks) -> (usize, Print) {
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
    pub fn write<W: std::io::Write>(&self, tree: &Dir, out: &mut Writer<W>) -> Result<Option<u64>> {
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
