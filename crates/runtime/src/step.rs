//! Launching step by step: the child waits at a gate before each operation.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use coracle_host::{Call, Result};
use coracle_launch::Op;
use rustix::net::{AddressFamily, SendFlags, Shutdown, SocketFlags, SocketType, send, shutdown, socketpair};

use crate::Step;
use crate::error::Error;
use crate::stdio::high;

/// Called with the index of each launch operation.
pub(crate) type Stepper = Box<dyn FnMut(usize) + Send>;

/// Called when everything is there but the root is not entered yet.
pub(crate) type BeforePivot = Box<dyn FnOnce() + Send>;

/// Where a launch stops, and what is called there.
pub(crate) enum Stop {
    Everywhere(Stepper),
    BeforePivot(BeforePivot),
}

impl Stop {
    pub(crate) fn of(
        stepper: Option<Stepper>,
        before_pivot: Option<BeforePivot>,
    ) -> Result<Option<Stop>, Error> {
        match (stepper, before_pivot) {
            (Some(_), Some(_)) => {
                Err(Error::invalid("a bundle has both a stepper and a call before the pivot"))
            }
            (Some(stepper), None) => Ok(Some(Stop::Everywhere(stepper))),
            (None, Some(call)) => Ok(Some(Stop::BeforePivot(call))),
            (None, None) => Ok(None),
        }
    }

    pub(crate) fn is_at(&self, step: &Step) -> bool {
        matches!(self, Stop::Everywhere(_)) || matches!(step, Step::Pivot | Step::ChangeRoot | Step::Chroot)
    }

    pub(crate) fn stepper(self) -> Stepper {
        match self {
            Stop::Everywhere(stepper) => stepper,
            Stop::BeforePivot(call) => {
                let mut call = Some(call);
                Box::new(move |_| {
                    if let Some(call) = call.take() {
                        call();
                    }
                })
            }
        }
    }
}

/// The two ends of the gate that a stepper opens.
pub(crate) struct Gate {
    ours: OwnedFd,
    child: OwnedFd,
}

impl Gate {
    pub(crate) fn new() -> Result<Gate> {
        let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
        let (ours, child) = pair.call(|| "socketpair()")?;
        Ok(Gate { ours, child: high(child)? })
    }

    /// The child's end.
    pub(crate) fn child(&self) -> BorrowedFd<'_> {
        self.child.as_fd()
    }

    /// What the child does first: with its copy of our end open it would wait for ever when we are killed.
    pub(crate) fn close(&self) -> Op<'_> {
        Op::Close(self.ours.as_fd())
    }

    /// Runs `launch`, whose thread is suspended until the child has executed its program; another one opens the gate. With
    /// how that one ended: a child whose stepper panics goes no further.
    pub(crate) fn while_stepping<T>(
        &self,
        mut stepper: Stepper,
        launch: impl FnOnce() -> T,
    ) -> (T, std::thread::Result<()>) {
        let ours = self.ours.as_fd();
        std::thread::scope(|scope| {
            let stepping = scope.spawn(move || {
                let _closed = Closed(ours);
                for index in 0.. {
                    let arrived = rustix::io::retry_on_intr(|| rustix::io::read(ours, &mut [0u8; 1]));
                    if arrived != Ok(1) {
                        return;
                    }
                    stepper(index);
                    if send(ours, b"!", SendFlags::NOSIGNAL).is_err() {
                        return;
                    }
                }
            });
            let launched = launch();
            // Executed or failed: nobody arrives any more. Fails only where the other thread is gone already.
            let _ = shutdown(&self.child, Shutdown::Both);
            (launched, stepping.join())
        })
    }
}

/// Nobody waits at a gate that is not opened any more.
struct Closed<'a>(BorrowedFd<'a>);

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        let _ = shutdown(self.0, Shutdown::Both);
    }
}
