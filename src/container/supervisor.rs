//! One supervisor per container, the same code in a thread (ordinary containers) and in a process (kept ones).

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use coracle_host::{Call, Dir, Exit, PidFd};
use coracle_runtime::{Log, Pump, Service, Stream, idle, supervise};
use rustix::pipe::{PipeFlags, pipe_with};

use super::attach::{self, Streams};
use super::desk::{Desk, Served};
use super::launch::{Launched, Stepper, launch};
use super::prober::Prober;
use super::record::{self, Ended, LOG, Record};
use super::restart::BackOff;
use crate::engine::Inner;
use crate::error::{Error, Result};
use crate::stack::Stack;

/// How long a container that is to be watched from its first byte on waits for who wants to watch.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a supervisor stays for readers that lag behind, after the end.
const LINGER: Duration = Duration::from_secs(2);

/// What is known of a container that has been started.
pub(crate) struct Live {
    pub(crate) pidfd: PidFd,
    pub(crate) root: OwnedFd,
}

impl Live {
    pub(crate) fn try_clone(&self) -> Result<Live> {
        let root = self.root.try_clone().call(|| "fcntl(container's root, F_DUPFD_CLOEXEC)")?;
        Ok(Live { pidfd: self.pidfd.try_clone()?, root })
    }
}

/// What a supervisor says while it works.
pub(crate) enum Said {
    /// It can be asked, and waits for somebody who wants to see the output.
    Listening,
    /// The container runs.
    Started(Arc<Live>),
    /// It has been started again.
    Again(Arc<Live>),
    /// It has ended, and may be started again.
    Ended,
    /// It could not be started. This is the last word.
    Failed(Error),
}

/// How to begin.
#[derive(Default)]
pub(crate) struct Manner {
    pub(crate) stepper: Option<Stepper>,
    /// Somebody wants to see all of its output.
    pub(crate) watched: bool,
}

/// Starts the container, tells what becomes of it, and serves it to its end. The calling thread owns the container:
/// when it ends, in whatever way, the kernel kills the container.
pub(crate) fn run(
    engine: &Arc<Inner>,
    room: &Dir,
    record: Arc<Record>,
    manner: Manner,
    mut tell: impl FnMut(Said),
) -> Option<Exit> {
    let mut supervisor = Supervisor::new(engine, room, record);
    if manner.watched {
        if let Err(error) = supervisor.desk.open(room) {
            tell(Said::Failed(error));
            return None;
        }
        tell(Said::Listening);
        // Without poll there is no serving; that will be told by the launch.
        let _ = idle(&mut supervisor.desk, Instant::now() + PATIENCE, |desk| desk.served.is_awaited());
    }
    let (launched, live) = match supervisor.start(manner.stepper) {
        Ok(started) => started,
        Err(error) => {
            if supervisor.record.retain {
                supervisor.write_exit(failed(&error), Some(&error), false);
            }
            tell(Said::Failed(error));
            return None;
        }
    };
    tell(Said::Started(live));
    let exit = supervisor.serve(launched, &mut tell);
    if let Some(pump) = &mut supervisor.desk.served.pump {
        pump.linger(Some(LINGER));
    }
    Some(exit)
}

/// What is written of one that could not be started: what a shell answers then, else docker's 128.
fn failed(error: &Error) -> Exit {
    Exit::Code(error.command_status().unwrap_or(128))
}

struct Supervisor<'a> {
    engine: &'a Arc<Inner>,
    room: &'a Dir,
    record: Arc<Record>,
    desk: Desk,
    /// Copies the output to this program's own.
    forwarder: Option<JoinHandle<Result<()>>>,
}

