//! A supervisor's desk: it answers those who ask, passes output on, and sends the probes of the health check.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use coracle_host::{Answer, Dir, Handoff, PidFd};
use coracle_runtime::{Pump, Service, Stream};
use rustix::event::PollFlags;
use rustix::pipe::{PipeFlags, pipe_with};

use super::control::{Question, Report};
use super::exec::{self, ExecSpec};
use super::launch::names;
use super::prober::Prober;
use super::record::{self, CONTROL, Record};
use super::supervisor::Live;
use crate::Kind;
use crate::engine::Inner;
use crate::error::{Error, Result};
use crate::stack::Stack;

pub(crate) struct Desk {
    /// `None`: nobody can ask yet. Who asks expects an answer soon, and a launch may take its time.
    socket: Option<Handoff>,
    pub(crate) served: Served,
}

/// What there is of the container, and what was asked for it.
#[derive(Default)]
pub(crate) struct Served {
    pub(crate) report: Report,
    pub(crate) live: Option<Arc<Live>>,
    pub(crate) pump: Option<Pump<'static>>,
    pub(crate) prober: Option<Prober>,
    /// Its places on networks.
    pub(crate) stack: Option<Stack>,
    /// Our end of its standard input.
    pub(crate) input: Option<OwnedFd>,
    /// The first one who asks for the input gets it for good, and ends it by closing it.
    pub(crate) input_once: bool,
    /// It has a terminal: one stream of output.
    pub(crate) terminal: bool,
    /// What runs in it and is nobody else's to wait for.
    pub(crate) execs: Vec<PidFd>,
    pub(crate) record: Option<(Arc<Inner>, Arc<Record>)>,
    /// Pipes for output that there is no pump for yet.
    pub(crate) early: Vec<(Stream, OwnedFd)>,
    /// It is not to be started again.
    pub(crate) held: bool,
    /// Its record has changed.
    pub(crate) reload: bool,
}

impl Desk {
    pub(crate) fn new(served: Served) -> Desk {
        Desk { socket: None, served }
    }

    /// From here on it can be asked at the socket in this room.
    pub(crate) fn open(&mut self, room: &Dir) -> Result<()> {
        if self.socket.is_none() {
            self.socket = Some(Handoff::listen(room, CONTROL)?);
        }
        Ok(())
    }
}

impl Served {
    /// Somebody waits for the output of a container that is not started yet.
    pub(crate) fn is_awaited(&self) -> bool {
        !self.early.is_empty()
    }

    fn answer(&mut self, question: &[u8]) -> Answer {
        let mut report = self.report.clone();
        report.health = self.prober.as_ref().map(|prober| prober.health().clone());
        let mut fds = Vec::new();
        match serde_json::from_slice(question) {
            Ok(Question::Reach) => {
                // Out of descriptors: one that can't be reached now.
                if let Some(Ok(live)) = self.live.as_ref().map(|live| live.try_clone()) {
                    report.running = true;
                    report.pid = live.pidfd.pid().unwrap_or_default();
                    fds.extend([live.pidfd.into(), live.root]);
                }
            }
            Ok(Question::Attach { output, input }) => {
                if output {
                    (report.stdout, report.stderr) = self.tap(&mut fds);
                }
                if input && let Some(end) = self.input() {
                    fds.push(end);
                    report.stdin = true;
                }
            }
            Ok(Question::Connect(attachment)) => {
                if let Err(error) = self.rewire(|engine, record, stack| {
                    stack.connect(engine, &record.id, &names(record), &attachment)
                }) {
                    report.failure = Some((&error).into());
                }
            }
            Ok(Question::Disconnect(network)) => {
                if let Err(error) = self.rewire(|_, _, stack| stack.disconnect(&network)) {
                    report.failure = Some((&error).into());
                }
            }
            Ok(Question::Exec(spec)) => {
                if let Err(error) = self.exec(&spec) {
                    report.failure = Some((&error).into());
                }
            }
            Ok(Question::Hold) => self.held = true,
            Ok(Question::Reload) => {
                self.reload = true;
                if let Err(error) = self.rename() {
                    report.failure = Some((&error).into());
                }
            }
            // A newer program than this supervisor; an empty answer is none.
            Err(_) => return Answer::default(),
        }
        Answer { text: record::json(&report).unwrap_or_default(), fds }
    }

