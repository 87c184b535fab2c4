//! The life of a container: started, waited for, signalled, stopped, started again, removed.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coracle_host::{Exit, Lock};
use rustix::io::Errno;

use super::control::{self, Question};
use super::handle::{Container, locked};
use super::health::Health;
use super::record::{CONTROL, Ended, LOCK, Record};
use super::{keep, room};
use crate::error::{Doing, Error, Result};
use crate::{Kind, names};

/// Until a supervisor has done what it is about to do.
const SOON: Duration = Duration::from_millis(2);
/// What `stop` waits for unless something else is said.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const KILL: u8 = 9;
const TERM: u8 = 15;

/// What a container is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// It was made and never started.
    Created,
    /// It is being started.
    Starting,
    /// It runs.
    Running,
    /// It runs, but all of its processes are stopped where they are.
    Paused,
    /// It has ended and will be started again, as its policy says.
    Restarting,
    /// It has ended.
    Exited(Exit),
    /// It ended together with its supervisor, so that nobody knows how.
    Dead,
}

impl State {
    /// Whether it has a supervisor: it runs, or will.
    pub fn is_alive(self) -> bool {
        matches!(self, State::Starting | State::Running | State::Paused | State::Restarting)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Created => f.write_str("was never started"),
            State::Starting => f.write_str("is starting"),
            State::Running => f.write_str("is running"),
            State::Paused => f.write_str("is paused"),
            State::Restarting => f.write_str("is being started again"),
            State::Exited(exit) => write!(f, "ended ({exit})"),
            State::Dead => f.write_str("ended with its supervisor"),
        }
    }
}

/// A container at a glance.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// What it is doing.
    pub state: State,
    /// The number of its first process on the host, while it runs. For people; it may be another's by the time it is used.
    pub pid: Option<u32>,
    /// When it was started last (RFC 3339), if it was.
    pub started: Option<String>,
    /// When it ended (RFC 3339), if it has.
    pub finished: Option<String>,
    /// How often its policy has started it again.
    pub restarts: u32,
    /// A process of it was killed for want of memory, in its last run.
    pub oom_killed: bool,
    /// Why it could not be started again.
    pub error: Option<String>,
    /// How its health check finds it, where it has one.
    pub health: Option<Health>,
}

impl Status {
    fn new(state: State) -> Status {
        Status {
            state,
            pid: None,
            started: None,
            finished: None,
            restarts: 0,
            oom_killed: false,
            error: None,
            health: None,
        }
    }

    fn ended(ended: Ended) -> Status {
        let there = |text: String| Some(text).filter(|text| !text.is_empty());
        Status {
            started: there(ended.started),
            finished: Some(ended.finished),
            restarts: ended.restarts,
            oom_killed: ended.oom_killed,
            error: there(ended.error),
            health: ended.health,
            ..Status::new(State::Exited(ended.ending.into()))
        }
    }
}

impl Container {
    /// What it is doing.
    ///
    /// # Errors
    /// `NotFound` where it was removed meanwhile.
    pub fn state(&self) -> Result<State> {
        if let Some(owned) = self.owner()
            && let Some(live) = owned.live()
            && !live.pidfd.ended_within(Some(Duration::ZERO))?
        {
            return Ok(if self.is_paused()? { State::Paused } else { State::Running });
        }
        Ok(self.status()?.state)
    }

