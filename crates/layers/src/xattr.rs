//! Extended attributes (xattr(7)) of directory entries, links included.
//!
//! There is no `setxattrat` before Linux 6.13: the way to an entry of an open directory that never follows a link
//! at its end is through the descriptor's name in `/proc`. That is long, so where the kernel can be asked it is not gone to
//! the many that have none.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use coracle_host::{Call, Result, xattr_names_size};
use rustix::fs::{XattrFlags, lgetxattr, lgetxattr_query, llistxattr, llistxattr_query, lsetxattr};
use rustix::io::Errno;

use crate::tar::{Xattr, show};

/// Marks a directory of an upper layer that hides what is below it. `user.` is what a user namespace uses.
pub(crate) const OPAQUE: [&str; 2] = ["trusted.overlay.opaque", "user.overlay.opaque"];

/// Overlay's own bookkeeping is no content of a layer, and a layer from elsewhere must not forge it.
pub(crate) fn is_overlay(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

/// Attributes that belong to this machine rather than to the file.
fn is_local(name: &[u8]) -> bool {
    matches!(
        name,
        b"security.selinux" | b"security.ima" | b"security.evm" | b"system.nfs4_acl" | b"system.cifs_acl"
    )
}

/// Whether an attribute goes into a layer.
pub(crate) fn is_content(name: &[u8]) -> bool {
    !is_overlay(name) && !is_local(name)
}

fn path(dir: impl AsFd, name: &OsStr) -> PathBuf {
    let mut path = PathBuf::from(format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd()));
    path.push(if name.is_empty() { OsStr::new(".") } else { name });
    path
}

/// All attributes of the entry `name` of `dir` (of `dir` itself where it is empty), sorted by name.
pub(crate) fn all(dir: impl AsFd, name: &OsStr) -> Result<Vec<Xattr>> {
    let at = if name.is_empty() { OsStr::new(".") } else { name };
    if xattr_names_size(dir.as_fd(), at) == Ok(0) {
        return Ok(Vec::new());
    }
    let path = path(dir, name);
    let mut list = Vec::new();
    loop {
        let size = match llistxattr_query(&path) {
            Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            other => other.call(|| format!("llistxattr({name:?})"))?,
        };
        list.resize(size, 0u8);
        match llistxattr(&path, &mut list[..]) {
            Ok(length) => list.truncate(length),
            // It grew meanwhile.
            Err(Errno::RANGE) => continue,
            Err(errno) => return Err(errno).call(|| format!("llistxattr({name:?})")),
        }
        break;
    }
    let mut all = Vec::new();
    for attribute in list.split(|byte| *byte == 0).filter(|attribute| !attribute.is_empty()) {
        if let Some(value) = value(&path, name, attribute)? {
            all.push((attribute.to_vec(), value));
        }
    }
    all.sort();
    Ok(all)
}

/// The value of one attribute of the entry `name` of `dir`, if it has it.
pub(crate) fn get(dir: impl AsFd, name: &OsStr, attribute: &str) -> Result<Option<Vec<u8>>> {
    value(&path(dir, name), name, attribute.as_bytes())
}

fn value(path: &PathBuf, name: &OsStr, attribute: &[u8]) -> Result<Option<Vec<u8>>> {
    let call = || format!("lgetxattr({name:?}, {})", show(attribute));
    loop {
        let size = match lgetxattr_query(path, attribute) {
            Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
            other => other.call(call)?,
        };
        let mut value = vec![0u8; size];
        match lgetxattr(path, attribute, &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                return Ok(Some(value));
            }
            Err(Errno::NODATA) => return Ok(None),
            Err(Errno::RANGE) => {}
            Err(errno) => return Err(errno).call(call),
        }
    }
}

/// Sets an attribute of the entry `name` of `dir`.
pub(crate) fn set(dir: impl AsFd, name: &OsStr, attribute: &[u8], value: &[u8]) -> Result<()> {
    lsetxattr(path(dir, name), attribute, value, XattrFlags::empty())
        .call(|| format!("lsetxattr({name:?}, {})", show(attribute)))
}

/// Marks the directory `name` of `dir` as hiding what lower layers have there.
pub(crate) fn set_opaque(dir: impl AsFd, name: &OsStr) -> Result<()> {
    set(dir, name, OPAQUE[0].as_bytes(), b"y")
}

/// Whether the directory `name` of `dir` hides what lower layers have there.
pub(crate) fn is_opaque(dir: impl AsFd, name: &OsStr) -> Result<bool> {
    for attribute in OPAQUE {
        match get(dir.as_fd(), name, attribute) {
            Ok(Some(value)) if value == b"y" => return Ok(true),
            // Without privilege `trusted.` can't be seen, and is not what counts.
            Ok(_) => {}
            Err(error) if error.errno() == Some(Errno::PERM) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// A name of an archive as the system wants it.
pub(crate) fn os(name: &[u8]) -> &OsStr {
    OsStr::from_bytes(name)
}
