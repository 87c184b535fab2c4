//! Paths inside a tree that others wrote.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

use crate::{Call, Error, Kind, Result};

/// How many links may be followed in one path, as path_resolution(7) has it.
const MAX_LINKS: usize = 40;

/// What of a tree that others wrote is read into memory at most, in bytes.
const LONGEST: u64 = 16 << 20;

/// A directory taken as the root of its own world: absolute links and `..` in it stay in it (openat2(2) with
/// `RESOLVE_IN_ROOT`), and magic links are refused. This is how paths from images, Dockerfiles and container
/// specs are looked up. Paths given may be absolute or relative; both start at the root.
#[derive(Clone, Copy)]
pub struct Root<'fd> {
    fd: BorrowedFd<'fd>,
    label: &'fd str,
}

impl<'fd> Root<'fd> {
    /// A root at `fd`. `label` says in messages whose root it is: `openat2(snapshot of acc:1, "/etc/passwd")`.
    pub fn new(fd: BorrowedFd<'fd>, label: &'fd str) -> Root<'fd> {
        Root { fd, label }
    }

    /// Opens what `path` leads to.
    ///
    /// # Errors
    /// As of openat2(2).
    pub fn open(&self, path: impl AsRef<Path>, flags: OFlags) -> Result<OwnedFd> {
        self.open_mode(path, flags, 0)
    }

    /// [`Root::open`] with the `mode` of a file that it may create.
    ///
    /// # Errors
    /// As of openat2(2).
    pub fn open_mode(&self, path: impl AsRef<Path>, flags: OFlags, mode: u32) -> Result<OwnedFd> {
        let path = path.as_ref();
        self.try_open(path, flags, mode).call(|| format!("openat2({}, {path:?})", self.label))
    }

    /// The bytes of the file that `path` leads to, 16 MiB at most. What is no file of bytes is not opened: whoever wrote the
    /// tree may have put a device there.
    ///
    /// # Errors
    /// As of openat2(2) and read(2); `Invalid` for what is no regular file, or longer.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Vec<u8>> {
        let path = path.as_ref();
        let call = |name: &str| format!("{name}({}, {path:?})", self.label);
        let invalid = |why: &str| Error::new(Kind::Invalid, format!("{}: {why}", call("read")));
        let there = self.open(path, OFlags::PATH)?;
        let stat = rustix::fs::fstat(&there).call(|| call("fstat"))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(invalid("it is no regular file"));
        }
        let again = format!("/proc/self/fd/{}", there.as_raw_fd());
        let file = rustix::fs::open(&again, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let mut bytes = Vec::new();
        let file = File::from(file.call(|| call("open"))?);
        file.take(LONGEST + 1).read_to_end(&mut bytes).call(|| call("read"))?;
        if bytes.len() as u64 > LONGEST {
            return Err(invalid("it is longer than 16 MiB"));
        }
        Ok(bytes)
    }

    /// The bytes of the file that `path` leads to, or `None` where it leads nowhere.
    ///
    /// # Errors
    /// As of [`Root::read`], but `ENOENT` and `ENOTDIR`.
    pub fn read_if_there(&self, path: impl AsRef<Path>) -> Result<Option<Vec<u8>>> {
        match self.read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if matches!(error.errno(), Some(Errno::NOENT | Errno::NOTDIR)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens (`O_PATH`) the directory that `path` leads to, making what is missing on the way with `mode` and, where
    /// given, the owner. A link that dangles inside the root is followed, and its target made.
    ///
    /// # Errors
    /// As of openat2(2) and mkdirat(2); `ENOTDIR` where a file is in the way.
    pub fn make_dirs(&self, path: impl AsRef<Path>, mode: u32, owner: Option<(u32, u32)>) -> Result<OwnedFd> {
        let path = path.as_ref();
        let mut links = MAX_LINKS;
        self.make(path, mode, owner, &mut links).call(|| format!("mkdir({}, {path:?})", self.label))
    }

    /// The existing directory that holds the last component of `path` (opened `O_PATH`), and that component.
    /// The last component itself is not looked at: links there are the caller's to decide on.
    ///
    /// # Errors
    /// As of openat2(2); `Invalid` where the path has no last component (`/`, `..`).
    pub fn parent(&self, path: impl AsRef<Path>) -> Result<(OwnedFd, OsString)> {
        let path = path.as_ref();
        let Some((parent, name)) = split(path) else {
            return Err(Error::new(
                Kind::Invalid,
                format!("{path:?} names no entry below the root of {}", self.label),
            ));
        };
        let fd = self.open(parent, OFlags::PATH | OFlags::DIRECTORY)?;
        Ok((fd, name.to_owned()))
    }

    fn try_open(&self, path: &Path, flags: OFlags, mode: u32) -> rustix::io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        loop {
            let mode = Mode::from_raw_mode(mode);
            // EAGAIN: something was renamed while the kernel walked; it could not be sure to have stayed inside.
            match rustix::fs::openat2(self.fd, path, flags | OFlags::CLOEXEC, mode, resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
    }

    fn make(
        &self,
        path: &Path,
        mode: u32,
        owner: Option<(u32, u32)>,
        links: &mut usize,
    ) -> rustix::io::Result<OwnedFd> {
        let open = OFlags::PATH | OFlags::DIRECTORY;
        match self.try_open(path, open, 0) {
            Err(Errno::NOENT) => {}
            other => return other,
        }
        let (parent_path, name) = split(path).ok_or(Errno::NOENT)?;
        let parent = self.make(parent_path, mode, owner, links)?;
        match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(mode)) {
            Ok(()) => {
                // Whatever the umask of the program that this is part of.
                rustix::fs::chmodat(&parent, name, Mode::from_raw_mode(mode), AtFlags::empty())?;
                if let Some((uid, gid)) = owner {
                    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
                    rustix::fs::chownat(&parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
                }
                self.try_open(path, open, 0)
            }
            Err(Errno::EXIST) => {
                // Either somebody was faster, or it is a link that leads nowhere yet.
                match rustix::fs::readlinkat(&parent, name, Vec::new()) {
                    Ok(target) if *links > 0 => {
                        *links -= 1;
                        use std::os::unix::ffi::OsStrExt;
                        let target: PathBuf = parent_path.join(OsStr::from_bytes(target.to_bytes()));
                        self.make(&target, mode, owner, links)
                    }
                    Ok(_) => Err(Errno::LOOP),
                    Err(Errno::INVAL) => self.try_open(path, open, 0),
                    Err(errno) => Err(errno),
                }
            }
            Err(errno) => Err(errno),
        }
    }
}

impl AsFd for Root<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd
    }
}

