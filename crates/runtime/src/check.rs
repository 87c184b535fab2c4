//! What of a spec is wrong, or not done by this runtime. Nothing is ignored.

use std::path::Path;

use coracle_host::Kind;
use oci_spec::runtime::{LinuxNamespaceType, Process, Spec};

use crate::error::Problem;
use crate::{Facts, confine, limits, mounts};

/// All problems of a spec, each by its name in the specification.
pub(crate) fn spec(spec: &Spec, facts: &Facts) -> Vec<Problem> {
    let (mut problems, mut wrong) = (Vec::new(), Vec::new());
    let mut refuse = |there: bool, name: &str| {
        if there {
            problems.push(unsupported(name));
        }
    };
    refuse(spec.hooks().is_some(), "hooks");
    refuse(spec.solaris().is_some(), "solaris");
    refuse(spec.windows().is_some(), "windows");
    refuse(spec.vm().is_some(), "vm");
    refuse(spec.zos().is_some(), "zos");
    if let Some(linux) = spec.linux() {
        refuse(linux.intel_rdt().is_some(), "linux.intelRdt");
        refuse(linux.net_devices().as_ref().is_some_and(|map| !map.is_empty()), "linux.netDevices");
        if let Some(word) = linux.rootfs_propagation().as_deref().filter(|word| !word.is_empty())
            && mounts::propagation(word).is_none()
        {
            wrong.push(invalid(&format!("linux.rootfsPropagation: `{word}` is no way for mounts to travel")));
        }
        for namespace in linux.namespaces().iter().flatten() {
            let kind = word(namespace.typ());
            let relative = namespace.path().as_ref().is_some_and(|path| !path.is_absolute());
            if relative {
                wrong.push(invalid(&format!("linux.namespaces[{kind}].path: not absolute")));
            }
            let all = linux.namespaces().iter().flatten();
            if all.filter(|other| other.typ() == namespace.typ()).count() > 1 {
                wrong.push(invalid(&format!("linux.namespaces: {kind} is there more than once")));
            }
        }
        for (name, paths) in
            [("maskedPaths", linux.masked_paths()), ("readonlyPaths", linux.readonly_paths())]
        {
            for path in paths.iter().flatten().filter(|path| !mounts::is_place(Path::new(path))) {
                wrong.push(invalid(&format!("linux.{name}: `{path}` is no absolute path without `..`")));
            }
        }
        let [mounts, users] = [LinuxNamespaceType::Mount, LinuxNamespaceType::User];
        if has_namespace(spec, users) && !has_namespace(spec, mounts) {
            let text =
                "linux.namespaces: in a user namespace nothing can be mounted without a mount namespace";
            wrong.push(invalid(text));
        }
    } else {
        problems.push(invalid("linux: missing"));
    }
    problems.extend(wrong);
    problems.extend(confine::check_mounts(spec, facts));
    for (what, name) in [("hostname", spec.hostname()), ("domainname", spec.domainname())] {
        let Some(name) = name else { continue };
        if name.is_empty() || name.len() > 64 {
            problems.push(invalid(&format!("{what} `{name}`: 1 to 64 bytes are allowed")));
        }
        if !has_namespace(spec, LinuxNamespaceType::Uts) {
            problems.push(invalid(&format!("{what}: without a uts namespace it would be the host's")));
        }
    }
    match spec.process() {
        Some(given) => problems.extend(process(given, facts)),
        None => problems.push(invalid("process: missing")),
    }
    problems
}

/// All problems of a process.
pub(crate) fn process(process: &Process, facts: &Facts) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut refuse = |there: bool, name: &str| {
        if there {
            problems.push(unsupported(name));
        }
    };
    refuse(process.command_line().is_some(), "process.commandLine");
    refuse(process.user().username().is_some(), "process.user.username");
    problems.extend(confine::check(process, facts));
    if !process.cwd().is_absolute() {
        problems.push(invalid(&format!("process.cwd: {:?} is not an absolute path", process.cwd())));
    }
    if let Some(score) = process.oom_score_adj()
        && !(-1000..=1000).contains(&score)
    {
        problems.push(invalid(&format!("process.oomScoreAdj: {score} is not from -1000 to 1000")));
    }
    problems.extend(limits::check(process));
    let user = process.user();
    let groups = user.additional_gids().iter().flatten();
    for id in [user.uid(), user.gid()].iter().chain(groups).filter(|id| **id == u32::MAX) {
        // To setresuid(2) it says "as before", which is root.
        problems.push(invalid(&format!("process.user: {id} is no id")));
    }
    let strings = process.args().iter().chain(process.env()).flatten();
    for text in strings.filter(|text| text.contains('\0')) {
        problems.push(invalid(&format!("process: {text:?} contains a NUL byte")));
    }
    problems
}

