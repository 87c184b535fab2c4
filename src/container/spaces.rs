//! Namespaces of a container that are the host's or another container's, and the memory that goes with one of them.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use coracle_host::{Call, Mount as Detached};
use coracle_runtime::user::{self, Resolved};
use coracle_runtime::{IdMap, IdRange};
use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceType, Spec};
use serde::{Deserialize, Serialize};

use super::record::Record;
use super::shared::Shared;
use super::spec::ContainerSpec;
use crate::Kind;
use crate::engine::Inner;
use crate::error::{Doing, Error, Result};
use crate::stack::Mode;

/// Where the memory is that goes with an IPC namespace.
const SHM: &str = "/dev/shm";

/// Whose processes a container sees (pid_namespaces(7)).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Pids {
    /// Its own alone.
    #[default]
    Own,
    /// All of the host. What it leaves running is killed when its first process ends, which takes a control group.
    Host,
    /// Those of this container, by name or id, among which its own are. That one must run when this one is started.
    /// Needs Linux 6.17.
    Container(String),
}

/// Whose System V IPC, POSIX message queues and `/dev/shm` a container has (ipc_namespaces(7)).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Ipc {
    /// Its own alone.
    #[default]
    Private,
    /// Its own, which other containers may share.
    Shareable,
    /// Its own, without `/dev/shm`.
    None,
    /// The host's.
    Host,
    /// That of this container, by name or id, which must be [`Ipc::Shareable`] and run when this one is started.
    Container(String),
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Spaces {
    #[serde(default)]
    pub(crate) pids: Pids,
    #[serde(default)]
    pub(crate) ipc: Ipc,
    #[serde(default)]
    pub(crate) host_names: bool,
    #[serde(default)]
    pub(crate) host_groups: bool,
    /// Its own, mapped so.
    #[serde(default)]
    pub(crate) users: Option<IdMap>,
    /// The host's, because somebody said so.
    #[serde(default)]
    pub(crate) host_users: bool,
}

impl ContainerSpec {
    /// Whose processes it sees.
    #[must_use]
    pub fn pids(mut self, pids: Pids) -> ContainerSpec {
        self.spaces.pids = pids;
        self
    }

    /// Whose System V IPC, message queues and `/dev/shm` it has.
    #[must_use]
    pub fn ipc(mut self, ipc: Ipc) -> ContainerSpec {
        self.spaces.ipc = ipc;
        self
    }

    /// The host's own host and domain name (uts_namespaces(7)), which it then may have no other of.
    #[must_use]
    pub fn host_uts(mut self) -> ContainerSpec {
        self.spaces.host_names = true;
        self
    }

    /// The host's view of control groups (cgroup_namespaces(7)): `/proc/self/cgroup` has the whole paths.
    #[must_use]
    pub fn host_cgroups(mut self) -> ContainerSpec {
        self.spaces.host_groups = true;
        self
    }

    /// A user namespace of its own (user_namespaces(7)), in which its root is somebody else of the host. On disk nothing
    /// tells of it: its files and its volumes have the owners that it sees, which takes mounts with mapped owners (Linux
    /// 5.19; for a tmpfs, and state on one, 6.3). What it is bound of the host shows the host's owners, who are nobody in
    /// it unless they are mapped.
    #[must_use]
    pub fn users(mut self, map: IdMap) -> ContainerSpec {
        self.spaces.users = Some(map);
        self.spaces.host_users = false;
        self
    }

    /// Its users are the host's (docker's `--userns host`): what it has without [`ContainerSpec::users`], and instead of it.
    #[must_use]
    pub fn host_users(mut self) -> ContainerSpec {
        self.spaces.users = None;
        self.spaces.host_users = true;
        self
    }

    /// A further group for its processes, by a name of the image or a number.
    #[must_use]
    pub fn group(mut self, group: impl Into<String>) -> ContainerSpec {
        self.groups.push(group.into());
        self
    }
}

impl Spaces {
    /// All that is wrong with them.
    pub(crate) fn problems(&self, spec: &ContainerSpec) -> Vec<String> {
        let mut problems = Vec::new();
        let named = spec.hostname.is_some() || spec.domainname.is_some();
        if self.host_names && named {
            problems
                .push("conflicting options: a host or domain name, and the host's own (host_uts())".into());
        }
        let Some(users) = &self.users else { return problems };
        if users.root().is_none() {
            problems.push("users(): 0 is not mapped".into());
        }
        // What is not in its user namespace is not its root's to mount or to rule.
        let mode = spec.net.mode();
        let others = [
            (self.pids != Pids::Own, "another PID namespace than its own"),
            (matches!(self.ipc, Ipc::Host | Ipc::Container(_)), "another IPC namespace than its own"),
            (self.host_names, "the host's UTS namespace"),
            (matches!(mode, Mode::Host | Mode::Container(_)), "another network namespace than its own"),
        ];
        let shared = others.into_iter().filter(|(shared, _)| *shared);
        problems
            .extend(shared.map(|(_, what)| format!("cannot share {what} when user namespaces are enabled")));
        if spec.privileged {
            problems.push("privileged mode is incompatible with user namespaces".into());
        }
        problems
    }

    /// Whether the end of its first process is not the end of all.
    pub(crate) fn outlived(&self) -> bool {
        self.pids != Pids::Own
    }

