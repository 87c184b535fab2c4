//! The engine: one state directory and everything in it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use coracle_host::Kind;
#[cfg(feature = "registry")]
use coracle_layers::Reference;
use coracle_layers::Store;
#[cfg(feature = "registry")]
use coracle_layers::registry::RegistryOptions;
use coracle_net::{NetworkSpec, Networks};
use coracle_runtime::cgroup::Hierarchies;
use coracle_volume::{Driver, Volumes};

use crate::container::{Filters, reclaim};
use crate::error::{Doing, Error, Result};
use crate::stack::DEFAULT_NETWORK;
use crate::state::State;

/// One engine over one state directory. Any number of engines, in any number of processes, may be open on the
/// same directory: what they share is locked by name, and nothing else is.
///
/// Cheap to clone; `Send` and `Sync`.
#[derive(Clone)]
pub struct Engine(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) state: State,
    pub(crate) store: Store,
    pub(crate) networks: Networks,
    pub(crate) volumes: Volumes,
    /// What the host has of control groups, looked at once.
    groups: OnceLock<Hierarchies>,
    /// Filters of system calls, made once for each profile and set of capabilities.
    pub(crate) filters: Filters,
    #[cfg(feature = "registry")]
    pub(crate) registries: Registries,
}

/// What a program brings along to an engine: nothing of it is in the state directory.
#[derive(Clone, Debug, Default)]
pub struct EngineOptions {
    volume_drivers: Vec<Arc<dyn Driver>>,
    #[cfg(feature = "registry")]
    registries: Registries,
}

/// How registries are spoken with.
#[cfg(feature = "registry")]
#[derive(Clone)]
pub(crate) struct Registries(Arc<dyn Fn(&Reference) -> RegistryResult + Send + Sync>);

#[cfg(feature = "registry")]
type RegistryResult = Result<RegistryOptions, Box<dyn std::error::Error + Send + Sync>>;

#[cfg(feature = "registry")]
impl Registries {
    /// For an image's registry.
    pub(crate) fn options(&self, name: &Reference) -> Result<RegistryOptions> {
        (self.0)(name).map_err(|error| Error::new(Kind::Failed, error.to_string()))
    }
}

#[cfg(feature = "registry")]
impl Default for Registries {
    fn default() -> Registries {
        Registries(Arc::new(|_| Ok(RegistryOptions::new())))
    }
}

#[cfg(feature = "registry")]
impl std::fmt::Debug for Registries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Registries")
    }
}

impl EngineOptions {
    /// Nothing.
    pub fn new() -> EngineOptions {
        EngineOptions::default()
    }

    /// One more provider of volumes' data, beside `local`; see [`volume_driver`](crate::volume_driver). Programs that don't
    /// bring it see its volumes, and can't use them. That goes for the supervisors of kept containers, too: let them
    /// have it by [`supervise_with`](crate::supervise_with).
    #[must_use]
    pub fn volume_driver(mut self, driver: Arc<dyn Driver>) -> EngineOptions {
        self.volume_drivers.push(driver);
        self
    }

    /// How the registry of an image is spoken with that a build has pulled ([`BuildSpec::pull`](crate::BuildSpec::pull)): as
    /// whom, and by way of which proxies. It is asked with the image's name when one is needed, from any thread; its failure
    /// is the build's. Without, it is as of [`RegistryOptions::new`].
    #[cfg(feature = "registry")]
    #[must_use]
    pub fn registries(
        mut self,
        options: impl Fn(&Reference) -> Result<RegistryOptions, Box<dyn std::error::Error + Send + Sync>>
        + Send
        + Sync
        + 'static,
    ) -> EngineOptions {
        self.registries = Registries(Arc::new(options));
        self
    }
}

impl Engine {
    /// Opens the state directory at `path`, making it if it is missing, and reclaims what programs that were
    /// killed left in it.
    ///
    /// # Errors
    /// `Denied` without permission; `Unsupported` where a newer version wrote it; `Invalid` where the directory
    /// is something else; as of the file system.
    pub fn open(path: impl AsRef<Path>) -> Result<Engine> {
        Engine::open_with(path, &EngineOptions::new())
    }

    /// [`Engine::open`] with what this program brings along.
    ///
    /// # Errors
    /// As of [`Engine::open`].
    pub fn open_with(path: impl AsRef<Path>, options: &EngineOptions) -> Result<Engine> {
        let path = path.as_ref();
        Engine::try_open(path, options).doing(|| format!("open state directory {path:?}"))
    }

    /// [`Engine::open`] at `$CORACLE_ROOT`; without it at `/var/lib/coracle` for root, and at
    /// `$XDG_DATA_HOME/coracle` or `~/.local/share/coracle` for others. This and [`Engine::open_default_with`] are the only calls that
    /// read the environment.
    ///
    /// # Errors
    /// As of [`Engine::open`]; `NotFound` where no variable says where.
    pub fn open_default() -> Result<Engine> {
        Engine::open_default_with(&EngineOptions::new())
    }

    /// [`Engine::open_default`] with what this program brings along.
    ///
    /// # Errors
    /// As of [`Engine::open_default`].
    pub fn open_default_with(options: &EngineOptions) -> Result<Engine> {
        Engine::open_with(default_path()?, options)
    }

    fn try_open(path: &Path, options: &EngineOptions) -> Result<Engine> {
        let state = State::open(path)?;
        let store = Store::open(&state.dir, &state.staging)?;
        let networks = Networks::new(state.networks.clone(), state.staging.clone());
        let volumes = Volumes::new(&state.volumes, &state.staging);
        let drivers = options.volume_drivers.iter().cloned();
        let volumes = drivers.fold(volumes, Volumes::with_driver);
        let (groups, filters) = (OnceLock::new(), Filters::default());
        let inner = Inner {
            state,
            store,
            networks,
            volumes,
            groups,
            filters,
            #[cfg(feature = "registry")]
            registries: options.registries.clone(),
        };
        reclaim(&inner)?;
        inner.networks.reclaim()?;
        Ok(Engine(Arc::new(inner)))
    }

    /// The state directory.
    pub fn path(&self) -> &Path {
        self.0.state.dir.path()
    }
}

impl Inner {
    /// What the host has of control groups.
    pub(crate) fn hierarchies(&self) -> Result<&Hierarchies> {
        if let Some(known) = self.groups.get() {
            return Ok(known);
        }
        let found = Hierarchies::of_this_host()?;
        Ok(self.groups.get_or_init(|| found))
    }

    /// The network of that name; the default one is made when it is first asked for.
    pub(crate) fn network(&self, name: &str) -> Result<coracle_net::Network> {
        if name == DEFAULT_NETWORK {
            return Ok(self.networks.open(&NetworkSpec::new(DEFAULT_NETWORK))?);
        }
        let found = self.networks.find(name)?;
        found.ok_or_else(|| Error::new(Kind::NotFound, format!("no such network: {name}")))
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({:?})", self.path())
    }
}

fn default_path() -> Result<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(root) = var("CORACLE_ROOT") {
        return Ok(root);
    }
    if rustix::process::geteuid().is_root() {
        return Ok("/var/lib/coracle".into());
    }
    let data = var("XDG_DATA_HOME").or_else(|| var("HOME").map(|home| home.join(".local/share")));
    data.map(|data| data.join("coracle")).ok_or_else(|| {
        Error::new(Kind::NotFound, "where is the state? none of CORACLE_ROOT, XDG_DATA_HOME and HOME is set")
    })
}
