//! Docker's defaults, as an OCI spec.

use std::path::PathBuf;

use oci_spec::runtime::{
    Capability, Linux, LinuxCapabilities, LinuxNamespace, LinuxNamespaceType, Mount, Process, Spec, User,
};

/// The `PATH` of a container whose image names none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Hidden, because they tell of the host or reach into it.
const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What root in a container may do by default: docker's fourteen.
const CAPABILITIES: [Capability; 14] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fsetid,
    Capability::Fowner,
    Capability::Mknod,
    Capability::NetRaw,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::Kill,
    Capability::AuditWrite,
];

/// The spec of a container as docker makes it where nothing else is asked for: six new namespaces, proc, sysfs
/// (read-only), dev with pts, shm and mqueue, masked and read-only paths, fourteen capabilities, root, `/`. The
/// command (`process.args`) is left to the caller.
pub fn docker_spec() -> Spec {
    let mut process = Process::default();
    process
        .set_args(None)
        .set_env(Some(vec![format!("PATH={DEFAULT_PATH}")]))
        .set_cwd(PathBuf::from("/"))
        .set_user(User::default())
        .set_terminal(None)
        .set_rlimits(None)
        .set_no_new_privileges(None)
        .set_capabilities(Some(capabilities()));
    let mut linux = Linux::default();
    linux
        .set_resources(None)
        .set_devices(None)
        .set_namespaces(Some(namespaces()))
        .set_masked_paths(Some(MASKED.map(str::to_owned).to_vec()))
        .set_readonly_paths(Some(READ_ONLY.map(str::to_owned).to_vec()));
    let mut spec = Spec::default();
    spec.set_root(None)
        .set_hostname(None)
        .set_mounts(Some(mounts()))
        .set_process(Some(process))
        .set_linux(Some(linux));
    spec
}

fn capabilities() -> LinuxCapabilities {
    let mut capabilities = LinuxCapabilities::default();
    capabilities
        .set_bounding(Some(CAPABILITIES.into()))
        .set_effective(Some(CAPABILITIES.into()))
        .set_permitted(Some(CAPABILITIES.into()))
        .set_inheritable(None)
        .set_ambient(None);
    capabilities
}

fn namespaces() -> Vec<LinuxNamespace> {
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network, Pid, Uts};
    [Mount, Pid, Uts, Ipc, Network, Cgroup]
        .map(|typ| {
            let mut namespace = LinuxNamespace::default();
            namespace.set_typ(typ);
            namespace
        })
        .to_vec()
}

fn mounts() -> Vec<Mount> {
    let mount = |fstype: &str, at: &str, options: &[&str]| {
        let mut mount = Mount::default();
        mount
            .set_destination(PathBuf::from(at))
            .set_typ(Some(fstype.to_owned()))
            .set_source(Some(PathBuf::from(fstype)))
            .set_options(Some(options.iter().map(|option| (*option).to_owned()).collect()));
        mount
    };
    vec![
        mount("proc", "/proc", &["nosuid", "noexec", "nodev"]),
        mount("tmpfs", "/dev", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "devpts",
            "/dev/pts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("sysfs", "/sys", &["nosuid", "noexec", "nodev", "ro"]),
        mount("mqueue", "/dev/mqueue", &["nosuid", "noexec", "nodev"]),
        mount("tmpfs", "/dev/shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"]),
    ]
}