impl std::fmt::Debug for Root<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Root({})", self.label)
    }
}

fn split(path: &Path) -> Option<(&Path, &OsStr)> {
    match path.components().next_back()? {
        Component::Normal(name) => Some((path.parent().unwrap_or(Path::new("")), name)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_stay_inside() {
        let place = tempfile::tempdir().unwrap();
        let at = place.path();
        std::fs::create_dir_all(at.join("etc")).unwrap();
        std::fs::write(at.join("etc/passwd"), "inside").unwrap();
        symlink("/etc/passwd", at.join("abs")).unwrap();
        symlink("../../../../../../etc/passwd", at.join("up")).unwrap();
        symlink("/run", at.join("dangling")).unwrap();
        symlink("loop", at.join("loop")).unwrap();
        let fd = File::open(at).unwrap();
        let root = Root::new(fd.as_fd(), "test");
        assert_eq!(root.read("abs").unwrap(), b"inside");
        assert_eq!(root.read("/up").unwrap(), b"inside");
        assert_eq!(root.read_if_there("/none/x").unwrap(), None);
        root.make_dirs("dangling/a/b", 0o755, None).unwrap();
        assert!(at.join("run/a/b").is_dir());
        let error = root.make_dirs("loop/x", 0o755, None).unwrap_err();
        assert!(error.to_string().starts_with("mkdir(test, \"loop/x\"): "), "{error}");
        assert_eq!(root.make_dirs("abs/x", 0o755, None).unwrap_err().errno(), Some(Errno::NOTDIR));
        assert_eq!(root.parent("/etc/new").unwrap().1, "new");
        assert_eq!(root.parent("/").unwrap_err().kind(), Kind::Invalid);
    }
}
