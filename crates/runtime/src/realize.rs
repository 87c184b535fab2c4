//! Steps become operations: paths are resolved to descriptors inside the container's root, mounts are made,
//! strings get their NULs. What is left for the child is to perform them.

use std::ffi::CString;
use std::fmt::Debug;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use coracle_host::{Call, Dir, Mount, Propagation, Root};
use coracle_launch::{Identity, Namespaces, Op};
use rustix::fs::{FileType, Gid, Mode, OFlags, Uid};
use rustix::mount::{MountAttrFlags, MountFlags};
use rustix::thread::{CapabilitySet, LinkNameSpaceType};

use crate::error::{Doing, Error, Result};
use crate::seccomp::{Instruction, Program};
use crate::{Attachment, Joinable, Step, Terminal, attach, terminal};

/// What one step needs at hand.
pub(crate) enum Part {
    /// Nothing but the step itself.
    Bare,
    Text(CString),
    Attach {
        mount: OwnedFd,
        at: OwnedFd,
        path: CString,
    },
    Mount {
        fstype: CString,
        at: OwnedFd,
        path: CString,
        flags: MountFlags,
        data: Option<CString>,
    },
    /// The container's side of its terminal, and where it is put.
    Console {
        terminal: OwnedFd,
        at: OwnedFd,
    },
    Fd(OwnedFd),
    /// A file of the kernel's, and what is written to it.
    Write(CString, String),
    /// A filter as the kernel takes it.
    Filter(Vec<u8>),
    Groups(Vec<Gid>),
    Exec {
        candidates: Vec<CString>,
        args: Vec<CString>,
        env: Vec<CString>,
    },
}

