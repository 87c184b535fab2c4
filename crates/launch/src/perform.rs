//! The loop, and what each operation does.

use core::mem::{self, ManuallyDrop};

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, XattrFlags};
use rustix::io::Errno;
use rustix::mount::{
    MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount,
    mount_bind, mount_change, mount_move, move_mount, unmount,
};
use rustix::process::{
    DumpableBehavior, PidfdFlags, Signal, chroot, fchdir, pivot_root, set_dumpable_behavior,
    set_parent_process_death_signal, setsid, umask,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capability_is_in_bounding_set, clear_ambient_capability_set,
    configure_capability_in_ambient_set, move_into_link_name_space, move_into_thread_name_spaces,
    remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities, set_no_new_privs,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use crate::report::{LEFT, above, pair, send_cloned, send_program, send_with};
use crate::{Change, Failure, Identity, Namespaces, Op, Scheduler, Strings, signals, start, table};

/// A list being performed.
pub(crate) struct Performer<'a> {
    ops: &'a [Op<'a>],
    next: usize,
    reports: BorrowedFd<'a>,
    /// This process's `stat` in the host's proc, which also after the pivot tells who the parent is. Never dropped: in
    /// memory that is the parent's too, the number would be taken for one of the parent's descriptors.
    stat: Option<ManuallyDrop<OwnedFd>>,
}

impl<'a> Performer<'a> {
    pub(crate) fn new(ops: &'a [Op<'a>], reports: BorrowedFd<'a>) -> Performer<'a> {
        Performer { ops, next: 0, reports, stat: None }
    }

    /// Performs the list. Returns only when an operation failed (and was reported) or the parent is gone.
    pub(crate) fn perform(&mut self) {
        if let Err(errno) = table::own(self.ops, self.reports) {
            return Failure { step: 0, errno }.send(self.reports);
        }
        self.go_on();
    }

    /// As the child that [`Op::Clone`] made.
    pub(crate) fn perform_rest(&mut self) {
        if let Err(errno) = self.announce() {
            let step = self.next.saturating_sub(1) as u32;
            return Failure { step, errno }.send(self.reports);
        }
        self.go_on();
    }

    fn go_on(&mut self) {
        while let Some(op) = self.ops.get(self.next) {
            let step = self.next as u32;
            self.next += 1;
            match self.one(op) {
                Ok(Go::On) => {}
                Ok(Go::Stop) => return,
                Err(errno) => return Failure { step, errno }.send(self.reports),
            }
        }
    }

