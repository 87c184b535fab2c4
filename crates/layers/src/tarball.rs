//! Layers that are kept as trees only, as the tars that their digests speak of.

use std::io::{self, BufWriter, Write};

use coracle_host::{Call, Dir, Kind, Lock};

use crate::apply;
use crate::diff::Packing;
use crate::digest::Hashing;
use crate::layer::missing;
use crate::listing::Listing;
use crate::tar::Writer;
use crate::{ChainId, Context, Error, Image, Layer, Result, Store};

const CHUNK: usize = 128 << 10;

/// The files of one layer without those below it, which stay while this lives.
#[derive(Debug)]
pub struct LayerTree {
    dir: Dir,
    _locks: Vec<Lock>,
}

impl LayerTree {
    /// The directory, as overlayfs wants a lower layer. Nothing in it is ever to be changed.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }
}

impl Store {
    /// The files of one layer, for who wants to read them or give them further names in another tree of this file system.
    ///
    /// # Errors
    /// As of [`Store::layer`].
    pub fn layer_tree(&self, id: &ChainId) -> Result<Option<LayerTree>> {
        let mut held = match self.hold(Some(id)) {
            Err(error) if error.kind() == Kind::NotFound => return Ok(None),
            held => held?,
        };
        held.trees.truncate(1);
        held.locks.truncate(1);
        Ok(held.trees.pop().map(|dir| LayerTree { dir, _locks: held.locks }))
    }

    /// Writes a layer's bytes as manifests list them ([`Layer::blob`]): those stored, or the tar of its tree, which is made
    /// anew. Either way they are hashed on the way.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt` where the bytes are not what the digest says, after they were written; what writing fails with.
    pub fn write_layer(&self, id: &ChainId, out: impl Write) -> Result<()> {
        let layer = self.layer(id)?.ok_or_else(|| missing(id))?;
        self.layer_bytes(&layer, out).context(|| format!("write layer {id}"))
    }

    pub(crate) fn layer_bytes(&self, layer: &Layer, mut out: impl Write) -> Result<()> {
        let blob = layer.blob();
        match self.blobs.open(&blob.digest) {
            Ok(mut stored) => {
                let copied = io::copy(&mut stored, &mut out);
                copied.map_err(|error| Error::reading(&format!("blob {}", blob.digest), &error))?;
                return Ok(());
            }
            Err(error) if error.kind() == Kind::NotFound && blob.digest == layer.diff_id().digest() => {}
            Err(error) => return Err(error),
        }
        let held = self.hold(Some(&layer.chain_id()))?;
        let Some((tree, below)) = held.trees.split_first() else { return Err(missing(&layer.chain_id())) };
        let root = apply::root_attributes(below)?;
        let writer = Writer::new(BufWriter::with_capacity(CHUNK, Hashing::new(out)));
        let how = Packing { root: &root, clamp: None, skip: None, plain: false, seen: None };
        let hashing =
            Listing::of(tree, &how)?.write(tree, writer)?.into_inner().map_err(|error| error.into_error());
        let hashing = hashing.call(|| "write(tar)")?;
        if hashing.digest() != blob.digest {
            let text = format!(
                "{:?}: its tar is {}, where {} is expected: somebody changed the tree",
                tree.path(),
                hashing.digest(),
                blob.digest
            );
            return Err(Error::corrupt(text));
        }
        Ok(())
    }

    /// Stores all blobs that the image's manifest lists, for programs that read the state directory as an OCI image layout:
    /// layers that were built are else kept as trees only.
    ///
    /// # Errors
    /// As of [`Store::write_layer`]; `Exhausted` when the disk is full.
    pub fn complete(&self, image: &Image) -> Result<()> {
        for id in image.layers() {
            let layer = self.layer(id)?.ok_or_else(|| missing(id))?;
            if !self.blobs.has(&layer.blob().digest)? {
                let mut writer = self.blobs.writer()?;
                self.layer_bytes(&layer, &mut writer).context(|| format!("write layer {id}"))?;
                writer.finish()?;
            }
        }
        Ok(())
    }
}
