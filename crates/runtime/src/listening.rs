//! Calls of a process that somebody else answers (seccomp_unotify(2); config-linux.md, "Seccomp").

use std::os::fd::{BorrowedFd, OwnedFd};

use coracle_host::{Call, PidFd};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};

use crate::error::{Error, Problem, Result};
use crate::{Plan, image};

/// Gets the descriptor by which calls of a process are answered, and the process, which waits meanwhile; where it fails the
/// process is not started.
pub type Listener = Box<dyn FnOnce(OwnedFd, &PidFd) -> coracle_host::Result<()> + Send>;

/// Who listens, and what became of it.
pub(crate) struct Listening {
    listener: Option<Listener>,
    /// What number the descriptor has in the process.
    number: i32,
    pub(crate) outcome: coracle_host::Result<()>,
}

impl Listening {
    /// There where the plan has such a filter, and only there.
    pub(crate) fn of(plan: &Plan, listener: Option<Listener>, numbers: image::Numbers) -> Result<Listening> {
        if plan.notifies() && listener.is_none() {
            let text = "linux.seccomp: SCMP_ACT_NOTIFY, and nobody is there to listen";
            return Err(Error::problems(vec![Problem::unsupported(text)]));
        }
        Ok(Listening { listener, number: numbers.scratch() as i32, outcome: Ok(()) })
    }

    /// Takes the descriptor from the process; whether that is to go on.
    pub(crate) fn hand_on(&mut self, process: BorrowedFd<'_>) -> bool {
        if let Some(listener) = self.listener.take() {
            self.outcome = take(process, self.number).and_then(|(fd, process)| listener(fd, &process));
        }
        self.outcome.is_ok()
    }
}

fn take(process: BorrowedFd<'_>, number: i32) -> coracle_host::Result<(OwnedFd, PidFd)> {
    let fd =
        pidfd_getfd(process, number, PidfdGetfdFlags::empty()).call(|| "pidfd_getfd(seccomp listener)")?;
    let process = process.try_clone_to_owned().call(|| "fcntl(pidfd, F_DUPFD_CLOEXEC)")?;
    Ok((fd, PidFd::from_fd(process)))
}
