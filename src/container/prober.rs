//! The one who asks: a health check's probes, one after the other, from the supervisor's own loop.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use coracle_host::{Call, Exit, PidFd};
use coracle_runtime::{Service, Stdio};
use rustix::event::PollFlags;
use rustix::fs::OFlags;
use rustix::pipe::{PipeFlags, pipe_with};

use super::exec::{self, ExecSpec};
use super::health::{Health, HealthStatus, MOST_OUTPUT, Probe};
use super::healthcheck::HealthCheck;
use super::record::Record;
use super::supervisor::Live;
use crate::Kind;
use crate::engine::Inner;
use crate::error::Result;

pub(crate) struct Prober {
    engine: Arc<Inner>,
    check: HealthCheck,
    record: Arc<Record>,
    live: Arc<Live>,
    health: Health,
    begun: Instant,
    now: Now,
    changed: Box<dyn FnMut(HealthStatus) + Send>,
}

enum Now {
    Resting {
        until: Instant,
    },
    Asking(Asking),
    /// The container is gone.
    Over,
}

struct Asking {
    process: PidFd,
    /// `None`: it was read to its end.
    pipe: Option<std::fs::File>,
    output: Vec<u8>,
    start: String,
    after: Duration,
    deadline: Instant,
    late: bool,
}

impl Prober {
    /// For a container that was started just now. The first probe comes at once.
    pub(crate) fn new(
        engine: Arc<Inner>,
        check: HealthCheck,
        record: Arc<Record>,
        live: Arc<Live>,
    ) -> Prober {
        let begun = Instant::now();
        let now = Now::Resting { until: begun };
        let health = Health::default();
        Prober { engine, check, record, live, health, begun, now, changed: Box::new(|_| {}) }
    }

    pub(crate) fn health(&self) -> &Health {
        &self.health
    }

    /// Calls this with every new status.
    pub(crate) fn on_change(&mut self, changed: impl FnMut(HealthStatus) + Send + 'static) {
        self.changed = Box::new(changed);
    }

    fn ask(&mut self) -> Result<Asking> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).call(|| "pipe2()")?;
        rustix::fs::fcntl_setfl(&read, OFlags::NONBLOCK).call(|| "fcntl(pipe, F_SETFL)")?;
        let both = write.try_clone().call(|| "fcntl(F_DUPFD_CLOEXEC)")?;
        let (start, after) = (jiff::Timestamp::now().to_string(), self.begun.elapsed());
        let spec = ExecSpec::new(self.check.words());
        let stdio = [Stdio::Null, Stdio::Fd(write), Stdio::Fd(both)];
        let process =
            exec::begin(&self.engine, &spec, &self.record, &self.live.pidfd, &self.live.root, stdio)?.pidfd;
        let deadline = Instant::now() + self.check.rhythm().timeout;
        let (pipe, output) = (Some(std::fs::File::from(read)), Vec::new());
        Ok(Asking { process, pipe, output, start, after, deadline, late: false })
    }

    fn rest(&mut self) {
        self.now = Now::Resting {
            until: Instant::now() + self.health.pause(&self.check.rhythm(), self.begun.elapsed()),
        };
    }

    fn count(&mut self, start: String, after: Duration, exit_code: i32, output: String) {
        let end = jiff::Timestamp::now().to_string();
        if self.health.count(&self.check.rhythm(), Probe { start, end, exit_code, output }, after) {
            (self.changed)(self.health.status);
        }
        self.rest();
    }
}

impl Asking {
    fn read(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        let mut buffer = [0; 4096];
        loop {
            match pipe.read(&mut buffer) {
                Ok(0) => break self.pipe = None,
                Ok(read) => {
                    let room = MOST_OUTPUT.saturating_sub(self.output.len());
                    self.output.extend_from_slice(&buffer[..read.min(room)]);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break self.pipe = None,
            }
        }
    }
}

impl Service for Prober {
    fn interests(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        let Now::Asking(asking) = &self.now else { return Vec::new() };
        let pipe = asking.pipe.iter().map(|pipe| (pipe.as_fd(), PollFlags::IN));
        pipe.chain([(asking.process.as_fd(), PollFlags::IN)]).collect()
    }

    fn deadline(&self) -> Option<Instant> {
        match &self.now {
            Now::Resting { until } => Some(*until),
            Now::Asking(asking) if !asking.late => Some(asking.deadline),
            Now::Asking(_) | Now::Over => None,
        }
    }

    fn ready(&mut self) {
        match &mut self.now {
            Now::Over => {}
            Now::Resting { until } if *until > Instant::now() => {}
            Now::Resting { .. } => match self.ask() {
                Ok(asking) => self.now = Now::Asking(asking),
                Err(error) if error.kind() == Kind::NotFound && error.command_status().is_none() => {
                    self.now = Now::Over;
                }
                Err(error) => {
                    let (start, after) = (jiff::Timestamp::now().to_string(), self.begun.elapsed());
                    self.count(start, after, -1, error.to_string());
                }
            },
            Now::Asking(asking) => {
                asking.read();
                if !asking.late && asking.deadline <= Instant::now() {
                    asking.late = true;
                    // It may have ended just now.
                    let _ = asking.process.signal(9);
                }
                if !asking.process.ended_within(Some(Duration::ZERO)).unwrap_or(true) {
                    return;
                }
                asking.read();
                let exit = asking.process.reap().unwrap_or(Exit::Unknown);
                let (code, output) = match asking.late {
                    true => {
                        (-1, format!("Health check exceeded timeout ({:?})", self.check.rhythm().timeout))
                    }
                    false => (i32::from(exit.code()), String::from_utf8_lossy(&asking.output).into_owned()),
                };
                let (start, after) = (std::mem::take(&mut asking.start), asking.after);
                self.count(start, after, code, output);
            }
        }
    }
}
