//! A cache from elsewhere: what it knows is learnt at once, its layers come when a build asks for them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

use coracle_build::{Cache, Cancel};
use coracle_layers::{Blob, BlobWriter, ChainId, Digest, Store};
use serde::Deserialize;

use super::{CONFIG, Document, LONGEST, LayerOf, checked, layout, parsed};
use crate::error::{Doing, Error, Result};
use crate::{Engine, Kind};

/// Blobs that are fetched at once.
const AT_ONCE: usize = 4;

/// Where a cache comes from.
pub(super) trait Origin: Send + Sync {
    /// What the place's name means.
    fn manifest(&self) -> Result<Vec<u8>>;

    /// Writes a blob's bytes, no more than its size; whether they are the right ones is the caller's to check.
    fn copy(&self, blob: Blob, into: &mut dyn Write) -> Result<()>;
}

/// A build cache that is elsewhere, for [`Engine::build_from`]. What its steps came to is known to the engine from now on; their
/// layers are fetched by builds that are given this, and only those whose files they need.
pub struct ImportedCache {
    origin: Box<dyn Origin>,
    name: String,
    steps: usize,
    layers: BTreeMap<ChainId, (LayerOf, Blob)>,
    /// Those that could not be had. Who fetches has it to itself.
    lost: Mutex<BTreeSet<ChainId>>,
}

impl std::fmt::Debug for ImportedCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImportedCache").field("name", &self.name).field("steps", &self.steps).finish()
    }
}

/// What came of it: how many layers, and how many bytes of blobs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Came {
    pub(crate) layers: usize,
    pub(crate) bytes: u64,
}

impl Engine {
    /// Looks at what [`Engine::export_build_cache`] wrote, by the manifest's digest or else by `tag`: what
    /// `docker build --cache-from type=local` does. What it knows of steps is believed, like all that one builds upon: every layer
    /// will be checked to be the one that it is said to be, but not that its step makes it.
    ///
    /// # Errors
    /// `NotFound` where there is none; `Invalid` and `Corrupt` for one that is none or damaged; `Unsupported` for another
    /// program's or version's.
    pub fn import_build_cache(&self, directory: impl AsRef<Path>, tag: &str) -> Result<ImportedCache> {
        let path = directory.as_ref();
        layout::Layout::open(path, tag)
            .and_then(|layout| self.imported_cache(Box::new(layout), &format!("{path:?}")))
            .doing(|| format!("import the build cache of {path:?}"))
    }

    pub(super) fn imported_cache(&self, origin: Box<dyn Origin>, name: &str) -> Result<ImportedCache> {
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
        let mut layers = BTreeMap::new();
        for layer in document.layers {
            if ChainId::next(layer.parent.as_ref(), &layer.diff) != layer.id {
                let what = format!("layer {} does not follow from {}", layer.id, layer.diff);
                return Err(Error::new(Kind::Corrupt, what));
            }
            let unlisted = || Error::new(Kind::Corrupt, format!("its manifest doesn't list {}", layer.blob));
            let size = *sizes.get(&layer.blob).ok_or_else(unlisted)?;
            let blob = Blob { digest: layer.blob, size };
            layers.insert(layer.id, (layer, blob));
        }
        let cache = self.0.build_steps();
        for step in &document.steps {
            // A result that is here is better than one that isn't.
            let own = cache.step(&step.key).and_then(|own| own.snapshot.parse().ok());
            if own.map(|own| self.0.store.layer(&own)).transpose()?.flatten().is_none() {
                cache.learn(step)?;
            }
        }
        document.files.iter().try_for_each(|files| cache.learn_files(files))?;
        let (steps, lost) = (document.steps.len(), Mutex::default());
        Ok(ImportedCache { origin, name: name.to_owned(), steps, layers, lost })
    }
}

impl ImportedCache {
    /// How many steps it knows.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// How many layers it has.
    pub fn layers(&self) -> usize {
        self.layers.len()
    }

