//! The planner: a spec and facts become a list of steps.

use std::path::PathBuf;

use coracle_launch::{Memory, Namespaces};
use oci_spec::runtime::{LinuxNamespaceType, Process, Spec};
use rustix::mount::MountFlags;
use rustix::thread::{CapabilitySet, LinkNameSpaceType};

use crate::error::{Error, Result};
use crate::{Facts, check, command, mounts};

/// What one process will do between its clone and its program: a value that can be printed, compared and
/// performed. It holds no kernel objects yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub(crate) namespaces: Namespaces,
    pub(crate) memory: Memory,
    pub(crate) new_net: bool,
    pub(crate) steps: Vec<Step>,
}

/// One step of a plan. `Display` says it in words.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Step {
    /// Be killed when the thread that started it ends.
    DieWithParent {
        /// The starting process.
        parent: u32,
    },
    /// Refuse to be traced or looked into.
    Undumpable,
    /// Join the network namespace that the bundle brings, or get a new one.
    JoinNet,
    /// Bring the loopback interface up.
    LoopbackUp,
    /// Join one namespace of the container.
    Join(LinkNameSpaceType),
    /// Go on in a second process, inside the pid namespace joined.
    Again,
    /// Keep mounts from travelling between here and the host.
    MakePrivate,
    /// Put the bundle's root in place.
    AttachRoot,
    /// Put a mount that the parent made in place.
    Attach {
        /// What it is.
        source: Attachment,
        /// Where, in the container.
        at: PathBuf,
    },
    /// Put a mount that the bundle brings in place.
    AttachGiven {
        /// What it is, in words.
        what: String,
        /// Where, in the container.
        at: PathBuf,
    },
    /// Mount a file system that must be mounted from within its namespaces.
    Mount {
        /// Its type.
        fstype: String,
        /// Where, in the container.
        at: PathBuf,
        /// Its flags.
        flags: MountFlags,
        /// Its options.
        data: String,
    },
    /// Make the new root the current directory.
    EnterRoot,
    /// Hide a file of proc or sysfs.
    MaskFile(String),
    /// Hide a directory of proc or sysfs.
    MaskDir(String),
    /// Make a path of proc or sysfs read-only.
    ReadOnly(String),
    /// Make the new root the root, and let go of the host's.
    Pivot,
    /// Make the root read-only.
    RootReadOnly,
    /// Set the host name.
    HostName(String),
    /// Set the NIS domain name.
    DomainName(String),
    /// Set the file mode creation mask.
    Umask(u32),
    /// Bound what any later program can have.
    Bound(CapabilitySet),
    /// Become a user.
    Ids {
        /// The user id.
        uid: u32,
        /// The group id.
        gid: u32,
        /// The supplementary groups.
        groups: Vec<u32>,
    },
    /// Set the capabilities.
    Capabilities {
        /// The effective set.
        effective: CapabilitySet,
        /// The permitted set.
        permitted: CapabilitySet,
        /// The inheritable set.
        inheritable: CapabilitySet,
        /// The ambient set.
        ambient: CapabilitySet,
    },
    /// Never gain rights by exec.
    NoNewPrivs,
    /// Go to the working directory.
    ChangeDir(PathBuf),
    /// Take the bundle's standard input, output and error.
    Stdio,
    /// Close everything else.
    CloseFrom(u32),
    /// Become the program.
    Exec {
        /// Where it is looked for, in order.
        candidates: Vec<String>,
        /// Its arguments, its name first.
        args: Vec<String>,
        /// Its environment.
        env: Vec<String>,
    },
}

/// A mount that the parent makes and the child only puts in place.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Attachment {
    /// A tmpfs.
    Tmpfs {
        /// Its options, as `key=value`.
        options: Vec<String>,
        /// Its flags.
        flags: Vec<String>,
        /// Whether it gets the device nodes and links that a container's `/dev` has.
        devices: bool,
    },
    /// A devpts instance of its own.
    DevPts {
        /// Its options, as `key=value`.
        options: Vec<String>,
        /// Its flags.
        flags: Vec<String>,
    },
    /// A directory or file of the host.
    Bind {
        /// Where on the host.
        source: PathBuf,
        /// With what is mounted below it.
        recursive: bool,
        /// Not writable, nor anything below it.
        read_only: bool,
    },
}

impl Plan {
    /// Plans a container's first process.
    ///
    /// # Errors
    /// Everything in the spec that is wrong, or that this runtime does not do, at once and by its name in the spec.
    pub fn container(spec: &Spec, facts: &Facts) -> Result<Plan> {
        let mut problems = check::spec(spec);
        let mut mounted = Vec::new();
        for mount in spec.mounts().iter().flatten() {
            match mounts::step(mount) {
                Ok(step) => mounted.push(step),
                Err(problem) => problems.push(problem),
            }
        }
        problems.extend(check::walls(spec, &mounted));
        let (Some(process), true) = (spec.process(), problems.is_empty()) else {
            return Err(Error::problems(problems));
        };
        let (namespaces, new_net) = namespaces(spec);
        let mut steps = vec![Step::DieWithParent { parent: facts.parent() }];
        if new_net {
            steps.extend([Step::JoinNet, Step::LoopbackUp]);
        }
        steps.extend([Step::MakePrivate, Step::AttachRoot]);
        let walls = walls(spec, &mounted, facts);
        steps.extend(mounted);
        steps.push(Step::EnterRoot);
        steps.extend(walls);
        steps.push(Step::Pivot);
        if spec.root().as_ref().is_some_and(|root| root.readonly() == Some(true)) {
            steps.push(Step::RootReadOnly);
        }
        steps.extend(spec.hostname().clone().map(Step::HostName));
        steps.extend(spec.domainname().clone().map(Step::DomainName));
        steps.extend(process_steps(process, facts)?);
        Ok(Plan { namespaces, memory: Memory::Shared, new_net, steps })
    }

