//! Namespaces as descriptors (namespaces(7)).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use crate::{Call, Error, Kind, Result};

/// A network namespace, alive as long as this (or anything else) holds it.
#[derive(Debug)]
pub struct Namespace {
    fd: OwnedFd,
}

const HERE: &str = "/proc/thread-self/ns/net";

impl Namespace {
    /// A new network namespace with nothing but a loopback interface that is down.
    ///
    /// # Errors
    /// As of unshare(2): `EPERM` without `CAP_SYS_ADMIN`, `ENOSPC` at the user's limit.
    pub fn new_net() -> Result<Namespace> {
        on_thread(|| {
            unshare_net().call(|| "unshare(CLONE_NEWNET)")?;
            Namespace::current_net()
        })
    }

    /// The network namespace of the calling thread.
    ///
    /// # Errors
    /// As of openat(2) on `/proc`.
    pub fn current_net() -> Result<Namespace> {
        let fd = rustix::fs::openat(CWD, HERE, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .call(|| format!("open({HERE:?})"))?;
        Ok(Namespace { fd })
    }

    /// Takes a descriptor of a network namespace that came from elsewhere.
    pub fn from_fd(fd: OwnedFd) -> Namespace {
        Namespace { fd }
    }

    /// Another handle on the same namespace.
    ///
    /// # Errors
    /// As of fcntl(2): `EMFILE`.
    pub fn try_clone(&self) -> Result<Namespace> {
        let fd = self.fd.try_clone().call(|| "fcntl(network namespace, F_DUPFD_CLOEXEC)")?;
        Ok(Namespace { fd })
    }

    /// Runs `work` on a thread of its own that has joined the namespace. The caller's thread never leaves its own.
    ///
    /// # Errors
    /// As of setns(2), or no thread could be started.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        within(self.fd.as_fd(), work)
    }
}

/// [`Namespace::within`] for a borrowed descriptor.
pub(crate) fn within<T: Send>(fd: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> Result<T> {
    on_thread(|| {
        move_into_link_name_space(fd, Some(LinkNameSpaceType::Network)).call(|| "setns(CLONE_NEWNET)")?;
        Ok(work())
    })
}

/// Runs `work` on a thread of its own that has gone to a mount namespace, and is at its root.
pub(crate) fn in_mounts_of<T: Send>(fd: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> Result<T> {
    on_thread(|| {
        unshare_fs().call(|| "unshare(CLONE_FS)")?;
        move_into_link_name_space(fd, Some(LinkNameSpaceType::Mount)).call(|| "setns(CLONE_NEWNS)")?;
        Ok(work())
    })
}

/// Runs `work` on a thread of its own in a mount namespace of its own, which ends with it.
pub(crate) fn in_new_mounts<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    on_thread(|| {
        unshare_mounts().call(|| "unshare(CLONE_NEWNS)")?;
        Ok(work())
    })
}

pub(crate) fn on_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("coracle-netns".into()).spawn_scoped(scope, work);
        let thread = thread.call(|| "clone(thread coracle-netns)")?;
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[allow(unsafe_code)]
fn unshare_net() -> rustix::io::Result<()> {
    // SAFETY: only CLONE_FILES makes unshare unsafe (descriptors of other threads would change meaning); it is
    // not among the flags.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }
}

#[allow(unsafe_code)]
fn unshare_mounts() -> rustix::io::Result<()> {
    // SAFETY: as above.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }
}

#[allow(unsafe_code)]
fn unshare_fs() -> rustix::io::Result<()> {
    // SAFETY: as above; this thread is ours alone, and so is its working directory from here on.
    unsafe { unshare_unsafe(UnshareFlags::FS) }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl TryFrom<BorrowedFd<'_>> for Namespace {
    type Error = Error;

    fn try_from(fd: BorrowedFd<'_>) -> Result<Namespace> {
        let fd = fd.try_clone_to_owned().map_err(|error| {
            Error::new(Kind::Exhausted, format!("fcntl(network namespace, F_DUPFD_CLOEXEC): {error}"))
        })?;
        Ok(Namespace { fd })
    }
}
