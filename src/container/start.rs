//! Starting, finding and listing containers.

use std::fmt;
use std::sync::Arc;

use coracle_host::{Dir, Lock};
use coracle_runtime::{Facts, Plan};

use super::attach::{self, Streams};
use super::handle::{Container, Owned, Slot, locked};
use super::launch::Stepper;
use super::record::Record;
use super::spec::ContainerSpec;
use super::supervisor::{self, Manner, Said};
use super::{group, keep, lend, places, resolve, room};
use crate::Engine;
use crate::Kind;
use crate::error::{Doing, Error, Result};
use crate::stack::{self, Mode};

impl Engine {
    /// Starts a container, and returns when it runs (and is ready, where the spec says what that is).
    ///
    /// # Errors
    /// `Invalid` with everything that is wrong with the spec; `NotFound` for an image or network; `AlreadyExists` for a
    /// name; else what failed, down to the launch step and its system call. Nothing is left of a container that
    /// did not start.
    pub fn start(&self, spec: &ContainerSpec) -> Result<Container> {
        self.start_stepwise(spec, None)
    }

    /// [`Engine::start`], calling `step` with the index of each launch operation before it is performed. For tests that
    /// end a program at every one of them, and for a look at a half-made container. Not for kept containers.
    ///
    /// # Errors
    /// As of [`Engine::start`].
    #[doc(hidden)]
    pub fn start_stepping(
        &self,
        spec: &ContainerSpec,
        step: impl FnMut(usize) + Send + 'static,
    ) -> Result<Container> {
        self.start_stepwise(spec, Some(Box::new(step)))
    }

    /// Makes a container without starting it; [`Container::start`] does. It stays until it is removed, whether it has
    /// run or not.
    ///
    /// # Errors
    /// `Invalid` with everything that is wrong with the spec; `NotFound` for an image or network; `AlreadyExists` for a
    /// name.
    pub fn create(&self, spec: &ContainerSpec) -> Result<Container> {
        let doing = || format!("create a container of `{}`", spec.image);
        let mut record = resolve::record(&self.0, spec).doing(doing)?;
        record.retain |= !(spec.keep && spec.remove);
        let (room, lock) = room::make(&self.0, &record).doing(doing)?;
        drop(lock);
        Ok(Container::found(self.clone(), room, Arc::new(record)))
    }

    fn start_stepwise(&self, spec: &ContainerSpec, stepper: Option<Stepper>) -> Result<Container> {
        let (container, _) = self.begin(spec, stepper, false)?;
        if let Some(ready) = &spec.ready
            && let Err(error) = ready.wait(&container)
        {
            // What is not ready was not started.
            return Err(match container.force_remove() {
                Ok(()) => error,
                Err(also) => error.and(&also),
            });
        }
        Ok(container)
    }

    /// Starts a container and gives all of its standard streams: what it writes from its first byte on, and where to
    /// write what it reads, where the spec says [`open_stdin`](ContainerSpec::open_stdin) or has a terminal.
    ///
    /// # Errors
    /// As of [`Engine::start`].
    pub fn start_attached(&self, spec: &ContainerSpec) -> Result<(Container, Streams)> {
        self.begin(spec, None, true)
    }

    fn begin(
        &self,
        spec: &ContainerSpec,
        stepper: Option<Stepper>,
        watched: bool,
    ) -> Result<(Container, Streams)> {
        let record =
            resolve::record(&self.0, spec).doing(|| format!("start a container of `{}`", spec.image))?;
        let record = Arc::new(record);
        let doing = format!("start container `{}` ({})", record.display_name(), record.image);
        let (room, lock) = room::make(&self.0, &record).doing(|| &doing)?;
        if record.keep {
            return match keep::spawn(&self.0, &room, &record, &lock, watched) {
                Ok(streams) => Ok((Container::found(self.clone(), room, record), streams)),
                Err(failure) => Err(self.discard(&record, failure.context(doing))),
            };
        }
        match self.own(&room, record.clone(), lock, stepper, watched) {
            Ok((owned, streams)) => Ok((Container::owned(self.clone(), room, record, owned), streams)),
            // Removed before its lock is let go.
            Err((failure, _lock)) => Err(self.discard(&record, failure.context(doing))),
        }
    }

