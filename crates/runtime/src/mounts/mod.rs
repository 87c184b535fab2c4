//! The spec's mounts (runtime-spec config.md, "Mounts") as steps.

use std::path::{Component, Path, PathBuf};

use coracle_host::Propagation;
use oci_spec::runtime::Mount;

use crate::cgroup::Hierarchies;
use crate::device::Node;
use crate::error::Problem;
use crate::{Attachment, Step};

mod attributes;
mod group;

pub use attributes::Attributes;

/// The steps that one mount of a spec becomes.
pub(crate) fn steps(mount: &Mount, known: Known<'_>) -> Result<Vec<Step>, Problem> {
    // A relative one is meant from the root (config.md, "Mounts").
    let at: PathBuf = Path::new("/").join(mount.destination()).components().collect();
    let name = format!("mounts[{}]", mount.destination().display());
    if !is_place(&at) {
        return Err(Problem::invalid(format!(
            "{name}: the destination must be an absolute path below /, without `..`"
        )));
    }
    let mapped = |word: &String| word == "idmap" || word == "ridmap";
    if mount.uid_mappings().is_some()
        || mount.gid_mappings().is_some()
        || mount.options().iter().flatten().any(mapped)
    {
        return Err(Problem::unsupported(format!("{name}: id mappings are not supported yet")));
    }
    let mut options = sort(mount.options().as_deref().unwrap_or_default());
    for word in ["remount", "tmpcopyup", "copy-symlink", "src-nofollow", "dest-nofollow"] {
        if options.data.iter().any(|option| option == word) {
            return Err(Problem::unsupported(format!("{name}: option `{word}` is not supported yet")));
        }
    }
    let typ = mount.typ().as_deref().unwrap_or(if options.bind { "bind" } else { "none" });
    if options.bind || typ == "bind" {
        // What is said of the whole file system the kernel passes over here, too.
        return bind(mount, options, &name, at).map(|step| vec![step]);
    }
    options.data.append(&mut options.whole);
    if options.propagation.is_some_and(|(propagation, _)| propagation != Propagation::Private) {
        return Err(Problem::unsupported(format!(
            "{name}: only a bind mount has others to share mounts with"
        )));
    }
    match typ {
        "proc" if known.pids.is_some() => {
            let namespace = known.pids.map(Path::to_owned).unwrap_or_default();
            let (options, attributes) = (options.data, options.attributes);
            Ok(vec![Step::Attach { source: Attachment::Proc { namespace, options, attributes }, at }])
        }
        "proc" | "sysfs" | "mqueue" => {
            let (fstype, flags) = (typ.to_owned(), options.attributes.flags());
            Ok(vec![Step::Mount { fstype, at, flags, data: options.data.join(",") }])
        }
        "tmpfs" => {
            let devices = (at == Path::new("/dev")).then(|| known.nodes.to_vec());
            // Read-only only when everything in it is in place.
            let seal = options.attributes.writable().then(|| Step::Seal { at: at.clone() });
            let (options, attributes) = (options.data, options.attributes);
            let source = Attachment::Tmpfs { options, attributes, devices };
            Ok([Step::Attach { source, at }].into_iter().chain(seal).collect())
        }
        "devpts" => {
            let source = Attachment::DevPts { options: options.data, attributes: options.attributes };
            Ok(vec![Step::Attach { source, at }])
        }
        "cgroup" | "cgroup2" => group::steps(&name, typ, at, options, known),
        other => Err(Problem::unsupported(format!("{name}: type `{other}` is not supported yet"))),
    }
}

/// What mounts depend on besides themselves.
#[derive(Clone, Copy)]
pub(crate) struct Known<'a> {
    /// What is in `/dev`.
    pub(crate) nodes: &'a [Node],
    /// The host's control groups.
    pub(crate) groups: &'a Hierarchies,
    /// Whether the container has a control group namespace.
    pub(crate) group_namespace: bool,
    /// The pid namespace that it joins.
    pub(crate) pids: Option<&'a Path>,
}

fn bind(mount: &Mount, options: Options, name: &str, at: PathBuf) -> Result<Step, Problem> {
    let Some(source) = mount.source().clone().filter(|source| source.is_absolute()) else {
        return Err(Problem::invalid(format!("{name}: a bind mount needs an absolute source")));
    };
    if let Some(other) = options.data.first() {
        let text = format!("{name}: option `{other}` is not supported on a bind mount");
        return Err(Problem::unsupported(text));
    }
    let Options { recursive, attributes, propagation, .. } = options;
    Ok(Step::Attach { source: Attachment::Bind { source, recursive, attributes, propagation }, at })
}

