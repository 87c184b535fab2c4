//! Writing an archive: the same members give the same bytes, on every machine and in every version.

use std::io::{self, Read, Write};

use coracle_host::{Call, Kind};
use tar::{EntryType, Header};

use super::{BLOCK, Entry, What, pax};
use crate::{Error, Result};

/// Largest values of the header's octal fields (eight and twelve bytes, one of them a terminator).
const MOST_ID: u32 = 0o7777777;
const MOST_NUMBER: u64 = 0o77777777777;
const NAME: usize = 100;
const CHUNK: usize = 128 << 10;

/// An archive being written: ustar headers, and pax records for what does not fit into them.
pub(crate) struct Writer<W> {
    out: W,
    chunk: Vec<u8>,
}

impl<W: Write> Writer<W> {
    pub fn new(out: W) -> Writer<W> {
        Writer { out, chunk: vec![0; CHUNK] }
    }

    /// Where it all goes. Nothing of it waits here.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.out
    }

    /// Appends a file whose bytes `fill` writes: as many as its size says.
    pub fn add_written(
        &mut self,
        entry: &Entry,
        size: u64,
        fill: impl FnOnce(&mut dyn Write) -> Result<()>,
    ) -> Result<()> {
        self.put(&head(entry)?)?;
        let mut counting = Counting { out: &mut self.out, left: size };
        fill(&mut counting)?;
        if counting.left > 0 {
            let text = format!("{}: {} of {size} bytes are missing", entry.name(), counting.left);
            return Err(Error::corrupt(text));
        }
        self.pad(size)
    }

    /// Appends a member. `data` must have as many bytes as a file's size says; for other members it is not read.
    pub fn add(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<()> {
        self.put(&head(entry)?)?;
        if let What::File { size } = entry.what {
            self.copy(size, data, entry)?;
            self.pad(size)?;
        }
        Ok(())
    }

    /// Appends a file that has these bytes.
    pub fn add_bytes(&mut self, entry: &Entry, bytes: &[u8]) -> Result<()> {
        let size = bytes.len() as u64;
        if entry.what != (What::File { size }) {
            let text = format!("{}: it has {size} bytes, where {:?} is expected", entry.name(), entry.what);
            return Err(Error::new(Kind::InUse, text));
        }
        self.put(&head(entry)?)?;
        self.put(bytes)?;
        self.pad(size)
    }

    fn copy(&mut self, size: u64, data: &mut dyn Read, entry: &Entry) -> Result<()> {
        let mut left = size;
        while left > 0 {
            let most = self.chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            match data.read(&mut self.chunk[..most]) {
                Ok(0) => {
                    // It shrank since its size was read; then there is no right archive.
                    let text = format!("{}: {left} of {size} bytes went while it was read", entry.name());
                    return Err(Error::new(Kind::InUse, text));
                }
                Ok(read) => {
                    self.out.write_all(&self.chunk[..read]).call(|| "write(tar)")?;
                    left -= read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::reading(&entry.name(), &error)),
            }
        }
        Ok(())
    }

    /// Writes the end mark.
    pub fn finish(mut self) -> Result<W> {
        self.put(&[0u8; 2 * BLOCK])?;
        Ok(self.out)
    }

    fn pad(&mut self, size: u64) -> Result<()> {
        let padding = size.next_multiple_of(BLOCK as u64) - size;
        self.put(&[0u8; BLOCK][..padding as usize])
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.out.write_all(bytes).call(|| "write(tar)")?)
    }
}

/// Passes on so many bytes and no more.
struct Counting<'a, W> {
    out: &'a mut W,
    left: u64,
}

impl<W: Write> Write for Counting<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "there are more bytes than its size says",
            ));
        }
        let written = self.out.write(bytes)?;
        self.left -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// All blocks that stand before a member's data.
