//! The bytes of one file into another, by the best way that the two file systems have.

use std::os::fd::OwnedFd;
use std::path::Path;

use crate::{Error, Kind, Result};
use rustix::fs::{SeekFrom, copy_file_range, ftruncate, ioctl_ficlone, seek};
use rustix::io::Errno;

/// How much is asked for in one call: a copy can be interrupted between two.
const STEP: u64 = 64 << 20;
const BUFFER: usize = 128 << 10;

/// How files are copied. What has once turned out not to work between two file systems is not tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// `FICLONE` (ioctl_ficlonerange(2)): the blocks are shared until one side writes.
    Clone,
    /// copy_file_range(2): the kernel copies, or its file system knows better.
    Range,
    /// read and write.
    Buffer,
}

impl Way {
    /// Copies `size` bytes of `from` to the new file `to`. Holes stay holes.
    pub(crate) fn copy(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        size: u64,
        source: &Path,
        target: &Path,
    ) -> Result<()> {
        if *self == Way::Clone && size > 0 {
            match ioctl_ficlone(to, from) {
                Ok(()) => return Ok(()),
                Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOTTY | Errno::NOSYS) => {
                    *self = Way::Range;
                }
                Err(errno) => return Err(Error::os(format!("ioctl({target:?}, FICLONE)"), errno)),
            }
        }
        let call = |errno| Error::os(format!("copy_file_range({source:?}, {target:?})"), errno);
        // Made long at once: what lies after the last data is a hole.
        ftruncate(to, size).map_err(call)?;
        let mut at = 0;
        while at < size {
            let start = match seek(from, SeekFrom::Data(at)) {
                Ok(start) => start,
                Err(Errno::NXIO) => break,
                // It knows nothing of holes.
                Err(Errno::INVAL) => at,
                Err(errno) => return Err(call(errno)),
            };
            let end = seek(from, SeekFrom::Hole(start)).unwrap_or(size).min(size);
            at = start;
            while at < end {
                match self.part(from, to, at, end - at).map_err(call)? {
                    0 => {
                        let what = format!("{source:?} became shorter while it was copied");
                        return Err(Error::new(Kind::Corrupt, what));
                    }
                    copied => at += copied,
                }
            }
        }
        Ok(())
    }

    fn part(&mut self, from: &OwnedFd, to: &OwnedFd, at: u64, length: u64) -> rustix::io::Result<u64> {
        loop {
            let done = if *self == Way::Buffer {
                buffered(from, to, at, length)
            } else {
                let (mut source, mut target) = (at, at);
                let step = usize::try_from(length.min(STEP)).unwrap_or(BUFFER);
                match copy_file_range(from, Some(&mut source), to, Some(&mut target), step) {
                    // Some file systems say 0 where they can't (procfs, FUSE of old): reading tells.
                    Ok(0) => buffered(from, to, at, length),
                    Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOSYS) => {
                        *self = Way::Buffer;
                        continue;
                    }
                    other => other.map(|copied| copied as u64),
                }
            };
            match done {
                Err(Errno::INTR) => {}
                other => return other,
            }
        }
    }
}

fn buffered(from: &OwnedFd, to: &OwnedFd, at: u64, length: u64) -> rustix::io::Result<u64> {
    let mut buffer = vec![0; usize::try_from(length).map_or(BUFFER, |length| length.min(BUFFER))];
    let read = rustix::io::pread(from, &mut buffer, at)?;
    let mut written = 0;
    while written < read {
        written += rustix::io::pwrite(to, &buffer[written..read], at + written as u64)?;
    }
    Ok(read as u64)
}