/// Resolves the steps of a container whose root is `root` and which brings `given` mounts. With our side of its terminal,
/// where it gets one.
pub(crate) fn parts(
    steps: &[Step],
    root: Option<&Mount>,
    given: Vec<Mount>,
    wanted: terminal::Wanted,
) -> Result<(Vec<Part>, Option<Terminal>)> {
    let mut targets = Targets { placed: Vec::new() };
    let (mut devpts, mut ours): (Option<OwnedFd>, _) = (None, None);
    let mut dev = None;
    let wall = steps.contains(&Step::NoDevices);
    let guarded = |mount: Mount| if wall { without_devices(mount) } else { Ok(mount) };
    let mut given = given.into_iter();
    let root = root.map(|root| root.as_fd());
    let no_root = || Error::invalid("a plan with mounts was started without a root");
    let mut parts = Vec::with_capacity(steps.len());
    for step in steps {
        parts.push(match step {
            Step::Attach { source: source @ Attachment::Proc { .. }, at } => {
                let mount = attach::make(source).doing(|| step.to_string())?;
                // What is there is not asked: nothing of an image's can be on the way to what is mounted in it.
                let placed = targets.reserve(root.ok_or_else(no_root)?, at);
                let (at, path) = placed.map_err(|error| at_step(step, error))?;
                Part::Attach { mount: mount.into(), at, path }
            }
            Step::Attach { source, at } => {
                let mount = attach::make(source).doing(|| step.to_string())?;
                let has_devices =
                    matches!(source, Attachment::DevPts { .. } | Attachment::Tmpfs { devices: Some(_), .. });
                let mount = if has_devices { mount } else { guarded(mount).doing(|| step.to_string())? };
                if let Attachment::Tmpfs { devices: Some(_), .. } = source {
                    dev = Some((copy(&mount).doing(|| step.to_string())?, at));
                }
                if matches!(source, Attachment::DevPts { .. }) {
                    devpts = Some(copy(&mount).doing(|| step.to_string())?);
                }
                let shared =
                    matches!(source, Attachment::Bind { propagation: Some((Propagation::Shared, _)), .. });
                targets
                    .place(root.ok_or_else(no_root)?, mount, at, shared)
                    .map_err(|error| at_step(step, error))?
            }
            Step::AttachGiven { at, propagation, .. } => {
                let mount =
                    given.next().ok_or_else(|| Error::invalid("the bundle lacks a mount of the plan"))?;
                let mount = match propagation {
                    // Else what is mounted inside one that has a peer on the host would appear there.
                    Propagation::Private => mount.private().map_err(|error| at_step(step, error))?,
                    _ => mount,
                };
                let mount = guarded(mount).map_err(|error| at_step(step, error))?;
                let shared = *propagation == Propagation::Shared;
                let placed = targets.place(root.ok_or_else(no_root)?, mount, at, shared);
                placed.map_err(|error| at_step(step, error))?
            }
            Step::Mount { fstype, at, flags, data } => {
                let (at, path) =
                    targets.reserve(root.ok_or_else(no_root)?, at).map_err(|error| at_step(step, error))?;
                let data = if data.is_empty() { None } else { Some(c(data)?) };
                Part::Mount { fstype: c(fstype)?, at, path, flags: *flags, data }
            }
            Step::Device { at } => {
                let (dev, place) =
                    dev.as_ref().ok_or_else(|| Error::invalid("a plan with devices has no /dev"))?;
                let name = at.strip_prefix(place).unwrap_or(at);
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let node = rustix::fs::openat(dev, name, flags, Mode::empty());
                Part::Fd(node.call(|| format!("open(tmpfs, {name:?})")).doing(|| step.to_string())?)
            }
            Step::Seal { at } => {
                let mount =
                    targets.mount_at(at).ok_or_else(|| Error::invalid(format!("nothing to `{step}`")))?;
                Part::Fd(copy(mount).doing(|| step.to_string())?)
            }
            Step::NoOtherDevices => {
                let (dev, _) =
                    dev.as_ref().ok_or_else(|| Error::invalid("a plan with devices has no /dev"))?;
                Part::Fd(copy(dev).doing(|| step.to_string())?)
            }
            Step::Console { at } => {
                let Some(devpts) = &devpts else {
                    return Err(Error::invalid("process.terminal: the spec mounts no devpts"));
                };
                let pair = terminal::open(devpts.as_fd(), wanted).doing(|| step.to_string())?;
                let root = root.ok_or_else(no_root)?;
                let (at, _) = targets.resolve(root, at, false).map_err(|error| at_step(step, error))?;
                ours = Some(pair.ours);
                Part::Console { terminal: pair.theirs, at }
            }
            Step::MaskFile(path) | Step::MaskDir(path) | Step::ReadOnly(path) => Part::Text(c(path)?),
            Step::JoinPath { path, .. } => {
                let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
                let fd = rustix::fs::openat(rustix::fs::CWD, path, flags, Mode::empty());
                Part::Fd(fd.call(|| format!("open({path:?})")).doing(|| step.to_string())?)
            }
            Step::Clocks(lines) => Part::Write(c("/proc/self/timens_offsets")?, lines.clone()),
            Step::OomScore(score) => Part::Write(c("/proc/self/oom_score_adj")?, score.to_string()),
            Step::Sysctl { path, value } => Part::Write(c(path)?, value.clone()),
            Step::Filter(program) => Part::Filter(bytes(program)),
            Step::ChangeDir(path) => Part::Text(c(path.as_os_str().as_bytes())?),
            Step::Ids { groups, .. } => Part::Groups(groups.iter().map(|gid| Gid::from_raw(*gid)).collect()),
            Step::Exec { candidates, args, env } => {
                Part::Exec { candidates: all(candidates)?, args: all(args)?, env: all(env)? }
            }
            _ => Part::Bare,
        });
    }
    if let Some(mount) = given.next() {
        return Err(Error::invalid(format!("the plan has no place for the bundle's mount {}", mount.what())));
    }
    Ok((parts, ours))
}