    /// What it is doing, and since when.
    ///
    /// # Errors
    /// `NotFound` where it was removed meanwhile.
    pub fn status(&self) -> Result<Status> {
        // Its owner knows, even if somebody else has removed it.
        if let Some(owned) = self.owner().filter(|owned| !owned.serves()) {
            let exit = owned.wait();
            let ended = Ended::read(&self.room)?;
            return Ok(ended.map_or(Status::new(State::Exited(exit)), Status::ended));
        }
        self.is_there()?;
        if let Some(reached) = control::ask(&self.room, Question::Reach)? {
            let report = reached.report;
            if report.running || report.restarting {
                return Ok(Status {
                    pid: (report.running && report.pid != 0).then_some(report.pid),
                    started: Some(report.started),
                    restarts: report.restarts,
                    health: report.health,
                    ..Status::new(match report.running {
                        true if self.is_paused()? => State::Paused,
                        true => State::Running,
                        false => State::Restarting,
                    })
                });
            }
        }
        if let Some(ended) = Ended::read(&self.room)? {
            return Ok(Status::ended(ended));
        }
        let held = Lock::is_held(&self.room, LOCK)?;
        let begun = self.room.has(CONTROL)?;
        // It may have ended while we looked.
        Ok(match Ended::read(&self.room)? {
            Some(ended) => Status::ended(ended),
            None if held => Status::new(State::Starting),
            None if begun => Status::new(State::Dead),
            None => Status::new(State::Created),
        })
    }

    /// Starts it, where it was made by [`Engine::create`](crate::Engine::create) or has ended. What it changed in its
    /// file system is still there.
    ///
    /// # Errors
    /// `InUse` where it runs already; as of [`Engine::start`](crate::Engine::start).
    pub fn start(&self) -> Result<()> {
        self.start_watched(false).map(drop)
    }

    /// [`Container::start`], with all of its standard streams.
    ///
    /// # Errors
    /// As of [`Container::start`].
    pub fn start_attached(&self) -> Result<crate::Streams> {
        self.start_watched(true)
    }

    fn start_watched(&self, watched: bool) -> Result<crate::Streams> {
        let doing = || format!("start container `{}`", self.name());
        self.is_there().doing(doing)?;
        let mut owned = locked(&self.owned);
        if let Some(before) = owned.take() {
            if before.serves() {
                *owned = Some(before);
                return Err(Error::new(Kind::InUse, "it is running already")).doing(doing);
            }
            before.wait();
        }
        let Some(lock) = Lock::try_exclusive(&self.room, LOCK).doing(doing)? else {
            return Err(Error::new(Kind::InUse, "it is running already, or another program has it"))
                .doing(doing);
        };
        // Somebody may have changed it since this value was made.
        let record = Arc::new(Record::read(&self.room).doing(doing)?);
        if record.keep {
            return keep::spawn(&self.engine.0, &self.room, &record, &lock, watched).doing(doing);
        }
        let (new, streams) = self
            .engine
            .own(&self.room, record, lock, None, watched)
            .map_err(|(error, _)| error)
            .doing(doing)?;
        *owned = Some(Arc::new(new));
        Ok(streams)
    }

    /// The standard streams of it while it runs: what it writes from now on, and where to write what it reads.
    ///
    /// # Errors
    /// `InUse` where it does not run.
    pub fn attach(&self) -> Result<crate::Streams> {
        let fetched = super::attach::fetch(&self.room, true, true);
        let fetched = fetched.doing(|| format!("attach to container `{}`", self.name()))?;
        fetched.filter(|streams| streams.stdout.is_some()).ok_or_else(|| {
            Error::new(Kind::InUse, format!("attach to container `{}`: it is not running", self.name()))
        })
    }

    /// Waits until it has ended, and will not be started again by its policy.
    ///
    /// # Errors
    /// `NotFound` where it is removed meanwhile by somebody else.
    pub fn wait(&self) -> Result<Exit> {
        if let Some(owned) = self.owner() {
            return Ok(owned.wait());
        }
        loop {
            let live = self.live()?;
            if let Some(live) = &live {
                live.pidfd.ended_within(None)?;
            }
            match self.state() {
                Ok(State::Exited(exit)) => return Ok(exit),
                Ok(State::Dead) => return Ok(Exit::Unknown),
                Ok(_) => {}
                // Removed at its end: the kernel may still know.
                Err(error) if error.kind() == Kind::NotFound => {
                    return live.map(|live| live.pidfd.exit_kept()).ok_or(error);
                }
                Err(error) => return Err(error),
            }
            // Ended, and its supervisor is about to write how, or to start it again.
            std::thread::sleep(SOON);
        }
    }

