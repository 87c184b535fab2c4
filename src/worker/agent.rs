//! An ssh agent's socket for a step: connections to it are passed on, so that owner and mode of the agent's own socket
//! stay the user's business.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use coracle_host::{Call, Kind, Mount};
use coracle_runtime::Service;
use rustix::event::PollFlags;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};

use crate::error::{Error, Result};

/// Bytes that wait on their way. Messages of agents are small (OpenSSH, PROTOCOL.agent).
const MOST: usize = 256 << 10;

/// A socket in a file system of its own, and the connections through it.
pub(super) struct Agent {
    listener: UnixListener,
    /// The socket as a file.
    place: OwnedFd,
    agent: PathBuf,
    pairs: Vec<Pair>,
}

struct Pair {
    ends: [UnixStream; 2],
    /// What was read from the end of that number and is to be written to the other.
    waiting: [Vec<u8>; 2],
    closed: [bool; 2],
}

impl Agent {
    /// # Errors
    /// `Invalid` where `agent` is no socket; as of bind(2).
    pub(super) fn listen(home: &Mount, name: &str, agent: &Path) -> Result<Agent> {
        let stat = rustix::fs::stat(agent).call(|| format!("stat({agent:?})"))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
            let what =
                format!("{agent:?} is not the socket of an ssh agent (keys in files are not supported yet)");
            return Err(Error::new(Kind::Invalid, what));
        }
        // The mount is nowhere; this is the one name that it has.
        let path = format!("/proc/self/fd/{}/agent{name}", home.as_fd().as_raw_fd());
        let listener = UnixListener::bind(&path).call(|| "bind(ssh agent)")?;
        listener.set_nonblocking(true).call(|| "fcntl(ssh agent, O_NONBLOCK)")?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let place = rustix::fs::openat(home, format!("agent{name}"), flags, Mode::empty())
            .call(|| "open(ssh agent)")?;
        Ok(Agent { listener, place, agent: agent.to_owned(), pairs: Vec::new() })
    }

    /// Who may connect.
    pub(super) fn own(&self, mode: u32, uid: u32, gid: u32) -> Result<()> {
        let flags = AtFlags::EMPTY_PATH;
        rustix::fs::chownat(&self.place, "", Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), flags)
            .call(|| "fchownat(ssh agent)")?;
        let link = format!("/proc/self/fd/{}", self.place.as_raw_fd());
        rustix::fs::chmod(&link, Mode::from_raw_mode(mode)).call(|| "chmod(ssh agent)")?;
        Ok(())
    }

    pub(super) fn place(&self) -> &OwnedFd {
        &self.place
    }
}

impl Service for Agent {
    fn interests(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        let mut all = vec![(self.listener.as_fd(), PollFlags::IN)];
        for pair in &self.pairs {
            for side in [0, 1] {
                let mut flags = PollFlags::empty();
                if !pair.closed[side] && pair.waiting[side].len() < MOST {
                    flags |= PollFlags::IN;
                }
                if !pair.waiting[1 - side].is_empty() {
                    flags |= PollFlags::OUT;
                }
                if !flags.is_empty() {
                    all.push((pair.ends[side].as_fd(), flags));
                }
            }
        }
        all
    }

    fn ready(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            // Without an agent the connection is closed, which is what ssh expects of one that is gone.
            let Ok(agent) = UnixStream::connect(&self.agent) else { continue };
            if stream.set_nonblocking(true).is_ok() && agent.set_nonblocking(true).is_ok() {
                let (waiting, closed) = ([Vec::new(), Vec::new()], [false; 2]);
                self.pairs.push(Pair { ends: [stream, agent], waiting, closed });
            }
        }
        self.pairs.retain_mut(Pair::pass);
    }
}

impl Pair {
    /// Passes on what there is; whether the connection still lives.
    fn pass(&mut self) -> bool {
        for side in [0, 1] {
            let mut buffer = [0; 16 << 10];
            while !self.closed[side] && self.waiting[side].len() < MOST {
                match self.ends[side].read(&mut buffer) {
                    Ok(0) => self.closed[side] = true,
                    Ok(n) => self.waiting[side].extend_from_slice(&buffer[..n]),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(_) => return false,
                }
            }
            while !self.waiting[side].is_empty() {
                match self.ends[1 - side].write(&self.waiting[side]) {
                    Ok(n) => drop(self.waiting[side].drain(..n)),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(_) => return false,
                }
            }
        }
        // An answer to a half-closed connection is still on its way; one that the agent has closed has no more.
        !(self.closed[1] && self.waiting[1].is_empty() || self.closed[0] && self.waiting[0].is_empty())
    }
}
