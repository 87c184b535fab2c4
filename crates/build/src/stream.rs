//! A context that comes as a stream.

use std::io::{self, Cursor, Read};
use std::path::Path;

use coracle_host::{Dir, StagedDir, Staging};

use crate::error::Result;
use crate::files::unpack;

/// What comes out of a stream that is compressed with gzip, bzip2, xz or zstd; as it comes where it is not.
///
/// # Errors
/// What reading its first bytes fails with; reading on fails where it is broken.
pub fn decompress<'a>(mut from: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut head = Vec::new();
    from.by_ref().take(unpack::MAGIC).read_to_end(&mut head)?;
    let magic = head.clone();
    unpack::decompressed(&magic, Box::new(Cursor::new(head).chain(from)))
}

/// A context that came from elsewhere, in a directory that is removed with this value.
pub struct Unpacked {
    dir: Dir,
    _staged: StagedDir,
}

impl Unpacked {
    /// Unpacks a tar, plain or compressed with gzip, bzip2, xz or zstd, into a staged directory.
    ///
    /// # Errors
    /// `Invalid` for what is no such archive, or leads out of itself; `Unsupported` for devices in it; else the host's.
    pub fn from_tar(archive: impl Read + 'static, staging: &Staging) -> Result<Unpacked> {
        let staged = staging.dir()?;
        let dir = staged.dir().make_new("context", 0o700)?;
        unpack::context(archive, &dir)?;
        Ok(Unpacked { dir, _staged: staged })
    }

    pub(crate) fn of(dir: Dir, staged: StagedDir) -> Unpacked {
        Unpacked { dir, _staged: staged }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl std::fmt::Debug for Unpacked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Unpacked({:?})", self.path())
    }
}