    /// Waits until it has ended, for `patience` at most. `None`: it has not.
    ///
    /// # Errors
    /// `NotFound` where it is removed meanwhile by somebody else.
    pub fn wait_within(&self, patience: Duration) -> Result<Option<Exit>> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(live) = self.live()? {
                live.pidfd.ended_within(Some(deadline.saturating_duration_since(Instant::now())))?;
            }
            match self.state()? {
                State::Exited(exit) => return Ok(Some(exit)),
                State::Dead => return Ok(Some(Exit::Unknown)),
                _ if Instant::now() >= deadline => return Ok(None),
                _ => std::thread::sleep(SOON),
            }
        }
    }

    /// Sends a signal (1 to 64) to its first process.
    ///
    /// # Errors
    /// `InUse` where it does not run; as of pidfd_send_signal(2).
    pub fn signal(&self, signal: u8) -> Result<()> {
        let doing = || format!("signal container `{}`", self.name());
        let sent = match self.live().doing(doing)? {
            Some(live) => live.pidfd.signal(signal).doing(doing)?,
            None => false,
        };
        if sent {
            self.tell("kill", &[("signal", &signal.to_string())]);
        }
        if sent { Ok(()) } else { Err(Error::new(Kind::InUse, format!("{}: it is not running", doing()))) }
    }

    /// Kills it and waits for its end; its policy doesn't start it again. That it has ended is fine.
    ///
    /// # Errors
    /// As of pidfd_send_signal(2); `NotFound` where it was removed meanwhile by somebody else.
    pub fn kill(&self) -> Result<Exit> {
        self.end(KILL, None)
    }

    /// Asks it to end and waits, as docker does: its stop signal, and SIGKILL where that takes longer than `patience`
    /// (`None`: what its spec says, else ten seconds). Its policy doesn't start it again. That it has ended is fine.
    ///
    /// # Errors
    /// As of [`Container::kill`].
    pub fn stop(&self, patience: Option<Duration>) -> Result<Exit> {
        let patience = patience.or(self.record.stop_timeout).unwrap_or(STOP_TIMEOUT);
        self.end(self.record.stop_signal.unwrap_or(TERM), Some(patience))
    }

    /// [`Container::stop`] with this signal (1 to 64) instead of its own.
    ///
    /// # Errors
    /// As of [`Container::kill`].
    pub fn stop_with(&self, signal: u8, patience: Option<Duration>) -> Result<Exit> {
        let patience = patience.or(self.record.stop_timeout).unwrap_or(STOP_TIMEOUT);
        self.end(signal, Some(patience))
    }

    /// Tells those who listen that this happened to it.
    pub(super) fn tell(&self, action: &str, more: &[(&str, &str)]) {
        self.record.tell(&self.engine.0.state.dir, action, more);
    }

    fn end(&self, signal: u8, patience: Option<Duration>) -> Result<Exit> {
        loop {
            self.hold()?;
            match self.signal(signal) {
                Ok(()) => {
                    self.thaw()?;
                    break;
                }
                // There is nothing to end yet.
                Err(error) if error.kind() == Kind::InUse => match self.state()? {
                    State::Starting | State::Running | State::Paused | State::Restarting => {
                        std::thread::sleep(SOON);
                    }
                    // It never ran.
                    State::Created => return Ok(Exit::Code(0)),
                    State::Exited(_) | State::Dead => break,
                },
                Err(error) => return Err(error),
            }
        }
        if let Some(patience) = patience {
            match self.wait_within(patience)? {
                Some(exit) => return Ok(exit),
                None => return self.end(KILL, None),
            }
        }
        self.wait()
    }

    /// Tells its supervisor that it is not to be started again.
    fn hold(&self) -> Result<()> {
        if self.record.restart.is_any() {
            control::ask(&self.room, Question::Hold)?;
        }
        Ok(())
    }

    /// Stops it, where it runs, and starts it.
    ///
    /// # Errors
    /// As of [`Container::stop`] and [`Container::start`].
    pub fn restart(&self, patience: Option<Duration>) -> Result<()> {
        if self.state()?.is_alive() {
            self.stop(patience)?;
        }
        // The end is told a moment before its supervisor lets go of the room.
        let deadline = Instant::now() + STOP_TIMEOUT;
        loop {
            match self.start() {
                Err(error)
                    if error.kind() == Kind::InUse && self.record.keep && Instant::now() < deadline =>
                {
                    std::thread::sleep(SOON);
                }
                done => return done,
            }
        }
    }

    /// Gives it another name, at once and also on its networks; the old one is free then.
    ///
    /// # Errors
    /// `Invalid` for a bad name, and for its own; `AlreadyExists` where another container has it; else why its networks could not be told,
    /// which know it by the new name from its next start on.
    pub fn rename(&mut self, name: &str) -> Result<()> {
        let doing = |old: &str| format!("rename container `{old}` to `{name}`");
        let old = self.name().to_owned();
        let same = || "it has this name already".to_owned();
        if let Some(problem) = super::check::name_problem(name).or_else(|| (old == name).then(same)) {
            return Err(Error::new(Kind::Invalid, problem)).doing(|| doing(&old));
        }
        let state = &self.engine.0.state;
        let mut record = Record::read(&self.room).doing(|| doing(&old))?;
        let exists = |id: &str| Ok(state.containers.has(id)?);
        let taken =
            names::claim(&state.names, &state.staging, name, &record.id, exists).doing(|| doing(&old))?;
        if let Some(owner) = taken.filter(|owner| *owner != record.id) {
            let text = format!("the name is in use by container {}", &owner[..owner.len().min(12)]);
            return Err(Error::new(Kind::AlreadyExists, text)).doing(|| doing(&old));
        }
        let before = record.name.replace(name.to_owned());
        record.write(&self.room, &state.staging).doing(|| doing(&old))?;
        self.record = Arc::new(record);
        self.tell("rename", &[("oldName", &old)]);
        let told = control::ask(&self.room, Question::Reload);
        if let Some(before) = before.filter(|before| before != name) {
            names::release(&state.names, &state.staging, &before, self.id()).doing(|| doing(&old))?;
        }
        match told.ok().flatten().and_then(|reached| reached.report.failure) {
            Some(failure) => Err(Error::from(failure)).doing(|| doing(&old)),
            None => Ok(()),
        }
    }

    /// Removes what is left of it.
    ///
    /// # Errors
    /// `InUse` while it runs.
    pub fn remove(self) -> Result<()> {
        if self.state()?.is_alive() {
            let text = format!("remove container `{}`: it is running; kill it first", self.name());
            return Err(Error::new(Kind::InUse, text));
        }
        self.force_remove()
    }

    /// Kills it if it runs, and removes what is left of it, whoever owns it.
    ///
    /// # Errors
    /// What could not be removed; the next [`Engine::open`](crate::Engine::open) tries again.
    pub fn force_remove(self) -> Result<()> {
        match self.kill() {
            // Its supervisor or somebody else was faster.
            Err(error) if error.kind() == Kind::NotFound => return Ok(()),
            ended => ended?,
        };
        let doing = || format!("remove container `{}`", self.record.display_name());
        let owned = locked(&self.owned).take();
        if let Some(owned) = owned {
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
}

impl Drop for Container {
    fn drop(&mut self) {
        let Some(owned) = locked(&self.owned).take() else { return };
        // What fails here is reclaimed by the next open: the lock is free then, whatever happened.
        let _ = self.hold();
        while owned.serves() {
            if let Some(live) = owned.live() {
                let _ = live.pidfd.signal(KILL);
                break;
            }
            // It is being started again.
            std::thread::sleep(SOON);
        }
        owned.wait();
        if !self.record.retain {
            let _ = room::discard(&self.engine.0, &self.record);
        }
    }
}
