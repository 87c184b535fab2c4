//! The clone.

use core::ffi::{c_int, c_void};

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::io::Errno;

use crate::perform::Performer;
use crate::report::{self, Report};
use crate::{Failure, Op, signals, table};

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

    /// `CLONE_NEWUSER`.
    pub const USER: Namespaces = Namespaces(libc::CLONE_NEWUSER);
    /// `CLONE_NEWTIME`; only by [`Op::Unshare`], for what is executed afterwards.
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
/// It gets copies of the descriptors up to the highest that the operations name, and none above, so that a start does not
/// cost more where the parent holds thousands: keep those at high numbers (`coracle_host::aside`).
///
/// It is born in the control group (version 2) whose directory `group` is, where one is given.
///
/// `stack` must be at least [`STACK_SIZE`] bytes; it is free again when this returns.
///
/// # Errors
/// As of socketpair(2) and clone3(2); `EINVAL` for a short stack. What the child itself could not do is in
/// [`Started::failure`].
pub fn start(
    ops: &[Op<'_>],
    namespaces: Namespaces,
    group: Option<BorrowedFd<'_>>,
    stack: &mut [u8],
) -> Result<Started, Errno> {
    if stack.len() < STACK_SIZE {
        return Err(Errno::INVAL);
    }
    let (reports, child_end) = report::channel(table::lowest(ops))?;
    let mut child = Child { performer: Performer::new(ops, child_end.as_fd()) };
    // No exit signal: a child that fails before exec is nobody's business but ours.
    // It shares the table of descriptors only until it has taken what it needs of it.
    let flags =
        (libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES | libc::CLONE_PIDFD | namespaces.0) as u64;
    let mask = signals::block_all()?;
    let cloned = clone(stack, flags, group, &mut child);
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
        let again = ops.iter().any(|op| matches!(op, Op::Exec { again: true, .. }));
        listen(program.as_fd(), &mut started, again)?;
    }
    Ok(started)
}

/// Hears what the image has to say, until it has executed its program, waits, or has ended. The second process, where there
/// is one, may say that it waits before the first has told of it.
fn listen(program: BorrowedFd<'_>, started: &mut Started, again: bool) -> Result<(), Errno> {
    while let Some(report) = report::receive(program)? {
        if matches!(report, Report::Armed) {
            // Where nobody is left to hear it, the end of the messages comes next.
            let _ = rustix::net::send(program, b"!", rustix::net::SendFlags::NOSIGNAL);
        }
        started.take(report);
        if started.waiting && (started.again.is_some() || !again) {
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

extern "C" fn enter(argument: *mut c_void) {
    // SAFETY: `clone` passes the `Child` that its caller borrowed mutably and keeps borrowed until the child has
    // executed or ended (CLONE_VFORK), so nothing else touches it meanwhile.
    let child = unsafe { &mut *argument.cast::<Child<'_>>() };
    child.performer.perform();
}

fn clone(
    stack: &mut [u8],
    flags: u64,
    group: Option<BorrowedFd<'_>>,
    child: &mut Child<'_>,
) -> Result<OwnedFd, Errno> {
    /// `CLONE_INTO_CGROUP`.
    const INTO_GROUP: u64 = 0x2_0000_0000;
    let mut pidfd: c_int = -1;
    let range = stack.as_mut_ptr_range();
    let size = range.end.addr().wrapping_sub(range.start.addr()) & !15;
    let (group_flag, group) = group.map_or((0, 0), |group| (INTO_GROUP, group.as_raw_fd() as u64));
    // `struct clone_args`: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
    // set_tid_size, cgroup. The stack must end where the ABI wants it to.
    let bottom = range.start.map_addr(|start| start.next_multiple_of(16));
    let arguments: [u64; 11] = [
        flags | group_flag,
        (&raw mut pidfd).expose_provenance() as u64,
        0,
        0,
        0,
        bottom.expose_provenance() as u64,
        (size - 16) as u64,
        0,
        0,
        0,
        group,
    ];
    let result = clone3(&arguments, (&raw mut *child).cast());
    if result < 0 {
        return Err(Errno::from_raw_os_error(-result as i32));
    }
    // SAFETY: the kernel just made this descriptor for us, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(pidfd) })
}

/// clone3(2). The child calls [`enter`] on the stack that the arguments name, and ends with status 127 when that returns.
/// The parent gets what the kernel answers.
fn clone3(arguments: &[u64; 11], child: *mut c_void) -> isize {
    let result: isize;
    // SAFETY: the child runs on a stack of its own, which lives, as `child` does, until this returns: with CLONE_VFORK
    // that is after the child has left this memory. It never comes back here: `enter` neither allocates nor unwinds
    // (no_std, and panics abort), and what follows it ends the process. For the parent this is a system call.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        core::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "mov edi, 127",
            "mov eax, 231", // exit_group
            "syscall",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 as isize => result,
            in("rdi") arguments.as_ptr(),
            in("rsi") size_of_val(arguments),
            in("r12") child,
            in("r13") enter as extern "C" fn(*mut c_void),
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        core::arch::asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x29, #0",
            "mov x0, x20",
            "blr x21",
            "mov x0, #127",
            "mov x8, #94", // exit_group
            "svc #0",
            "brk #0",
            "2:",
            inlateout("x0") arguments.as_ptr() as isize => result,
            in("x1") size_of_val(arguments),
            in("x8") libc::SYS_clone3,
            in("x20") child,
            in("x21") enter as extern "C" fn(*mut c_void),
        );
    }
    result
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
        let started = start(ops, Namespaces::NONE, None, &mut stack).unwrap();
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
            Op::Exec { image: image.as_fd(), report: 3, again: false, keep: &[], argv, envp },
        ];
        let (started, used) = perform(&all);
        assert_eq!(started.failure, Some(Failure { step: 77, errno: Errno::ACCESS }));
        assert!((1..STACK_SIZE / 2).contains(&used), "{used} bytes of stack");
        // The parent's descriptors are where they were.
        assert!(rustix::fs::fstat(&null).is_ok());
        let (started, _) = perform(&[Op::DieWithParent { parent: parent + 1 }]);
        assert_eq!(started.failure, Some(Failure { step: 0, errno: Errno::SRCH }));
        // That the image itself can't be executed is a failure of the operation.
        let no_image = [Op::Exec { image: null.as_fd(), report: 3, again: false, keep: &[], argv, envp }];
        let (started, _) = perform(&no_image);
        assert_eq!(started.failure, Some(Failure { step: 0, errno: Errno::ACCESS }));
    }

    #[test]
    fn a_short_stack_is_refused() {
        let refused = start(&[], Namespaces::NONE, None, &mut [0; 64]);
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
