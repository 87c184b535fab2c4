//! Starting, finding and listing containers.

use std::fmt;
use std::sync::Arc;

use coracle_runtime::{Facts, Plan};

use super::handle::{Container, Owned};
use super::launch::{Stepper, places};
use super::record::Record;
use super::spec::ContainerSpec;
use super::{keep, resolve, room, supervisor};
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

    fn start_stepwise(&self, spec: &ContainerSpec, stepper: Option<Stepper>) -> Result<Container> {
        let record =
            resolve::record(&self.0, spec).doing(|| format!("start a container of `{}`", spec.image))?;
        let container =
            if record.keep { self.start_kept(&record)? } else { self.start_owned(record, stepper)? };
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

    fn start_owned(&self, record: Record, stepper: Option<Stepper>) -> Result<Container> {
        let doing = format!("start container `{}` ({})", record.display_name(), record.image);
        let (room, lock) = room::make(&self.0, &record).doing(|| &doing)?;
        let record = Arc::new(record);
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let (engine, supervised, place) = (self.0.clone(), record.clone(), room.clone());
        // A thread of its own, never one of a pool: the container dies with it.
        let thread = std::thread::Builder::new().name("coracle-container".into()).spawn(move || {
            supervisor::run(&engine, &place, &supervised, stepper, |started| {
                // The starter waits for it, or was ended together with this thread.
                let _ = tell.send(started);
            })
        });
        let failure = match thread {
            Ok(thread) => match told.recv() {
                Ok(Ok(live)) => {
                    return Ok(Container::owned(self.clone(), room, record, Owned::new(thread, live, lock)));
                }
                Ok(Err(error)) => {
                    // Whatever it held is given back when this returns.
                    let _ = thread.join();
                    error
                }
                Err(_) => Error::new(Kind::Other, "its supervisor thread ended"),
            },
            Err(error) => Error::new(Kind::Exhausted, format!("clone(thread): {error}")),
        };
        Err(self.discard(&record, failure.context(doing)))
    }

    fn start_kept(&self, record: &Record) -> Result<Container> {
        let doing = format!("start container `{}` ({})", record.display_name(), record.image);
        let (room, lock) = room::make(&self.0, record).doing(|| &doing)?;
        match keep::spawn(&self.0, record, &lock) {
            Ok(()) => Ok(Container::found(self.clone(), room, Arc::new(record.clone()))),
            Err(failure) => Err(self.discard(record, failure.context(doing))),
        }
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
        let mut plan = Plan::container(&record.spec, &Facts::of_this_host())?;
        stack::plan_files(&mut plan)?;
        for wanted in places(&record) {
            plan.attach(wanted.what.to_string(), wanted.at)?;
        }
        let networks = match &record.network {
            Mode::Networks(networks) => networks.iter().map(|one| one.network.clone()).collect(),
            Mode::None | Mode::Host => Vec::new(),
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
