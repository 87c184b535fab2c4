//! What becomes of a call.

use std::fmt;

use oci_spec::runtime::LinuxSeccompAction;

/// What the kernel does with a call (seccomp(2), `SECCOMP_RET_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// `SECCOMP_RET_KILL_PROCESS`: the process dies of `SIGSYS`.
    KillProcess,
    /// `SECCOMP_RET_KILL_THREAD`: the calling thread dies.
    KillThread,
    /// `SECCOMP_RET_TRAP`: the thread gets a `SIGSYS` that it may handle.
    Trap,
    /// `SECCOMP_RET_ERRNO`: the call fails with this number.
    Errno(u16),
    /// `SECCOMP_RET_TRACE`: a tracer decides, and is given this number. `ENOSYS` without a tracer.
    Trace(u16),
    /// `SECCOMP_RET_USER_NOTIF`: whoever holds the listener decides.
    Notify,
    /// `SECCOMP_RET_LOG`: the call is made, and logged.
    Log,
    /// `SECCOMP_RET_ALLOW`: the call is made.
    Allow,
}

impl Action {
    /// What a filter returns for it.
    pub(crate) fn code(self) -> u32 {
        match self {
            Action::KillProcess => 0x8000_0000,
            Action::KillThread => 0,
            Action::Trap => 0x0003_0000,
            Action::Errno(number) => 0x0005_0000 | u32::from(number),
            Action::Trace(number) => 0x7ff0_0000 | u32::from(number),
            Action::Notify => 0x7fc0_0000,
            Action::Log => 0x7ffc_0000,
            Action::Allow => 0x7fff_0000,
        }
    }

    /// From the specification's two fields. What is wrong, where they don't fit together.
    pub(crate) fn from_oci(action: LinuxSeccompAction, number: Option<u32>) -> Result<Action, String> {
        const EPERM: u16 = 1;
        let given = match number {
            None => None,
            // The kernel itself cuts off at its largest errno.
            Some(number @ 0..=4095) => Some(number as u16),
            Some(number) => return Err(format!("{number} is no errno (0 to 4095)")),
        };
        let plain = match action {
            LinuxSeccompAction::ScmpActErrno => return Ok(Action::Errno(given.unwrap_or(EPERM))),
            LinuxSeccompAction::ScmpActTrace => return Ok(Action::Trace(given.unwrap_or(EPERM))),
            LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => Action::KillThread,
            LinuxSeccompAction::ScmpActKillProcess => Action::KillProcess,
            LinuxSeccompAction::ScmpActTrap => Action::Trap,
            LinuxSeccompAction::ScmpActNotify => Action::Notify,
            LinuxSeccompAction::ScmpActLog => Action::Log,
            LinuxSeccompAction::ScmpActAllow => Action::Allow,
        };
        match given {
            None => Ok(plain),
            Some(number) => Err(format!("{action} takes no errno, and {number} is given")),
        }
    }

    pub(crate) fn to_oci(self) -> (LinuxSeccompAction, Option<u32>) {
        match self {
            Action::KillProcess => (LinuxSeccompAction::ScmpActKillProcess, None),
            Action::KillThread => (LinuxSeccompAction::ScmpActKillThread, None),
            Action::Trap => (LinuxSeccompAction::ScmpActTrap, None),
            Action::Errno(number) => (LinuxSeccompAction::ScmpActErrno, Some(number.into())),
            Action::Trace(number) => (LinuxSeccompAction::ScmpActTrace, Some(number.into())),
            Action::Notify => (LinuxSeccompAction::ScmpActNotify, None),
            Action::Log => (LinuxSeccompAction::ScmpActLog, None),
            Action::Allow => (LinuxSeccompAction::ScmpActAllow, None),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::KillProcess => f.write_str("kill process"),
            Action::KillThread => f.write_str("kill thread"),
            Action::Trap => f.write_str("trap"),
            Action::Errno(number) => write!(f, "errno {number}"),
            Action::Trace(number) => write!(f, "trace {number}"),
            Action::Notify => f.write_str("notify"),
            Action::Log => f.write_str("log"),
            Action::Allow => f.write_str("allow"),
        }
    }
}
