//! The spec's mounts (runtime-spec config.md, "Mounts") as steps.

use std::path::{Component, Path, PathBuf};

use coracle_host::Propagation;
use oci_spec::runtime::Mount;

use crate::cgroup::Hierarchies;
use crate::device::Node;
use crate::error::Problem;
use crate::{Attachment, Step};

mod group;
mod ids;
mod options;
mod remount;

pub(crate) use options::propagation;
use options::{Options, sort};

/// The steps that one mount of a spec becomes, after those that `mounted` has already.
pub(crate) fn steps(mount: &Mount, known: Known<'_>, mounted: &mut [Step]) -> Result<Vec<Step>, Problem> {
    let at = place(mount);
    let name = format!("mounts[{}]", mount.destination().display());
    if !is_place(&at) {
        return Err(Problem::invalid(format!(
            "{name}: the destination must be an absolute path below /, without `..`"
        )));
    }
    let mut options = sort(mount.options().as_deref().unwrap_or_default());
    for word in ["copy-symlink", "src-nofollow", "dest-nofollow"] {
        if options.data.iter().any(|option| option == word) {
            return Err(Problem::unsupported(format!("{name}: option `{word}` is not supported yet")));
        }
    }
    if options.remount {
        return remount::steps(&name, at, options, mounted);
    }
    let typ = mount.typ().as_deref().unwrap_or(if options.bind { "bind" } else { "none" });
    if options.copy_up && (options.bind || typ != "tmpfs") {
        return Err(Problem::invalid(format!("{name}: option `tmpcopyup` is for a tmpfs")));
    }
    if options.bind || typ == "bind" {
        // What is said of the whole file system the kernel passes over here, too.
        return bind(mount, options, &name, at, known.users).map(|step| vec![step]);
    }
    if ids::asked(mount, &options) {
        return Err(Problem::unsupported(format!("{name}: only a bind mount can have its owners mapped")));
    }
    options.data.append(&mut options.whole);
    // A new file system has no master whose slave it could be.
    let apart = |propagation: &Propagation| matches!(propagation, Propagation::Private | Propagation::Slave);
    let travels = options.propagation.filter(|(propagation, _)| !apart(propagation));
    let travels = travels.map(|(propagation, below)| Step::Propagate { at: at.clone(), propagation, below });
    let mut steps = new(mount, typ, at, options, &name, known)?;
    steps.extend(travels);
    Ok(steps)
}

/// The steps of a mount of a file system that is not one of the host's.
fn new(
    mount: &Mount,
    typ: &str,
    at: PathBuf,
    mut options: Options,
    name: &str,
    known: Known<'_>,
) -> Result<Vec<Step>, Problem> {
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
            let Options { data: options, attributes, copy_up, .. } = options;
            let source = Attachment::Tmpfs { options, attributes, devices, copy_up };
            Ok([Step::Attach { source, at }].into_iter().chain(seal).collect())
        }
        "devpts" => {
            let source = Attachment::DevPts { options: options.data, attributes: options.attributes };
            Ok(vec![Step::Attach { source, at }])
        }
        "cgroup" | "cgroup2" => group::steps(name, typ, at, options, known),
        "none" => Err(Problem::invalid(format!("{name}: a mount that is neither a bind nor of a type"))),
        other => {
            let Options { data: mut words, attributes, .. } = options;
            if let Some(source) = mount.source() {
                words.insert(0, format!("source={}", source.display()));
            }
            let source = Attachment::Other { fstype: other.to_owned(), options: words, attributes };
            Ok(vec![Step::Attach { source, at }])
        }
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
    /// Whether it has a user namespace.
    pub(crate) users: bool,
}

fn bind(mount: &Mount, options: Options, name: &str, at: PathBuf, users: bool) -> Result<Step, Problem> {
    let Some(source) = mount.source().clone().filter(|source| source.is_absolute()) else {
        return Err(Problem::invalid(format!("{name}: a bind mount needs an absolute source")));
    };
    if let Some(other) = options.data.first() {
        let text = format!("{name}: option `{other}` is not supported on a bind mount");
        return Err(Problem::unsupported(text));
    }
    let ids = ids::shown(mount, &options, name, users)?;
    let Options { recursive, attributes, propagation, .. } = options;
    Ok(Step::Attach { source: Attachment::Bind { source, recursive, attributes, propagation, ids }, at })
}

/// Where it goes. A relative destination is meant from the root (config.md, "Mounts").
pub(crate) fn place(mount: &Mount) -> PathBuf {
    Path::new("/").join(mount.destination()).components().collect()
}

/// Whether something can be mounted there: an absolute path below the root that does not go up again.
pub(crate) fn is_place(at: &Path) -> bool {
    at.is_absolute() && at.parent().is_some() && at.components().all(|part| part != Component::ParentDir)
}

/// Whether this step mounts the kernel file system that `path` is a path of.
pub(crate) fn shows_kernel(step: &Step, path: &str) -> bool {
    let at = match step {
        Step::Mount { at, .. } | Step::Attach { source: Attachment::Proc { .. }, at } => at,
        Step::Attach { source, at } if is_hosts_own(source, at) => at,
        _ => return false,
    };
    Path::new(path).starts_with(at)
}

