//! What is to be known of a container that runs, to join it.

use std::os::fd::OwnedFd;
use std::time::Duration;

use coracle_host::{Call, Error, Kind, PidFd};
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::error::{Doing, Result};
use crate::{UserNamespace, realize};

/// Its user namespace, where that isn't this process's.
pub(crate) fn user_of(container: &PidFd) -> Result<Option<UserNamespace>> {
    let path = other(container, "user")?;
    path.map(UserNamespace::open).transpose().doing(|| "find the container's user namespace")
}

/// Its root directory.
pub(crate) fn root_of(container: &PidFd) -> coracle_host::Result<OwnedFd> {
    let path = format!("/proc/{}/root", container.pid()?);
    let root = openat(CWD, &path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let root = root.call(|| format!("open({path:?})"))?;
    // Until now the number was its own, and nobody else's.
    if !container.signal(0)? {
        return Err(Error::new(Kind::NotFound, "the container has ended"));
    }
    Ok(root)
}

/// Its time namespace, where that isn't this process's.
pub(crate) fn time_of(container: &PidFd) -> Result<Option<OwnedFd>> {
    let path = other(container, "time")?;
    path.map(realize::open_namespace).transpose().doing(|| "find the container's time namespace")
}

/// The path of a namespace of its, where that isn't this process's.
fn other(container: &PidFd, kind: &str) -> Result<Option<String>> {
    let pid = container.pid().doing(|| "find the container's process")?;
    let path = format!("/proc/{pid}/ns/{kind}");
    match (std::fs::read_link(format!("/proc/self/ns/{kind}")), std::fs::read_link(&path)) {
        (Ok(ours), Ok(theirs)) if ours != theirs => Ok(Some(path)),
        _ => Ok(None), // a kernel without them, or a process that is gone, which is told elsewhere
    }
}

pub(crate) fn ended(container: &PidFd) -> bool {
    container.ended_within(Some(Duration::ZERO)).unwrap_or(false)
}
