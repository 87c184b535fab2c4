//! What is in a container's `/dev` (runtime-spec config-linux.md, "Default Devices").

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use coracle_host::{Call, Error, Kind, Mount, Root};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, Spec};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Uid, chmodat, chownat, fstat, makedev, mkdirat, mknodat, openat,
    symlinkat,
};

use crate::UserNamespace;
use crate::error::Problem;

const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// A node in a container's `/dev`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Node {
    /// Where: below `/dev` by a relative path, elsewhere in the container by an absolute one.
    pub path: PathBuf,
    /// What it is.
    pub kind: NodeKind,
    /// The device's numbers; nothing for a FIFO.
    pub number: (u32, u32),
    /// Its permissions.
    pub mode: u32,
    /// Whose it is.
    pub owner: (u32, u32),
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeKind {
    /// A character device.
    Character,
    /// A block device.
    Block,
    /// A FIFO.
    Fifo,
}

impl Node {
    fn file_type(&self) -> FileType {
        match self.kind {
            NodeKind::Character => FileType::CharacterDevice,
            NodeKind::Block => FileType::BlockDevice,
            NodeKind::Fifo => FileType::Fifo,
        }
    }

    fn letter(&self) -> char {
        match self.kind {
            NodeKind::Character => 'c',
            NodeKind::Block => 'b',
            NodeKind::Fifo => 'p',
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.number;
        write!(f, "{} {} {major}:{minor}", self.path.display(), self.letter())
    }
}

/// The default nodes and those of the spec, of which one at the place of a default one replaces it. At the place of a link
/// (`/dev/ptmx`, which is the container's own) the link stays, as with every runtime.
///
/// # Errors
/// All that can't be devices of a container.
pub(crate) fn nodes(spec: &Spec) -> Result<Vec<Node>, Vec<Problem>> {
    let default = |(name, major, minor): (&str, u32, u32)| Node {
        path: name.into(),
        kind: NodeKind::Character,
        number: (major, minor),
        mode: 0o666,
        owner: (0, 0),
    };
    let mut nodes: Vec<Node> = DEVICES.into_iter().map(default).collect();
    let mut problems = Vec::new();
    for device in spec.linux().iter().flat_map(|linux| linux.devices()).flatten() {
        match node(device) {
            Ok(node) => {
                nodes.retain(|known| known.path != node.path);
                nodes.extend((!LINKS.iter().any(|(name, _)| node.path == Path::new(name))).then_some(node));
            }
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(nodes) } else { Err(problems) }
}

/// Those that a container's own `/dev` begins with, and the others. What else is mounted at `/dev` has whatever it has, and
/// what the spec lists.
pub(crate) fn by_place(spec: &Spec, nodes: Vec<Node>) -> (Vec<Node>, Vec<Node>) {
    let dev = Path::new("/dev");
    let mounts = spec.mounts().iter().flatten();
    let at_dev: Vec<_> = mounts.filter(|mount| crate::mounts::place(mount) == dev).collect();
    let own = at_dev.iter().any(|mount| mount.typ().as_deref() == Some("tmpfs"));
    let (nodes, mut elsewhere): (Vec<_>, Vec<_>) =
        nodes.into_iter().partition(|node| own && node.path.is_relative());
    let listed = |node: &Node| {
        let devices = spec.linux().iter().flat_map(|linux| linux.devices()).flatten();
        devices.map(LinuxDevice::path).any(|path| *path == dev.join(&node.path))
    };
    elsewhere.retain(|node| at_dev.is_empty() || listed(node));
    (nodes, elsewhere)
}

fn node(device: &LinuxDevice) -> Result<Node, Problem> {
    let name = format!("linux.devices[{}]", device.path().display());
    if !crate::mounts::is_place(device.path()) || device.path() == Path::new("/dev") {
        return Err(Problem::invalid(format!("{name}: a device has an absolute path, without `..`")));
    }
    let path = device.path().strip_prefix("/dev").unwrap_or(device.path());
    let kind = match device.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => NodeKind::Character,
        LinuxDeviceType::B => NodeKind::Block,
        LinuxDeviceType::P => NodeKind::Fifo,
        LinuxDeviceType::A => return Err(Problem::invalid(format!("{name}: `a` is no type of a device"))),
    };
    let number = |number: i64| u32::try_from(number).ok();
    let number = match (kind, number(device.major()), number(device.minor())) {
        (NodeKind::Fifo, ..) => (0, 0),
        (_, Some(major), Some(minor)) => (major, minor),
        _ => return Err(Problem::invalid(format!("{name}: no device has a negative number"))),
    };
    let mode = device.file_mode().unwrap_or(0o666) & 0o7777;
    let owner = (device.uid().unwrap_or(0), device.gid().unwrap_or(0));
    Ok(Node { path: path.to_owned(), kind, number, mode, owner })
}

const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// Puts nodes and links in an empty tmpfs, and directories for what is mounted below it. The ids of their owners are those
/// of the user namespace, where there is one.
pub(crate) fn fill(dev: &Mount, nodes: &[Node], user: Option<&UserNamespace>) -> coracle_host::Result<()> {
    let root = user.and_then(|user| user.map().root());
    for node in nodes {
        if let Some(parent) = node.path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Root::new(dev.as_fd(), "/dev").make_dirs(parent, 0o755, root)?;
        }
        make(dev.as_fd(), &node.path, node, user)?;
    }
    let root = root.unwrap_or((0, 0));
    for (name, target) in LINKS {
        symlinkat(target, dev, name).call(|| format!("symlink({target}, /dev/{name})"))?;
        own(dev.as_fd(), name.as_ref(), root)?;
    }
    for name in ["pts", "shm", "mqueue"] {
        mkdirat(dev, name, Mode::from_raw_mode(0o755)).call(|| format!("mkdir(/dev/{name})"))?;
        own(dev.as_fd(), name.as_ref(), root)?;
    }
    Ok(())
}

