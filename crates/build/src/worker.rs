//! What a builder needs of an engine.

use std::collections::BTreeMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use coracle_host::Kind;

use crate::error::Error;
use crate::event::Event;
use crate::image::ImageConfig;
use crate::mount::{Network, RunMount};
use crate::spec::{HostAddress, Pull};

/// An immutable state of a file system: a chain of layers. Cloning is cheap; while one lives, its tree is kept.
pub trait Snapshot: Clone + Send + Sync {
    /// Content-addressed: the same id is the same tree, in every build.
    fn id(&self) -> &str;

    /// Bytes of its newest layer, for people who look; 0 where that is not known.
    fn layer_size(&self) -> u64 {
        0
    }
}

/// What a build asks of an engine. Coracle's facade implements them with its layer store and its
/// runtime; a test with directories.
///
/// Implementations report their failures with [`Error::new`]; the build adds the instruction and its place.
/// All methods may be called from several threads at once.
pub trait Worker: Sync {
    /// See [`Snapshot`].
    type Snapshot: Snapshot;

    /// The empty tree.
    fn scratch(&self) -> Self::Snapshot;

    /// The image that `name` (a tag or digest, as written after FROM) means.
    ///
    /// # Errors
    /// `NotFound` where there is none.
    fn base(&self, name: &str) -> Result<Base<Self::Snapshot>, Error>;

    /// [`Worker::base`] of a build that may have the image fetched. `tell` hears how it comes ([`Event::Pull`]). A worker that
    /// knows nowhere to fetch from leaves it at this: what is missing is missing.
    ///
    /// # Errors
    /// As of [`Worker::base`]; what fetching comes to; `Unsupported` for [`Pull::Always`] where nothing can be fetched.
    fn pull(
        &self,
        name: &str,
        when: Pull,
        tell: &mut dyn FnMut(&Event),
    ) -> Result<Base<Self::Snapshot>, Error> {
        let _ = tell;
        match when {
            Pull::Never | Pull::Missing => self.base(name),
            Pull::Always => Err(Error::new(Kind::Unsupported, "images can't be pulled here")),
        }
    }

    /// The snapshot with this id, if it is still there: cache records outlive layers.
    ///
    /// # Errors
    /// Only where that can't be told.
    fn find(&self, id: &str) -> Result<Option<Self::Snapshot>, Error>;

    /// The snapshot with this id, which is not here, from where else the worker can get it: all its layers that are not here. An
    /// engine that imports no caches has none.
    ///
    /// # Errors
    /// What that fails with. It is told as a warning, and the steps that led there are done again; the worker should not
    /// try the same a second time.
    fn fetch(&self, id: &str) -> Result<Option<Fetched<Self::Snapshot>>, Error> {
        let _ = id;
        Ok(None)
    }

    /// The snapshot's tree as a directory to read from, say a detached mount.
    ///
    /// # Errors
    /// The worker's own.
    fn tree(&self, of: &Self::Snapshot) -> Result<OwnedFd, Error>;

    /// The layers of a snapshot, the lowest first: [`check`](crate::check) tells from them where bytes are lost. An engine that
    /// doesn't know has none.
    ///
    /// # Errors
    /// The worker's own.
    fn layers(&self, of: &Self::Snapshot) -> Result<Vec<LayerFiles>, Error> {
        let _ = of;
        Ok(Vec::new())
    }

    /// A child of `on`: `change` gets a directory that looks like `on`, and what it does there becomes one layer.
    ///
    /// # Errors
    /// Those of `change` unchanged, and the worker's own. Nothing is left of a failed edit.
    fn edit(
        &self,
        on: &Self::Snapshot,
        change: &mut dyn FnMut(BorrowedFd<'_>) -> Result<(), Error>,
    ) -> Result<Self::Snapshot, Error>;

    /// [`Worker::edit`] for many files. `like` is the id of a snapshot whose newest layer may have some of them already; that
    /// it is gone is fine.
    ///
    /// # Errors
    /// As of [`Worker::edit`].
    fn draft(
        &self,
        on: &Self::Snapshot,
        like: Option<&str>,
        change: &mut dyn FnMut(&mut dyn Draft) -> Result<(), Error>,
    ) -> Result<Self::Snapshot, Error> {
        let _ = like;
        self.edit(on, &mut |tree| change(&mut TreeOnly(tree)))
    }

    /// A child of `on`: the command ran with it as its root, and what it did there is one layer. What it writes goes
    /// to `output` as it comes.
    ///
    /// # Errors
    /// [`Error::exited`] where it ended with a code but 0, and the worker's own. Nothing is left of a failed run.
    fn run(
        &self,
        on: &Self::Snapshot,
        command: &Command,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Self::Snapshot, Error>;

    /// Stores an image under its tags and returns its id: the digest of its configuration, `sha256:…`.
    ///
    /// The worker sets [`ImageConfig::rootfs`] from the snapshot's layers and stores [`ImageConfig::to_json`];
    /// everything else in the configuration is complete.
    ///
    /// # Errors
    /// The worker's own.
    fn commit(&self, image: Commit<Self::Snapshot>) -> Result<String, Error>;
}

/// A snapshot that was fetched, see [`Worker::fetch`].
#[derive(Clone, Debug)]
pub struct Fetched<S> {
    /// It is here now.
    pub snapshot: S,
    /// How many layers came for it.
    pub layers: usize,
    /// Their bytes as they came: those of compressed blobs.
    pub bytes: u64,
}

/// A layer in the making, see [`Worker::draft`].
pub trait Draft {
    /// A directory that looks like the snapshot below with all that was done so far, to be changed.
    ///
    /// # Errors
    /// The worker's own.
    fn tree(&mut self) -> Result<BorrowedFd<'_>, Error>;

    /// Whether [`Draft::layer`] gives anything.
    fn has_layer(&self) -> bool;

    /// The layer's own files, where the worker keeps them in a directory: new files can be put at once into directories that
    /// it has. Nothing that [`Draft::tree`] gave may be open any more.
    ///
    /// # Errors
    /// The worker's own.
    fn layer(&mut self) -> Result<Option<DraftFiles<'_>>, Error>;

    /// Tells what is still to come into [`Draft::layer`], in this order, before the layer is done: a worker may hash it on
    /// the way, see [`DraftFiles::coming`]. It is a hint: a layer that turns out otherwise is as good.
    ///
    /// # Errors
    /// The worker's own.
    fn expect(&mut self, coming: Vec<Coming>) -> Result<(), Error> {
        let _ = coming;
        Ok(())
    }
}

/// A regular file that will be put into a draft's layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coming {
    /// Relative to the layer, links resolved.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Permission bits with setuid, setgid and sticky (0o7777).
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
    /// When it was modified: seconds since the epoch, and nanoseconds after that.
    pub modified: (i64, u32),
    /// It will be a further name of this inode of [`DraftFiles::like`].
    pub inode: Option<u64>,
}

/// Hears of the files that [`Draft::expect`] told of.
pub trait Arrivals: Sync {
    /// The `nth` of them is there: open, where it was made just now, and done with. `content` is all that was written to it,
    /// where that is at hand, or nothing. Returns an empty buffer, for the next one.
    fn arrived(&self, nth: usize, file: Option<BorrowedFd<'_>>, content: Vec<u8>) -> Vec<u8>;
}

/// What a draft's layer has of its own, and another layer beside it.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct DraftFiles<'a> {
    /// Of this layer.
    pub own: BorrowedFd<'a>,
    /// Of the newest layer of the snapshot that was asked for, on the same mount: its files may be given names in `own`
    /// (link(2)), and never be changed.
    pub like: Option<BorrowedFd<'a>>,
    /// Who is to be told, from any thread, of each file that [`Draft::expect`] told of.
    pub coming: Option<&'a dyn Arrivals>,
}

impl<'a> DraftFiles<'a> {
    /// Those of a layer, and of one like it.
    pub fn new(own: BorrowedFd<'a>, like: Option<BorrowedFd<'a>>) -> DraftFiles<'a> {
        DraftFiles { own, like, coming: None }
    }

