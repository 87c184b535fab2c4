//! Giving descriptors to another process that asks for them.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect,
    listen, recv, recvmsg, send, sendmsg, socket_with, sockopt,
};

use crate::{Call, Dir, Result, aside};

/// How long one side waits for the other. Both only copy a few bytes.
const PATIENCE: Duration = Duration::from_secs(5);
const MOST_FDS: usize = 8;
/// The longest question.
const MOST_BYTES: usize = 64 << 10;
/// Clients that have connected and not said yet what they want; of more, the oldest is dropped.
const MOST_WAITING: usize = 64;

/// A socket at a name in a directory, where processes that may open the directory ask a question, a packet, and get
/// an answer, a packet, with descriptors (unix(7), `SOCK_SEQPACKET`, `SCM_RIGHTS`). This is how a program reaches a
/// container that another program supervises: it gets the pidfd itself, not a number that may be reused.
pub struct Handoff {
    socket: OwnedFd,
    path: PathBuf,
    waiting: VecDeque<OwnedFd>,
}

/// Sends bytes over a connected unix socket, with descriptors (at most 8) in the message that they begin in (unix(7),
/// `SCM_RIGHTS`). On a stream all of them are sent.
///
/// # Errors
/// As of sendmsg(2); no signal comes with `EPIPE`.
pub fn send_fds(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
    let mut fds = fds;
    let mut rest = bytes;
    while !rest.is_empty() {
        let sent = rustix::io::retry_on_intr(|| send_with(socket.as_fd(), rest, fds)).call(|| "sendmsg()")?;
        rest = &rest[sent..];
        fds = &[];
    }
    Ok(())
}

fn send_with(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)
}

/// What a client is told.
#[derive(Debug, Default)]
pub struct Answer {
    /// In whatever form the two sides have agreed on.
    pub text: Vec<u8>,
    /// At most 8; more are not sent.
    pub fds: Vec<OwnedFd>,
}

impl Handoff {
    /// Listens at `name` in `dir`, replacing a socket that a dead process left there. The caller must hold
    /// whatever lock says that the name is its own.
    ///
    /// # Errors
    /// As of unlink(2), socket(2), bind(2) and listen(2).
    pub fn listen(dir: &Dir, name: impl AsRef<Path>) -> Result<Handoff> {
        let name = name.as_ref();
        let path = dir.path_of(name);
        if dir.has(name)? {
            dir.remove_file(name)?;
        }
        let socket = aside(open_socket(SocketFlags::NONBLOCK)?);
        bind(&socket, &address(dir, name)?).call(|| format!("bind({path:?})"))?;
        listen(&socket, 64).call(|| format!("listen({path:?})"))?;
        Ok(Handoff { socket, path, waiting: VecDeque::new() })
    }

    /// What to wait for (readable) before calling [`Handoff::serve`].
    pub fn interests(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::once(self.socket.as_fd()).chain(self.waiting.iter().map(AsFd::as_fd))
    }

    /// Answers everybody who has asked something. Never blocks; a client that misbehaves is dropped.
    ///
    /// # Errors
    /// As of accept4(2).
    pub fn serve(&mut self, mut answer: impl FnMut(&[u8]) -> Answer) -> Result<()> {
        loop {
            match accept_with(&self.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(client) => self.waiting.push_back(client),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(errno) => return Err(errno).call(|| format!("accept({:?})", self.path)),
            }
        }
        let mut question = vec![0; MOST_BYTES];
        self.waiting.retain(|client| {
            // Only a question asks anything: one who connects and leaves does not.
            let length = match recv(client, &mut *question, RecvFlags::DONTWAIT) {
                Err(Errno::AGAIN | Errno::INTR) => return true,
                Ok((length, _)) if length > 0 => length,
                _ => return false,
            };
            let Answer { text, fds } = answer(&question[..length]);
            let fds: Vec<BorrowedFd<'_>> = fds.iter().take(MOST_FDS).map(AsFd::as_fd).collect();
            // The socket's buffer is empty: the packet fits, or the client is gone.
            let _ = send_with(client.as_fd(), &text, &fds);
            false
        });
        while self.waiting.len() > MOST_WAITING {
            self.waiting.pop_front();
        }
        Ok(())
    }

