//! What a build asks of an engine, answered with its layer store and its runtime.

mod agent;
mod draft;
mod group;
mod mounts;
#[cfg(feature = "registry")]
mod pull;
mod run;
mod stubs;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use coracle_build::{
    Base, BuildSpec, CacheMounts, Cancel, Command, Commit, Draft, Error, Fetched, ImageConfig, LayerFile,
    LayerFiles, Stream, Worker,
};
#[cfg(feature = "registry")]
use coracle_build::{Event, Pull};
use coracle_host::{Call, Exit, Kind, Root, StagedDir};
use coracle_layers::{ChainId, LayerEntry, Reference, Rootfs, UpperOptions};
use coracle_net::Hold;
use rustix::fs::OFlags;

use self::draft::{Drafted, Drafting};
use crate::build::{Came, ImportedCache};
use crate::engine::Inner;
use crate::error::Result;
use crate::stack::{DEFAULT_NETWORK, Stack};

/// An engine at work on one build.
pub(crate) struct Builder<'a> {
    engine: &'a Inner,
    /// Where layers may come from that are not here.
    imported: &'a [ImportedCache],
    clamp_mtime: Option<i64>,
    cancel: Option<Cancel>,
    cgroup_parent: Option<String>,
    caches: CacheMounts,
    /// The cache directories that this build made anew.
    renewed: Mutex<BTreeSet<mounts::CacheKey>>,
    /// The network of RUN steps stays up from the first one to the end.
    network: Mutex<Option<Hold>>,
    /// Steps that have ended, leaving the network while the build goes on: the kernel takes its time for it.
    leaving: Mutex<Vec<JoinHandle<()>>>,
    /// Trees that were read, mounted and locked to the end: a file that is looked at twice has to be the same file, and on
    /// another mount it would be on another device.
    trees: Mutex<BTreeMap<String, (Rootfs, OwnedFd)>>,
    unlisted: bool,
    /// The image that nothing lists, where it is not to be.
    made: Mutex<Option<coracle_layers::Image>>,
}

impl Drop for Builder<'_> {
    fn drop(&mut self) {
        let leaving = std::mem::take(self.leaving.get_mut().unwrap_or_else(PoisonError::into_inner));
        for thread in leaving {
            // It panicked or not: what it held is given back, or reclaimed by the next open.
            let _ = thread.join();
        }
    }
}

/// A chain of layers.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    id: String,
    layers: Vec<ChainId>,
    /// Of the top layer.
    size: u64,
}

impl coracle_build::Snapshot for Snapshot {
    fn id(&self) -> &str {
        &self.id
    }

    fn layer_size(&self) -> u64 {
        self.size
    }
}

impl Snapshot {
    fn of(layers: Vec<ChainId>) -> Snapshot {
        let id = layers.last().map_or_else(|| "scratch".to_owned(), ToString::to_string);
        Snapshot { id, layers, size: 0 }
    }

    fn with_size(self, size: u64) -> Snapshot {
        Snapshot { size, ..self }
    }
}

/// A directory to change and the overlay's own beside it.
struct Change {
    staged: StagedDir,
}

/// Bytes of an image's configuration; those of real images have some kilobytes.
const LONGEST_CONFIG: u64 = 8 << 20;

const UPPER: &str = "upper";
const WORK: &str = "work";

