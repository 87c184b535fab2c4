//! The spec's mounts (runtime-spec config.md, "Mounts") as steps.

use std::path::{Component, Path};

use coracle_host::Kind;
use oci_spec::runtime::Mount;
use rustix::mount::MountFlags;

use crate::device::Node;
use crate::error::Problem;
use crate::{Attachment, Step};

/// The step that one mount of a spec becomes.
pub(crate) fn step(mount: &Mount, nodes: &[Node]) -> Result<Step, Problem> {
    let at = mount.destination().clone();
    let name = || format!("mounts[{}]", at.display());
    let invalid = |text: String| Problem { kind: Kind::Invalid, text };
    let unsupported = |text: String| Problem { kind: Kind::Unsupported, text };
    if !is_place(&at) {
        return Err(invalid(format!(
            "{}: the destination must be an absolute path below /, without `..`",
            name()
        )));
    }
    if mount.uid_mappings().is_some() || mount.gid_mappings().is_some() {
        return Err(unsupported(format!("{}: id mappings are not supported yet", name())));
    }
    let options = sort(mount.options().as_deref().unwrap_or_default());
    let typ = mount.typ().as_deref().unwrap_or(if options.bind { "bind" } else { "none" });
    if options.bind || typ == "bind" {
        let Some(source) = mount.source().clone().filter(|source| source.is_absolute()) else {
            return Err(invalid(format!("{}: a bind mount needs an absolute source", name())));
        };
        if let Some(other) = options.data.first() {
            return Err(unsupported(format!(
                "{}: option `{other}` is not supported on a bind mount",
                name()
            )));
        }
        let extra = options.flags & !(MountFlags::RDONLY);
        if !extra.is_empty() {
            return Err(unsupported(format!("{}: only `ro` is supported on a bind mount yet", name())));
        }
        let read_only = options.flags.contains(MountFlags::RDONLY);
        let source = Attachment::Bind { source, recursive: options.recursive, read_only };
        return Ok(Step::Attach { source, at });
    }
    match typ {
        "proc" | "sysfs" | "mqueue" => {
            Ok(Step::Mount { fstype: typ.to_owned(), at, flags: options.flags, data: options.data.join(",") })
        }
        "tmpfs" => {
            let devices = (at == Path::new("/dev")).then(|| nodes.to_vec());
            let source = Attachment::Tmpfs { options: options.data, flags: options.words, devices };
            Ok(Step::Attach { source, at })
        }
        "devpts" => {
            let source = Attachment::DevPts { options: options.data, flags: options.words };
            Ok(Step::Attach { source, at })
        }
        other => Err(unsupported(format!("{}: type `{other}` is not supported yet", name()))),
    }
}

/// Whether something can be mounted there: an absolute path below the root that does not go up again.
pub(crate) fn is_place(at: &Path) -> bool {
    at.is_absolute() && at.parent().is_some() && at.components().all(|part| part != Component::ParentDir)
}

/// Whether this step mounts the kernel file system that `path` is a path of.
pub(crate) fn shows_kernel(step: &Step, path: &str) -> bool {
    matches!(step, Step::Mount { at, .. } if Path::new(path).starts_with(at))
}

struct Options {
    bind: bool,
    recursive: bool,
    flags: MountFlags,
    /// The flags, in the spec's words.
    words: Vec<String>,
    data: Vec<String>,
}

fn sort(options: &[String]) -> Options {
    let mut sorted = Options {
        bind: false,
        recursive: false,
        flags: MountFlags::empty(),
        words: Vec::new(),
        data: Vec::new(),
    };
    for option in options {
        let flag = match option.as_str() {
            "ro" => MountFlags::RDONLY,
            "nosuid" => MountFlags::NOSUID,
            "nodev" => MountFlags::NODEV,
            "noexec" => MountFlags::NOEXEC,
            "noatime" => MountFlags::NOATIME,
            "nodiratime" => MountFlags::NODIRATIME,
            "relatime" => MountFlags::RELATIME,
            "strictatime" => MountFlags::STRICTATIME,
            "bind" => {
                sorted.bind = true;
                continue;
            }
            "rbind" => {
                (sorted.bind, sorted.recursive) = (true, true);
                continue;
            }
            // What every mount of ours is anyway: writable unless said otherwise, and private.
            "rw" | "private" | "rprivate" | "defaults" => continue,
            _ => {
                sorted.data.push(option.clone());
                continue;
            }
        };
        sorted.flags |= flag;
        sorted.words.push(option.clone());
    }
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(mount: serde_json::Value) -> String {
        match step(&serde_json::from_value(mount).unwrap(), &[]) {
            Err(problem) => format!("{}: {}", problem.kind, problem.text),
            Ok(step) => panic!("not refused: {step}"),
        }
    }

    #[test]
    fn each_refusal_names_the_mount() {
        use serde_json::json;
        let place = "the destination must be an absolute path below /, without `..`";
        for at in ["/", "relative", "/a/../../etc", ".."] {
            let at_words = std::path::Path::new(at).display();
            let refused = refusal(json!({ "destination": at, "type": "tmpfs" }));
            assert_eq!(refused, format!("{}: mounts[{at_words}]: {place}", Kind::Invalid));
        }
        let maps = json!([{ "containerID": 0, "hostID": 0, "size": 1 }]);
        let cases = [
            (
                json!({ "destination": "/a", "type": "tmpfs", "uidMappings": maps }),
                "id mappings are not supported yet",
            ),
            (json!({ "destination": "/a", "type": "ext4" }), "type `ext4` is not supported yet"),
            (json!({ "destination": "/a" }), "type `none` is not supported yet"),
            (json!({ "destination": "/a", "type": "cgroup" }), "type `cgroup` is not supported yet"),
            (
                json!({ "destination": "/a", "source": "/b", "options": ["bind", "nosuid"] }),
                "only `ro` is supported on a bind mount yet",
            ),
            (
                json!({ "destination": "/a", "source": "/b", "options": ["rbind", "rshared"] }),
                "option `rshared` is not supported on a bind mount",
            ),
        ];
        for (mount, text) in cases {
            assert_eq!(refusal(mount), format!("{}: mounts[/a]: {text}", Kind::Unsupported));
        }
        let sources = [
            json!({ "destination": "/a", "type": "bind" }),
            json!({ "destination": "/a", "type": "bind", "source": "relative" }),
        ];
        for mount in sources {
            let text = "a bind mount needs an absolute source";
            assert_eq!(refusal(mount), format!("{}: mounts[/a]: {text}", Kind::Invalid));
        }
    }

    #[test]
    fn dev_is_dev_however_it_is_written() {
        for at in ["/dev", "/dev/", "//dev", "/./dev"] {
            let mount = serde_json::from_value(serde_json::json!({ "destination": at, "type": "tmpfs" }));
            let Ok(Step::Attach { source: Attachment::Tmpfs { devices, .. }, .. }) =
                step(&mount.unwrap(), &[])
            else {
                panic!("{at}");
            };
            assert!(devices.is_some(), "{at}");
        }
    }
}
