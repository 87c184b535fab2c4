//! A container as a value.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use coracle_host::{Call, Dir, Exit, Handoff, Lock, PidFd};
use coracle_runtime::{Log, LogEntry};
use rustix::io::Errno;

use super::exec::{self, ExecSpec};
use super::output::Output;
use super::record::{CONTROL, LOCK, LOG, Record, read_exit};
use super::room;
use super::spec::Source;
use super::supervisor::Live;
use crate::error::{Doing, Error, Result};
use crate::stack::Mode;
use crate::{Attached, Engine, Kind, Port, Published};

/// Until a supervisor has done what it is about to do.
const SOON: Duration = Duration::from_millis(2);

/// A container.
///
/// The value that [`Engine::start`] returns owns it: dropped, it kills and removes the container, unless the spec
/// said [`keep`](crate::ContainerSpec::keep) or [`retain`](crate::ContainerSpec::retain). Values that
/// [`Engine::find`] returns own nothing; the container they lead to may end or be removed at any time.
#[must_use = "dropping a started container ends it"]
pub struct Container {
    engine: Engine,
    room: Dir,
    record: Arc<Record>,
    owned: Option<Owned>,
}

/// What a container is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// It is being started.
    Starting,
    /// It runs.
    Running,
    /// It has ended.
    Exited(Exit),
    /// It ended together with its supervisor, so that nobody knows how.
    Dead,
}

/// A container at a glance, for lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// What it is doing.
    pub state: State,
    /// When it ended (RFC 3339), if it has.
    pub finished: Option<String>,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Starting => f.write_str("is starting"),
            State::Running => f.write_str("is running"),
            State::Exited(exit) => write!(f, "ended ({exit})"),
            State::Dead => f.write_str("ended with its supervisor"),
        }
    }
}

/// What the owner of a container has.
pub(crate) struct Owned {
    live: Live,
    supervisor: Mutex<Supervisor>,
    /// Says that the container has an owner, from before its start until it is removed.
    _lock: Lock,
}

enum Supervisor {
    Serving(JoinHandle<Option<Exit>>),
    Ended(Exit),
}

impl Owned {
    pub(crate) fn new(thread: JoinHandle<Option<Exit>>, live: Live, lock: Lock) -> Owned {
        Owned { live, supervisor: Mutex::new(Supervisor::Serving(thread)), _lock: lock }
    }

    /// Waits for the supervisor, who has then written everything down and given everything back.
    fn wait(&self) -> Exit {
        let mut supervisor = self.supervisor.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let before = std::mem::replace(&mut *supervisor, Supervisor::Ended(Exit::Unknown));
        let exit = match before {
            Supervisor::Ended(exit) => exit,
            Supervisor::Serving(thread) => thread.join().ok().flatten().unwrap_or(Exit::Unknown),
        };
        *supervisor = Supervisor::Ended(exit);
        exit
    }
}

impl Container {
    pub(crate) fn owned(engine: Engine, room: Dir, record: Arc<Record>, owned: Owned) -> Container {
        Container { engine, room, record, owned: Some(owned) }
    }

    pub(crate) fn found(engine: Engine, room: Dir, record: Arc<Record>) -> Container {
        Container { engine, room, record, owned: None }
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
        &self.record.labels
    }

    /// Whether it has, or had when it ran, the volume of that name.
    pub(crate) fn has_volume(&self, name: &str) -> bool {
        self.record.mounts.iter().any(|mount| mount.source == Source::Volume(name.to_owned()))
    }

    /// What it is doing.
    ///
    /// # Errors
    /// `NotFound` where it was removed meanwhile.
    pub fn state(&self) -> Result<State> {
        Ok(self.status()?.state)
    }

