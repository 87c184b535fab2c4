//! Where mounts go: every place is looked up inside the root, or inside the mount that covers it.

use std::ffi::{CString, OsStr};
use std::fmt::Debug;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use coracle_host::{Call, Error, Kind, Mount, Result, Root};
use rustix::fs::{CWD, FileType, OFlags};
use rustix::io::Errno;

use crate::realize::Part;
use crate::userns::as_owner;

/// The mounts of a container so far, and the root that they are in.
pub(crate) struct Targets<'a> {
    root: Option<BorrowedFd<'a>>,
    /// Whose the places are that are made, where they are not the caller's.
    owner: Option<(u32, u32)>,
    /// In order.
    placed: Vec<Placed>,
}

struct Placed {
    /// As the plan has it.
    at: PathBuf,
    /// Resolved.
    path: PathBuf,
    /// None where only the child can make it.
    mount: Option<OwnedFd>,
    /// The host sees what is mounted in it.
    shared: bool,
}

/// A place for a mount.
pub(crate) struct Target {
    fd: OwnedFd,
    /// Resolved.
    path: PathBuf,
    /// Whether it had to be made.
    made: bool,
    /// Whether it can only be found by the child, in what the kernel shows.
    late: bool,
}

impl Target {
    /// The directory or file that will be covered, where there was one.
    pub(crate) fn covered(&self) -> Option<BorrowedFd<'_>> {
        (!self.made && !self.late).then_some(self.fd.as_fd())
    }

    /// Masks and read-only paths rely on what is mounted there, by name.
    pub(crate) fn is_at(&self, at: &Path) -> Result<()> {
        if self.path == at {
            return Ok(());
        }
        let what = format!("{} of the image is a symbolic link to {}", at.display(), self.path.display());
        Err(Error::new(Kind::Invalid, what))
    }

    pub(crate) fn into_fd(self) -> OwnedFd {
        self.fd
    }
}

/// Where control groups are mounted, from the root.
const GROUPS: &std::ffi::CStr = c"sys/fs/cgroup";

impl<'a> Targets<'a> {
    pub(crate) fn new(root: Option<BorrowedFd<'a>>, owner: Option<(u32, u32)>) -> Targets<'a> {
        Targets { root, owner, placed: Vec::new() }
    }

    fn root(&self) -> Result<BorrowedFd<'a>> {
        let none = || Error::new(Kind::Invalid, "a plan with mounts was started without a root");
        self.root.ok_or_else(none)
    }

    /// The place of a mount that the parent makes, which is a directory or a file as that is.
    pub(crate) fn find(&self, at: &Path, is_dir: bool) -> Result<Target> {
        if self.is_late(at) {
            return Ok(Target { fd: copy(&self.root()?)?, path: at.to_owned(), made: false, late: true });
        }
        self.resolve(at, is_dir)
    }

    /// Has the child put a mount there.
    pub(crate) fn place(&mut self, at: &Path, target: Target, mount: Mount, shared: bool) -> Result<Part> {
        let own = copy(&mount)?;
        self.placed.push(Placed { at: at.to_owned(), path: target.path, mount: Some(own), shared });
        let path = if target.late { GROUPS.to_owned() } else { CString::default() };
        Ok(Part::Attach { mount: mount.into(), at: target.fd, path })
    }

    /// The place of a mount that only the child can make: a directory, and the rest of the way from it.
    pub(crate) fn reserve(&mut self, at: &Path) -> Result<(OwnedFd, CString)> {
        let target = self.find(at, true)?;
        target.is_at(at)?;
        self.placed.push(Placed { at: at.to_owned(), path: target.path, mount: None, shared: false });
        Ok((target.fd, if target.late { GROUPS.to_owned() } else { c".".to_owned() }))
    }

    /// The place for control groups in a sysfs that only the child can make: the kernel's own directory, of which it is
    /// known that there is nothing of the image's on the way.
    fn is_late(&self, at: &Path) -> bool {
        let below = self.placed.iter().rfind(|placed| at.starts_with(&placed.path));
        let sysfs = below.is_some_and(|placed| placed.mount.is_none() && placed.path == Path::new("/sys"));
        sysfs && at == Path::new("/sys/fs/cgroup")
    }

