//! Processes as descriptors (pidfd_open(2)).
#![allow(unsafe_code)] // PIDFD_GET_INFO has no safe wrapper yet

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};

use crate::{Call, Result};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Exit {
    /// It called exit(3) with this status (0 to 255).
    Code(u8),
    /// This signal killed it.
    Signal(u8),
    /// It ended, and somebody else in this process took the status first (`waitpid(-1)`) on a kernel that doesn't
    /// keep it (before 6.15).
    Unknown,
}

impl Exit {
    /// Whether it ended by exit(0).
    pub fn success(self) -> bool {
        self == Exit::Code(0)
    }

    /// The status as a shell has it: the code, or 128 plus the signal; 255 where it is unknown.
    pub fn code(self) -> u8 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => signal.saturating_add(128),
            Exit::Unknown => 255,
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exit status {code}"),
            Exit::Signal(9) => f.write_str("killed by signal 9 (SIGKILL)"),
            Exit::Signal(signal) => write!(f, "killed by signal {signal}"),
            Exit::Unknown => f.write_str("ended, status unknown"),
        }
    }
}

/// A process that can't be mistaken for another one, however often its number is reused.
#[derive(Debug)]
pub struct PidFd {
    fd: OwnedFd,
}

impl PidFd {
    /// The process that has this number now.
    ///
    /// # Errors
    /// As of pidfd_open(2): `ESRCH` (kind `NotFound`) where there is none.
    pub fn open(pid: u32) -> Result<PidFd> {
        let call = || format!("pidfd_open({pid})");
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH).call(call)?;
        Ok(PidFd { fd: pidfd_open(pid, PidfdFlags::empty()).call(call)? })
    }

    /// Takes a pidfd that came from clone3(2) or another process.
    pub fn from_fd(fd: OwnedFd) -> PidFd {
        PidFd { fd }
    }

    /// Another handle on the same process.
    ///
    /// # Errors
    /// As of fcntl(2): `EMFILE`.
    pub fn try_clone(&self) -> Result<PidFd> {
        Ok(PidFd { fd: self.fd.try_clone().call(|| "fcntl(pidfd, F_DUPFD_CLOEXEC)")? })
    }

    /// Sends a signal (1 to 64). That the process has ended is fine: `false`.
    ///
    /// # Errors
    /// As of pidfd_send_signal(2).
    pub fn signal(&self, signal: u8) -> Result<bool> {
        let call = || format!("pidfd_send_signal({signal})");
        let named = Signal::from_named_raw(i32::from(signal));
        let sent = match named {
            Some(signal) => pidfd_send_signal(&self.fd, signal),
            None => self.signal_raw(signal),
        };
        match sent {
            Ok(()) => Ok(true),
            Err(Errno::SRCH) => Ok(false),
            Err(errno) => Err(errno).call(call),
        }
    }

    fn signal_raw(&self, signal: u8) -> rustix::io::Result<()> {
        // SAFETY: the fd is open for the whole call; a null siginfo means "as kill(2)"; the flags are none.
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.fd.as_raw_fd(),
                i32::from(signal),
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        if result == 0 { Ok(()) } else { Err(last_errno()) }
    }

    /// Its number in the pid namespace that the mounted `/proc` shows. As soon as the process is reaped the number may be
    /// somebody else's: what was done with it counts only if [`signal`](PidFd::signal)ling 0 finds the process afterwards.
    ///
    /// # Errors
    /// As of reading `/proc/self/fdinfo`; `NotFound` where it was reaped or is not in this pid namespace.
    pub fn pid(&self) -> Result<u32> {
        let path = format!("/proc/self/fdinfo/{}", self.fd.as_raw_fd());
        let text = std::fs::read_to_string(&path).call(|| format!("read({path:?})"))?;
        let number = text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
        number.filter(|pid| *pid != 0).ok_or(Errno::SRCH).call(|| "find the number of a process")
    }

    /// Waits until the process has ended, at most for `timeout`. Whether it has.
    ///
    /// # Errors
    /// As of poll(2).
    pub fn ended_within(&self, timeout: Option<Duration>) -> Result<bool> {
        let deadline = timeout.map(|timeout| std::time::Instant::now() + timeout);
        loop {
            let left = deadline.map(|at| at.saturating_duration_since(std::time::Instant::now()));
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
            match poll(&mut fds, left.as_ref()) {
                Ok(ready) => return Ok(ready > 0),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno).call(|| "poll(pidfd)"),
            }
        }
    }

    /// Waits for a child of this process to end, and reaps it.
    ///
    /// # Errors
    /// As of waitid(2).
    pub fn reap(&self) -> Result<Exit> {
        let all = WaitIdOptions::from_bits_retain(libc::__WALL as u32); // also before exec set its exit signal
        loop {
            match waitid(WaitId::PidFd(self.fd.as_fd()), WaitIdOptions::EXITED | all) {
                Ok(Some(status)) => {
                    let byte = |value: Option<i32>| value.and_then(|value| u8::try_from(value).ok());
                    return Ok(match (byte(status.exit_status()), byte(status.terminating_signal())) {
                        (Some(code), _) => Exit::Code(code),
                        (None, Some(signal)) => Exit::Signal(signal),
                        (None, None) => Exit::Unknown,
                    });
                }
                Ok(None) | Err(Errno::INTR) => {}
                Err(Errno::CHILD) => {
                    self.ended_within(None)?;
                    return Ok(self.exit_kept());
                }
                Err(errno) => return Err(errno).call(|| "waitid(pidfd)"),
            }
        }
    }

    /// How a process that is not (or no longer) ours to wait for has ended, as far as the kernel keeps it:
    /// `PIDFD_GET_INFO` with `PIDFD_INFO_EXIT`, Linux 6.15.
    pub fn exit_kept(&self) -> Exit {
        #[repr(C)]
        #[derive(Default)]
        struct PidfdInfo {
            mask: u64,
            cgroupid: u64,
            ids: [u32; 11],
            exit_code: i32,
        }
        const PIDFD_INFO_EXIT: u64 = 1 << 3;
        const PIDFD_GET_INFO: libc::c_ulong = 0xc000_ff0b | ((size_of::<PidfdInfo>() as libc::c_ulong) << 16);
        let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, ..PidfdInfo::default() };
        // SAFETY: the fd is open, and `info` is a live struct of the size that the request number carries.
        let result = unsafe { libc::ioctl(self.fd.as_raw_fd(), PIDFD_GET_INFO as _, &raw mut info) };
        if result != 0 || info.mask & PIDFD_INFO_EXIT == 0 {
            return Exit::Unknown;
        }
        match (info.exit_code & 0x7f, (info.exit_code >> 8) & 0xff) {
            (0, code) => Exit::Code(code as u8),
            (signal, _) => Exit::Signal(signal as u8),
        }
    }
}

