//! The test's own process, pid 1 of the new host: set-up, body, leak check.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};

use crate::host::{Host, mount_tmpfs};
use crate::leak::Snapshot;
use crate::{ENDED_WELL, PLACE, cgroup};

/// How long the kernel may take to finish what is torn down asynchronously (namespaces, mounts).
const GRACE: Duration = Duration::from_secs(5);

/// Runs the test in this process and exits: libtest's own epilogue has nothing to add.
pub(crate) fn run<F: FnOnce(&Host)>(name: &str, test: F) -> ! {
    let place = PathBuf::from(std::env::var_os(PLACE).expect("set by the process outside"));
    set_up(&place).unwrap_or_else(|error| panic!("set up the test host: {error}"));
    let host = Host::new(name, place.clone());
    let start = Snapshot::take(&place);
    let ended = catch_unwind(AssertUnwindSafe(|| test(&host)));
    // The panic hook has printed the message. What a failed test leaves behind says nothing.
    let ended_well = ended.is_ok() && nothing_left(name, &start, &place);
    std::process::exit(if ended_well { ENDED_WELL } else { 1 })
}

#[expect(clippy::print_stderr, reason = "this is the test's output")]
fn nothing_left(name: &str, start: &Snapshot, place: &Path) -> bool {
    let deadline = Instant::now() + GRACE;
    loop {
        reap_orphans();
        let findings = start.differences(&Snapshot::take(place));
        if findings.is_empty() {
            return true;
        }
        if Instant::now() >= deadline {
            eprintln!("`{name}` leaves its host other than it found it:");
            findings.iter().for_each(|finding| eprintln!("  {finding}"));
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn reap_orphans() {
    while let Ok(Some(_)) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {}
}

fn set_up(place: &Path) -> std::io::Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let strict = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "/proc", "proc", strict, None)?;
    // What is mounted below the old one would stay in the table, under paths that lead to the new one.
    let _ = unmount("/sys", UnmountFlags::DETACH);
    mount("sysfs", "/sys", "sysfs", strict, None)?;
    cgroup::mount_own()?;
    // Two levels: everything at the place is the host's, `dir` is the test's.
    mount("tmpfs", place, "tmpfs", MountFlags::empty(), c"mode=0755")?;
    std::fs::create_dir(place.join("tmp"))?;
    mount_tmpfs(&place.join("dir"), "mode=0755")?;
    loopback_up()
}

/// netdevice(7): `lo` exists in a new namespace, and is down.
fn loopback_up() -> std::io::Result<()> {
    // SAFETY: plain numbers; the result is checked before it becomes an owned descriptor.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and belongs to nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: libc::IFF_UP as libc::c_short },
    };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    // SAFETY: the socket is open, and `request` is a live `ifreq`, as SIOCSIFFLAGS takes.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}
