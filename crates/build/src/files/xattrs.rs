//! Extended attributes of files that are copied (xattr(7)).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use coracle_host::{Call, Root};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::error::Result;

/// How large a value, or a list of names, can be.
const MAX_XATTR: usize = 64 << 10;

/// The extended attributes that belong to a file's meaning: capabilities and the user's own.
pub(super) fn of(root: &Root<'_>, label: &str, path: &Path) -> Result<Vec<(OsString, Vec<u8>)>> {
    let fd = root.open(path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK)?;
    let list = |size: usize| {
        let mut names = vec![0; size];
        let length = rustix::fs::flistxattr(&fd, names.as_mut_slice())?;
        names.truncate(length);
        Ok(names)
    };
    let names = match list(1 << 10).or_else(|e| if e == Errno::RANGE { list(MAX_XATTR) } else { Err(e) }) {
        Ok(names) => names,
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(errno) => Err(errno).call(|| format!("flistxattr({label}, {path:?})"))?,
    };
    let mut found = Vec::new();
    for name in names.split(|b| *b == 0).filter(|n| *n == b"security.capability" || n.starts_with(b"user.")) {
        let name = OsStr::from_bytes(name);
        let mut value = vec![0; MAX_XATTR];
        let length = rustix::fs::fgetxattr(&fd, name, value.as_mut_slice())
            .call(|| format!("fgetxattr({label}, {path:?}, {name:?})"))?;
        value.truncate(length);
        found.push((name.to_owned(), value));
    }
    found.sort();
    Ok(found)
}