    fn exec(&mut self, spec: &ExecSpec) -> Result<()> {
        let (Some(live), Some((engine, record))) = (&self.live, &self.record) else {
            return Err(Error::new(Kind::InUse, "it is not running"));
        };
        let running = exec::begin(engine, spec, record, &live.pidfd, &live.root, Default::default())?;
        self.execs.push(running.pidfd);
        Ok(())
    }

    /// The name that is in its record now is the one on its networks, too.
    fn rename(&mut self) -> Result<()> {
        let Some((engine, old)) = &self.record else { return Ok(()) };
        let new = Record::read(&engine.state.containers.dir(&old.id)?)?;
        if new.name == old.name {
            return Ok(());
        }
        let (engine, old) = (engine.clone(), Record::clone(old));
        let now = Record { name: new.name, ..old };
        if let Some(stack) = &mut self.stack {
            stack.rename(&names(&now), &new.network)?;
        }
        self.record = Some((engine, Arc::new(now)));
        Ok(())
    }

    /// Changes its places on networks, and what its `/etc/hosts` says of them.
    fn rewire(&mut self, act: impl FnOnce(&Inner, &Record, &mut Stack) -> Result<()>) -> Result<()> {
        let Some((engine, record)) = &self.record else {
            return Err(Error::new(Kind::InUse, "it is not running"));
        };
        let Some(stack) = &mut self.stack else {
            return Err(Error::new(
                Kind::Invalid,
                "it has no network of its own that others could be joined beside",
            ));
        };
        act(engine, record, stack)?;
        let room = engine.state.containers.dir(&record.id)?;
        stack.write_hosts(&room, &record.hostname, &record.hosts)
    }

    /// New pipes with its output; which of the two streams are there.
    fn tap(&mut self, fds: &mut Vec<OwnedFd>) -> (bool, bool) {
        let mut open = |stream| {
            let Ok((read, write)) = pipe_with(PipeFlags::CLOEXEC) else { return false };
            let taken = match &mut self.pump {
                Some(pump) => pump.tap(stream, write).is_ok(),
                None => {
                    self.early.push((stream, write));
                    true
                }
            };
            if taken {
                fds.push(read);
            }
            taken
        };
        (open(Stream::Stdout), !self.terminal && open(Stream::Stderr))
    }

    fn input(&mut self) -> Option<OwnedFd> {
        if self.input_once && !self.terminal {
            return self.input.take();
        }
        self.input.as_ref()?.try_clone().ok()
    }
}

impl Service for Desk {
    fn interests(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        let mut all: Vec<_> =
            self.socket.iter().flat_map(Handoff::interests).map(|fd| (fd, PollFlags::IN)).collect();
        all.extend(self.served.pump.iter().flat_map(Pump::interests));
        all.extend(self.served.stack.iter().flat_map(Stack::interests));
        all.extend(self.served.execs.iter().map(|pidfd| (pidfd.as_fd(), PollFlags::IN)));
        all.extend(self.served.prober.iter().flat_map(Prober::interests));
        all
    }

    fn deadline(&self) -> Option<Instant> {
        self.served.prober.as_ref().and_then(Prober::deadline)
    }

    fn ready(&mut self) {
        if let Some(socket) = &mut self.socket {
            // Out of descriptors: the client times out and says so.
            let _ = socket.serve(|question| self.served.answer(question));
        }
        if let Some(stack) = &mut self.served.stack {
            stack.ready();
        }
        if let Some(pump) = &mut self.served.pump {
            pump.ready();
        }
        self.served.execs.retain(|pidfd| match pidfd.ended_within(Some(Duration::ZERO)) {
            Ok(false) => true,
            // How it ended nobody asks.
            _ => pidfd.reap().is_err(),
        });
        if let Some(prober) = &mut self.served.prober {
            prober.ready();
        }
    }

    fn finish(&mut self) {
        if let Some(pump) = &mut self.served.pump {
            pump.finish();
        }
    }
}
