//! The clone.

use core::ffi::{c_int, c_void};

use rustix::fd::{AsFd, FromRawFd, OwnedFd};
use rustix::io::Errno;

use crate::perform::Performer;
use crate::perform::last_errno;
use crate::report::{self, Report};
use crate::{Failure, Op, signals};

/// How much stack a child needs, with room to spare; [`crate::Op::Again`] takes the lower half for the second
/// child.
pub const STACK_SIZE: usize = 64 << 10;

/// Whose memory the child runs in until exec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// The parent's (`CLONE_VM`). Costs the same however large the parent is. Right for a container's first process,
    /// which nothing in the container can look at before it is there. A child that becomes another user makes this
    /// memory, and so the parent, undumpable (`PR_SET_DUMPABLE`), which keeps that user's other processes out; it is
    /// the parent's to set it back once no child of any of its threads is on its way.
    Shared,
    /// A copy. Costs page tables: some 45 ms for each GB of the parent. Needed to join a container in
    /// which something runs already, together with [`Op::Undumpable`].
    Own,
}

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

    /// These and those.
    #[must_use]
    pub const fn and(self, other: Namespaces) -> Namespaces {
        Namespaces(self.0 | other.0)
    }

    /// Whether all of `other` are among these.
    pub const fn has(self, other: Namespaces) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What became of a clone.
#[derive(Debug)]
pub struct Started {
    /// The child. Where it [`Again`](Op::Again) made a second one this is the first, which has ended.
    pub pidfd: OwnedFd,
    /// The second child, where there is one.
    pub again: Option<OwnedFd>,
    /// The operation that failed, where one did. The child (and the second one) has then ended, and is still to
    /// be reaped.
    pub failure: Option<Failure>,
}

/// Clones a child that performs `ops`, and waits until it has executed its program or failed. The calling
/// thread becomes its parent: with [`Op::DieWithParent`] the child lives no longer than this thread.
///
/// `stack` must be at least [`STACK_SIZE`] bytes; it is free again when this returns.
///
/// # Errors
/// As of socketpair(2) and clone(2); `EINVAL` for a short stack. What the child itself could not do is in
/// [`Started::failure`].
pub fn start(
    ops: &[Op<'_>],
    namespaces: Namespaces,
    memory: Memory,
    stack: &mut [u8],
) -> Result<Started, Errno> {
    if stack.len() < STACK_SIZE {
        return Err(Errno::INVAL);
    }
    let (reports, pipe) = report::channel()?;
    let (low, high) = stack.split_at_mut(stack.len() / 2);
    let mut child = Child { performer: Performer::new(ops, pipe.as_fd(), low) };
    let memory = match memory {
        Memory::Shared => libc::CLONE_VM,
        Memory::Own => 0,
    };
    // CLONE_VFORK also without CLONE_VM: it is what makes this return when the child has executed its program. No exit
    // signal: a child that fails before exec is nobody's business but ours.
    let flags = memory | libc::CLONE_VFORK | libc::CLONE_PIDFD | namespaces.0;
    let mask = signals::block_all()?;
    let cloned = clone(high, flags, &mut child);
    signals::restore(mask);
    let mut started = Started { pidfd: cloned?, again: None, failure: None };
    while let Some(report) = report::receive(reports.as_fd())? {
        match report {
            Report::Again(second) => started.again = Some(second),
            Report::Failed(failure) => started.failure = Some(failure),
        }
    }
    Ok(started)
}

struct Child<'a> {
    performer: Performer<'a>,
}

