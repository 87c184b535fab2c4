//! Whether memory ran out in a control group that is removed as soon as nobody is in it.

use std::os::fd::{AsFd, BorrowedFd};

use coracle_runtime::Service;
use coracle_runtime::cgroup::{Cgroup, OomEvents};
use rustix::event::PollFlags;

use crate::Kind;
use crate::error::Result;

/// Counts as it happens: when the container has ended, systemd has removed a scope and its counter. The kernel counts before it
/// kills, and tells before what it killed is gone.
pub(crate) struct Shortage {
    events: OomEvents,
    kills: u64,
}

impl Shortage {
    /// Nothing, but for a group that systemd makes: others keep their counter.
    pub(crate) fn of(group: &Cgroup) -> Result<Option<Shortage>> {
        match group.place().is_scope().then(|| group.oom_events()).transpose() {
            Err(error) if error.kind() == Kind::Unsupported => Ok(None), // no memory is counted
            events => Ok(events?.map(|events| Shortage { events, kills: 0 })),
        }
    }

    /// Whether a process was killed for it.
    pub(crate) fn has_killed(&self) -> bool {
        self.kills > 0
    }
}

impl Service for Shortage {
    fn interests(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        vec![(self.events.as_fd(), PollFlags::IN)]
    }

    fn ready(&mut self) {
        // What can't be read is a counter that is gone.
        self.kills += self.events.take().unwrap_or_default();
    }

    fn finish(&mut self) {
        self.ready();
    }
}
