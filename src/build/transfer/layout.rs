//! A cache in a directory: an OCI image layout (image-layout.md).

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use coracle_host::{Call, Dir, Staging};
use coracle_layers::{Blob, Digest};
use rustix::fs::{FlockOperation, OFlags, flock};
use serde_json::{Value, json};

use super::import::Origin;
use super::{LONGEST, MANIFEST, Target, checked, parsed};
use crate::Kind;
use crate::error::{Error, Result};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// What is being written, until it has its name: a directory like no other's, since what a killed one left there is removed.
const TMP: &str = ".coracle-export";

/// A layout, and the tag (or digest, to read) that is meant in it. It is written by one at a time, who has its directory locked
/// (flock(2)): the index is read, and written with more.
pub(super) struct Layout {
    dir: Dir,
    blobs: Dir,
    tag: String,
    /// Of who writes.
    staging: Option<Staging>,
}

impl Layout {
    pub(super) fn create(path: &Path, tag: &str) -> Result<Layout> {
        std::fs::create_dir_all(path).call(|| format!("mkdir({path:?})"))?;
        let dir = Dir::open(path)?;
        let locked = || format!("flock({path:?})");
        rustix::io::retry_on_intr(|| flock(&dir, FlockOperation::LockExclusive)).call(locked)?;
        // What a killed one has left is nobody's.
        if dir.has(TMP)? {
            dir.remove_tree(TMP)?;
        }
        let staging = Some(Staging::open(&dir.make(TMP, 0o700)?)?);
        let blobs = dir.make("blobs", 0o755)?.make("sha256", 0o755)?;
        Ok(Layout { dir, blobs, tag: tag.to_owned(), staging })
    }

    pub(super) fn open(path: &Path, tag: &str) -> Result<Layout> {
        let dir = Dir::open(path)?;
        let blobs = dir.dir("blobs")?.dir("sha256")?;
        Ok(Layout { dir, blobs, tag: tag.to_owned(), staging: None })
    }

    fn staging(&self) -> Result<&Staging> {
        self.staging.as_ref().ok_or_else(|| Error::new(Kind::Invalid, "this layout is only read"))
    }

    /// What the index lists.
    fn listed(&self) -> Result<Vec<Value>> {
        let mut index: Value = parsed(&self.dir.read("index.json")?, "index.json")?;
        Ok(index["manifests"].as_array_mut().map(std::mem::take).unwrap_or_default())
    }

    fn open_blob(&self, digest: &Digest) -> Result<File> {
        Ok(File::from(self.blobs.file(digest.hex(), OFlags::RDONLY | OFlags::NOFOLLOW, 0)?))
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        if self.staging.take().is_some() {
            // The next one removes what could not be removed.
            let _ = self.dir.remove_tree(TMP);
            // Another thread's child may have a copy of the descriptor until it executes.
            let _ = flock(&self.dir, FlockOperation::Unlock);
        }
    }
}

impl Target for Layout {
    fn put(
        &mut self,
        blob: Blob,
        write: &mut dyn FnMut(&mut dyn Write) -> coracle_layers::Result<()>,
    ) -> Result<()> {
        if self.blobs.has(blob.digest.hex())? {
            return Ok(());
        }
        let mut file = self.staging()?.file()?;
        write(&mut file)?;
        Ok(file.publish(&self.blobs, blob.digest.hex())?)
    }

    fn name(&mut self, manifest: &[u8]) -> Result<()> {
        let blob = Blob { digest: Digest::of(manifest), size: manifest.len() as u64 };
        let written = |out: &mut dyn Write| Ok(out.write_all(manifest).call(|| "write(the manifest)")?);
        self.put(blob, &mut { written })?;
        // What can't be read is replaced.
        let mut all = self.listed().unwrap_or_default();
        all.retain(|one| one["annotations"][REF_NAME] != self.tag.as_str());
        all.push(json!({
            "mediaType": MANIFEST, "digest": blob.digest.to_string(), "size": blob.size,
            "annotations": { REF_NAME: &self.tag },
        }));
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": all });
        let staging = self.staging()?;
        staging.write(&self.dir, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        Ok(staging.write(&self.dir, "index.json", index.to_string().as_bytes())?)
    }
}

impl Origin for Layout {
    fn manifest(&self) -> Result<Vec<u8>> {
        let all = self.listed()?;
        let tag = self.tag.as_str();
        let found = all.iter().find(|one| one["digest"] == tag || one["annotations"][REF_NAME] == tag);
        let found = found.ok_or_else(|| Error::new(Kind::NotFound, format!("it has no `{tag}`")))?;
        let digest = found["digest"].as_str().unwrap_or("").parse()?;
        let size = found["size"].as_u64().unwrap_or(0).min(LONGEST);
        let mut bytes = Vec::new();
        self.copy(Blob { digest, size }, &mut bytes)?;
        checked(&digest, Digest::of(&bytes))?;
        Ok(bytes)
    }

    fn copy(&self, blob: Blob, into: &mut dyn Write) -> Result<()> {
        let mut from = self.open_blob(&blob.digest)?.take(blob.size);
        std::io::copy(&mut from, into).call(|| format!("copy(blob {})", blob.digest))?;
        Ok(())
    }
}
