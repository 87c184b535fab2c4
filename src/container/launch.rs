//! A record is acted on: mounts are made, networks joined, and the process started.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use coracle_host::{Dir, Lock, Namespace, Root, aside};
use coracle_layers::Shown;
use coracle_runtime::cgroup::Cgroup;
use coracle_runtime::{Bundle, Facts, Plan, Running, Stdio, UserNamespace, user};
use rustix::fs::OFlags;

use super::group::{self, Made};
use super::mount::Source;
use super::record::{Record, UPPER, WORK};
use super::shared::Shared;
use super::shortage::Shortage;
use super::spaces::{self, Lent};
use super::supervisor::Live;
use super::{label, lend, places};
use crate::engine::Inner;
use crate::error::{Doing, Error, Result};
use crate::stack::{self, Mode, Stack, Told, Wiring};
use crate::{Kind, Publish};

/// Where a container sees its control group.
const GROUPS: &str = "/sys/fs/cgroup";

/// Called with the index of each launch operation.
pub(crate) type Stepper = Box<dyn FnMut(usize) + Send>;

/// A running container and what it holds as long as it runs.
pub(crate) struct Launched {
    pub(crate) running: Running,
    pub(crate) live: Arc<Live>,
    pub(crate) stack: Option<Stack>,
    pub(crate) group: Option<Cgroup>,
    pub(crate) shortage: Option<Shortage>,
    held: Held,
}

/// Locks that say what is in use.
struct Held {
    _layers: Vec<Lock>,
    _volumes: Borrowed,
}

/// The loans of volumes. They end at once, also while another container is being started: who removes this one then
/// takes along what nobody else has.
#[derive(Default)]
struct Borrowed(Vec<Lock>);

impl Drop for Borrowed {
    fn drop(&mut self) {
        self.0.drain(..).for_each(Lock::release);
    }
}

impl Launched {
    /// Whether a process of it was killed for want of memory.
    pub(crate) fn oom_killed(&self) -> bool {
        let noticed = self.shortage.as_ref().is_some_and(Shortage::has_killed);
        let counted = |group: &Cgroup| group.oom_kills().is_ok_and(|kills| kills > 0);
        noticed || self.group.as_ref().is_some_and(counted)
    }

    /// Ends what outlived the first process, where that had no pid namespace of its own.
    pub(crate) fn end_rest(&self, record: &Record) -> Result<()> {
        match &self.group {
            Some(group) if record.spaces.outlived() => Ok(group.kill()?),
            _ => Ok(()),
        }
    }

    /// Gives everything back, after its end.
    pub(crate) fn release(self) -> Result<()> {
        let Launched { live, stack, group, held, .. } = self;
        drop((live, held));
        let left = stack.map_or(Ok(()), Stack::leave_behind);
        group.map_or(Ok(()), Cgroup::remove)?;
        left
    }
}

