//! A container as a value.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use coracle_host::{Dir, Exit, Lock, PidFd};

use super::attach::Streams;
use super::control::{self, Question, Reached};
use super::exec::{self, Exec, ExecSpec};
use super::mount::{Mount, Source};
use super::output::Output;
use super::record::Record;
use super::supervisor::Live;
use crate::error::{Doing, Error, Result};
use crate::stack::Mode;
use crate::{Attached, Engine, Kind, Port, Published};

/// A container.
///
/// The value that [`Engine::start`] returns owns it: dropped, it kills and removes the container, unless the spec
/// said [`keep`](crate::ContainerSpec::keep) or [`retain`](crate::ContainerSpec::retain). Values that
/// [`Engine::find`] returns own nothing; the container they lead to may end or be removed at any time.
#[must_use = "dropping a started container ends it"]
pub struct Container {
    pub(super) engine: Engine,
    pub(super) room: Dir,
    pub(super) record: Arc<Record>,
    pub(super) owned: Mutex<Option<Arc<Owned>>>,
}

/// What the owner of a container has.
pub(crate) struct Owned {
    slot: Slot,
    supervisor: Mutex<Supervisor>,
    /// Says that the container has an owner, from before its start until it is removed.
    _lock: Lock,
}

/// The process, as long as there is one: its supervisor may start it again.
pub(crate) type Slot = Arc<Mutex<Option<Arc<Live>>>>;

enum Supervisor {
    Serving(JoinHandle<Option<Exit>>),
    Ended(Exit),
}

impl Owned {
    pub(crate) fn new(thread: JoinHandle<Option<Exit>>, slot: Slot, lock: Lock) -> Owned {
        Owned { slot, supervisor: Mutex::new(Supervisor::Serving(thread)), _lock: lock }
    }

    pub(super) fn live(&self) -> Option<Arc<Live>> {
        locked(&self.slot).clone()
    }

    /// Waits for the supervisor, who has then written everything down and given everything back.
    pub(super) fn wait(&self) -> Exit {
        let mut supervisor = locked(&self.supervisor);
        let before = std::mem::replace(&mut *supervisor, Supervisor::Ended(Exit::Unknown));
        let exit = match before {
            Supervisor::Ended(exit) => exit,
            Supervisor::Serving(thread) => thread.join().ok().flatten().unwrap_or(Exit::Unknown),
        };
        *supervisor = Supervisor::Ended(exit);
        exit
    }

    /// Whether its supervisor is still at work.
    pub(super) fn serves(&self) -> bool {
        match self.supervisor.try_lock() {
            Ok(supervisor) => matches!(&*supervisor, Supervisor::Serving(thread) if !thread.is_finished()),
            // Somebody waits for it.
            Err(_) => true,
        }
    }
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Container {
    pub(crate) fn owned(engine: Engine, room: Dir, record: Arc<Record>, owned: Owned) -> Container {
        Container { engine, room, record, owned: Mutex::new(Some(Arc::new(owned))) }
    }

    pub(crate) fn found(engine: Engine, room: Dir, record: Arc<Record>) -> Container {
        Container { engine, room, record, owned: Mutex::new(None) }
    }

    /// Its id: 64 hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.record.id
    }

    /// Its name; the first 12 digits of its id where it was given none.
    pub fn name(&self) -> &str {
        self.record.display_name()
    }

    /// The image as it was asked for.
    pub fn image(&self) -> &str {
        &self.record.image
    }

    /// The id of its image.
    pub fn image_id(&self) -> &str {
        &self.record.image_id
    }

    /// When it was made, in RFC 3339.
    pub fn created(&self) -> &str {
        &self.record.created
    }

    /// Its command with all arguments.
    pub fn command(&self) -> &[String] {
        let process = self.record.spec.process().as_ref();
        process.and_then(|process| process.args().as_deref()).unwrap_or_default()
    }

