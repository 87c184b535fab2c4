//! Results of builds, carried to another state directory: an image manifest that lists layers, and whose config says which
//! steps led to them. It is in an OCI image layout, or in a registry.
//!
//! The config is of the media type `application/vnd.coracle.buildcache.v1+json`:
//!
//! ```text
//! { "version": what keys are of; another version's are of no use,
//!   "layers":  [ { "id": chain id, "parent": chain id or null, "diff": diff id, "blob": digest } … parents first ],
//!   "steps":   [ { "key", "snapshot": chain id, "text", "created", "cost", "bytes" } … ] }
//! ```
//!
//! Everything that can copy images between layouts and registries can copy it, too.

mod layout;
#[cfg(feature = "registry")]
mod registry;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

use coracle_build::{Cache, CachedStep};
use coracle_host::Call;
use coracle_layers::{Blob, ChainId, Compression, DiffId, Digest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Built;
use crate::error::{Doing, Error, Result};
use crate::{Engine, Kind};

const CONFIG: &str = "application/vnd.coracle.buildcache.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// A document that is longer than this is none of ours.
const LONGEST: u64 = 64 << 20;

/// Which steps are carried along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheMode {
    /// Those whose layers the image has.
    #[default]
    Min,
    /// Those of all stages.
    Max,
}

/// What of a cache is written, and how. A [`CacheMode`] alone is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheOptions {
    mode: CacheMode,
    compression: Compression,
}

impl CacheOptions {
    /// The image's steps, their layers as they are.
    pub fn new() -> CacheOptions {
        CacheOptions::default()
    }

    /// Those steps.
    #[must_use]
    pub fn mode(mut self, mode: CacheMode) -> CacheOptions {
        self.mode = mode;
        self
    }

    /// Layers that are not compressed are compressed like this. What is known of them is known of their plain bytes, so that
    /// it is done each time anew.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> CacheOptions {
        self.compression = compression;
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
    /// The digest of the manifest.
    pub digest: String,
}

#[derive(Serialize, Deserialize)]
struct Document {
    version: String,
    layers: Vec<LayerOf>,
    steps: Vec<CachedStep>,
}

#[derive(Serialize, Deserialize)]
struct LayerOf {
    id: String,
    parent: Option<String>,
    diff: String,
    blob: String,
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

/// Where a cache comes from.
trait Origin {
    /// What the place's name means.
    fn manifest(&self) -> Result<Vec<u8>>;

