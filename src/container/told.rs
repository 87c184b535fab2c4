//! What was asked for a container besides its image and command: what `docker inspect` calls its host configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use coracle_runtime::LogLimits;
use oci_spec::runtime::{Linux, Process};

use super::filter::Seccomp;
use super::handle::Container;
use super::limits::{Limits, Throttle};
use super::settings;
use super::spaces::{Ipc, Pids};

/// The figures of [`Limits`]; what was not said is `None`, or empty.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct LimitValues {
    /// Bytes of memory.
    pub memory: Option<i64>,
    /// Bytes of memory and swap together; -1 for no limit of swap.
    pub memory_swap: Option<i64>,
    /// Bytes of memory that it is brought back to when the host runs short.
    pub memory_reservation: Option<i64>,
    /// 0 to 100.
    pub memory_swappiness: Option<u64>,
    /// Whether its processes wait for memory instead of being killed.
    pub oom_kill_disable: bool,
    /// Billionths of a processor, where [`Limits::cpus`] said so; quota and period come of it.
    pub nano_cpus: Option<u64>,
    /// Its weight when processors are short.
    pub cpu_shares: Option<u64>,
    /// Microseconds in every period.
    pub cpu_quota: Option<i64>,
    /// Microseconds of a period.
    pub cpu_period: Option<u64>,
    /// Microseconds of a period of real-time scheduling.
    pub cpu_realtime_period: Option<u64>,
    /// Microseconds of real-time scheduling in every period.
    pub cpu_realtime_runtime: Option<i64>,
    /// Processors, in cpuset(7)'s list format.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes, in cpuset(7)'s list format.
    pub cpuset_mems: Option<String>,
    /// Processes and threads; -1 for no limit.
    pub pids: Option<i64>,
    /// Its weight when block devices are busy.
    pub blkio_weight: Option<u16>,
    /// Its weight when one of these is busy.
    pub blkio_weights: Vec<(PathBuf, u16)>,
    /// What it may use of block devices in a second.
    pub rates: Vec<(Throttle, PathBuf, u64)>,
}

/// A device of the host that a container has: where it is on the host and in the container, and its accesses, of `rwm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GivenDevice<'a> {
    /// On the host.
    pub host: &'a Path,
    /// In the container.
    pub at: &'a Path,
    /// Of read, write, mknod.
    pub access: &'a str,
}

impl Container {
    /// What it may use at most.
    pub fn limits(&self) -> &Limits {
        &self.record.limits
    }

    /// Whose processes it sees; other containers by their ids.
    pub fn pids(&self) -> &Pids {
        &self.record.spaces.pids
    }

    /// Whose IPC it has; other containers by their ids.
    pub fn ipc(&self) -> &Ipc {
        &self.record.spaces.ipc
    }

    /// Whether its host name is the host's own.
    pub fn has_host_uts(&self) -> bool {
        self.record.spaces.host_names
    }

    /// Whether it was asked for the host's users ([`ContainerSpec::host_users`](crate::ContainerSpec::host_users)).
    pub fn asked_for_host_users(&self) -> bool {
        self.record.spaces.host_users
    }

    /// Whether it sees control groups as the host does.
    pub fn has_host_cgroups(&self) -> bool {
        self.record.spaces.host_groups
    }

    /// The further groups of its processes, by name or number.
    pub fn groups(&self) -> &[String] {
        &self.record.groups
    }

    /// The capabilities that it was given besides the usual ones.
    pub fn added_capabilities(&self) -> &[String] {
        &self.record.asked.cap_add
    }

    /// The capabilities that were taken from it.
    pub fn dropped_capabilities(&self) -> &[String] {
        &self.record.asked.cap_drop
    }

    /// Whether root in it is root on the host.
    pub fn is_privileged(&self) -> bool {
        self.record.privileged
    }

    /// Whether no program in it gains rights by being executed.
    pub fn has_no_new_privileges(&self) -> bool {
        self.process().is_some_and(|process| process.no_new_privileges() == Some(true))
    }

    /// What was asked for of AppArmor.
    pub fn apparmor(&self) -> Option<&str> {
        self.record.asked.apparmor.as_deref()
    }

