//! Terminals: a pty of the container's own devpts instance (pty(7)).

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use coracle_host::{Call, Error, Kind, PidFd, Result, Root};
use rustix::fs::{CWD, FileType, Mode, OFlags, Uid, fchown, fstat, fstatfs, openat};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetwinsize, tcsetwinsize};

use crate::running;
use crate::stdio::high;

/// How large a terminal is, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.columns, self.rows)
    }
}

/// Our side of a process's terminal: what is written to it is typed, what the process writes is read from it. Where no
/// process has the terminal open any more, reading fails with `EIO`.
#[derive(Debug)]
pub struct Terminal {
    master: OwnedFd,
}

impl Terminal {
    /// Takes the master of a pty that came from elsewhere.
    pub fn from_fd(master: OwnedFd) -> Terminal {
        Terminal { master }
    }

    /// Another handle on the same terminal. They share whether reads and writes block.
    ///
    /// # Errors
    /// As of fcntl(2): `EMFILE`.
    pub fn try_clone(&self) -> Result<Terminal> {
        Ok(Terminal { master: self.master.try_clone().call(|| "fcntl(terminal, F_DUPFD_CLOEXEC)")? })
    }

    /// How large the process believes it to be.
    ///
    /// # Errors
    /// As of ioctl_tty(2), `TIOCGWINSZ`.
    pub fn size(&self) -> Result<Size> {
        let size = tcgetwinsize(&self.master).call(|| "ioctl(terminal, TIOCGWINSZ)")?;
        Ok(Size { columns: size.ws_col, rows: size.ws_row })
    }

    /// Tells the process the size; where that is another one it gets a `SIGWINCH`.
    ///
    /// # Errors
    /// As of ioctl_tty(2), `TIOCSWINSZ`.
    pub fn resize(&self, size: Size) -> Result<()> {
        let size = Winsize { ws_col: size.columns, ws_row: size.rows, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).call(|| "ioctl(terminal, TIOCSWINSZ)")
    }

    /// Sends it over a connected unix socket, as the runtimes' `--console-socket` has it: one message with the
    /// terminal's name in the container and the descriptor.
    ///
    /// # Errors
    /// As of sendmsg(2).
    pub fn send(&self, socket: BorrowedFd<'_>) -> Result<()> {
        let name = ptsname(&self.master, Vec::new()).call(|| "ioctl(terminal, TIOCGPTN)")?;
        coracle_host::send_fds(socket, name.to_bytes(), &[self.master.as_fd()])
    }
}

impl AsFd for Terminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.master.as_fd()
    }
}

impl From<Terminal> for OwnedFd {
    fn from(terminal: Terminal) -> OwnedFd {
        terminal.master
    }
}

/// Both sides of a new terminal.
pub(crate) struct Pair {
    pub(crate) ours: Terminal,
    /// Numbered 3 or higher.
    pub(crate) theirs: OwnedFd,
}

/// What a process's terminal is to be like.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) size: Option<Size>,
    /// Whose it is, as the host counts.
    pub(crate) uid: u32,
}

const ACCESS: OFlags = OFlags::RDWR.union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// A terminal of the devpts instance that this is a mount of.
pub(crate) fn open(devpts: BorrowedFd<'_>, wanted: Wanted) -> Result<Pair> {
    let master = openat(devpts, "ptmx", ACCESS, Mode::empty()).call(|| "open(devpts, \"ptmx\")")?;
    pair(master, wanted)
}

/// A terminal of the devpts instance that is mounted at `/dev/pts` in a running container. What is there may have been
/// put there by the container: it is opened for use only when it is known to be a devpts's own ptmx.
pub(crate) fn open_in(container: &PidFd, wanted: Wanted) -> Result<Pair> {
    const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;
    let root = running::root_of(container)?;
    let ptmx = Root::new(root.as_fd(), "container's root").open("/dev/pts/ptmx", OFlags::PATH)?;
    let stat = fstat(&ptmx).call(|| "fstat(/dev/pts/ptmx)")?;
    let device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    let magic = fstatfs(&ptmx).call(|| "fstatfs(/dev/pts/ptmx)")?.f_type;
    if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice
        || device != (5, 2)
        || magic != DEVPTS_SUPER_MAGIC
    {
        let what = "the container's /dev/pts/ptmx is not the one of a devpts instance";
        return Err(Error::new(Kind::Invalid, what));
    }
    let again = format!("/proc/self/fd/{}", ptmx.as_raw_fd());
    pair(openat(CWD, &again, ACCESS, Mode::empty()).call(|| "open(/dev/pts/ptmx)")?, wanted)
}

fn pair(master: OwnedFd, wanted: Wanted) -> Result<Pair> {
    unlockpt(&master).call(|| "ioctl(terminal, TIOCSPTLCK)")?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let theirs = high(ioctl_tiocgptpeer(&master, flags).call(|| "ioctl(terminal, TIOCGPTPEER)")?)?;
    // Its group stays the one that the instance gives its terminals.
    fchown(&theirs, Some(Uid::from_raw(wanted.uid)), None).call(|| "fchown(terminal)")?;
    let ours = Terminal::from_fd(master);
    if let Some(size) = wanted.size {
        ours.resize(size)?;
    }
    Ok(Pair { ours, theirs })
}
