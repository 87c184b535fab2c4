//! Packing: an overlay's upper directory becomes the archive of a layer (OCI image-spec, layer.md, "Representing
//! Changes"). The same tree gives the same bytes.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use coracle_host::{Call, Dir, Kind};
use rustix::fs::{AtFlags, FileType, OFlags, Stat};

use crate::apply::{Attributes, is_reserved, is_whiteout, set_time};
use crate::seen::Seen;
use crate::skip::Skip;
use crate::tar::{Entry, Time, What, Writer, show};
use crate::xattr::{is_opaque, os};
use crate::{Context, Error, Result};

/// What is right only for the tree at hand.
pub(crate) struct Packing<'a> {
    /// The root of the layers below. A root that differs from it only in its time is not part of the layer.
    pub root: &'a Attributes,
    /// Times later than this are set to it (seconds since the epoch), in the tree, too.
    pub clamp: Option<i64>,
    /// What was made only to be mounted over. With it the tree is left as it is, whatever it holds.
    pub skip: Option<&'a Skip>,
    /// It is a tree, not what changes one: names and attributes mean nothing but themselves.
    pub plain: bool,
    /// Files that need not be looked at again.
    pub seen: Option<&'a Seen>,
}

/// What becomes of the members of an archive.
pub(crate) trait Members {
    /// One without data.
    fn entry(&mut self, entry: Entry) -> Result<()>;

    /// The file `name` of `dir`, and its inode. Returns how many bytes it has.
    fn file(&mut self, dir: &Dir, name: &[u8], entry: Entry, inode: u64) -> Result<u64>;
}

impl<W: Write> Members for Writer<W> {
    fn entry(&mut self, entry: Entry) -> Result<()> {
        self.add(&entry, &mut io::empty())
    }

    fn file(&mut self, dir: &Dir, name: &[u8], mut entry: Entry, _: u64) -> Result<u64> {
        let (mut file, stat) = open(dir, os(name), &entry)?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        entry.what = What::File { size };
        self.add(&entry, &mut file).context(|| format!("pack {}", entry.name()))?;
        Ok(size)
    }
}

/// A file to read, and what it is.
pub(crate) fn open(dir: &Dir, name: impl AsRef<Path>, entry: &Entry) -> Result<(File, Stat)> {
    let name = name.as_ref();
    // What was a file may be a pipe by now, where somebody works in the tree: opening that must not wait.
    let file = File::from(dir.file(name, OFlags::RDONLY | OFlags::NONBLOCK, 0)?);
    let stat = rustix::fs::fstat(&file).call(|| format!("fstat({:?})", dir.path_of(name)))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::new(Kind::InUse, format!("{}: was replaced while it was read", entry.name())));
    }
    Ok((file, stat))
}

/// Goes through the tree `upper`, in the order of names, which becomes what the archive says, unless it is to be left as it
/// is: sockets, which no archive can hold, are removed from it. Returns how many bytes its files have.
pub(crate) fn pack(upper: &Dir, how: &Packing<'_>, out: &mut impl Members) -> Result<u64> {
    let mut walk = Walk { how, out, links: HashMap::new(), content: 0 };
    let stat = rustix::fs::fstat(upper).call(|| format!("fstat({:?})", upper.path()))?;
    let (to, changed) = walk.attributes(upper, b".", &stat)?;
    if changed {
        set_time(upper, b".", to.mtime)?;
    }
    let same = (to.mode, to.uid, to.gid, &to.xattrs)
        == (how.root.mode, how.root.uid, how.root.gid, &how.root.xattrs);
    if !same {
        walk.out.entry(entry(b"./".to_vec(), What::Dir, &to))?;
    }
    let level = Level::open(upper.clone(), Vec::new(), to.mtime)?;
    walk.levels(level)?;
    Ok(walk.content)
}

/// Writes the archive of the entry `name` of `dir`, which is called `path` there, and of all below it.
pub(crate) fn pack_entry(
    dir: &Dir,
    name: &[u8],
    path: &[u8],
    how: &Packing<'_>,
    out: &mut impl Members,
) -> Result<()> {
    let mut walk = Walk { how, out, links: HashMap::new(), content: 0 };
    let level = Level {
        dir: dir.clone(),
        prefix: Vec::new(),
        names: Vec::new(),
        mtime: Time::default(),
        touched: false,
    };
    match walk.entry(&mut { level }, name, path.to_vec())? {
        Some(below) => walk.levels(below),
        None => Ok(()),
    }
}

struct Level {
    dir: Dir,
    /// Path of the directory with a slash at its end; empty for the root.
    prefix: Vec<u8>,
    /// What is still to be done, the next one last, with their inodes.
    names: Vec<(Vec<u8>, u64)>,
    mtime: Time,
    /// Whether something was removed, which changed the directory's time.
    touched: bool,
}

impl Level {
    fn open(dir: Dir, prefix: Vec<u8>, mtime: Time) -> Result<Level> {
        let names = dir.inodes()?.into_iter().rev().map(|(name, inode)| (name.into_vec(), inode)).collect();
        Ok(Level { dir, prefix, names, mtime, touched: false })
    }
}

