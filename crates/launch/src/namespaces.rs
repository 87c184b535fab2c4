//! Namespaces as flags (namespaces(7)).

use core::ffi::c_int;

/// Which new namespaces the child gets (`CLONE_NEW*` of clone(2)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Namespaces(c_int);

impl Namespaces {
    /// None: it stays in the parent's.
    pub const NONE: Namespaces = Namespaces(0);
    /// `CLONE_NEWNS`.
    pub const MOUNT: Namespaces = Namespaces(libc::CLONE_NEWNS);
    /// `CLONE_NEWPID`.
    pub const PID: Namespaces = Namespaces(libc::CLONE_NEWPID);
    /// `CLONE_NEWNET`.
    pub const NET: Namespaces = Namespaces(libc::CLONE_NEWNET);
    /// `CLONE_NEWIPC`.
    pub const IPC: Namespaces = Namespaces(libc::CLONE_NEWIPC);
    /// `CLONE_NEWUTS`.
    pub const UTS: Namespaces = Namespaces(libc::CLONE_NEWUTS);
    /// `CLONE_NEWCGROUP`.
    pub const CGROUP: Namespaces = Namespaces(libc::CLONE_NEWCGROUP);

    /// `CLONE_NEWUSER`.
    pub const USER: Namespaces = Namespaces(libc::CLONE_NEWUSER);
    /// `CLONE_NEWTIME`; only by [`Op::Unshare`](crate::Op::Unshare), for what is executed afterwards.
    pub const TIME: Namespaces = Namespaces(0x80);

    pub(crate) fn bits(self) -> c_int {
        self.0
    }

    /// These and those.
    #[must_use]
    pub const fn and(self, other: Namespaces) -> Namespaces {
        Namespaces(self.0 | other.0)
    }

    /// These but those.
    #[must_use]
    pub const fn without(self, other: Namespaces) -> Namespaces {
        Namespaces(self.0 & !other.0)
    }

    /// Whether all of `other` are among these.
    pub const fn has(self, other: Namespaces) -> bool {
        self.0 & other.0 == other.0
    }
}

impl core::fmt::Display for Namespaces {
    /// `mount, pid`.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let all = [
            (Namespaces::MOUNT, "mount"),
            (Namespaces::PID, "pid"),
            (Namespaces::NET, "network"),
            (Namespaces::IPC, "ipc"),
            (Namespaces::UTS, "uts"),
            (Namespaces::CGROUP, "cgroup"),
            (Namespaces::USER, "user"),
            (Namespaces::TIME, "time"),
        ];
        let there = all.into_iter().filter(|(one, _)| self.has(*one));
        for (index, (_, name)) in there.enumerate() {
            write!(f, "{}{name}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}
