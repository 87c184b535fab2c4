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
    /// What it has in common with the host.
    kin: Kin,
}

/// What a mount has in common with the host.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kin {
    /// Nothing.
    Own,
    /// Its files.
    Files,
    /// Its files, and what is mounted in it.
    Mounts,
}

/// What is looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Want {
    /// A directory, which is made where there is nothing.
    Dir,
    /// A file, which is.
    File,
    /// Whatever is there.
    There,
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
    /// Whether it is in files of the host.
    foreign: bool,
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

    /// Whether it is in files that the container has in common with the host.
    pub(crate) fn is_foreign(&self) -> bool {
        self.foreign
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
            return Ok(Target { late: true, ..self.top(at)? });
        }
        self.resolve(at, if is_dir { Want::Dir } else { Want::File })
    }

    /// What is at a place, where there is something.
    pub(crate) fn look(&self, at: &Path) -> Result<Option<OwnedFd>> {
        match self.resolve(at, Want::There) {
            Ok(target) => Ok(Some(target.fd)),
            Err(error) if matches!(error.errno(), Some(Errno::NOENT | Errno::NOTDIR)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn top(&self, at: &Path) -> Result<Target> {
        let (fd, path) = (copy(&self.root()?)?, at.to_owned());
        Ok(Target { fd, path, made: false, late: false, foreign: false })
    }

    /// Has the child put a mount there.
    pub(crate) fn place(&mut self, at: &Path, target: Target, mount: Mount, kin: Kin) -> Result<Part> {
        let own = copy(&mount)?;
        self.placed.push(Placed { at: at.to_owned(), path: target.path, mount: Some(own), kin });
        let path = if target.late { GROUPS.to_owned() } else { CString::default() };
        Ok(Part::Attach { mount: mount.into(), at: target.fd, path })
    }

    /// The place of a mount that only the child can make: a directory, and the rest of the way from it.
    pub(crate) fn reserve(&mut self, at: &Path) -> Result<(OwnedFd, CString)> {
        let target = self.find(at, true)?;
        target.is_at(at)?;
        self.placed.push(Placed { at: at.to_owned(), path: target.path, mount: None, kin: Kin::Own });
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
    fn resolve(&self, at: &Path, want: Want) -> Result<Target> {
        let invalid = |what| Err(Error::new(Kind::Invalid, what));
        // Most places inside a mount are seen to be so from their names; then nothing is made below that mount.
        let named = self.placed.iter().any(|placed| at.starts_with(&placed.path));
        let mut target = match named {
            true => self.top(at)?,
            false => find(self.root()?, at, want, self.owner)?,
        };
        // A mount placed later lies on top of the earlier ones, so the last that covers the place is the one to look in; a
        // link in it may lead to where yet a later one is.
        let mut rest = &self.placed[..];
        while let Some(last) = rest.iter().rposition(|placed| target.path.starts_with(&placed.path)) {
            let Placed { path: place, mount, kin, .. } = &rest[last];
            rest = &rest[last + 1..];
            let (name, place_name) = (at.display(), place.display());
            // Who only looks makes nothing there.
            if *kin == Kin::Mounts && want != Want::There {
                return invalid(format!(
                    "{name} is inside {place_name}, which shares its mounts with the host"
                ));
            }
            let Some(mount) = mount else {
                return invalid(format!("{name} is inside {place_name}, where nothing can be mounted"));
            };
            let inside = target.path.strip_prefix(place).unwrap_or(&target.path);
            let inner = find(mount.as_fd(), inside, want, self.owner)?;
            let path = place.join(inner.path.strip_prefix("/").unwrap_or(&inner.path));
            target = Target { path, foreign: *kin != Kin::Own, ..inner };
        }
        Ok(target)
    }
}

/// Opens a mount's place in one tree, making it where it is missing: a directory, or an empty file for a file.
fn find(tree: BorrowedFd<'_>, at: &Path, want: Want, owner: Option<(u32, u32)>) -> Result<Target> {
    let root = Root::new(tree, "container's root");
    let (fd, made) = match root.open(at, OFlags::PATH) {
        Ok(fd) if want == Want::File && is_dir_at(&fd, at)? => {
            let what = format!("{} is a directory, and the mount is of a file", at.display());
            return Err(Error::new(Kind::Invalid, what));
        }
        Ok(fd) => (fd, false),
        Err(error) if error.errno() != Some(Errno::NOENT) || want == Want::There => return Err(error),
        Err(_) => match owner {
            Some(owner) => (as_owner(owner, || make(&root, at, want))??, true),
            None => (make(&root, at, want)?, true),
        },
    };
    if want == Want::Dir && !is_dir_at(&fd, at)? {
        return Err(Error::os(format!("mkdir(container's root, {at:?})"), Errno::NOTDIR));
    }
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let path = rustix::fs::readlinkat(CWD, &link, Vec::new()).call(|| format!("readlink({link:?})"))?;
    let path = PathBuf::from(OsStr::from_bytes(path.to_bytes()));
    Ok(Target { fd, path, made, late: false, foreign: false })
}

fn make(root: &Root<'_>, at: &Path, want: Want) -> Result<OwnedFd> {
    if want == Want::Dir {
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