    /// Asks whoever listens at `name` in `dir`. `None`: nobody is there (any more).
    ///
    /// # Errors
    /// As of socket(2), connect(2), sendmsg(2) and recvmsg(2); kind `Timeout` after five seconds of silence.
    pub fn ask(dir: &Dir, name: impl AsRef<Path>, question: &[u8]) -> Result<Option<Answer>> {
        let name = name.as_ref();
        let socket = open_socket(SocketFlags::empty())?;
        let path = dir.path_of(name);
        match connect(&socket, &address(dir, name)?) {
            Ok(()) => {}
            Err(Errno::NOENT | Errno::CONNREFUSED) => return Ok(None),
            Err(errno) => return Err(errno).call(|| format!("connect({path:?})")),
        }
        match send(&socket, question, SendFlags::NOSIGNAL) {
            Ok(_) => {}
            Err(Errno::PIPE | Errno::CONNRESET) => return Ok(None),
            Err(errno) => return Err(errno).call(|| format!("send({path:?})")),
        }
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))
            .call(|| "setsockopt(SO_RCVTIMEO)")?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut text = vec![0; MOST_BYTES];
        let received = loop {
            let mut data = [IoSliceMut::new(&mut text)];
            match recvmsg(&socket, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => {}
                Err(Errno::CONNRESET) => return Ok(None),
                Err(Errno::AGAIN) => return Err(Errno::TIMEDOUT).call(|| format!("recvmsg({path:?})")),
                other => break other.call(|| format!("recvmsg({path:?})"))?,
            }
        };
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        text.truncate(received.bytes);
        Ok((received.bytes > 0).then_some(Answer { text, fds }))
    }
}

fn open_socket(flags: SocketFlags) -> Result<OwnedFd> {
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC | flags, None)
        .call(|| "socket(AF_UNIX)")
}

/// Through the directory's descriptor: a socket address has room for 107 bytes, a path may be longer.
fn address(dir: &Dir, name: &Path) -> Result<SocketAddrUnix> {
    let short = Path::new("/proc/self/fd").join(dir.as_fd().as_raw_fd().to_string()).join(name);
    SocketAddrUnix::new(&*short).call(|| format!("sockaddr_un({short:?})"))
}

impl std::fmt::Debug for Handoff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Handoff({:?})", self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn place() -> (tempfile::TempDir, Dir) {
        let place = tempfile::tempdir().unwrap();
        let dir = Dir::open(place.path()).unwrap();
        (place, dir)
    }

    fn until_asked(handoff: &Handoff) {
        let all: Vec<_> = handoff.interests().collect();
        let mut fds: Vec<_> =
            all.iter().map(|fd| rustix::event::PollFd::new(fd, rustix::event::PollFlags::IN)).collect();
        rustix::event::poll(&mut fds, None).unwrap();
    }

    #[test]
    fn hands_over_an_open_file() {
        let (place, dir) = place();
        assert!(Handoff::ask(&dir, "s", b"?").unwrap().is_none());
        std::fs::write(place.path().join("f"), "text").unwrap();
        let mut handoff = Handoff::listen(&dir, "s").unwrap();
        let answer = std::thread::scope(|scope| {
            let client = scope.spawn(|| Handoff::ask(&dir, "s", b"the file"));
            until_asked(&handoff);
            let mut answered = 0;
            while answered == 0 {
                handoff
                    .serve(|question| {
                        assert_eq!(question, b"the file");
                        answered += 1;
                        let file = std::fs::File::open(place.path().join("f")).unwrap();
                        Answer { text: b"here".to_vec(), fds: vec![file.into()] }
                    })
                    .unwrap();
            }
            client.join().unwrap().unwrap().unwrap()
        });
        assert_eq!(answer.text, b"here");
        let mut text = String::new();
        std::fs::File::from(answer.fds.into_iter().next().unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
        drop(handoff);
        assert!(Handoff::ask(&dir, "s", b"?").unwrap().is_none());
        Handoff::listen(&dir, "s").unwrap();
    }

    #[test]
    fn one_who_says_nothing_holds_nobody_up() {
        let (_place, dir) = place();
        let mut handoff = Handoff::listen(&dir, "s").unwrap();
        let mute: Vec<OwnedFd> = (0..MOST_WAITING)
            .map(|_| {
                let socket = open_socket(SocketFlags::empty()).unwrap();
                connect(&socket, &address(&dir, Path::new("s")).unwrap()).unwrap();
                handoff.serve(|_| unreachable!("nobody asked")).unwrap();
                socket
            })
            .collect();
        let answer = std::thread::scope(|scope| {
            let client = scope.spawn(|| Handoff::ask(&dir, "s", b"?"));
            let mut answered = false;
            while !answered {
                until_asked(&handoff);
                handoff
                    .serve(|_| {
                        answered = true;
                        Answer { text: b"!".to_vec(), fds: Vec::new() }
                    })
                    .unwrap();
            }
            client.join().unwrap().unwrap().unwrap()
        });
        assert_eq!((answer.text.as_slice(), answer.fds.len()), (b"!".as_slice(), 0));
        // Not just closed: another test may start a process just now, which has copies of all descriptors until it executes.
        for socket in &mute {
            rustix::net::shutdown(socket, rustix::net::Shutdown::Both).unwrap();
        }
        handoff.serve(|_| unreachable!("nobody asked")).unwrap();
        assert_eq!(handoff.interests().count(), 1);
    }
}
