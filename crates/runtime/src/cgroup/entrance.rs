//! How a process gets in.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use coracle_host::Call;

use super::systemd::Holder;
use super::{Cgroup, Version, read};
use crate::error::{Doing, Result};

/// The open doors of a group: needed while a process is started, and not longer.
#[derive(Debug)]
pub struct Entrance {
    tasks: Vec<OwnedFd>,
    unified: Option<(OwnedFd, OwnedFd)>,
    /// Keeps a scope of systemd's until then.
    _holder: Option<Holder>,
}

impl Cgroup {
    /// Opens the files through which a process enters the group.
    ///
    /// # Errors
    /// As of open(2): `NotFound` where it was removed, `Denied`.
    pub fn entrance(&self) -> Result<Entrance> {
        let holder = self.take_holder();
        let (mut tasks, mut unified) = (Vec::new(), None);
        for group in &self.groups {
            let open = |name: &str, write: bool| {
                let path = group.dir.join(name);
                let file = File::options().read(!write).write(write).open(&path);
                file.map(OwnedFd::from).call(|| format!("open({path:?})"))
            };
            let doing = || format!("open the control group {}", self.place);
            match group.hierarchy.version {
                Version::V1 => tasks.push(open("tasks", true).doing(doing)?),
                Version::V2 => {
                    let (dir, procs) =
                        (open(".", false).doing(doing)?, open("cgroup.procs", true).doing(doing)?);
                    // Nobody is born where the one process that is allowed is there already; who moves is not counted.
                    let full = read::number(&group.dir.join("pids.max")).doing(doing)? == Some(1);
                    match full && holder.is_some() {
                        true => tasks.push(procs),
                        false => unified = Some((dir, procs)),
                    }
                }
            }
        }
        Ok(Entrance { tasks, unified, _holder: holder })
    }
}

impl Entrance {
    /// `tasks` of each hierarchy of version 1: a child that writes `0` there moves itself, and only itself. Of version 2
    /// `cgroup.procs`, where no child can be born in the group: a scope of systemd's that may have one process, and has one.
    ///
    /// That is the quick way. Writing a process to `cgroup.procs` takes a lock on all processes of the machine, and waits
    /// for RCU before it gets it. Measured on Linux 6.18 with two processors, for one hierarchy: 0.004 to 0.04 ms for `tasks`,
    /// 12 ms for `cgroup.procs`.
    pub fn joins(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.tasks.iter().map(AsFd::as_fd)
    }

    /// The directory of version 2, for `CLONE_INTO_CGROUP` of clone3(2): the child is born there, which costs nothing.
    pub fn into_fd(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(|(dir, _)| dir.as_fd())
    }

    /// `cgroup.procs` of version 2, to write `0` to where there is no clone3(2): 12 ms, see [`joins`](Self::joins). Version 2
    /// has no quick way for a process that is there (`cgroup.threads` is for threads of one process).
    pub fn late_join(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(|(_, procs)| procs.as_fd())
    }
}
