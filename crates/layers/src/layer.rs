//! Layers: `layers/<chain id>/`, each a blob (its tar) and a tree (the directory that overlay takes).

use std::io::{Read, Seek};
use std::os::fd::AsFd;
use std::path::PathBuf;

use coracle_host::{Call, Dir, Kind, Lock, StagedDir, StagedFile};
use oci_spec::image::MediaType;
use serde::{Deserialize, Serialize};

use crate::apply::{self, Trust};
use crate::blobs::Blob;
use crate::compression::{Arrived, Compression, Incoming};
use crate::diff::{self, Packing};
use crate::flush::Flusher;
use crate::hasher::Hasher;
use crate::hashing::{Hashed, Hashing};
use crate::listing::Listing;
use crate::marks::Marks;
use crate::seen::Seen;
use crate::skip::Skip;
use crate::store::put;
use crate::tar::{Archive, Writer};
use crate::{ChainId, Context, DiffId, Digest, Error, LayerTree, Result, Store, json};

/// What becomes the layer's directory, in a staged one.
const HOME: &str = "layer";
const FS: &str = "fs";
const META: &str = "meta";
const MARKS: &str = "marks";
const LOCK: &str = "lock";
/// Bytes that are not worth a thread.
const FEW: u64 = 1 << 20;

/// A layer of the store: what it is, not its files. See [`Store::rootfs`] for those.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    chain_id: ChainId,
    diff_id: DiffId,
    parent: Option<ChainId>,
    media_type: MediaType,
    blob: Digest,
    blob_size: u64,
    size: u64,
    /// Layers of before it was counted don't have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_size: Option<u64>,
}

impl Layer {
    /// What the layer is on top of its parents; the name of its tree.
    pub fn chain_id(&self) -> ChainId {
        self.chain_id
    }

    /// The digest of its plain tar.
    pub fn diff_id(&self) -> DiffId {
        self.diff_id
    }

    /// The layer below it.
    pub fn parent(&self) -> Option<ChainId> {
        self.parent
    }

    /// The length of its plain tar in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of the files in it, each once however many names it has: what docker takes for a layer's size.
    pub fn content_size(&self) -> u64 {
        self.content_size.unwrap_or(self.size)
    }

    /// Its bytes as a manifest lists them: plain or compressed, as they came. Of a layer that came from a tree the store
    /// may have the tree only, see [`Store::write_layer`].
    pub fn blob(&self) -> Blob {
        Blob { digest: self.blob, size: self.blob_size }
    }

    /// How its stored bytes are packed (layer.md).
    pub fn media_type(&self) -> &MediaType {
        &self.media_type
    }
}

/// How an upper directory becomes a layer.
#[derive(Clone, Debug, Default)]
pub struct UpperOptions {
    pub(crate) clamp_mtime: Option<i64>,
    pub(crate) like: Option<ChainId>,
}

impl UpperOptions {
    /// Nothing special.
    pub fn new() -> UpperOptions {
        UpperOptions::default()
    }

    /// Files that changed later than this (seconds since the epoch) get this time, in the tar and in the tree: what a
    /// reproducible build does with `SOURCE_DATE_EPOCH`.
    #[must_use]
    pub fn clamp_mtime(mut self, epoch: i64) -> UpperOptions {
        self.clamp_mtime = Some(epoch);
        self
    }

    /// A layer that this one may have files of, by hard links, see [`Store::layer_tree`]: where their tars begin with the same
    /// bytes, these are not hashed again. That it is gone is fine.
    #[must_use]
    pub fn like(mut self, layer: ChainId) -> UpperOptions {
        self.like = Some(layer);
        self
    }
}

/// Layers in use: their trees, the top one first, and the locks that keep them.
pub(crate) struct Held {
    pub trees: Vec<Dir>,
    pub locks: Vec<Lock>,
}

/// The archive of a layer on its way in.
pub(crate) struct Taken<'a, R> {
    pub tar: R,
    pub keep: Keep<'a>,
    pub trust: Trust,
    /// What it has to unpack from.
    pub expect: Option<DiffId>,
    /// What its bytes, as they come, have to be.
    pub expect_blob: Option<Digest>,
}

/// Where the archive's bytes, as they come, are kept as a blob.
pub(crate) enum Keep<'a> {
    /// They are copied into this file.
    Copy(StagedFile),
    /// They come from this file, which becomes the blob.
    Whole(StagedFile),
    /// They come from this file of a directory of ours, which becomes the blob.
    Move(&'a Dir, &'a str),
    /// They come from a blob of the store.
    Stored,
}

