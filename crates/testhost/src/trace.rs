//! Killing a process at an exact point: after so many system calls (ptrace(2)).

use std::process::Child;

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

/// Lets the thread `tid` of `child` make `calls` system calls after `go` has run, then kills the process at the
/// entry of the next one, which is not performed. Reaps it in either case. Whether it was killed.
pub(crate) fn kill_after(child: &mut Child, tid: i32, calls: usize, go: impl FnOnce()) -> bool {
    let tracee = Tracee::seize(tid);
    go();
    let mut left = calls;
    loop {
        match tracee.next() {
            Stop::Ended => {
                tracee.reap(child);
                return false;
            }
            Stop::Call(Info::Entry { .. }) => match left.checked_sub(1) {
                Some(less) => left = less,
                None => break,
            },
            Stop::Call(Info::Exit { .. }) => {}
        }
    }
    child.kill().unwrap();
    tracee.reap(child);
    true
}

/// A thread that stops at each entry to and exit of a system call.
pub(crate) struct Tracee(Pid);

pub(crate) enum Stop {
    Call(Info),
    Ended,
}

/// What it is about to do, or what has come of it.
pub(crate) enum Info {
    Entry { number: i64, args: [u64; 6] },
    Exit { result: i64 },
}

impl Tracee {
    /// From now on it stops; it waits for [`Tracee::next`].
    pub(crate) fn seize(tid: i32) -> Tracee {
        let pid = Pid::from_raw(tid).expect("a thread id is positive");
        ptrace(libc::PTRACE_SEIZE, pid, (libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL) as usize);
        ptrace(libc::PTRACE_INTERRUPT, pid, 0);
        assert!(stopped(pid).is_some(), "the role ended before it was told to go");
        Tracee(pid)
    }

    /// Lets it go on to its next stop.
    pub(crate) fn next(&self) -> Stop {
        let mut signal = 0;
        loop {
            ptrace(libc::PTRACE_SYSCALL, self.0, signal);
            signal = 0;
            match stopped(self.0) {
                None => return Stop::Ended,
                Some(SYSCALL) => return Stop::Call(info(self.0)),
                // A signal for the process itself goes on to it; higher bits are events of ptrace.
                Some(other) if (1..0x80).contains(&other) => signal = other as usize,
                Some(_) => {}
            }
        }
    }

    /// A traced thread has to be reaped by its tracer before its process is seen to have ended.
    pub(crate) fn reap(&self, child: &mut Child) {
        if self.0 != Pid::from_child(child) {
            waitid(WaitId::Pid(self.0), WaitIdOptions::EXITED | all()).unwrap();
        }
        child.wait().unwrap();
    }
}

/// `__WALL`: waits for threads too.
fn all() -> WaitIdOptions {
    WaitIdOptions::from_bits_retain(libc::__WALL as u32)
}

const SYSCALL: i32 = libc::SIGTRAP | 0x80;

/// Waits for the next stop; its signal. `None`: it ended, and is still there to be reaped.
fn stopped(pid: Pid) -> Option<i32> {
    let both = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | all();
    let status = waitid(WaitId::Pid(pid), both | WaitIdOptions::NOWAIT).unwrap()?;
    if status.exited() || status.killed() || status.dumped() {
        return None;
    }
    let status = waitid(WaitId::Pid(pid), WaitIdOptions::STOPPED | all()).unwrap()?;
    status.trapping_signal().or(status.stopping_signal())
}

fn info(pid: Pid) -> Info {
    const PTRACE_SYSCALL_INFO_ENTRY: u8 = 1;
    // struct ptrace_syscall_info: `op` is its first byte; from byte 24 on there are the number and the arguments of an
    // entry, or the result of an exit.
    let mut info = [0u8; 88];
    // SAFETY: `info` is live for the call and of the size that is given.
    let result = unsafe {
        libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, pid.as_raw_nonzero().get(), info.len(), info.as_mut_ptr())
    };
    assert!(result > 0, "ptrace(PTRACE_GET_SYSCALL_INFO): {}", std::io::Error::last_os_error());
    let word = |index: usize| {
        let at = 24 + 8 * index;
        u64::from_ne_bytes(info[at..at + 8].try_into().expect("eight bytes"))
    };
    match info[0] {
        PTRACE_SYSCALL_INFO_ENTRY => {
            Info::Entry { number: word(0) as i64, args: std::array::from_fn(|index| word(1 + index)) }
        }
        _ => Info::Exit { result: word(0) as i64 },
    }
}

fn ptrace(request: libc::c_uint, pid: Pid, data: usize) {
    // SAFETY: none of the requests used here takes a pointer; address and data are plain numbers.
    let result = unsafe { libc::ptrace(request, pid.as_raw_nonzero().get(), 0usize, data) };
    assert!(result == 0, "ptrace({request}, {pid:?}): {}", std::io::Error::last_os_error());
}