    /// Takes out of the spec what is the host's, or nobody's.
    pub(crate) fn apply(&self, spec: &mut Spec) {
        let mut gone = Vec::new();
        gone.extend((self.pids == Pids::Host).then_some(LinuxNamespaceType::Pid));
        gone.extend((self.ipc == Ipc::Host).then_some(LinuxNamespaceType::Ipc));
        gone.extend(self.host_names.then_some(LinuxNamespaceType::Uts));
        gone.extend(self.host_groups.then_some(LinuxNamespaceType::Cgroup));
        if let Some(linux) = spec.linux_mut() {
            let mut all = linux.namespaces().clone().unwrap_or_default();
            all.retain(|namespace| !gone.contains(&namespace.typ()));
            if let Some(users) = &self.users {
                let mut own = LinuxNamespace::default();
                own.set_typ(LinuxNamespaceType::User);
                all.push(own);
                linux.set_uid_mappings(Some(mappings(users.users())));
                linux.set_gid_mappings(Some(mappings(users.groups())));
            }
            linux.set_namespaces(Some(all));
        }
        if self.host_names {
            spec.set_hostname(None).set_domainname(None);
        }
        if !matches!(self.ipc, Ipc::Private | Ipc::Shareable) {
            let mut mounts = spec.mounts().clone().unwrap_or_default();
            mounts.retain(|mount| mount.destination().as_os_str() != SHM);
            spec.set_mounts(Some(mounts));
        }
    }
}

fn mappings(ranges: &[IdRange]) -> Vec<LinuxIdMapping> {
    let one = |range: &IdRange| {
        let mapping = LinuxIdMappingBuilder::default().container_id(range.inside).host_id(range.outside);
        // Fails only where something is not said.
        mapping.size(range.count).build().unwrap_or_default()
    };
    ranges.iter().map(one).collect()
}

/// What is lent for a start.
#[derive(Default)]
pub(crate) struct Lent {
    /// Its paths in the spec go through these.
    held: Vec<OwnedFd>,
    /// `/dev/shm`, where it is somebody else's.
    shm: Option<Detached>,
}

impl Lent {
    /// Writes the namespaces of others into the spec.
    pub(crate) fn of(engine: &Inner, record: &Record, spec: &mut Spec) -> Result<Lent> {
        let mut lent = Lent::default();
        if let Pids::Container(other) = &record.spaces.pids {
            let fd = Shared::of(engine, other, "processes", "pid")?.0;
            lent.join(spec, LinuxNamespaceType::Pid, fd);
        }
        match &record.spaces.ipc {
            Ipc::Host => {
                let shm = Detached::bind_path(SHM, true)?.private()?;
                lent.shm = Some(shm);
            }
            Ipc::Container(other) => {
                let (fd, shared) = Shared::of(engine, other, "IPC", "ipc")?;
                let doing = || format!("share the IPC of container {}", &other[..other.len().min(12)]);
                if Record::read(&shared.room)?.spaces.ipc != Ipc::Shareable {
                    let text = "it is not shareable: Ipc::Shareable is for the one that is to be shared";
                    return Err(Error::new(Kind::Denied, text)).doing(doing);
                }
                lent.join(spec, LinuxNamespaceType::Ipc, fd);
                let shm = Detached::within(&shared.namespace("mnt")?, SHM).and_then(Detached::private);
                lent.shm = Some(shm.map_err(Error::from).doing(doing)?);
            }
            Ipc::Private | Ipc::Shareable | Ipc::None => {}
        }
        Ok(lent)
    }

    fn join(&mut self, spec: &mut Spec, kind: LinuxNamespaceType, fd: OwnedFd) {
        let path = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        self.held.push(fd);
        let namespaces = spec.linux_mut().as_mut().and_then(|linux| linux.namespaces_mut().as_mut());
        for namespace in namespaces.into_iter().flatten().filter(|namespace| namespace.typ() == kind) {
            namespace.set_path(Some(path.clone()));
        }
    }

    /// Adds what it brings to the plan, and to the mounts of its bundle.
    pub(crate) fn attach(
        &mut self,
        plan: &mut coracle_runtime::Plan,
        mounts: &mut Vec<Detached>,
    ) -> Result<()> {
        if let Some(shm) = self.shm.take() {
            plan.attach("shared memory", SHM)?;
            mounts.push(shm);
        }
        Ok(())
    }
}

/// The supplementary groups of a user's process, each once: its own one, so that no setgid program takes that off and
/// with it what a mode denies to the group (CVE-2022-36109); those that list the user; those that were asked for.
pub(crate) fn groups(user: &Resolved, further: &[String], file: &[u8]) -> Result<Vec<u32>> {
    let further = user::groups(further.iter().map(String::as_str), file);
    let further = further.map_err(|unknown| Error::new(Kind::NotFound, unknown.to_string()))?;
    let mut groups = Vec::new();
    for id in [user.gid].into_iter().chain(user.groups.iter().copied()).chain(further) {
        if !groups.contains(&id) {
            groups.push(id);
        }
    }
    Ok(groups)
}

/// A namespace of a process that is known to be the one meant.
pub(super) fn open(pidfd: &coracle_host::PidFd, kind: &str) -> Result<OwnedFd> {
    let path = format!("/proc/{}/ns/{kind}", pidfd.pid()?);
    let file = std::fs::File::open(&path).call(|| format!("open({path:?})"))?;
    // It is still the one that had the number: then the namespace is its own.
    if !pidfd.signal(0)? {
        return Err(Error::new(Kind::InUse, "it is not running"));
    }
    Ok(file.into())
}
