//! Locks that die with their owner.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, fcntl};
use rustix::fs::{AtFlags, OFlags};
use rustix::io::Errno;

use crate::{Dir, Error, Result, aside};

/// A held lock: an open file description lock (fcntl_locking(2)) on a whole file. It is released when the
/// value is dropped, and by the kernel when the process dies, however it dies.
///
/// Lock files are never unlinked alone (those of a [`Claim`] apart), only together with the directory that they guard; taking one checks
/// that the locked inode is still the one at the name, so that a lock on a removed directory is never held
/// by mistake.
#[must_use = "a lock is released when it is dropped"]
pub struct Lock {
    fd: OwnedFd,
    path: PathBuf,
}

#[derive(Clone, Copy)]
enum Mode {
    Shared,
    Exclusive,
}

impl Lock {
    /// Takes the lock together with other shared holders, waiting while it is held exclusively.
    ///
    /// # Errors
    /// As of openat(2) and fcntl(2); `NotFound` when its directory was removed meanwhile.
    pub fn shared(dir: &Dir, name: impl AsRef<Path>) -> Result<Lock> {
        Lock::take(dir, name.as_ref(), Mode::Shared, true)?
            .ok_or_else(|| unreachable_busy(dir, name.as_ref()))
    }

    /// Takes the lock alone, waiting while anybody holds it.
    ///
    /// # Errors
    /// As of [`Lock::shared`].
    pub fn exclusive(dir: &Dir, name: impl AsRef<Path>) -> Result<Lock> {
        Lock::take(dir, name.as_ref(), Mode::Exclusive, true)?
            .ok_or_else(|| unreachable_busy(dir, name.as_ref()))
    }

    /// [`Lock::shared`] without waiting: `None` while it is held exclusively.
    ///
    /// # Errors
    /// As of [`Lock::shared`].
    pub fn try_shared(dir: &Dir, name: impl AsRef<Path>) -> Result<Option<Lock>> {
        Lock::take(dir, name.as_ref(), Mode::Shared, false)
    }

    /// [`Lock::exclusive`] without waiting: `None` while anybody holds it.
    ///
    /// # Errors
    /// As of [`Lock::shared`].
    pub fn try_exclusive(dir: &Dir, name: impl AsRef<Path>) -> Result<Option<Lock>> {
        Lock::take(dir, name.as_ref(), Mode::Exclusive, false)
    }

    /// Whether anybody (this process included) holds the lock in any way. Looks without taking it, so that a
    /// question never makes someone else's attempt fail.
    ///
    /// # Errors
    /// As of openat(2) and fcntl(2), but a missing file: nobody holds that.
    pub fn is_held(dir: &Dir, name: impl AsRef<Path>) -> Result<bool> {
        let name = name.as_ref();
        let fd = match dir.file(name, OFlags::RDWR, 0) {
            Ok(fd) => fd,
            Err(error) if error.errno() == Some(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(error),
        };
        let mut probe = whole_file(Mode::Exclusive);
        fcntl(&fd, FcntlArg::F_OFD_GETLK(&mut probe))
            .map_err(|errno| failed("F_OFD_GETLK", dir, name, errno))?;
        Ok(probe.l_type != libc::F_UNLCK as libc::c_short)
    }

    /// Makes an exclusive lock shared, without letting anybody in between take it exclusively.
    ///
    /// # Errors
    /// As of fcntl(2).
    pub fn downgrade(&self) -> Result<()> {
        fcntl(&self.fd, FcntlArg::F_OFD_SETLK(&whole_file(Mode::Shared))).map(drop).map_err(|errno| {
            Error::os(format!("fcntl({:?}, F_OFD_SETLK)", self.path), Errno::from_raw_os_error(errno as i32))
        })
    }

    /// Releases it now, whoever else has its descriptor. Dropping the value does so with the last descriptor only, and
    /// a process that is being started at that moment, by another thread, has a copy until it executes its program: so
    /// that is for where somebody asks right afterwards. That the kernel refuses is not possible for a lock that is held.
    pub fn release(self) {
        let mut nothing = whole_file(Mode::Shared);
        nothing.l_type = libc::F_UNLCK as libc::c_short;
        let _ = fcntl(&self.fd, FcntlArg::F_OFD_SETLK(&nothing));
    }

    fn take(dir: &Dir, name: &Path, mode: Mode, wait: bool) -> Result<Option<Lock>> {
        loop {
            let fd = dir.file(name, OFlags::RDWR | OFlags::CREATE, 0o600)?;
            let wanted = whole_file(mode);
            let arg = if wait { FcntlArg::F_OFD_SETLKW(&wanted) } else { FcntlArg::F_OFD_SETLK(&wanted) };
            match fcntl(&fd, arg) {
                Ok(_) => {}
                Err(nix::errno::Errno::EINTR) => continue,
                Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) => return Ok(None),
                Err(errno) => return Err(failed("F_OFD_SETLK", dir, name, errno)),
            }
            if still_there(dir, name, &fd)? {
                return Ok(Some(Lock { fd: aside(fd), path: dir.path_of(name) }));
            }
        }
    }
}