    /// What the plan mounted last at this place, where the parent made it. The outer `None`: nothing.
    pub(crate) fn mount_at(&self, at: &Path) -> Option<Option<&OwnedFd>> {
        self.placed.iter().rfind(|placed| placed.at == at).map(|placed| placed.mount.as_ref())
    }

    /// The place, in whatever mount covers it.
    pub(crate) fn resolve(&self, at: &Path, is_dir: bool) -> Result<Target> {
        let invalid = |what| Err(Error::new(Kind::Invalid, what));
        // Most places inside a mount are seen to be so from their names; then nothing is made below that mount.
        let named = self.placed.iter().any(|placed| at.starts_with(&placed.path));
        let mut target = match named {
            true => Target { fd: copy(&self.root()?)?, path: at.to_owned(), made: false, late: false },
            false => find(self.root()?, at, is_dir, self.owner)?,
        };
        // A mount placed later lies on top of the earlier ones, so the last that covers the place is the one to look in; a
        // link in it may lead to where yet a later one is.
        let mut rest = &self.placed[..];
        while let Some(last) = rest.iter().rposition(|placed| target.path.starts_with(&placed.path)) {
            let Placed { path: place, mount, shared, .. } = &rest[last];
            rest = &rest[last + 1..];
            let (name, place_name) = (at.display(), place.display());
            if *shared {
                return invalid(format!(
                    "{name} is inside {place_name}, which shares its mounts with the host"
                ));
            }
            let Some(mount) = mount else {
                return invalid(format!("{name} is inside {place_name}, where nothing can be mounted"));
            };
            let inside = target.path.strip_prefix(place).unwrap_or(&target.path);
            let inner = find(mount.as_fd(), inside, is_dir, self.owner)?;
            let path = place.join(inner.path.strip_prefix("/").unwrap_or(&inner.path));
            target = Target { path, ..inner };
        }
        Ok(target)
    }
}

/// Opens a mount's place in one tree, making it where it is missing: a directory, or an empty file for a file.
fn find(tree: BorrowedFd<'_>, at: &Path, is_dir: bool, owner: Option<(u32, u32)>) -> Result<Target> {
    let root = Root::new(tree, "container's root");
    let (fd, made) = match root.open(at, OFlags::PATH) {
        Ok(fd) if is_dir || !is_dir_at(&fd, at)? => (fd, false),
        Ok(_) => {
            let what = format!("{} is a directory, and the mount is of a file", at.display());
            return Err(Error::new(Kind::Invalid, what));
        }
        Err(error) if error.errno() != Some(Errno::NOENT) => return Err(error),
        Err(_) => match owner {
            Some(owner) => (as_owner(owner, || make(&root, at, is_dir))??, true),
            None => (make(&root, at, is_dir)?, true),
        },
    };
    if is_dir && !is_dir_at(&fd, at)? {
        return Err(Error::os(format!("mkdir(container's root, {at:?})"), Errno::NOTDIR));
    }
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let path = rustix::fs::readlinkat(CWD, &link, Vec::new()).call(|| format!("readlink({link:?})"))?;
    let path = PathBuf::from(OsStr::from_bytes(path.to_bytes()));
    Ok(Target { fd, path, made, late: false })
}

fn make(root: &Root<'_>, at: &Path, is_dir: bool) -> Result<OwnedFd> {
    if is_dir {
        return root.make_dirs(at, 0o755, None);
    }
    root.make_dirs(at.parent().unwrap_or(Path::new("/")), 0o755, None)?;
    drop(root.open_mode(at, OFlags::CREATE | OFlags::WRONLY, 0o644)?);
    root.open(at, OFlags::PATH)
}

pub(crate) fn copy(fd: &impl AsFd) -> Result<OwnedFd> {
    fd.as_fd().try_clone_to_owned().call(|| "fcntl(mount, F_DUPFD_CLOEXEC)")
}

pub(crate) fn is_dir_at(fd: impl AsFd, what: impl Debug) -> Result<bool> {
    let stat = rustix::fs::fstat(fd).call(|| format!("fstat({what:?})"))?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}
