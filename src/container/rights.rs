//! What a container may do that depends on capabilities (capabilities(7)), and what privileged ones may.

use coracle_runtime::docker_spec;
use oci_spec::runtime::{Capabilities, Capability, Process, Spec};

use super::spec::ContainerSpec;

impl ContainerSpec {
    /// Nothing in `/proc` and `/sys` is masked or read-only because of where it is (docker's `systempaths=unconfined`).
    #[must_use]
    pub fn open_system_paths(mut self) -> ContainerSpec {
        self.open_paths = true;
        self
    }
}

/// Every one. Of those that the engine doesn't have itself a container gets none.
const ALL: [Capability; 41] = [
    Capability::AuditControl,
    Capability::AuditRead,
    Capability::AuditWrite,
    Capability::BlockSuspend,
    Capability::Bpf,
    Capability::CheckpointRestore,
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::Kill,
    Capability::Lease,
    Capability::LinuxImmutable,
    Capability::MacAdmin,
    Capability::MacOverride,
    Capability::Mknod,
    Capability::NetAdmin,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetRaw,
    Capability::Perfmon,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysChroot,
    Capability::SysModule,
    Capability::SysNice,
    Capability::SysPacct,
    Capability::SysPtrace,
    Capability::SysRawio,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Syslog,
    Capability::WakeAlarm,
];

/// All that there are.
pub(crate) fn all() -> Capabilities {
    ALL.into_iter().collect()
}

/// Gives a process these, as root has them.
pub(crate) fn bound(process: &mut Process, capabilities: &Capabilities) {
    let mut sets = process.capabilities().clone().unwrap_or_default();
    sets.set_bounding(Some(capabilities.clone()))
        .set_permitted(Some(capabilities.clone()))
        .set_effective(Some(capabilities.clone()));
    process.set_capabilities(Some(sets));
}

/// docker's fourteen, or all, with those that are added and without those that are dropped.
pub(crate) fn capabilities(spec: &ContainerSpec, problems: &mut Vec<String>) -> Capabilities {
    let default = docker_spec();
    let sets = default.process().as_ref().and_then(|process| process.capabilities().as_ref());
    let mut set = sets.and_then(|sets| sets.bounding().clone()).unwrap_or_default();
    let mut named = |names: &[String]| -> (bool, Vec<Capability>) {
        let mut all = false;
        let mut list = Vec::new();
        for name in names {
            let upper = name.to_ascii_uppercase();
            match upper.strip_prefix("CAP_").unwrap_or(&upper) {
                "ALL" => all = true,
                short => match short.parse() {
                    Ok(capability) => list.push(capability),
                    Err(_) => problems.push(format!("unknown capability `{name}`")),
                },
            }
        }
        (all, list)
    };
    let (drop_all, dropped) = named(&spec.cap_drop);
    let (add_all, added) = named(&spec.cap_add);
    if drop_all {
        set.clear();
    }
    if add_all || spec.privileged {
        set.extend(ALL);
    }
    set.extend(added);
    set.retain(|capability| !dropped.contains(capability));
    set
}

/// Nothing masked, and no path read-only.
pub(crate) fn open_paths(spec: &mut Spec) {
    if let Some(linux) = spec.linux_mut() {
        linux.set_masked_paths(None).set_readonly_paths(None);
    }
}

/// Nothing masked, and nothing of the kernel's read-only.
pub(crate) fn open(spec: &mut Spec) {
    open_paths(spec);
    for mount in spec.mounts_mut().iter_mut().flatten() {
        if mount.typ().as_deref() == Some("sysfs") {
            let options =
                mount.options().iter().flatten().filter(|option| *option != "ro").cloned().collect();
            mount.set_options(Some(options));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(spec: ContainerSpec) -> Capabilities {
        let mut problems = Vec::new();
        let set = capabilities(&spec, &mut problems);
        assert_eq!(problems, [""; 0]);
        set
    }

    #[test]
    fn sets() {
        let new = || ContainerSpec::new("i");
        assert_eq!(set(new()).len(), 14);
        assert_eq!(set(new().cap_drop("ALL")).len(), 0);
        assert_eq!(set(new().cap_drop("ALL").cap_add("cap_chown")), Capabilities::from([Capability::Chown]));
        assert_eq!(set(new().cap_add("ALL")).len(), ALL.len());
        assert_eq!(set(new().privileged().cap_drop("MKNOD")).len(), ALL.len() - 1);
    }
}
