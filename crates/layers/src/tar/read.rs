//! Reading an archive from a stream, believing nothing.

use std::io::{self, Read};

use tar::{EntryType, Header};

use super::pax::Pax;
use super::{BLOCK, Entry, Time, What, show};
use crate::{Error, Result};

/// Most that the headers before one member may say about it. File systems end names at 4 KiB and attributes at 64 KiB.
const MOST_EXTENDED: u64 = 1 << 20;

/// An archive being read. [`Archive::next`] goes to the next member; as a [`Read`] it is the data of the current one.
pub(crate) struct Archive<R> {
    inner: R,
    /// Data of the current member not yet read, and what pads it to a block.
    left: u64,
    padding: u64,
    /// What a global header said about all members after it.
    global: Pax,
    current: String,
    blocks: u64,
    whole: bool,
}

impl<R: Read> Archive<R> {
    pub fn new(inner: R) -> Archive<R> {
        let current = String::new();
        Archive { inner, left: 0, padding: 0, global: Pax::default(), current, blocks: 0, whole: false }
    }

    /// Insists on the end mark: without it, who knows what is missing. Only where a digest says that all is there
    /// may it be absent, as some writers leave it out.
    #[must_use]
    pub fn whole(mut self) -> Archive<R> {
        self.whole = true;
        self
    }

    /// The next member, or `None` at the end mark (two blocks of zeros).
    pub fn next(&mut self) -> Result<Option<Entry>> {
        self.skip()?;
        let mut pax = self.global.clone();
        let (mut long_name, mut long_link) = (None, None);
        let mut extended = false;
        loop {
            let Some(header) = self.header()? else {
                if extended {
                    return Err(Error::corrupt("tar: ends after an extended header"));
                }
                return Ok(None);
            };
            match header.entry_type() {
                EntryType::XHeader => pax.take(&self.extended(&header)?)?,
                EntryType::XGlobalHeader => {
                    let records = self.extended(&header)?;
                    let mut global = Pax::default();
                    global.take(&records)?;
                    if global.path.is_some() || global.linkpath.is_some() || global.size.is_some() {
                        return Err(Error::unsupported(
                            "tar: a global pax header sets path, linkpath or size",
                        ));
                    }
                    self.global.take(&records)?;
                    pax.take(&records)?;
                }
                EntryType::GNULongName => long_name = Some(until_nul(self.extended(&header)?)),
                EntryType::GNULongLink => long_link = Some(until_nul(self.extended(&header)?)),
                _ => return self.entry(&header, pax, long_name, long_link).map(Some),
            }
            extended = true;
        }
    }

    /// Reads up to the end of the stream, whatever is there: a digest covers it.
    pub fn drain(&mut self) -> Result<()> {
        io::copy(&mut self.inner, &mut io::sink()).map_err(|error| Error::reading("tar", &error))?;
        Ok(())
    }

    /// The stream, to ask it what passed.
    pub fn into_inner(self) -> R {
        self.inner
    }

    fn entry(
        &mut self,
        header: &Header,
        pax: Pax,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Entry> {
        let path = pax.path.or(long_name).unwrap_or_else(|| header.path_bytes().into_owned());
        let bad = |what: &str| Error::corrupt(format!("entry {}: {what}", show(&path)));
        let raw = header.as_old();
        let size = match pax.size {
            Some(size) => size,
            None => number(&raw.size, header.entry_size()).map_err(|_| bad("the size is no number"))?,
        };
        let id = |from_pax: Option<u64>, of_header: io::Result<u64>, what: &str| {
            let id = match from_pax {
                Some(id) => id,
                None => of_header.map_err(|_| bad(&format!("the {what} is no number")))?,
            };
            u32::try_from(id).map_err(|_| bad(&format!("the {what} {id} is out of range")))
        };
        let uid = id(pax.uid, number(&raw.uid, header.uid()), "owner")?;
        let gid = id(pax.gid, number(&raw.gid, header.gid()), "group")?;
        let mtime = match pax.mtime {
            Some(time) => time,
            None => {
                let secs = number(&raw.mtime, header.mtime()).map_err(|_| bad("the time is no number"))?;
                Time { secs: secs as i64, nanos: 0 }
            }
        };
        let device = || -> Result<(u32, u32)> {
            let part = |of: io::Result<Option<u32>>| of.ok().flatten().ok_or_else(|| bad("no device number"));
            Ok((part(header.device_major())?, part(header.device_minor())?))
        };
        let link = || -> Result<Vec<u8>> {
            let link = pax.linkpath.clone().or_else(|| long_link.clone());
            let link = link.or_else(|| header.link_name_bytes().map(|name| name.into_owned()));
            link.filter(|link| !link.is_empty()).ok_or_else(|| bad("a link to nothing"))
        };
        let what = match header.entry_type() {
            // Before POSIX a directory was a file whose name ends with a slash.
            EntryType::Regular if header.as_old().linkflag[0] == 0 && path.ends_with(b"/") => What::Dir,
            EntryType::Regular | EntryType::Continuous => What::File { size },
            EntryType::Directory => What::Dir,
            EntryType::Symlink => What::Symlink(link()?),
            EntryType::Link => What::Hardlink(link()?),
            EntryType::Fifo => What::Fifo,
            EntryType::Char => device().map(|(major, minor)| What::Char { major, minor })?,
            EntryType::Block => device().map(|(major, minor)| What::Block { major, minor })?,
            EntryType::GNUSparse => {
                return Err(Error::unsupported(format!(
                    "entry {}: sparse members are not supported",
                    show(&path)
                )));
            }
            other => {
                let letter = show(&[other.as_byte()]);
                return Err(Error::unsupported(format!("entry {}: unknown type {letter}", show(&path))));
            }
        };
        if path.is_empty() {
            return Err(Error::corrupt("tar: an entry without a name"));
        }
        // Only files have data, whatever the size field of the others says (as in Go's reader, and so in docker's).
        if let What::File { size } = what {
            self.expect(size).ok_or_else(|| bad("the size is out of range"))?;
        }
        let mode =
            number(&raw.mode, header.mode().map(u64::from)).map_err(|_| bad("the mode is no number"))?;
        let mode = mode as u32 & 0o7777;
        let mut xattrs = pax.xattrs;
        xattrs.sort();
        self.current = show(&path);
        Ok(Entry { path, what, mode, uid, gid, mtime, xattrs })
    }

    /// The next header that is not zeros.
    fn header(&mut self) -> Result<Option<Header>> {
        let mut header = Header::new_old();
        if !self.block(header.as_mut_bytes())? {
            return match self.whole {
                true => Err(Error::corrupt(format!(
                    "tar: ends after {} bytes without its end mark",
                    self.blocks * BLOCK as u64
                ))),
                false => Ok(None),
            };
        }
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            let mut second = [0u8; BLOCK];
            // One block of zeros and the end of the stream is what some writers leave.
            if self.block(&mut second)? && second.iter().any(|byte| *byte != 0) {
                return Err(Error::corrupt("tar: a block of zeros between the headers"));
            }
            return Ok(None);
        }
        let bytes = header.as_bytes();
        let sum: u32 = bytes[..148].iter().chain(&bytes[156..]).map(|byte| u32::from(*byte)).sum();
        if header.cksum().ok() != Some(sum + 8 * u32::from(b' ')) {
            let at = (self.blocks - 1) * BLOCK as u64;
            let why = if at == 0 { "not a tar: the first header's" } else { "the header's" };
            return Err(Error::corrupt(format!("tar: {why} checksum is wrong (at byte {at})")));
        }
        Ok(Some(header))
    }

