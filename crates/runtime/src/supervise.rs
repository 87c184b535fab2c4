//! Waiting for a process, and what is to be done for it meanwhile.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use coracle_host::{Call, Exit, PidFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::error::{Doing, Result};

/// Something that a supervisor does beside waiting: it pumps output, answers DNS queries, hands out the pidfd.
/// Nothing in it may block.
pub trait Service {
    /// What it waits for. Asked anew in every round.
    fn interests(&self) -> Vec<(BorrowedFd<'_>, PollFlags)>;

    /// When it wants to be called even if nothing comes.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// Something it waits for is there, or its deadline has passed.
    fn ready(&mut self);

    /// The process has ended: what is still to be had is taken now.
    fn finish(&mut self) {}
}

/// Serves until the process has ended, and reaps it. Runs on the thread that started it, which owns it.
///
/// # Errors
/// As of poll(2) and waitid(2).
pub fn supervise(pidfd: &PidFd, services: &mut [&mut dyn Service]) -> Result<Exit> {
    loop {
        let deadline = services.iter().filter_map(|service| service.deadline()).min();
        let ready = wait(Some(pidfd), services, deadline)?;
        let now = Instant::now();
        for (index, service) in services.iter_mut().enumerate() {
            if ready.services.contains(&index) || service.deadline().is_some_and(|at| at <= now) {
                service.ready();
            }
        }
        if ready.ended {
            for service in services.iter_mut() {
                service.finish();
            }
            return pidfd.reap().doing(|| "learn the exit status");
        }
    }
}

/// Serves while there is no process to wait for, until `until` has come or the service says that it is `over`.
///
/// # Errors
/// As of poll(2).
pub fn idle<S: Service>(service: &mut S, until: Instant, over: impl Fn(&S) -> bool) -> Result<()> {
    while !over(service) {
        let now = Instant::now();
        if now >= until {
            break;
        }
        let deadline = service.deadline().map_or(until, |at| at.min(until));
        let fired = !wait(None, &[service], Some(deadline))?.services.is_empty();
        if fired || service.deadline().is_some_and(|at| at <= Instant::now()) {
            service.ready();
        }
    }
    Ok(())
}

struct Ready {
    ended: bool,
    services: Vec<usize>,
}

fn wait(pidfd: Option<&PidFd>, services: &[&mut dyn Service], deadline: Option<Instant>) -> Result<Ready> {
    let mut fds: Vec<PollFd<'_>> =
        pidfd.iter().map(|pidfd| PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)).collect();
    let mut owners = vec![None; fds.len()];
    for (index, service) in services.iter().enumerate() {
        for (fd, flags) in service.interests() {
            fds.push(PollFd::from_borrowed_fd(fd, flags));
            owners.push(Some(index));
        }
    }
    let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
    let left = left.map(|left| Timespec::try_from(left.max(Duration::from_millis(1))).unwrap_or_default());
    match poll(&mut fds, left.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(errno) => return Err(errno).call(|| "poll()").doing(|| "supervise"),
    }
    let ended = pidfd.is_some() && fds.first().is_some_and(|fd| !fd.revents().is_empty());
    let mut services: Vec<usize> = fds
        .iter()
        .zip(&owners)
        .filter(|(fd, _)| !fd.revents().is_empty())
        .filter_map(|(_, owner)| *owner)
        .collect();
    services.dedup();
    Ok(Ready { ended, services })
}
