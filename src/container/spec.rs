//! What container is wanted.

use std::path::Path;
use std::time::Duration;

use super::mount::Mount;
use super::netspec::NetWish;
use super::places::From as VolumesFrom;
use coracle_runtime::LogLimits;

use super::device::Device;
use super::spaces::Spaces;
use super::{HealthCheck, Limits, Ready, Restart, Seccomp};

/// A container, as a value. Writing one never fails; [`Engine::start`](crate::Engine::start) and
/// [`Engine::plan`](crate::Engine::plan) say everything that is wrong with it.
///
/// What is not said comes from the image, and what the image doesn't say is as docker has it: the network `bridge`,
/// `/` as the working directory, root with fourteen capabilities, standard input from `/dev/null`.
#[derive(Clone, Debug, Default)]
pub struct ContainerSpec {
    pub(crate) image: String,
    pub(crate) name: Option<String>,
    pub(crate) command: Option<Vec<String>>,
    pub(crate) entrypoint: Option<Vec<String>>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) workdir: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) hostname: Option<String>,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) volumes_from: Vec<VolumesFrom>,
    pub(crate) net: NetWish,
    pub(crate) read_only: bool,
    pub(crate) no_new_privileges: bool,
    pub(crate) apparmor: Option<String>,
    pub(crate) label_options: Vec<String>,
    pub(crate) cap_add: Vec<String>,
    pub(crate) cap_drop: Vec<String>,
    pub(crate) interactive: bool,
    pub(crate) open_stdin: Option<Stdin>,
    pub(crate) terminal: bool,
    pub(crate) platform: Option<String>,
    pub(crate) annotations: Vec<(String, String)>,
    pub(crate) limits: Limits,
    pub(crate) spaces: Spaces,
    pub(crate) groups: Vec<String>,
    pub(crate) cgroup_parent: Option<String>,
    pub(crate) rlimits: Vec<(String, u64, u64)>,
    pub(crate) shm_size: Option<u64>,
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) sysctls: Vec<(String, String)>,
    pub(crate) domainname: Option<String>,
    pub(crate) devices: Vec<Device>,
    pub(crate) device_rules: Vec<String>,
    pub(crate) privileged: bool,
    pub(crate) open_paths: bool,
    pub(crate) seccomp: Seccomp,
    pub(crate) init: bool,
    pub(crate) log: Option<Option<LogLimits>>,
    pub(crate) restart: Restart,
    pub(crate) health: Option<Option<HealthCheck>>,
    pub(crate) stop_signal: Option<u8>,
    pub(crate) stop_timeout: Option<Duration>,
    pub(crate) attach: bool,
    pub(crate) keep: bool,
    pub(crate) retain: bool,
    pub(crate) remove: bool,
    pub(crate) ready: Option<Ready>,
}

/// How a standard input for those who attach ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stdin {
    /// With the first one who had it.
    Once,
    /// With the container.
    Always,
}

impl ContainerSpec {
    /// A container of an image: an [`Image`](crate::Image), a name, an id.
    pub fn new(image: impl Into<String>) -> ContainerSpec {
        ContainerSpec { image: image.into(), ..ContainerSpec::default() }
    }

