//! The loop, and what each operation does.

use core::ffi::CStr;
use core::mem::{self, ManuallyDrop};

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags, mount, mount_bind, mount_change,
    mount_remount, move_mount, unmount,
};
use rustix::process::{
    DumpableBehavior, Signal, fchdir, pivot_root, set_dumpable_behavior, set_parent_process_death_signal,
    setsid, umask,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capability_is_in_bounding_set, clear_ambient_capability_set,
    configure_capability_in_ambient_set, move_into_link_name_space, remove_capability_from_bounding_set,
    set_capabilities, set_keep_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

use crate::{Failure, Identity, Op, Report, Strings, signals, start};

/// A list being performed.
pub(crate) struct Performer<'a> {
    ops: &'a [Op<'a>],
    next: usize,
    pipe: BorrowedFd<'a>,
    second_stack: &'a mut [u8],
    /// This process's `stat` in the host's proc, which also after the pivot tells who the parent is. Never dropped: in
    /// memory that is the parent's too, the number would be taken for one of the parent's descriptors.
    stat: Option<ManuallyDrop<OwnedFd>>,
}

impl<'a> Performer<'a> {
    pub(crate) fn new(ops: &'a [Op<'a>], pipe: BorrowedFd<'a>, second_stack: &'a mut [u8]) -> Performer<'a> {
        Performer { ops, next: 0, pipe, second_stack, stat: None }
    }

    /// The rest of the list, for a second child. Its process is another, so its `stat` is too.
    pub(crate) fn reborrow(&mut self) -> Performer<'a> {
        Performer { ops: self.ops, next: self.next, pipe: self.pipe, second_stack: &mut [], stat: None }
    }

    /// Performs the list. Returns only when an operation failed (and was reported) or a second child goes on.
    pub(crate) fn perform(&mut self) {
        while let Some(op) = self.ops.get(self.next) {
            let step = self.next as u32;
            self.next += 1;
            match self.one(op) {
                Ok(Go::On) => {}
                Ok(Go::Stop) => return,
                Err(errno) => return Report::Failed(Failure { step, errno }).send(self.pipe),
            }
        }
    }

    fn one(&mut self, op: &Op<'a>) -> Result<Go, Errno> {
        match *op {
            Op::DieWithParent { parent } => self.die_with(parent)?,
            Op::Undumpable => set_dumpable_behavior(DumpableBehavior::NotDumpable)?,
            Op::Await(fd) => {
                if rustix::io::retry_on_intr(|| rustix::io::read(fd, &mut [0u8; 1]))? == 0 {
                    return Ok(Go::Stop);
                }
            }
            Op::Join(fd, which) => move_into_link_name_space(fd, Some(which))?,
            Op::LoopbackUp => loopback_up()?,
            Op::Again => {
                let stack = mem::take(&mut self.second_stack);
                let pid = start::again(self, stack)?;
                Report::Again(pid).send(self.pipe);
                return Ok(Go::Stop);
            }
            Op::MakePrivate => {
                mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
            }
            Op::AttachRoot(root) => {
                move_mount(root, c"", CWD, c"/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
                fchdir(root)?;
            }
            Op::Attach(from, at) => {
                let both = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
                move_mount(from, c"", at, c"", both)?;
            }
            Op::Mount { fstype, at, flags, data } => {
                fchdir(at)?;
                mount(fstype, c".", fstype, flags, data)?;
            }
            Op::Enter(dir) => fchdir(dir)?,
            Op::MaskFile(path) => mount_bind(c"/dev/null", path)?,
            Op::MaskDir(path) => mount(c"tmpfs", path, c"tmpfs", MountFlags::RDONLY, c"size=0")?,
            Op::ReadOnly(path) => {
                mount_bind(path, path)?;
                mount_remount(path, MountFlags::BIND | MountFlags::RDONLY | PROC_FLAGS, c"")?;
            }
            Op::Pivot => {
                pivot_root(c".", c".")?;
                unmount(c".", UnmountFlags::DETACH)?;
            }
            Op::RootReadOnly => mount_remount(c"/", MountFlags::BIND | MountFlags::RDONLY, c"")?,
            Op::HostName(name) => rustix::system::sethostname(name)?,
            Op::DomainName(name) => rustix::system::setdomainname(name)?,
            Op::Umask(mask) => drop(umask(Mode::from_raw_mode(mask))),
            Op::Bound(keep) => bound(keep)?,
            Op::Ids(identity) => become_user(&identity)?,
            Op::Capabilities { effective, permitted, inheritable, ambient } => {
                set_capabilities(None, CapabilitySets { effective, permitted, inheritable })?;
                raise_ambient(ambient)?;
            }
            Op::NoNewPrivs => set_no_new_privs(true)?,
            Op::ChangeDir(path) => rustix::process::chdir(path)?,
            Op::Stdio([input, output, error]) => {
                rustix::stdio::dup2_stdin(input)?;
                rustix::stdio::dup2_stdout(output)?;
                rustix::stdio::dup2_stderr(error)?;
            }
            Op::CloseFrom(first) => close_from(first)?,
            Op::Exec { candidates, argv, envp } => {
                signals::reset();
                return Err(execute(candidates, argv, envp));
            }
        }
        Ok(Go::On)
    }

    fn die_with(&mut self, parent: u32) -> Result<(), Errno> {
        if self.stat.is_none() {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            self.stat =
                Some(ManuallyDrop::new(rustix::fs::openat(CWD, c"/proc/self/stat", flags, Mode::empty())?));
        }
        let Some(stat) = &self.stat else { return Err(Errno::SRCH) };
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // Taking the kernel's lock on the process tree, also when there is a session already: the parent's exit is now
        // either wholly before, and seen below, or after, and brings the signal.
        let _ = setsid();
        let mut text = [0u8; 512];
        let read = rustix::io::pread(stat.as_fd(), &mut text, 0)?;
        if parent_in(&text[..read]) == Some(parent) { Ok(()) } else { Err(Errno::SRCH) }
    }
}

