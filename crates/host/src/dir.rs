//! A directory as an owned descriptor, with its path kept for messages.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::{Call, Error, Result, tree};

/// An open directory. All operations are relative to its descriptor, so that they reach the same directory
/// whatever is renamed meanwhile; the path is only for messages. Cheap to clone.
///
/// Names given to its methods are single components or relative paths inside trees that this program wrote.
/// For trees that others wrote see [`crate::Root`].
#[derive(Clone)]
pub struct Dir {
    fd: Arc<OwnedFd>,
    path: Arc<PathBuf>,
}

const OPEN: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Dir {
    /// Opens an existing directory (following links, as the caller's path may have them).
    ///
    /// # Errors
    /// As of openat(2).
    pub fn open(path: impl AsRef<Path>) -> Result<Dir> {
        let path = path.as_ref();
        let fd = rustix::fs::openat(CWD, path, OPEN, Mode::empty()).call(|| format!("open({path:?})"))?;
        Ok(Dir { fd: Arc::new(fd), path: Arc::new(path.to_owned()) })
    }

    /// Opens a directory, creating it and its parents with `mode` (before the umask) where they are missing.
    ///
    /// # Errors
    /// As of mkdir(2) and openat(2).
    pub fn create(path: impl AsRef<Path>, mode: u32) -> Result<Dir> {
        use std::os::unix::fs::DirBuilderExt;
        let path = path.as_ref();
        let made = std::fs::DirBuilder::new().recursive(true).mode(mode).create(path);
        made.call(|| format!("mkdir({path:?})"))?;
        Dir::open(path)
    }

    /// Takes a directory descriptor that came from elsewhere. `path` is for messages.
    pub fn from_fd(fd: OwnedFd, path: impl Into<PathBuf>) -> Dir {
        Dir { fd: Arc::new(fd), path: Arc::new(path.into()) }
    }

    /// The same, [`aside`](crate::aside): for one that is held for long. Clones from before stay where they are.
    ///
    /// # Errors
    /// As of fcntl(2), where there are clones.
    pub fn aside(self) -> Result<Dir> {
        let fd = match Arc::try_unwrap(self.fd) {
            Ok(fd) => fd,
            Err(shared) => shared.try_clone().call(|| format!("fcntl({:?}, F_DUPFD_CLOEXEC)", self.path))?,
        };
        Ok(Dir { fd: Arc::new(crate::aside(fd)), path: self.path })
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of an entry, for messages and for programs that want a path.
    pub fn path_of(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Opens a directory below this one. A symbolic link in its place is refused.
    ///
    /// # Errors
    /// As of openat(2): `ENOENT`, `ENOTDIR`, `ELOOP` and the rest.
    pub fn dir(&self, name: impl AsRef<Path>) -> Result<Dir> {
        let name = name.as_ref();
        let fd = rustix::fs::openat(&self.fd, name, OPEN | OFlags::NOFOLLOW, Mode::empty())
            .call(|| format!("open({:?})", self.path_of(name)))?;
        Ok(Dir { fd: Arc::new(fd), path: Arc::new(self.path_of(name)) })
    }

    /// [`Dir::dir`], or `None` where there is nothing of that name.
    ///
    /// # Errors
    /// As of openat(2), but `ENOENT`.
    pub fn dir_if_there(&self, name: impl AsRef<Path>) -> Result<Option<Dir>> {
        missing_is_none(self.dir(name))
    }

    /// Opens the directory `name`, creating it with `mode` where it is missing.
    ///
    /// # Errors
    /// As of mkdirat(2) and openat(2).
    pub fn make(&self, name: impl AsRef<Path>, mode: u32) -> Result<Dir> {
        let name = name.as_ref();
        match rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(mode)) {
            Ok(()) | Err(Errno::EXIST) => self.dir(name),
            Err(errno) => Err(Error::os(format!("mkdir({:?})", self.path_of(name)), errno)),
        }
    }

    /// Creates the directory `name` and opens it.
    ///
    /// # Errors
    /// `AlreadyExists` where there is anything of that name; else as of mkdirat(2).
    pub fn make_new(&self, name: impl AsRef<Path>, mode: u32) -> Result<Dir> {
        let name = name.as_ref();
        rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(mode))
            .call(|| format!("mkdir({:?})", self.path_of(name)))?;
        self.dir(name)
    }

    /// Opens a file of this directory with `flags` (CLOEXEC and NOFOLLOW are added) and, where it creates one, `mode`.
    ///
    /// # Errors
    /// As of openat(2).
    pub fn file(&self, name: impl AsRef<Path>, flags: OFlags, mode: u32) -> Result<OwnedFd> {
        let name = name.as_ref();
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::openat(&self.fd, name, flags, Mode::from_raw_mode(mode))
            .call(|| format!("open({:?})", self.path_of(name)))
    }

    /// The bytes of a file.
    ///
    /// # Errors
    /// As of openat(2) and read(2).
    pub fn read(&self, name: impl AsRef<Path>) -> Result<Vec<u8>> {
        let name = name.as_ref();
        let mut bytes = Vec::new();
        std::fs::File::from(self.file(name, OFlags::RDONLY, 0)?)
            .read_to_end(&mut bytes)
            .call(|| format!("read({:?})", self.path_of(name)))?;
        Ok(bytes)
    }

    /// The bytes of a file, or `None` where there is none.
    ///
    /// # Errors
    /// As of [`Dir::read`], but `ENOENT`.
    pub fn read_if_there(&self, name: impl AsRef<Path>) -> Result<Option<Vec<u8>>> {
        missing_is_none(self.read(name))
    }

    /// The names of its entries, sorted by byte value, without `.` and `..`.
    ///
    /// # Errors
    /// As of openat(2) and getdents64(2).
    pub fn names(&self) -> Result<Vec<OsString>> {
        let mut names = names(&*self.fd).call(|| format!("getdents({:?})", self.path))?;
        names.sort();
        Ok(names)
    }

    /// [`Dir::names`] with the inode of each, as getdents64(2) gives it: on an overlay not always that of stat(2).
    ///
    /// # Errors
    /// As of [`Dir::names`].
    pub fn inodes(&self) -> Result<Vec<(OsString, u64)>> {
        let mut entries = entries(&*self.fd).call(|| format!("getdents({:?})", self.path))?;
        entries.sort();
        Ok(entries)
    }

    /// Whether it has no entries.
    ///
    /// # Errors
    /// As of [`Dir::names`].
    pub fn is_empty(&self) -> Result<bool> {
        self.names().map(|names| names.is_empty())
    }

    /// Whether there is anything of that name (a dangling link counts).
    ///
    /// # Errors
    /// As of fstatat(2), but `ENOENT`.
    pub fn has(&self, name: impl AsRef<Path>) -> Result<bool> {
        let name = name.as_ref();
        let found = rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)
            .call(|| format!("stat({:?})", self.path_of(name)));
        Ok(missing_is_none(found)?.is_some())
    }

    /// Whether `dir` is what is at `name` here now: after waiting for a lock in it, it may have been moved away.
    ///
    /// # Errors
    /// As of fstat(2) and fstatat(2), but `ENOENT`.
    pub fn has_still(&self, name: impl AsRef<Path>, dir: &Dir) -> Result<bool> {
        let name = name.as_ref();
        let held = rustix::fs::fstat(dir).call(|| format!("fstat({:?})", dir.path))?;
        let found = rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)
            .call(|| format!("stat({:?})", self.path_of(name)));
        Ok(missing_is_none(found)?.is_some_and(|it| it.st_ino == held.st_ino && it.st_dev == held.st_dev))
    }

    /// Removes a file. That it is missing is an error.
    ///
    /// # Errors
    /// As of unlinkat(2).
    pub fn remove_file(&self, name: impl AsRef<Path>) -> Result<()> {
        let name = name.as_ref();
        rustix::fs::unlinkat(&self.fd, name, AtFlags::empty())
            .call(|| format!("unlink({:?})", self.path_of(name)))
    }

    /// Removes a file or a directory with all below it, never following links out of it. That it is missing is fine:
    /// the result is the same.
    ///
    /// # Errors
    /// The first failure, after everything else that could be removed was; `InUse` where something is mounted in the
    /// tree, whose contents are left alone.
    pub fn remove_tree(&self, name: impl AsRef<Path>) -> Result<()> {
        let name = name.as_ref();
        tree::remove(self.as_fd(), name.as_os_str(), &self.path)
    }

    /// Renames an entry into `to`, replacing what is there as rename(2) does. Not durable before `to.sync()`.
    ///
    /// # Errors
    /// As of renameat2(2).
    pub fn rename(&self, name: impl AsRef<Path>, to: &Dir, new: impl AsRef<Path>) -> Result<()> {
        self.rename_with(name.as_ref(), to, new.as_ref(), RenameFlags::empty())
    }

    /// Renames an entry into `to` where nothing of that name is there yet.
    ///
    /// # Errors
    /// `AlreadyExists` (errno `EEXIST`), else as of renameat2(2).
    pub fn rename_new(&self, name: impl AsRef<Path>, to: &Dir, new: impl AsRef<Path>) -> Result<()> {
        self.rename_with(name.as_ref(), to, new.as_ref(), RenameFlags::NOREPLACE)
    }

    fn rename_with(&self, name: &Path, to: &Dir, new: &Path, flags: RenameFlags) -> Result<()> {
        rustix::fs::renameat_with(&self.fd, name, &to.fd, new, flags)
            .call(|| format!("rename({:?}, {:?})", self.path_of(name), to.path_of(new)))
    }

    /// Makes its entries durable (fsync(2) of the directory).
    ///
    /// # Errors
    /// As of fsync(2).
    pub fn sync(&self) -> Result<()> {
        rustix::fs::fsync(&self.fd).call(|| format!("fsync({:?})", self.path))
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl std::fmt::Debug for Dir {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dir({:?})", self.path)
    }
}