    /// What it is doing, and since when.
    ///
    /// # Errors
    /// `NotFound` where it was removed meanwhile.
    pub fn status(&self) -> Result<Status> {
        let ended = |(exit, finished)| Status { state: State::Exited(exit), finished: Some(finished) };
        let now = |state| Status { state, finished: None };
        if let Some(owned) = &self.owned {
            let over = owned.live.pidfd.ended_within(Some(Duration::ZERO))?;
            if !over {
                return Ok(now(State::Running));
            }
            let exit = owned.wait();
            return Ok(read_exit(&self.room)?.map_or(now(State::Exited(exit)), ended));
        }
        self.is_there()?;
        if let Some(exit) = read_exit(&self.room)? {
            return Ok(ended(exit));
        }
        if self.reach()?.is_some() {
            return Ok(now(State::Running));
        }
        let held = Lock::is_held(&self.room, LOCK)?;
        // It may have ended while we looked.
        Ok(match read_exit(&self.room)? {
            Some(exit) => ended(exit),
            None => now(if held { State::Starting } else { State::Dead }),
        })
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// `NotFound` where it is removed meanwhile by somebody else.
    pub fn wait(&self) -> Result<Exit> {
        if let Some(owned) = &self.owned {
            return Ok(owned.wait());
        }
        loop {
            let reached = self.reach()?;
            if let Some((pidfd, _)) = &reached {
                pidfd.ended_within(None)?;
            }
            match self.state() {
                Ok(State::Exited(exit)) => return Ok(exit),
                Ok(State::Dead) => return Ok(Exit::Unknown),
                Ok(State::Starting | State::Running) => {}
                // Removed at its end: the kernel may still know.
                Err(error) if error.kind() == Kind::NotFound => {
                    return reached.map(|(pidfd, _)| pidfd.exit_kept()).ok_or(error);
                }
                Err(error) => return Err(error),
            }
            // Ended, and its supervisor is about to write how.
            std::thread::sleep(SOON);
        }
    }

    /// Sends a signal (1 to 64) to its first process.
    ///
    /// # Errors
    /// `InUse` where it does not run; as of pidfd_send_signal(2).
    pub fn signal(&self, signal: u8) -> Result<()> {
        let doing = || format!("signal container `{}`", self.name());
        let sent = match &self.owned {
            Some(owned) => owned.live.pidfd.signal(signal).doing(doing)?,
            None => match self.reach().doing(doing)? {
                Some((pidfd, _)) => pidfd.signal(signal).doing(doing)?,
                None => false,
            },
        };
        if sent { Ok(()) } else { Err(Error::new(Kind::InUse, format!("{}: it is not running", doing()))) }
    }

    /// Kills it and waits for its end. That it has ended is fine.
    ///
    /// # Errors
    /// As of pidfd_send_signal(2); `NotFound` where it was removed meanwhile by somebody else.
    pub fn kill(&self) -> Result<Exit> {
        loop {
            match self.signal(9) {
                Ok(()) => break,
                // There is nothing to kill yet.
                Err(error) if error.kind() == Kind::InUse && self.state()? == State::Starting => {
                    std::thread::sleep(SOON);
                }
                Err(error) if error.kind() == Kind::InUse => break,
                Err(error) => return Err(error),
            }
        }
        self.wait()
    }

    /// Runs a further process in it, to its end, on the calling thread.
    ///
    /// # Errors
    /// `InUse` where the container does not run; what failed of the process's launch.
    pub fn exec(&self, spec: &ExecSpec) -> Result<(Exit, Output)> {
        let doing = || format!("exec in container `{}`", self.name());
        let run = |pidfd: &PidFd, root: &OwnedFd| match exec::run(spec, &self.record, pidfd, root) {
            // Whatever was the first thing to fail in a container that is no more.
            Err(_) if pidfd.ended_within(Some(Duration::ZERO))? => Ok(None),
            done => done.map(Some),
        };
        let done = match &self.owned {
            Some(owned) => run(&owned.live.pidfd, &owned.live.root),
            None => match self.reach().doing(doing)? {
                Some((pidfd, root)) => run(&pidfd, &root),
                None => Ok(None),
            },
        };
        let not_running = || Error::new(Kind::InUse, "it is not running");
        done.and_then(|done| done.ok_or_else(not_running)).doing(doing)
    }

    /// Its log so far: what it wrote to its standard output and error, a line an entry.
    ///
    /// # Errors
    /// `NotFound` where it was removed meanwhile; as of read(2).
    pub fn logs(&self) -> Result<Vec<LogEntry>> {
        self.is_there()?;
        let Some(bytes) = self.room.read_if_there(LOG)? else { return Ok(Vec::new()) };
        Ok(Log::read(bytes.as_slice()).call(|| format!("read({:?})", self.room.path_of(LOG)))?)
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

    /// Removes what is left of it.
    ///
    /// # Errors
    /// `InUse` while it runs.
    pub fn remove(self) -> Result<()> {
        if matches!(self.state()?, State::Running | State::Starting) {
            let text = format!("remove container `{}`: it is running; kill it first", self.name());
            return Err(Error::new(Kind::InUse, text));
        }
        self.force_remove()
    }

    /// Kills it if it runs, and removes what is left of it, whoever owns it.
    ///
    /// # Errors
    /// What could not be removed; the next [`Engine::open`] tries again.
    pub fn force_remove(mut self) -> Result<()> {
        match self.kill() {
            // Its supervisor or somebody else was faster.
            Err(error) if error.kind() == Kind::NotFound => return Ok(()),
            ended => ended?,
        };
        let doing = || format!("remove container `{}`", self.record.display_name());
        if let Some(owned) = self.owned.take() {
            let removed = room::discard(&self.engine.0, &self.record).doing(doing);
            drop(owned);
            return removed;
        }
        match Lock::try_exclusive(&self.room, LOCK) {
            // `None`: an owner still has the value of what has ended, and may have it for long. Its supervisor has
            // given everything back before it said so.
            Ok(_lock) => room::discard(&self.engine.0, &self.record).doing(doing),
            Err(error) if error.errno() == Some(Errno::NOENT) => Ok(()),
            Err(error) => Err(error).doing(doing),
        }
    }

    /// Whether it is on a network of its own.
    pub(crate) fn has_network(&self) -> bool {
        matches!(&self.record.network, Mode::Networks(networks) if !networks.is_empty())
    }

    /// The pidfd and the root directory, if it runs.
    fn reach(&self) -> Result<Option<(PidFd, OwnedFd)>> {
        let Some(fds) = Handoff::fetch(&self.room, CONTROL)? else { return Ok(None) };
        let mut fds = fds.into_iter();
        Ok(fds.next().map(PidFd::from_fd).zip(fds.next()))
    }

    fn is_there(&self) -> Result<()> {
        if self.engine.0.state.containers.has(&self.record.id)? {
            return Ok(());
        }
        Err(Error::new(Kind::NotFound, format!("container `{}` was removed", self.name())))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let Some(owned) = self.owned.take() else { return };
        // What fails here is reclaimed by the next open: the lock is free then, whatever happened.
        let _ = owned.live.pidfd.signal(9);
        owned.wait();
        if !self.record.retain {
            let _ = room::discard(&self.engine.0, &self.record);
        }
    }
}

impl fmt::Debug for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Container({} {})", self.name(), self.id())
    }
}