/// Whether it is the host's own proc or sysfs, at its place: for a container that can't have its own, because it has the
/// host's processes, or the host's or another one's network and not its users.
pub(crate) fn is_hosts_own(source: &Attachment, at: &Path) -> bool {
    let kernels = [Path::new("/proc"), Path::new("/sys")];
    matches!(source, Attachment::Bind { source, .. } if source == at && kernels.contains(&at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_host::Kind;

    static NO_GROUPS: std::sync::LazyLock<Hierarchies> = std::sync::LazyLock::new(Hierarchies::default);

    fn nothing() -> Known<'static> {
        Known { nodes: &[], groups: &NO_GROUPS, group_namespace: true, pids: None, users: false }
    }

    fn refusal(mount: serde_json::Value) -> String {
        match steps(&serde_json::from_value(mount).unwrap(), nothing(), &mut []) {
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
                "only a bind mount can have its owners mapped",
            ),
            (json!({ "destination": "/a", "type": "cgroup" }), "this host has no control groups to show"),
            (
                json!({ "destination": "/a", "source": "/b", "options": ["bind", "size=1"] }),
                "option `size=1` is not supported on a bind mount",
            ),
            (
                json!({ "destination": "/a", "type": "tmpfs", "options": ["copy-symlink"] }),
                "option `copy-symlink` is not supported yet",
            ),
        ];
        for (mount, text) in cases {
            assert_eq!(refusal(mount), format!("{}: mounts[/a]: {text}", Kind::Unsupported));
        }
        let source = "a bind mount needs an absolute source";
        let wrong = [
            (json!({ "destination": "/a", "type": "bind" }), source),
            (json!({ "destination": "/a", "type": "bind", "source": "relative" }), source),
            (json!({ "destination": "/a" }), "a mount that is neither a bind nor of a type"),
            (
                json!({ "destination": "/a", "type": "tmpfs", "options": ["remount"] }),
                "nothing is mounted there that could be remounted",
            ),
            (
                json!({ "destination": "/a", "type": "proc", "options": ["tmpcopyup"] }),
                "option `tmpcopyup` is for a tmpfs",
            ),
        ];
        for (mount, text) in wrong {
            assert_eq!(refusal(mount), format!("{}: mounts[/a]: {text}", Kind::Invalid));
        }
    }

    /// What is planned for these, in words.
    fn lines(mounts: serde_json::Value) -> Vec<String> {
        let mut all = Vec::new();
        for mount in mounts.as_array().unwrap() {
            let mount = serde_json::from_value(mount.clone()).unwrap();
            let more =
                steps(&mount, nothing(), &mut all).unwrap_or_else(|problem| panic!("{}", problem.text));
            all.extend(more);
        }
        all.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn remounts_change_what_is_there() {
        use serde_json::json;
        let tmpfs =
            json!({ "destination": "/a", "type": "tmpfs", "options": ["nosuid", "size=1", "mode=7"] });
        let bind = json!({ "destination": "/b", "source": "/s", "options": ["bind", "nosuid"] });
        let again =
            |at: &str, options: &[&str]| json!({ "destination": at, "type": "none", "options": options });
        let only = "remount ./a: ro, not nosuid,nodev,noexec,nodiratime,noatime,strictatime,nosymfollow";
        let planned = lines(json!([tmpfs, again("/a", &["bind", "remount", "ro"])]));
        assert_eq!(planned, ["attach tmpfs nosuid,size=1,mode=7 at ./a", only]);
        let planned = lines(json!([tmpfs, again("/a/", &["remount", "size=2", "ro", "sync"])]));
        assert_eq!(planned, ["attach tmpfs nosuid,mode=7,size=2,sync at ./a", only]);
        let planned = lines(json!([bind, again("/b", &["remount", "bind", "noexec", "rro"])]));
        let all = "noexec, not ro,nosuid,nodev,nodiratime,noatime,strictatime,nosymfollow";
        assert_eq!(planned[1..], [format!("remount ./b: {all}"), "remount ./b and all below: ro".to_owned()]);
        let proc = json!({ "destination": "/proc", "type": "proc", "options": ["nosuid", "hidepid=1"] });
        let planned = lines(json!([proc, again("/proc", &["remount", "ro", "hidepid=2"])]));
        assert_eq!(planned, ["mount proc at ./proc ro,hidepid=2"]);
        let mut mounted = steps(&serde_json::from_value(bind).unwrap(), nothing(), &mut []).ok().unwrap();
        let remount = serde_json::from_value(again("/b", &["remount", "ro"])).unwrap();
        let problem = steps(&remount, nothing(), &mut mounted).err().unwrap();
        let text = "`remount` without `bind` would change a file system of the host";
        assert_eq!(problem.text, format!("mounts[/b]: {text}"));
    }

    #[test]
    fn dev_is_dev_however_it_is_written() {
        for at in ["/dev", "/dev/", "//dev", "/./dev", "dev"] {
            let mount = serde_json::from_value(serde_json::json!({ "destination": at, "type": "tmpfs" }));
            let steps = steps(&mount.unwrap(), nothing(), &mut []).ok().unwrap();
            let Step::Attach { source: Attachment::Tmpfs { devices, .. }, .. } = &steps[0] else {
                panic!("{at}");
            };
            assert!(devices.is_some(), "{at}");
        }
    }
}