    /// What was asked for of SELinux, as [`ContainerSpec::label`](crate::ContainerSpec::security_label) has it.
    pub fn security_labels(&self) -> &[String] {
        &self.record.asked.label_options
    }

    /// The profile of AppArmor's that it is confined to; none on a host without AppArmor.
    pub fn apparmor_profile(&self) -> Option<&str> {
        self.process()?.apparmor_profile().as_deref()
    }

    /// The context of SELinux's that its processes have.
    pub fn process_label(&self) -> Option<&str> {
        self.process()?.selinux_label().as_deref()
    }

    /// The context of SELinux's that its files have.
    pub fn mount_label(&self) -> Option<&str> {
        self.record.mount_label()
    }

    /// Which system calls it may make.
    pub fn seccomp(&self) -> &Seccomp {
        &self.record.seccomp
    }

    /// The devices of the host that it has.
    pub fn devices(&self) -> impl Iterator<Item = GivenDevice<'_>> {
        let given = self.record.asked.devices.iter();
        given.map(|one| GivenDevice { host: &one.host, at: &one.at, access: &one.access })
    }

    /// The rules for the use of devices that it was given.
    pub fn device_rules(&self) -> &[String] {
        &self.record.asked.device_rules
    }

    /// Its limits of setrlimit(2): names in small letters, soft and hard.
    pub fn rlimits(&self) -> Vec<(&'static str, u64, u64)> {
        let limits = self.process().and_then(|process| process.rlimits().as_deref()).unwrap_or_default();
        let name = |typ| settings::rlimit_name(typ);
        limits.iter().filter_map(|one| Some((name(one.typ())?, one.soft(), one.hard()))).collect()
    }

    /// Bytes of its `/dev/shm`; `None` where that is not its own.
    pub fn shm_size(&self) -> Option<u64> {
        let mounts = self.record.spec.mounts().as_deref().unwrap_or_default();
        let shm = mounts.iter().find(|mount| mount.destination() == Path::new("/dev/shm"))?;
        let size = shm.options().iter().flatten().find_map(|option| option.strip_prefix("size="))?;
        let (digits, unit) = match size.as_bytes().last()? {
            b'k' => (&size[..size.len() - 1], 1 << 10),
            b'm' => (&size[..size.len() - 1], 1 << 20),
            _ => (size, 1),
        };
        digits.parse::<u64>().ok()?.checked_mul(unit)
    }

    /// The annotations of its OCI spec.
    pub fn annotations(&self) -> BTreeMap<&str, &str> {
        let all = self.record.spec.annotations().iter().flatten();
        all.map(|(key, value)| (key.as_str(), value.as_str())).collect()
    }

    /// Its kernel parameters.
    pub fn sysctls(&self) -> BTreeMap<&str, &str> {
        let all = self.linux().and_then(|linux| linux.sysctl().as_ref());
        all.into_iter().flatten().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    /// The paths of the kernel's that are hidden from it.
    pub fn masked_paths(&self) -> &[String] {
        self.linux().and_then(|linux| linux.masked_paths().as_deref()).unwrap_or_default()
    }

    /// The paths of the kernel's that it can only read.
    pub fn read_only_paths(&self) -> &[String] {
        self.linux().and_then(|linux| linux.readonly_paths().as_deref()).unwrap_or_default()
    }

    /// How readily it is killed when the host runs out of memory, where that was said.
    pub fn oom_score_adj(&self) -> Option<i32> {
        self.process().and_then(Process::oom_score_adj)
    }

    /// The control group that its own is made in, where that was said.
    pub fn cgroup_parent(&self) -> Option<&str> {
        self.record.cgroup_parent.as_deref()
    }

    /// Whether a small program is its first process.
    pub fn has_init(&self) -> bool {
        self.record.init
    }

    /// How much of what it writes is kept; `None` for nothing.
    pub fn log_limits(&self) -> Option<LogLimits> {
        self.record.log
    }

    fn process(&self) -> Option<&Process> {
        self.record.spec.process().as_ref()
    }

    fn linux(&self) -> Option<&Linux> {
        self.record.spec.linux().as_ref()
    }
}
