//! The operations a child can perform.

use core::ffi::{CStr, c_char};

use rustix::fd::BorrowedFd;
use rustix::mount::{MountAttrFlags, MountFlags, MountPropagationFlags};
use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySet, LinkNameSpaceType, ThreadNameSpaceType};

use crate::Namespaces;

/// One operation of a child. Each is one system call or the few that always go together; none decides
/// anything but to stop at the first error.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Op<'a> {
    /// Be killed when the parent's thread ends (`PR_SET_PDEATHSIG`). Changing ids clears that, so it is done again
    /// after [`Op::Ids`], and before [`Op::CloseFrom`]. The kernel sends nothing for a parent that is gone already; the operation therefore
    /// looks (in the host's proc, opened the first time) whether `parent` still is the parent, after a setsid(2)
    /// that orders it with the parent's exit.
    DieWithParent {
        /// The process id of the parent, as the host's proc shows it.
        parent: u32,
    },
    /// Close one descriptor of this process: the other end of what it awaits, whose end it could not see otherwise.
    Close(BorrowedFd<'a>),
    /// Say by one byte on this socket that everything before is done, and wait for one byte; that the other end is
    /// closed means that the parent is gone, and ends the child.
    Await(BorrowedFd<'a>),
    /// Join namespaces of the process that the pidfd refers to, or the one that a namespace fd refers to (setns(2)).
    Join(BorrowedFd<'a>, LinkNameSpaceType),
    /// Join several namespaces of the process that the pidfd refers to, all or none (setns(2)).
    JoinAll(BorrowedFd<'a>, ThreadNameSpaceType),
    /// Nobody may look into the memory that is the parent's, too (`PR_SET_DUMPABLE` 0): before anything in a container can
    /// see this process. It is the parent's to set that back, see [`start`](crate::start).
    Undumpable,
    /// Open what is at this path and send the descriptor, with one byte, over this socket.
    Show {
        /// A socket that takes descriptors.
        to: BorrowedFd<'a>,
        /// In the mounts that are there at that point.
        path: &'a CStr,
    },
    /// Go on in a second child, born in new namespaces, which belong to the user namespace that this one has joined. The
    /// parent of this one becomes its parent, too; this one ends.
    Clone(Namespaces),
    /// Get new namespaces (unshare(2)): those that must be made after something else was done.
    Unshare(Namespaces),
    /// Join the control group that has this file, which takes processes that write `0` to it.
    EnterGroup(BorrowedFd<'a>),
    /// Write to a file of the kernel's, all at once.
    Write {
        /// Its path, in the mounts that are there at that point.
        path: &'a CStr,
        /// What is written.
        text: &'a [u8],
    },
    /// setrlimit(2).
    Limit {
        /// `RLIMIT_*`.
        resource: u32,
        /// The soft limit.
        soft: u64,
        /// The hard limit.
        hard: u64,
    },
    /// personality(2).
    Personality(u32),
    /// ioprio_set(2) of this process.
    IoPriority(u32),
    /// sched_setattr(2) of this process.
    Scheduler(Scheduler),
    /// sched_setaffinity(2) of this process, to the processors whose bits are set.
    Affinity(&'a [u64]),
    /// set_mempolicy(2).
    MemoryPolicy {
        /// `MPOL_*`, with its flags.
        mode: u32,
        /// The nodes whose bits are set.
        nodes: &'a [u64],
    },
    /// Get a new session keyring instead of the parent's (keyctl(2)). A kernel without keyrings has none to hide.
    Keyring,
    /// Bring the loopback interface of the network namespace up (netdevice(7), `SIOCSIFFLAGS`).
    LoopbackUp,
    /// Nothing mounted from here on reaches other mount namespaces, and nothing theirs us (`MS_REC|MS_PRIVATE` on `/`).
    MakePrivate,
    /// Attach a detached mount over a directory of the parent's and make its root the current directory (move_mount(2)).
    AttachRoot {
        /// The mount.
        root: BorrowedFd<'a>,
        /// Where: `/`, or where those see it who look at the namespace before its root is entered.
        at: &'a CStr,
    },
    /// Attach a detached mount.
    Attach {
        /// The mount.
        mount: BorrowedFd<'a>,
        /// The directory or file that it is put at, or that `path` starts at.
        at: BorrowedFd<'a>,
        /// The rest of the way, where that leads into what the kernel shows; else empty.
        path: &'a CStr,
    },
    /// Attach what is open on a mount of this mount namespace, and all that is mounted below it, at another place
    /// (open_tree(2), move_mount(2)).
    Bind {
        /// What: a file or a directory.
        from: BorrowedFd<'a>,
        /// The one that it covers.
        at: BorrowedFd<'a>,
        /// Attributes that the new mount has besides those of the one it is of.
        set: MountAttrFlags,
        /// Those that it does not have.
        clear: MountAttrFlags,
    },
    /// Change a mount that is there already (mount_setattr(2)).
    Change(Change<'a>),
    /// mount(2) a new file system at the directory that `at` is open at.
    Mount {
        /// As in /proc/filesystems.
        fstype: &'a CStr,
        /// The directory, opened `O_PATH`, or the one that `path` starts at.
        at: BorrowedFd<'a>,
        /// The rest of the way, where that leads into what the kernel shows; else `.`.
        path: &'a CStr,
        /// `MS_NOSUID` and the like.
        flags: MountFlags,
        /// Options of the file system.
        data: Option<&'a CStr>,
    },
    /// Make the directory that the fd is open at the current one.
    Enter(BorrowedFd<'a>),
    /// Hide a file under a bind mount of the host's `/dev/null`. The path is relative to the current directory.
    MaskFile(&'a CStr),
    /// Hide a directory under an empty read-only tmpfs.
    MaskDir(&'a CStr),
    /// Make what is at this path read-only, by a bind mount on itself.
    ReadOnly(&'a CStr),
    /// Set the security context of what is at this path (lsetxattr(2), `security.selinux`).
    Label {
        /// Relative to the current directory.
        path: &'a CStr,
        /// The context.
        label: &'a [u8],
    },
    /// Make the current directory the root, and detach the old one (pivot_root(2)).
    Pivot,
    /// Make the current directory, the root of the mount that is on top of the old root, the root (chroot(2)); one that is
    /// mounted elsewhere is moved there first.
    ChangeRoot,
    /// Make the current directory the root (chroot(2)), and leave all mounts as they are.
    Chroot,
    /// sethostname(2).
    HostName(&'a [u8]),
    /// setdomainname(2).
    DomainName(&'a [u8]),
    /// umask(2).
    Umask(u32),
    /// Keep only these in the bounding set.
    Bound(CapabilitySet),
    /// Become another user (setgroups(2), setresgid(2), setresuid(2)), keeping the permitted capabilities for
    /// the next operation.
    Ids(Identity<'a>),
    /// capset(2), and the ambient set.
    Capabilities {
        /// What may be used at once.
        effective: CapabilitySet,
        /// What may be made effective.
        permitted: CapabilitySet,
        /// What is kept over exec by files that ask for it.
        inheritable: CapabilitySet,
        /// What is kept over exec by every file; must be permitted and inheritable.
        ambient: CapabilitySet,
    },
    /// exec never gives more rights from here on (`PR_SET_NO_NEW_PRIVS`).
    NoNewPrivs,
    /// chdir(2).
    ChangeDir(&'a CStr),
    /// Take these as descriptors 0, 1, 2 and so on, open over exec. Each must have a number that is none of these.
    Descriptors(&'a [BorrowedFd<'a>]),
    /// Close every descriptor from this number on but those in `keep` and the one for reports (close_range(2)). What is
    /// looked up by name later, a working directory or an interpreter, must not find the parent's files below
    /// `/proc/self/fd`.
    CloseFrom {
        /// The lowest.
        first: u32,
        /// What later operations still need.
        keep: &'a [BorrowedFd<'a>],
    },
    /// Default signal dispositions, empty mask, then execve(2) of a program that [`write_image`](crate::write_image) made.
    /// What it does from there on is in the image.
    Exec {
        /// The image, an executable file.
        image: BorrowedFd<'a>,
        /// The number that the image expects its descriptor for reports at. Nothing that is open at it or at the next ones
        /// is passed on.
        report: u32,
        /// Whether the image goes on in a second process ([`Call::Again`](crate::Call::Again)).
        again: bool,
        /// What the image's calls use: these are put at the numbers behind `report`, in order. Those that they have here, and
        /// the image's, must be higher than all of these.
        keep: &'a [BorrowedFd<'a>],
        /// The arguments of the program that the image executes, its name first.
        argv: Strings<'a>,
        /// Its environment, as `NAME=value`.
        envp: Strings<'a>,
    },
}

/// What changes about a mount.
#[derive(Clone, Copy)]
pub struct Change<'a> {
    /// Its root; where there is none, the current directory and the root are what `path` starts at.
    pub mount: Option<BorrowedFd<'a>>,
    /// The way to it; empty where its root is given.
    pub path: &'a CStr,
    /// The attributes that are set.
    pub set: MountAttrFlags,
    /// Those that are cleared before.
    pub clear: MountAttrFlags,
    /// How mounts travel, or nothing of that.
    pub propagation: MountPropagationFlags,
    /// Whether all that is mounted below it is changed, too.
    pub recursive: bool,
}

impl<'a> Change<'a> {
    /// None yet, of the mount that the fd is the root of.
    pub fn of(mount: BorrowedFd<'a>) -> Change<'a> {
        Change { mount: Some(mount), ..Change::at(c"") }
    }

    /// None yet, of the mount at this path.
    pub fn at(path: &'a CStr) -> Change<'a> {
        let (set, clear) = (MountAttrFlags::empty(), MountAttrFlags::empty());
        let propagation = MountPropagationFlags::empty();
        Change { mount: None, path, set, clear, propagation, recursive: false }
    }

    /// With these attributes set.
    pub fn set(self, set: MountAttrFlags) -> Change<'a> {
        Change { set, ..self }
    }
}

/// The kernel's `struct sched_attr` (sched_setattr(2)), without what limits utilization.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Scheduler {
    /// How many bytes it has; set by whoever passes it to the kernel.
    pub(crate) size: u32,
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// -20 to 19, for `SCHED_OTHER` and `SCHED_BATCH`.
    pub nice: i32,
    /// 1 to 99, for `SCHED_FIFO` and `SCHED_RR`.
    pub priority: u32,
    /// Nanoseconds, for `SCHED_DEADLINE`.
    pub runtime: u64,
    /// Nanoseconds, for `SCHED_DEADLINE`.
    pub deadline: u64,
    /// Nanoseconds, for `SCHED_DEADLINE`.
    pub period: u64,
}

impl Scheduler {
    /// Of a policy, and zero for everything else.
    pub fn new(policy: u32) -> Scheduler {
        Scheduler { policy, ..Scheduler::default() }
    }
}

/// Whom to become.
#[derive(Clone, Copy)]
pub struct Identity<'a> {
    /// Real, effective and saved user id.
    pub uid: Uid,
    /// Real, effective and saved group id.
    pub gid: Gid,
    /// The supplementary groups.
    pub groups: &'a [Gid],
}

/// A list of strings in the form execve(2) takes: an array of pointers that ends in a null pointer.
#[derive(Clone, Copy)]
pub struct Strings<'a>(&'a [*const c_char]);

impl<'a> Strings<'a> {
    /// Lays the list out in `space`, which must have room for one pointer more than there are strings; `None`
    /// where it has not.
    pub fn new(strings: &[&'a CStr], space: &'a mut [*const c_char]) -> Option<Strings<'a>> {
        let space = space.get_mut(..=strings.len())?;
        for (slot, string) in space.iter_mut().zip(strings) {
            *slot = string.as_ptr();
        }
        *space.last_mut()? = core::ptr::null();
        Some(Strings(space))
    }

    pub(crate) fn as_ptr(self) -> *const *const c_char {
        self.0.as_ptr()
    }
}