    /// Starts the container of this room on a thread of its own. The lock comes back where that fails.
    pub(super) fn own(
        &self,
        room: &Dir,
        record: Arc<Record>,
        lock: Lock,
        stepper: Option<Stepper>,
        watched: bool,
    ) -> Result<(Owned, Streams), (Error, Lock)> {
        let slot = Slot::default();
        let (tell, told) = std::sync::mpsc::channel();
        let (engine, place, shared) = (self.0.clone(), room.clone(), slot.clone());
        let manner = Manner { stepper, watched };
        // A thread of its own, never one of a pool: the container dies with it.
        let thread = std::thread::Builder::new().name("coracle-container".into()).spawn(move || {
            supervisor::run(&engine, &place, record, manner, |said| {
                // The starter waits for it, or was ended together with this thread.
                let word = match said {
                    Said::Listening => Ok(false),
                    Said::Started(live) => {
                        *locked(&shared) = Some(live);
                        Ok(true)
                    }
                    Said::Again(live) => return *locked(&shared) = Some(live),
                    Said::Ended => return *locked(&shared) = None,
                    Said::Failed(error) => Err(error),
                };
                let _ = tell.send(word);
            })
        });
        let thread = match thread {
            Ok(thread) => thread,
            Err(error) => return Err((Error::new(Kind::Exhausted, format!("clone(thread): {error}")), lock)),
        };
        let mut streams = Streams::default();
        let failure = loop {
            match told.recv() {
                Ok(Ok(true)) => break None,
                Ok(Ok(false)) => match attach::fetch(room, true, false) {
                    Ok(fetched) => streams = fetched.unwrap_or_default(),
                    // It waits for us no longer than it must, and is then ended.
                    Err(error) => break Some(error),
                },
                Ok(Err(error)) => break Some(error),
                Err(_) => break Some(Error::new(Kind::Other, "its supervisor thread ended")),
            }
        };
        if let Some(failure) = failure {
            // Whatever it held is given back when this returns.
            drop(told);
            let _ = thread.join();
            return Err((failure, lock));
        }
        if streams.stdout.is_some() {
            // It runs; what can't be had now is not there.
            let input = attach::fetch(room, false, true).ok().flatten();
            streams.stdin = input.and_then(|streams| streams.stdin);
        }
        Ok((Owned::new(thread, slot, lock), streams))
    }

    /// Removes what is left of a container that did not start; its failure is told, and this one's beside it.
    fn discard(&self, record: &Record, failure: Error) -> Error {
        match room::discard(&self.0, record) {
            Ok(()) => failure,
            Err(also) => failure.and(&also),
        }
    }

    /// The container of that name, id or unambiguous beginning of an id, if it is there, whoever started it.
    ///
    /// # Errors
    /// `Invalid` where more than one is meant; `Corrupt` where its record can't be read.
    pub fn find(&self, container: &str) -> Result<Option<Container>> {
        let Some(room) = room::find(&self.0, container)? else { return Ok(None) };
        match Record::read(&room) {
            Ok(record) => Ok(Some(Container::found(self.clone(), room, Arc::new(record)))),
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All containers, running or not, whoever started them; the newest first.
    ///
    /// # Errors
    /// `Corrupt` where a record can't be read.
    pub fn containers(&self) -> Result<Vec<Container>> {
        let mut all = Vec::new();
        for id in self.0.state.containers.names()? {
            // One that is removed meanwhile is not there.
            if let Some(container) = self.find(&id.to_string_lossy())? {
                all.push(container);
            }
        }
        all.sort_by(|a, b| b.created().cmp(a.created()));
        Ok(all)
    }

    /// What starting this container would do, as a value to print: the dry run. It looks the image up and touches nothing.
    ///
    /// # Errors
    /// As of [`Engine::start`], as far as that can be told without doing it.
    pub fn plan(&self, spec: &ContainerSpec) -> Result<StartPlan> {
        let record =
            resolve::record(&self.0, spec).doing(|| format!("plan a container of `{}`", spec.image))?;
        let mut oci = record.spec.clone();
        if let (Some(resources), Some(linux)) = (group::planned(&self.0, &record)?, oci.linux_mut()) {
            linux.set_cgroups_path(Some(record.id.clone().into())).set_resources(Some(resources));
        }
        let mut plan = Plan::container(&oci, &Facts::of_this_host())?;
        if let Some(program) = self.0.filters.of(&record)? {
            plan.filter(&program)?;
        }
        if record.init {
            plan.init();
        }
        stack::plan_files(&mut plan, &stack::FILES)?;
        for mount in places::in_order(&record) {
            plan.attach_as(mount.to_string(), &mount.at, lend::propagation(mount))?;
        }
        let networks = match &record.network {
            Mode::Networks(networks) => networks.iter().map(|one| one.network.clone()).collect(),
            Mode::None | Mode::Host | Mode::Container(_) => Vec::new(),
        };
        Ok(StartPlan { layers: record.layers.len(), networks, publish: record.publish, plan })
    }
}

/// What [`Engine::start`] would do. `Display` prints it, a line an operation.
#[derive(Clone, Debug, PartialEq)]
pub struct StartPlan {
    layers: usize,
    networks: Vec<String>,
    publish: Vec<String>,
    plan: Plan,
}

impl fmt::Display for StartPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "    root: overlay of {} layers", self.layers)?;
        for network in &self.networks {
            writeln!(f, "    join network {network}")?;
        }
        for publish in &self.publish {
            writeln!(f, "    publish {publish}")?;
        }
        self.plan.fmt(f)
    }
}