impl From<PidFd> for OwnedFd {
    fn from(pidfd: PidFd) -> OwnedFd {
        pidfd.fd
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The process that connected, or listened, at the other end of a unix socket, as this pid namespace counts (unix(7),
/// `SO_PEERCRED`). `None` for one from outside of it.
///
/// # Errors
/// As of getsockopt(2).
pub fn peer(socket: impl AsFd) -> Result<Option<u32>> {
    let found = nix::sys::socket::getsockopt(&socket.as_fd(), nix::sys::socket::sockopt::PeerCredentials);
    let found =
        found.map_err(|errno| Errno::from_raw_os_error(errno as i32)).call(|| "getsockopt(SO_PEERCRED)")?;
    Ok(u32::try_from(found.pid()).ok().filter(|pid| *pid != 0))
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    #[expect(clippy::zombie_processes, reason = "the pidfd reaps them")]
    fn reaps_and_kills() {
        let child = Command::new("/bin/sh").args(["-c", "exit 7"]).spawn().unwrap();
        let pidfd = PidFd::open(child.id()).unwrap();
        assert_eq!(pidfd.pid().unwrap(), child.id());
        assert_eq!(pidfd.reap().unwrap(), Exit::Code(7));
        assert_eq!(pidfd.pid().unwrap_err().kind(), crate::Kind::NotFound);
        let child = Command::new("/bin/sleep").arg("1000").spawn().unwrap();
        let pidfd = PidFd::open(child.id()).unwrap();
        assert!(!pidfd.ended_within(Some(Duration::from_millis(5))).unwrap());
        assert!(pidfd.signal(9).unwrap());
        assert_eq!(pidfd.reap().unwrap(), Exit::Signal(9));
        assert!(!pidfd.signal(9).unwrap());
        assert_eq!(PidFd::open(u32::MAX).unwrap_err().kind(), crate::Kind::NotFound);
    }

    #[test]
    fn the_other_end_is_known() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(peer(&one).unwrap(), Some(std::process::id()));
        assert!(peer(std::fs::File::open("/").unwrap()).is_err());
    }

    #[test]
    fn a_stolen_status_is_known_or_said_to_be_unknown() {
        let mut child = Command::new("/bin/sh").args(["-c", "exit 3"]).spawn().unwrap();
        let pidfd = PidFd::open(child.id()).unwrap();
        child.wait().unwrap();
        assert!(matches!(pidfd.reap().unwrap(), Exit::Code(3) | Exit::Unknown));
    }
}
