//! A group that is there.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use coracle_host::{Call, Kind};
use rustix::io::Errno;

use super::plan::{Group, Plan};
use super::systemd::{self, Holder};
use super::{Hierarchies, Hierarchy, Place, Version, read};
use crate::error::{Doing, Error, Result};

/// How long processes that were killed may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// A group of this name in one or several hierarchies. It keeps no descriptor open.
///
/// One that was made is removed when dropped, if no process is in it; one that was found is not. A scope that systemd
/// makes lasts only while a process is in it: one that was made has a process of its own until what was given the first
/// [`entrance`](Self::entrance) is started, or the thread that made it ends.
#[derive(Debug)]
pub struct Cgroup {
    pub(super) place: Place,
    pub(super) groups: Vec<Group>,
    ours: bool,
    /// Keeps a scope that was made until the first [`Entrance`](super::Entrance), which takes it over.
    holder: Mutex<Option<Holder>>,
}

impl Cgroup {
    pub(super) fn made(plan: &Plan, ours: bool, holder: Option<Holder>) -> Cgroup {
        Cgroup { place: plan.place.clone(), groups: plan.groups.clone(), ours, holder: Mutex::new(holder) }
    }

    pub(super) fn take_holder(&self) -> Option<Holder> {
        self.holder.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The group of this name, in all hierarchies that have it; `None` where none has. It may have been made by another
    /// program, that lives or not: who may do what with it, the caller knows.
    pub fn find(place: &Place, host: &Hierarchies) -> Option<Cgroup> {
        let group = |hierarchy: &Hierarchy| {
            let dir = place.dir(hierarchy)?;
            dir.is_dir().then(|| Group { hierarchy: hierarchy.clone(), dir })
        };
        // A named hierarchy of version 1 has nothing that a plan could have asked for.
        let of_use =
            |hierarchy: &&Hierarchy| hierarchy.version == Version::V2 || !hierarchy.controllers.is_empty();
        let groups: Vec<Group> = host.iter().filter(of_use).filter_map(group).collect();
        let holder = Mutex::new(None);
        (!groups.is_empty()).then(|| Cgroup { place: place.clone(), groups, ours: false, holder })
    }

    /// Its name.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The hierarchies that it is in, and its directory in each: what is bound into a container that sees its own group.
    pub fn directories(&self) -> impl Iterator<Item = (&Hierarchy, &Path)> {
        self.groups.iter().map(|group| (&group.hierarchy, &*group.dir))
    }

    /// Gives up ownership: it stays when the value is dropped.
    #[must_use]
    pub fn leave(mut self) -> Cgroup {
        self.ours = false;
        self
    }

    /// The processes in it and in the groups below it, by the numbers that they have in this process's pid namespace.
    ///
    /// # Errors
    /// As of reading `cgroup.procs`; `Unsupported` where a process has no number here.
    pub fn processes(&self) -> Result<Vec<u32>> {
        let Some(group) = self.main() else { return Ok(Vec::new()) };
        self.processes_of(group).doing(|| format!("list the processes of the control group {}", self.place))
    }

    pub(super) fn processes_of(&self, group: &Group) -> coracle_host::Result<Vec<u32>> {
        let mut found = Vec::new();
        for dir in below(&group.dir)?.iter().chain([&group.dir]) {
            let file = dir.join("cgroup.procs");
            for line in gone_is_empty(read::text(&file))?.lines() {
                match line.trim().parse() {
                    Ok(0) => {
                        let text =
                            format!("{}: holds a process from outside of this pid namespace", file.display());
                        return Err(coracle_host::Error::new(Kind::Unsupported, text));
                    }
                    Ok(pid) => found.push(pid),
                    Err(_) => {
                        let text = format!("{}: {line:?} is no process", file.display());
                        return Err(coracle_host::Error::new(Kind::Corrupt, text));
                    }
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// The one whose processes are the container's. Where there are both versions the processes are in those of version 1;
    /// whether they were started in that of version 2, too, the starter knows.
    pub(super) fn main(&self) -> Option<&Group> {
        let v1 = |group: &&Group| group.hierarchy.version == Version::V1;
        let freezer = self.groups.iter().find(|group| group.hierarchy.has("freezer"));
        freezer.or_else(|| self.groups.iter().find(v1)).or(self.groups.first())
    }

    /// The directory of a controller, and the version that it speaks.
    pub(super) fn at(&self, controller: &str) -> Option<(&Path, Version)> {
        let named = self.groups.iter().find(|group| group.hierarchy.has(controller));
        let everywhere = matches!(controller, "devices" | "freezer");
        let unified = || self.groups.iter().find(|group| group.hierarchy.version == Version::V2);
        let group = named.or_else(|| everywhere.then(unified).flatten())?;
        Some((&group.dir, group.hierarchy.version))
    }

    /// [`remove_within`](Self::remove_within) ten seconds.
    ///
    /// # Errors
    /// As there.
    pub fn remove(self) -> Result<()> {
        self.remove_within(PATIENCE)
    }

    /// Removes it with all groups below it, waiting as long for processes that are ending; nothing is killed. That it is gone is
    /// fine.
    ///
    /// # Errors
    /// `InUse` where processes stay in it, which are named; else as of rmdir(2). The rest is removed all the same.
    pub fn remove_within(mut self, patience: Duration) -> Result<()> {
        self.ours = false;
        drop(self.take_holder());
        let deadline = Instant::now() + patience;
        let mut failures = Vec::new();
        for group in &self.groups {
            if let Err(error) = self.remove_in(group, deadline) {
                failures.push(error.to_string());
            }
        }
        // Nothing is in it any more, and systemd may not have noticed yet.
        if let Some(scope) = self.place.unit().filter(|_| failures.is_empty())
            && let Err(error) = systemd::stop(scope)
        {
            failures.push(error.to_string());
        }
        match failures.is_empty() {
            true => Ok(()),
            false => {
                let error = coracle_host::Error::new(Kind::InUse, failures.join("; "));
                Err(Error::host(format!("remove the control group {}", self.place), error))
            }
        }
    }

    fn remove_in(&self, group: &Group, deadline: Instant) -> coracle_host::Result<()> {
        // A process is gone from its group some moments after it can be reaped; nothing tells when in version 1.
        let mut pause = Duration::from_micros(20);
        loop {
            match self.remove_once(group) {
                Ok(()) => return Ok(()),
                Err(error) if error.errno() != Some(Errno::BUSY) => return Err(error),
                Err(error) if Instant::now() >= deadline => {
                    let pids = self.processes_of(group).unwrap_or_default();
                    let text = format!("{error}: holds processes {pids:?}");
                    return Err(coracle_host::Error::new(Kind::InUse, text));
                }
                Err(_) => std::thread::sleep(pause),
            }
            pause = (pause * 2).min(Duration::from_millis(5));
        }
    }

    fn remove_once(&self, group: &Group) -> coracle_host::Result<()> {
        match rmdir(&group.dir) {
            // Groups below it answer the same as processes do.
            Err(error) if error.errno() == Some(Errno::BUSY) => {
                let nested = below(&group.dir)?;
                if nested.is_empty() {
                    return Err(error);
                }
                nested.iter().try_for_each(|dir| rmdir(dir))?;
                rmdir(&group.dir)?;
            }
            other => other?,
        }
        Ok(())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // An empty scope is removed by systemd.
        if self.ours && !self.place.is_scope() {
            for group in &self.groups {
                let _ = self.remove_once(group);
            }
        }
    }
}

fn rmdir(dir: &Path) -> coracle_host::Result<()> {
    match fs::remove_dir(dir).call(|| format!("rmdir({dir:?})")) {
        Err(error) if error.errno() == Some(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// All groups below one, deepest first.
pub(super) fn below(dir: &Path) -> coracle_host::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut next = vec![dir.to_owned()];
    while let Some(dir) = next.pop() {
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.call(|| format!("open({dir:?})"))?,
        };
        for entry in entries {
            let entry = entry.call(|| format!("getdents({dir:?})"))?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                found.push(entry.path());
                next.push(entry.path());
            }
        }
    }
    found.reverse();
    Ok(found)
}

/// A group that is removed while it is looked at has no processes.
fn gone_is_empty(read: coracle_host::Result<String>) -> coracle_host::Result<String> {
    match read {
        Err(error) if matches!(error.errno(), Some(Errno::NOENT | Errno::NODEV)) => Ok(String::new()),
        other => other,
    }
}