fn head(entry: &Entry) -> Result<Vec<u8>> {
    let (header, records) = encode(entry)?;
    if records.is_empty() {
        return Ok(header.as_bytes().to_vec());
    }
    let mut extended = Header::new_ustar();
    let base = entry.path.split(|b| *b == b'/').rfind(|part| !part.is_empty()).unwrap_or(b"");
    put_name(&mut extended.as_old_mut().name, &[b"PaxHeaders.0/", base].concat());
    extended.set_entry_type(EntryType::XHeader);
    extended.set_mode(0o644);
    extended.set_size(records.len() as u64);
    extended.set_cksum();
    let mut head = [extended.as_bytes().as_slice(), &records].concat();
    head.resize(head.len().next_multiple_of(BLOCK), 0);
    head.extend_from_slice(header.as_bytes());
    Ok(head)
}

/// The header and, where it can't say everything, the records before it.
fn encode(entry: &Entry) -> Result<(Header, Vec<u8>)> {
    let mut header = Header::new_ustar();
    let mut records = Vec::new();
    let fits = |name: &[u8]| name.len() <= NAME && name.is_ascii();
    if !fits(&entry.path) {
        pax::push(&mut records, b"path", &entry.path);
    }
    put_name(&mut header.as_old_mut().name, &entry.path);
    let mut size = 0;
    let kind = match &entry.what {
        What::File { size: bytes } => {
            size = *bytes;
            EntryType::Regular
        }
        What::Dir => EntryType::Directory,
        What::Fifo => EntryType::Fifo,
        What::Symlink(to) | What::Hardlink(to) => {
            if !fits(to) {
                pax::push(&mut records, b"linkpath", to);
            }
            put_name(&mut header.as_old_mut().linkname, to);
            if matches!(entry.what, What::Symlink(_)) { EntryType::Symlink } else { EntryType::Link }
        }
        What::Char { major, minor } | What::Block { major, minor } => {
            if let Some(ustar) = header.as_ustar_mut() {
                if *major > MOST_ID || *minor > MOST_ID {
                    let text = format!("{}: device number {major}:{minor} is out of range", entry.name());
                    return Err(Error::unsupported(text));
                }
                ustar.set_device_major(*major);
                ustar.set_device_minor(*minor);
            }
            if matches!(entry.what, What::Char { .. }) { EntryType::Char } else { EntryType::Block }
        }
    };
    header.set_entry_type(kind);
    header.set_mode(entry.mode & 0o7777);
    if size > MOST_NUMBER {
        pax::push(&mut records, b"size", size.to_string().as_bytes());
    }
    header.set_size(size.min(MOST_NUMBER));
    for (key, id) in [(b"uid", entry.uid), (b"gid", entry.gid)] {
        if id > MOST_ID {
            pax::push(&mut records, key, id.to_string().as_bytes());
        }
    }
    header.set_uid(entry.uid.min(MOST_ID).into());
    header.set_gid(entry.gid.min(MOST_ID).into());
    let secs = u64::try_from(entry.mtime.secs).unwrap_or(0).min(MOST_NUMBER);
    if entry.mtime.nanos != 0 || secs as i64 != entry.mtime.secs {
        pax::push(&mut records, b"mtime", pax::format_time(entry.mtime).as_bytes());
    }
    header.set_mtime(secs);
    for (name, value) in &entry.xattrs {
        if name.contains(&b'=') {
            let text = format!("{}: an attribute whose name has '=' does not fit into a tar", entry.name());
            return Err(Error::unsupported(text));
        }
        pax::push(&mut records, &[pax::XATTR, name].concat(), value);
    }
    header.set_cksum();
    Ok((header, records))
}

/// As much of the name as fits, non-ASCII replaced: readers without pax see something, all others the record.
fn put_name(field: &mut [u8; NAME], name: &[u8]) {
    for (to, from) in field.iter_mut().zip(name) {
        *to = if from.is_ascii() { *from } else { b'_' };
    }
}
