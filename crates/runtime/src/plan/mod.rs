//! The planner: a spec and facts become a list of steps.

use std::path::{Path, PathBuf};

use coracle_host::Propagation;
use coracle_launch::Namespaces;
use oci_spec::runtime::{LinuxNamespaceType, Mount, Process, Spec};

use rustix::thread::CapabilitySet;

use crate::cgroup::Hierarchies;
use crate::command::Sets;
use crate::error::{Error, Result};
use crate::seccomp::Program;
use crate::userns::Wanted;
use crate::{Facts, Size, check, clocks, command, confine, device, limits, mounts, sysctl, tuning};

mod entry;
mod held;
mod step;
mod time;

pub use step::{Attachment, Joinable, Shown, Step};

use entry::{Entry, Way};

/// What one process will do between its clone and its program: a value that can be printed, compared and
/// performed. It holds no kernel objects yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub(crate) namespaces: Namespaces,
    /// The starting process, as its own proc shows it.
    pub(crate) parent: u32,
    pub(crate) new_net: bool,
    /// The user namespace, where it isn't the starting program's.
    pub(crate) user: Option<Wanted>,
    /// All capabilities that the child has before it gives some away.
    pub(crate) held: CapabilitySet,
    pub(crate) steps: Vec<Step>,
}

