//! Processes that only are somewhere for a moment, so that it can be looked at: they run no program.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use coracle_host::{Call, PidFd, Result};
use coracle_launch::{Namespaces, Op};
use rustix::io::IoSliceMut;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, Shutdown, SocketFlags, SocketType,
    recvmsg, shutdown, socketpair,
};

use crate::{facts, start};

/// What its own directory in proc is called by whoever looks there.
const OWN: &std::ffi::CStr = c"/proc/self";

/// Has a process in these new namespaces perform `ops` and wait while `look` is called with its directory in proc.
pub(super) fn while_there<T: Send>(
    namespaces: Namespaces,
    ops: &[Op<'_>],
    doing: &str,
    look: impl FnOnce(BorrowedFd<'_>) -> Result<T> + Send,
) -> Result<T> {
    let (ours, theirs) = pair()?;
    let arrive = [Op::Show { to: theirs.as_fd(), path: OWN }, Op::Await(theirs.as_fd())];
    // With a copy of our end it would wait for itself.
    let all: Vec<_> =
        [Op::Close(ours.as_fd())].into_iter().chain(ops.iter().copied()).chain(arrive).collect();
    std::thread::scope(|scope| {
        // This thread is suspended while the process is there.
        let other = std::thread::Builder::new().name("coracle-userns".into()).spawn_scoped(scope, || {
            let looked = receive(&ours)?.map(|dir| look(dir.as_fd())).transpose();
            // It goes on, and has nothing left to do.
            let _ = shutdown(&ours, Shutdown::Both);
            looked
        });
        let other = other.call(|| "clone(thread coracle-userns)")?;
        let ran = run(namespaces, &all, doing);
        // Where it never came there, nobody waits for it.
        let _ = shutdown(&theirs, Shutdown::Both);
        let looked = match other.join() {
            Ok(looked) => looked,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        ran?;
        looked?.ok_or_else(|| gone(doing))
    })
}

/// Has a process perform `ops`, and open this path there.
pub(super) fn open_there(ops: &[Op<'_>], path: &std::ffi::CStr, doing: &str) -> Result<OwnedFd> {
    let (ours, theirs) = pair()?;
    let all: Vec<_> = ops.iter().copied().chain([Op::Show { to: theirs.as_fd(), path }]).collect();
    run(Namespaces::NONE, &all, doing)?;
    drop(theirs);
    receive(&ours)?.ok_or_else(|| gone(doing))
}

/// Runs the list to its end.
fn run(namespaces: Namespaces, ops: &[Op<'_>], doing: &str) -> Result<()> {
    let guard = Op::DieWithParent { parent: facts::own_process() };
    let all: Vec<_> = [guard].into_iter().chain(ops.iter().copied()).collect();
    let started =
        start::launch(&all, namespaces, None, &mut |_| false).call(|| format!("{doing}: clone()"))?;
    PidFd::from_fd(started.pidfd).reap()?;
    match started.failure {
        None => Ok(()),
        Some(failure) => Err(coracle_host::Error::os(doing.to_owned(), failure.errno)),
    }
}

fn gone(doing: &str) -> coracle_host::Error {
    let text = format!("{doing}: the process that was to do it was killed");
    coracle_host::Error::new(coracle_host::Kind::NotFound, text)
}

fn pair() -> Result<(OwnedFd, OwnedFd)> {
    let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    pair.call(|| "socketpair()")
}

/// One descriptor; `None` where the other end is closed instead.
fn receive(from: &OwnedFd) -> Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0u8; 1];
    rustix::io::retry_on_intr(|| {
        recvmsg(from, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })
    .call(|| "recvmsg(namespace)")?;
    Ok(control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    }))
}