impl Supervisor<'_> {
    fn new<'a>(engine: &'a Arc<Inner>, room: &'a Dir, record: Arc<Record>) -> Supervisor<'a> {
        let served =
            Served { input_once: record.stdin_once, terminal: record.terminal(), ..Served::default() };
        Supervisor { engine, room, record, desk: Desk::new(served), forwarder: None }
    }

    fn start(&mut self, stepper: Option<Stepper>) -> Result<(Launched, Arc<Live>)> {
        record::forget_exit(self.room)?;
        let mut launched = launch(self.engine, self.room, &self.record, stepper)?;
        let live = launched.live.clone();
        let mut pump = self.pump(&mut launched)?;
        let served = &mut self.desk.served;
        for (stream, pipe) in served.early.drain(..) {
            pump.tap(stream, pipe)?;
        }
        if self.record.attach {
            self.forwarder = Some(forwarder(&mut pump, &live)?);
        }
        served.pump = Some(pump);
        served.stack = launched.stack.take();
        let terminal = launched.running.terminal.take().map(OwnedFd::from);
        served.input = launched.running.stdin.take().or(terminal);
        served.prober = match &self.record.health {
            Some(check) => {
                Some(Prober::new(self.engine.clone(), check.clone(), self.record.clone(), live.clone()))
            }
            None => None,
        };
        served.report.started = jiff::Timestamp::now().to_string();
        served.report.restarting = false;
        served.record = Some((self.engine.clone(), self.record.clone()));
        served.live = Some(live.clone());
        self.desk.open(self.room)?;
        self.record.tell(&self.engine.state.dir, "start", &[]);
        Ok((launched, live))
    }

    /// To its end, and through all further starts.
    fn serve(&mut self, mut launched: Launched, tell: &mut impl FnMut(Said)) -> Exit {
        let mut back_off = BackOff::default();
        loop {
            let begun = Instant::now();
            let mut exit = self.until_end(&mut launched);
            let again = |this: &Self, exit| {
                let count = this.desk.served.report.restarts;
                !this.desk.served.held && this.record.restart.again(exit, count)
            };
            let mut wanted = again(self, exit);
            self.desk.served.report.restarting = wanted;
            if wanted {
                self.desk.served.live = None;
                tell(Said::Ended);
            }
            let oom_killed = launched.oom_killed();
            if oom_killed {
                self.record.tell(&self.engine.state.dir, "oom", &[]);
            }
            // Who looks at the host's links after the end of a kept one finds them as they were before it.
            let leave = if self.record.keep { Stack::leave } else { Stack::leave_behind };
            // What could not be taken down here is named and locked by nobody any more: the next open reclaims it.
            let _ = self.desk.served.stack.take().map(leave);
            let _ = launched.release();
            self.write_exit(exit, None, oom_killed);
            self.record.tell(&self.engine.state.dir, "die", &[("exitCode", &exit.code().to_string())]);
            // Until then it counts as running: how it ended is not to be had yet.
            self.desk.served.live = None;
            let mut wait = back_off.after(begun.elapsed());
            loop {
                if wanted {
                    let _ = idle(&mut self.desk, Instant::now() + wait, |desk| desk.served.held);
                    wanted = !self.desk.served.held;
                }
                if !wanted {
                    self.desk.served.report.restarting = false;
                    return exit;
                }
                self.desk.served.report.restarts += 1;
                if std::mem::take(&mut self.desk.served.reload)
                    && let Ok(record) = Record::read(self.room)
                {
                    self.record = Arc::new(record);
                }
                match self.start(None) {
                    Ok((next, live)) => {
                        launched = next;
                        tell(Said::Again(live));
                        break;
                    }
                    Err(error) => {
                        exit = failed(&error);
                        self.write_exit(exit, Some(&error), false);
                        wanted = again(self, exit);
                        wait = back_off.after(Duration::ZERO);
                    }
                }
            }
        }
    }

    fn until_end(&mut self, launched: &mut Launched) -> Exit {
        if let Some(prober) = &mut self.desk.served.prober {
            let (record, state) = (self.record.clone(), self.engine.state.dir.clone());
            prober.on_change(move |status| {
                record.tell(&state, &format!("health_status: {status}"), &[]);
            });
        }
        let mut services: Vec<&mut dyn Service> = vec![&mut self.desk];
        services.extend(launched.shortage.as_mut().map(|shortage| shortage as &mut dyn Service));
        let exit = supervise(&launched.running.pidfd, &mut services);
        let exit = exit.unwrap_or_else(|_| {
            // Without poll there is no serving; then the container must not outlive its supervisor.
            let _ = launched.running.pidfd.signal(9);
            launched.running.pidfd.reap().unwrap_or(Exit::Unknown)
        });
        // What can't be killed is removed with the group, or keeps it: there is nobody else to tell.
        let _ = launched.end_rest(&self.record);
        self.desk.served.input = None;
        if let Some(forwarder) = self.forwarder.take() {
            // All of it is to be seen before the end is told, however long that takes.
            if let Some(mut pump) = self.desk.served.pump.take() {
                pump.linger(None);
            }
            let _ = forwarder.join();
        }
        exit
    }

    fn write_exit(&mut self, exit: Exit, error: Option<&Error>, oom_killed: bool) {
        let served = &mut self.desk.served;
        let ended = Ended {
            ending: exit.into(),
            started: served.report.started.clone(),
            finished: jiff::Timestamp::now().to_string(),
            restarts: served.report.restarts,
            error: error.map(ToString::to_string).unwrap_or_default(),
            oom_killed,
            health: served.prober.take().map(|prober| prober.health().clone()),
        };
        // A disk that is full now must not keep the container from ending; then it has ended in a way unknown.
        let _ = ended.write(self.room, &self.engine.state.staging, self.record.retain);
    }

    fn pump(&self, launched: &mut Launched) -> Result<Pump<'static>> {
        let running = &mut launched.running;
        let pump = match &running.terminal {
            Some(terminal) => Pump::of_terminal(terminal.try_clone()?.into()),
            None => Pump::new(running.stdout.take(), running.stderr.take())?,
        };
        Ok(match self.record.log {
            Some(limits) => pump.to_log(Log::new(self.room, LOG, limits)),
            None => pump,
        })
    }
}

/// A thread that copies all output to this program's own, so that a slow reader of that holds up nothing else.
fn forwarder(pump: &mut Pump<'_>, live: &Live) -> Result<JoinHandle<Result<()>>> {
    let mut tap = |stream| -> coracle_host::Result<_> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).call(|| "pipe2()")?;
        pump.tap(stream, write)?;
        Ok(Some(std::fs::File::from(read)))
    };
    let streams =
        Streams { stdout: tap(Stream::Stdout)?, stderr: tap(Stream::Stderr)?, ..Streams::default() };
    let pidfd = live.pidfd.try_clone()?;
    let thread = std::thread::Builder::new().name("coracle-output".into());
    Ok(thread.spawn(move || attach::forward(streams, &pidfd)).call(|| "clone(thread)")?)
}
