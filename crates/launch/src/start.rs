//! The clone.

use core::ffi::{c_int, c_void};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::io::Errno;

use crate::perform::Performer;
use crate::report::{self, Report};
use crate::{Failure, Namespaces, Op, signals, table};

/// How much stack a child needs, with room to spare.
pub const STACK_SIZE: usize = 32 << 10;

/// What became of a clone.
#[derive(Debug)]
pub struct Started {
    /// The child. Where it went on in another one this is the first, which has ended.
    pub pidfd: OwnedFd,
    /// The child that [`Op::Clone`] made, where there is one.
    pub cloned: Option<OwnedFd>,
    /// The child that [`Call::Again`](crate::Call::Again) made, where there is one.
    pub again: Option<OwnedFd>,
    /// The operation, or the step of the image, that failed, where one did. The child (and those that it went on in) has
    /// then ended, and is still to be reaped.
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
/// `listening` is called with the process that has come to [`Call::Listen`](crate::Call::Listen) and waits there; where it says
/// no the process ends.
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
    listening: &mut dyn FnMut(BorrowedFd<'_>) -> bool,
) -> Result<Started, Errno> {
    if stack.len() < STACK_SIZE {
        return Err(Errno::INVAL);
    }
    let (reports, child_end) = report::channel(table::lowest(ops))?;
    let mut child = Child { performer: Performer::new(ops, child_end.as_fd()) };
    // No exit signal: a child that fails before exec is nobody's business but ours.
    // It shares the table of descriptors only until it has taken what it needs of it.
    let flags =
        (libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES | libc::CLONE_PIDFD | namespaces.bits())
            as u64;
    let mask = signals::block_all()?;
    let cloned = clone(stack, flags, group, &mut child);
    signals::restore(mask);
    drop(child_end);
    let mut started = Started { pidfd: cloned?, cloned: None, again: None, failure: None, waiting: false };
    let (mut program, mut left) = (None, !ops.iter().any(|op| matches!(op, Op::Clone(_))));
    while let Some(report) = report::receive(reports.as_fd())? {
        match report {
            Report::Program(socket) => program = Some(socket),
            Report::Left => left = true,
            other => started.take(other),
        }
    }
    if !left && (started.cloned.is_some() || started.failure.is_none()) {
        started.evict(reports.as_fd())?;
    }
    if let (Some(program), None) = (program, started.failure) {
        let again = ops.iter().any(|op| matches!(op, Op::Exec { again: true, .. }));
        listen(program.as_fd(), &mut started, again, listening)?;
    }
    Ok(started)
}

/// Hears what the image has to say, until it has executed its program, waits, or has ended. The second process, where there
/// is one, may say that it waits before the first has told of it.
fn listen(
    program: BorrowedFd<'_>,
    started: &mut Started,
    again: bool,
    listening: &mut dyn FnMut(BorrowedFd<'_>) -> bool,
) -> Result<(), Errno> {
    // Where nobody is left to hear it, the end of the messages comes next.
    let answer = || {
        let _ = rustix::net::send(program, b"!", rustix::net::SendFlags::NOSIGNAL);
    };
    let mut has_filter = false;
    while let Some(report) = report::receive(program)? {
        match report {
            Report::Armed => answer(),
            Report::Listening => has_filter = true,
            other => started.take(other),
        }
        if again && started.again.is_none() {
            continue;
        }
        if has_filter {
            has_filter = false;
            let process = started.again.as_ref().or(started.cloned.as_ref()).unwrap_or(&started.pidfd);
            if !listening(process.as_fd()) {
                break;
            }
            answer();
        }
        if started.waiting {
            break;
        }
    }
    Ok(())
}

impl Started {
    /// Somebody killed the first child while a second one was in this memory, on this stack: it must not be any more
    /// when the caller goes on.
    fn evict(&mut self, reports: BorrowedFd<'_>) -> Result<(), Errno> {
        if self.cloned.is_none() {
            // It tells of itself, or ends before it can; with it go the last ends of the socket.
            rustix::io::ioctl_fionbio(reports, false)?;
            while let Some(report) = report::receive(reports)? {
                self.take(report);
            }
        }
        let Some(cloned) = &self.cloned else { return Ok(()) };
        let killed = rustix::process::pidfd_send_signal(cloned, rustix::process::Signal::KILL);
        match killed {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(errno) => return Err(errno),
        }
        let mut ended = [PollFd::new(cloned, PollFlags::IN)];
        rustix::io::retry_on_intr(|| poll(&mut ended, None)).map(drop)
    }

    fn take(&mut self, report: Report) {
        match report {
            Report::Failed(failure) => self.failure = Some(failure),
            Report::Again(second) if self.again.is_none() => self.again = Some(second),
            Report::Waiting => self.waiting = true,
            Report::Cloned(cloned) if self.cloned.is_none() => self.cloned = Some(cloned),
            Report::Again(_)
            | Report::Cloned(_)
            | Report::Left
            | Report::Program(_)
            | Report::Armed
            | Report::Listening => {}
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

extern "C" fn enter_second(argument: *mut c_void) {
    // SAFETY: `second` passes the performer that its caller borrowed mutably, in a process that is suspended until this one
    // has executed or ended (CLONE_VFORK).
    let performer = unsafe { &mut *argument.cast::<Performer<'_>>() };
    performer.perform_rest();
}

/// Clones a second child, which goes on with the list. It runs on this one's stack, below what is in use, in the same
/// memory. Returns when it has left that.
pub(crate) fn second(performer: &mut Performer<'_>, namespaces: Namespaces) -> Result<(), Errno> {
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PARENT | namespaces.bits();
    let arguments = [flags as u64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    match clone3(&arguments, enter_second, (&raw mut *performer).cast()) {
        result if result < 0 => Err(Errno::from_raw_os_error(-result as i32)),
        _ => Ok(()),
    }
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
    let result = clone3(&arguments, enter, (&raw mut *child).cast());
    if result < 0 {
        return Err(Errno::from_raw_os_error(-result as i32));
    }
    // SAFETY: the kernel just made this descriptor for us, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(pidfd) })
}

/// clone3(2). The child calls `enter` on the stack that the arguments name (its parent's, below what that has in use, where
/// they name none), and ends with status 127 when that returns. The parent gets what the kernel answers.
fn clone3(arguments: &[u64; 11], enter: extern "C" fn(*mut c_void), child: *mut c_void) -> isize {
    let result: isize;
    // SAFETY: what the child runs on lives, as `child` does, until this returns: with CLONE_VFORK that is after the child
    // has left this memory. It never comes back here: `enter` neither allocates nor unwinds (no_std, and panics abort),
    // and what follows it ends the process. For the parent this is a system call, and it knows that memory changes.
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
            in("r13") enter,
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
            in("x21") enter,
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
        let started = start(ops, Namespaces::NONE, None, &mut stack, &mut |_| false).unwrap();
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
    fn a_second_child_goes_on_with_the_list() {
        let parent = std::process::id();
        let ops = [
            Op::DieWithParent { parent },
            Op::Clone(Namespaces::NONE),
            Op::DieWithParent { parent }, // as its own, not the first one's
            Op::ChangeDir(c"/none"),
        ];
        let (started, used) = perform(&ops);
        assert_eq!(started.failure, Some(Failure { step: 3, errno: Errno::NOENT }));
        assert!(used < STACK_SIZE / 2, "{used} bytes of stack");
        let second = started.cloned.unwrap();
        let all = WaitIdOptions::EXITED | WaitIdOptions::from_bits_retain(libc::__WALL as u32);
        let ended = waitid(WaitId::PidFd(second.as_fd()), all).unwrap().unwrap();
        assert_eq!(ended.exit_status(), Some(127));
    }

    #[test]
    fn a_second_child_does_not_outlive_the_first_in_shared_memory() {
        let flags = rustix::net::SocketFlags::CLOEXEC;
        let (unix, stream) = (rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM);
        let (ours, theirs) = rustix::net::socketpair(unix, stream, flags, None).unwrap();
        let parent = std::process::id();
        let ops = [
            Op::Close(ours.as_fd()),
            Op::Show { to: theirs.as_fd(), path: c"/proc/self" },
            Op::Clone(Namespaces::NONE),
            Op::DieWithParent { parent },
            Op::Await(theirs.as_fd()),
        ];
        std::thread::scope(|scope| {
            let killer = scope.spawn(|| {
                let Some(Report::Again(first)) = report::receive(ours.as_fd()).unwrap() else { panic!() };
                // The second one is there, and waits.
                assert_eq!(rustix::io::read(&ours, &mut [0u8; 1]), Ok(1));
                let read = |name: &str| {
                    let flags = rustix::fs::OFlags::RDONLY;
                    let file = rustix::fs::openat(&first, name, flags, rustix::fs::Mode::empty()).unwrap();
                    let mut text = [0u8; 64];
                    let count = rustix::io::read(file, &mut text).unwrap();
                    std::string::String::from_utf8_lossy(&text[..count]).into_owned()
                };
                let pid = read("stat").split(' ').next().unwrap().parse().unwrap();
                let pid = rustix::process::Pid::from_raw(pid).unwrap();
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            });
            let (started, _) = perform(&ops);
            killer.join().unwrap();
            let second = started.cloned.unwrap();
            let all = WaitIdOptions::EXITED | WaitIdOptions::from_bits_retain(libc::__WALL as u32);
            let ended = waitid(WaitId::PidFd(second.as_fd()), all | WaitIdOptions::NOHANG).unwrap();
            assert_eq!(ended.expect("it has ended").terminating_signal(), Some(9));
        });
    }

    #[test]
    fn a_short_stack_is_refused() {
        let refused = start(&[], Namespaces::NONE, None, &mut [0; 64], &mut |_| false);
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
