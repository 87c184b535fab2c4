//! What is in a container's `/dev` (runtime-spec config-linux.md, "Default Devices").

use std::fmt;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use coracle_host::{Call, Mount, Root};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, Spec};
use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid, chmodat, chownat, makedev, mkdirat, mknodat, symlinkat};

use crate::UserNamespace;
use crate::error::Problem;

const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// A node in a container's `/dev`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Node {
    /// Where, below `/dev`.
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

/// The default nodes and those of the spec, of which one at the place of a default one replaces it.
///
/// # Errors
/// All that are no devices below `/dev`.
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
                nodes.push(node);
            }
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(nodes) } else { Err(problems) }
}

fn node(device: &LinuxDevice) -> Result<Node, Problem> {
    let name = format!("linux.devices[{}]", device.path().display());
    let below = device.path().strip_prefix("/dev").ok();
    let below = below.filter(|path| !path.as_os_str().is_empty() && crate::mounts::is_place(device.path()));
    let Some(path) = below else {
        return Err(Problem::unsupported(format!("{name}: only devices below /dev are supported")));
    };
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
        let Node { path, mode, number: (major, minor), owner: (uid, gid), .. } = node;
        let call = || format!("mknod(/dev/{node})");
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Root::new(dev.as_fd(), "/dev").make_dirs(parent, 0o755, root)?;
        }
        let kind = match node.kind {
            NodeKind::Character => FileType::CharacterDevice,
            NodeKind::Block => FileType::BlockDevice,
            NodeKind::Fifo => FileType::Fifo,
        };
        let mode = Mode::from_raw_mode(*mode);
        mknodat(dev, path, kind, mode, makedev(*major, *minor)).call(call)?;
        let owner = match user {
            Some(user) => (user.user(*uid)?, user.group(*gid)?),
            None => (*uid, *gid),
        };
        own(dev, path, owner)?;
        // The embedding program's umask is not ours to know or to change.
        chmodat(dev, path, mode, AtFlags::empty()).call(|| format!("chmod(/dev/{node})"))?;
    }
    let root = root.unwrap_or((0, 0));
    for (name, target) in LINKS {
        symlinkat(target, dev, name).call(|| format!("symlink({target}, /dev/{name})"))?;
        own(dev, name.as_ref(), root)?;
    }
    for name in ["pts", "shm", "mqueue"] {
        mkdirat(dev, name, Mode::from_raw_mode(0o755)).call(|| format!("mkdir(/dev/{name})"))?;
        own(dev, name.as_ref(), root)?;
    }
    Ok(())
}

/// Makes what root has made somebody else's.
fn own(dev: &Mount, path: &Path, (uid, gid): (u32, u32)) -> coracle_host::Result<()> {
    if (uid, gid) == (0, 0) {
        return Ok(());
    }
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    chownat(dev, path, uid, gid, AtFlags::SYMLINK_NOFOLLOW).call(|| format!("chown(/dev/{})", path.display()))
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
        let refused = of(serde_json::json!([
            device("/opt/x", "c"),
            device("/dev", "c"),
            device("/dev/../x", "c"),
            device("/dev/y", "a")
        ]));
        let only = "only devices below /dev are supported";
        let expected = [
            format!("linux.devices[/opt/x]: {only}"),
            format!("linux.devices[/dev]: {only}"),
            format!("linux.devices[/dev/../x]: {only}"),
            "linux.devices[/dev/y]: `a` is no type of a device".to_owned(),
        ];
        assert_eq!(refused.unwrap_err(), expected);
    }
}