/// The operation that a step and its part are, where they are one by themselves.
pub(crate) fn op<'a>(step: &'a Step, part: &'a Part) -> Option<Op<'a>> {
    Some(match (step, part) {
        (Step::NewGroupNamespace, _) => Op::Unshare(Namespaces::CGROUP),
        (Step::NewTimeNamespace, _) => Op::Unshare(Namespaces::TIME),
        (_, Part::Write(path, text)) => Op::Write { path, text: text.as_bytes() },
        (Step::Raise { resource, soft, hard }, _) => {
            Op::Limit { resource: *resource, soft: *soft, hard: *hard }
        }
        (Step::JoinPath { kind, .. }, Part::Fd(namespace)) => Op::Join(
            namespace.as_fd(),
            match kind {
                Joinable::Net => LinkNameSpaceType::Network,
                Joinable::Ipc => LinkNameSpaceType::InterProcessCommunication,
                Joinable::Uts => LinkNameSpaceType::HostNameAndNISDomainName,
                Joinable::Cgroup => LinkNameSpaceType::ControlGroup,
                Joinable::Pid => LinkNameSpaceType::ProcessID,
            },
        ),
        (Step::Personality(persona), _) => Op::Personality(*persona),
        (Step::IoPriority { class, level }, _) => Op::IoPriority(class << 13 | level),
        (Step::Scheduler(attr), _) => Op::Scheduler(*attr),
        (Step::Affinity { processors, .. }, _) => Op::Affinity(processors),
        (Step::MemoryPolicy { mode, nodes, .. }, _) => Op::MemoryPolicy { mode: *mode, nodes },
        (Step::Keyring, _) => Op::Keyring,
        (Step::Carry { held }, _) => Op::Capabilities {
            effective: *held,
            permitted: *held,
            inheritable: CapabilitySet::SYS_ADMIN,
            ambient: CapabilitySet::empty(),
        },
        (Step::LoopbackUp, _) => Op::LoopbackUp,
        (Step::Device { .. }, Part::Fd(node)) => Op::Bind(node.as_fd(), node.as_fd()),
        (Step::NoOtherDevices, Part::Fd(dev)) => Op::NoDevices(dev.as_fd()),
        (Step::MakePrivate, _) => Op::MakePrivate,
        (_, Part::Attach { mount, at, path }) => Op::Attach { mount: mount.as_fd(), at: at.as_fd(), path },
        (Step::Seal { .. }, Part::Fd(mount)) => Op::Seal(mount.as_fd()),
        (_, Part::Console { terminal, at }) => Op::Bind(terminal.as_fd(), at.as_fd()),
        (_, Part::Mount { fstype, at, path, flags, data }) => {
            Op::Mount { fstype, at: at.as_fd(), path, flags: *flags, data: data.as_deref() }
        }
        (Step::MaskFile(_), Part::Text(path)) => Op::MaskFile(path),
        (Step::MaskDir(_), Part::Text(path)) => Op::MaskDir(path),
        (Step::ReadOnly(_), Part::Text(path)) => Op::ReadOnly(path),
        (Step::ChangeDir(_), Part::Text(path)) => Op::ChangeDir(path),
        (Step::Pivot, _) => Op::Pivot,
        (Step::RootReadOnly, _) => Op::RootReadOnly,
        (Step::HostName(name), _) => Op::HostName(name.as_bytes()),
        (Step::DomainName(name), _) => Op::DomainName(name.as_bytes()),
        (Step::Umask(mask), _) => Op::Umask(*mask),
        (Step::Bound(keep), _) => Op::Bound(*keep),
        (Step::Ids { uid, gid, .. }, Part::Groups(groups)) => {
            Op::Ids(Identity { uid: Uid::from_raw(*uid), gid: Gid::from_raw(*gid), groups })
        }
        (Step::Capabilities { effective, permitted, inheritable, ambient }, _) => Op::Capabilities {
            effective: *effective,
            permitted: *permitted,
            inheritable: *inheritable,
            ambient: *ambient,
        },
        (Step::NoNewPrivs, _) => Op::NoNewPrivs,
        _ => return None, // those that need the bundle or are the image's
    })
}

struct Placed {
    /// Resolved.
    path: PathBuf,
    /// None where only the child can make it.
    mount: Option<OwnedFd>,
    /// The host sees what is mounted in it.
    shared: bool,
}

