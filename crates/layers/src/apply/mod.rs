//! Unpacking: an archive becomes the directory that an overlay takes as a layer.

mod attributes;
mod lower;
mod name;
mod place;

use std::io::Read;
use std::os::fd::AsFd;
use std::rc::Rc;

use coracle_host::{Call, Dir};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

pub(crate) use attributes::set_time;
pub(crate) use lower::{Attributes, is_whiteout, root as root_attributes};
pub(crate) use name::{Trust, components, is_reserved};

use crate::owners::Owners;
use crate::tar::{Archive, Entry, What, show};
use crate::xattr::{is_overlay, os};
use crate::{Context, Error, Result};
use name::Target;
use place::{Place, Places};

/// Large enough that the calls don't count, small enough for anybody's stack of threads.
const CHUNK: usize = 128 << 10;

/// Unpacks all of `archive` into the empty directory `root`, as a layer on top of `lowers` (the top one first).
/// Whiteouts become what overlay takes for them; with nothing below they become nothing. Answers with the bytes of the
/// files in it.
pub(crate) fn unpack(
    archive: &mut Archive<impl Read>,
    root: &Dir,
    lowers: &[Dir],
    trust: Trust,
) -> Result<u64> {
    let mut places = Places::new(root, lowers, trust);
    let like = lower::root(lowers)?;
    attributes::set(root, b".", &like, false)?;
    places.times.insert(Vec::new(), like.mtime);
    let into = Into::default();
    let mut unpacker =
        Unpacker { places, trust, into, chunk: vec![0; CHUNK], root_is_opaque: false, content: 0 };
    while let Some(entry) = archive.next()? {
        unpacker.entry(&entry, archive).context(|| format!("entry {}", entry.name()))?;
    }
    if unpacker.root_is_opaque {
        unpacker.hide_all_below()?;
    }
    unpacker.places.finish()?;
    Ok(unpacker.content)
}

/// Where in a tree that is there already.
#[derive(Default)]
pub(crate) struct Into {
    /// The directory that names start from: real components, no links.
    pub prefix: Vec<Vec<u8>>,
    /// Who is to own all that is made, if not who the archive says.
    pub owner: Option<(u32, u32)>,
    /// Who they are in the tree, if not the same.
    pub owners: Option<Owners>,
}

/// Unpacks all of `archive` into a tree that is there already. What is there stays, but for what the archive replaces.
pub(crate) fn unpack_into(
    archive: &mut Archive<impl Read>,
    root: &Dir,
    into: Into,
    trust: Trust,
) -> Result<()> {
    let mut places = Places::new(root, &[], trust);
    if let Some(owners) = &into.owners {
        (places.implied.uid, places.implied.gid) = owners.in_tree(0, 0)?;
    }
    let mut unpacker =
        Unpacker { places, trust, into, chunk: vec![0; CHUNK], root_is_opaque: false, content: 0 };
    while let Some(entry) = archive.next()? {
        unpacker.entry(&entry, archive).context(|| format!("entry {}", entry.name()))?;
    }
    unpacker.places.finish()
}

struct Unpacker<'a> {
    places: Places<'a>,
    trust: Trust,
    into: Into,
    chunk: Vec<u8>,
    root_is_opaque: bool,
    /// Bytes of files so far.
    content: u64,
}