    /// Its labels, by key.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.record.config.labels
    }

    /// The volumes without a name of its own that it brought.
    pub(crate) fn drawn_volumes(&self) -> impl Iterator<Item = &str> {
        self.record.drawn_volumes()
    }

    /// The engine that it was started or found with.
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What is mounted in it: what its spec says, what it shares with others, and its image's VOLUMEs. Volumes without a
    /// name of their own have the one that was drawn for them.
    pub fn mounts(&self) -> &[Mount] {
        &self.record.mounts
    }

    /// Whether it has, or had when it ran, the volume of that name.
    pub(crate) fn has_volume(&self, name: &str) -> bool {
        self.record.mounts.iter().any(|mount| mount.source == Source::Volume(name.to_owned()))
    }

    /// Runs a further process in it, to its end, on the calling thread.
    ///
    /// # Errors
    /// `InUse` where the container does not run; what failed of the process's launch.
    pub fn exec(&self, spec: &ExecSpec) -> Result<(Exit, Output)> {
        let doing = || format!("exec in container `{}`", self.name());
        let run = |pidfd: &PidFd, root: &OwnedFd| match exec::run(
            &self.engine.0,
            spec,
            &self.record,
            pidfd,
            root,
        ) {
            // Whatever was the first thing to fail in a container that is no more.
            Err(_) if pidfd.ended_within(Some(Duration::ZERO))? => Ok(None),
            done => done.map(Some),
        };
        let done = match self.live().doing(doing)? {
            Some(live) => run(&live.pidfd, &live.root),
            None => Ok(None),
        };
        let not_running = || Error::new(Kind::InUse, "it is not running");
        done.and_then(|done| done.ok_or_else(not_running)).doing(doing)
    }

    /// Starts a further process in it, with its standard streams: what it writes, and where to write what it reads,
    /// where the spec says [`interactive`](ExecSpec::interactive) or [`terminal`](ExecSpec::terminal).
    ///
    /// # Errors
    /// As of [`Container::exec`].
    pub fn exec_attached(&self, spec: &ExecSpec) -> Result<(Exec, Streams)> {
        let doing = || format!("exec in container `{}`", self.name());
        let live = self.live().doing(doing)?;
        let live = live.ok_or_else(|| Error::new(Kind::InUse, "it is not running")).doing(doing)?;
        Exec::start(self.engine.clone(), spec.clone(), self.record.clone(), live).doing(doing)
    }

    /// Starts a further process in it and lets go of it: its supervisor waits for it, and nobody sees what it writes.
    ///
    /// # Errors
    /// As of [`Container::exec`].
    pub fn exec_detached(&self, spec: &ExecSpec) -> Result<()> {
        let doing = || format!("exec in container `{}`", self.name());
        let answer = control::ask(&self.room, Question::Exec(Box::new(spec.clone()))).doing(doing)?;
        let Some(reached) = answer else {
            return Err(Error::new(Kind::InUse, "it is not running")).doing(doing);
        };
        match reached.report.failure {
            None => Ok(()),
            Some(failure) => Err(Error::from(failure)).doing(doing),
        }
    }

    /// Its log so far, as text.
    ///
    /// # Errors
    /// As of [`Container::logs`].
    pub fn output(&self) -> Result<Output> {
        Ok(Output::of(&self.logs()?))
    }

    /// Its address on its first network, while it runs and if it has one.
    ///
    /// # Errors
    /// `Corrupt` where a lease can't be read.
    pub fn address(&self) -> Result<Option<Ipv4Addr>> {
        Ok(self.attached()?.map(|attached| attached.address))
    }

    /// The ports of the host that lead to it, while it runs.
    ///
    /// # Errors
    /// `Corrupt` where a lease can't be read.
    pub fn published(&self) -> Result<Vec<Published>> {
        let ports = self.attached()?.map(|attached| attached.ports).unwrap_or_default();
        Ok(ports.into_iter().map(Published).collect())
    }

    /// Where on the host this published port of it is.
    ///
    /// # Errors
    /// `NotFound` where it is not published, or does not run.
    pub fn addr(&self, port: Port) -> Result<SocketAddr> {
        let found = self.published()?.into_iter().find(|published| port.is(published));
        found.map(|published| published.host()).ok_or_else(|| {
            let text = format!("container `{}`: port {port} is not published", self.name());
            Error::new(Kind::NotFound, text)
        })
    }

    /// Its place on its first network.
    fn attached(&self) -> Result<Option<Attached>> {
        let Mode::Networks(networks) = &self.record.network else { return Ok(None) };
        let Some(first) = networks.first() else { return Ok(None) };
        let network = self.engine.0.network(&first.network)?;
        Ok(network.attached()?.into_iter().find(|one| one.container == self.record.id))
    }

    /// Whether it is on a network of its own.
    pub(crate) fn has_network(&self) -> bool {
        matches!(&self.record.network, Mode::Networks(networks) if !networks.is_empty())
    }

    /// The process and its root directory, if it runs.
    pub(super) fn live(&self) -> Result<Option<Arc<Live>>> {
        if let Some(owned) = self.owner() {
            return Ok(owned.live());
        }
        let reached = control::ask(&self.room, Question::Reach)?;
        let process = reached.and_then(Reached::process);
        Ok(process.map(|(pidfd, root)| Arc::new(Live { pidfd, root })))
    }

    /// What its owner has, where this is the owner's value and it was started.
    pub(super) fn owner(&self) -> Option<Arc<Owned>> {
        locked(&self.owned).clone()
    }

    pub(super) fn is_there(&self) -> Result<()> {
        if self.engine.0.state.containers.has(&self.record.id)? {
            return Ok(());
        }
        Err(Error::new(Kind::NotFound, format!("container `{}` was removed", self.name())))
    }
}

impl fmt::Debug for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Container({} {})", self.name(), self.id())
    }
}