    /// With somebody who waits for files.
    #[must_use]
    pub fn with_coming(self, coming: Option<&'a dyn Arrivals>) -> DraftFiles<'a> {
        DraftFiles { coming, ..self }
    }
}

impl std::fmt::Debug for DraftFiles<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all = (self.own, self.like, self.coming.is_some());
        f.debug_tuple("DraftFiles").field(&all).finish()
    }
}

/// Of a worker that has no files of layers.
struct TreeOnly<'a>(BorrowedFd<'a>);

impl Draft for TreeOnly<'_> {
    fn tree(&mut self) -> Result<BorrowedFd<'_>, Error> {
        Ok(self.0)
    }

    fn has_layer(&self) -> bool {
        false
    }

    fn layer(&mut self) -> Result<Option<DraftFiles<'_>>, Error> {
        Ok(None)
    }
}

/// An image to start from.
#[derive(Clone, Debug)]
pub struct Base<S> {
    /// Its tree.
    pub snapshot: S,
    /// Its configuration, see [`ImageConfig::from_json`].
    pub config: ImageConfig,
    /// The digest of its configuration or manifest, `sha256:…`; for messages and records.
    pub digest: String,
}

/// A finished image.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Commit<S> {
    /// Its tree.
    pub snapshot: S,
    /// All but `rootfs`.
    pub config: ImageConfig,
    /// As they were given to [`BuildSpec::tag`](crate::BuildSpec::tag); there may be none.
    pub tags: Vec<String>,
    /// Of its manifest: see [`BuildSpec::annotation`](crate::BuildSpec::annotation).
    pub annotations: BTreeMap<String, String>,
}

/// One layer, as far as it matters where bytes come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerFiles {
    /// The id of the snapshot that has it at its top.
    pub id: String,
    /// Its entries, in no order.
    pub files: Vec<LayerFile>,
}

/// An entry of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerFile {
    /// Relative to the root.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// What lower layers have there is gone, with all below it.
    pub gone: bool,
}

/// A process that a RUN step asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Command {
    /// Program and arguments; the program is looked up in the `PATH` of `env`.
    pub argv: Vec<String>,
    /// Names and values; there is always a `PATH`. `HOME` is the worker's to add, from the user's entry.
    pub env: Vec<(String, String)>,
    /// Names and values that are given to the process but change no result: proxies. Neither cache nor history
    /// knows them.
    pub quiet_env: Vec<(String, String)>,
    /// An absolute path. It is made if it is not there.
    pub cwd: String,
    /// `user[:group]`, names or numbers, to be looked up in the snapshot; root where empty.
    pub user: String,
    /// What is mounted while it runs, in the order written.
    pub mounts: Vec<RunMount>,
    /// Its host name.
    pub hostname: String,
    /// The network it has.
    pub network: Network,
    /// Names for its `/etc/hosts`.
    pub hosts: Vec<(String, HostAddress)>,
    /// Its limits of setrlimit(2): names in small letters, soft and hard.
    pub rlimits: Vec<(String, u64, u64)>,
    /// How many bytes its `/dev/shm` has room for, where that is said.
    pub shm_size: Option<u64>,
    /// It is allowed what the host's root is (`RUN --security=insecure`).
    pub insecure: bool,
    /// It is not to see what steps before it cached: the first such command that has a cache directory makes it anew, once
    /// in a build. In a plan none is.
    pub uncached: bool,
}

/// Where output came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}
