//! Compressed or not: known by the first bytes, undone on the way, while what came in is kept and hashed.

use std::io::{self, BufRead, BufReader, Read, Write};

use coracle_host::StagedFile;
use flate2::bufread::MultiGzDecoder;
use oci_spec::image::MediaType;

use crate::digest::Hashing;
use crate::{Digest, Error, Result};

const CHUNK: usize = 128 << 10;

/// How the bytes of a layer's blob are packed (layer.md: `+gzip`, `+zstd` media types).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    pub(crate) fn media_type(self) -> MediaType {
        match self {
            Compression::None => MediaType::ImageLayer,
            Compression::Gzip => MediaType::ImageLayerGzip,
            Compression::Zstd => MediaType::ImageLayerZstd,
        }
    }

    fn of(start: &[u8]) -> Result<Compression> {
        const OTHERS: [(&[u8], &str); 3] =
            [(b"\xfd7zXZ\0", "xz"), (b"BZh", "bzip2"), (b"\x04\x22\x4d\x18", "lz4")];
        if start.is_empty() {
            return Err(Error::invalid("not a tar: it is empty"));
        }
        if let Some((_, name)) = OTHERS.iter().find(|(magic, _)| start.starts_with(magic)) {
            let text = format!("a layer compressed with {name} is not supported: gzip, zstd or none");
            return Err(Error::unsupported(text));
        }
        Ok(match start {
            _ if start.starts_with(&[0x1f, 0x8b]) => Compression::Gzip,
            _ if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) => Compression::Zstd,
            _ => Compression::None,
        })
    }
}

/// What passes is hashed and, where there is a file, kept.
pub(crate) struct Tee<R> {
    from: Hashing<R>,
    keep: Option<StagedFile>,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(into)?;
        if let Some(keep) = &mut self.keep {
            keep.write_all(&into[..read])?;
        }
        Ok(read)
    }
}

pub(crate) type Raw<R> = BufReader<Tee<R>>;

/// A layer coming in. Read, it is the plain tar.
pub(crate) enum Incoming<R: Read> {
    /// Plain: what comes in is the tar, hashed once.
    Plain(Box<Raw<R>>),
    Gzip(Box<Hashing<MultiGzDecoder<Raw<R>>>>),
    Zstd(Box<Hashing<zstd::Decoder<'static, Raw<R>>>>),
}

/// All that is known of a layer when it has come in.
pub(crate) struct Arrived {
    pub compression: Compression,
    /// Of the bytes as they came, and how many.
    pub blob: Digest,
    pub blob_size: u64,
    /// Of the plain tar, and how many.
    pub tar: Digest,
    pub tar_size: u64,
    pub kept: Option<StagedFile>,
}

impl<R: Read> Incoming<R> {
    /// Looks at the first bytes. `keep` gets all bytes as they come.
    pub fn new(from: R, keep: Option<StagedFile>) -> Result<Incoming<R>> {
        let mut raw = BufReader::with_capacity(CHUNK, Tee { from: Hashing::new(from), keep });
        let compression = loop {
            match raw.fill_buf() {
                Ok(start) => break Compression::of(start)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::reading("layer", &error)),
            }
        };
        Ok(match compression {
            Compression::None => Incoming::Plain(Box::new(raw)),
            Compression::Gzip => Incoming::Gzip(Box::new(Hashing::new(MultiGzDecoder::new(raw)))),
            Compression::Zstd => {
                let decoder =
                    zstd::Decoder::with_buffer(raw).map_err(|error| Error::reading("zstd", &error))?;
                Incoming::Zstd(Box::new(Hashing::new(decoder)))
            }
        })
    }

    /// What came in. The tar must have been read to its end.
    pub fn finish(self) -> Result<Arrived> {
        let (compression, tar, raw) = match self {
            Incoming::Plain(raw) => (Compression::None, None, *raw),
            Incoming::Gzip(hashing) => {
                let tar = (hashing.digest(), hashing.bytes);
                (Compression::Gzip, Some(tar), hashing.inner.into_inner())
            }
            Incoming::Zstd(hashing) => {
                let tar = (hashing.digest(), hashing.bytes);
                (Compression::Zstd, Some(tar), hashing.inner.finish())
            }
        };
        // What a decompressor left unread is part of the blob all the same.
        let mut tee = raw.into_inner();
        io::copy(&mut tee, &mut io::sink()).map_err(|error| Error::reading("layer", &error))?;
        let (blob, blob_size) = (tee.from.digest(), tee.from.bytes);
        let (tar, tar_size) = tar.unwrap_or((blob, blob_size));
        Ok(Arrived { compression, blob, blob_size, tar, tar_size, kept: tee.keep })
    }
}

impl<R: Read> Read for Incoming<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Incoming::Plain(raw) => raw.read(into),
            Incoming::Gzip(hashing) => hashing.read(into),
            Incoming::Zstd(hashing) => hashing.read(into),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_come_out_alike() {
        let plain = b"some text that is no tar, but nobody looks".repeat(999);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        let packed = [
            (Compression::None, plain.clone()),
            (Compression::Gzip, gzip.finish().unwrap()),
            (Compression::Zstd, zstd::encode_all(plain.as_slice(), 1).unwrap()),
        ];
        for (compression, bytes) in packed {
            let mut incoming = Incoming::new(bytes.as_slice(), None).unwrap();
            let mut out = Vec::new();
            incoming.read_to_end(&mut out).unwrap();
            assert_eq!(out, plain);
            let arrived = incoming.finish().unwrap();
            assert_eq!(arrived.compression, compression);
            assert_eq!((arrived.blob, arrived.blob_size), (Digest::of(&bytes), bytes.len() as u64));
            assert_eq!((arrived.tar, arrived.tar_size), (Digest::of(&plain), plain.len() as u64));
            if compression != Compression::None {
                let mut cut = Incoming::new(&bytes[..bytes.len() - 9], None).unwrap();
                assert!(cut.read_to_end(&mut Vec::new()).is_err());
            }
        }
        for (bytes, says) in [(b"BZh91".as_slice(), "bzip2"), (b"\xfd7zXZ\0", "xz"), (b"", "empty")] {
            let error = Incoming::new(bytes, None).err().unwrap().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
