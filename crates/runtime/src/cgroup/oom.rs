//! Being told that memory has run out.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use coracle_host::{Call, Kind};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::inotify;
use rustix::io::Errno;

use super::act::write;
use super::{Cgroup, Version, stats};
use crate::error::{Doing, Error, Result};

/// A descriptor that becomes readable when the group has run out of memory.
///
/// In version 1 the notice comes *before* the kernel has chosen and killed a process: [`take`](Self::take) may not count it
/// yet. Who has to know asks once more, by [`Cgroup::oom_kills`], when the process has ended.
#[derive(Debug)]
pub struct OomEvents {
    fd: OwnedFd,
    dir: PathBuf,
    version: Version,
    seen: u64,
}

impl Cgroup {
    /// Notices from now on.
    ///
    /// # Errors
    /// `Unsupported` where the group is not in the `memory` controller; else as of eventfd(2) and inotify(7).
    pub fn oom_events(&self) -> Result<OomEvents> {
        let doing = || format!("watch the memory of the control group {}", self.place);
        let Some((dir, version)) = self.at("memory") else {
            let text = "it is in no hierarchy with the controller `memory`";
            return Err(Error::host(doing(), coracle_host::Error::new(Kind::Unsupported, text)));
        };
        let fd = match version {
            Version::V1 => notice_v1(dir),
            Version::V2 => notice_v2(dir),
        };
        let fd = fd.doing(doing)?;
        let seen = stats::oom_kills(dir, version).doing(doing)?;
        Ok(OomEvents { fd, dir: dir.to_owned(), version, seen })
    }
}

impl OomEvents {
    /// Takes the notice, and tells how many processes were killed since the last time. Doesn't wait. A group that is gone
    /// has killed none.
    ///
    /// # Errors
    /// As of read(2).
    pub fn take(&mut self) -> Result<u64> {
        let mut buffer = [0; 1024];
        loop {
            match rustix::io::read(&self.fd, &mut buffer) {
                Ok(0) | Err(Errno::AGAIN) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => {
                    return Err(errno).call(|| "read(notice)").doing(|| "take a notice of lack of memory");
                }
            }
        }
        let kills = stats::oom_kills(&self.dir, self.version).doing(|| "count kills for want of memory")?;
        let new = kills.saturating_sub(self.seen);
        self.seen = self.seen.max(kills);
        Ok(new)
    }
}

impl AsFd for OomEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Documentation/admin-guide/cgroup-v1/memory.rst, "OOM Control".
fn notice_v1(dir: &std::path::Path) -> coracle_host::Result<OwnedFd> {
    let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).call(|| "eventfd()")?;
    let path = dir.join("memory.oom_control");
    let file = File::open(&path).call(|| format!("open({path:?})"))?;
    write(&dir.join("cgroup.event_control"), &format!("{} {}", fd.as_raw_fd(), file.as_raw_fd()))?;
    Ok(fd)
}

/// Documentation/admin-guide/cgroup-v2.rst: a change of `memory.events` is a modification of the file.
fn notice_v2(dir: &std::path::Path) -> coracle_host::Result<OwnedFd> {
    let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
        .call(|| "inotify_init1()")?;
    let path = dir.join("memory.events");
    inotify::add_watch(&fd, &path, inotify::WatchFlags::MODIFY)
        .call(|| format!("inotify_add_watch({path:?})"))?;
    Ok(fd)
}
