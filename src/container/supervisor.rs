//! One supervisor per container, the same code in a thread (ordinary containers) and in a process (kept ones).

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use coracle_host::{Dir, Exit, Handoff, PidFd};
use coracle_runtime::{Log, Pump, Service, Stream, supervise};
use rustix::event::PollFlags;
use rustix::fs::OFlags;

use super::launch::{Launched, Stepper, launch};
use super::record::{LOG, Record, write_exit};
use crate::engine::Inner;
use crate::error::Result;

/// What is known of a container that has been started.
pub(crate) struct Live {
    pub(crate) pidfd: PidFd,
    pub(crate) root: OwnedFd,
}

/// Starts the container, says so (or why not) through `started`, and serves it to its end. The calling thread owns
/// the container: when it ends, in whatever way, the kernel kills the container.
pub(crate) fn run(
    engine: &Inner,
    room: &Dir,
    record: &Record,
    stepper: Option<Stepper>,
    started: impl FnOnce(Result<Live>),
) -> Option<Exit> {
    let begun = launch(engine, room, record, stepper).and_then(|mut launched| {
        let pump = pump(room, record, &mut launched)?;
        let live = Live {
            pidfd: launched.running.pidfd.try_clone()?,
            root: launched.root.try_clone().map_err(|error| {
                coracle_host::Error::new(crate::Kind::Exhausted, format!("fcntl(F_DUPFD_CLOEXEC): {error}"))
            })?,
        };
        Ok((launched, pump, live))
    });
    let (launched, pump, live) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            started(Err(error));
            return None;
        }
    };
    started(Ok(live));
    let exit = serve(launched, pump);
    // A disk that is full now must not keep the container from ending; then it has ended in a way unknown.
    let _ = write_exit(room, &engine.state.staging, exit, record.retain);
    Some(exit)
}

fn serve(mut launched: Launched, mut pump: Pump<'_>) -> Exit {
    let pidfd = launched.running.pidfd.try_clone();
    let exit = {
        let mut control = Control {
            socket: &launched.control,
            pidfd: launched.running.pidfd.as_fd(),
            root: launched.root.as_fd(),
        };
        let mut services: Vec<&mut dyn Service> = vec![&mut pump, &mut control];
        if let Some(stack) = &mut launched.stack {
            services.push(stack);
        }
        supervise(&launched.running.pidfd, &mut services)
    };
    let exit = exit.unwrap_or_else(|_| {
        // Without poll there is no serving; then the container must not outlive its supervisor.
        pidfd.map_or(Exit::Unknown, |pidfd| {
            let _ = pidfd.signal(9);
            pidfd.reap().unwrap_or(Exit::Unknown)
        })
    });
    // What could not be taken down here is named and locked by nobody any more: the next open reclaims it.
    let _ = launched.release();
    exit
}

fn pump(room: &Dir, record: &Record, launched: &mut Launched) -> Result<Pump<'static>> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND;
    let place = room.clone();
    let log = Log::new(move || match place.file(LOG, flags, 0o600) {
        Ok(file) => Ok(file.into()),
        Err(error) => Err(std::io::Error::other(error)),
    });
    let pump = Pump::new(launched.running.stdout.take(), launched.running.stderr.take())?.to_log(log);
    if !record.attach {
        return Ok(pump);
    }
    let pidfd = launched.running.pidfd.try_clone()?;
    Ok(pump.to(move |stream, bytes| {
        let written = match stream {
            Stream::Stdout => std::io::stdout().write_all(bytes).and_then(|()| std::io::stdout().flush()),
            Stream::Stderr => std::io::stderr().write_all(bytes),
        };
        // A program at whose output nobody looks any more is ended by SIGPIPE, and what it runs ends with it. All
        // else that can fail is no business of the container's.
        if written.is_err_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe) {
            let _ = pidfd.signal(9);
        }
    }))
}

/// Hands the pidfd and the root directory to whoever may open the container's room.
struct Control<'a> {
    socket: &'a Handoff,
    pidfd: BorrowedFd<'a>,
    root: BorrowedFd<'a>,
}

impl Service for Control<'_> {
    fn interests(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        vec![(self.socket.as_fd(), PollFlags::IN)]
    }

    fn ready(&mut self) {
        // Out of descriptors: the client times out and says so.
        let _ = self.socket.serve(&[self.pidfd, self.root]);
    }
}