    fn one(&mut self, op: &Op<'a>) -> Result<Go, Errno> {
        match *op {
            Op::DieWithParent { parent } => self.die_with(parent)?,
            // SAFETY: nothing in this process uses the descriptor again; the parent's, in its own table, stays.
            Op::Close(fd) => unsafe { rustix::io::close(fd.as_raw_fd()) },
            Op::Await(fd) => match await_turn(fd) {
                Ok(true) => {}
                Ok(false) | Err(Errno::PIPE | Errno::CONNRESET) => return Ok(Go::Stop),
                Err(errno) => return Err(errno),
            },
            Op::Undumpable => set_dumpable_behavior(DumpableBehavior::NotDumpable)?,
            Op::Show { to, path } => {
                let shown = rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
                send_with(to, b'!', shown.as_fd())?;
            }
            Op::Clone(namespaces) => {
                self.stat = None; // it is another process's there
                let reports = self.reports;
                start::second(self, namespaces)?;
                let _ = rustix::net::send(reports, &[LEFT], rustix::net::SendFlags::NOSIGNAL);
                return Ok(Go::Stop);
            }
            Op::Join(fd, which) => move_into_link_name_space(fd, Some(which))?,
            Op::JoinAll(pidfd, which) => move_into_thread_name_spaces(pidfd, which)?,
            Op::Unshare(namespaces) => unshare(namespaces)?,
            Op::EnterGroup(file) => written(rustix::io::write(file, b"0"), 1)?,
            Op::Write { path, text } => {
                let flags = OFlags::WRONLY | OFlags::CLOEXEC;
                let file = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
                written(rustix::io::write(&file, text), text.len())?;
            }
            Op::Limit { resource, soft, hard } => limit(resource, soft, hard)?,
            Op::Personality(persona) => call(libc::SYS_personality, [persona as usize, 0, 0])?,
            Op::IoPriority(priority) => {
                const PROCESS: usize = 1;
                call(libc::SYS_ioprio_set, [PROCESS, 0, priority as usize])?;
            }
            Op::Scheduler(mut attr) => {
                attr.size = mem::size_of::<Scheduler>() as u32;
                call(libc::SYS_sched_setattr, [0, (&raw const attr).addr(), 0])?;
            }
            Op::Affinity(mask) => {
                call(libc::SYS_sched_setaffinity, [0, mem::size_of_val(mask), mask.as_ptr().addr()])?;
            }
            Op::MemoryPolicy { mode, nodes } => {
                // The kernel reads one bit less than it is told there are.
                let bits = mem::size_of_val(nodes) * 8 + 1;
                call(libc::SYS_set_mempolicy, [mode as usize, nodes.as_ptr().addr(), bits])?;
            }
            Op::Keyring => keyring()?,
            Op::LoopbackUp => loopback_up()?,
            Op::MakePrivate => {
                mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
            }
            Op::AttachRoot { root, at } => {
                move_mount(root, c"", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
                fchdir(root)?;
            }
            Op::Attach { mount, at, path } => {
                let mut flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
                if path.is_empty() {
                    flags |= MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
                }
                move_mount(mount, c"", at, path, flags)?;
            }
            Op::Change(ref change) => set_attributes(change)?,
            Op::Bind { from, at, set, clear } => {
                let flags = OpenTreeFlags::OPEN_TREE_CLONE
                    | OpenTreeFlags::OPEN_TREE_CLOEXEC
                    | OpenTreeFlags::AT_RECURSIVE
                    | OpenTreeFlags::AT_EMPTY_PATH;
                let tree = rustix::mount::open_tree(from, c"", flags)?;
                if !(set | clear).is_empty() {
                    set_attributes(&Change { set, clear, ..Change::of(tree.as_fd()) })?;
                }
                let both = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
                move_mount(&tree, c"", at, c"", both)?;
            }
            Op::Mount { fstype, at, path, flags, data } => {
                fchdir(at)?;
                mount(fstype, path, fstype, flags, data)?;
            }
            Op::Enter(dir) => fchdir(dir)?,
            Op::MaskFile(path) => mount_bind(c"/dev/null", path)?,
            Op::MaskDir(path) => mount(c"tmpfs", path, c"tmpfs", MountFlags::RDONLY, c"size=0")?,
            Op::ReadOnly(path) => {
                mount_bind(path, path)?;
                // Unlike a remount it leaves `nosuid` and its like as they are.
                set_attributes(&Change::at(path).set(MountAttrFlags::MOUNT_ATTR_RDONLY))?;
            }
            Op::Label { path, label } => {
                rustix::fs::lsetxattr(path, c"security.selinux", label, XattrFlags::empty())?;
            }
            Op::Pivot => {
                pivot_root(c".", c".")?;
                unmount(c".", UnmountFlags::DETACH)?;
            }
            Op::ChangeRoot => {
                match mount_move(c".", c"/") {
                    // It is on top of the root already, and there is nothing to move it to.
                    Ok(()) | Err(Errno::LOOP) => {}
                    Err(errno) => return Err(errno),
                }
                root_here()?;
            }
            Op::Chroot => root_here()?,
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
            Op::Descriptors(fds) => {
                for (number, fd) in (0..).zip(fds) {
                    place(*fd, number)?;
                }
            }
            Op::CloseFrom { first, keep } => {
                self.stat = None; // closed with the others
                close_from(first, self.reports, keep)?;
            }
            Op::Exec { image, report, keep, argv, envp, .. } => {
                self.hand_over(image, report, keep, argv, envp)?;
            }
        }
        Ok(Go::On)
    }

    /// The image reports on a socket that is made here, so that its other end is closed when it executes the program or
    /// ends, and not when some child of the parent that inherited it does.
    fn hand_over(
        &mut self,
        image: BorrowedFd<'_>,
        report: u32,
        keep: &[BorrowedFd<'_>],
        argv: Strings<'_>,
        envp: Strings<'_>,
    ) -> Result<(), Errno> {
        let (ours, write) = pair(rustix::net::SocketFlags::empty())?;
        send_program(self.reports, ours.as_fd())?;
        // Out of the way of what the image has there.
        let above = report as i32 + keep.len() as i32 + 1;
        let high = |fd: BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, above);
        let reports = ManuallyDrop::new(high(self.reports)?);
        let write = high(write.as_fd())?;
        // SAFETY: the descriptor stays open until this process executes or ends.
        self.reports = unsafe { BorrowedFd::borrow_raw(reports.as_raw_fd()) };
        place(write.as_fd(), report)?;
        for (number, fd) in (report + 1..).zip(keep) {
            place(*fd, number)?;
        }
        signals::reset();
        Err(execute(image, argv, envp))
    }

    /// Tells the parent who this is. Who cloned this process can't: it is suspended, and may be killed so.
    fn announce(&self) -> Result<(), Errno> {
        let own = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())?;
        send_cloned(self.reports, own.as_fd())
    }

