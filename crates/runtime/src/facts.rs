//! What a plan must know of the host.

use std::collections::BTreeMap;
use std::path::Path;

use crate::cgroup::Hierarchies;
use crate::error::Result;
use rustix::process::Resource;
use rustix::thread::CapabilitySet;

/// In the order of the kernel's numbers.
const LIMITS: [Resource; 16] = [
    Resource::Cpu,
    Resource::Fsize,
    Resource::Data,
    Resource::Stack,
    Resource::Core,
    Resource::Rss,
    Resource::Nproc,
    Resource::Nofile,
    Resource::Memlock,
    Resource::As,
    Resource::Locks,
    Resource::Sigpending,
    Resource::Msgqueue,
    Resource::Nice,
    Resource::Rtprio,
    Resource::Rttime,
];

/// Facts of the host that plans depend on. Gathered once and passed in, so that planning itself looks at
/// nothing.
#[derive(Clone, Debug)]
pub struct Facts {
    paths: BTreeMap<String, bool>,
    everything_is_there: bool,
    parent: u32,
    /// What a child of ours can be given at most.
    capabilities: CapabilitySet,
    /// Soft and hard, by number.
    limits: Vec<(u64, u64)>,
    enters_time_at_exec: bool,
    /// Below proc, where a process says what AppArmor is to confine its next program to; where there is AppArmor.
    apparmor: Option<&'static str>,
    selinux: bool,
}

impl Facts {
    /// The facts of this host, as far as the given paths of proc and sysfs are concerned: what a container sees there is
    /// what the host's own mounts have, since it is the same kernel.
    pub fn of_this_host() -> Facts {
        let held = rustix::thread::capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.permitted);
        let bound =
            |one: &CapabilitySet| rustix::thread::capability_is_in_bounding_set(*one).unwrap_or(false);
        let capabilities = held.iter().filter(bound).collect();
        let limits = LIMITS.map(rustix::process::getrlimit);
        let limits =
            limits.map(|limit| (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX)));
        Facts {
            paths: BTreeMap::new(),
            everything_is_there: false,
            parent: own_process(),
            capabilities,
            limits: limits.to_vec(),
            enters_time_at_exec: since(6, 2),
            apparmor: apparmor(),
            selinux: selinux(),
        }
    }

    /// The same for a process that will be in a user namespace of its own: there it has every capability to begin with that
    /// this kernel knows.
    #[must_use]
    pub fn in_user_namespace(mut self) -> Facts {
        if !self.everything_is_there {
            let known = |one: &CapabilitySet| rustix::thread::capability_is_in_bounding_set(*one).is_ok();
            self.capabilities = CapabilitySet::from_bits_retain(!0).iter().filter(known).collect();
        }
        self
    }

    /// Made-up facts for a dry run or a test: every path is there, and is a directory unless it is listed in `files`.
    pub fn assumed(files: &[&str]) -> Facts {
        let paths = files.iter().map(|path| ((*path).to_owned(), false)).collect();
        let capabilities = CapabilitySet::from_bits_retain((1 << 41) - 1);
        let limits = vec![(1024, u64::MAX); LIMITS.len()];
        Facts {
            paths,
            everything_is_there: true,
            parent: 1,
            capabilities,
            limits,
            enters_time_at_exec: true,
            apparmor: Some("thread-self/attr/apparmor/exec"),
            selinux: true,
        }
    }

    /// The same without a security module.
    #[cfg(test)]
    pub(crate) fn unconfined(mut self) -> Facts {
        (self.apparmor, self.selinux) = (None, false);
        self
    }

    /// Whether there is something at `path`, and whether it is a directory.
    pub(crate) fn is_dir(&self, path: &str) -> Option<bool> {
        match self.paths.get(path) {
            Some(known) => Some(*known),
            None if self.everything_is_there => Some(true),
            None => Path::new(path).metadata().ok().map(|metadata| metadata.is_dir()),
        }
    }

    /// The control groups of the host.
    pub(crate) fn groups(&self) -> Result<Hierarchies> {
        if self.everything_is_there { Ok(Hierarchies::default()) } else { Hierarchies::of_this_host() }
    }

    /// The file of a process's proc that AppArmor reads, from proc itself.
    pub(crate) fn apparmor(&self) -> Option<&'static str> {
        self.apparmor
    }

    /// Whether there is AppArmor to confine processes.
    pub fn has_apparmor(&self) -> bool {
        self.apparmor.is_some()
    }

    /// Whether there is SELinux, with a policy.
    pub fn has_selinux(&self) -> bool {
        self.selinux
    }

    /// Capabilities that there are to be given.
    pub(crate) fn capabilities(&self) -> CapabilitySet {
        self.capabilities
    }

    /// Our own soft and hard limit.
    pub(crate) fn limit(&self, resource: u32) -> (u64, u64) {
        self.limits.get(resource as usize).copied().unwrap_or((u64::MAX, u64::MAX))
    }

    /// Whether a process that has made a time namespace is in it after its next exec.
    pub(crate) fn enters_time_at_exec(&self) -> bool {
        self.enters_time_at_exec
    }

    /// The process that starts the container, as its own proc shows it.
    pub(crate) fn parent(&self) -> u32 {
        self.parent
    }
}

/// This process, as its own proc shows it: in a pid namespace that has none of its own that is not what getpid(2) says.
pub(crate) fn own_process() -> u32 {
    let shown = std::fs::read_link("/proc/self").ok().and_then(|pid| pid.to_str()?.parse().ok());
    shown.unwrap_or_else(std::process::id)
}

/// Kernels from 5.1 on have a directory for each module.
fn apparmor() -> Option<&'static str> {
    let enabled = std::fs::read("/sys/module/apparmor/parameters/enabled").ok()?;
    let files = ["thread-self/attr/apparmor/exec", "thread-self/attr/exec"];
    let there = |file: &&str| Path::new("/proc").join(file).exists();
    files.into_iter().find(there).filter(|_| enabled.starts_with(b"Y"))
}

/// With a policy: without one everything is one context, which has no parts, and takes any name for another.
fn selinux() -> bool {
    let own = || std::fs::read("/proc/thread-self/attr/current").unwrap_or_default();
    Path::new("/sys/fs/selinux/enforce").exists() && own().contains(&b':')
}

/// Whether this kernel is of that version, or of a later one.
fn since(major: u32, minor: u32) -> bool {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(major), Some(minor))
}