impl Plan {
    /// Plans a container's first process.
    ///
    /// # Errors
    /// Everything in the spec that is wrong, or that this runtime does not do, at once and by its name in the spec.
    pub fn container(spec: &Spec, facts: &Facts) -> Result<Plan> {
        let mut problems = check::spec(spec, facts);
        let mut mounted = Vec::new();
        let nodes = device::nodes(spec).unwrap_or_else(|refused| {
            problems.extend(refused);
            Vec::new()
        });
        let shown = |mount: &Mount| mount.typ().as_deref().is_some_and(|typ| typ.starts_with("cgroup"));
        let groups = match spec.mounts().iter().flatten().any(shown) {
            true => facts.groups()?,
            false => Hierarchies::default(),
        };
        let group_namespace = check::has_namespace(spec, LinuxNamespaceType::Cgroup);
        let pids = joined(spec, LinuxNamespaceType::Pid);
        let (nodes, elsewhere) = device::by_place(spec, nodes);
        let user = Wanted::of(spec).unwrap_or_else(|refused| {
            problems.extend(refused);
            None
        });
        let users = check::has_namespace(spec, LinuxNamespaceType::User);
        let known = mounts::Known { nodes: &nodes, groups: &groups, group_namespace, pids, users };
        for mount in spec.mounts().iter().flatten() {
            match mounts::steps(mount, known, &mut mounted) {
                Ok(steps) => mounted.extend(steps),
                Err(problem) => problems.push(problem),
            }
        }
        // Read-only when everything in them is in place.
        mounted.sort_by_key(|step| matches!(step, Step::Seal { .. }));
        let labels = confine::label_mounts(spec, &mut mounted);
        let changes = |step: &mut Step| matches!(step, Step::Remount { .. } | Step::Propagate { .. });
        let changed: Vec<Step> = mounted.extract_if(.., changes).collect();
        let sysctls = sysctl::steps(spec).unwrap_or_else(|refused| {
            problems.extend(refused);
            Vec::new()
        });
        let clocks = clocks::offsets(spec, facts).unwrap_or_else(|refused| {
            problems.extend(refused);
            None
        });
        let tuned = tuning::of_container(spec).unwrap_or_else(|refused| {
            problems.extend(refused);
            Vec::new()
        });
        let (Some(process), true) = (spec.process(), problems.is_empty()) else {
            return Err(Error::problems(problems));
        };
        let own = tuning::of_process(process, false).map_err(Error::problems)?;
        let filter = Program::of(spec)?;
        let mut steps = vec![Step::DieWithParent];
        let group = spec
            .linux()
            .as_ref()
            .is_some_and(|linux| linux.cgroups_path().is_some() || linux.resources().is_some());
        steps.extend(group.then_some(Step::EnterGroup));
        steps.extend(process.oom_score_adj().map(Step::OomScore));
        let facts = &if user.is_some() { facts.clone().in_user_namespace() } else { facts.clone() };
        let (raise, limit) = limits::steps(process, facts);
        let entry = Entry::of(spec);
        let (new_net, own_mounts) = (entry.new_net, entry.new.has(Namespaces::MOUNT));
        let tuned = tuned.into_iter().chain(own.before).chain(confine::keyring(process)).collect();
        // That of a user namespace's root is made for it, and joined later.
        let (users_clocks, clocks) = if user.is_some() { (clocks, None) } else { (None, clocks) };
        let clocks = clocks.into_iter().flat_map(clocks::steps).collect();
        let way = Way { group, tuned, raise: raise.clone(), clocks, sysctls };
        let (entry, namespaces) = entry.steps(way, user.is_some());
        steps.extend(entry);
        let word = spec.linux().as_ref().and_then(|linux| linux.rootfs_propagation().as_deref());
        let travels = word.and_then(mounts::propagation);
        match own_mounts {
            true => steps.extend([Step::MakePrivate, Step::AttachRoot]),
            false => {
                let slave = travels.map(|(propagation, _)| propagation);
                let slave = slave.filter(|propagation| *propagation == Propagation::Slave);
                let propagation = slave.unwrap_or(Propagation::Private);
                steps.extend([Step::AttachRoot, Step::KeepRootApart { propagation }]);
            }
        }
        let walls = walls(spec, &mounted, facts);
        if filtered_devices(spec) {
            steps.extend(mounted);
        } else {
            steps.push(Step::NoDevices);
            steps.extend(mounted.into_iter().flat_map(guarded));
        }
        steps.extend(
            elsewhere.into_iter().map(|node| Step::Node { at: Path::new("/dev").join(&node.path), node }),
        );
        let terminal = process.terminal() == Some(true);
        if terminal {
            steps.push(Step::Console { at: "/dev/console".into() });
        }
        steps.push(Step::EnterRoot);
        steps.extend(walls);
        steps.extend(labels);
        steps.extend(changed);
        // Here hooks may look at all of it.
        steps.extend(spec.hostname().clone().map(Step::HostName));
        steps.extend(spec.domainname().clone().map(Step::DomainName));
        steps.push(if own_mounts { Step::Pivot } else { Step::Chroot });
        steps.extend(
            travels
                .filter(|(propagation, _)| *propagation != Propagation::Private)
                .map(|(propagation, below)| Step::Propagate { at: "/".into(), propagation, below }),
        );
        if spec.root().as_ref().is_some_and(|root| root.readonly() == Some(true)) {
            steps.push(Step::RootReadOnly);
        }
        steps.extend(raise.into_iter().filter(|_| user.is_none()));
        let sets = privileges(process, facts);
        steps.extend(process_steps(process, sets));
        steps.push(Step::Detach);
        if pids.is_some() {
            // As one that joins a container: what is in the namespace sees it from here on.
            steps.extend([Step::Undumpable, Step::Again, Step::Session]);
        }
        steps.extend(terminal.then_some(Step::Control));
        steps.extend(pids.map(|_| Step::DieWithParent));
        steps.extend(confine::steps(process, facts));
        steps.extend(limit);
        steps.push(command::exec(process)?);
        let held = facts.capabilities();
        let mut plan = Plan { namespaces, parent: facts.parent(), new_net, user, held, steps };
        if let Some(filter) = filter {
            plan.filter(&filter)?;
        }
        if let Some(path) = joined(spec, LinuxNamespaceType::Time) {
            plan.join_time(Step::JoinTime { path: Some(path.to_owned()) });
        }
        if let Some(offsets) = users_clocks {
            plan.join_time(Step::JoinNewTime { offsets });
        }
        Ok(plan)
    }

    /// Adds a mount that the bundle will bring: the bundle's mounts are taken in the order of these calls. Places that
    /// contain each other must come outermost first. Whatever it was cloned of, mounts below it stay the container's.
    ///
    /// # Errors
    /// `Invalid` where `at` is not an absolute path below `/`, without `..`.
    pub fn attach(&mut self, what: impl Into<String>, at: impl Into<PathBuf>) -> Result<()> {
        self.attach_as(what, at, Propagation::Private)
    }