/// Where mounts go: every place is looked up inside the root, or inside the mount that covers it.
struct Targets {
    /// In order.
    placed: Vec<Placed>,
}

/// Where control groups are mounted, from the root.
const GROUPS: &std::ffi::CStr = c"sys/fs/cgroup";

impl Targets {
    fn place(
        &mut self,
        root: std::os::fd::BorrowedFd<'_>,
        mount: Mount,
        at: &Path,
        shared: bool,
    ) -> coracle_host::Result<Part> {
        let own = copy(&mount)?;
        if self.is_late(at) {
            self.placed.push(Placed { path: at.to_owned(), mount: Some(own), shared });
            return Ok(Part::Attach { mount: mount.into(), at: copy(&root)?, path: GROUPS.to_owned() });
        }
        let is_dir = is_dir_at(&mount, &mount)?;
        let (target, path) = self.resolve(root, at, is_dir)?;
        self.placed.push(Placed { path, mount: Some(own), shared });
        Ok(Part::Attach { mount: mount.into(), at: target, path: c"".to_owned() })
    }

    /// The place for control groups in a sysfs that only the child can make: the kernel's own directory, of which it is
    /// known that there is nothing of the image's on the way.
    fn is_late(&self, at: &Path) -> bool {
        let below = self.placed.iter().rfind(|placed| at.starts_with(&placed.path));
        let sysfs = below.is_some_and(|placed| placed.mount.is_none() && placed.path == Path::new("/sys"));
        sysfs && at == Path::new("/sys/fs/cgroup")
    }

    /// What was mounted last at this very place.
    fn mount_at(&self, at: &Path) -> Option<&OwnedFd> {
        self.placed.iter().rfind(|placed| placed.path == at)?.mount.as_ref()
    }

    fn reserve(
        &mut self,
        root: std::os::fd::BorrowedFd<'_>,
        at: &Path,
    ) -> coracle_host::Result<(OwnedFd, CString)> {
        if self.is_late(at) {
            self.placed.push(Placed { path: at.to_owned(), mount: None, shared: false });
            return Ok((copy(&root)?, GROUPS.to_owned()));
        }
        let (target, path) = self.resolve(root, at, true)?;
        if path != at {
            // Masks and read-only paths rely on what is mounted here, by name.
            let what = format!("{} of the image is a symbolic link to {}", at.display(), path.display());
            return Err(coracle_host::Error::new(coracle_host::Kind::Invalid, what));
        }
        self.placed.push(Placed { path, mount: None, shared: false });
        Ok((target, c".".to_owned()))
    }

    fn resolve(
        &self,
        root: std::os::fd::BorrowedFd<'_>,
        at: &Path,
        is_dir: bool,
    ) -> coracle_host::Result<(OwnedFd, PathBuf)> {
        // Most places inside a mount are seen to be so from their names; then nothing is made below that mount.
        let named = self.placed.iter().any(|placed| at.starts_with(&placed.path));
        let (mut target, mut path) = match named {
            true => (root.try_clone_to_owned().call(|| "fcntl(root, F_DUPFD_CLOEXEC)")?, at.to_owned()),
            false => find(root, at, is_dir)?,
        };
        // A mount placed later lies on top of the earlier ones, so the last that covers the place is the one to look in; a
        // link in it may lead to where yet a later one is.
        let mut rest = &self.placed[..];
        while let Some(last) = rest.iter().rposition(|placed| path.starts_with(&placed.path)) {
            let Placed { path: place, mount, shared } = &rest[last];
            rest = &rest[last + 1..];
            if *shared {
                let what = format!(
                    "{} is inside {}, which shares its mounts with the host",
                    at.display(),
                    place.display()
                );
                return Err(coracle_host::Error::new(coracle_host::Kind::Invalid, what));
            }
            let Some(mount) = mount else {
                let what =
                    format!("{} is inside {}, where nothing can be mounted", at.display(), place.display());
                return Err(coracle_host::Error::new(coracle_host::Kind::Invalid, what));
            };
            let inside = path.strip_prefix(place).unwrap_or(&path);
            let (inner, inner_path) = find(mount.as_fd(), inside, is_dir)?;
            target = inner;
            path = place.join(inner_path.strip_prefix("/").unwrap_or(&inner_path));
        }
        Ok((target, path))
    }
}

