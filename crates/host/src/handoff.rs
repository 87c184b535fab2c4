//! Giving descriptors to another process that asks for them.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect,
    listen, recvmsg, sendmsg, socket_with, sockopt,
};

use crate::{Call, Dir, Result};

/// How long one side waits for the other. Both only copy a few bytes.
const PATIENCE: Duration = Duration::from_secs(5);
const MOST_FDS: usize = 4;

/// A socket at a name in a directory, where processes that may open the directory can fetch descriptors
/// (unix(7), `SCM_RIGHTS`). This is how a program reaches a container that another program supervises:
/// it gets the pidfd itself, not a number that may be reused.
pub struct Handoff {
    socket: OwnedFd,
    path: PathBuf,
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
        let socket = open_socket(SocketFlags::NONBLOCK)?;
        bind(&socket, &address(dir, name)?).call(|| format!("bind({path:?})"))?;
        listen(&socket, 64).call(|| format!("listen({path:?})"))?;
        Ok(Handoff { socket, path })
    }

    /// Answers everybody who waits: each gets copies of `fds` (at most 4). A client that misbehaves is dropped.
    ///
    /// # Errors
    /// As of accept4(2).
    pub fn serve(&self, fds: &[BorrowedFd<'_>]) -> Result<()> {
        loop {
            match accept_with(&self.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(client) => {
                    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
                    let mut control = SendAncillaryBuffer::new(&mut space);
                    control.push(SendAncillaryMessage::ScmRights(fds));
                    // The socket's buffer is empty: one byte and its fds always fit, or the client is gone.
                    let _ = sendmsg(&client, &[IoSlice::new(b"!")], &mut control, SendFlags::NOSIGNAL);
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(errno) => return Err(errno).call(|| format!("accept({:?})", self.path)),
            }
        }
    }

    /// Fetches the descriptors offered at `name` in `dir`. `None`: nobody is there (any more).
    ///
    /// # Errors
    /// As of socket(2), connect(2) and recvmsg(2); kind `Timeout` after five seconds of silence.
    pub fn fetch(dir: &Dir, name: impl AsRef<Path>) -> Result<Option<Vec<OwnedFd>>> {
        let name = name.as_ref();
        let socket = open_socket(SocketFlags::empty())?;
        let path = dir.path_of(name);
        match connect(&socket, &address(dir, name)?) {
            Ok(()) => {}
            Err(Errno::NOENT | Errno::CONNREFUSED) => return Ok(None),
            Err(errno) => return Err(errno).call(|| format!("connect({path:?})")),
        }
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))
            .call(|| "setsockopt(SO_RCVTIMEO)")?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0u8; 1];
        let received = loop {
            let mut data = [IoSliceMut::new(&mut byte)];
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
        Ok((received.bytes > 0).then_some(fds))
    }
}

fn open_socket(flags: SocketFlags) -> Result<OwnedFd> {
    socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC | flags, None)
        .call(|| "socket(AF_UNIX)")
}

/// Through the directory's descriptor: a socket address has room for 107 bytes, a path may be longer.
fn address(dir: &Dir, name: &Path) -> Result<SocketAddrUnix> {
    let short = Path::new("/proc/self/fd").join(dir.as_fd().as_raw_fd().to_string()).join(name);
    SocketAddrUnix::new(&*short).call(|| format!("sockaddr_un({short:?})"))
}

impl AsFd for Handoff {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
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

    #[test]
    fn hands_over_an_open_file() {
        let place = tempfile::tempdir().unwrap();
        let dir = Dir::open(place.path()).unwrap();
        assert!(Handoff::fetch(&dir, "s").unwrap().is_none());
        std::fs::write(place.path().join("f"), "text").unwrap();
        let file = std::fs::File::open(place.path().join("f")).unwrap();
        let handoff = Handoff::listen(&dir, "s").unwrap();
        let fetched = std::thread::scope(|scope| {
            let client = scope.spawn(|| Handoff::fetch(&dir, "s"));
            let mut fds = [rustix::event::PollFd::new(&handoff, rustix::event::PollFlags::IN)];
            rustix::event::poll(&mut fds, None).unwrap();
            handoff.serve(&[file.as_fd()]).unwrap();
            client.join().unwrap()
        });
        let mut text = String::new();
        let fd = fetched.unwrap().unwrap().remove(0);
        std::fs::File::from(fd).read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
        drop(handoff);
        assert!(Handoff::fetch(&dir, "s").unwrap().is_none());
        Handoff::listen(&dir, "s").unwrap();
    }
}