    fn die_with(&mut self, parent: u32) -> Result<(), Errno> {
        if self.stat.is_none() {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let stat = rustix::fs::openat(CWD, c"/proc/self/stat", flags, Mode::empty())?;
            self.stat = Some(ManuallyDrop::new(above(stat, table::lowest(self.ops))?));
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

/// Whether the other end said to go on.
fn await_turn(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    rustix::net::send(fd, b"!", rustix::net::SendFlags::NOSIGNAL)?;
    Ok(rustix::io::retry_on_intr(|| rustix::io::read(fd, &mut [0u8; 1]))? == 1)
}

/// Files of the kernel's take what they are given as a whole.
fn written(result: Result<usize, Errno>, all: usize) -> Result<(), Errno> {
    if result? == all { Ok(()) } else { Err(Errno::IO) }
}

fn root_here() -> Result<(), Errno> {
    chroot(c".")?;
    rustix::process::chdir(c"/")
}

fn unshare(namespaces: Namespaces) -> Result<(), Errno> {
    // SAFETY: an integer; namespaces only, so that nothing that is shared with the parent changes for it.
    match unsafe { libc::unshare(namespaces.bits()) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

/// A call that sets an attribute of this process.
fn call(number: libc::c_long, [first, second, third]: [usize; 3]) -> Result<(), Errno> {
    // SAFETY: all callers are above: what is an address is one of a live value whose size is told along with it, and
    // which the kernel only reads.
    match unsafe { libc::syscall(number, first, second, third) } {
        0.. => Ok(()),
        _ => Err(last_errno()),
    }
}

fn keyring() -> Result<(), Errno> {
    // SAFETY: an integer, and no name, which makes a keyring that nobody else can join.
    match unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, 0) } {
        0.. => Ok(()),
        _ => match last_errno() {
            Errno::NOSYS => Ok(()),
            errno => Err(errno),
        },
    }
}

fn limit(resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let limit = [soft, hard];
    // SAFETY: the pointer is to a live `rlimit64`, two integers; no old one is asked for. It is this process's own.
    let result = unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource, limit.as_ptr(), core::ptr::null_mut::<u64>())
    };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

fn set_attributes(change: &Change<'_>) -> Result<(), Errno> {
    let Change { mount, path, set, clear, propagation, recursive } = *change;
    let attr = libc::mount_attr {
        attr_set: set.bits().into(),
        attr_clr: clear.bits().into(),
        propagation: propagation.bits().into(),
        userns_fd: 0,
    };
    let size = mem::size_of::<libc::mount_attr>();
    let flags = if mount.is_some() { libc::AT_EMPTY_PATH } else { 0 }
        | if recursive { libc::AT_RECURSIVE } else { 0 };
    let at = mount.unwrap_or(CWD).as_raw_fd();
    // SAFETY: the descriptor is open, the path is NUL-terminated, and `attr` is a live `mount_attr` whose size is the one
    // given.
    let result =
        unsafe { libc::syscall(libc::SYS_mount_setattr, at, path.as_ptr(), flags, &raw const attr, size) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

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

/// dup3(2) to a number that is not its own, open over exec.
fn place(fd: BorrowedFd<'_>, number: u32) -> Result<(), Errno> {
    // SAFETY: integers; whatever the number is in the parent's table, in this process's own it is replaced for good.
    let result = unsafe { libc::syscall(libc::SYS_dup3, fd.as_raw_fd(), number, 0) };
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}

/// Closes in this process's own table all from `first` on but `reports` and `keep`.
fn close_from(first: u32, reports: BorrowedFd<'_>, keep: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut from = first;
    loop {
        let kept = keep.iter().chain([&reports]).filter_map(|fd| u32::try_from(fd.as_raw_fd()).ok());
        let next = kept.filter(|fd| *fd >= from).min();
        let last = next.map_or(u32::MAX, |fd| fd.wrapping_sub(1));
        if next != Some(from) {
            // SAFETY: three integers; whoever owns these descriptors does so in the parent's table, not in this one.
            match unsafe { libc::syscall(libc::SYS_close_range, from, last, 0) } {
                0 => {}
                _ => return Err(last_errno()),
            }
        }
        match next {
            Some(fd) => from = fd + 1,
            None => return Ok(()),
        }
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

/// execveat(2) of an open file.
fn execute(program: BorrowedFd<'_>, argv: Strings<'_>, envp: Strings<'_>) -> Errno {
    // SAFETY: the path is NUL-terminated and empty, and `Strings` are null-terminated arrays of such strings, alive.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    last_errno()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closes_around_what_is_kept() {
        // Numbers that nobody else in this process has.
        let high = |lowest| {
            let null = rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap();
            rustix::io::fcntl_dupfd_cloexec(&null, lowest).unwrap()
        };
        let fds = [500, 501, 503, 510].map(high);
        let alive = || fds.each_ref().map(|fd| rustix::io::fcntl_getfd(fd).is_ok());
        assert_eq!(alive(), [true; 4]);
        close_from(500, fds[2].as_fd(), &[fds[0].as_fd()]).unwrap();
        assert_eq!(alive(), [true, false, true, false]);
        close_from(500, fds[0].as_fd(), &[]).unwrap();
        assert_eq!(alive(), [true, false, false, false]);
        let _ = fds.map(mem::forget);
    }

    #[test]
    fn finds_the_parent_behind_any_name() {
        assert_eq!(parent_in(b"17 (sh) S 4 17 17 0"), Some(4));
        assert_eq!(parent_in(b"17 (a) R 1 ) (b) S 99 1"), Some(99));
        assert_eq!(parent_in(b"garbage"), None);
    }
}
