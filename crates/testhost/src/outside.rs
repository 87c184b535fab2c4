//! The process that libtest started: makes the host, shows its output, passes on how it ended.

use std::io::{self, PipeReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};
use rustix::thread::{CapabilitySet, UnshareFlags, capabilities, unshare_unsafe};

use crate::cgroup::{Doors, GROUPS, Groups};
use crate::{ENDED_WELL, INSIDE, PLACE, ROLE, hung, only, skip};

#[expect(clippy::print_stdout, reason = "this is the test's output")]
pub(crate) fn run(name: &str) {
    let root = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN));
    if !root || !rustix::process::geteuid().is_root() {
        return skip(name, "needs root");
    }
    let groups = Groups::make();
    let (output, mut child) = match start(name, &groups) {
        Ok(started) => started,
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            return skip(name, "this machine refuses new namespaces");
        }
        Err(error) => panic!("start the test host of `{name}`: {error}"),
    };
    let in_time = pass_on(output, Instant::now() + timeout());
    if !in_time {
        println!("`{name}` hangs:\n{}", hung::describe(child.id()));
        // Its death kills pid 1 of the host, whose death kills the rest.
        let _ = child.kill();
    }
    let status = child.wait().unwrap();
    drop(groups);
    assert!(in_time, "the test host of `{name}` was killed after {:?}", timeout());
    match status.code() {
        Some(ENDED_WELL) => {}
        Some(0) => {
            panic!("the test host ran no test `{name}`: is `run` called with a closure in the test itself?")
        }
        _ => panic!("`{name}` failed in its test host ({status}); its output is above"),
    }
}

fn timeout() -> Duration {
    let seconds = std::env::var("CORACLE_TESTHOST_TIMEOUT").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(120))
}

fn start(name: &str, groups: &Groups) -> io::Result<(PipeReader, Child)> {
    let (output, writer) = io::pipe()?;
    let place = place();
    let mut command = Command::new("/proc/self/exe");
    command.args(only(name)).env(INSIDE, name).env(PLACE, &place).env("TMPDIR", place.join("tmp"));
    command.env(GROUPS, groups.list()).env_remove(ROLE);
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let doors = groups.doors()?;
    let parent = getpid();
    // SAFETY: `enter` makes system calls on memory that was ready before the fork; it allocates nothing.
    unsafe { command.pre_exec(move || enter(&doors, parent)) };
    Ok((output, command.spawn()?))
}

/// An existing directory to mount the host's tmpfs on, so that nothing is made on the machine: one that hides
/// nothing the test needs.
fn place() -> PathBuf {
    let needed = [std::env::current_exe().ok(), std::env::current_dir().ok(), skips()];
    let free = |place: &&&str| {
        Path::new(place).is_dir() && !needed.iter().flatten().any(|path| path.starts_with(place))
    };
    ["/mnt", "/media", "/srv", "/opt", "/home", "/tmp"].iter().find(free).unwrap_or(&"/mnt").into()
}

fn skips() -> Option<PathBuf> {
    std::path::absolute(std::env::var_os("CORACLE_SKIPS")?).ok()
}

/// Between fork and exec: new namespaces, and a second fork whose child is pid 1 there and goes on to exec.
fn enter(doors: &Doors, parent: Pid) -> io::Result<()> {
    doors.enter()?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != Some(parent) {
        return Err(io::ErrorKind::NotConnected.into()); // it died before we asked
    }
    let namespaces = UnshareFlags::NEWNS
        | UnshareFlags::NEWPID
        | UnshareFlags::NEWNET
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWCGROUP;
    // SAFETY: CLONE_FILES is not among the flags, and this process has one thread.
    unsafe { unshare_unsafe(namespaces)? };
    doors.leave()?;
    // SAFETY: this process is a fork with one thread; its child makes only system calls until it executes.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            doors.enter_again()
        }
        child => stand_by(child),
    }
}

/// The process between: waits for pid 1 of the host and ends as it did. Holds no descriptors, so that the
/// output ends with the host.
fn stand_by(child: libc::pid_t) -> ! {
    // SAFETY: nothing in this process uses a descriptor after this.
    unsafe { libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, 0) };
    let mut status = 0;
    loop {
        // SAFETY: `status` is live; `child` is a child of this process.
        let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
        if waited == child {
            break;
        }
    }
    let code = if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) };
    // SAFETY: ends the process without touching what it shares with its parent (buffers, exit handlers).
    unsafe { libc::_exit(code) }
}

/// Prints the host's output, which libtest captures as this test's own, until it ends. Whether it ended in time.
fn pass_on(mut output: PipeReader, deadline: Instant) -> bool {
    let mut lines = Vec::new();
    let mut chunk = [0u8; 8192];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).expect("a timeout of seconds");
        match poll(&mut [PollFd::new(&output, PollFlags::IN)], Some(&left)) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => panic!("poll(output of the test host): {errno}"),
        }
        let read = output.read(&mut chunk).unwrap();
        lines.extend_from_slice(&chunk[..read]);
        let whole = if read == 0 {
            lines.len()
        } else {
            lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1)
        };
        String::from_utf8_lossy(&lines[..whole]).split_inclusive('\n').for_each(show);
        lines.drain(..whole);
        if read == 0 {
            return true;
        }
    }
}

#[expect(clippy::print_stdout, reason = "this is the test's output")]
fn show(line: &str) {
    if line.starts_with("skip: ") {
        let _ = io::stderr().write_all(line.as_bytes()); // past the capture
    } else {
        print!("{line}");
    }
}