struct Walk<'a, M> {
    how: &'a Packing<'a>,
    out: &'a mut M,
    /// Where an inode with several names was seen first.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// Bytes of files so far.
    content: u64,
}

impl<M: Members> Walk<'_, M> {
    /// One level after another, without recursion: trees may be deeper than any stack.
    fn levels(&mut self, first: Level) -> Result<()> {
        let mut levels = vec![first];
        while let Some(level) = levels.last_mut() {
            let Some((name, inode)) = level.names.pop() else {
                if level.touched {
                    set_time(&level.dir, b".", level.mtime)?;
                }
                levels.pop();
                continue;
            };
            let path = [&level.prefix, name.as_slice()].concat();
            if let Some(entry) = self.seen(&name, &path, inode) {
                self.content += self.out.file(&level.dir, &name, entry, inode)?;
                continue;
            }
            if let Some(below) = self.entry(level, &name, path)? {
                levels.push(below);
            }
        }
        Ok(())
    }

    /// A file that was looked at already.
    fn seen(&self, name: &[u8], path: &[u8], inode: u64) -> Option<Entry> {
        self.how.seen.filter(|_| !is_reserved(name))?.get(inode, path)
    }

    fn entry(&mut self, level: &mut Level, name: &[u8], path: Vec<u8>) -> Result<Option<Level>> {
        let dir = &level.dir;
        let stat = rustix::fs::statat(dir, os(name), AtFlags::SYMLINK_NOFOLLOW)
            .call(|| format!("stat({:?})", dir.path_of(os(name))))?;
        if is_whiteout(&stat) && !self.how.plain {
            let path = [&level.prefix, b".wh.".as_slice(), name].concat();
            self.out.entry(Entry::new(path, What::File { size: 0 }, 0))?;
            return Ok(None);
        }
        if let Some(skip) = self.how.skip
            && skip.takes(dir, name, &path, &stat)?
        {
            return Ok(None);
        }
        if is_reserved(name) && !self.how.plain {
            let text = format!("{}: a layer can't hold this name: it would mean a removal", show(&path));
            return Err(Error::invalid(text));
        }
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Socket && self.how.skip.is_some() {
            return Ok(None);
        }
        if kind == FileType::Socket {
            dir.remove_file(os(name))?;
            level.touched = true;
            return Ok(None);
        }
        let (to, changed) = self.attributes(dir, name, &stat)?;
        if changed {
            set_time(dir, name, to.mtime)?;
        }
        if kind == FileType::Directory {
            return self.directory(dir, name, path, &to).map(Some);
        }
        let inode = (stat.st_dev as u64, stat.st_ino as u64);
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&inode) {
                let what = What::Hardlink(first.clone());
                return self.add(path, what, &Attributes { xattrs: Vec::new(), ..to }).map(|()| None);
            }
            self.links.insert(inode, path.clone());
        }
        let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        let what = match kind {
            FileType::RegularFile => {
                let size = u64::try_from(stat.st_size).unwrap_or(0);
                let entry = entry(path, What::File { size }, &to);
                self.content += self.out.file(dir, name, entry, stat.st_ino)?;
                return Ok(None);
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(dir, os(name), Vec::new())
                    .call(|| format!("readlink({:?})", dir.path_of(os(name))))?;
                self.content += target.as_bytes().len() as u64;
                What::Symlink(target.into_bytes())
            }
            FileType::Fifo => What::Fifo,
            FileType::CharacterDevice => What::Char { major, minor },
            FileType::BlockDevice => What::Block { major, minor },
            other => {
                let text = format!("{}: a layer can't hold a {other:?}", show(&path));
                return Err(Error::new(Kind::Unsupported, text));
            }
        };
        self.add(path, what, &to).map(|()| None)
    }

    fn directory(&mut self, dir: &Dir, name: &[u8], path: Vec<u8>, to: &Attributes) -> Result<Level> {
        let prefix = [&path, b"/".as_slice()].concat();
        self.add(prefix.clone(), What::Dir, to)?;
        if !self.how.plain && is_opaque(dir, os(name))? {
            let mark = [&prefix, b".wh..wh..opq".as_slice()].concat();
            self.out.entry(Entry::new(mark, What::File { size: 0 }, 0))?;
        }
        Level::open(dir.dir(os(name))?, prefix, to.mtime)
    }

    fn add(&mut self, path: Vec<u8>, what: What, to: &Attributes) -> Result<()> {
        self.out.entry(entry(path, what, to))
    }

    /// Those of an entry as they go into the layer, and whether its time has to be changed for that.
    fn attributes(&self, dir: &Dir, name: &[u8], stat: &Stat) -> Result<(Attributes, bool)> {
        use std::os::fd::AsFd;
        let mut to = Attributes::of(dir.as_fd(), name, stat)?;
        let latest = self.how.clamp.map(|secs| Time { secs, nanos: 0 });
        let changed = latest.is_some_and(|latest| to.mtime > latest);
        if let Some(latest) = latest.filter(|_| changed) {
            to.mtime = latest;
        }
        Ok((to, changed))
    }
}

fn entry(path: Vec<u8>, what: What, to: &Attributes) -> Entry {
    let Attributes { mode, uid, gid, mtime, xattrs } = to.clone();
    Entry { path, what, mode, uid, gid, mtime, xattrs }
}