    /// [`Plan::attach`] of a mount that keeps its propagation, which is at most `propagation`: it is for the caller to
    /// have said so to the kernel. Inside one that is `Shared` no other mount of the plan has a place: it would appear on
    /// the host, and stay there.
    ///
    /// # Errors
    /// As of [`Plan::attach`].
    pub fn attach_as(
        &mut self,
        what: impl Into<String>,
        at: impl Into<PathBuf>,
        propagation: Propagation,
    ) -> Result<()> {
        let at = at.into();
        if !mounts::is_place(&at) {
            let what = what.into();
            return Err(Error::invalid(format!(
                "{what}: {at:?} is not an absolute path below /, without `..`"
            )));
        }
        let before = self.steps.iter().position(|step| *step == Step::EnterRoot).unwrap_or(self.steps.len());
        self.steps.insert(before, Step::AttachGiven { what: what.into(), at, propagation });
        Ok(())
    }

    /// Plans a further process in a running container, which joins all its namespaces. Until it has left the
    /// starting program's memory and let go of everything of the host, it is in no pid namespace of the container's:
    /// nothing there can see it.
    ///
    /// # Errors
    /// Everything in `process` that is wrong or not supported.
    pub fn exec(process: &Process, facts: &Facts) -> Result<Plan> {
        let problems = check::process(process, facts);
        if !problems.is_empty() {
            return Err(Error::problems(problems));
        }
        let own = tuning::of_process(process, true).map_err(Error::problems)?;
        let mut steps = vec![Step::DieWithParent];
        steps.extend(process.oom_score_adj().map(Step::OomScore));
        steps.extend(own.before.into_iter().chain(confine::keyring(process)));
        let (raise, limit) = limits::steps(process, facts);
        steps.extend(raise);
        // There may be processes in the container that see all of the host's.
        steps.extend([Step::Undumpable, Step::JoinContainer]);
        steps.extend(process_steps(process, privileges(process, facts)));
        // Here the container's processes begin to see it.
        steps.extend([Step::Detach, Step::Undumpable, Step::Again, Step::Session]);
        steps.extend((process.terminal() == Some(true)).then_some(Step::Control));
        steps.push(Step::DieWithParent);
        steps.extend(confine::steps(process, facts));
        steps.extend(own.after);
        steps.extend(limit);
        steps.push(command::exec(process)?);
        let held = facts.capabilities();
        let (namespaces, parent) = (Namespaces::NONE, facts.parent());
        Ok(Plan { namespaces, parent, new_net: false, user: None, held, steps })
    }

    /// Adds a filter of system calls, which the process gets last of all. That of the spec (`linux.seccomp`) is there already.
    /// One with calls that somebody else is to answer (`SCMP_ACT_NOTIFY`) needs a [`Listener`](crate::Listener).
    ///
    /// # Errors
    /// `Invalid` for a second program of that kind, and for one after [`Plan::hold`].
    pub fn filter(&mut self, program: &Program) -> Result<()> {
        if program.notifies() && (self.notifies() || self.steps.contains(&Step::Await)) {
            let text =
                "linux.seccomp: a process has one filter with SCMP_ACT_NOTIFY, and that before it is held";
            return Err(Error::invalid(text));
        }
        if let Some(at) = self.steps.iter().position(|step| matches!(step, Step::LetGo { .. })) {
            self.steps.insert(at, Step::Filter(program.clone())); // one more
            return Ok(());
        }
        let mut before = self.end();
        if !self.steps.contains(&Step::NoNewPrivs) {
            before += self.carry();
        }
        self.steps.insert(before, Step::Filter(program.clone()));
        Ok(())
    }

