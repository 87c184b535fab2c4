//! Standard input, output and error.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use coracle_host::{Call, Result, aside};
use rustix::fs::{CWD, Gid, Mode, OFlags, Uid, fchown};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::pipe::{PipeFlags, pipe_with};

/// Where one of a process's three standard streams leads.
#[derive(Debug, Default)]
#[non_exhaustive]
pub enum Stdio {
    /// `/dev/null`.
    #[default]
    Null,
    /// The same as the starting program's.
    Inherit,
    /// A pipe, whose other end is in [`crate::Running`].
    Pipe,
    /// This descriptor.
    Fd(OwnedFd),
}

/// The child's three ends, none of which is overwritten while descriptors are put in place, and ours.
pub(crate) struct Streams {
    pub(crate) child: [OwnedFd; 3],
    pub(crate) ours: [Option<OwnedFd>; 3],
}

/// Opens the streams, the child's with numbers from `lowest` on. Pipes are given to `uid`, who may want to open them
/// anew by `/dev/stdout`.
pub(crate) fn open(streams: [Stdio; 3], uid: u32, gid: u32, lowest: u32) -> Result<Streams> {
    let [input, output, error] = streams;
    let (input, our_input) = one(input, 0, uid, gid)?;
    let (output, our_output) = one(output, 1, uid, gid)?;
    let (error, our_error) = one(error, 2, uid, gid)?;
    let child = [above(input, lowest)?, above(output, lowest)?, above(error, lowest)?];
    Ok(Streams { child, ours: [our_input, our_output, our_error] })
}

fn one(stdio: Stdio, number: usize, uid: u32, gid: u32) -> Result<(OwnedFd, Option<OwnedFd>)> {
    let null = || {
        let flags = if number == 0 { OFlags::RDONLY } else { OFlags::WRONLY };
        rustix::fs::openat(CWD, "/dev/null", flags | OFlags::CLOEXEC, Mode::empty())
            .call(|| "open(\"/dev/null\")")
    };
    match stdio {
        Stdio::Null => Ok((high(null()?)?, None)),
        Stdio::Fd(fd) => Ok((high(fd)?, None)),
        Stdio::Inherit => {
            let same = match number {
                0 => dup_high(std::io::stdin().as_fd()),
                1 => dup_high(std::io::stdout().as_fd()),
                _ => dup_high(std::io::stderr().as_fd()),
            };
            Ok((same?, None))
        }
        Stdio::Pipe => {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC).call(|| "pipe2()")?;
            let (theirs, ours) = if number == 0 { (read, write) } else { (write, read) };
            fchown(&theirs, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).call(|| "fchown(pipe)")?;
            Ok((high(theirs)?, Some(aside(ours))))
        }
    }
}

/// The same, numbered 3 or higher.
pub(crate) fn high(fd: OwnedFd) -> Result<OwnedFd> {
    above(fd, 3)
}

/// The same, with this number or a higher one.
pub(crate) fn above(fd: OwnedFd, lowest: u32) -> Result<OwnedFd> {
    coracle_launch::above(fd, lowest as i32).call(|| "fcntl(F_DUPFD_CLOEXEC)")
}

/// A copy, with this number or a higher one.
pub(crate) fn copy_above(fd: BorrowedFd<'_>, lowest: u32) -> Result<OwnedFd> {
    fcntl_dupfd_cloexec(fd, lowest as i32).call(|| "fcntl(F_DUPFD_CLOEXEC)")
}

fn dup_high(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    fcntl_dupfd_cloexec(fd, 3).call(|| "fcntl(standard stream, F_DUPFD_CLOEXEC)")
}