/// What is known of a tree before it is looked at.
#[derive(Default)]
pub(crate) struct Foretold {
    /// Its listing, if it turns out so, and the digest of that.
    pub hashed: Option<(Listing, Hashed)>,
    pub seen: Seen,
}

impl Store {
    /// The layer with this chain id.
    ///
    /// # Errors
    /// `Corrupt` where its record can't be read; else as of openat(2).
    pub fn layer(&self, id: &ChainId) -> Result<Option<Layer>> {
        let Some(dir) = self.layers.dir_if_there(id.hex())? else { return Ok(None) };
        let Some(bytes) = dir.read_if_there(META)? else { return Ok(None) };
        let layer: Layer = json::parse(&bytes, || format!("{:?}", dir.path_of(META)))?;
        if layer.chain_id != *id {
            let text = format!("{:?}: is about layer {}", dir.path_of(META), layer.chain_id);
            return Err(Error::corrupt(text));
        }
        Ok(Some(layer))
    }

    /// All layers, by chain id.
    ///
    /// # Errors
    /// As of [`Store::layer`].
    pub fn layers(&self) -> Result<Vec<Layer>> {
        let mut layers = Vec::new();
        for name in self.layers.names()? {
            if let Some(id) = name.to_str().and_then(Digest::from_hex)
                && let Some(layer) = self.layer(&id.into())?
            {
                layers.push(layer);
            }
        }
        Ok(layers)
    }

    /// The layers from the lowest to `top`, which is the last one.
    ///
    /// # Errors
    /// `NotFound`, naming the layer, where one is not there.
    pub fn chain(&self, top: &ChainId) -> Result<Vec<ChainId>> {
        Ok(self.stack(Some(top))?.into_iter().map(|layer| layer.chain_id).collect())
    }

    /// A layer from a tar (plain, gzip or zstd), put on top of `parent`. The bytes are kept as they come, for
    /// manifests. A layer that is there already is kept, and returned.
    ///
    /// The archive is read as docker and containerd read layers: leading `/` and `./` are dropped, links on the way
    /// are followed inside the root, and `..` is refused. Nothing is written outside, and nothing is left when it fails.
    ///
    /// # Errors
    /// `Invalid` and `Corrupt`, naming the entry, for an archive that is refused or broken; `NotFound` for a missing
    /// parent; `Exhausted` when the disk is full.
    pub fn add_layer_from_tar(&self, parent: Option<&ChainId>, tar: impl Read) -> Result<Layer> {
        let keep = Keep::Copy(self.staging.file()?);
        self.take_in(parent, Taken { tar, keep, trust: Trust::Layer, expect: None, expect_blob: None })
            .context(|| "add layer")
    }

    /// A layer from a blob of the store; else as of [`Store::add_layer_from_tar`].
    ///
    /// # Errors
    /// As of [`Store::add_layer_from_tar`]; `Corrupt` where the blob isn't what its digest says.
    pub fn add_layer_from_blob(&self, parent: Option<&ChainId>, blob: &Digest) -> Result<Layer> {
        let tar = self.blobs.open(blob)?;
        self.take_in(
            parent,
            Taken { tar, keep: Keep::Stored, trust: Trust::Layer, expect: None, expect_blob: None },
        )
        .context(|| format!("add layer from blob {blob}"))
    }

    /// A layer from an overlay's upper directory, the entry `name` of `dir`, which must be on the store's file system
    /// and mounted no more. Its tar is hashed in one walk, and then the directory itself is moved into the store:
    /// nothing is copied, and the tar is not kept, see [`Store::write_layer`]. The directory is gone from `dir` afterwards,
    /// also when the store has such a layer already.
    /// Sockets are not part of layers and are removed.
    ///
    /// # Errors
    /// `NotFound` for a missing parent; `Invalid` for a file whose name would mean a removal (`.wh.…`);
    /// `Exhausted` when the disk is full. Then the directory stays where it was.
    pub fn add_layer_from_upper(
        &self,
        parent: Option<&ChainId>,
        dir: &Dir,
        name: &str,
        options: &UpperOptions,
    ) -> Result<Layer> {
        self.take_upper(parent, dir, name, options, Foretold::default())
            .context(|| format!("add layer from {:?}", dir.path_of(name)))
    }