/// Whether something can be mounted there: an absolute path below the root that does not go up again.
pub(crate) fn is_place(at: &Path) -> bool {
    at.is_absolute() && at.parent().is_some() && at.components().all(|part| part != Component::ParentDir)
}

/// Whether this step mounts the kernel file system that `path` is a path of.
pub(crate) fn shows_kernel(step: &Step, path: &str) -> bool {
    let at = match step {
        Step::Mount { at, .. } | Step::Attach { source: Attachment::Proc { .. }, at } => at,
        _ => return false,
    };
    Path::new(path).starts_with(at)
}

#[derive(Default)]
struct Options {
    bind: bool,
    recursive: bool,
    propagation: Option<(Propagation, bool)>,
    attributes: Attributes,
    /// Options of the file system.
    data: Vec<String>,
    /// Those that every file system has.
    whole: Vec<String>,
}

fn sort(options: &[String]) -> Options {
    let mut sorted = Options::default();
    for option in options {
        let propagation = match option.as_str() {
            "bind" => {
                sorted.bind = true;
                continue;
            }
            "rbind" => {
                (sorted.bind, sorted.recursive) = (true, true);
                continue;
            }
            "private" => (Propagation::Private, false),
            "rprivate" => (Propagation::Private, true),
            "slave" => (Propagation::Slave, false),
            "rslave" => (Propagation::Slave, true),
            "shared" => (Propagation::Shared, false),
            "rshared" => (Propagation::Shared, true),
            "unbindable" => (Propagation::Unbindable, false),
            "runbindable" => (Propagation::Unbindable, true),
            "async" | "sync" | "dirsync" | "lazytime" | "nolazytime" | "mand" | "nomand" => {
                sorted.whole.push(option.to_owned());
                continue;
            }
            // What is so anyway; and what file systems in memory have no use for.
            "defaults" | "loud" | "silent" | "norelatime" | "rnorelatime" | "iversion" | "noiversion" => {
                continue;
            }
            option => {
                if !sorted.attributes.take(option) {
                    sorted.data.push(option.to_owned());
                }
                continue;
            }
        };
        sorted.propagation = Some(propagation);
    }
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_host::Kind;

    static NO_GROUPS: std::sync::LazyLock<Hierarchies> = std::sync::LazyLock::new(Hierarchies::default);

    fn nothing() -> Known<'static> {
        Known { nodes: &[], groups: &NO_GROUPS, group_namespace: true, pids: None }
    }

    fn refusal(mount: serde_json::Value) -> String {
        match steps(&serde_json::from_value(mount).unwrap(), nothing()) {
            Err(problem) => format!("{}: {}", problem.kind, problem.text),
            Ok(steps) => panic!("not refused: {}", steps[0]),
        }
    }

    #[test]
    fn each_refusal_names_the_mount() {
        use serde_json::json;
        let place = "the destination must be an absolute path below /, without `..`";
        for at in ["/", "", "/a/../../etc", ".."] {
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
            (json!({ "destination": "/a", "type": "cgroup" }), "this host has no control groups to show"),
            (
                json!({ "destination": "/a", "type": "tmpfs", "options": ["tmpcopyup"] }),
                "option `tmpcopyup` is not supported yet",
            ),
            (
                json!({ "destination": "/a", "type": "tmpfs", "options": ["shared"] }),
                "only a bind mount has others to share mounts with",
            ),
            (
                json!({ "destination": "/a", "source": "/b", "options": ["bind", "size=1"] }),
                "option `size=1` is not supported on a bind mount",
            ),
            (
                json!({ "destination": "/a", "source": "/b", "options": ["bind", "idmap"] }),
                "id mappings are not supported yet",
            ),
            (
                json!({ "destination": "/a", "type": "tmpfs", "options": ["remount"] }),
                "option `remount` is not supported yet",
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
        for at in ["/dev", "/dev/", "//dev", "/./dev", "dev"] {
            let mount = serde_json::from_value(serde_json::json!({ "destination": at, "type": "tmpfs" }));
            let steps = steps(&mount.unwrap(), nothing()).ok().unwrap();
            let Step::Attach { source: Attachment::Tmpfs { devices, .. }, .. } = &steps[0] else {
                panic!("{at}");
            };
            assert!(devices.is_some(), "{at}");
        }
    }
}