enum Go {
    On,
    Stop,
}

/// proc and sysfs are mounted with these; a bind remount must repeat them or it would lift them.
const PROC_FLAGS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// The fourth field of proc_pid_stat(5). The second is in parentheses and may contain anything.
fn parent_in(stat: &[u8]) -> Option<u32> {
    let close = stat.iter().rposition(|byte| *byte == b')')?;
    let field = stat.get(close + 1..)?.split(|byte| *byte == b' ').nth(2)?;
    core::str::from_utf8(field).ok()?.parse().ok()
}

fn bound(keep: CapabilitySet) -> Result<(), Errno> {
    for bit in 0..64 {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        if keep.contains(one) {
            continue;
        }
        match remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            Err(Errno::INVAL) => break, // the kernel's last one was the one before
            Err(Errno::PERM) if capability_is_in_bounding_set(one) == Ok(false) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Raw calls: the C library's would set the ids of every thread of the parent.
fn become_user(identity: &Identity<'_>) -> Result<(), Errno> {
    set_keep_capabilities(true)?;
    set_thread_groups(identity.groups)?;
    set_thread_res_gid(identity.gid, identity.gid, identity.gid)?;
    set_thread_res_uid(identity.uid, identity.uid, identity.uid)
}

fn raise_ambient(ambient: CapabilitySet) -> Result<(), Errno> {
    clear_ambient_capability_set()?;
    for one in ambient.iter() {
        configure_capability_in_ambient_set(one, true)?;
    }
    Ok(())
}

fn loopback_up() -> Result<(), Errno> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    let mut name = [0; libc::IFNAMSIZ];
    (name[0], name[1]) = (b'l' as libc::c_char, b'o' as libc::c_char);
    let flags =
        libc::__c_anonymous_ifr_ifru { ifru_flags: (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short };
    let request = libc::ifreq { ifr_name: name, ifr_ifru: flags };
    // SAFETY: the socket is open, and the request is a live `ifreq`, which this call only reads.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

fn close_from(first: u32) -> Result<(), Errno> {
    // SAFETY: three integers; it marks descriptors of this process, whose table is its own (no CLONE_FILES).
    match unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

/// The C library's errno of this thread, right after a call of its own failed. In a child that borrows the
/// parent's memory it is the parent's, who is suspended and not looking.
pub(crate) fn last_errno() -> Errno {
    // SAFETY: takes nothing.
    let location = unsafe { libc::__errno_location() };
    // SAFETY: the location is valid for as long as the thread whose it is.
    Errno::from_raw_os_error(unsafe { *location })
}

fn execute(candidates: &[&CStr], argv: Strings<'_>, envp: Strings<'_>) -> Errno {
    let mut answer = Errno::NOENT;
    for path in candidates {
        // SAFETY: the path is NUL-terminated, and `Strings` are null-terminated arrays of such strings, alive.
        unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
        match last_errno() {
            Errno::NOENT | Errno::NOTDIR => {}
            Errno::ACCESS => answer = Errno::ACCESS,
            errno => return errno,
        }
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_parent_behind_any_name() {
        assert_eq!(parent_in(b"17 (sh) S 4 17 17 0"), Some(4));
        assert_eq!(parent_in(b"17 (a) R 1 ) (b) S 99 1"), Some(99));
        assert_eq!(parent_in(b"garbage"), None);
    }
}