/// Opens a mount's place in one tree, making it where it is missing: a directory, or an empty file for a file.
fn find(
    tree: std::os::fd::BorrowedFd<'_>,
    at: &Path,
    is_dir: bool,
) -> coracle_host::Result<(OwnedFd, PathBuf)> {
    let root = Root::new(tree, "container's root");
    let fd = if is_dir {
        root.make_dirs(at, 0o755, None)?
    } else {
        match root.open(at, OFlags::PATH) {
            Ok(fd) if is_dir_at(&fd, at)? => {
                let what = format!("{} is a directory, and the mount is of a file", at.display());
                return Err(coracle_host::Error::new(coracle_host::Kind::Invalid, what));
            }
            Ok(fd) => fd,
            Err(error) if error.errno() == Some(rustix::io::Errno::NOENT) => {
                root.make_dirs(at.parent().unwrap_or(Path::new("/")), 0o755, None)?;
                drop(root.open_mode(at, OFlags::CREATE | OFlags::WRONLY, 0o644)?);
                root.open(at, OFlags::PATH)?
            }
            Err(error) => return Err(error),
        }
    };
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let path =
        rustix::fs::readlinkat(rustix::fs::CWD, &link, Vec::new()).call(|| format!("readlink({link:?})"))?;
    let path = PathBuf::from(std::ffi::OsStr::from_bytes(path.to_bytes()));
    Ok((fd, path))
}

fn copy(fd: &impl AsFd) -> coracle_host::Result<OwnedFd> {
    fd.as_fd().try_clone_to_owned().call(|| "fcntl(mount, F_DUPFD_CLOEXEC)")
}

/// The same mount, on which no device can be opened; unless it is of a device's node, which who mounts it wants to be used.
pub(crate) fn without_devices(mount: Mount) -> coracle_host::Result<Mount> {
    let stat = rustix::fs::fstat(&mount).call(|| format!("fstat({})", mount.what()))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice | FileType::BlockDevice => Ok(mount),
        _ => mount.attributes(MountAttrFlags::MOUNT_ATTR_NODEV, MountAttrFlags::empty(), true),
    }
}

fn is_dir_at(fd: impl AsFd, what: impl Debug) -> coracle_host::Result<bool> {
    let stat = rustix::fs::fstat(fd).call(|| format!("fstat({what:?})"))?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// The root directory of a mount, opened for use as a working directory.
pub(crate) fn root_dir(root: &Mount) -> coracle_host::Result<Dir> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(root, ".", flags, Mode::empty())
        .call(|| format!("open({}, \".\")", root.what()))?;
    Ok(Dir::from_fd(fd, root.what()))
}

fn at_step(step: &Step, error: coracle_host::Error) -> Error {
    Error::host(step.to_string(), error)
}

/// A path as the kernel takes it.
pub(crate) fn path(path: &Path) -> Result<CString> {
    c(path.as_os_str().as_bytes())
}

fn c(text: impl AsRef<[u8]>) -> Result<CString> {
    CString::new(text.as_ref()).map_err(|error| Error::invalid(format!("{error}")))
}

/// `struct sock_filter`s.
fn bytes(program: &Program) -> Vec<u8> {
    let each = |instruction: &Instruction| {
        let mut bytes = [0; 8];
        bytes[..2].copy_from_slice(&instruction.code.to_ne_bytes());
        (bytes[2], bytes[3]) = (instruction.jt, instruction.jf);
        bytes[4..].copy_from_slice(&instruction.k.to_ne_bytes());
        bytes
    };
    program.instructions().iter().flat_map(each).collect()
}

fn all(texts: &[String]) -> Result<Vec<CString>> {
    texts.iter().map(c).collect()
}