    /// Installing a filter takes `CAP_SYS_ADMIN`, or that exec never gives more rights. Where neither is planned the
    /// capability is kept up to the filter, which comes after everything else so that it needs to permit next to nothing
    /// but the program. How many steps were inserted before where the filter goes.
    fn carry(&mut self) -> usize {
        let admin = CapabilitySet::SYS_ADMIN;
        let held = self.held;
        let Some((at, bounding)) = self.steps.iter().enumerate().find_map(|(at, step)| match step {
            Step::Bound(bounding) => Some((at, *bounding)),
            _ => None,
        }) else {
            return 0;
        };
        let root = self.steps.iter().any(|step| matches!(step, Step::Ids { uid: 0, .. }));
        let planned = self.steps.iter_mut().find_map(|step| match step {
            Step::Capabilities { effective, permitted, inheritable, ambient } => {
                Some((effective, permitted, inheritable, ambient))
            }
            _ => None,
        });
        let Some((effective, permitted, inheritable, ambient)) = planned else { return 0 };
        if effective.contains(admin) && ambient.contains(admin) {
            return 0; // also across the exec between here and the filter
        }
        // What the exec between here and the filter leaves, as it would at the program (capabilities(7)).
        let left = match root {
            true => bounding | *inheritable,
            false => *ambient,
        };
        let last = Step::LetGo {
            effective: if root { *effective & left } else { left },
            permitted: if root { *permitted & left } else { left },
            inheritable: *inheritable,
        };
        for set in [effective, permitted, inheritable, ambient] {
            *set |= admin;
        }
        self.steps.insert(at, Step::Carry { held });
        let end = self.end();
        self.steps.insert(end, last);
        1
    }

    /// Executes the file at this path, whatever the first argument calls it.
    pub fn program(&mut self, path: impl Into<String>) {
        for step in &mut self.steps {
            if let Step::Exec { candidates, .. } = step {
                *candidates = vec![path.into()];
                return;
            }
        }
    }

    /// Makes a plan of [`Plan::exec`] enter the root directory of the container's first process: for a container that has no
    /// mount namespace of its own, where the namespace's root is others'.
    pub fn enter_root(&mut self) {
        let after = self.steps.iter().position(|step| *step == Step::JoinContainer);
        let after = after.map_or(self.steps.len(), |at| at + 1);
        self.steps.splice(after..after, [Step::EnterRoot, Step::Chroot]);
    }

    /// Makes a plan of [`Plan::exec`] enter the control group that [`Join::group`](crate::Join::group) brings.
    pub fn enter_group(&mut self) {
        let after = self.steps.iter().position(|step| *step == Step::Again).unwrap_or_default();
        self.steps.insert(after, Step::EnterGroup);
    }

    /// Has a small program as the first process, which hands on signals and reaps orphans; the container's own program is
    /// its child.
    pub fn init(&mut self) {
        if !self.steps.contains(&Step::Init) {
            let end = self.end();
            self.steps.insert(end, Step::Init);
        }
    }

    /// Where what is left is the program; and what stays as its parent, which has no more rights than it.
    fn end(&self) -> usize {
        let last = |step: &Step| matches!(step, Step::Init | Step::Exec { .. });
        self.steps.iter().position(last).unwrap_or(self.steps.len())
    }

    /// What the process will lack of what its spec asks for, and why, in words: capabilities that the starting program
    /// does not have itself (config.md, "Linux Process": that is no failure).
    pub fn warnings(&self, process: &Process) -> Vec<String> {
        let asked = command::capabilities(process.capabilities().as_ref());
        let all = asked.bounding | asked.permitted | asked.effective | asked.inheritable | asked.ambient;
        let lacking = all.difference(self.held);
        let words = caps::all().into_iter().filter(|one| lacking.bits() & one.bitmask() != 0);
        words
            .map(|one| format!("process.capabilities: {one} is left out, the starting program lacks it"))
            .collect()
    }

    /// Enters the root by chroot(2) over the old one instead of by pivot_root(2), which the first file system of a kernel
    /// (an initramfs that nothing was switched to) can't be left by. What is below the root then stays in the container's
    /// mount namespace: a process there that may unmount the root gets at it.
    pub fn no_pivot(&mut self) {
        self.steps.iter_mut().filter(|step| **step == Step::Pivot).for_each(|step| *step = Step::ChangeRoot);
    }

    /// Whether somebody is to answer calls of the process.
    pub(crate) fn notifies(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Filter(program) if program.notifies()))
    }

    /// The steps, in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}

