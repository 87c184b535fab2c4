//! Killing a process at an exact point: after so many system calls (ptrace(2)).

use std::process::Child;

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

/// Lets the thread `tid` of `child` make `calls` system calls after `go` has run, then kills the process at the
/// entry of the next one, which is not performed. Reaps it in either case. Whether it was killed.
pub(crate) fn kill_after(child: &mut Child, tid: i32, calls: usize, go: impl FnOnce()) -> bool {
    let pid = Pid::from_raw(tid).expect("a thread id is positive");
    ptrace(libc::PTRACE_SEIZE, pid, (libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL) as usize);
    ptrace(libc::PTRACE_INTERRUPT, pid, 0);
    assert!(stopped(pid).is_some(), "the role ended before it was told to go");
    go();
    let (mut left, mut signal) = (calls, 0);
    loop {
        ptrace(libc::PTRACE_SYSCALL, pid, signal);
        signal = 0;
        match stopped(pid) {
            None => {
                reap(child, pid);
                return false;
            }
            Some(SYSCALL) if is_entry(pid) => match left.checked_sub(1) {
                Some(less) => left = less,
                None => break,
            },
            // A signal for the process itself goes on to it; higher bits are events of ptrace.
            Some(other) if (1..0x80).contains(&other) => signal = other as usize,
            Some(_) => {}
        }
    }
    child.kill().unwrap();
    reap(child, pid);
    true
}

/// A traced thread has to be reaped by its tracer before its process is seen to have ended.
fn reap(child: &mut Child, thread: Pid) {
    if thread != Pid::from_child(child) {
        waitid(WaitId::Pid(thread), WaitIdOptions::EXITED | all()).unwrap();
    }
    child.wait().unwrap();
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

fn is_entry(pid: Pid) -> bool {
    const PTRACE_SYSCALL_INFO_ENTRY: u8 = 1;
    let mut info = [0u8; 88]; // struct ptrace_syscall_info; `op` is its first byte
    // SAFETY: `info` is live for the call and of the size that is given.
    let result = unsafe {
        libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, pid.as_raw_nonzero().get(), info.len(), info.as_mut_ptr())
    };
    assert!(result > 0, "ptrace(PTRACE_GET_SYSCALL_INFO): {}", std::io::Error::last_os_error());
    info[0] == PTRACE_SYSCALL_INFO_ENTRY
}

fn ptrace(request: libc::c_uint, pid: Pid, data: usize) {
    // SAFETY: none of the requests used here takes a pointer; address and data are plain numbers.
    let result = unsafe { libc::ptrace(request, pid.as_raw_nonzero().get(), 0usize, data) };
    assert!(result == 0, "ptrace({request}, {pid:?}): {}", std::io::Error::last_os_error());
}