    /// A layer from a copy of an overlay's upper directory, which may be mounted and in use: nothing in it is changed. `mounted`
    /// are paths where something was mounted: what was made there only for that is left out.
    ///
    /// # Errors
    /// As of [`Store::add_layer_from_upper`]; `InUse` where a file shrank while it was read.
    pub fn copy_layer_from_upper(
        &self,
        parent: Option<&ChainId>,
        upper: &Dir,
        mounted: &[PathBuf],
    ) -> Result<Layer> {
        self.copy_upper(parent, upper, mounted).context(|| format!("add layer from {:?}", upper.path()))
    }

    fn copy_upper(&self, parent: Option<&ChainId>, upper: &Dir, mounted: &[PathBuf]) -> Result<Layer> {
        let root = apply::root_attributes(&self.hold(parent)?.trees)?;
        let mut out = Writer::new(self.blobs.writer()?);
        let skip = Skip::new(mounted);
        let how = Packing { root: &root, clamp: None, skip: Some(&skip), plain: false, seen: None };
        diff::pack(upper, &how, &mut out)?;
        let (file, blob) = out.finish()?.into_staged()?;
        let written = || "dup(staged layer)";
        let mut tar = file.file().try_clone().call(written)?;
        tar.rewind().call(|| "lseek(staged layer)")?;
        let (keep, expect) = (Keep::Whole(file), Some(blob.digest.into()));
        self.take_in(parent, Taken { tar, keep, trust: Trust::Layer, expect, expect_blob: None })
    }

    /// What is foretold counts only if the listing is that of the tree.
    pub(crate) fn take_upper(
        &self,
        parent: Option<&ChainId>,
        dir: &Dir,
        name: &str,
        options: &UpperOptions,
        foretold: Foretold,
    ) -> Result<Layer> {
        let upper = dir.dir(name)?;
        let below = self.hold(parent)?;
        let root = apply::root_attributes(&below.trees)?;
        let how = Packing {
            root: &root,
            clamp: options.clamp_mtime,
            skip: None,
            plain: false,
            seen: Some(&foretold.seen),
        };
        let listing = Listing::of(&upper, &how)?;
        let (listing, hashed) = match foretold.hashed.filter(|(foretold, _)| foretold.is_same(&listing)) {
            Some((_, hashed)) => (listing, hashed),
            None => self.hash_upper(&upper, listing, options)?,
        };
        let (content, blob) = (listing.content, hashed.blob);
        let marks = listing.marks(hashed).to_bytes(&upper);
        drop(listing);
        let diff_id = DiffId::from(blob.digest);
        let layer = Layer {
            chain_id: ChainId::next(parent, &diff_id),
            diff_id,
            parent: parent.copied(),
            media_type: Compression::None.media_type(),
            blob: blob.digest,
            blob_size: blob.size,
            size: blob.size,
            content_size: Some(content),
        };
        if let Some(known) = self.layer(&layer.chain_id)? {
            self.staging.trash(dir, name)?;
            return Ok(known);
        }
        let staged = self.staging.dir()?;
        let home = staged.dir().make_new(HOME, 0o700)?;
        if let Some(marks) = marks {
            put(&home, MARKS, &marks)?;
        }
        dir.rename(name, &home, FS)?;
        self.publish(&staged, None, layer).inspect_err(|_| {
            // The first failure is the one to report; the caller finds the directory where it was.
            let _ = home.rename(FS, dir, name);
        })
    }

    fn hash_upper(&self, upper: &Dir, listing: Listing, options: &UpperOptions) -> Result<(Listing, Hashed)> {
        let durable = upper.as_fd().try_clone_to_owned().call(|| format!("dup({:?})", upper.path()))?;
        let flusher = (listing.content > FEW).then(|| Flusher::new(durable));
        flusher.iter().for_each(Flusher::flush);
        // It stays while its inodes are compared.
        let (_like, known) = self.like(options)?;
        Hashing::new(listing, upper, known, Hasher::new()).whole()
    }

    /// The layer that one may have files of, and the marks of its tar, as far as it is there.
    pub(crate) fn like(&self, options: &UpperOptions) -> Result<(Option<LayerTree>, Option<Marks>)> {
        let Some(id) = &options.like else { return Ok((None, None)) };
        let like = self.layer_tree(id)?;
        let known = like.as_ref().and_then(|like| self.marks(id, like.dir()));
        Ok((like, known))
    }

    /// How far the hash of a layer's tar had come where. It can be done without.
    fn marks(&self, of: &ChainId, tree: &Dir) -> Option<Marks> {
        let dir = self.layers.dir_if_there(of.hex()).ok()??;
        Marks::from_bytes(&dir.read_if_there(MARKS).ok()??, tree)
    }

