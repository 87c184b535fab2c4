//! The members of a layer's tar, listed before they are written: first all that is no file, in the order of names, then the
//! files, those that changed last at the end. So two layers of which one came from the other by a few changes begin with the
//! same bytes, for as long as it can be; what was hashed of the one need not be hashed again, see [`Marks`].

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use coracle_host::Dir;
use rustix::fs::Stat;

use crate::diff::{self, Members, Packing};
use crate::hasher::Hasher;
use crate::marks::{Marks, Print};
use crate::tar::{Entry, What, Writer, head};
use crate::{Context, Error, Result};

/// What a layer's tar has in it.
pub(crate) struct Listing {
    members: Vec<Member>,
    /// Bytes of all files, each once.
    pub content: u64,
}

struct Member {
    entry: Entry,
    /// Of a file.
    inode: Option<u64>,
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
        group.push(Member { entry, inode: None });
        Ok(())
    }

    fn file(&mut self, _: &Dir, _: &[u8], entry: Entry, stat: &Stat) -> Result<u64> {
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        self.files.push(Member { entry, inode: Some(stat.st_ino) });
        Ok(size)
    }
}

impl Listing {
    /// Of a tree that nobody else works in.
    pub fn of(tree: &Dir, how: &Packing<'_>) -> Result<Listing> {
        let mut collect = Collect::default();
        let content = diff::pack(tree, how, &mut collect)?;
        let Collect { others: mut members, mut files } = collect;
        // All names of a file have one time.
        files.sort_by(|a, b| {
            let key = |member: &Member| (member.entry.mtime, member.inode.is_none());
            key(a).cmp(&key(b)).then_with(|| a.entry.path.cmp(&b.entry.path))
        });
        members.append(&mut files);
        Ok(Listing { members, content })
    }

    /// Writes them all, and the end mark.
    pub fn write<W: std::io::Write>(&self, tree: &Dir, mut out: Writer<W>) -> Result<W> {
        for member in &self.members {
            member.write(tree, &head(&member.entry)?, &mut out)?;
        }
        out.finish()
    }

    /// Hashes the tar without writing it. What it has in common with the one that `known` is about is not read again.
    pub fn hash(&self, tree: &Dir, known: Option<&Marks>, hasher: Hasher) -> Result<(Hasher, Marks)> {
        let mut print = Print::default();
        let (mut from, mut marks) = (0, Marks::default());
        let mut hasher = match known {
            Some(known) => {
                (from, print) = self.common(known, &mut marks)?;
                marks.resume(hasher)
            }
            None => hasher,
        };
        if from == 0 {
            print = Print::default();
        }
        let mut out = Writer::new(hasher);
        for member in self.members.iter().skip(from) {
            let head = head(&member.entry)?;
            if marks.is_due(print.bytes()) {
                out.get_mut().mark().map_err(|error| Error::reading("layer", &error))?;
                marks.add(&print);
            }
            print.add(&head, member.inode, member.size());
            member.write(tree, &head, &mut out)?;
        }
        hasher = out.finish()?;
        Ok((hasher, marks))
    }

    /// How many members are the same as those before the last mark that is the same, and what they come to.
    fn common(&self, known: &Marks, marks: &mut Marks) -> Result<(usize, Print)> {
        let (mut print, mut last) = (Print::default(), (0, Print::default()));
        for (nth, member) in self.members.iter().enumerate() {
            if marks.is_due(print.bytes()) {
                if !marks.take(known, &print) {
                    break;
                }
                last = (nth, print.clone());
            }
            print.add(&head(&member.entry)?, member.inode, member.size());
        }
        Ok(last)
    }
}

impl Member {
    fn size(&self) -> u64 {
        match self.entry.what {
            What::File { size } => size,
            _ => 0,
        }
    }

    fn write<W: std::io::Write>(&self, tree: &Dir, head: &[u8], out: &mut Writer<W>) -> Result<()> {
        let doing = || format!("pack {}", self.entry.name());
        if self.inode.is_none() {
            return out.add_with_head(head, &self.entry, &mut std::io::empty()).context(doing);
        }
        let path = Path::new(std::ffi::OsStr::from_bytes(&self.entry.path));
        let (mut file, _) = diff::open(tree, path, &self.entry)?;
        out.add_with_head(head, &self.entry, &mut file).context(doing)
    }
}
