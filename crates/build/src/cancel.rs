//! Ending a build early.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use coracle_host::{Call, Kind};
use rustix::event::EventfdFlags;

use crate::error::{Error, Result};

/// Ends the builds that were given it by [`BuildSpec::cancelled_by`](crate::BuildSpec::cancelled_by), from any thread:
/// commands that run are killed, copies stop between files, and [`build`](crate::build()) fails with `Interrupted`.
/// Nothing is kept of the step at hand, and everything of those before.
///
/// Its descriptor is readable from the moment of [`Cancel::cancel`] on.
#[derive(Clone)]
pub struct Cancel(Arc<Flag>);

struct Flag {
    set: AtomicBool,
    event: OwnedFd,
}

impl Cancel {
    /// One that is not cancelled yet.
    ///
    /// # Errors
    /// As of eventfd(2).
    pub fn new() -> Result<Cancel> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let event = rustix::event::eventfd(0, flags).call(|| "eventfd()")?;
        Ok(Cancel(Arc::new(Flag { set: AtomicBool::new(false), event })))
    }

    /// Cancels. It can't be taken back; twice is as good as once.
    pub fn cancel(&self) {
        self.0.set.store(true, Ordering::Release);
        // It can only fail by being full, which is as readable.
        let _ = rustix::io::write(&self.0.event, &1u64.to_ne_bytes());
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.set.load(Ordering::Acquire)
    }

    /// # Errors
    /// `Interrupted` where it was cancelled.
    pub(crate) fn go_on(cancel: Option<&Cancel>) -> Result<()> {
        match cancel {
            Some(cancel) if cancel.is_cancelled() => {
                Err(Error::new(Kind::Interrupted, "the build was cancelled"))
            }
            _ => Ok(()),
        }
    }
}

impl AsFd for Cancel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cancel({})", if self.is_cancelled() { "cancelled" } else { "not yet" })
    }
}