/// A lock of a file that is there only while somebody holds it: the sole right to do what the file's name says.
#[must_use = "a claim is given up when it is dropped"]
#[derive(Debug)]
pub struct Claim {
    dir: Dir,
    name: PathBuf,
    _lock: Lock,
}

impl Claim {
    /// Takes it, waiting while anybody has it, in this process or another.
    ///
    /// # Errors
    /// As of [`Lock::exclusive`].
    pub fn take(dir: &Dir, name: impl AsRef<Path>) -> Result<Claim> {
        let name = name.as_ref();
        let lock = Lock::exclusive(dir, name)?;
        Ok(Claim { dir: dir.clone(), name: name.to_owned(), _lock: lock })
    }
}

impl Drop for Claim {
    /// Removed while it is held: who waits for it finds that it is no longer at its name, and makes a new one. One
    /// that is left behind by a crash is taken by whoever claims the same next.
    fn drop(&mut self) {
        let _ = self.dir.remove_file(&self.name);
    }
}

/// The file at the name may have been removed with its directory while we waited; what we hold then guards nothing.
fn still_there(dir: &Dir, name: &Path, fd: &OwnedFd) -> Result<bool> {
    let held =
        rustix::fs::fstat(fd).map_err(|errno| Error::os(format!("fstat({:?})", dir.path_of(name)), errno))?;
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(named) => Ok(named.st_ino == held.st_ino && named.st_dev == held.st_dev),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(Error::os(format!("stat({:?})", dir.path_of(name)), errno)),
    }
}

fn whole_file(mode: Mode) -> libc::flock {
    let kind = match mode {
        Mode::Shared => libc::F_RDLCK,
        Mode::Exclusive => libc::F_WRLCK,
    };
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

fn failed(call: &str, dir: &Dir, name: &Path, errno: nix::errno::Errno) -> Error {
    Error::os(format!("fcntl({:?}, {call})", dir.path_of(name)), Errno::from_raw_os_error(errno as i32))
}

fn unreachable_busy(dir: &Dir, name: &Path) -> Error {
    Error::os(format!("fcntl({:?}, F_OFD_SETLKW)", dir.path_of(name)), Errno::AGAIN)
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl std::fmt::Debug for Lock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lock({:?})", self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_and_exclusive_exclude_each_other() {
        let place = tempfile::tempdir().unwrap();
        let dir = Dir::open(place.path()).unwrap();
        assert!(!Lock::is_held(&dir, "l").unwrap());
        let one = Lock::shared(&dir, "l").unwrap();
        let two = Lock::try_shared(&dir, "l").unwrap().expect("shared twice");
        assert!(Lock::is_held(&dir, "l").unwrap());
        assert!(Lock::try_exclusive(&dir, "l").unwrap().is_none());
        // Not just dropped: another test may start a process just now, which has copies of all descriptors until it executes.
        one.release();
        two.release();
        let alone = Lock::try_exclusive(&dir, "l").unwrap().expect("free now");
        assert!(Lock::try_shared(&dir, "l").unwrap().is_none());
        alone.downgrade().unwrap();
        Lock::try_shared(&dir, "l").unwrap().expect("shared with it").release();
        alone.release();
        assert!(!Lock::is_held(&dir, "l").unwrap());
    }

    #[test]
    fn released_although_there_is_a_copy() {
        let place = tempfile::tempdir().unwrap();
        let dir = Dir::open(place.path()).unwrap();
        let lock = Lock::exclusive(&dir, "l").unwrap();
        let copy = lock.as_fd().try_clone_to_owned().unwrap();
        drop(lock);
        assert!(Lock::is_held(&dir, "l").unwrap(), "as long as there is a descriptor");
        let lock = Lock { fd: copy, path: dir.path_of("l") };
        let copy = lock.as_fd().try_clone_to_owned().unwrap();
        lock.release();
        assert!(!Lock::is_held(&dir, "l").unwrap());
        drop(copy);
    }

    #[test]
    fn a_lock_on_a_removed_directory_is_not_held() {
        let place = tempfile::tempdir().unwrap();
        let top = Dir::open(place.path()).unwrap();
        let dir = top.make("d", 0o700).unwrap();
        let _held = Lock::exclusive(&dir, "l").unwrap();
        top.remove_tree("d").unwrap();
        assert_eq!(Lock::try_exclusive(&dir, "l").unwrap_err().errno(), Some(Errno::NOENT));
    }
}
