//! How a container's first process comes into its namespaces.

use std::path::Path;

use coracle_launch::Namespaces;
use oci_spec::runtime::{LinuxNamespaceType, Spec};

use crate::{Joinable, Step};

/// The namespaces of a spec.
pub(super) struct Entry {
    /// Those that are new, but the network.
    pub(super) new: Namespaces,
    /// Whether the network is.
    pub(super) new_net: bool,
    joins: Vec<Step>,
}

/// What else is done on the way.
pub(super) struct Way {
    pub(super) group: bool,
    /// With the host's rights.
    pub(super) tuned: Vec<Step>,
    pub(super) raise: Vec<Step>,
    pub(super) clocks: Vec<Step>,
    pub(super) sysctls: Vec<Step>,
}

impl Entry {
    pub(super) fn of(spec: &Spec) -> Entry {
        let mut entry = Entry { new: Namespaces::NONE, new_net: false, joins: Vec::new() };
        for namespace in spec.linux().iter().flat_map(|linux| linux.namespaces()).flatten() {
            let (new, kind) = match namespace.typ() {
                LinuxNamespaceType::Mount => (Namespaces::MOUNT, Some(Joinable::Mount)),
                LinuxNamespaceType::Pid => (Namespaces::PID, Some(Joinable::Pid)),
                LinuxNamespaceType::Ipc => (Namespaces::IPC, Some(Joinable::Ipc)),
                LinuxNamespaceType::Uts => (Namespaces::UTS, Some(Joinable::Uts)),
                LinuxNamespaceType::Cgroup => (Namespaces::CGROUP, Some(Joinable::Cgroup)),
                LinuxNamespaceType::Network => (Namespaces::NONE, Some(Joinable::Net)),
                // That of users is asked for elsewhere; the others the check refuses, or steps of their own make.
                _ => continue,
            };
            match (namespace.path(), kind) {
                (Some(path), Some(kind)) => entry.joins.push(Step::JoinPath { kind, path: path.clone() }),
                _ => {
                    entry.new = entry.new.and(new);
                    entry.new_net |= kind == Some(Joinable::Net);
                }
            }
        }
        entry
    }

    /// The steps up to where mounts begin, and the namespaces that the first child is born in.
    pub(super) fn steps(self, way: Way, user: bool) -> (Vec<Step>, Namespaces) {
        if user { self.through_user(way) } else { self.directly(way) }
    }

    fn directly(self, way: Way) -> (Vec<Step>, Namespaces) {
        let Way { group, tuned, raise: _, clocks, sysctls } = way;
        let mut new = self.new;
        let mut steps = Vec::new();
        let (mounts, joins): (Vec<_>, Vec<_>) = self.joins.into_iter().partition(late);
        if group && new.has(Namespaces::CGROUP) {
            // Its root is where the process is when it gets it.
            new = new.without(Namespaces::CGROUP);
            steps.push(Step::NewGroupNamespace);
        }
        steps.extend(clocks.into_iter().chain(tuned).chain(joins));
        if self.new_net {
            steps.extend([Step::JoinNet, Step::LoopbackUp]);
        }
        steps.extend(sysctls.into_iter().chain(mounts));
        (steps, new)
    }

    /// What takes the host's rights comes first, and what is somebody else's is joined with them. The rest is born in the
    /// user namespace, and so belongs to it, in a second process.
    fn through_user(self, way: Way) -> (Vec<Step>, Namespaces) {
        let Way { tuned, raise, clocks, sysctls, .. } = way;
        let pid = |step: &Step| matches!(step, Step::JoinPath { kind: Joinable::Pid, .. });
        let (mounts, joins): (Vec<_>, Vec<_>) = self.joins.into_iter().partition(late);
        let net = |step: &Step| matches!(step, Step::Sysctl { path, .. } if Path::new(path).starts_with("/proc/sys/net"));
        let (pids, joins): (Vec<_>, Vec<_>) = joins.into_iter().partition(pid);
        let (net_values, values): (Vec<_>, Vec<_>) = sysctls.into_iter().partition(net);
        let mut steps = clocks;
        steps.extend(tuned.into_iter().chain(raise).chain(joins));
        if self.new_net {
            steps.extend([Step::JoinNet, Step::LoopbackUp]);
        }
        steps.extend(net_values);
        let namespaces = self.new;
        // What comes with the namespaces, and what is made in them, belongs to root inside.
        steps.extend([Step::Undumpable, Step::JoinUser, Step::BecomeRoot, Step::Clone { namespaces }]);
        steps.push(Step::DieWithParent);
        steps.extend(pids.into_iter().chain(values).chain(mounts));
        (steps, Namespaces::NONE)
    }
}

/// Whether it is joined last: what is at a path is another thing from then on.
fn late(join: &Step) -> bool {
    matches!(join, Step::JoinPath { kind: Joinable::Mount, .. })
}