fn missing_is_none<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.errno() == Some(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The entries of a directory but `.` and `..`, in no order.
pub(crate) fn names(dir: impl AsFd) -> rustix::io::Result<Vec<OsString>> {
    Ok(entries(dir)?.into_iter().map(|(name, _)| name).collect())
}

fn entries(dir: impl AsFd) -> rustix::io::Result<Vec<(OsString, u64)>> {
    let mut entries = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        match entry.file_name().to_bytes() {
            b"." | b".." => {}
            name => entries.push((OsStr::from_bytes(name).to_owned(), entry.ino())),
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn makes_reads_and_removes() {
        let place = tempfile::tempdir().unwrap();
        let dir = Dir::create(place.path().join("a/b"), 0o755).unwrap();
        std::fs::write(dir.path_of("f"), "text").unwrap();
        dir.make("d", 0o755).unwrap().make("e", 0o755).unwrap();
        std::os::unix::fs::symlink("/etc", dir.path_of("d/link")).unwrap();
        assert_eq!(dir.names().unwrap(), ["d", "f"]);
        let inode = |name: &str| std::fs::metadata(dir.path_of(name)).map(|stat| stat.ino()).unwrap();
        assert_eq!(dir.inodes().unwrap(), ["d", "f"].map(|name| (name.into(), inode(name))));
        assert_eq!(dir.read("f").unwrap(), b"text");
        assert_eq!(dir.read_if_there("none").unwrap(), None);
        assert_eq!(dir.make_new("d", 0o755).unwrap_err().kind(), crate::Kind::AlreadyExists);
        dir.remove_tree("d").unwrap();
        dir.remove_tree("d").unwrap();
        assert!(!dir.has("d").unwrap() && !dir.is_empty().unwrap());
        dir.remove_file("f").unwrap();
        assert!(dir.is_empty().unwrap());
        assert!(Path::new("/etc").exists());
        std::fs::write(dir.path_of("f"), "text").unwrap();
        let error = dir.dir("f").unwrap_err().to_string();
        assert!(error.starts_with("open(\"") && error.ends_with("Not a directory (os error 20)"), "{error}");
    }
}
