//! Where descriptors are that are held for long.

use std::os::fd::{AsRawFd, OwnedFd};

/// The lowest number of a descriptor that is out of the way.
const HIGH: i32 = 512;

/// Moves a descriptor that is held for long out of the way, to a high number, where there is one to be had. A new process
/// gets copies of those with low numbers only (`coracle_launch::start`): what thousands of containers hold stays out of it.
///
/// The first one makes the kernel grow the table of descriptors; where there are several threads that takes one grace period
/// of RCU, once in the life of the process.
#[must_use = "the descriptor has another number now"]
pub fn aside(fd: OwnedFd) -> OwnedFd {
    if fd.as_raw_fd() >= HIGH {
        return fd;
    }
    rustix::io::fcntl_dupfd_cloexec(&fd, HIGH).unwrap_or(fd)
}