impl Worker for Builder<'_> {
    type Snapshot = Snapshot;

    fn scratch(&self) -> Snapshot {
        Snapshot::of(Vec::new())
    }

    fn base(&self, name: &str) -> Result<Base<Snapshot>, Error> {
        self.here(name)
    }

    #[cfg(feature = "registry")]
    fn pull(&self, name: &str, when: Pull, tell: &mut dyn FnMut(&Event)) -> Result<Base<Snapshot>, Error> {
        self.pulled(name, when, tell)
    }

    fn find(&self, id: &str) -> Result<Option<Snapshot>, Error> {
        let Ok(top) = id.parse::<ChainId>() else { return Ok(None) };
        match self.engine.store.chain(&top) {
            Ok(layers) => {
                let top = self.engine.store.layer(&top).map_err(own)?;
                Ok(top.map(|top| Snapshot::of(layers).with_size(top.size())))
            }
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            Err(error) => Err(own(error)),
        }
    }

    fn fetch(&self, id: &str) -> Result<Option<Fetched<Snapshot>>, Error> {
        let Ok(top) = id.parse::<ChainId>() else { return Ok(None) };
        let mut failed = None;
        for cache in self.imported {
            match cache.fetch(&self.engine.store, &top, self.cancel.as_ref()) {
                Ok(None) => {}
                Ok(Some(Came { layers, bytes })) => {
                    let snapshot = self.find(id)?;
                    return Ok(snapshot.map(|snapshot| Fetched { snapshot, layers, bytes }));
                }
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(None), |error| Err(facade(error)))
    }

    fn tree(&self, of: &Snapshot) -> Result<OwnedFd, Error> {
        let mut trees = self.trees.lock().unwrap_or_else(PoisonError::into_inner);
        if !trees.contains_key(&of.id) {
            let rootfs = self.engine.store.rootfs(&of.layers, None, false).map_err(own)?;
            let root = directory(&rootfs.mount)?;
            trees.insert(of.id.clone(), (rootfs, root));
        }
        let (_, root) = &trees[&of.id];
        root.try_clone().call(|| "fcntl(snapshot, F_DUPFD_CLOEXEC)").map_err(own)
    }

    fn layers(&self, of: &Snapshot) -> Result<Vec<LayerFiles>, Error> {
        let Some(top) = of.layers.last() else { return Ok(Vec::new()) };
        let all = self.engine.store.contents(top).map_err(own)?;
        let file = |entry: LayerEntry| LayerFile {
            path: entry.path.to_string_lossy().into_owned(),
            size: entry.size,
            gone: entry.gone,
        };
        let layer = |(id, entries): (ChainId, Vec<LayerEntry>)| LayerFiles {
            id: id.to_string(),
            files: entries.into_iter().map(file).collect(),
        };
        Ok(all.into_iter().map(layer).collect())
    }

    fn edit(
        &self,
        on: &Snapshot,
        change: &mut dyn FnMut(BorrowedFd<'_>) -> Result<(), Error>,
    ) -> Result<Snapshot, Error> {
        let place = self.change()?;
        let rootfs = self.mount(on, &place)?;
        let root = directory(&rootfs.mount)?;
        change(root.as_fd())?;
        drop((root, rootfs));
        self.layer(on, &place)
    }

    fn draft(
        &self,
        on: &Snapshot,
        like: Option<&str>,
        change: &mut dyn FnMut(&mut dyn Draft) -> Result<(), Error>,
    ) -> Result<Snapshot, Error> {
        let place = self.change()?;
        let mut draft = Drafting::new(self, on, &place, like)?;
        change(&mut draft)?;
        self.drafted(on, &place, draft.end())
    }

    fn run(
        &self,
        on: &Snapshot,
        command: &Command,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Snapshot, Error> {
        let place = self.change()?;
        let exit = self.execute(on, &place, command, output).map_err(facade)?;
        match exit {
            _ if self.cancel.as_ref().is_some_and(Cancel::is_cancelled) => {
                Err(Error::new(Kind::Interrupted, "the build was cancelled"))
            }
            Exit::Code(0) => self.layer(on, &place),
            exit => Err(Error::exited(i32::from(exit.code()))),
        }
    }

    fn commit(&self, image: Commit<Snapshot>) -> Result<String, Error> {
        let names: Result<Vec<Reference>, _> =
            image.tags.iter().map(|tag| tag.parse::<Reference>()).collect();
        let names = names.map_err(own)?;
        let (store, layers) = (&self.engine.store, &image.snapshot.layers);
        if self.unlisted {
            let stored = store.commit_unlisted(&image.config, layers, &image.annotations).map_err(own)?;
            let id = stored.id().to_string();
            *self.made.lock().unwrap_or_else(PoisonError::into_inner) = Some(stored);
            return Ok(id);
        }
        let stored = store.commit_annotated(&image.config, layers, &image.annotations).map_err(own)?;
        for name in &names {
            store.tag(&stored, name).map_err(own)?;
        }
        Ok(stored.id().to_string())
    }
}

impl<'a> Builder<'a> {
    pub(crate) fn new(engine: &'a Inner, spec: &BuildSpec) -> Builder<'a> {
        Builder {
            engine,
            imported: &[],
            clamp_mtime: spec.epoch(),
            cancel: spec.cancel().cloned(),
            cgroup_parent: spec.control_group().map(str::to_owned),
            caches: engine.cache_mounts(),
            renewed: Mutex::new(BTreeSet::new()),
            network: Mutex::new(None),
            leaving: Mutex::new(Vec::new()),
            trees: Mutex::new(BTreeMap::new()),
            unlisted: spec.is_unlisted(),
            made: Mutex::new(None),
        }
    }

    pub(crate) fn fetching(mut self, imported: &'a [ImportedCache]) -> Builder<'a> {
        self.imported = imported;
        self
    }

    /// The image of that name in the store.
    fn here(&self, name: &str) -> Result<Base<Snapshot>, Error> {
        let image = self.engine.store.image(name).map_err(own)?;
        let image = image.ok_or_else(|| Error::new(Kind::NotFound, format!("no such image: {name}")))?;
        let blob = self.engine.store.blobs().read(&image.id().digest(), LONGEST_CONFIG).map_err(own)?;
        let config = ImageConfig::from_json(&blob)?;
        Ok(Base { snapshot: Snapshot::of(image.layers().to_vec()), config, digest: image.id().to_string() })
    }

    /// The image that was made and is listed nowhere.
    pub(crate) fn made(&self) -> Option<coracle_layers::Image> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn hold_network(&self) -> Result<()> {
        let mut network = self.network.lock().unwrap_or_else(PoisonError::into_inner);
        if network.is_none() {
            *network = Some(self.engine.network(DEFAULT_NETWORK)?.hold()?);
        }
        Ok(())
    }

    fn leave(&self, stack: Stack) -> Result<()> {
        let thread = std::thread::Builder::new()
            .name("coracle-leave".into())
            .spawn(move || drop(stack.leave_behind()));
        let thread =
            thread.map_err(|error| crate::Error::new(Kind::Exhausted, format!("clone(thread): {error}")))?;
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(())
    }

    fn change(&self) -> Result<Change, Error> {
        let staged = self.engine.state.staging.dir().map_err(own)?;
        for name in [UPPER, WORK] {
            staged.dir().make(name, 0o755).map_err(own)?;
        }
        Ok(Change { staged })
    }

    fn mount(&self, on: &Snapshot, place: &Change) -> Result<coracle_layers::Rootfs, Error> {
        let dir = place.staged.dir();
        let (upper, work) = (dir.dir(UPPER).map_err(own)?, dir.dir(WORK).map_err(own)?);
        self.engine.store.rootfs(&on.layers, Some((&upper, &work)), true).map_err(own)
    }

    /// The change as a layer on top of `on`.
    fn layer(&self, on: &Snapshot, place: &Change) -> Result<Snapshot, Error> {
        self.drafted(on, place, Drafted::default())
    }

    fn drafted(&self, on: &Snapshot, place: &Change, drafted: Drafted) -> Result<Snapshot, Error> {
        let (dir, store) = (place.staged.dir(), &self.engine.store);
        let layer = match drafted.forecast {
            Some(forecast) => forecast.add_layer(dir, UPPER),
            None => {
                let options = self.upper_options(drafted.like);
                store.add_layer_from_upper(on.layers.last(), dir, UPPER, &options)
            }
        };
        let layer = layer.map_err(own)?;
        let mut layers = on.layers.clone();
        layers.push(layer.chain_id());
        Ok(Snapshot::of(layers).with_size(layer.size()))
    }

    /// How a directory becomes a layer that may have files of `like`.
    fn upper_options(&self, like: Option<ChainId>) -> UpperOptions {
        let mut options = UpperOptions::new();
        if let Some(like) = like {
            options = options.like(like);
        }
        if let Some(epoch) = self.clamp_mtime {
            options = options.clamp_mtime(epoch);
        }
        options
    }
}

/// The root of a mount as a directory to work in.
fn directory(mount: &coracle_host::Mount) -> Result<OwnedFd, Error> {
    Root::new(mount.as_fd(), "snapshot").open("/", OFlags::RDONLY | OFlags::DIRECTORY).map_err(own)
}

/// An error of one of the crates below, for the build to put at its line.
fn own(error: impl Into<crate::Error>) -> Error {
    facade(error.into())
}

fn facade(error: crate::Error) -> Error {
    Error::new(error.kind(), error)
}
