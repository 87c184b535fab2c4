//! What a plan is made of.

use std::path::PathBuf;

use coracle_host::{Attributes, Change, Propagation};
use coracle_launch::{Namespaces, Scheduler};
use rustix::mount::MountFlags;
use rustix::thread::CapabilitySet;

use crate::Size;
use crate::device::Node;
use crate::seccomp::Program;
use crate::userns::IdMap;

/// One step of a plan. `Display` says it in words.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Step {
    /// Be killed when the thread that started it ends.
    DieWithParent,
    /// Join the network namespace that the bundle brings, or get a new one.
    JoinNet,
    /// Enter the control group that the bundle brings.
    EnterGroup,
    /// Get a control group namespace, whose root is where the process is now.
    NewGroupNamespace,
    /// Get a time namespace, which the program is then executed in.
    NewTimeNamespace,
    /// Join a time namespace: the one at the path, or the container's.
    JoinTime {
        /// As in `/proc/PID/ns`.
        path: Option<PathBuf>,
    },
    /// Join a time namespace that is made in the container's user namespace.
    JoinNewTime {
        /// How its clocks are set: lines as `/proc/PID/timens_offsets` takes them.
        offsets: String,
    },
    /// Set its clocks: lines as `/proc/PID/timens_offsets` takes them.
    Clocks(String),
    /// Set the adjustment of the score by which the kernel chooses what to kill without memory.
    OomScore(i32),
    /// Set a kernel parameter of a namespace.
    Sysctl {
        /// Its file.
        path: String,
        /// Its value.
        value: String,
    },
    /// Raise a hard limit above the starting program's.
    Raise {
        /// `RLIMIT_*`.
        resource: u32,
        /// The soft limit that stays.
        soft: u64,
        /// The hard limit.
        hard: u64,
    },
    /// Set a resource limit.
    Limit {
        /// `RLIMIT_*`.
        resource: u32,
        /// The soft limit.
        soft: u64,
        /// The hard limit.
        hard: u64,
    },
    /// Join the user namespace that the bundle brings, that the spec names, or that is made for the container.
    JoinUser,
    /// Go on in a second process, born in new namespaces that belong to the user namespace.
    Clone {
        /// Which.
        namespaces: Namespaces,
    },
    /// Be the user namespace's root.
    BecomeRoot,
    /// Join a namespace that a path leads to.
    JoinPath {
        /// Which.
        kind: Joinable,
        /// As in `/proc/PID/ns`.
        path: PathBuf,
    },
    /// Set the execution domain.
    Personality(u32),
    /// Set the priority of what it reads and writes.
    IoPriority {
        /// `IOPRIO_CLASS_*`.
        class: u32,
        /// 0 to 7, the highest first.
        level: u32,
    },
    /// Set the scheduling policy.
    Scheduler(Scheduler),
    /// Run on these processors only.
    Affinity {
        /// Bits.
        processors: Vec<u64>,
        /// The same in words.
        words: String,
    },
    /// Have memory of certain nodes.
    MemoryPolicy {
        /// `MPOL_*`, with its flags.
        mode: u32,
        /// Bits.
        nodes: Vec<u64>,
        /// The same in words.
        words: String,
    },
    /// Get a session keyring of its own.
    Keyring,
    /// Keep `CAP_SYS_ADMIN` until the filter is installed.
    Carry {
        /// All that the process has.
        held: CapabilitySet,
    },
    /// Have AppArmor confine the program, and what it executes.
    Confine {
        /// The name of the profile.
        profile: String,
        /// The file that takes it, from proc.
        file: String,
    },
    /// Give the keyring that is made next this security context of SELinux's.
    LabelKeyring(String),
    /// Set the security context of a mount that is there.
    LabelMount {
        /// Where, in the container.
        at: PathBuf,
        /// The context.
        label: String,
    },
    /// Have the program begin in this security context of SELinux's.
    Label(String),
    /// Install a filter of system calls.
    Filter(Program),
    /// Have the capabilities that were planned, without the one that was kept for the filter.
    LetGo {
        /// The effective set.
        effective: CapabilitySet,
        /// The permitted set.
        permitted: CapabilitySet,
        /// The inheritable set.
        inheritable: CapabilitySet,
    },
    /// Stay as a process that hands on signals and reaps, and go on in a child.
    Init,
    /// Bring the loopback interface up.
    LoopbackUp,
    /// Join all namespaces of the container.
    JoinContainer,
    /// Keep mounts from travelling between here and the host.
    MakePrivate,
    /// Put the bundle's root in place.
    AttachRoot,
    /// Keep what is mounted in the root from travelling to where it was put, in mounts that others have, too.
    KeepRootApart {
        /// Private, or a slave.
        propagation: Propagation,
    },
    /// Put a mount that the parent made in place.
    Attach {
        /// What it is.
        source: Attachment,
        /// Where, in the container.
        at: PathBuf,
    },
    /// Nothing in the root, nor in what is mounted in it, can be opened as a device.
    NoDevices,
    /// Except for this, a node in `/dev`.
    Device {
        /// Where, in the container.
        at: PathBuf,
    },
    /// Make a device's node outside of `/dev`, which can be opened.
    Node {
        /// Where, in the container.
        at: PathBuf,
        /// What it is.
        node: Node,
    },
    /// Nothing else in the container's `/dev` can be opened as a device.
    NoOtherDevices,
    /// Put a mount that the bundle brings in place.
    AttachGiven {
        /// What it is, in words.
        what: String,
        /// Where, in the container.
        at: PathBuf,
        /// What it keeps of the propagation that it comes with.
        propagation: Propagation,
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
    /// Make a mount that is there read-only; what is mounted below it stays as it is.
    Seal {
        /// Where, in the container.
        at: PathBuf,
    },
    /// Change the attributes of a mount that is there.
    Remount {
        /// Where, in the container.
        at: PathBuf,
        /// What of them.
        change: Change,
        /// Whether those of all that is mounted below it change, too.
        recursive: bool,
    },
    /// Say how mounts travel to and from one that is there.
    Propagate {
        /// Where, in the container.
        at: PathBuf,
        /// How.
        propagation: Propagation,
        /// Whether that is so for all that is mounted below it, too.
        below: bool,
    },
    /// Make the new root the current directory.
    EnterRoot,
    /// Hide a file of proc or sysfs.
    MaskFile(String),
    /// Hide a directory of proc or sysfs.
    MaskDir(String),
    /// Make a path of proc or sysfs read-only.
    ReadOnly(String),
    /// Hide what is at a place in the container, where something is.
    Hide {
        /// Where.
        at: PathBuf,
    },
    /// Make what is at a place in the container read-only, where something is.
    Guard {
        /// Where.
        at: PathBuf,
    },
    /// Make the new root the root, and let go of the host's.
    Pivot,
    /// Make the new root the root, over the host's.
    ChangeRoot,
    /// Make the directory that was entered the root; the mounts around it stay, for others have them, too.
    Chroot,
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
    /// Put a new terminal of the container's devpts instance at a file of it.
    Console {
        /// `/dev/console`.
        at: PathBuf,
    },
    /// Take the terminal as standard input, output and error.
    Terminal {
        /// How large it is at first.
        size: Option<Size>,
    },
    /// Be controlled by the terminal.
    Control,
    /// Close everything else.
    CloseFrom(u32),
    /// Go on in a small program in sealed memory, which does the steps from here on: nothing of the starting program is
    /// left.
    Detach,
    /// Refuse to be traced or looked into. Where that is said before the process has memory of its own, so does the starting
    /// program for that long.
    Undumpable,
    /// Go on in a second process, inside the pid namespace joined.
    Again,
    /// Begin a session.
    Session,
    /// Wait until there is a byte to read from the bundle's `go`.
    Await,
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

impl Step {
    /// Whether there can be nothing to do for it in the child: a new namespace comes with the clone, mounts are made so by
    /// the parent, and what is not there needs no wall.
    pub(crate) fn may_be_nothing(&self) -> bool {
        matches!(
            self,
            Step::JoinNet | Step::NoDevices | Step::Node { .. } | Step::Hide { .. } | Step::Guard { .. }
        )
    }
}

impl Step {
    /// Whether a security module is asked, through the host's proc and from sealed memory, for what the program begins with.
    pub(crate) fn asks_a_module(&self) -> bool {
        matches!(self, Step::Confine { .. } | Step::Label(_))
    }
}

/// A namespace that can be joined by path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Joinable {
    /// Network.
    Net,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host and domain name.
    Uts,
    /// Control groups.
    Cgroup,
    /// Processes: those that the joining one starts are in it.
    Pid,
    /// Mounts.
    Mount,
}

