//! What a child tells its parent: eight bytes at a time.

use rustix::fd::BorrowedFd;
use rustix::io::Errno;

/// An operation that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its index in the list.
    pub step: u32,
    /// Why.
    pub errno: Errno,
}

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// An operation failed; the child has ended.
    Failed(Failure),
    /// [`crate::Op::Again`] made a second child with this process id.
    Again(u32),
}

const AGAIN: u32 = u32::MAX;

impl Report {
    pub(crate) fn send(self, pipe: BorrowedFd<'_>) {
        let (step, value) = match self {
            Report::Failed(failure) => (failure.step, failure.errno.raw_os_error()),
            Report::Again(pid) => (AGAIN, pid as i32),
        };
        let mut bytes = [0u8; 8];
        bytes[..4].copy_from_slice(&step.to_ne_bytes());
        bytes[4..].copy_from_slice(&value.to_ne_bytes());
        // Eight bytes go into a pipe at once or not at all; without a reader there is nobody to tell.
        let _ = rustix::io::write(pipe, &bytes);
    }

    /// Reads one message from the pipe, without waiting where it is non-blocking. `None`: there is none.
    ///
    /// # Errors
    /// As of read(2), but `EAGAIN`; `EIO` for a message cut short.
    pub(crate) fn receive(pipe: BorrowedFd<'_>) -> Result<Option<Report>, Errno> {
        let mut bytes = [0u8; 8];
        let read = loop {
            match rustix::io::read(pipe, &mut bytes) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(None),
                other => break other?,
            }
        };
        let [a, b, c, d, e, f, g, h] = bytes;
        let (step, value) = (u32::from_ne_bytes([a, b, c, d]), i32::from_ne_bytes([e, f, g, h]));
        match read {
            0 => Ok(None),
            8 if step == AGAIN => Ok(Some(Report::Again(value as u32))),
            8 => Ok(Some(Report::Failed(Failure { step, errno: Errno::from_raw_os_error(value) }))),
            _ => Err(Errno::IO),
        }
    }
}