    /// Sees to it that a layer, and those below it, are in the store; nothing where they are not all to be had.
    ///
    /// # Errors
    /// What fetching fails with, once: from then on it is not to be had.
    pub(crate) fn fetch(
        &self,
        store: &Store,
        top: &ChainId,
        cancel: Option<&Cancel>,
    ) -> Result<Option<Came>> {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        let mut missing = Vec::new();
        let mut next = Some(*top);
        while let Some(id) = next {
            if store.layer(&id)?.is_some() {
                break;
            }
            let Some((layer, blob)) = self.layers.get(&id).filter(|_| !lost.contains(&id)) else {
                return Ok(None);
            };
            missing.push((layer, *blob));
            next = layer.parent;
        }
        missing.reverse();
        let came = self.take(store, &missing, cancel).map_err(|(nth, error)| {
            let id = missing[nth].0.id;
            lost.insert(id);
            error.context(format!("fetch layer {id} from the build cache {}", self.name))
        });
        came.map(Some)
    }

    /// Fetches several at once and unpacks them, the lowest first, while others still come. An error says at which it was.
    fn take(
        &self,
        store: &Store,
        layers: &[(&LayerOf, Blob)],
        cancel: Option<&Cancel>,
    ) -> std::result::Result<Came, (usize, Error)> {
        let (next, stopped) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (there, came) = channel();
        let work = |there: Sender<(usize, Result<u64>)>| {
            while let Some((nth, (_, blob))) = {
                let nth = next.fetch_add(1, Ordering::Relaxed);
                layers.get(nth).map(|layer| (nth, layer))
            } {
                let bytes = self.blob(store, *blob, &stopped, cancel);
                if there.send((nth, bytes)).is_err() {
                    return;
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE.min(layers.len()) {
                let (there, work) = (there.clone(), &work);
                let name = std::thread::Builder::new().name("coracle-fetch".into());
                // Where none can be had, none of them comes.
                let _ = name.spawn_scoped(scope, move || work(there));
            }
            drop(there);
            let done = unpack(store, layers, &came);
            // Who fails ends the others.
            stopped.store(true, Ordering::Relaxed);
            next.store(layers.len(), Ordering::Relaxed);
            done
        })
    }

    /// Sees to it that the store has a blob; returns how many bytes came for it.
    fn blob(&self, store: &Store, blob: Blob, stopped: &AtomicBool, cancel: Option<&Cancel>) -> Result<u64> {
        if store.blobs().has(&blob.digest)? {
            return Ok(0);
        }
        let mut writer = Stoppable { out: store.blobs().writer()?, stopped, cancel };
        self.origin.copy(blob, &mut writer)?;
        checked(&blob.digest, writer.out.finish()?.digest)?;
        Ok(blob.size)
    }
}

/// Unpacks layers, the lowest first, as their blobs come. An error says at which it was.
fn unpack(
    store: &Store,
    layers: &[(&LayerOf, Blob)],
    came: &Receiver<(usize, Result<u64>)>,
) -> std::result::Result<Came, (usize, Error)> {
    let mut ready: BTreeMap<usize, u64> = BTreeMap::new();
    for (nth, (layer, blob)) in layers.iter().enumerate() {
        while !ready.contains_key(&nth) {
            let none = |_| (nth, Error::new(Kind::Exhausted, "no thread can be started to fetch with"));
            let (which, bytes) = came.recv().map_err(none)?;
            ready.insert(which, bytes.map_err(|error| (which, error))?);
        }
        let stored = store.add_layer_from_blob(layer.parent.as_ref(), &blob.digest);
        let stored = stored.map_err(|error| (nth, error.into()))?;
        if stored.chain_id() != layer.id {
            let what = format!("its blob makes {}", stored.chain_id());
            return Err((nth, Error::new(Kind::Corrupt, what)));
        }
    }
    Ok(Came { layers: layers.len(), bytes: ready.values().sum() })
}

/// What is written until somebody says that it is of no use any more.
struct Stoppable<'a> {
    out: BlobWriter,
    stopped: &'a AtomicBool,
    cancel: Option<&'a Cancel>,
}

impl Write for Stoppable<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.stopped.load(Ordering::Relaxed) || self.cancel.is_some_and(Cancel::is_cancelled) {
            return Err(io::Error::other("it was told to stop"));
        }
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
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