    /// The whole data of an extended header.
    fn extended(&mut self, header: &Header) -> Result<Vec<u8>> {
        let size = header.entry_size().ok().filter(|size| *size <= MOST_EXTENDED);
        let size = size.ok_or_else(|| {
            Error::corrupt(format!("tar: an extended header claims more than {MOST_EXTENDED} bytes"))
        })?;
        self.current = "an extended header".into();
        let mut data = Vec::new();
        self.expect(size).ok_or_else(|| Error::corrupt("tar: size out of range"))?;
        self.read_to_end(&mut data).map_err(|error| Error::reading("tar", &error))?;
        self.skip()?;
        Ok(data)
    }

    fn expect(&mut self, size: u64) -> Option<()> {
        // Larger than any file: the sum with other sizes must not overflow.
        if size > i64::MAX as u64 {
            return None;
        }
        self.left = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        Some(())
    }

    /// Goes past what is left of the current member.
    fn skip(&mut self) -> Result<()> {
        let mut buffer = [0u8; 16 * BLOCK];
        while self.left > 0 {
            self.read(&mut buffer).map_err(|error| Error::reading("tar", &error))?;
        }
        while self.padding > 0 {
            let most = buffer.len().min(self.padding as usize);
            let read = self.raw(&mut buffer[..most]).map_err(|error| Error::reading("tar", &error))?;
            if read == 0 {
                return Err(Error::reading("tar", &self.cut()));
            }
            self.padding -= read as u64;
        }
        Ok(())
    }

    /// Fills a block; `false` at the end of the stream.
    fn block(&mut self, into: &mut [u8; BLOCK]) -> Result<bool> {
        let mut filled = 0;
        while filled < BLOCK {
            match self.raw(&mut into[filled..]).map_err(|error| Error::reading("tar", &error))? {
                0 if filled == 0 => return Ok(false),
                0 if self.blocks == 0 => {
                    return Err(Error::corrupt("not a tar: it ends within its first header"));
                }
                0 => return Err(Error::corrupt("tar: ends within a header")),
                read => filled += read,
            }
        }
        self.blocks += 1;
        Ok(true)
    }

    fn raw(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.inner.read(into) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn cut(&self) -> io::Error {
        io::Error::new(io::ErrorKind::UnexpectedEof, format!("the archive ends within {}", self.current))
    }
}

impl<R: Read> Read for Archive<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(into.len());
        if most == 0 {
            return Ok(0);
        }
        let read = self.raw(&mut into[..most])?;
        if read == 0 {
            return Err(self.cut());
        }
        self.left -= read as u64;
        Ok(read)
    }
}

fn until_nul(mut name: Vec<u8>) -> Vec<u8> {
    if let Some(end) = name.iter().position(|byte| *byte == 0) {
        name.truncate(end);
    }
    name
}

/// A numeric field with nothing in it means 0: writers leave out what they don't know, and other readers take it so.
fn number(field: &[u8], parsed: io::Result<u64>) -> io::Result<u64> {
    if field.iter().all(|byte| matches!(byte, 0 | b' ')) { Ok(0) } else { parsed }
}
