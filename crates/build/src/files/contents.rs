//! The digests of the files that a COPY put into a layer: what tells a later COPY which of them it needs not write again.
//!
//! They belong to a layer by its id, which is a digest of all that is in it: what was true of it once is always true.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::known::{checked, seal};

/// The format; others are not read.
const MAGIC: &[u8; 16] = b"coracle files 3\n";

type Name = [u8; 16];
const ROW: usize = 16 + 32;

/// By path in the layer.
#[derive(Debug, Default)]
pub(crate) struct Contents(Vec<(Name, [u8; 32])>);

impl Contents {
    /// From the bytes of a record; empty where they are damaged or foreign.
    pub(crate) fn read(bytes: &[u8]) -> Contents {
        let rows = checked(bytes).and_then(|bytes| bytes.strip_prefix(MAGIC)).unwrap_or_default();
        let row = |row: &[u8]| Some((row.get(..16)?.try_into().ok()?, row.get(16..)?.try_into().ok()?));
        let rows: Option<Vec<_>> = rows.chunks(ROW).map(row).collect();
        Contents(rows.filter(|rows| rows.is_sorted()).unwrap_or_default())
    }

    /// All of them, of one layer.
    pub(crate) fn collect(of: Vec<(Name, [u8; 32])>) -> Contents {
        let mut rows = of;
        rows.sort_unstable();
        Contents(rows)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The digest of the file at this path of the layer.
    pub(crate) fn get(&self, path: &Path) -> Option<&[u8; 32]> {
        let name = name(path);
        let at = self.0.binary_search_by(|(other, _)| other.cmp(&name)).ok()?;
        self.0.get(at).map(|(_, digest)| digest)
    }

    pub(crate) fn to_write(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16 + 32 + self.0.len() * ROW);
        bytes.extend_from_slice(MAGIC);
        for (name, digest) in &self.0 {
            bytes.extend_from_slice(name);
            bytes.extend_from_slice(digest);
        }
        seal(bytes)
    }
}

/// What stands for a path: half of its digest, which no two paths share.
pub(crate) fn name(path: &Path) -> Name {
    let digest: [u8; 32] = Sha256::digest(path.as_os_str().as_encoded_bytes()).into();
    let mut name = Name::default();
    name.copy_from_slice(&digest[..16]);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_written_and_nothing_in_what_is_damaged() {
        let rows = ["b", "a/c", ""].map(|path| (name(Path::new(path)), [path.len() as u8; 32]));
        let bytes = Contents::collect(rows.to_vec()).to_write();
        let read = Contents::read(&bytes);
        assert_eq!(read.get(Path::new("a/c")), Some(&[3; 32]));
        assert_eq!(read.get(Path::new("a")), None);
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(Contents::read(&bad).is_empty(), "byte {at}");
        }
        assert!(Contents::read(b"").is_empty());
    }
}
