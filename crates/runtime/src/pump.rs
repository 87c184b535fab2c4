//! What a process writes, taken and passed on.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use coracle_host::Call;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::{Log, Service, Stream};

/// What waits for one slow reader before nothing more is taken from the process, in bytes.
const MOST_WAITING: usize = 1 << 20;

/// How much is taken at once, in bytes: what a pipe holds.
const AT_ONCE: usize = 64 << 10;

/// Told of output as it comes.
type Listener<'a> = Box<dyn FnMut(Stream, &[u8]) + 'a>;

/// Takes what a process writes to its standard output and error, into a log and to whoever listens.
pub struct Pump<'a> {
    pipes: [Option<OwnedFd>; 2],
    /// Reading blocks: only what poll says is there is read.
    polled: bool,
    log: Option<Log>,
    listener: Option<Listener<'a>>,
    taps: Vec<Tap>,
    failure: Option<std::io::Error>,
}

impl<'a> Pump<'a> {
    /// A pump from our ends of the two pipes. It makes them non-blocking.
    ///
    /// # Errors
    /// As of fcntl(2).
    pub fn new(stdout: Option<OwnedFd>, stderr: Option<OwnedFd>) -> coracle_host::Result<Pump<'a>> {
        for pipe in [&stdout, &stderr].into_iter().flatten() {
            unblock(pipe)?;
        }
        Ok(Pump {
            pipes: [stdout, stderr],
            polled: false,
            log: None,
            listener: None,
            taps: Vec::new(),
            failure: None,
        })
    }

    /// A pump from our side of a terminal, whose output counts as standard output. It stays blocking, as others may share
    /// it, and is only read when there is something.
    pub fn of_terminal(terminal: OwnedFd) -> Pump<'a> {
        Pump {
            pipes: [Some(terminal), None],
            polled: true,
            log: None,
            listener: None,
            taps: Vec::new(),
            failure: None,
        }
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

    /// Lets what comes on `stream` from now on also run into this pipe, until nobody reads it any more or the process
    /// has ended. It is made non-blocking. A reader that lags behind by a mebibyte holds the process up.
    ///
    /// # Errors
    /// As of fcntl(2).
    pub fn tap(&mut self, stream: Stream, pipe: OwnedFd) -> coracle_host::Result<()> {
        unblock(&pipe)?;
        self.taps.push(Tap { stream, pipe, waiting: Vec::new() });
        Ok(())
    }

    /// After the end of the process: passes on what readers that lag behind have not taken yet, for `patience` at most
    /// (`None`: as long as it takes). What they don't take then is in the log only.
    pub fn linger(&mut self, patience: Option<Duration>) {
        let until = patience.map(|patience| Instant::now() + patience);
        while !self.taps.is_empty() {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let mut fds: Vec<PollFd<'_>> =
                self.taps.iter().map(|tap| PollFd::new(&tap.pipe, PollFlags::OUT)).collect();
            let left = left.map(|left| Timespec::try_from(left).unwrap_or_default());
            if !matches!(poll(&mut fds, left.as_ref()), Ok(1..) | Err(Errno::INTR)) {
                return;
            }
            self.taps.retain_mut(|tap| tap.pass_on() && !tap.waiting.is_empty());
        }
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
        // Here only while it is needed: most of a thousand containers are silent.
        let mut buffer = vec![0; AT_ONCE];
        for (slot, stream) in [(0, Stream::Stdout), (1, Stream::Stderr)] {
            for _ in 0..most {
                let Some(pipe) = &self.pipes[slot] else { break };
                if self.polled && !has_something(pipe) {
                    break;
                }
                match rustix::io::read(pipe, &mut buffer) {
                    Ok(0) => self.pipes[slot] = None,
                    Ok(read) => self.take(stream, &buffer[..read]),
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => break,
                    Err(_) => self.pipes[slot] = None,
                }
            }
        }
    }

    fn take(&mut self, stream: Stream, bytes: &[u8]) {
        if let Some(log) = &mut self.log
            && let Err(error) = log.write(stream, bytes)
        {
            self.failure.get_or_insert(error);
        }
        if let Some(listener) = &mut self.listener {
            listener(stream, bytes);
        }
        self.taps.retain_mut(|tap| tap.stream != stream || tap.take(bytes));
    }

    fn is_held_up(&self) -> bool {
        self.taps.iter().any(|tap| tap.waiting.len() >= MOST_WAITING)
    }
}

/// A further reader of a stream.
struct Tap {
    stream: Stream,
    pipe: OwnedFd,
    waiting: Vec<u8>,
}

impl Tap {
    /// Whether anybody is there to read.
    fn take(&mut self, bytes: &[u8]) -> bool {
        self.waiting.extend_from_slice(bytes);
        self.pass_on()
    }

    fn pass_on(&mut self) -> bool {
        let mut done = 0;
        while done < self.waiting.len() {
            match rustix::io::write(&self.pipe, &self.waiting[done..]) {
                Ok(written) => done += written,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => return false,
            }
        }
        self.waiting.drain(..done);
        true
    }
}

/// Whether reading would not block.
fn has_something(terminal: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(terminal, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// Whether nobody has the other end of a pipe any more.
fn is_broken(pipe: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pipe, PollFlags::empty())];
    poll(&mut fds, Some(&Timespec::default())).is_ok() && fds[0].revents().contains(PollFlags::ERR)
}

fn unblock(pipe: &OwnedFd) -> coracle_host::Result<()> {
    let flags = rustix::fs::fcntl_getfl(pipe).call(|| "fcntl(pipe, F_GETFL)")?;
    rustix::fs::fcntl_setfl(pipe, flags | rustix::fs::OFlags::NONBLOCK).call(|| "fcntl(pipe, F_SETFL)")
}

impl Service for Pump<'_> {
    fn interests(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        let taps = self.taps.iter().map(|tap| {
            // Without a flag poll still tells that nobody reads any more.
            let flags = if tap.waiting.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            (tap.pipe.as_fd(), flags)
        });
        let pipes = self.pipes.iter().flatten().filter(|_| !self.is_held_up());
        pipes.map(|pipe| (pipe.as_fd(), PollFlags::IN)).chain(taps).collect()
    }

    fn ready(&mut self) {
        self.taps.retain_mut(|tap| tap.pass_on() && !is_broken(&tap.pipe));
        if !self.is_held_up() {
            self.drain(4);
        }
    }

    fn finish(&mut self) {
        // A pipe holds at most 1 MiB; what is written after the end of the container's first process is not its output.
        self.drain(64);
        self.taps.retain(|tap| !tap.waiting.is_empty());
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