/// The path of a namespace that is joined.
fn joined(spec: &Spec, kind: LinuxNamespaceType) -> Option<&Path> {
    let mut all = spec.linux().iter().flat_map(|linux| linux.namespaces()).flatten();
    all.find(|namespace| namespace.typ() == kind)?.path().as_deref()
}

/// Whether a control group says which devices may be opened.
fn filtered_devices(spec: &Spec) -> bool {
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    resources.and_then(|resources| resources.devices().as_ref()).is_some_and(|rules| !rules.is_empty())
}

/// A mount; and where it is a `/dev`, that of all its nodes only those that it begins with can be opened.
fn guarded(mounted: Step) -> Vec<Step> {
    let mut steps = Vec::new();
    if let Step::Attach { source: Attachment::Tmpfs { devices: Some(nodes), .. }, at } = &mounted {
        steps.extend(nodes.iter().map(|node| Step::Device { at: at.join(&node.path) }));
        steps.push(Step::NoOtherDevices);
    }
    steps.insert(0, mounted);
    steps
}

/// Masks and read-only paths: by their names in what the kernel shows, where this one has them and nothing of an image's can
/// be on the way; elsewhere as what they lead to.
fn walls(spec: &Spec, mounted: &[Step], facts: &Facts) -> Vec<Step> {
    let Some(linux) = spec.linux() else { return Vec::new() };
    let shown = |path: &String| mounted.iter().any(|step| mounts::shows_kernel(step, path));
    let relative = |path: &String| path.trim_start_matches('/').to_owned();
    let masked = linux.masked_paths().iter().flatten().filter_map(|path| match facts.is_dir(path) {
        _ if !shown(path) => Some(Step::Hide { at: path.into() }),
        Some(true) => Some(Step::MaskDir(relative(path))),
        Some(false) => Some(Step::MaskFile(relative(path))),
        None => None,
    });
    let read_only = linux.readonly_paths().iter().flatten().filter_map(|path| match facts.is_dir(path) {
        _ if !shown(path) => Some(Step::Guard { at: path.into() }),
        Some(_) => Some(Step::ReadOnly(relative(path))),
        None => None,
    });
    masked.chain(read_only).collect()
}

/// Standard input, output and error. A size counts only for a terminal (config.md, "Process").
fn streams(process: &Process) -> Step {
    if process.terminal() != Some(true) {
        return Step::Stdio;
    }
    let cells = |cells: u64| u16::try_from(cells).unwrap_or(u16::MAX);
    let size = process.console_size();
    let size = size.map(|size| Size { columns: cells(size.width()), rows: cells(size.height()) });
    Step::Terminal { size: size.filter(|size| size.columns > 0 || size.rows > 0) }
}

/// The five sets, of what there is to be given.
fn privileges(process: &Process, facts: &Facts) -> Sets {
    let mut sets = command::capabilities(process.capabilities().as_ref()).within(facts.capabilities());
    if process.user().uid() == 0 && process.no_new_privileges() != Some(true) {
        // exec makes these root's anyway (capabilities(7)). Gained there, they would disarm the parent-death signal.
        sets.permitted |= sets.bounding;
    }
    sets
}

/// From a set-up container to what is left to do before its program.
fn process_steps(process: &Process, sets: Sets) -> Vec<Step> {
    let user = process.user();
    let groups = user.additional_gids().clone().unwrap_or_default();
    let no_new_privileges = process.no_new_privileges() == Some(true);
    let mut steps = vec![
        Step::Keyring,
        Step::Umask(user.umask().unwrap_or(0o022)),
        streams(process),
        Step::Bound(sets.bounding),
        Step::Ids { uid: user.uid(), gid: user.gid(), groups },
        Step::Capabilities {
            effective: sets.effective,
            permitted: sets.permitted,
            inheritable: sets.inheritable,
            ambient: sets.ambient,
        },
        Step::DieWithParent,
    ];
    if no_new_privileges {
        steps.push(Step::NoNewPrivs);
    }
    // First, so that neither the directory nor the program can be one of ours, below /proc/self/fd.
    steps.push(Step::CloseFrom(3));
    steps.push(Step::ChangeDir(process.cwd().clone()));
    steps
}
