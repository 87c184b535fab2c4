//! The clone.

use core::ffi::{c_int, c_void};

use rustix::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::io::Errno;

use crate::perform::Performer;
use crate::perform::last_errno;
use crate::report::{self, Report};
use crate::{Failure, Op, signals};

/// How much stack a child needs, with room to spare.
pub const STACK_SIZE: usize = 32 << 10;

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
    /// The child. Where it made a second one ([`Call::Again`](crate::Call::Again)) this is the first, which has ended.
    pub pidfd: OwnedFd,
    /// The second child, where there is one.
    pub again: Option<OwnedFd>,
    /// The operation, or the step of the image, that failed, where one did. The child (and the second one) has then
    /// ended, and is still to be reaped.
    pub failure: Option<Failure>,
    /// Whether the child waits at its gate ([`Call::Await`](crate::Call::Await)), its program not executed yet.
    pub waiting: bool,
}

/// Clones a child that performs `ops`, and waits until it has executed its program, waits at its gate or failed. The
/// calling thread becomes its parent: with [`Op::DieWithParent`] the child lives no longer than this thread.
///
/// Until it executes its image the child runs in the parent's memory (`CLONE_VM`), which costs the same however large the
/// parent is. Nothing in a container can look at it there: it is either the first process of a pid namespace or in none
/// that the container sees. A child that becomes another user makes this memory, and so the parent, undumpable
/// (`PR_SET_DUMPABLE`), which keeps that user's other processes out; it is the parent's to set it back once no child of
/// any of its threads is on its way.
///
/// `stack` must be at least [`STACK_SIZE`] bytes; it is free again when this returns.
///
/// # Errors
/// As of socketpair(2) and clone(2); `EINVAL` for a short stack. What the child itself could not do is in
/// [`Started::failure`].
pub fn start(ops: &[Op<'_>], namespaces: Namespaces, stack: &mut [u8]) -> Result<Started, Errno> {
    if stack.len() < STACK_SIZE {
        return Err(Errno::INVAL);
    }
    let (reports, child_end) = report::channel()?;
    let mut child = Child { performer: Performer::new(ops, child_end.as_fd()) };
    // No exit signal: a child that fails before exec is nobody's business but ours.
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | namespaces.0;
    let mask = signals::block_all()?;
    let cloned = clone(stack, flags, &mut child);
    signals::restore(mask);
    drop(child_end);
    let mut started = Started { pidfd: cloned?, again: None, failure: None, waiting: false };
    let mut program = None;
    while let Some(report) = report::receive(reports.as_fd())? {
        match report {
            Report::Program(socket) => program = Some(socket),
            other => started.take(other),
        }
    }
    if let (Some(program), None) = (program, started.failure) {
        listen(program.as_fd(), &mut started)?;
    }
    Ok(started)
}

/// Hears what the image has to say, until it has executed its program, waits, or has ended.
fn listen(program: BorrowedFd<'_>, started: &mut Started) -> Result<(), Errno> {
    while let Some(report) = report::receive(program)? {
        if matches!(report, Report::Armed) {
            // Where nobody is left to hear it, the end of the messages comes next.
            let _ = rustix::net::send(program, b"!", rustix::net::SendFlags::NOSIGNAL);
        }
        started.take(report);
        if started.waiting {
            break;
        }
    }
    Ok(())
}

impl Started {
    fn take(&mut self, report: Report) {
        match report {
            Report::Failed(failure) => self.failure = Some(failure),
            Report::Again(second) if self.again.is_none() => self.again = Some(second),
            Report::Waiting => self.waiting = true,
            Report::Again(_) | Report::Program(_) | Report::Armed => {}
        }
    }
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
    use crate::{Call, Strings, image_size, write_image};

    /// Performs the list and reaps who did. How much of its stack was used.
    fn perform(ops: &[Op<'_>]) -> (Started, usize) {
        const UNUSED: u8 = 0xa5;
        let mut stack = vec![UNUSED; STACK_SIZE];
        let started = start(ops, Namespaces::NONE, &mut stack).unwrap();
        let all = WaitIdOptions::EXITED | WaitIdOptions::from_bits_retain(libc::__WALL as u32);
        waitid(WaitId::PidFd(started.pidfd.as_fd()), all).unwrap();
        let unused = stack.iter().take_while(|byte| **byte == UNUSED).count();
        (started, stack.len() - unused)
    }

    /// A file that makes the calls.
    fn image(report: u32, calls: &[(u32, Call<'_>)]) -> OwnedFd {
        let mut bytes = vec![0; image_size(calls)];
        let size = write_image(report, calls, &mut bytes).unwrap();
        let file = rustix::fs::memfd_create("image", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        assert_eq!(rustix::io::write(&file, &bytes[..size]), Ok(size));
        rustix::io::fcntl_dupfd_cloexec(&file, 3).unwrap()
    }

    fn null() -> OwnedFd {
        let flags = rustix::fs::OFlags::RDWR;
        let null = rustix::fs::open(c"/dev/null", flags, rustix::fs::Mode::empty()).unwrap();
        rustix::io::fcntl_dupfd_cloexec(&null, 3).unwrap()
    }

    #[test]
    fn a_failure_is_told_and_little_stack_is_used() {
        let (mut argv, mut envp) = ([ptr::null(); 1], [ptr::null(); 1]);
        let argv = Strings::new(&[], &mut argv).unwrap();
        let envp = Strings::new(&[], &mut envp).unwrap();
        let parent = std::process::id();
        let null = null();
        let candidates = [c"/none", c"/dev/null/none", c"/dev/null"].map(|path| (77, Call::Exec(path)));
        let image = rustix::io::fcntl_dupfd_cloexec(image(3, &candidates), 9).unwrap();
        let all = [
            Op::DieWithParent { parent },
            Op::Umask(0),
            Op::Descriptors(&[null.as_fd(); 3]),
            Op::DieWithParent { parent },
            Op::NoNewPrivs,
            Op::CloseFrom { first: 3, keep: &[image.as_fd()] },
            Op::ChangeDir(c"/"),
            Op::Exec { image: image.as_fd(), report: 3, keep: &[], argv, envp },
        ];
        let (started, used) = perform(&all);
        assert_eq!(started.failure, Some(Failure { step: 77, errno: Errno::ACCESS }));
        assert!((1..STACK_SIZE / 2).contains(&used), "{used} bytes of stack");
        // The parent's descriptors are where they were.
        assert!(rustix::fs::fstat(&null).is_ok());
        let (started, _) = perform(&[Op::DieWithParent { parent: parent + 1 }]);
        assert_eq!(started.failure, Some(Failure { step: 0, errno: Errno::SRCH }));
        // That the image itself can't be executed is a failure of the operation.
        let no_image = [Op::Exec { image: null.as_fd(), report: 3, keep: &[], argv, envp }];
        let (started, _) = perform(&no_image);
        assert_eq!(started.failure, Some(Failure { step: 0, errno: Errno::ACCESS }));
    }

    #[test]
    fn a_short_stack_is_refused() {
        let refused = start(&[], Namespaces::NONE, &mut [0; 64]);
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
        let (started, _) = perform(&ops);
        assert_eq!(started.failure, None, "it could not say that it is there");
        let (ours, theirs) = pair().unwrap();
        rustix::net::send(&ours, b"!", rustix::net::SendFlags::NOSIGNAL).unwrap();
        let ops = [Op::Await(theirs.as_fd()), Op::ChangeDir(c"/none")];
        let (started, _) = perform(&ops);
        assert_eq!(started.failure, Some(Failure { step: 1, errno: Errno::NOENT }));
    }
}
