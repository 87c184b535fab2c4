//! Programs that decide about devices in control groups (bpf(2), `BPF_PROG_TYPE_CGROUP_DEVICE`).
#![allow(unsafe_code)] // bpf(2) has no safe wrapper

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;

use crate::{Call, Dir, Result};

/// A loaded program. What it is attached to keeps it; the value is only needed for that.
#[derive(Debug)]
pub struct DeviceFilter {
    fd: OwnedFd,
}

// linux/bpf.h
const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const PROG_DETACH: libc::c_long = 9;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const PROG_QUERY: libc::c_long = 16;
const TYPE_CGROUP_DEVICE: u32 = 15;
const CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;
const REPLACE: u32 = 4;

/// The kernel's limit of programs at one group.
const MOST: usize = 64;

#[repr(C)]
#[derive(Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log: [u32; 4],
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

#[repr(C)]
#[derive(Default)]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
    padding: u32,
}

#[repr(C)]
#[derive(Default)]
struct Query {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
}

#[repr(C)]
#[derive(Default)]
struct ById {
    prog_id: u32,
    next_id: u32,
    open_flags: u32,
    padding: u32,
}

impl DeviceFilter {
    /// Has the kernel check and load a program of eight-byte instructions. It gets a `bpf_cgroup_dev_ctx` and answers 1 to
    /// allow.
    ///
    /// # Errors
    /// As of bpf(2): `Denied` without `CAP_BPF` or `CAP_SYS_ADMIN`, `Invalid` for a program that the verifier refuses and
    /// for a kernel without `CONFIG_CGROUP_BPF`.
    pub fn load(program: &[[u8; 8]]) -> Result<DeviceFilter> {
        let mut attr = Load {
            prog_type: TYPE_CGROUP_DEVICE,
            insn_cnt: u32::try_from(program.len()).unwrap_or(u32::MAX),
            insns: program.as_ptr().addr() as u64,
            license: c"Apache-2.0".as_ptr().addr() as u64,
            expected_attach_type: 0,
            ..Load::default()
        };
        // SAFETY: the instructions and the license live until the call returns, and the kernel only reads them, as many
        // as `insn_cnt` says.
        let fd = unsafe { bpf(PROG_LOAD, &mut attr) }
            .call(|| "bpf(BPF_PROG_LOAD, BPF_PROG_TYPE_CGROUP_DEVICE)")?;
        // SAFETY: the kernel just made this descriptor (CLOEXEC) for us.
        Ok(DeviceFilter { fd: unsafe { owned(fd) } })
    }

    /// Makes it the one program of its kind at this group of version 2. Where there was one it is replaced in one step;
    /// programs at groups above have their say besides.
    ///
    /// # Errors
    /// As of bpf(2).
    pub fn attach(&self, group: &Path) -> Result<()> {
        let dir = Dir::open(group)?;
        let old = attached(dir.as_fd()).call(|| format!("bpf(BPF_PROG_QUERY, {group:?})"))?;
        let one = if let [one] = &*old { Some(one) } else { None };
        let mut attr = self.attr(dir.as_fd(), ALLOW_MULTI);
        if let Some(one) = one {
            attr.attach_flags |= REPLACE;
            attr.replace_bpf_fd = one.as_raw_fd().cast_unsigned();
        }
        // SAFETY: the attribute has no pointers.
        unsafe { bpf(PROG_ATTACH, &mut attr) }.call(|| format!("bpf(BPF_PROG_ATTACH, {group:?})"))?;
        // Several are not of our making. Each has been asked, so that to remove them only takes back.
        for old in old.iter().filter(|_| one.is_none()) {
            let mut attr = DeviceFilter::attr_of(dir.as_fd(), old.as_fd(), 0);
            // SAFETY: the attribute has no pointers.
            unsafe { bpf(PROG_DETACH, &mut attr) }.call(|| format!("bpf(BPF_PROG_DETACH, {group:?})"))?;
        }
        Ok(())
    }

    fn attr(&self, group: BorrowedFd<'_>, flags: u32) -> Attach {
        DeviceFilter::attr_of(group, self.fd.as_fd(), flags)
    }

    fn attr_of(group: BorrowedFd<'_>, program: BorrowedFd<'_>, flags: u32) -> Attach {
        Attach {
            target_fd: group.as_raw_fd().cast_unsigned(),
            attach_bpf_fd: program.as_raw_fd().cast_unsigned(),
            attach_type: CGROUP_DEVICE,
            attach_flags: flags,
            ..Attach::default()
        }
    }
}

/// The programs at a group.
fn attached(group: BorrowedFd<'_>) -> std::result::Result<Vec<OwnedFd>, Errno> {
    let mut ids = [0u32; MOST];
    let mut attr = Query {
        target_fd: group.as_raw_fd().cast_unsigned(),
        attach_type: CGROUP_DEVICE,
        prog_ids: ids.as_mut_ptr().expose_provenance() as u64,
        prog_cnt: MOST as u32,
        ..Query::default()
    };
    // SAFETY: `ids` lives until the call returns and has room for as many numbers as `prog_cnt` says.
    unsafe { bpf(PROG_QUERY, &mut attr) }?;
    let found = ids.iter().take(attr.prog_cnt as usize);
    let open = |id: &u32| {
        let mut attr = ById { prog_id: *id, ..ById::default() };
        // SAFETY: the attribute has no pointers.
        let fd = unsafe { bpf(PROG_GET_FD_BY_ID, &mut attr) }?;
        // SAFETY: the kernel just made this descriptor (CLOEXEC) for us.
        Ok(unsafe { owned(fd) })
    };
    found.map(open).collect()
}

/// bpf(2).
///
/// # Safety
/// Pointers in the attribute must be good for what the command does with them.
unsafe fn bpf<T>(command: libc::c_long, attr: &mut T) -> std::result::Result<i32, Errno> {
    // SAFETY: `attr` is a live struct of the size that is given; what is in it, the caller answers for.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    match i32::try_from(result) {
        Ok(result @ 0..) => Ok(result),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}

/// # Safety
/// The descriptor must be open and nobody else's.
unsafe fn owned(fd: i32) -> OwnedFd {
    // SAFETY: the caller answers for it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
