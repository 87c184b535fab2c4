//! Settings of a container that its OCI spec has a word for.

use oci_spec::runtime::{LinuxDevice, PosixRlimitBuilder, PosixRlimitType, Process, Spec};

use super::spec::ContainerSpec;

/// Names of limits, in small letters.
const RLIMITS: [(&str, PosixRlimitType); 16] = [
    ("as", PosixRlimitType::RlimitAs),
    ("core", PosixRlimitType::RlimitCore),
    ("cpu", PosixRlimitType::RlimitCpu),
    ("data", PosixRlimitType::RlimitData),
    ("fsize", PosixRlimitType::RlimitFsize),
    ("locks", PosixRlimitType::RlimitLocks),
    ("memlock", PosixRlimitType::RlimitMemlock),
    ("msgqueue", PosixRlimitType::RlimitMsgqueue),
    ("nice", PosixRlimitType::RlimitNice),
    ("nofile", PosixRlimitType::RlimitNofile),
    ("nproc", PosixRlimitType::RlimitNproc),
    ("rss", PosixRlimitType::RlimitRss),
    ("rtprio", PosixRlimitType::RlimitRtprio),
    ("rttime", PosixRlimitType::RlimitRttime),
    ("sigpending", PosixRlimitType::RlimitSigpending),
    ("stack", PosixRlimitType::RlimitStack),
];

fn rlimit(name: &str) -> Option<PosixRlimitType> {
    RLIMITS.iter().find(|(known, _)| *known == name).map(|(_, typ)| *typ)
}

/// A limit's name in small letters.
pub(crate) fn rlimit_name(typ: PosixRlimitType) -> Option<&'static str> {
    RLIMITS.iter().find(|(_, known)| *known == typ).map(|(name, _)| *name)
}

/// What is wrong with the limits, if anything.
pub(crate) fn problems(spec: &ContainerSpec) -> impl Iterator<Item = String> {
    spec.rlimits.iter().filter_map(|(name, soft, hard)| rlimit_problem(name, *soft, *hard))
}

/// What is wrong with one limit, if anything.
pub(crate) fn rlimit_problem(name: &str, soft: u64, hard: u64) -> Option<String> {
    match rlimit(name) {
        None => Some(format!("unknown resource limit `{name}`")),
        Some(_) if soft > hard => Some(format!("resource limit `{name}`: {soft} is more than {hard}")),
        Some(_) => None,
    }
}

/// Writes limits into a process: names, soft and hard. Names that are none are left out.
pub(crate) fn set_rlimits(process: &mut Process, limits: &[(String, u64, u64)]) {
    let limits = limits.iter().filter_map(|(name, soft, hard)| {
        PosixRlimitBuilder::default().typ(rlimit(name)?).soft(*soft).hard(*hard).build().ok()
    });
    process.set_rlimits(Some(limits.collect()).filter(|limits: &Vec<_>| !limits.is_empty()));
}

/// Writes how much `/dev/shm` has room for into the spec.
pub(crate) fn set_shm_size(oci: &mut Spec, bytes: u64) {
    let shm = |mount: &&mut oci_spec::runtime::Mount| mount.destination().as_os_str() == "/dev/shm";
    for mount in oci.mounts_mut().iter_mut().flatten().filter(shm) {
        let options = mount.options().iter().flatten().filter(|option| !option.starts_with("size="));
        let options = options.cloned().chain([format!("size={bytes}")]).collect();
        mount.set_options(Some(options));
    }
}

/// Writes them into the spec.
pub(crate) fn apply(spec: &ContainerSpec, devices: Vec<LinuxDevice>, oci: &mut Spec) {
    oci.set_domainname(spec.domainname.clone());
    if let Some(process) = oci.process_mut() {
        set_rlimits(process, &spec.rlimits);
        process.set_oom_score_adj(spec.oom_score_adj);
    }
    if let Some(linux) = oci.linux_mut() {
        linux.set_devices(Some(devices).filter(|devices| !devices.is_empty()));
        let sysctls = spec.sysctls.iter().cloned().collect::<std::collections::HashMap<_, _>>();
        linux.set_sysctl(Some(sysctls).filter(|sysctls| !sysctls.is_empty()));
    }
    if let Some(bytes) = spec.shm_size {
        set_shm_size(oci, bytes);
    }
}