/// Starts the container of this room. The calling thread becomes its owner.
pub(crate) fn launch(
    engine: &Inner,
    room: &Dir,
    record: &Record,
    stepper: Option<Stepper>,
) -> Result<Launched> {
    let (upper, work) = (room.dir(UPPER)?, room.dir(WORK)?);
    // What nobody mounts a second time needs no syncing; overlayfs refuses to mount it again then.
    let volatile = !record.retain && !record.restart.is_any();
    let users = record.spaces.users.as_ref().map(UserNamespace::new).transpose()?;
    let users = users.as_ref();
    let shown = Shown { users: users.map(AsFd::as_fd), context: record.mount_label() };
    let mount = || engine.store.rootfs_shown(&record.layers, (&upper, &work), volatile, shown);
    let rootfs = match users {
        Some(users) => users.as_root(mount)??,
        None => mount()?,
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let root = Root::new(rootfs.mount.as_fd(), "container's root").open("/", flags)?;
    let mut spec = with_user(record, &root, users)?;
    let group = match (group::make(engine, record)?, spec.linux_mut()) {
        (Some(Made { group, resources }), Some(linux)) => {
            linux.set_cgroups_path(Some(record.id.clone().into())).set_resources(Some(resources));
            Some(group)
        }
        _ => None,
    };
    let mut lent = Lent::of(engine, record, &mut spec)?;
    let mut plan = Plan::container(&spec, &Facts::of_this_host())?;
    if let Some(program) = engine.filters.of(record)? {
        plan.filter(&program)?;
    }
    if record.init {
        plan.init();
    }

    let stack = match &record.network {
        Mode::Networks(networks) => {
            let publish: Result<Vec<_>> = record.publish.iter().map(|text| Publish::parse(text)).collect();
            let (names, publish) = (names(record), publish?.concat());
            let (id, resolver) = (record.id.as_str(), &record.resolver);
            Some(Stack::open(
                engine,
                &Wiring { id, names: &names, networks, publish: &publish, resolver, users },
            )?)
        }
        Mode::None | Mode::Host | Mode::Container(_) => None,
    };
    let shared = match &record.network {
        Mode::Container(other) => Some(Shared::of(engine, other, "network", "net")?),
        _ => None,
    };
    stack::plan_files(&mut plan, &stack::FILES)?;
    let mut mounts = match &shared {
        Some((_, shared)) => stack::files_of(&shared.room)?,
        None => {
            let (hosts, resolver) = (&record.hosts[..], &record.resolver);
            let told = Told { hostname: &record.hostname, hosts, resolver };
            stack::files(room, &stack::FILES, &told, stack.as_ref(), &record.network)?
        }
    };
    if let Some(context) = record.mount_label().filter(|_| shared.is_none()) {
        mounts.iter().try_for_each(|file| label::set(file, context))?;
    }
    if let Some(users) = users {
        mounts =
            mounts.into_iter().map(|file| file.mapped(users, false)).collect::<coracle_host::Result<_>>()?;
    }
    for (below, mount) in group
        .iter()
        .map(|group| match record.spaces.host_groups {
            true => group.view_of_host(!record.privileged),
            false => group.view(!record.privileged),
        })
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .flatten()
    {
        let at: std::path::PathBuf = Path::new(GROUPS).join(&below).components().collect();
        plan.attach(format!("control group {}", below.display()).trim_end(), at)?;
        mounts.push(mount);
    }
    lent.attach(&mut plan, &mut mounts)?;
    let mut borrowed = Borrowed::default();
    for mount in places::in_order(record) {
        plan.attach_as(mount.to_string(), &mount.at, lend::propagation(mount))?;
        let (made, locks) = lend::make(engine, record, mount, &root)?;
        let made = match users {
            Some(users) if !matches!(mount.source, Source::Bind(_)) => made.mapped(users, false)?,
            _ => made,
        };
        mounts.push(made);
        borrowed.0.extend(locks);
    }
    let namespace: Option<Namespace> = match shared {
        Some((namespace, _)) => Some(Namespace::from_fd(namespace)),
        None => stack.as_ref().map(Stack::namespace).transpose()?,
    };
    let stdin = match record {
        Record { interactive: true, .. } => Stdio::Inherit,
        Record { open_stdin: true, .. } => Stdio::Pipe,
        _ => Stdio::Null,
    };
    let stdio = if record.terminal() { Default::default() } else { [stdin, Stdio::Pipe, Stdio::Pipe] };
    let shortage = group.as_ref().map(Shortage::of).transpose()?.flatten();
    let entrance = group.as_ref().map(Cgroup::entrance).transpose()?;
    let user = users.map(UserNamespace::try_clone).transpose()?;
    let bundle =
        Bundle { mounts, net: namespace, user, stdio, group: entrance, stepper, ..Bundle::new(rootfs.mount) };
    let running = plan.start(bundle)?;
    let held = Held { _layers: rootfs.locks, _volumes: borrowed };
    let live = Arc::new(Live { pidfd: running.pidfd.try_clone()?, root: aside(root) });
    Ok(Launched { running, live, stack, group, shortage, held })
}

/// The spec with the user's ids and home, as the root file system has them, and with its working directory there.
/// What is made there belongs to root of the user namespace.
pub(crate) fn with_user(
    record: &Record,
    root: &OwnedFd,
    users: Option<&UserNamespace>,
) -> Result<oci_spec::runtime::Spec> {
    let mut spec = record.spec.clone();
    let Some(process) = spec.process_mut() else { return Ok(spec) };
    set_user(process, &record.config.user, root, |user, file| spaces::groups(user, &record.groups, file))?;
    if spec.root().as_ref().is_none_or(|root| root.readonly() != Some(true))
        && let Some(process) = spec.process()
    {
        let make = || Root::new(root.as_fd(), "container's root").make_dirs(process.cwd(), 0o755, None);
        let made = match users {
            Some(users) => users.as_root(make).and_then(|made| made),
            None => make(),
        };
        made.doing(|| format!("make the working directory {:?}", process.cwd()))?;
    }
    Ok(spec)
}

/// Sets ids and `HOME` of a process, and the supplementary groups that `groups` makes of the user and the image's group(5).
pub(crate) fn set_user(
    process: &mut oci_spec::runtime::Process,
    name: &str,
    root: &OwnedFd,
    groups: impl FnOnce(&user::Resolved, &[u8]) -> Result<Vec<u32>>,
) -> Result<()> {
    let root = Root::new(root.as_fd(), "container's root");
    let passwd = root.read_if_there("/etc/passwd")?.unwrap_or_default();
    let group = root.read_if_there("/etc/group")?.unwrap_or_default();
    let found = user::resolve(name, &passwd, &group);
    let found = found.map_err(|unknown| Error::new(Kind::NotFound, unknown.to_string()))?;
    let groups = groups(&found, &group)?;
    let mut ids = process.user().clone();
    ids.set_uid(found.uid).set_gid(found.gid).set_additional_gids(Some(groups));
    process.set_user(ids);
    if found.uid != 0
        && let Some(mut sets) = process.capabilities().clone()
    {
        // A user other than root has none of them to begin with, but setuid programs may gain what is bounded.
        sets.set_effective(None).set_permitted(None);
        process.set_capabilities(Some(sets));
    }
    let env = process.env_mut().get_or_insert_default();
    if !env.iter().any(|pair| pair.starts_with("HOME=")) {
        env.push(format!(
            "HOME={}",
            found.home.filter(|home| !home.is_empty()).unwrap_or_else(|| "/".into())
        ));
    }
    Ok(())
}

/// What it is found by on its networks.
pub(crate) fn names(record: &Record) -> Vec<String> {
    let mut names = Vec::new();
    for name in [record.display_name(), &record.id[..12], record.hostname.as_str()] {
        if !name.is_empty() && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}
