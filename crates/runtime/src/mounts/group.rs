//! Control groups as a container sees them (runtime-spec config.md, "Mounts", type `cgroup`).

use std::path::PathBuf;

use super::{Known, Options};
use crate::cgroup::Version;
use crate::error::Problem;
use crate::{Attachment, Step};

/// Version 2 is one mount; of version 1, or both, there is one below a tmpfs for each hierarchy that has controllers. The
/// namespace sees to it that the container's own group is the top of each.
pub(super) fn steps(
    name: &str,
    typ: &str,
    at: PathBuf,
    options: Options,
    known: Known<'_>,
) -> Result<Vec<Step>, Problem> {
    let Options { mut attributes, data, .. } = options;
    if let Some(option) = data.first() {
        return Err(Problem::unsupported(format!("{name}: option `{option}` is not supported")));
    }
    if !known.group_namespace {
        let text =
            format!("{name}: control groups without a cgroup namespace, in which they would be the host's");
        return Err(Problem::unsupported(text));
    }
    let unified = known.groups.iter().any(|group| group.version() == Version::V2);
    let mixed = known.groups.iter().any(|group| group.version() == Version::V1);
    let flags = attributes.flags();
    if typ == "cgroup2" || (unified && !mixed) {
        return Ok(vec![Step::Mount { fstype: "cgroup2".into(), at, flags, data: String::new() }]);
    }
    if !mixed {
        return Err(Problem::unsupported(format!("{name}: this host has no control groups to show")));
    }
    let seal = attributes.writable();
    let options = vec!["mode=755".to_owned()];
    let source = Attachment::Tmpfs { options, attributes, devices: None, copy_up: false };
    let mut steps = vec![Step::Attach { source, at: at.clone() }];
    for group in known.groups.iter() {
        let (fstype, place, data) = match group.version() {
            Version::V2 => ("cgroup2", "unified".to_owned(), String::new()),
            // A named hierarchy controls nothing.
            Version::V1 if group.controllers().is_empty() => continue,
            Version::V1 => ("cgroup", group.controllers().join(","), group.controllers().join(",")),
        };
        steps.push(Step::Mount { fstype: fstype.into(), at: at.join(place), flags, data });
    }
    steps.extend(seal.then_some(Step::Seal { at }));
    Ok(steps)
}
