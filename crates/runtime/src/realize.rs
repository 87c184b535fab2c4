//! Steps become operations: paths are resolved to descriptors inside the container's root, mounts are made,
//! strings get their NULs. What is left for the child is to perform them.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use coracle_host::{Call, Change as Attributes, Dir, Mount, Propagation};
use coracle_launch::{Change, Identity, Namespaces, Op};
use rustix::fs::{FileType, Gid, Mode, OFlags, Uid};
use rustix::mount::{MountAttrFlags, MountFlags, MountPropagationFlags};
use rustix::thread::{CapabilitySet, LinkNameSpaceType};

use crate::error::{Doing, Error, Result};
use crate::seccomp::{Instruction, Program};
use crate::targets::{Kin, Targets, copy, is_dir_at};
use crate::{Attachment, Joinable, Step, Terminal, UserNamespace, attach, device, mounts, terminal};

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
    /// A mount that is there already: its root, or the way to it.
    There(Option<OwnedFd>, CString),
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
/// where it gets one. In the user namespace `user` all that is made belongs to its root.
pub(crate) fn parts(
    steps: &[Step],
    root: Option<&Mount>,
    given: Vec<Mount>,
    user: Option<&UserNamespace>,
    wanted: terminal::Wanted,
) -> Result<(Vec<Part>, Option<Terminal>)> {
    let owner = user.and_then(|user| user.map().root());
    let mut targets = Targets::new(root.map(|root| root.as_fd()), owner);
    let (mut devpts, mut ours): (Option<OwnedFd>, _) = (None, None);
    let mut dev = None;
    let wall = steps.contains(&Step::NoDevices);
    let others = steps.iter().any(|step| matches!(step, Step::JoinPath { kind: Joinable::Mount, .. }));
    let guarded = |mount: Mount| if wall { without_devices(mount) } else { Ok(mount) };
    let mut given = given.into_iter();
    let mut parts = Vec::with_capacity(steps.len());
    for step in steps {
        let doing = || step.to_string();
        parts.push(match step {
            Step::Attach { source: source @ Attachment::Proc { .. }, at } => {
                let mount = attach::make(source, None, user).doing(doing)?;
                // What is there is not asked: nothing of an image's can be on the way to what is mounted in it.
                let (at, path) = targets.reserve(at).doing(doing)?;
                Part::Attach { mount: mount.into(), at, path }
            }
            Step::Attach { source: source @ Attachment::Tmpfs { devices, .. }, at } => {
                let target = targets.find(at, true).doing(doing)?;
                let mount = attach::make(source, target.covered(), user).doing(doing)?;
                let mount = match devices {
                    Some(_) => {
                        dev = Some((copy(&mount).doing(doing)?, at));
                        mount
                    }
                    None => guarded(mount).doing(doing)?,
                };
                targets.place(at, target, mount, Kin::Own).doing(doing)?
            }
            Step::Attach { source, at } => {
                let mount = attach::make(source, None, user).doing(doing)?;
                let mount = match source {
                    Attachment::DevPts { .. } => {
                        devpts = Some(copy(&mount).doing(doing)?);
                        mount
                    }
                    _ => guarded(mount).doing(doing)?,
                };
                let kin = match source {
                    Attachment::Bind { propagation: Some((Propagation::Shared, _)), .. } => Kin::Mounts,
                    Attachment::Bind { .. } => Kin::Files,
                    _ => Kin::Own,
                };
                let is_dir = is_dir_at(&mount, &mount).doing(doing)?;
                let target = targets.find(at, is_dir).doing(doing)?;
                if mounts::is_hosts_own(source, at) {
                    target.is_at(at).doing(doing)?;
                }
                targets.place(at, target, mount, kin).doing(doing)?
            }
            Step::AttachGiven { at, propagation, .. } => {
                let mount =
                    given.next().ok_or_else(|| Error::invalid("the bundle lacks a mount of the plan"))?;
                let mount = match propagation {
                    // Else what is mounted inside one that has a peer on the host would appear there.
                    Propagation::Private => mount.private().doing(doing)?,
                    _ => mount,
                };
                let mount = guarded(mount).doing(doing)?;
                let kin = if *propagation == Propagation::Shared { Kin::Mounts } else { Kin::Files };
                let is_dir = is_dir_at(&mount, &mount).doing(doing)?;
                let target = targets.find(at, is_dir).doing(doing)?;
                targets.place(at, target, mount, kin).doing(doing)?
            }
            Step::Mount { fstype, at, flags, data } => {
                let (at, path) = targets.reserve(at).doing(doing)?;
                let data = if data.is_empty() { None } else { Some(c(data)?) };
                Part::Mount { fstype: c(fstype)?, at, path, flags: *flags, data }
            }
            Step::Device { at } => {
                let (dev, place) =
                    dev.as_ref().ok_or_else(|| Error::invalid("a plan with devices has no /dev"))?;
                let name = at.strip_prefix(place).unwrap_or(at);
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let node = rustix::fs::openat(dev, name, flags, Mode::empty());
                Part::Fd(node.call(|| format!("open(tmpfs, {name:?})")).doing(doing)?)
            }
            Step::Propagate { at, .. } if at == Path::new("/") => Part::There(None, c"/".to_owned()),
            Step::Seal { at } | Step::Remount { at, .. } | Step::Propagate { at, .. } => {
                let there = targets.mount_at(at);
                match there.ok_or_else(|| Error::invalid(format!("nothing is there to `{step}`")))? {
                    Some(mount) => Part::There(Some(copy(mount).doing(doing)?), CString::default()),
                    // It is where its name says, with nothing of the image's on the way.
                    None => Part::There(None, c(format!(".{}", at.display()))?),
                }
            }
            Step::NoOtherDevices => {
                let (dev, _) =
                    dev.as_ref().ok_or_else(|| Error::invalid("a plan with devices has no /dev"))?;
                Part::Fd(copy(dev).doing(doing)?)
            }
            Step::Console { at } => {
                let Some(devpts) = &devpts else {
                    return Err(Error::invalid("process.terminal: the spec mounts no devpts"));
                };
                let pair = terminal::open(devpts.as_fd(), wanted).doing(doing)?;
                let at = targets.find(at, false).doing(doing)?;
                ours = Some(pair.ours);
                Part::Console { terminal: pair.theirs, at: at.into_fd() }
            }
            Step::Node { at, node } => {
                let dir = targets.find(at.parent().unwrap_or(Path::new("/")), true).doing(doing)?;
                let may_make = !dir.is_foreign();
                let node = device::place(dir.into_fd().as_fd(), node, may_make, user).doing(doing)?;
                // Without that wall it can be opened where it is.
                if wall { Part::Fd(node) } else { Part::Bare }
            }
            Step::Hide { at } => match targets.look(at).doing(doing)? {
                Some(at) => {
                    let mount = attach::mask(is_dir_at(&at, step).doing(doing)?).doing(doing)?;
                    Part::Attach { mount: mount.into(), at, path: CString::default() }
                }
                None => Part::Bare,
            },
            Step::Guard { at } => targets.look(at).doing(doing)?.map_or(Part::Bare, Part::Fd),
            Step::MaskFile(path) if others => {
                // What is at /dev/null there is not asked.
                let mount = attach::mask(false).doing(doing)?;
                let root =
                    root.ok_or_else(|| Error::invalid("a plan with masks was started without a root"))?;
                Part::Attach { mount: mount.into(), at: copy(root).doing(doing)?, path: c(path)? }
            }
            Step::MaskFile(path) | Step::MaskDir(path) | Step::ReadOnly(path) => Part::Text(c(path)?),
            Step::JoinPath { path, .. } => Part::Fd(open_namespace(path).doing(doing)?),
            Step::Clocks(lines) => Part::Write(c("/proc/self/timens_offsets")?, lines.clone()),
            Step::OomScore(score) => Part::Write(c("/proc/self/oom_score_adj")?, score.to_string()),
            Step::Sysctl { path, value } => Part::Write(c(path)?, value.clone()),
            Step::Confine { profile, file } => Part::Write(c(file)?, format!("exec {profile}")),
            Step::LabelKeyring(label) => Part::Write(c("/proc/thread-self/attr/keycreate")?, label.clone()),
            Step::LabelMount { at, .. } => Part::Text(c(format!(".{}", at.display()))?),
            Step::Label(label) => Part::Write(c("thread-self/attr/exec")?, label.clone()),
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

/// Whatever is there is not waited for, and does not become our terminal.
pub(crate) fn open_namespace(path: impl AsRef<Path>) -> coracle_host::Result<OwnedFd> {
    let path = path.as_ref();
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    rustix::fs::openat(rustix::fs::CWD, path, flags, Mode::empty()).call(|| format!("open({path:?})"))
}

/// The operation that a step and its part are, where they are one by themselves.
pub(crate) fn op<'a>(step: &'a Step, part: &'a Part) -> Option<Op<'a>> {
    Some(match (step, part) {
        (Step::Undumpable, _) => Op::Undumpable,
        (Step::Clone { namespaces }, _) => Op::Clone(*namespaces),
        (Step::BecomeRoot, _) => Op::Ids(Identity { uid: Uid::ROOT, gid: Gid::ROOT, groups: &[] }),
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
                Joinable::Mount => LinkNameSpaceType::Mount,
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
        (Step::Device { .. }, Part::Fd(node)) => bind(node, node),
        (Step::Node { .. }, Part::Fd(node)) => Op::Bind {
            from: node.as_fd(),
            at: node.as_fd(),
            set: NONE,
            clear: MountAttrFlags::MOUNT_ATTR_NODEV,
        },
        (Step::Guard { .. }, Part::Fd(there)) => {
            let (from, at) = (there.as_fd(), there.as_fd());
            Op::Bind { from, at, set: MountAttrFlags::MOUNT_ATTR_RDONLY, clear: NONE }
        }
        (Step::NoOtherDevices, Part::Fd(dev)) => {
            Op::Change(Change::of(dev.as_fd()).set(MountAttrFlags::MOUNT_ATTR_NODEV))
        }
        (Step::MakePrivate, _) => Op::MakePrivate,
        (_, Part::Attach { mount, at, path }) => Op::Attach { mount: mount.as_fd(), at: at.as_fd(), path },
        (Step::Seal { .. }, Part::There(mount, path)) => {
            Op::Change(change(mount, path).set(MountAttrFlags::MOUNT_ATTR_RDONLY))
        }
        (Step::Remount { change: Attributes { set, clear }, recursive, .. }, Part::There(mount, path)) => {
            Op::Change(Change { set: *set, clear: *clear, recursive: *recursive, ..change(mount, path) })
        }
        (Step::Propagate { propagation, below, .. }, Part::There(mount, path)) => {
            let propagation = travels(*propagation);
            Op::Change(Change { propagation, recursive: *below, ..change(mount, path) })
        }
        (_, Part::Console { terminal, at }) => bind(terminal, at),
        (_, Part::Mount { fstype, at, path, flags, data }) => {
            Op::Mount { fstype, at: at.as_fd(), path, flags: *flags, data: data.as_deref() }
        }
        (Step::MaskFile(_), Part::Text(path)) => Op::MaskFile(path),
        (Step::MaskDir(_), Part::Text(path)) => Op::MaskDir(path),
        (Step::ReadOnly(_), Part::Text(path)) => Op::ReadOnly(path),
        (Step::LabelMount { label, .. }, Part::Text(path)) => Op::Label { path, label: label.as_bytes() },
        (Step::ChangeDir(_), Part::Text(path)) => Op::ChangeDir(path),
        (Step::Pivot, _) => Op::Pivot,
        (Step::ChangeRoot, _) => Op::ChangeRoot,
        (Step::Chroot, _) => Op::Chroot,
        (Step::RootReadOnly, _) => Op::Change(Change::at(c"/").set(MountAttrFlags::MOUNT_ATTR_RDONLY)),
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

const NONE: MountAttrFlags = MountAttrFlags::empty();

fn bind<'a>(from: &'a OwnedFd, at: &'a OwnedFd) -> Op<'a> {
    Op::Bind { from: from.as_fd(), at: at.as_fd(), set: NONE, clear: NONE }
}

/// None yet, of a mount that is there.
fn change<'a>(mount: &'a Option<OwnedFd>, path: &'a CStr) -> Change<'a> {
    mount.as_ref().map_or(Change::at(path), |mount| Change::of(mount.as_fd()))
}

pub(crate) fn travels(propagation: Propagation) -> MountPropagationFlags {
    match propagation {
        Propagation::Private => MountPropagationFlags::PRIVATE,
        Propagation::Slave => MountPropagationFlags::DOWNSTREAM,
        Propagation::Shared => MountPropagationFlags::SHARED,
        Propagation::Unbindable => MountPropagationFlags::UNBINDABLE,
    }
}

/// The same mount, on which no device can be opened; unless it is of a device's node, which who mounts it wants to be used.
pub(crate) fn without_devices(mount: Mount) -> coracle_host::Result<Mount> {
    let stat = rustix::fs::fstat(&mount).call(|| format!("fstat({})", mount.what()))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice | FileType::BlockDevice => Ok(mount),
        _ => mount.attributes(MountAttrFlags::MOUNT_ATTR_NODEV, MountAttrFlags::empty(), true),
    }
}

/// The root directory of a mount, opened for use as a working directory.
pub(crate) fn root_dir(root: &Mount) -> coracle_host::Result<Dir> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(root, ".", flags, Mode::empty())
        .call(|| format!("open({}, \".\")", root.what()))?;
    Ok(Dir::from_fd(fd, root.what()))
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
