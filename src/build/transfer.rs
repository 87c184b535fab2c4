//! Results of builds, carried to another state directory: an OCI image layout whose manifest lists layers, and whose config
//! says which steps led to them.
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

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use coracle_build::{Cache, CachedStep};
use coracle_host::{Call, Dir, Staging};
use coracle_layers::{ChainId, DiffId, Digest};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Built;
use crate::error::{Doing, Error, Result};
use crate::{Engine, Kind};

const CONFIG: &str = "application/vnd.coracle.buildcache.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const REF_NAME: &str = "org.opencontainers.image.ref.name";
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
        mode: CacheMode,
    ) -> Result<CacheExport> {
        let path = directory.as_ref();
        self.exported(built, path, tag, mode).doing(|| format!("export the build cache to {path:?}"))
    }

    fn exported(&self, built: &Built, path: &Path, tag: &str, mode: CacheMode) -> Result<CacheExport> {
        let store = &self.0.store;
        let own: BTreeSet<String> = built.image.stored().layers().iter().map(ToString::to_string).collect();
        let mut document =
            Document { version: Cache::version().to_owned(), layers: Vec::new(), steps: Vec::new() };
        let mut layout = Layout::create(path)?;
        let mut listed: BTreeMap<ChainId, Value> = BTreeMap::new();
        let mut order = Vec::new();
        for step in built.cache.iter().filter(|step| mode == CacheMode::Max || own.contains(&step.snapshot)) {
            let top: ChainId = step.snapshot.parse()?;
            for id in store.chain(&top)? {
                if listed.contains_key(&id) {
                    continue;
                }
                let gone = || Error::new(Kind::NotFound, format!("layer {id} was removed"));
                let layer = store.layer(&id)?.ok_or_else(gone)?;
                let blob = layer.blob();
                layout.put_written(&blob.digest, |out| Ok(store.write_layer(&id, out)?))?;
                document.layers.push(LayerOf {
                    id: id.to_string(),
                    parent: layer.parent().map(|id| id.to_string()),
                    diff: layer.diff_id().to_string(),
                    blob: blob.digest.to_string(),
                });
                let media = layer.media_type().to_string();
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
        let config = layout.document(&document)?;
        let layers: Vec<&Value> = order.iter().map(|id| &listed[id]).collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "layers": layers,
            "config": { "mediaType": CONFIG, "digest": config.0.to_string(), "size": config.1 },
        });
        let manifest = layout.document(&manifest)?;
        layout.index(&manifest, tag)?;
        Ok(CacheExport { steps: document.steps.len(), digest: manifest.0.to_string() })
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
        self.imported_cache(path, tag).doing(|| format!("import the build cache of {path:?}"))
    }

    fn imported_cache(&self, path: &Path, tag: &str) -> Result<usize> {
        let layout = Layout::open(path)?;
        let manifest = layout.find(tag)?;
        let kind = manifest["config"]["mediaType"].as_str().unwrap_or("");
        if kind != CONFIG {
            let what = format!("`{tag}` is of {kind:?}, and only {CONFIG} is known");
            return Err(Error::new(Kind::Unsupported, what));
        }
        let config = layout.read(manifest["config"]["digest"].as_str().unwrap_or("").parse()?)?;
        let corrupt = |error: serde_json::Error| Error::new(Kind::Corrupt, format!("its config: {error}"));
        let document: Document = serde_json::from_slice(&config).map_err(corrupt)?;
        if document.version != Cache::version() {
            let what = format!("it is of {}, and this is {}", document.version, Cache::version());
            return Err(Error::new(Kind::Unsupported, what));
        }
        let mut known = BTreeSet::new();
        for layer in &document.layers {
            self.import_cached_layer(&layout, layer).doing(|| format!("layer {}", layer.id))?;
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

    fn import_cached_layer(&self, layout: &Layout, layer: &LayerOf) -> Result<()> {
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
            let written = store.blobs().write(&mut layout.open_blob(&blob)?)?;
            if written.digest != blob {
                return Err(Error::new(Kind::Corrupt, format!("blob {blob} is {}", written.digest)));
            }
        }
        let stored = store.add_layer_from_blob(parent.as_ref(), &blob)?;
        if stored.chain_id() != id {
            return Err(Error::new(Kind::Corrupt, format!("its blob makes {}", stored.chain_id())));
        }
        Ok(())
    }
}