    /// Unpacks what comes in and publishes it.
    pub(crate) fn take_in(&self, parent: Option<&ChainId>, taken: Taken<'_, impl Read>) -> Result<Layer> {
        let Taken { tar, keep, trust, expect, expect_blob } = taken;
        let below = self.hold(parent)?;
        let staged = self.staging.dir()?;
        let tree = staged.dir().make_new(HOME, 0o700)?.make_new(FS, 0o755)?;
        let (copy, whole, moved) = match keep {
            Keep::Copy(file) => (Some(file), None, None),
            Keep::Whole(file) => (None, Some(file), None),
            Keep::Move(dir, name) => (None, None, Some((dir, name))),
            Keep::Stored => (None, None, None),
        };
        let mut archive = Archive::new(Incoming::new(tar, copy)?);
        if trust == Trust::Import {
            archive = archive.whole();
        }
        let content = apply::unpack(&mut archive, &tree, &below.trees, trust)?;
        archive.drain()?;
        let Arrived { compression, blob, blob_size, tar, tar_size, kept } = archive.into_inner().finish()?;
        let diff_id = DiffId::from(tar);
        if let Some(expect) = expect.filter(|expect| *expect != diff_id) {
            return Err(Error::corrupt(format!("its diff id is {diff_id}, where {expect} is expected")));
        }
        if let Some(expect) = expect_blob.filter(|expect| *expect != blob) {
            return Err(Error::corrupt(format!("its digest is {blob}, where {expect} is expected")));
        }
        let layer = Layer {
            chain_id: ChainId::next(parent, &diff_id),
            diff_id,
            parent: parent.copied(),
            media_type: compression.media_type(),
            blob,
            blob_size,
            size: tar_size,
            content_size: Some(content),
        };
        if let Some(known) = self.layer(&layer.chain_id)? {
            return Ok(known);
        }
        if let Some((dir, name)) = moved {
            self.blobs.adopt(dir, name, &blob)?;
        }
        self.publish(&staged, kept.or(whole), layer)
    }

    /// Puts the filled [`HOME`] of a staged directory under its chain id: durable first, the blob before the tree,
    /// both by renames. When it fails all is still there, for the caller to save what is not its own.
    fn publish(&self, staged: &StagedDir, blob: Option<StagedFile>, layer: Layer) -> Result<Layer> {
        let home = staged.dir().dir(HOME)?;
        put(&home, META, &json::canonical(&layer)?)?;
        put(&home, LOCK, b"")?;
        staged.sync_all()?;
        if let Some(blob) = blob {
            self.blobs.publish(blob, &layer.blob)?;
        }
        match staged.dir().rename_new(HOME, &self.layers, layer.chain_id.hex()) {
            Ok(()) => {
                self.layers.sync()?;
                Ok(layer)
            }
            // Somebody was faster with the same: theirs is as good.
            Err(error) if error.kind() == Kind::AlreadyExists => {
                self.layer(&layer.chain_id)?.ok_or_else(|| missing(&layer.chain_id))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The layers from the lowest to `top`.
    pub(crate) fn stack(&self, top: Option<&ChainId>) -> Result<Vec<Layer>> {
        let mut stack = Vec::new();
        let mut next = top.copied();
        while let Some(id) = next {
            let layer = self.layer(&id)?.ok_or_else(|| missing(&id))?;
            if layer.chain_id != ChainId::next(layer.parent.as_ref(), &layer.diff_id) {
                return Err(Error::corrupt(format!("layer {id}: its record names another parent")));
            }
            next = layer.parent;
            stack.push(layer);
        }
        stack.reverse();
        Ok(stack)
    }

    /// Takes the layers from `top` down into use.
    pub(crate) fn hold(&self, top: Option<&ChainId>) -> Result<Held> {
        let mut held = Held { trees: Vec::new(), locks: Vec::new() };
        for layer in self.stack(top)?.iter().rev() {
            let id = &layer.chain_id;
            let dir = self.layers.dir_if_there(id.hex())?.ok_or_else(|| missing(id))?;
            match Lock::shared(&dir, LOCK) {
                Err(error) if error.kind() == Kind::NotFound => return Err(missing(id)),
                lock => held.locks.push(lock?),
            }
            held.trees.push(dir.dir(FS)?);
        }
        Ok(held)
    }
}

pub(crate) fn missing(id: &ChainId) -> Error {
    Error::new(Kind::NotFound, format!("there is no layer {id}"))
}
