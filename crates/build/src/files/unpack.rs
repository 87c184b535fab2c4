//! ADD of an archive: what is in it, put into a directory. Archives come from anybody, so that every path is resolved
//! inside the directory, links included.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Chain, Cursor, Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;

use coracle_host::{Call, Dir, Kind, Root};
use rustix::fs::{AtFlags, OFlags, Timespec, Timestamps};
use tar::EntryType;

use super::pick::Tree;
use super::put::Put;
use super::{Entry, Node, Stamp};
use crate::error::{Error, Result};

/// The bytes of an archive, decompressed.
pub(super) type Archive = Chain<Cursor<Vec<u8>>, Box<dyn Read>>;

const BLOCK: usize = 512;

/// The file and its archive, if its content is one: a tar, plain or compressed with gzip, bzip2, xz or zstd.
///
/// # Errors
/// The host's.
pub(super) fn open(tree: Tree<'_>, path: &Path) -> Result<Option<(File, Archive)>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut file = File::from(tree.root().open(path, flags)?);
    let read = || format!("read({path:?})");
    let magic = block(&mut file).call(read)?;
    file.rewind().call(|| format!("lseek({path:?})"))?;
    let bytes = file.try_clone().call(|| format!("dup({path:?})"))?;
    let mut reader = decompressed(&magic, Box::new(bytes)).call(read)?;
    // What begins like a compressed file but is none is a file like any other.
    let Ok(first) = block(&mut reader) else { return Ok(None) };
    Ok(is_header(&first).then(|| (file, Cursor::new(first).chain(reader))))
}

/// Unpacks a context that comes as a tar, plain or compressed: what docker takes on standard input.
/// All files get the owner of this process, because a context's owners count for nothing.
///
/// # Errors
/// `Invalid` for what is no such archive, or leads out of itself.
pub(crate) fn context(archive: impl Read + 'static, into: &Dir) -> Result<()> {
    let name = Path::new("-");
    let mut archive: Box<dyn Read> = Box::new(archive);
    let read = || "read(the context)";
    let magic = block(&mut archive).call(read)?;
    let whole = Box::new(Cursor::new(magic.clone()).chain(archive));
    let mut reader = decompressed(&magic, whole).call(read)?;
    let first = block(&mut reader).call(read)?;
    let empty = first.iter().all(|byte| *byte == 0);
    if !empty && !is_header(&first) {
        return Err(Error::invalid("the context is no tar archive"));
    }
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let put = Put::new(Root::new(into.as_fd(), "the context"), Some(own), None);
    unpack(Cursor::new(first).chain(reader), &put, name)
}

/// Whether it is a tar, plain or compressed, or compressed at all.
pub(crate) fn is_archive(from: &mut dyn Read) -> std::io::Result<bool> {
    const MAGIC: [&[u8]; 4] = [b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"];
    let first = block(from)?;
    Ok(MAGIC.iter().any(|magic| first.starts_with(magic)) || is_header(&first))
}

/// Bytes of a stream that say how it is compressed.
pub(crate) const MAGIC: u64 = 10;

/// What decoding xz may take in memory, in KiB: `xz -9` asks for 64 MiB.
const XZ_MEMORY: u32 = 128 << 10;

/// What comes out of `reader`, which begins with `magic`: at least [`MAGIC`] bytes, or all that there is.
pub(crate) fn decompressed<'a>(
    magic: &[u8],
    reader: Box<dyn Read + 'a>,
) -> std::io::Result<Box<dyn Read + 'a>> {
    Ok(if magic.starts_with(&[0x1f, 0x8b, 8]) {
        Box::new(flate2::read::MultiGzDecoder::new(std::io::BufReader::new(reader)))
    } else if magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Box::new(zstd::stream::read::Decoder::new(reader)?)
    } else if magic.starts_with(b"BZh") && magic.get(4..10) == Some(b"\x31\x41\x59\x26\x53\x59") {
        Box::new(bzip2::read::MultiBzDecoder::new(std::io::BufReader::new(reader)))
    } else if magic.starts_with(b"\xfd7zXZ\0") {
        Box::new(lzma_rust2::XzReader::new_mem_limit(std::io::BufReader::new(reader), true, XZ_MEMORY))
    } else {
        reader
    })
}

fn block(from: &mut dyn Read) -> std::io::Result<Vec<u8>> {
    let mut first = Vec::with_capacity(BLOCK);
    from.take(BLOCK as u64).read_to_end(&mut first)?;
    Ok(first)
}

/// Whether the block has the checksum of a tar header (pax(1), "ustar Interchange Format").
fn is_header(block: &[u8]) -> bool {
    if block.len() < BLOCK {
        return false;
    }
    let header = tar::Header::from_byte_slice(&block[..BLOCK]).cksum();
    let sum = |range: std::ops::Range<usize>| block[range].iter().map(|b| u32::from(*b)).sum::<u32>();
    // The field itself counts as blanks.
    let expected = sum(0..148) + 8 * u32::from(b' ') + sum(156..BLOCK);
    header.is_ok_and(|sum| sum == expected)
}

