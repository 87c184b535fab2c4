//! Waiting for a process, and what is to be done for it meanwhile.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use coracle_host::{Call, Exit, PidFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::error::{Doing, Result};
use crate::{Log, Stream};

/// Something that a supervisor does beside waiting: it pumps output, answers DNS queries, hands out the pidfd.
/// Nothing in it may block.
pub trait Service {
    /// What it waits for. Asked anew in every round.
    fn interests(&self) -> Vec<(BorrowedFd<'_>, PollFlags)>;

    /// When it wants to be called even if nothing comes.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// Something it waits for is there, or its deadline has passed.
    fn ready(&mut self);

    /// The process has ended: what is still to be had is taken now.
    fn finish(&mut self) {}
}

/// Serves until the process has ended, and reaps it. Runs on the thread that started it, which owns it.
///
/// # Errors
/// As of poll(2) and waitid(2).
pub fn supervise(pidfd: &PidFd, services: &mut [&mut dyn Service]) -> Result<Exit> {
    loop {
        let deadline = services.iter().filter_map(|service| service.deadline()).min();
        let ready = wait(pidfd, services, deadline)?;
        let now = Instant::now();
        for (index, service) in services.iter_mut().enumerate() {
            if ready.services.contains(&index) || service.deadline().is_some_and(|at| at <= now) {
                service.ready();
            }
        }
        if ready.ended {
            for service in services.iter_mut() {
                service.finish();
            }
            return pidfd.reap().doing(|| "learn the exit status");
        }
    }
}

struct Ready {
    ended: bool,
    services: Vec<usize>,
}

fn wait(pidfd: &PidFd, services: &[&mut dyn Service], deadline: Option<Instant>) -> Result<Ready> {
    let mut fds = vec![PollFd::new(pidfd, PollFlags::IN)];
    let mut owners = vec![None];
    for (index, service) in services.iter().enumerate() {
        for (fd, flags) in service.interests() {
            fds.push(PollFd::from_borrowed_fd(fd, flags));
            owners.push(Some(index));
        }
    }
    let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
    let left = left.map(|left| Timespec::try_from(left.max(Duration::from_millis(1))).unwrap_or_default());
    match poll(&mut fds, left.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(errno) => return Err(errno).call(|| "poll()").doing(|| "supervise"),
    }
    let ended = fds.first().is_some_and(|fd| !fd.revents().is_empty());
    let mut services: Vec<usize> = fds
        .iter()
        .zip(&owners)
        .filter(|(fd, _)| !fd.revents().is_empty())
        .filter_map(|(_, owner)| *owner)
        .collect();
    services.dedup();
    Ok(Ready { ended, services })
}

/// Told of output as it comes.
type Listener<'a> = Box<dyn FnMut(Stream, &[u8]) + 'a>;

/// Takes what a process writes to its standard output and error, into a log and to whoever listens.
pub struct Pump<'a> {
    pipes: [Option<OwnedFd>; 2],
    log: Option<Log>,
    listener: Option<Listener<'a>>,
    failure: Option<std::io::Error>,
    buffer: Vec<u8>,
}

impl<'a> Pump<'a> {
    /// A pump from our ends of the two pipes. It makes them non-blocking.
    ///
    /// # Errors
    /// As of fcntl(2).
    pub fn new(stdout: Option<OwnedFd>, stderr: Option<OwnedFd>) -> coracle_host::Result<Pump<'a>> {
        for pipe in [&stdout, &stderr].into_iter().flatten() {
            let flags = rustix::fs::fcntl_getfl(pipe).call(|| "fcntl(pipe, F_GETFL)")?;
            rustix::fs::fcntl_setfl(pipe, flags | rustix::fs::OFlags::NONBLOCK)
                .call(|| "fcntl(pipe, F_SETFL)")?;
        }
        Ok(Pump {
            pipes: [stdout, stderr],
            log: None,
            listener: None,
            failure: None,
            buffer: vec![0; 64 << 10],
        })
    }

    /// Keeps everything in this log.
    #[must_use]
    pub fn to_log(mut self, log: Log) -> Pump<'a> {
        self.log = Some(log);
        self
    }

    /// Tells this listener everything as it comes.
    #[must_use]
    pub fn to(mut self, listener: impl FnMut(Stream, &[u8]) + 'a) -> Pump<'a> {
        self.listener = Some(Box::new(listener));
        self
    }

    /// The first failure to write the log, if there was one. The process was not held up by it.
    pub fn failure(&mut self) -> Option<std::io::Error> {
        self.failure.take()
    }

    /// Whether both pipes have come to their end.
    pub fn is_at_end(&self) -> bool {
        self.pipes.iter().all(Option::is_none)
    }

    fn drain(&mut self, most: usize) {
        for (slot, stream) in [(0, Stream::Stdout), (1, Stream::Stderr)] {
            for _ in 0..most {
                let Some(pipe) = &self.pipes[slot] else { break };
                match rustix::io::read(pipe, &mut self.buffer) {
                    Ok(0) => self.pipes[slot] = None,
                    Ok(read) => self.take(stream, read),
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => break,
                    Err(_) => self.pipes[slot] = None,
                }
            }
        }
    }

    fn take(&mut self, stream: Stream, read: usize) {
        let bytes = &self.buffer[..read];
        if let Some(log) = &mut self.log
            && let Err(error) = log.write(stream, bytes)
        {
            self.failure.get_or_insert(error);
        }
        if let Some(listener) = &mut self.listener {
            listener(stream, bytes);
        }
    }
}

impl Service for Pump<'_> {
    fn interests(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        self.pipes.iter().flatten().map(|pipe| (pipe.as_fd(), PollFlags::IN)).collect()
    }

    fn ready(&mut self) {
        self.drain(4);
    }

    fn finish(&mut self) {
        // A pipe holds at most 1 MiB; what is written after the end of the container's first process is not its output.
        self.drain(64);
        if let Some(log) = &mut self.log
            && let Err(error) = log.finish()
        {
            self.failure.get_or_insert(error);
        }
    }
}

impl std::fmt::Debug for Pump<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pump").field("pipes", &self.pipes).finish_non_exhaustive()
    }
}