/// A mount that the parent makes and the child only puts in place.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Attachment {
    /// A tmpfs.
    Tmpfs {
        /// Its options, as `key=value`.
        options: Vec<String>,
        /// Its attributes.
        attributes: Attributes,
        /// The nodes that it gets, where it is a container's `/dev`; it then has the usual links, too.
        devices: Option<Vec<Node>>,
        /// Whether it begins with a copy of what it covers.
        copy_up: bool,
    },
    /// A devpts instance of its own.
    DevPts {
        /// Its options, as `key=value`.
        options: Vec<String>,
        /// Its attributes.
        attributes: Attributes,
    },
    /// The proc of a pid namespace that is joined (since Linux 6.17).
    Proc {
        /// The namespace, as in `/proc/PID/ns/pid`.
        namespace: PathBuf,
        /// Its options, as `key=value`.
        options: Vec<String>,
        /// Its attributes.
        attributes: Attributes,
    },
    /// Any other file system that can be mounted from outside the container's namespaces.
    Other {
        /// Its type, as in `/proc/filesystems`.
        fstype: String,
        /// Its options, as `key=value`; what it is made of is one of them (`source`).
        options: Vec<String>,
        /// Its attributes.
        attributes: Attributes,
    },
    /// A directory or file of the host.
    Bind {
        /// Where on the host.
        source: PathBuf,
        /// With what is mounted below it.
        recursive: bool,
        /// Its attributes.
        attributes: Attributes,
        /// How mounts travel, and whether that is so below it, too; private where nothing is said.
        propagation: Option<(Propagation, bool)>,
        /// How its owners are shown.
        ids: Option<Shown>,
    },
}

impl Attachment {
    /// The options of its file system, where that is not one of the host's.
    pub(crate) fn options_mut(&mut self) -> Option<&mut Vec<String>> {
        match self {
            Attachment::Tmpfs { options, .. }
            | Attachment::DevPts { options, .. }
            | Attachment::Proc { options, .. }
            | Attachment::Other { options, .. } => Some(options),
            Attachment::Bind { .. } => None,
        }
    }
}

/// How the owners of a mount's files are shown, and whether that is so below it, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// By this mapping; by that of the container's user namespace where there is none.
    pub map: Option<IdMap>,
    /// Whether mounts below it are shown so, too.
    pub recursive: bool,
}
