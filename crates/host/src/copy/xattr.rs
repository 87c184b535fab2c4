//! Extended attributes (xattr(7)) of what is copied.
//!
//! There is no `lsetxattrat` before Linux 6.13: the way to an entry of an open directory that doesn't follow a link at
//! its end is through the descriptor's name in `/proc`.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use crate::{Call, Result};
use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fsetxattr, lgetxattr, llistxattr, lsetxattr};
use rustix::io::Errno;

type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// What one attribute's value and all attributes' names may be long at most (xattr(7)).
const MOST: usize = 64 << 10;

/// Overlay's bookkeeping is no content, and labels are this machine's to give.
fn is_content(name: &[u8]) -> bool {
    let overlay = name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.");
    !overlay && !matches!(name, b"security.selinux" | b"security.ima" | b"security.evm")
}

/// The attributes of an open file or directory.
pub(crate) fn of_open(fd: impl AsFd, path: &Path) -> Result<Attributes> {
    all(path, |buffer| flistxattr(&fd, &mut buffer[..]), |name, buffer| fgetxattr(&fd, name, &mut buffer[..]))
}

/// The attributes of the entry `name` of `dir`, itself if it is a link.
pub(crate) fn of_entry(dir: impl AsFd, name: &OsStr, path: &Path) -> Result<Attributes> {
    let through = through(dir, name);
    all(
        path,
        |buffer| llistxattr(&through, &mut buffer[..]),
        |name, buffer| lgetxattr(&through, name, &mut buffer[..]),
    )
}

/// Sets an attribute of an open file or directory.
pub(crate) fn set_open(fd: impl AsFd, name: &[u8], value: &[u8], path: &Path) -> Result<()> {
    fsetxattr(fd, name, value, XattrFlags::empty()).call(|| call("setxattr", path, name))
}

/// Sets an attribute of the entry `name` of `dir`, itself if it is a link.
pub(crate) fn set_entry(
    dir: impl AsFd,
    name: &OsStr,
    attribute: &[u8],
    value: &[u8],
    path: &Path,
) -> Result<()> {
    lsetxattr(through(dir, name), attribute, value, XattrFlags::empty())
        .call(|| call("lsetxattr", path, attribute))
}

fn all(
    path: &Path,
    list: impl FnOnce(&mut [u8]) -> rustix::io::Result<usize>,
    get: impl Fn(&[u8], &mut [u8]) -> rustix::io::Result<usize>,
) -> Result<Attributes> {
    let mut buffer = vec![0; MOST];
    let length = match list(&mut buffer) {
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        other => other.call(|| format!("listxattr({path:?})"))?,
    };
    if length == 0 {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    let mut value = vec![0; MOST];
    for name in buffer[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty() && is_content(name))
    {
        match get(name, &mut value) {
            Ok(length) => found.push((name.to_vec(), value[..length].to_vec())),
            // Gone meanwhile, or listed only for show.
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(errno).call(|| call("getxattr", path, name)),
        }
    }
    Ok(found)
}

fn through(dir: impl AsFd, name: &OsStr) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd())).join(name)
}

fn call(what: &str, path: &Path, name: &[u8]) -> String {
    format!("{what}({path:?}, {})", String::from_utf8_lossy(name))
}
