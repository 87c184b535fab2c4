//! The child's own table of descriptors.

use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Errno;

use crate::perform::last_errno;
use crate::{Change, Op};

/// `CLOSE_RANGE_UNSHARE` of close_range(2).
const UNSHARE: libc::c_uint = 2;

/// Ends the sharing of the parent's table (`CLONE_FILES`): copies what the operations and `reports` need, and all
/// below it. Whatever the parent has above is neither copied nor closed, which costs as much as opening it.
pub(crate) fn own(ops: &[Op<'_>], reports: BorrowedFd<'_>) -> Result<(), Errno> {
    let highest = ops.iter().map(highest).fold(reports.as_raw_fd(), i32::max);
    // SAFETY: three integers. No descriptor is closed in the table that is shared: the range is left out of the copy, and
    // that is the one that this process has from here on.
    match unsafe { libc::syscall(libc::SYS_close_range, highest + 1, u32::MAX, UNSHARE) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

/// The lowest number that no operation puts a descriptor at ([`Op::Descriptors`]).
pub(crate) fn lowest(ops: &[Op<'_>]) -> i32 {
    let placed = ops.iter().map(|op| if let Op::Descriptors(fds) = op { fds.len() as i32 } else { 0 });
    placed.fold(3, i32::max)
}

/// The highest descriptor that an operation uses; -1 where it uses none.
fn highest(op: &Op<'_>) -> i32 {
    let most = |fds: &[BorrowedFd<'_>]| fds.iter().map(|fd| fd.as_raw_fd()).fold(-1, i32::max);
    match *op {
        Op::Close(fd)
        | Op::Await(fd)
        | Op::Show { to: fd, .. }
        | Op::Join(fd, _)
        | Op::JoinAll(fd, _)
        | Op::EnterGroup(fd)
        | Op::AttachRoot { root: fd, .. }
        | Op::Enter(fd)
        | Op::Mount { at: fd, .. } => fd.as_raw_fd(),
        Op::Change(Change { mount, .. }) => mount.map_or(-1, |fd| fd.as_raw_fd()),
        Op::Attach { mount, at, .. } => most(&[mount, at]),
        Op::Bind { from, at, .. } => most(&[from, at]),
        Op::Descriptors(fds) | Op::CloseFrom { keep: fds, .. } => most(fds),
        Op::Exec { image, keep, .. } => image.as_raw_fd().max(most(keep)),
        Op::DieWithParent { .. }
        | Op::Undumpable
        | Op::Clone(_)
        | Op::Unshare(_)
        | Op::Write { .. }
        | Op::Limit { .. }
        | Op::Personality(_)
        | Op::IoPriority(_)
        | Op::Scheduler(_)
        | Op::Affinity(_)
        | Op::MemoryPolicy { .. }
        | Op::Keyring
        | Op::LoopbackUp
        | Op::MakePrivate
        | Op::MaskFile(_)
        | Op::MaskDir(_)
        | Op::ReadOnly(_)
        | Op::Pivot
        | Op::ChangeRoot
        | Op::HostName(_)
        | Op::DomainName(_)
        | Op::Umask(_)
        | Op::Bound(_)
        | Op::Ids(_)
        | Op::Capabilities { .. }
        | Op::NoNewPrivs
        | Op::Chroot
        | Op::Label { .. }
        | Op::ChangeDir(_) => -1,
    }
}
