//! Digests, and the three things that one can be of.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::{Error, Result};

/// A SHA-256 digest, written `sha256:` and 64 lower-case hexadecimal digits (OCI image-spec, descriptor.md).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }

    pub(crate) fn from_hash(hash: Sha256) -> Digest {
        Digest(hash.finalize().into())
    }

    /// The 64 digits without the algorithm: the name of a blob's file.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(crate) fn from_hex(hex: &str) -> Option<Digest> {
        let mut bytes = [0u8; 32];
        if hex.len() != 64 || !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Digest(bytes))
    }

    /// As the OCI types have it.
    pub(crate) fn to_oci(self) -> oci_spec::image::Digest {
        let text = self.to_string();
        match oci_spec::image::Sha256Digest::from_str(&text[7..]) {
            Ok(digest) => digest.into(),
            Err(_) => unreachable!("64 hexadecimal digits are a digest: {text}"),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Digest> {
        let Some((algorithm, encoded)) = text.split_once(':') else {
            return Err(Error::invalid(format!("digest {text:?}: no algorithm, as in sha256:…")));
        };
        if algorithm != "sha256" {
            return Err(Error::unsupported(format!("digest {text:?}: only sha256 is supported")));
        }
        Digest::from_hex(encoded)
            .ok_or_else(|| Error::invalid(format!("digest {text:?}: not 64 lower-case hexadecimal digits")))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Digest, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

macro_rules! digest_of {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Digest);

        impl $name {
            /// The digest itself.
            pub fn digest(&self) -> Digest {
                self.0
            }

            /// The 64 digits without the algorithm.
            pub fn hex(&self) -> String {
                self.0.hex()
            }
        }

        impl From<Digest> for $name {
            fn from(digest: Digest) -> $name {
                $name(digest)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<$name> {
                text.parse().map($name)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

digest_of! {
    /// The digest of a layer's *uncompressed* tar (OCI image-spec, config.md, `rootfs.diff_ids`).
    DiffId
}
digest_of! {
    /// What a layer is on top of all that are below it: the digest of its parent's chain id and its diff id
    /// (OCI image-spec, config.md, "Layer ChainID"). It names a tree: same chain id, same files.
    ChainId
}
digest_of! {
    /// The digest of an image's config blob, which is what docker calls the image id.
    ImageId
}

impl ChainId {
    /// The chain id of a layer with `diff` on top of `parent`.
    pub fn next(parent: Option<&ChainId>, diff: &DiffId) -> ChainId {
        match parent {
            None => ChainId(diff.0),
            Some(parent) => ChainId(Digest::of(format!("{parent} {diff}").as_bytes())),
        }
    }

    /// The chain ids of a stack of layers, the lowest first.
    pub fn chain(diffs: &[DiffId]) -> Vec<ChainId> {
        let mut chain: Vec<ChainId> = Vec::with_capacity(diffs.len());
        for diff in diffs {
            chain.push(ChainId::next(chain.last(), diff));
        }
        chain
    }
}

/// Hashes and counts what passes through, in either direction.
pub(crate) struct Hashing<T> {
    pub inner: T,
    hash: Sha256,
    pub bytes: u64,
}

impl<T> Hashing<T> {
    pub fn new(inner: T) -> Hashing<T> {
        Hashing { inner, hash: Sha256::new(), bytes: 0 }
    }

    pub fn digest(&self) -> Digest {
        Digest(self.hash.clone().finalize().into())
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.hash.update(&into[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_it_prints() {
        let digest = Digest::of(b"");
        assert_eq!(
            digest.to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        assert_eq!(digest.to_oci().to_string(), digest.to_string());
        for (bad, says) in [
            ("e3b0", "no algorithm"),
            ("sha512:00", "only sha256"),
            ("sha256:E3B0", "64 lower-case"),
            ("sha256:", "64 lower-case"),
        ] {
            let error = bad.parse::<Digest>().unwrap_err().to_string();
            assert!(error.contains(says) && error.contains(bad), "{error}");
        }
    }

    #[test]
    fn chain_ids_are_the_specification_s() {
        let (a, b) = (DiffId(Digest::of(b"a")), DiffId(Digest::of(b"b")));
        let chain = ChainId::chain(&[a, b]);
        assert_eq!(chain[0].digest(), a.digest());
        assert_eq!(chain[1].digest(), Digest::of(format!("{a} {b}").as_bytes()));
        assert!(ChainId::chain(&[]).is_empty());
    }
}
