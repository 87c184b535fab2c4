//! Results of builds, carried to another state directory: an image manifest that lists layers, and whose config says which
//! steps led to them. It is in an OCI image layout, or in a registry.
//!
//! The config is of the media type `application/vnd.coracle.buildcache.v1+json`:
//!
//! ```text
//! { "version": what keys are of; another version's are of no use,
//!   "layers":  [ { "id": chain id, "parent": chain id or null, "diff": diff id, "blob": digest } … parents first ],
//!   "steps":   [ { "key", "snapshot": chain id, "text", "created", "cost", "bytes" } … ],
//!   "files":   [ { "key", "digest", "bytes" } … ] }
//! ```
//!
//! Steps whose snapshot is not among the layers are known by their result's id alone, which is enough for the keys of those that
//! follow; `files` says the same of files that are copied from one to another.
//!
//! Everything that can copy images between layouts and registries can copy it, too.

mod import;
mod layout;
#[cfg(feature = "registry")]
mod registry;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

use coracle_build::{Cache, CachedFiles, CachedStep};
use coracle_host::Call;
use coracle_layers::{Blob, ChainId, CompressionOptions, DiffId, Digest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub(crate) use import::Came;
pub use import::ImportedCache;

use super::Built;
use crate::error::{Doing, Error, Result};
use crate::{Engine, Kind};

const CONFIG: &str = "application/vnd.coracle.buildcache.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// A document that is longer than this is none of ours.
const LONGEST: u64 = 64 << 20;

/// Whose layers are carried along. Of all steps it is carried what they came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheMode {
    /// Those of the image: a build of the same needs no others.
    #[default]
    Min,
    /// Those of all stages: a build of something else has them to go on from.
    Max,
}

/// What of a cache is written, and how. A [`CacheMode`] alone is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheOptions {
    mode: CacheMode,
    compression: CompressionOptions,
}

impl CacheOptions {
    /// The image's layers as they are.
    pub fn new() -> CacheOptions {
        CacheOptions::default()
    }

    /// Those layers.
    #[must_use]
    pub fn mode(mut self, mode: CacheMode) -> CacheOptions {
        self.mode = mode;
        self
    }

    /// Layers are compressed like this. What is known of them is known of their plain bytes, so that it is done each time anew.
    #[must_use]
    pub fn compression(mut self, how: impl Into<CompressionOptions>) -> CacheOptions {
        self.compression = how.into();
        self
    }
}

impl From<CacheMode> for CacheOptions {
    fn from(mode: CacheMode) -> CacheOptions {
        CacheOptions::new().mode(mode)
    }
}

/// What was written: see [`Engine::export_build_cache`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheExport {
    /// How many steps.
    pub steps: usize,
    /// How many layers.
    pub layers: usize,
    /// The digest of the manifest.
    pub digest: String,
}

#[derive(Serialize, Deserialize)]
struct Document {
    version: String,
    layers: Vec<LayerOf>,
    steps: Vec<CachedStep>,
    #[serde(default)]
    files: Vec<CachedFiles>,
}

#[derive(Serialize, Deserialize)]
struct LayerOf {
    id: ChainId,
    parent: Option<ChainId>,
    diff: DiffId,
    blob: Digest,
}

/// Where a cache goes.
trait Target {
    /// Stores a blob that `write` writes, unless it is there.
    fn put(
        &mut self,
        blob: Blob,
        write: &mut dyn FnMut(&mut dyn Write) -> coracle_layers::Result<()>,
    ) -> Result<()>;

    /// Stores the manifest, which is what the place's name means from now on.
    fn name(&mut self, manifest: &[u8]) -> Result<()>;
}

impl Engine {
    /// Writes the results of a build's steps to an image layout in `directory`, which is made if it is missing, under `tag`:
    /// what `docker build --cache-to type=local` does. Blobs that are there stay. No secret is in it, as none is in the
    /// cache; the text of the Dockerfile's lines is.
    ///
    /// # Errors
    /// `NotFound` where a layer was removed; the host's.
    pub fn export_build_cache(
        &self,
        built: &Built,
        directory: impl AsRef<Path>,
        tag: &str,
        options: impl Into<CacheOptions>,
    ) -> Result<CacheExport> {
        let path = directory.as_ref();
        layout::Layout::create(path, tag)
            .and_then(|mut layout| self.exported(built, &mut layout, options.into()))
            .doing(|| format!("export the build cache to {path:?}"))
    }

    fn exported(&self, built: &Built, target: &mut dyn Target, options: CacheOptions) -> Result<CacheExport> {
        let store = &self.0.store;
        let own: BTreeSet<&ChainId> = built.image.stored().layers().iter().collect();
        let (version, files) = (Cache::version().to_owned(), built.files.clone());
        let mut document = Document { version, layers: Vec::new(), steps: Vec::new(), files };
        let mut listed: BTreeMap<ChainId, Value> = BTreeMap::new();
        let mut order = Vec::new();
        let all = options.mode == CacheMode::Max;
        for step in &built.cache {
            if document.steps.contains(step) {
                continue;
            }
            document.steps.push(step.clone());
            let top: ChainId = step.snapshot.parse()?;
            // What nobody needed of an imported cache may not be here.
            if !own.contains(&top) && (!all || store.layer(&top)?.is_none()) {
                continue;
            }
            for id in store.chain(&top)? {
                if listed.contains_key(&id) {
                    continue;
                }
                let packed = store.pack_layer(&id, options.compression)?;
                let (layer, blob) = (packed.layer(), packed.blob());
                target.put(blob, &mut |out| packed.write_to(out))?;
                let (parent, diff) = (layer.parent(), layer.diff_id());
                document.layers.push(LayerOf { id, parent, diff, blob: blob.digest });
                let media = packed.media_type().to_string();
                listed.insert(
                    id,
                    json!({"mediaType": media, "digest": blob.digest.to_string(), "size": blob.size}),
                );
                order.push(id);
            }
        }
        let config = bytes_of(&document)?;
        let blob = Blob { digest: Digest::of(&config), size: config.len() as u64 };
        let written =
            |out: &mut dyn Write| Ok(out.write_all(&config).call(|| "write(the cache's config)")?);
        target.put(blob, &mut { written })?;
        let layers: Vec<&Value> = order.iter().map(|id| &listed[id]).collect();
        let manifest = bytes_of(&json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "layers": layers,
            "config": { "mediaType": CONFIG, "digest": blob.digest.to_string(), "size": blob.size },
        }))?;
        target.name(&manifest)?;
        let (steps, layers) = (document.steps.len(), order.len());
        Ok(CacheExport { steps, layers, digest: Digest::of(&manifest).to_string() })
    }
}

fn parsed<T: serde::de::DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| Error::new(Kind::Corrupt, format!("its {what}: {error}")))
}

fn checked(expected: &Digest, came: Digest) -> Result<()> {
    let wrong = || Error::new(Kind::Corrupt, format!("blob {expected} is {came}"));
    if *expected == came { Ok(()) } else { Err(wrong()) }
}

fn bytes_of(document: &impl Serialize) -> Result<Vec<u8>> {
    let wrong = |error| Error::new(Kind::Invalid, format!("a document can't be written: {error}"));
    serde_json::to_vec(document).map_err(wrong)
}
