//! Owner, mode, attributes and times of entries that were just made.

use std::os::fd::{AsFd, BorrowedFd};

use coracle_host::{Call, Dir};
use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};

use super::lower::Attributes;
use crate::tar::{Time, show};
use crate::xattr::{self, os};
use crate::{Error, Result};

/// Sets all but the time on the entry `name` of `dir`. The owner first: changing it clears setuid bits and
/// capabilities. Only links have no mode.
pub(super) fn set(dir: &Dir, name: &[u8], to: &Attributes, is_link: bool) -> Result<()> {
    let at = || dir.path_of(os(name));
    let (uid, gid) = ids(to);
    rustix::fs::chownat(dir, os(name), uid, gid, AtFlags::SYMLINK_NOFOLLOW)
        .call(|| format!("chown({:?}, {}:{})", at(), to.uid, to.gid))?;
    for (attribute, value) in &to.xattrs {
        xattr::set(dir, os(name), attribute, value)?;
    }
    if !is_link {
        // The entry is ours, just made, and no link: nothing is followed.
        rustix::fs::chmodat(dir, os(name), Mode::from_raw_mode(to.mode), AtFlags::empty())
            .call(|| format!("chmod({:?}, {:o})", at(), to.mode))?;
    }
    Ok(())
}

/// Sets everything on an open file.
pub(super) fn set_open(file: BorrowedFd<'_>, name: &[u8], to: &Attributes) -> Result<()> {
    let (uid, gid) = ids(to);
    rustix::fs::fchown(file, uid, gid).call(|| format!("chown({}, {}:{})", show(name), to.uid, to.gid))?;
    for (attribute, value) in &to.xattrs {
        rustix::fs::fsetxattr(file, attribute.as_slice(), value, XattrFlags::empty())
            .call(|| format!("fsetxattr({}, {})", show(name), show(attribute)))?;
    }
    rustix::fs::fchmod(file, Mode::from_raw_mode(to.mode))
        .call(|| format!("chmod({}, {:o})", show(name), to.mode))?;
    rustix::fs::futimens(file, &stamps(to.mtime)).call(|| format!("utimensat({})", show(name)))?;
    Ok(())
}

/// Sets the time of change of the entry `name` of `dir`, itself when it is a link.
pub(crate) fn set_time(dir: impl AsFd, name: &[u8], time: Time) -> Result<()> {
    rustix::fs::utimensat(dir, os(name), &stamps(time), AtFlags::SYMLINK_NOFOLLOW)
        .call(|| format!("utimensat({})", show(name)))
        .map_err(Error::from)
}

fn stamps(time: Time) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: time.secs, tv_nsec: time.nanos.into() },
    }
}

fn ids(to: &Attributes) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(to.uid)), Some(Gid::from_raw(to.gid)))
}