/// Makes what root has made somebody else's.
fn own(dir: BorrowedFd<'_>, path: &Path, (uid, gid): (u32, u32)) -> coracle_host::Result<()> {
    if (uid, gid) == (0, 0) {
        return Ok(());
    }
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    chownat(dir, path, uid, gid, AtFlags::SYMLINK_NOFOLLOW).call(|| format!("chown({path:?})"))
}

/// Makes a node at a relative path.
fn make(
    dir: BorrowedFd<'_>,
    path: &Path,
    node: &Node,
    user: Option<&UserNamespace>,
) -> coracle_host::Result<()> {
    let Node { mode, number: (major, minor), owner: (uid, gid), .. } = node;
    let mode = Mode::from_raw_mode(*mode);
    mknodat(dir, path, node.file_type(), mode, makedev(*major, *minor)).call(|| format!("mknod({node})"))?;
    let owner = match user {
        Some(user) => (user.user(*uid)?, user.group(*gid)?),
        None => (*uid, *gid),
    };
    own(dir, path, owner)?;
    // The embedding program's umask is not ours to know or to change.
    chmodat(dir, path, mode, AtFlags::empty()).call(|| format!("chmod({node})"))
}

/// A node in a directory of the container's root, made where nothing is there yet and it `may_make` one. Opened as a path.
///
/// # Errors
/// As of mknodat(2); `AlreadyExists` for something that is there and is something else.
pub(crate) fn place(
    dir: BorrowedFd<'_>,
    node: &Node,
    may_make: bool,
    user: Option<&UserNamespace>,
) -> coracle_host::Result<OwnedFd> {
    let name = Path::new(node.path.file_name().unwrap_or_default());
    let open = || {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(dir, name, flags, Mode::empty()).call(|| format!("open({node})"))
    };
    let fd = match open() {
        Err(error) if error.kind() == Kind::NotFound && may_make => {
            make(dir, name, node, user)?;
            open()?
        }
        other => other?,
    };
    let stat = fstat(&fd).call(|| format!("fstat({node})"))?;
    let (major, minor) = node.number;
    let same =
        FileType::from_raw_mode(stat.st_mode) == node.file_type() && stat.st_rdev == makedev(major, minor);
    match same {
        true => Ok(fd),
        false => Err(Error::new(Kind::AlreadyExists, format!("something else than {node} is there already"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(devices: serde_json::Value) -> Result<Vec<String>, Vec<String>> {
        let mut spec = crate::docker_spec();
        spec.linux_mut().as_mut().unwrap().set_devices(serde_json::from_value(devices).unwrap());
        let nodes = nodes(&spec).map(|nodes| nodes[5..].iter().map(ToString::to_string).collect());
        nodes.map_err(|problems| problems.into_iter().map(|problem| problem.text).collect())
    }

    #[test]
    fn devices_of_the_spec() {
        let device = |path: &str, typ: &str| serde_json::json!({ "path": path, "type": typ, "major": 10, "minor": 229 });
        let more =
            of(serde_json::json!([device("/dev/fuse", "c"), device("/dev/a/b", "b"), device("/dev/p", "p")]));
        assert_eq!(more.unwrap(), ["tty c 5:0", "fuse c 10:229", "a/b b 10:229", "p p 0:0"]);
        assert_eq!(of(serde_json::json!([device("/dev/null", "u")])).unwrap(), ["null c 10:229"]);
        let elsewhere = serde_json::json!([device("/dev/ptmx", "c"), device("/srv/x", "c")]);
        assert_eq!(of(elsewhere).unwrap(), ["tty c 5:0", "/srv/x c 10:229"]);
        let refused = of(serde_json::json!([
            device("/dev", "c"),
            device("opt/x", "c"),
            device("/dev/../x", "c"),
            device("/dev/y", "a")
        ]));
        let only = "a device has an absolute path, without `..`";
        let expected = [
            format!("linux.devices[/dev]: {only}"),
            format!("linux.devices[opt/x]: {only}"),
            format!("linux.devices[/dev/../x]: {only}"),
            "linux.devices[/dev/y]: `a` is no type of a device".to_owned(),
        ];
        assert_eq!(refused.unwrap_err(), expected);
    }
}
