//! What of a spec is wrong, or not done by this runtime. Nothing is ignored.

use coracle_host::Kind;
use oci_spec::runtime::{LinuxNamespaceType, Process, Spec};

use crate::error::Problem;

/// All problems of a spec, each by its name in the specification.
pub(crate) fn spec(spec: &Spec) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut refuse = |there: bool, name: &str| {
        if there {
            problems.push(unsupported(name));
        }
    };
    refuse(spec.hooks().is_some(), "hooks");
    refuse(spec.solaris().is_some(), "solaris");
    refuse(spec.windows().is_some(), "windows");
    refuse(spec.vm().is_some(), "vm");
    if let Some(linux) = spec.linux() {
        refuse(filled(linux.uid_mappings().as_deref()), "linux.uidMappings");
        refuse(filled(linux.gid_mappings().as_deref()), "linux.gidMappings");
        refuse(linux.sysctl().as_ref().is_some_and(|map| !map.is_empty()), "linux.sysctl");
        refuse(linux.resources().is_some(), "linux.resources");
        refuse(linux.cgroups_path().is_some(), "linux.cgroupsPath");
        refuse(filled(linux.devices().as_deref()), "linux.devices");
        refuse(linux.seccomp().is_some(), "linux.seccomp");
        refuse(linux.rootfs_propagation().is_some(), "linux.rootfsPropagation");
        refuse(linux.mount_label().is_some(), "linux.mountLabel");
        refuse(linux.intel_rdt().is_some(), "linux.intelRdt");
        refuse(linux.memory_policy().is_some(), "linux.memoryPolicy");
        refuse(linux.personality().is_some(), "linux.personality");
        refuse(linux.time_offsets().as_ref().is_some_and(|map| !map.is_empty()), "linux.timeOffsets");
        refuse(linux.net_devices().as_ref().is_some_and(|map| !map.is_empty()), "linux.netDevices");
        for namespace in linux.namespaces().iter().flatten() {
            let kind = namespace.typ();
            refuse(namespace.path().is_some(), &format!("linux.namespaces[{kind}].path"));
            let other = matches!(kind, LinuxNamespaceType::User | LinuxNamespaceType::Time);
            refuse(other, &format!("linux.namespaces[{kind}]"));
        }
        for (name, paths) in
            [("maskedPaths", linux.masked_paths()), ("readonlyPaths", linux.readonly_paths())]
        {
            for path in paths.iter().flatten().filter(|path| !kernel_path(path)) {
                refuse(true, &format!("linux.{name}: `{path}`, which is neither below /proc nor /sys"));
            }
        }
        let kinds = linux.namespaces().iter().flatten();
        for needed in [LinuxNamespaceType::Mount, LinuxNamespaceType::Pid] {
            if !kinds.clone().any(|namespace| namespace.typ() == needed) {
                refuse(true, &format!("linux.namespaces without {needed}"));
            }
        }
    } else {
        problems.push(invalid("linux: missing"));
    }
    for name in [spec.hostname(), spec.domainname()].into_iter().flatten() {
        if name.is_empty() || name.len() > 64 {
            problems.push(invalid(&format!("hostname `{name}`: 1 to 64 bytes are allowed")));
        }
    }
    match spec.process() {
        Some(given) => problems.extend(process(given)),
        None => problems.push(invalid("process: missing")),
    }
    problems
}

/// All problems of a process.
pub(crate) fn process(process: &Process) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut refuse = |there: bool, name: &str| {
        if there {
            problems.push(unsupported(name));
        }
    };
    refuse(process.terminal() == Some(true), "process.terminal");
    refuse(filled(process.rlimits().as_deref()), "process.rlimits");
    refuse(process.apparmor_profile().is_some(), "process.apparmorProfile");
    refuse(process.oom_score_adj().is_some(), "process.oomScoreAdj");
    refuse(process.selinux_label().is_some(), "process.selinuxLabel");
    refuse(process.io_priority().is_some(), "process.ioPriority");
    refuse(process.scheduler().is_some(), "process.scheduler");
    refuse(process.exec_cpu_affinity().is_some(), "process.execCPUAffinity");
    if !process.cwd().is_absolute() {
        problems.push(invalid(&format!("process.cwd: {:?} is not an absolute path", process.cwd())));
    }
    let strings = process.args().iter().chain(process.env()).flatten();
    for text in strings.filter(|text| text.contains('\0')) {
        problems.push(invalid(&format!("process: {text:?} contains a NUL byte")));
    }
    problems
}

fn kernel_path(path: &str) -> bool {
    let inside = path.starts_with("/proc/") || path.starts_with("/sys/");
    inside && !path.split('/').any(|component| component == "..")
}

fn filled<T>(list: Option<&[T]>) -> bool {
    list.is_some_and(|list| !list.is_empty())
}

fn unsupported(name: &str) -> Problem {
    Problem { kind: Kind::Unsupported, text: format!("{name}: not supported yet") }
}

fn invalid(text: &str) -> Problem {
    Problem { kind: Kind::Invalid, text: text.to_owned() }
}