impl Unpacker<'_> {
    fn entry(&mut self, entry: &Entry, data: &mut impl Read) -> Result<()> {
        let layered = !self.places.lowers.is_empty();
        match name::target(&entry.path, self.trust)? {
            Target::Root if entry.what == What::Dir => {
                let root = self.dir(&[], true)?;
                attributes::set(&root.dir, b".", &self.attributes_of(entry)?, false)?;
                self.places.times.insert(root.real.clone(), entry.mtime);
                Ok(())
            }
            Target::Root => Err(Error::invalid("the root can only be a directory")),
            Target::Whiteout(parent, name) if layered => {
                let place = self.places.dir(&parent, true)?;
                self.whiteout(&place, name)
            }
            Target::Opaque(parent) if layered => match parent.split_last() {
                None => {
                    self.root_is_opaque = true;
                    Ok(())
                }
                Some((name, above)) => {
                    self.places.dir(&parent, true)?;
                    let place = self.places.dir(above, true)?;
                    self.places.hide(&place, name)
                }
            },
            Target::Whiteout(..) | Target::Opaque(_) | Target::Nothing => Ok(()),
            Target::Entry(parent, name) => {
                let place = self.dir(&parent, true)?;
                self.make(&place, name, entry, data)
            }
        }
    }

    /// The directory that a path in the archive leads to.
    fn dir(&mut self, path: &[&[u8]], make: bool) -> Result<Rc<Place>> {
        if self.into.prefix.is_empty() && !path.is_empty() {
            return self.places.dir(path, make);
        }
        let whole: Vec<&[u8]> =
            self.into.prefix.iter().map(Vec::as_slice).chain(path.iter().copied()).collect();
        match whole.is_empty() {
            true => Ok(self.places.root().clone()),
            false => self.places.dir(&whole, make),
        }
    }

    fn make(&mut self, place: &Rc<Place>, name: &[u8], entry: &Entry, data: &mut impl Read) -> Result<()> {
        let to = self.attributes_of(entry)?;
        if self.trust.literal() && entry.what != What::Dir && self.is_dir(place, name)? {
            return Err(Error::invalid("cannot overwrite directory with non-directory"));
        }
        let dir = &place.dir;
        let at = || dir.path_of(os(name));
        match &entry.what {
            What::Dir => return self.directory(place, name, &to),
            What::File { size } => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let create = || rustix::fs::openat(dir, os(name), flags, Mode::RUSR | Mode::WUSR);
                let file = self.instead(place, name, create, "open")?;
                self.fill(file.as_fd(), *size, data)?;
                self.content += size;
                return attributes::set_open(file.as_fd(), name, &to);
            }
            What::Hardlink(target) => return self.hard_link(place, name, target),
            What::Symlink(target) => {
                let create = || rustix::fs::symlinkat(os(target), dir, os(name));
                self.instead(place, name, create, "symlink")?;
                self.content += target.len() as u64;
            }
            What::Char { major: 0, minor: 0 } => {
                return Err(Error::invalid("the character device 0:0 would hide a file of a lower layer"));
            }
            What::Char { .. } | What::Block { .. } | What::Fifo => {
                let (kind, device) = match entry.what {
                    What::Char { major, minor } => {
                        (FileType::CharacterDevice, rustix::fs::makedev(major, minor))
                    }
                    What::Block { major, minor } => {
                        (FileType::BlockDevice, rustix::fs::makedev(major, minor))
                    }
                    _ => (FileType::Fifo, 0),
                };
                let create = || rustix::fs::mknodat(dir, os(name), kind, Mode::RUSR, device);
                self.instead(place, name, create, "mknod")?;
            }
        }
        attributes::set(dir, name, &to, matches!(entry.what, What::Symlink(_)))
            .and_then(|()| attributes::set_time(dir, name, entry.mtime))
            .context(|| format!("{:?}", at()))
    }

    /// A directory: one that is there stays, with what is in it; anything else gives way.
    fn directory(&mut self, place: &Rc<Place>, name: &[u8], to: &Attributes) -> Result<()> {
        let create = || rustix::fs::mkdirat(&place.dir, os(name), Mode::RWXU);
        let mut instead = false;
        match create() {
            Err(Errno::EXIST) => {
                if !self.is_dir(place, name)? {
                    if self.trust.literal() {
                        return Err(Error::invalid("cannot overwrite non-directory with directory"));
                    }
                    self.instead(place, name, create, "mkdir")?;
                    instead = true;
                }
            }
            other => other.call(|| format!("mkdir({:?})", place.dir.path_of(os(name))))?,
        }
        attributes::set(&place.dir, name, to, false)?;
        self.places.times.insert(place.below(name), to.mtime);
        // What gave way had taken the place of what is below: this directory doesn't bring that back.
        if instead { self.places.hide(place, name) } else { Ok(()) }
    }

    fn hard_link(&mut self, place: &Rc<Place>, name: &[u8], target: &[u8]) -> Result<()> {
        let shown = show(target);
        let mut path = name::components(target, self.trust, &format!("the link's target {shown}"))?;
        let Some(last) = path.pop() else {
            return Err(Error::invalid("a hard link to the root directory"));
        };
        let source = self.dir(&path, false).context(|| format!("hard link to {shown}"))?;
        if source.real == place.real && last == name {
            return Err(Error::invalid("a hard link to itself"));
        }
        let stat = rustix::fs::statat(&source.dir, os(last), AtFlags::SYMLINK_NOFOLLOW);
        if !stat.is_ok_and(|stat| !is_whiteout(&stat)) {
            let text = format!("hard link to {shown}, which is not in this layer before it");
            return Err(Error::invalid(text));
        }
        let create = || rustix::fs::linkat(&source.dir, os(last), &place.dir, os(name), AtFlags::empty());
        self.instead(place, name, create, "link").context(|| format!("hard link to {shown}"))
    }

    fn whiteout(&mut self, place: &Rc<Place>, name: &[u8]) -> Result<()> {
        match rustix::fs::mknodat(&place.dir, os(name), FileType::CharacterDevice, Mode::empty(), 0) {
            // What this layer itself puts there stays: a removal is of what is below (layer.md, "Whiteouts").
            Err(Errno::EXIST) if self.is_dir(place, name)? => self.places.hide(place, name),
            Err(Errno::EXIST) => Ok(()),
            other => Ok(other.call(|| format!("mknod({:?}, c 0 0)", place.dir.path_of(os(name))))?),
        }
    }

    /// Overlay doesn't look whether the root of a layer is opaque: each name below it is hidden by itself.
    fn hide_all_below(&mut self) -> Result<()> {
        let root = self.places.root().clone();
        for lower in self.places.lowers {
            for name in lower.names()? {
                use std::os::unix::ffi::OsStrExt;
                self.whiteout(&root, name.as_bytes())?;
            }
        }
        Ok(())
    }

    /// Makes an entry, removing first what is in its place: the later member of a name is the one that counts.
    fn instead<T>(
        &mut self,
        place: &Rc<Place>,
        name: &[u8],
        create: impl Fn() -> rustix::io::Result<T>,
        call: &str,
    ) -> Result<T> {
        let made = match create() {
            Err(Errno::EXIST) => {
                place.dir.remove_tree(os(name))?;
                self.places.forget(&place.below(name));
                create()
            }
            other => other,
        };
        Ok(made.call(|| format!("{call}({:?})", place.dir.path_of(os(name))))?)
    }

    fn attributes_of(&self, entry: &Entry) -> Result<Attributes> {
        let xattrs = entry.xattrs.iter().filter(|(name, _)| !is_overlay(name)).cloned().collect();
        let (uid, gid) = self.into.owner.unwrap_or((entry.uid, entry.gid));
        let owners = self.into.owners.as_ref();
        let (uid, gid) = owners.map_or(Ok((uid, gid)), |owners| owners.in_tree(uid, gid))?;
        Ok(Attributes { mode: entry.mode, uid, gid, mtime: entry.mtime, xattrs })
    }

    fn is_dir(&self, place: &Place, name: &[u8]) -> Result<bool> {
        let stat = match rustix::fs::statat(&place.dir, os(name), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(false),
            other => other.call(|| format!("stat({:?})", place.dir.path_of(os(name))))?,
        };
        Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
    }

    /// Copies a file's data. Long runs of zeros become holes: a size that is only claimed takes no space.
    fn fill(&mut self, file: rustix::fd::BorrowedFd<'_>, size: u64, data: &mut impl Read) -> Result<()> {
        let mut at = 0u64;
        let mut hole = false;
        while at < size {
            let most = CHUNK.min(usize::try_from(size - at).unwrap_or(CHUNK));
            let mut filled = 0;
            while filled < most {
                match data
                    .read(&mut self.chunk[filled..most])
                    .map_err(|error| Error::reading("tar", &error))?
                {
                    0 => return Err(Error::corrupt("tar: the data ends early")),
                    read => filled += read,
                }
            }
            let chunk = &self.chunk[..filled];
            hole = filled == CHUNK && chunk.iter().all(|byte| *byte == 0);
            let mut written = 0;
            while !hole && written < filled {
                written +=
                    rustix::io::pwrite(file, &chunk[written..], at + written as u64).call(|| "write")?;
            }
            at += filled as u64;
        }
        if hole {
            rustix::fs::ftruncate(file, size).call(|| "ftruncate")?;
        }
        Ok(())
    }
}