/// Puts everything into the directory `into`, with the owners, modes and times that the archive has.
///
/// # Errors
/// `Invalid` for names that lead out; `Corrupt` for what is no archive; else the host's.
pub(super) fn unpack(archive: Archive, put: &Put<'_>, name: &Path) -> Result<()> {
    let corrupt = |e: std::io::Error| Error::new(Kind::Corrupt, format!("unpack `{}`: {e}", name.display()));
    let root = put.root();
    let mut archive = tar::Archive::new(archive);
    let mut directories = Vec::new();
    for entry in archive.entries().map_err(corrupt)? {
        let mut entry = entry.map_err(corrupt)?;
        if matches!(entry.header().entry_type(), EntryType::XGlobalHeader) {
            continue;
        }
        let Some(path) = inside(&entry.path_bytes())? else { continue };
        let one = described(&mut entry, &path).map_err(corrupt)?;
        let above = path.parent().unwrap_or(Path::new(""));
        let parent = put.make_dirs(&Path::new("/").join(above))?;
        let leaf = path.file_name().unwrap_or(OsStr::new(""));
        match entry.header().entry_type() {
            EntryType::Directory => {
                let (made, _) = put.enter(parent.as_fd(), leaf, &path)?;
                put.dress(&one, made.as_fd())?;
                directories.push(one);
            }
            EntryType::Link => {
                let target = entry.link_name_bytes().unwrap_or_default();
                let target = inside(&target)?.unwrap_or_default();
                let (dir, old) = root.parent(Path::new("/").join(&target))?;
                put.make_way(parent.as_fd(), leaf, &path)?;
                rustix::fs::linkat(&dir, &old, &parent, leaf, AtFlags::empty())
                    .call(|| format!("link({target:?}, {path:?})"))?;
            }
            _ => drop(put.create(&one, parent.as_fd(), leaf, &path, &mut |to| {
                std::io::copy(&mut entry, to).map(drop).map_err(corrupt)
            })?),
        }
    }
    // Putting files into a directory has changed its time.
    for one in directories.iter().rev() {
        let Some(modified) = one.modified else { continue };
        let opened = root.open(&one.below, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW);
        // A later entry may have taken its place.
        let Ok(fd) = opened else { continue };
        let times = Timestamps { last_access: modified, last_modification: modified };
        rustix::fs::futimens(&fd, &times).call(|| format!("futimens({:?})", one.below))?;
    }
    Ok(())
}

/// A name as a path below the destination; `None` for the destination itself.
fn inside(name: &[u8]) -> Result<Option<PathBuf>> {
    let mut path = PathBuf::new();
    for component in Path::new(OsStr::from_bytes(name)).components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                let name = String::from_utf8_lossy(name);
                return Err(Error::invalid(format!("`{name}` in the archive leads out of it")));
            }
        }
    }
    Ok((!path.as_os_str().is_empty()).then_some(path))
}

fn described<R: Read>(entry: &mut tar::Entry<'_, R>, path: &Path) -> std::io::Result<Entry> {
    let mut xattrs = Vec::new();
    if let Some(extensions) = entry.pax_extensions()? {
        for extension in extensions.flatten() {
            let name = extension.key_bytes().strip_prefix(b"SCHILY.xattr.").unwrap_or_default();
            if name == b"security.capability" || name.starts_with(b"user.") {
                xattrs.push((OsString::from_vec(name.to_vec()), extension.value_bytes().to_vec()));
            }
        }
    }
    let header = entry.header();
    let old = header.as_old();
    // A number that was left out is zero.
    let number = |field: &[u8], value: &dyn Fn() -> std::io::Result<u64>| match field
        .iter()
        .all(|byte| [0, b' '].contains(byte))
    {
        true => Ok(0),
        false => value(),
    };
    let id = |id: u64| u32::try_from(id).map_err(|_| std::io::Error::other(format!("{id} is no owner")));
    let node = match header.entry_type() {
        EntryType::Directory => Node::Dir,
        EntryType::Fifo => Node::Fifo,
        kind @ (EntryType::Char | EntryType::Block) => {
            // pax(1), "ustar Interchange Format": devmajor and devminor.
            let bytes = header.as_bytes();
            let major = number(&bytes[329..337], &|| Ok(header.device_major()?.unwrap_or(0).into()))?;
            let minor = number(&bytes[337..345], &|| Ok(header.device_minor()?.unwrap_or(0).into()))?;
            let number = rustix::fs::makedev(major as u32, minor as u32);
            Node::Device { block: kind == EntryType::Block, number }
        }
        EntryType::Symlink => {
            let target = entry.link_name_bytes().unwrap_or_default();
            Node::Link(OsString::from_vec(target.into_owned()))
        }
        _ => Node::File,
    };
    let mtime = number(&old.mtime, &|| header.mtime())?;
    Ok(Entry {
        below: path.to_owned(),
        path: path.to_owned(),
        node,
        mode: number(&old.mode, &|| header.mode().map(u64::from))? as u32 & 0o7777,
        owner: (id(number(&old.uid, &|| header.uid())?)?, id(number(&old.gid, &|| header.gid())?)?),
        modified: Some(Timespec { tv_sec: i64::try_from(mtime).unwrap_or(0), tv_nsec: 0 }),
        stamp: Stamp::default(),
        digest: OnceLock::new(),
        xattrs,
    })
}