extern "C" fn enter(argument: *mut c_void) -> c_int {
    // SAFETY: `clone` passes the `Child` that its caller borrowed mutably and keeps borrowed until the child has
    // executed or ended (CLONE_VFORK), so nothing else touches it meanwhile.
    let child = unsafe { &mut *argument.cast::<Child<'_>>() };
    child.performer.perform();
    127
}

/// The second child, for [`Op::Again`]: same memory as the first, same parent.
pub(crate) fn again(performer: &mut Performer<'_>, stack: &mut [u8]) -> Result<OwnedFd, Errno> {
    let mut child = Child { performer: performer.reborrow() };
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::CLONE_PARENT;
    clone(stack, flags, &mut child)
}

fn clone(stack: &mut [u8], flags: c_int, child: &mut Child<'_>) -> Result<OwnedFd, Errno> {
    let mut pidfd: c_int = -1;
    let top = stack.as_mut_ptr_range().end.map_addr(|end| end & !15);
    // SAFETY: `enter` runs on `stack`, which is ours alone and lives, as `child` does, until clone returns: with CLONE_VFORK
    // that is after the child has left this memory. `enter` neither allocates nor unwinds (no_std, and panics
    // abort). The pidfd goes to a live integer.
    let pid = unsafe { libc::clone(enter, top.cast(), flags, (&raw mut *child).cast(), &raw mut pidfd) };
    if pid < 0 {
        return Err(last_errno());
    }
    // SAFETY: the kernel just made this descriptor for us, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(pidfd) })
}

#[cfg(test)]
mod tests {
    extern crate std;

    use core::ptr;
    use std::vec;

    use rustix::process::{WaitId, WaitIdOptions, waitid};

    use super::*;
    use crate::Strings;

    /// Performs the list and reaps who did. How much of its stack was used.
    fn perform(ops: &[Op<'_>], memory: Memory) -> (Started, usize) {
        const UNUSED: u8 = 0xa5;
        let mut stack = vec![UNUSED; STACK_SIZE];
        let started = start(ops, Namespaces::NONE, memory, &mut stack).unwrap();
        let all = WaitIdOptions::EXITED | WaitIdOptions::from_bits_retain(libc::__WALL as u32);
        waitid(WaitId::PidFd(started.pidfd.as_fd()), all).unwrap();
        let (low, high) = stack.split_at(STACK_SIZE / 2);
        assert!(low.iter().all(|byte| *byte == UNUSED), "beyond the end of its stack");
        let unused = high.iter().take_while(|byte| **byte == UNUSED).count();
        (started, high.len() - unused)
    }

    #[test]
    fn a_failure_is_told_and_little_stack_is_used() {
        let (mut argv, mut envp) = ([ptr::null(); 1], [ptr::null(); 1]);
        let argv = Strings::new(&[], &mut argv).unwrap();
        let envp = Strings::new(&[], &mut envp).unwrap();
        let parent = std::process::id();
        let null =
            rustix::fs::open(c"/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty()).unwrap();
        let null = rustix::io::fcntl_dupfd_cloexec(&null, 3).unwrap();
        let all = [
            Op::Undumpable,
            Op::DieWithParent { parent },
            Op::Umask(0),
            Op::Stdio([null.as_fd(); 3]),
            Op::DieWithParent { parent },
            Op::NoNewPrivs,
            Op::CloseFrom { first: 3, keep: None },
            Op::ChangeDir(c"/"),
            Op::Exec { candidates: &[c"/none", c"/dev/null/none", c"/dev/null"], argv, envp },
        ];
        // In memory of its own, since it forbids to be dumped; what the parent sees of its stack is nothing then.
        let (started, _) = perform(&all, Memory::Own);
        assert_eq!(started.failure, Some(Failure { step: 8, errno: Errno::ACCESS }));
        let (started, used) = perform(&all[1..], Memory::Shared);
        assert_eq!(started.failure, Some(Failure { step: 7, errno: Errno::ACCESS }));
        assert!((1..STACK_SIZE / 4).contains(&used), "{used} bytes of stack");
        // The parent's descriptors are where they were.
        assert!(rustix::fs::fstat(&null).is_ok());
        let (started, _) = perform(&[Op::DieWithParent { parent: parent + 1 }], Memory::Shared);
        assert_eq!(started.failure, Some(Failure { step: 0, errno: Errno::SRCH }));
    }

    #[test]
    fn a_short_stack_is_refused() {
        let refused = start(&[], Namespaces::NONE, Memory::Shared, &mut [0; 64]);
        assert_eq!(refused.unwrap_err(), Errno::INVAL);
    }

    #[test]
    fn an_end_of_the_other_side_ends_a_child_that_waits() {
        let pair = || {
            let flags = rustix::net::SocketFlags::CLOEXEC;
            rustix::net::socketpair(
                rustix::net::AddressFamily::UNIX,
                rustix::net::SocketType::STREAM,
                flags,
                None,
            )
        };
        let (ours, theirs) = pair().unwrap();
        rustix::net::send(&ours, b"!", rustix::net::SendFlags::NOSIGNAL).unwrap();
        drop(ours);
        // One turn is there to be had; at the next nobody is.
        let ops = [Op::Await(theirs.as_fd()), Op::ChangeDir(c"/none")];
        let (started, _) = perform(&ops, Memory::Shared);
        assert_eq!(started.failure, None, "it could not say that it is there");
        let (ours, theirs) = pair().unwrap();
        rustix::net::send(&ours, b"!", rustix::net::SendFlags::NOSIGNAL).unwrap();
        let ops = [Op::Await(theirs.as_fd()), Op::ChangeDir(c"/none")];
        let (started, _) = perform(&ops, Memory::Shared);
        assert_eq!(started.failure, Some(Failure { step: 1, errno: Errno::NOENT }));
    }
}