    /// Its name: what it is found by, in the engine and on its networks. Unnamed containers go by the beginning of
    /// their id.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> ContainerSpec {
        self.name = Some(name.into());
        self
    }

    /// The command, or the arguments of the entrypoint, instead of the image's (Dockerfile reference, CMD).
    #[must_use]
    pub fn command<S: Into<String>>(mut self, command: impl IntoIterator<Item = S>) -> ContainerSpec {
        self.command = Some(command.into_iter().map(Into::into).collect());
        self
    }

    /// The entrypoint instead of the image's, whose command is then forgotten, too; an empty list means none.
    #[must_use]
    pub fn entrypoint<S: Into<String>>(mut self, entrypoint: impl IntoIterator<Item = S>) -> ContainerSpec {
        self.entrypoint = Some(entrypoint.into_iter().map(Into::into).collect());
        self
    }

    /// An environment variable. Said twice, the last one counts.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> ContainerSpec {
        self.env.push((name.into(), value.into()));
        self
    }

    /// The working directory, an absolute path; made if it is not there.
    #[must_use]
    pub fn workdir(mut self, path: impl Into<String>) -> ContainerSpec {
        self.workdir = Some(path.into());
        self
    }

    /// Who runs it: `user`, `uid`, `user:group` or `uid:gid`, looked up in the image.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> ContainerSpec {
        self.user = Some(user.into());
        self
    }

    /// The host name; the beginning of the id unless it is given.
    #[must_use]
    pub fn hostname(mut self, hostname: impl Into<String>) -> ContainerSpec {
        self.hostname = Some(hostname.into());
        self
    }

    /// A label.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> ContainerSpec {
        self.labels.push((key.into(), value.into()));
        self
    }

    /// An annotation of its OCI spec (runtime-spec, config.md, "Annotations").
    #[must_use]
    pub fn annotation(mut self, key: impl Into<String>, value: impl Into<String>) -> ContainerSpec {
        self.annotations.push((key.into(), value.into()));
        self
    }

    /// The platform that the image is to be for, as `os[/architecture[/variant]]`; starting one that is for another fails.
    #[must_use]
    pub fn platform(mut self, platform: impl Into<String>) -> ContainerSpec {
        self.platform = Some(platform.into());
        self
    }

    /// A volume (a [`Volume`](crate::Volume) or a name) at this absolute path.
    #[must_use]
    pub fn volume(self, volume: impl Into<String>, at: impl AsRef<Path>) -> ContainerSpec {
        self.mount(Mount::volume(volume, at))
    }

    /// A directory or file of the host at this absolute path.
    #[must_use]
    pub fn bind(self, host: impl AsRef<Path>, at: impl AsRef<Path>) -> ContainerSpec {
        self.mount(Mount::bind(host, at))
    }

    /// Memory at this absolute path; see [`Mount::tmpfs`].
    #[must_use]
    pub fn tmpfs(self, at: impl AsRef<Path>) -> ContainerSpec {
        self.mount(Mount::tmpfs(at))
    }

    /// A mount.
    #[must_use]
    pub fn mount(mut self, mount: Mount) -> ContainerSpec {
        self.mounts.push(mount);
        self
    }

    /// The volumes and binds of another container (its name or id), at the same places, whether it runs or not. Those of
    /// its own at the same place count more, and of several containers the last one.
    #[must_use]
    pub fn volumes_from(mut self, container: impl Into<String>) -> ContainerSpec {
        self.volumes_from.push(VolumesFrom { container: container.into(), read_only: false });
        self
    }

    /// [`ContainerSpec::volumes_from`], all of them read-only.
    #[must_use]
    pub fn volumes_from_read_only(mut self, container: impl Into<String>) -> ContainerSpec {
        self.volumes_from.push(VolumesFrom { container: container.into(), read_only: true });
        self
    }

    /// A root file system that can't be written to.
    #[must_use]
    pub fn read_only(mut self) -> ContainerSpec {
        self.read_only = true;
        self
    }

    /// No program in it gains rights by being executed (setuid, file capabilities).
    #[must_use]
    pub fn no_new_privileges(mut self) -> ContainerSpec {
        self.no_new_privileges = true;
        self
    }

    /// One more capability, as `NET_ADMIN` or `CAP_NET_ADMIN`; `ALL` for all.
    #[must_use]
    pub fn cap_add(mut self, capability: impl Into<String>) -> ContainerSpec {
        self.cap_add.push(capability.into());
        self
    }

    /// One capability less; `ALL` for all, before those added.
    #[must_use]
    pub fn cap_drop(mut self, capability: impl Into<String>) -> ContainerSpec {
        self.cap_drop.push(capability.into());
        self
    }

    /// Its standard input is this program's.
    #[must_use]
    pub fn interactive(mut self) -> ContainerSpec {
        self.interactive = true;
        self
    }

    /// Its standard input is a pipe for those who attach to it ([`Container::attach`](crate::Container::attach)). It ends
    /// when the first one of them closes it.
    #[must_use]
    pub fn open_stdin(mut self) -> ContainerSpec {
        self.open_stdin = Some(Stdin::Once);
        self
    }

    /// [`ContainerSpec::open_stdin`], which stays open whoever closes it.
    #[must_use]
    pub fn open_stdin_always(mut self) -> ContainerSpec {
        self.open_stdin = Some(Stdin::Always);
        self
    }

    /// Its standard streams are a terminal. Who attaches to it ([`Container::attach`](crate::Container::attach)) has the
    /// other side of that as its standard input, to write to and to set the size of.
    #[must_use]
    pub fn terminal(mut self) -> ContainerSpec {
        self.terminal = true;
        self
    }

    /// What it may use at most.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> ContainerSpec {
        self.limits = limits;
        self
    }

    /// Bytes of memory that it may use; see [`Limits`].
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> ContainerSpec {
        self.limits = self.limits.memory(bytes);
        self
    }

    /// The control group that its own is made in: an absolute path from the mount points of the hierarchies, or a relative
    /// one from this program's own groups; `/coracle-<id>` is made unless it is said. The name of a slice, `batch.slice`, means a
    /// scope that systemd makes there (systemd.scope(5)), where the host is run by it and has cgroup v2.
    #[must_use]
    pub fn cgroup_parent(mut self, path: impl Into<String>) -> ContainerSpec {
        self.cgroup_parent = Some(path.into());
        self
    }

    /// A limit of setrlimit(2) by its name in small letters, `nofile`: what its processes may raise it to, and what they
    /// begin with; [`u64::MAX`] for none.
    #[must_use]
    pub fn rlimit(mut self, name: impl Into<String>, soft: u64, hard: u64) -> ContainerSpec {
        self.rlimits.push((name.into(), soft, hard));
        self
    }

    /// Bytes of `/dev/shm`; 64 MiB unless it is said.
    #[must_use]
    pub fn shm_size(mut self, bytes: u64) -> ContainerSpec {
        self.shm_size = Some(bytes);
        self
    }

    /// How readily it is killed when the host runs out of memory, -1,000 to 1,000 (proc(5), `oom_score_adj`).
    #[must_use]
    pub fn oom_score_adj(mut self, score: i32) -> ContainerSpec {
        self.oom_score_adj = Some(score);
        self
    }

    /// A parameter of the kernel that its namespaces have of their own, `net.core.somaxconn`.
    #[must_use]
    pub fn sysctl(mut self, name: impl Into<String>, value: impl Into<String>) -> ContainerSpec {
        self.sysctls.push((name.into(), value.into()));
        self
    }

    /// Its NIS domain name.
    #[must_use]
    pub fn domainname(mut self, name: impl Into<String>) -> ContainerSpec {
        self.domainname = Some(name.into());
        self
    }

    /// A device of the host at this path of the container, with these accesses: of `r`ead, `w`rite and `m`knod.
    #[must_use]
    pub fn device(
        mut self,
        host: impl AsRef<Path>,
        at: impl AsRef<Path>,
        access: impl Into<String>,
    ) -> ContainerSpec {
        let (host, at) = (host.as_ref().to_owned(), at.as_ref().to_owned());
        self.devices.push(Device { host, at, access: access.into() });
        self
    }

    /// A rule for the use of devices, as docker and control groups of version 1 write it: `c 42:* rmw`.
    #[must_use]
    pub fn device_rule(mut self, rule: impl Into<String>) -> ContainerSpec {
        self.device_rules.push(rule.into());
        self
    }

    /// All capabilities that this program has itself, all devices, no filter of system calls, nothing masked and nothing of
    /// the kernel's read-only: root in it is root on the host.
    #[must_use]
    pub fn privileged(mut self) -> ContainerSpec {
        self.privileged = true;
        self
    }

    /// Which system calls it may make; docker's default unless it is said.
    #[must_use]
    pub fn seccomp(mut self, seccomp: Seccomp) -> ContainerSpec {
        self.seccomp = seccomp;
        self
    }

    /// A small program is its first process: it hands on signals and reaps orphans.
    #[must_use]
    pub fn init(mut self) -> ContainerSpec {
        self.init = true;
        self
    }

    /// How much of what it writes is kept; five files of 10 MiB unless it is said.
    #[must_use]
    pub fn log(mut self, limits: LogLimits) -> ContainerSpec {
        self.log = Some(Some(limits));
        self
    }

    /// Nothing of what it writes is kept.
    #[must_use]
    pub fn no_log(mut self) -> ContainerSpec {
        self.log = Some(None);
        self
    }

    /// What becomes of it when it ends by itself; nothing, unless it is said.
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> ContainerSpec {
        self.restart = restart;
        self
    }

    /// How it is asked whether it is well, instead of the image's way.
    #[must_use]
    pub fn health(mut self, check: HealthCheck) -> ContainerSpec {
        self.health = Some(Some(check));
        self
    }

    /// It is not asked whether it is well, even if the image says how.
    #[must_use]
    pub fn no_health(mut self) -> ContainerSpec {
        self.health = Some(None);
        self
    }

    /// The signal (1 to 64) that asks it to end, instead of the image's or SIGTERM.
    #[must_use]
    pub fn stop_signal(mut self, signal: u8) -> ContainerSpec {
        self.stop_signal = Some(signal);
        self
    }

    /// How long [`Container::stop`](crate::Container::stop) waits before it kills; ten seconds unless it is said.
    #[must_use]
    pub fn stop_timeout(mut self, patience: Duration) -> ContainerSpec {
        self.stop_timeout = Some(patience);
        self
    }

    /// What it writes goes to this program's standard output and error, too, not only to its log. Where it writes to
    /// one that is a pipe that nobody reads any more, it is killed.
    #[must_use]
    pub fn attach(mut self) -> ContainerSpec {
        self.attach = true;
        self
    }

    /// It outlives this program: a process of its own supervises it, and it stays until it is removed. Needs
    /// [`supervise`](crate::supervise) at the beginning of `main`.
    #[must_use]
    pub fn keep(mut self) -> ContainerSpec {
        self.keep = true;
        self
    }

    /// It dies with this program like every other, but what is left of it stays until it is removed.
    #[must_use]
    pub fn retain(mut self) -> ContainerSpec {
        self.retain = true;
        self
    }

    /// A kept one is removed as soon as it has ended.
    #[must_use]
    pub fn remove_when_ended(mut self) -> ContainerSpec {
        self.remove = true;
        self
    }

    /// When it counts as started.
    #[must_use]
    pub fn ready(mut self, ready: Ready) -> ContainerSpec {
        self.ready = Some(ready);
        self
    }
}

impl From<&crate::Network> for String {
    fn from(network: &crate::Network) -> String {
        network.name().to_owned()
    }
}

impl From<&crate::Volume> for String {
    fn from(volume: &crate::Volume) -> String {
        volume.name().to_owned()
    }
}
