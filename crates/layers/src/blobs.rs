//! Immutable bytes under their digest: `blobs/sha256/<hex>` (OCI image-spec, image-layout.md).

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};

use coracle_host::{Call, Dir, Kind, StagedFile, Staging};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::digest::Hashing;
use crate::{Context, Digest, Error, Result};

/// A stored blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blob {
    /// What it is named by.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// The blobs of a store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Blobs {
    dir: Dir,
    staging: Staging,
}

impl Blobs {
    pub(crate) fn at(state: &Dir, staging: &Staging) -> Result<Blobs> {
        let dir = state.make("blobs", 0o755)?.make("sha256", 0o755)?;
        Ok(Blobs { dir, staging: staging.clone() })
    }

    /// Stores what `from` gives, to its end. That the store has it already is fine.
    ///
    /// # Errors
    /// What `from` fails with; `Exhausted` when the disk is full. Then nothing is stored.
    pub fn write(&self, from: &mut dyn Read) -> Result<Blob> {
        let mut writer = self.writer()?;
        io::copy(from, &mut writer)
            .map_err(|error| Error::reading("blob", &error))
            .context(|| "store blob")?;
        writer.finish()
    }

    /// A blob to be written piece by piece.
    ///
    /// # Errors
    /// As of openat(2).
    pub fn writer(&self) -> Result<BlobWriter> {
        let file = Hashing::new(self.staging.file()?);
        Ok(BlobWriter { blobs: self.clone(), file: BufWriter::with_capacity(128 << 10, file) })
    }

    /// Whether there is such a blob. Its bytes are not looked at.
    ///
    /// # Errors
    /// As of fstatat(2).
    pub fn has(&self, digest: &Digest) -> Result<bool> {
        Ok(self.dir.has(digest.hex())?)
    }

    /// A blob to read. Its bytes are hashed as they pass: the read that reaches the end fails with `InvalidData`
    /// where they are not what the digest says.
    ///
    /// # Errors
    /// `NotFound`; else as of openat(2).
    pub fn open(&self, digest: &Digest) -> Result<BlobReader> {
        let file = match self.dir.file(digest.hex(), OFlags::RDONLY, 0) {
            Err(error) if error.errno() == Some(Errno::NOENT) => {
                return Err(Error::new(Kind::NotFound, format!("there is no blob {digest}")));
            }
            other => File::from(other?),
        };
        let size = file.metadata().call(|| format!("fstat(blob {digest})"))?.len();
        Ok(BlobReader { file: Hashing::new(file), blob: Blob { digest: *digest, size } })
    }

    /// The bytes of a blob of at most `most` bytes, verified.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt` where the bytes are not what the digest says; `Invalid` where there are more.
    pub fn read(&self, digest: &Digest, most: u64) -> Result<Vec<u8>> {
        let mut reader = self.open(digest)?;
        if reader.blob.size > most {
            let text = format!("blob {digest} has {} bytes, more than the {most} expected", reader.blob.size);
            return Err(Error::invalid(text));
        }
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map_err(|error| Error::reading(&format!("blob {digest}"), &error))?;
        Ok(bytes)
    }

    /// Moves a file of a directory of ours under its digest, durably. The caller hashed what is in it.
    pub(crate) fn adopt(&self, dir: &Dir, name: &str, digest: &Digest) -> Result<()> {
        if self.has(digest)? {
            return Ok(());
        }
        let file = dir.file(name, OFlags::RDONLY, 0)?;
        rustix::fs::fsync(&file).call(|| format!("fsync({:?})", dir.path_of(name)))?;
        match dir.rename_new(name, &self.dir, digest.hex()) {
            Err(error) if error.kind() == Kind::AlreadyExists => Ok(()),
            Err(error) => Err(error.into()),
            Ok(()) => Ok(self.dir.sync()?),
        }
    }

    /// Puts a file under its digest, durably. The caller hashed what it wrote.
    pub(crate) fn publish(&self, file: StagedFile, digest: &Digest) -> Result<()> {
        if self.has(digest)? {
            return Ok(());
        }
        match file.publish_new(&self.dir, digest.hex()) {
            Err(error) if error.kind() == Kind::AlreadyExists => Ok(()),
            other => Ok(other?),
        }
    }
}

/// A blob being written. Dropped unfinished, it is gone.
#[must_use = "a blob is stored by finish()"]
pub struct BlobWriter {
    blobs: Blobs,
    file: BufWriter<Hashing<StagedFile>>,
}

impl BlobWriter {
    /// Stores what was written, durably. That the store has it already is fine.
    ///
    /// # Errors
    /// As of write(2), fsync(2) and renameat2(2).
    pub fn finish(self) -> Result<Blob> {
        let blobs = self.blobs.clone();
        let (file, blob) = self.into_staged()?;
        blobs.publish(file, &blob.digest)?;
        Ok(blob)
    }

    /// What was written, not yet under its name.
    pub(crate) fn into_staged(self) -> Result<(StagedFile, Blob)> {
        let hashing = self.file.into_inner().map_err(|error| error.into_error()).call(|| "write(blob)")?;
        let blob = Blob { digest: hashing.digest(), size: hashing.bytes };
        Ok((hashing.inner, blob))
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A blob being read and verified.
pub struct BlobReader {
    file: Hashing<File>,
    blob: Blob,
}

impl BlobReader {
    /// Which blob, and how long it is.
    pub fn blob(&self) -> Blob {
        self.blob
    }
}

impl Read for BlobReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(into)?;
        if read == 0 && !into.is_empty() && self.file.digest() != self.blob.digest {
            let text = format!("blob {} has other bytes than its digest says", self.blob.digest);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_once_and_notices_changes() {
        let place = tempfile::tempdir().unwrap();
        let state = Dir::open(place.path()).unwrap();
        let staging = Staging::open(&state.make("tmp", 0o700).unwrap()).unwrap();
        let blobs = Blobs::at(&state, &staging).unwrap();
        let blob = blobs.write(&mut b"text".as_slice()).unwrap();
        assert_eq!(blobs.write(&mut b"text".as_slice()).unwrap(), blob);
        assert_eq!(blob, Blob { digest: Digest::of(b"text"), size: 4 });
        assert_eq!(blobs.read(&blob.digest, 4).unwrap(), b"text");
        assert_eq!(blobs.read(&blob.digest, 3).unwrap_err().kind(), Kind::Invalid);
        assert_eq!(blobs.dir.names().unwrap(), [blob.digest.hex().as_str()]);

        std::fs::write(blobs.dir.path_of(blob.digest.hex()), "tekst").unwrap();
        let error = blobs.read(&blob.digest, 99).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt);
        assert!(error.to_string().contains(&blob.digest.to_string()), "{error}");
        let error = blobs.read(&Digest::of(b"none"), 99).unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
    }

    #[test]
    fn a_failing_reader_leaves_nothing() {
        struct Fails;
        impl Read for Fails {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::from(Errno::NOSPC))
            }
        }
        let place = tempfile::tempdir().unwrap();
        let state = Dir::open(place.path()).unwrap();
        let staging = Staging::open(&state.make("tmp", 0o700).unwrap()).unwrap();
        let blobs = Blobs::at(&state, &staging).unwrap();
        assert_eq!(blobs.write(&mut Fails).unwrap_err().kind(), Kind::Exhausted);
        assert!(blobs.dir.names().unwrap().is_empty());
    }
}