    /// Adds a mount that the bundle will bring: the bundle's mounts are taken in the order of these calls. Places that
    /// contain each other must come outermost first.
    ///
    /// # Errors
    /// `Invalid` where `at` is not an absolute path below `/`, without `..`.
    pub fn attach(&mut self, what: impl Into<String>, at: impl Into<PathBuf>) -> Result<()> {
        let at = at.into();
        if !mounts::is_place(&at) {
            let what = what.into();
            return Err(Error::invalid(format!(
                "{what}: {at:?} is not an absolute path below /, without `..`"
            )));
        }
        let before = self.steps.iter().position(|step| *step == Step::EnterRoot).unwrap_or(self.steps.len());
        self.steps.insert(before, Step::AttachGiven { what: what.into(), at });
        Ok(())
    }

    /// Plans a further process in a running container, which joins all its namespaces. It copies the starting program's
    /// memory instead of sharing it, forbids to be looked into, and enters the container's mounts last: until it
    /// executes its program, nothing in the container gets hold of anything of the host through it.
    ///
    /// # Errors
    /// Everything in `process` that is wrong or not supported.
    pub fn exec(process: &Process, facts: &Facts) -> Result<Plan> {
        let problems = check::process(process);
        if !problems.is_empty() {
            return Err(Error::problems(problems));
        }
        let parent = facts.parent();
        use LinkNameSpaceType as Type;
        let mut steps = vec![Step::Undumpable, Step::DieWithParent { parent }];
        let joins = [
            Type::ControlGroup,
            Type::InterProcessCommunication,
            Type::HostNameAndNISDomainName,
            Type::Network,
            Type::ProcessID,
        ];
        steps.extend(joins.map(Step::Join));
        steps.extend([Step::Again, Step::DieWithParent { parent }, Step::Join(Type::Mount)]);
        steps.extend(process_steps(process, facts)?);
        Ok(Plan { namespaces: Namespaces::NONE, memory: Memory::Own, new_net: false, steps })
    }

    /// The steps, in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}

fn namespaces(spec: &Spec) -> (Namespaces, bool) {
    let mut all = Namespaces::NONE;
    let mut new_net = false;
    for namespace in spec.linux().iter().flat_map(|linux| linux.namespaces()).flatten() {
        match namespace.typ() {
            LinuxNamespaceType::Mount => all = all.and(Namespaces::MOUNT),
            LinuxNamespaceType::Pid => all = all.and(Namespaces::PID),
            LinuxNamespaceType::Ipc => all = all.and(Namespaces::IPC),
            LinuxNamespaceType::Uts => all = all.and(Namespaces::UTS),
            LinuxNamespaceType::Cgroup => all = all.and(Namespaces::CGROUP),
            LinuxNamespaceType::Network => new_net = true,
            _ => {} // refused by the check
        }
    }
    (all, new_net)
}

/// Masks and read-only paths, for what this kernel has of them and the container mounts.
fn walls(spec: &Spec, mounted: &[Step], facts: &Facts) -> Vec<Step> {
    let Some(linux) = spec.linux() else { return Vec::new() };
    let there = |path: &&String| mounted.iter().any(|step| mounts::shows_kernel(step, path));
    let relative = |path: &String| path.trim_start_matches('/').to_owned();
    let masked = linux.masked_paths().iter().flatten().filter(there);
    let masked = masked.filter_map(|path| match facts.is_dir(path)? {
        true => Some(Step::MaskDir(relative(path))),
        false => Some(Step::MaskFile(relative(path))),
    });
    let read_only = linux.readonly_paths().iter().flatten().filter(there);
    let read_only =
        read_only.filter(|path| facts.is_dir(path).is_some()).map(|path| Step::ReadOnly(relative(path)));
    masked.chain(read_only).collect()
}

/// From a set-up container to the program.
fn process_steps(process: &Process, facts: &Facts) -> Result<Vec<Step>> {
    let user = process.user();
    let groups = user.additional_gids().clone().unwrap_or_default();
    let mut sets = command::capabilities(process.capabilities().as_ref());
    let no_new_privileges = process.no_new_privileges() == Some(true);
    if user.uid() == 0 && !no_new_privileges {
        // exec makes these root's anyway (capabilities(7)). Gained there, they would disarm the parent-death signal.
        sets.permitted |= sets.bounding;
    }
    let mut steps = vec![
        Step::Umask(user.umask().unwrap_or(0o022)),
        Step::Stdio,
        Step::Bound(sets.bounding),
        Step::Ids { uid: user.uid(), gid: user.gid(), groups },
        Step::Capabilities {
            effective: sets.effective,
            permitted: sets.permitted,
            inheritable: sets.inheritable,
            ambient: sets.ambient,
        },
        Step::DieWithParent { parent: facts.parent() },
    ];
    if no_new_privileges {
        steps.push(Step::NoNewPrivs);
    }
    // First, so that neither the directory nor the program can be one of ours, below /proc/self/fd.
    steps.push(Step::CloseFrom(3));
    steps.push(Step::ChangeDir(process.cwd().clone()));
    steps.push(command::exec(process)?);
    Ok(steps)
}
