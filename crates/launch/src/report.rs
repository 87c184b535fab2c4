//! What a child tells its parent: eight bytes of a failure, or one byte and perhaps a descriptor.

use core::mem::MaybeUninit;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{Errno, IoSlice, IoSliceMut};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, send, sendmsg, socketpair,
};

/// An operation that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its index in the list.
    pub step: u32,
    /// Why.
    pub errno: Errno,
}

/// One message.
#[derive(Debug)]
pub(crate) enum Report {
    /// An operation failed; the child has ended.
    Failed(Failure),
    /// [`crate::Op::Clone`] made this child, which says so itself.
    Cloned(OwnedFd),
    /// That child has left the memory that it shared.
    Left,
    /// [`crate::Call::Again`] made this second child.
    Again(OwnedFd),
    /// [`crate::Op::Exec`]: the image tells here what becomes of it.
    Program(OwnedFd),
    /// [`crate::Call::DieWithParent`] wants its answer.
    Armed,
    /// [`crate::Call::Listen`] has a descriptor to be taken, and wants its answer.
    Listening,
    /// [`crate::Call::Await`] waits.
    Waiting,
}

/// The parent's end, and the child's, with this number or a higher one: [`crate::Op::Descriptors`] puts something else
/// below.
pub(crate) fn channel(lowest: i32) -> Result<(OwnedFd, OwnedFd), Errno> {
    let (parent, child) = pair(SocketFlags::NONBLOCK)?;
    Ok((parent, above(child, lowest)?))
}

/// Two ends, of packets.
pub(crate) fn pair(flags: SocketFlags) -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags | SocketFlags::CLOEXEC, None)
}

/// The same descriptor, with this number or a higher one.
///
/// # Errors
/// As of fcntl(2), `F_DUPFD_CLOEXEC`.
pub fn above(fd: OwnedFd, lowest: i32) -> Result<OwnedFd, Errno> {
    use rustix::fd::AsRawFd;
    if fd.as_raw_fd() >= lowest { Ok(fd) } else { rustix::io::fcntl_dupfd_cloexec(&fd, lowest) }
}

impl Failure {
    fn from_bytes([a, b, c, d, e, f, g, h]: [u8; 8]) -> Failure {
        Failure {
            step: u32::from_ne_bytes([a, b, c, d]),
            errno: Errno::from_raw_os_error(i32::from_ne_bytes([e, f, g, h])),
        }
    }

    pub(crate) fn send(self, to: BorrowedFd<'_>) {
        let mut bytes = [0u8; 8];
        bytes[..4].copy_from_slice(&self.step.to_ne_bytes());
        bytes[4..].copy_from_slice(&self.errno.raw_os_error().to_ne_bytes());
        // A packet goes at once or not at all; without a reader there is nobody to tell.
        let _ = send(to, &bytes, SendFlags::NOSIGNAL);
    }
}

/// A message of one byte and the pidfd of a second child, whose number might be somebody else's when the parent reads it.
const AGAIN: u8 = b'!';
/// A message of one byte and the descriptor where the image reports.
const PROGRAM: u8 = b'>';
/// A message of one byte and the pidfd of who sends it.
const CLONED: u8 = b'+';
/// A message of one byte: whom [`CLONED`] was about runs in this memory no longer.
pub(crate) const LEFT: u8 = b'-';
/// A message of one byte: the process has arranged to be killed with its parent, and wants to hear that it lives.
pub(crate) const ARMED: u8 = b'.';
/// A message of one byte: the process has installed a filter, and waits until somebody listens.
pub(crate) const LISTENING: u8 = b'@';
/// A message of one byte: the process is at its gate.
pub(crate) const WAITING: u8 = b'?';

/// Hands the descriptor where the image reports over to the parent.
pub(crate) fn send_program(to: BorrowedFd<'_>, fd: BorrowedFd<'_>) -> Result<(), Errno> {
    send_with(to, PROGRAM, fd)
}

/// Tells the parent of a process that [`crate::Op::Clone`] made.
pub(crate) fn send_cloned(to: BorrowedFd<'_>, pidfd: BorrowedFd<'_>) -> Result<(), Errno> {
    send_with(to, CLONED, pidfd)
}

/// One byte and a descriptor.
pub(crate) fn send_with(to: BorrowedFd<'_>, byte: u8, fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    control.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(to, &[IoSlice::new(&[byte])], &mut control, SendFlags::NOSIGNAL).map(drop)
}

/// Reads one message. `None`: there is none, and where the socket blocks nor will there be.
///
/// # Errors
/// As of recvmsg(2), but `EAGAIN`; `EIO` for a message that is none of ours.
pub(crate) fn receive(from: BorrowedFd<'_>) -> Result<Option<Report>, Errno> {
    let mut bytes = [0u8; 8];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let read = loop {
        let mut data = [IoSliceMut::new(&mut bytes)];
        match recvmsg(from.as_fd(), &mut data, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            // The latter: it was killed before it read an answer.
            Err(Errno::AGAIN | Errno::CONNRESET) => return Ok(None),
            other => break other?.bytes,
        }
    };
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    let [a, ..] = bytes;
    match (read, fd) {
        (0, None) => Ok(None),
        (1, Some(fd)) if a == AGAIN => Ok(Some(Report::Again(fd))),
        (1, Some(fd)) if a == PROGRAM => Ok(Some(Report::Program(fd))),
        (1, Some(fd)) if a == CLONED => Ok(Some(Report::Cloned(fd))),
        (1, None) if a == LEFT => Ok(Some(Report::Left)),
        (1, None) if a == ARMED => Ok(Some(Report::Armed)),
        (1, None) if a == LISTENING => Ok(Some(Report::Listening)),
        (1, None) if a == WAITING => Ok(Some(Report::Waiting)),
        (8, None) => Ok(Some(Report::Failed(Failure::from_bytes(bytes)))),
        _ => Err(Errno::IO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_whole_and_in_order() {
        let (ours, theirs) = channel(3).unwrap();
        assert!(receive(ours.as_fd()).unwrap().is_none());
        let failure = Failure { step: 7, errno: Errno::NOTDIR };
        failure.send(theirs.as_fd());
        let file = rustix::fs::memfd_create("second", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        send_program(theirs.as_fd(), file.as_fd()).unwrap();
        let Some(Report::Failed(heard)) = receive(ours.as_fd()).unwrap() else { panic!() };
        assert_eq!(heard, failure);
        let Some(Report::Program(fd)) = receive(ours.as_fd()).unwrap() else { panic!() };
        let number = |fd: &OwnedFd| rustix::fs::fstat(fd).unwrap().st_ino;
        assert_eq!(number(&fd), number(&file));
        assert!(rustix::io::fcntl_getfd(&fd).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        drop(theirs);
        assert!(receive(ours.as_fd()).unwrap().is_none());
        failure.send(ours.as_fd()); // nobody there: no signal either
    }
}