/// An OCI image layout in a directory (image-layout.md).
struct Layout {
    dir: Dir,
    blobs: Dir,
    staging: Option<Staging>,
}

impl Layout {
    fn create(path: &Path) -> Result<Layout> {
        std::fs::create_dir_all(path).call(|| format!("mkdir({path:?})"))?;
        let dir = Dir::open(path)?;
        let blobs = dir.make("blobs", 0o755)?.make("sha256", 0o755)?;
        let staging = Some(Staging::open(&dir)?);
        Ok(Layout { dir, blobs, staging })
    }

    fn open(path: &Path) -> Result<Layout> {
        let dir = Dir::open(path)?;
        let blobs = dir.dir("blobs")?.dir("sha256")?;
        Ok(Layout { dir, blobs, staging: None })
    }

    fn staging(&self) -> Result<&Staging> {
        self.staging.as_ref().ok_or_else(|| Error::new(Kind::Invalid, "this layout is only read"))
    }

    fn put(&mut self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        self.put_written(digest, |out| Ok(out.write_all(bytes).call(|| format!("write(blob {digest})"))?))
    }

    fn put_written(
        &mut self,
        digest: &Digest,
        write: impl FnOnce(&mut dyn Write) -> Result<()>,
    ) -> Result<()> {
        if self.blobs.has(digest.hex())? {
            return Ok(());
        }
        let mut file = self.staging()?.file()?;
        write(&mut file)?;
        Ok(file.publish(&self.blobs, digest.hex())?)
    }

    fn document(&mut self, document: &impl Serialize) -> Result<(Digest, u64)> {
        let wrong = |error| Error::new(Kind::Invalid, format!("a document can't be written: {error}"));
        let bytes = serde_json::to_vec(document).map_err(wrong)?;
        let digest = Digest::of(&bytes);
        self.put(&digest, &bytes)?;
        Ok((digest, bytes.len() as u64))
    }

    /// Puts the manifest under the tag, in the place of what had it.
    fn index(&mut self, (digest, size): &(Digest, u64), tag: &str) -> Result<()> {
        let others = match self.dir.read_if_there("index.json")? {
            Some(bytes) => serde_json::from_slice::<Value>(&bytes).ok(),
            None => None,
        };
        let others = others.and_then(|mut index| index["manifests"].as_array_mut().map(std::mem::take));
        let mut all: Vec<Value> = others.unwrap_or_default();
        all.retain(|one| one["annotations"][REF_NAME] != tag);
        all.push(json!({
            "mediaType": MANIFEST, "digest": digest.to_string(), "size": size, "annotations": { REF_NAME: tag },
        }));
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": all });
        let staging = self.staging()?;
        staging.write(&self.dir, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        Ok(staging.write(&self.dir, "index.json", index.to_string().as_bytes())?)
    }

    fn find(&self, tag: &str) -> Result<Value> {
        let index = self.dir.read("index.json")?;
        let corrupt = |error: serde_json::Error| Error::new(Kind::Corrupt, format!("index.json: {error}"));
        let index: Value = serde_json::from_slice(&index).map_err(corrupt)?;
        let mut all = index["manifests"].as_array().into_iter().flatten();
        let found = all.find(|one| one["digest"] == tag || one["annotations"][REF_NAME] == tag);
        let found = found.ok_or_else(|| Error::new(Kind::NotFound, format!("it has no `{tag}`")))?;
        let bytes = self.read(found["digest"].as_str().unwrap_or("").parse()?)?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::new(Kind::Corrupt, format!("its manifest: {error}")))
    }

    fn open_blob(&self, digest: &Digest) -> Result<File> {
        Ok(File::from(self.blobs.file(digest.hex(), OFlags::RDONLY | OFlags::NOFOLLOW, 0)?))
    }

    /// A small blob, checked.
    fn read(&self, digest: Digest) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = || format!("read(blob {digest})");
        self.open_blob(&digest)?.take(LONGEST).read_to_end(&mut bytes).call(read)?;
        if Digest::of(&bytes) != digest {
            return Err(Error::new(Kind::Corrupt, format!("blob {digest} is {}", Digest::of(&bytes))));
        }
        Ok(bytes)
    }
}