pub(crate) fn has_namespace(spec: &Spec, kind: LinuxNamespaceType) -> bool {
    let namespaces = spec.linux().iter().flat_map(|linux| linux.namespaces()).flatten();
    namespaces.map(|namespace| namespace.typ()).any(|typ| typ == kind)
}

/// The specification's own word (`oci-spec` prints the kernel's).
fn word(kind: LinuxNamespaceType) -> &'static str {
    match kind {
        LinuxNamespaceType::Mount => "mount",
        LinuxNamespaceType::Cgroup => "cgroup",
        LinuxNamespaceType::Uts => "uts",
        LinuxNamespaceType::Ipc => "ipc",
        LinuxNamespaceType::User => "user",
        LinuxNamespaceType::Pid => "pid",
        LinuxNamespaceType::Network => "network",
        LinuxNamespaceType::Time => "time",
    }
}

fn unsupported(name: &str) -> Problem {
    Problem { kind: Kind::Unsupported, text: format!("{name}: not supported yet") }
}

fn invalid(text: &str) -> Problem {
    Problem { kind: Kind::Invalid, text: text.to_owned() }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{Error, Facts, Plan, docker_spec};

    /// Docker's defaults with this merged into them, as JSON.
    pub(crate) fn merged(more: serde_json::Value) -> Spec {
        fn merge(into: &mut serde_json::Value, more: serde_json::Value) {
            match (into, more) {
                (serde_json::Value::Object(into), serde_json::Value::Object(more)) => {
                    for (key, value) in more {
                        merge(into.entry(key).or_insert(serde_json::Value::Null), value);
                    }
                }
                (into, more) => *into = more,
            }
        }
        let mut spec = docker_spec();
        spec.process_mut().as_mut().unwrap().set_args(Some(vec!["true".into()]));
        let mut spec = serde_json::to_value(spec).unwrap();
        merge(&mut spec, more);
        serde_json::from_value(spec).unwrap()
    }

    fn refusal(more: serde_json::Value) -> String {
        Plan::container(&merged(more), &Facts::assumed(&[])).unwrap_err().to_string()
    }

    #[test]
    fn everything_unsupported_is_said_at_once() {
        let error = refusal(serde_json::json!({
            "hooks": {}, "solaris": {}, "windows": { "layerFolders": [] },
            "vm": { "kernel": { "path": "/k" } },
            "linux": {
                "intelRdt": {},
                "netDevices": { "eth0": {} },
            },
        }));
        let names = ["hooks", "solaris", "windows", "vm", "linux.intelRdt", "linux.netDevices"];
        let expected: Vec<String> = names.iter().map(|name| format!("{name}: not supported yet")).collect();
        assert_eq!(error.split("; ").collect::<Vec<_>>(), expected);
    }

    #[test]
    fn everything_invalid_is_said_at_once() {
        let error = refusal(serde_json::json!({
            "hostname": "", "domainname": "x".repeat(65),
            "linux": {
                "namespaces": [{ "type": "mount" }, { "type": "pid" }],
                "sysctl": { "kernel.panic": "1" },
                "maskedPaths": ["/etc/shadow", "/proc/../etc"],
                "readonlyPaths": ["proc/sys"],
            },
            "process": {
                "cwd": "relative", "args": ["a\0b"], "env": ["A=\0"],
                "rlimits": [
                    { "type": "RLIMIT_CORE", "hard": 1, "soft": 2 },
                    { "type": "RLIMIT_CORE", "hard": 0, "soft": 0 },
                ],
                "oomScoreAdj": 1001,
                "user": { "uid": u32::MAX, "gid": u32::MAX, "additionalGids": [1, u32::MAX] },
            },
        }));
        let long = "x".repeat(65);
        let expected = [
            "linux.maskedPaths: `/proc/../etc` is no absolute path without `..`",
            "linux.readonlyPaths: `proc/sys` is no absolute path without `..`",
            "hostname ``: 1 to 64 bytes are allowed",
            "hostname: without a uts namespace it would be the host's",
            &format!("domainname `{long}`: 1 to 64 bytes are allowed"),
            "domainname: without a uts namespace it would be the host's",
            "process.cwd: \"relative\" is not an absolute path",
            "process.oomScoreAdj: 1001 is not from -1000 to 1000",
            "process.rlimits[RLIMIT_CORE]: the soft limit 2 is above the hard one 1",
            "process.rlimits: RLIMIT_CORE is there twice",
            "process.user: 4294967295 is no id",
            "process.user: 4294967295 is no id",
            "process.user: 4294967295 is no id",
            "process: \"a\\0b\" contains a NUL byte",
            "process: \"A=\\0\" contains a NUL byte",
            "linux.sysctl[kernel.panic]: belongs to no namespace, and would change the host",
        ];
        assert_eq!(error.split("; ").collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_a_container_must_have() {
        let mut spec = docker_spec();
        spec.set_process(None).set_linux(None);
        let error = Plan::container(&spec, &Facts::assumed(&[])).unwrap_err();
        assert_eq!(error.to_string(), "linux: missing; process: missing");
        assert_eq!((error.kind(), error.command_status()), (Kind::Invalid, None));
        let error = refusal(serde_json::json!({
            "linux": { "namespaces": [{ "type": "uts" }, { "type": "user", "path": "/u" }] },
        }));
        assert_eq!(
            error,
            "linux.namespaces: in a user namespace nothing can be mounted without a mount namespace"
        );
        let error = refusal(serde_json::json!({ "process": { "args": [] } }));
        assert_eq!(error, "process.args: no command given");
        assert_eq!(format!("{:?}", Error::invalid("x")), "x");
    }

    #[test]
    fn walls_go_by_name_only_in_the_kernels_mounts() {
        let bind_of =
            |from: &str, at: &str| serde_json::json!([{ "destination": at, "type": "bind", "source": from }]);
        let bind = |at: &str| bind_of("/x", at);
        let walls = serde_json::json!({ "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/sys/fs"] });
        let of =
            |more| Plan::container(&merged(more), &Facts::assumed(&["/proc/kcore"])).unwrap().to_string();
        let plan = of(serde_json::json!({ "linux": walls }));
        assert!(plan.contains("mask file ./proc/kcore\n") && !plan.contains("hide"), "{plan}");
        for at in ["/proc", "/data"] {
            let plan = of(serde_json::json!({ "linux": walls, "mounts": bind(at) }));
            assert!(
                plan.contains("hide ./proc/kcore\n") && plan.contains("make ./sys/fs read-only\n"),
                "{plan}"
            );
            assert!(!plan.contains("mask f"), "{plan}");
        }
        // The host's own, at its place, is the kernel's.
        let plan = of(serde_json::json!({ "linux": walls, "mounts": bind_of("/proc", "/proc") }));
        assert!(plan.contains("mask file ./proc/kcore"), "{plan}");
    }

    #[test]
    fn what_a_host_without_security_modules_is_asked() {
        let facts = Facts::assumed(&[]).unconfined();
        let of = |label: &str, profile: &str| {
            merged(serde_json::json!({
                "process": { "apparmorProfile": profile, "selinuxLabel": label },
                "linux": { "mountLabel": label },
            }))
        };
        let error = Plan::container(&of("l", "p"), &facts).unwrap_err();
        let names = ["linux.mountLabel", "process.apparmorProfile", "process.selinuxLabel"];
        let modules = ["SELinux", "AppArmor", "SELinux"];
        let each =
            names.iter().zip(modules).map(|(name, module)| format!("{name}: this host has no {module}"));
        assert_eq!(error.to_string().split("; ").collect::<Vec<_>>(), each.collect::<Vec<_>>());
        assert_eq!(error.kind(), Kind::Unsupported);
        // What asks for nothing can be had.
        assert_eq!(
            Plan::container(&of("", "unconfined"), &facts).unwrap(),
            Plan::container(&merged(serde_json::json!({})), &facts).unwrap()
        );
    }

    #[test]
    fn a_further_process_is_checked_too() {
        let mut process = Process::default();
        process.set_selinux_label(Some("l".into())).set_cwd("x".into()).set_args(Some(vec!["true".into()]));
        let error = Plan::exec(&process, &Facts::assumed(&[]).unconfined()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("process.selinuxLabel: this host has no SELinux"), "{text}");
        assert!(text.contains("process.cwd: \"x\" is not an absolute path"), "{text}");
        assert_eq!(error.kind(), Kind::Unsupported);
    }
}
