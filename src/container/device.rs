//! Devices of the host for a container, and rules for their use.

use std::path::PathBuf;

use oci_spec::runtime::{LinuxDevice, LinuxDeviceBuilder, LinuxDeviceCgroup, LinuxDeviceType};
use rustix::fs::{FileType, major, minor, stat};
use serde::{Deserialize, Serialize};

/// A device that is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Device {
    pub(crate) host: PathBuf,
    pub(crate) at: PathBuf,
    pub(crate) access: String,
}

/// Nodes and rules as the OCI runtime specification has them.
pub(crate) fn resolve(
    devices: &[Device],
    rules: &[String],
    problems: &mut Vec<String>,
) -> (Vec<LinuxDevice>, Vec<LinuxDeviceCgroup>) {
    let (mut nodes, mut allowed) = (Vec::new(), Vec::new());
    for device in devices {
        match node(device) {
            Ok((node, rule)) => {
                nodes.push(node);
                allowed.push(rule);
            }
            Err(problem) => problems.push(format!("device {:?}: {problem}", device.host)),
        }
    }
    for text in rules {
        match rule(text) {
            Some(rule) => allowed.push(rule),
            None => problems.push(format!("device rule `{text}`: want `[abc] MAJOR:MINOR [rwm]`")),
        }
    }
    (nodes, allowed)
}

fn node(device: &Device) -> Result<(LinuxDevice, LinuxDeviceCgroup), String> {
    let found = stat(&device.host).map_err(|errno| std::io::Error::from(errno).to_string())?;
    let typ = match FileType::from_raw_mode(found.st_mode) {
        FileType::CharacterDevice => LinuxDeviceType::C,
        FileType::BlockDevice => LinuxDeviceType::B,
        _ => return Err("not a device".into()),
    };
    let known = |access: &str| !access.is_empty() && access.chars().all(|one| "rwm".contains(one));
    if !known(&device.access) {
        return Err(format!("access `{}`: want some of r, w and m", device.access));
    }
    if !device.at.is_absolute() || device.at.parent().is_none() {
        return Err(format!("{:?} is not an absolute path below /", device.at));
    }
    let (major, minor) = (i64::from(major(found.st_rdev)), i64::from(minor(found.st_rdev)));
    let node = LinuxDeviceBuilder::default()
        .path(device.at.clone())
        .typ(typ)
        .major(major)
        .minor(minor)
        .file_mode(found.st_mode & 0o7777)
        .uid(found.st_uid)
        .gid(found.st_gid)
        .build()
        .map_err(|error| error.to_string())?;
    Ok((node, allow(typ, Some(major), Some(minor), &device.access)))
}

fn allow(typ: LinuxDeviceType, major: Option<i64>, minor: Option<i64>, access: &str) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(true).set_typ(Some(typ)).set_major(major).set_minor(minor).set_access(Some(access.into()));
    rule
}

/// `c 42:* rmw`
fn rule(text: &str) -> Option<LinuxDeviceCgroup> {
    let mut parts = text.split(' ');
    let typ = match parts.next()? {
        "a" => LinuxDeviceType::A,
        "b" => LinuxDeviceType::B,
        "c" => LinuxDeviceType::C,
        _ => return None,
    };
    let (major, minor) = parts.next()?.split_once(':')?;
    let number = |text: &str| match text {
        "*" => Some(None),
        digits => digits.parse::<u32>().ok().map(|number| Some(i64::from(number))),
    };
    let access = parts.next()?;
    let known = (1..=3).contains(&access.len()) && access.chars().all(|one| "rwm".contains(one));
    (known && parts.next().is_none()).then_some(())?;
    Some(allow(typ, number(major)?, number(minor)?, access))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_and_nodes() {
        let mut problems = Vec::new();
        let null = Device { host: "/dev/null".into(), at: "/dev/nothing".into(), access: "rw".into() };
        let (nodes, rules) = resolve(&[null], &["c 42:* rmw".into()], &mut problems);
        assert_eq!(problems, [""; 0]);
        assert_eq!((nodes[0].major(), nodes[0].minor(), nodes[0].typ()), (1, 3, LinuxDeviceType::C));
        assert_eq!((rules[0].major(), rules[0].access().as_deref()), (Some(1), Some("rw")));
        assert_eq!((rules[1].major(), rules[1].minor()), (Some(42), None));
        for bad in ["", "x 1:2 r", "c 1 r", "c 1:2", "c 1:2 x", "c 1:2 r x", "c -1:2 r"] {
            assert!(rule(bad).is_none(), "{bad}");
        }
        let no =
            |host: &str, access: &str| Device { host: host.into(), at: "/x".into(), access: access.into() };
        resolve(&[no("/no/such", "r"), no("/etc", "r"), no("/dev/null", "x")], &[], &mut problems);
        assert_eq!(problems.len(), 3, "{problems:?}");
    }
}