    /// Writes a blob's bytes, no more than its size; whether they are the right ones is the caller's to check.
    fn copy(&self, blob: Blob, into: &mut dyn Write) -> Result<()>;
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
        let own: BTreeSet<String> = built.image.stored().layers().iter().map(ToString::to_string).collect();
        let mut document =
            Document { version: Cache::version().to_owned(), layers: Vec::new(), steps: Vec::new() };
        let mut listed: BTreeMap<ChainId, Value> = BTreeMap::new();
        let mut order = Vec::new();
        let all = options.mode == CacheMode::Max;
        for step in built.cache.iter().filter(|step| all || own.contains(&step.snapshot)) {
            let top: ChainId = step.snapshot.parse()?;
            for id in store.chain(&top)? {
                if listed.contains_key(&id) {
                    continue;
                }
                let packed = store.pack_layer(&id, options.compression)?;
                let (layer, blob) = (packed.layer(), packed.blob());
                target.put(blob, &mut |out| packed.write_to(out))?;
                document.layers.push(LayerOf {
                    id: id.to_string(),
                    parent: layer.parent().map(|id| id.to_string()),
                    diff: layer.diff_id().to_string(),
                    blob: blob.digest.to_string(),
                });
                let media = packed.media_type().to_string();
                listed.insert(
                    id,
                    json!({"mediaType": media, "digest": blob.digest.to_string(), "size": blob.size}),
                );
                order.push(id);
            }
            if !document.steps.contains(step) {
                document.steps.push(step.clone());
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
        Ok(CacheExport { steps: document.steps.len(), digest: Digest::of(&manifest).to_string() })
    }

    /// Takes the results of steps from what [`Engine::export_build_cache`] wrote, by the manifest's digest or else by `tag`:
    /// what `docker build --cache-from type=local` does. Returns how many steps there are. They are believed, like all that
    /// one builds upon: every layer is checked to be the one that it is said to be, but not that its step makes it.
    ///
    /// # Errors
    /// `NotFound` where there is none; `Invalid` and `Corrupt` for one that is none or damaged; `Unsupported` for another
    /// program's or version's.
    pub fn import_build_cache(&self, directory: impl AsRef<Path>, tag: &str) -> Result<usize> {
        let path = directory.as_ref();
        layout::Layout::open(path, tag)
            .and_then(|layout| self.imported_cache(&layout))
            .doing(|| format!("import the build cache of {path:?}"))
    }

    fn imported_cache(&self, origin: &dyn Origin) -> Result<usize> {
        let manifest: Manifest = parsed(&origin.manifest()?, "manifest")?;
        let kind = manifest.config.media_type;
        if kind != CONFIG {
            let what = format!("it is a cache of {kind:?}, and only {CONFIG} is known");
            return Err(Error::new(Kind::Unsupported, what));
        }
        let mut config = Vec::new();
        let blob = Blob { digest: manifest.config.digest, size: manifest.config.size };
        if blob.size > LONGEST {
            return Err(Error::new(Kind::Invalid, format!("its config has {} bytes", blob.size)));
        }
        origin.copy(blob, &mut config)?;
        checked(&blob.digest, Digest::of(&config))?;
        let document: Document = parsed(&config, "config")?;
        if document.version != Cache::version() {
            let what = format!("it is of {}, and this is {}", document.version, Cache::version());
            return Err(Error::new(Kind::Unsupported, what));
        }
        let sizes: BTreeMap<Digest, u64> =
            manifest.layers.iter().map(|listed| (listed.digest, listed.size)).collect();
        let mut known = BTreeSet::new();
        for layer in &document.layers {
            self.import_cached_layer(origin, &sizes, layer).doing(|| format!("layer {}", layer.id))?;
            known.insert(layer.id.as_str());
        }
        let cache = self.0.build_steps();
        for step in &document.steps {
            if !known.contains(step.snapshot.as_str()) {
                let what = format!("`{}` leads to {}, which is not in it", step.text, step.snapshot);
                return Err(Error::new(Kind::Corrupt, what));
            }
            cache.learn(step)?;
        }
        Ok(document.steps.len())
    }

    fn import_cached_layer(
        &self,
        origin: &dyn Origin,
        sizes: &BTreeMap<Digest, u64>,
        layer: &LayerOf,
    ) -> Result<()> {
        let store = &self.0.store;
        let (id, diff, blob): (ChainId, DiffId, Digest) =
            (layer.id.parse()?, layer.diff.parse()?, layer.blob.parse()?);
        let parent = layer.parent.as_deref().map(str::parse::<ChainId>).transpose()?;
        if ChainId::next(parent.as_ref(), &diff) != id {
            return Err(Error::new(Kind::Corrupt, format!("it does not follow from {diff}")));
        }
        if store.layer(&id)?.is_some() {
            return Ok(());
        }
        if !store.blobs().has(&blob)? {
            let unlisted = || Error::new(Kind::Corrupt, format!("its manifest doesn't list {blob}"));
            let size = *sizes.get(&blob).ok_or_else(unlisted)?;
            let mut writer = store.blobs().writer()?;
            origin.copy(Blob { digest: blob, size }, &mut writer)?;
            checked(&blob, writer.finish()?.digest)?;
        }
        let stored = store.add_layer_from_blob(parent.as_ref(), &blob)?;
        if stored.chain_id() != id {
            return Err(Error::new(Kind::Corrupt, format!("its blob makes {}", stored.chain_id())));
        }
        Ok(())
    }
}

/// As much of a manifest as matters here (image-spec, manifest.md).
#[derive(Deserialize)]
struct Manifest {
    config: Listed,
    #[serde(default)]
    layers: Vec<Listed>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    media_type: String,
    digest: Digest,
    size: u64,
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
