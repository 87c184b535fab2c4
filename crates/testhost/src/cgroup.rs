//! A control group of the test host's own in every hierarchy where one can be made (cgroups(7)).

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::mount::{MountFlags, mount};

/// How the names of hosts' groups begin; the pid of the process outside follows.
const PREFIX: &str = "coracle-testhost-";

/// Set inside, to the hierarchies that the host has groups of its own in.
pub(crate) const GROUPS: &str = "CORACLE_TESTHOST_GROUPS";

/// One mounted hierarchy.
#[derive(Debug)]
struct Hierarchy {
    point: PathBuf,
    fstype: String,
    /// The option that names it: `memory`, `name=systemd`; empty for version 2.
    option: String,
    /// The group of this process, below `point`.
    own: PathBuf,
}

/// The hierarchies mounted here and our group in each.
fn mounted() -> io::Result<Vec<Hierarchy>> {
    let groups = fs::read_to_string("/proc/self/cgroup")?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let mut found = Vec::new();
    for line in mounts.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let (left, right): (Vec<&str>, Vec<&str>) = (left.split(' ').collect(), right.split(' ').collect());
        let (Some(root), Some(point), Some(fstype), Some(options)) =
            (left.get(3), left.get(4), right.first(), right.get(2))
        else {
            continue;
        };
        let option = match *fstype {
            "cgroup" => {
                options.split(',').filter(|option| !FLAGS.contains(option)).collect::<Vec<_>>().join(",")
            }
            "cgroup2" => String::new(),
            _ => continue,
        };
        // `5:devices:/path`; the unified hierarchy is `0::/path`
        let ours = groups.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            (parts.next()? == option).then_some(parts.next()?)
        });
        let Some(own) = ours.and_then(|ours| ours.strip_prefix(root.trim_end_matches('/'))) else { continue };
        let own = Path::new(point).join(own.trim_start_matches('/'));
        found.push(Hierarchy { point: point.into(), fstype: (*fstype).to_owned(), option, own });
    }
    Ok(found)
}

/// Super block options of version 1 that don't name a controller.
const FLAGS: [&str; 6] = ["rw", "ro", "clone_children", "xattr", "noprefix", "cpuset_v2_mode"];

/// Mounts the hierarchies that this host has a group of its own in: in the new cgroup namespace that group is
/// their root. The others are not mounted: their groups are shared with other tests.
pub(crate) fn mount_own() -> io::Result<()> {
    let ours = given();
    if ours.iter().any(|(_, _, point)| point != Path::new("/sys/fs/cgroup")) {
        mount("tmpfs", "/sys/fs/cgroup", "tmpfs", MountFlags::empty(), c"mode=0755")?;
    }
    for (fstype, option, point) in ours {
        fs::create_dir_all(&point)?;
        let option = std::ffi::CString::new(option)?;
        mount("cgroup", &point, &*fstype, MountFlags::empty(), option.as_c_str())?;
    }
    Ok(())
}

/// The groups that were made below this host's own, as sentences.
pub(crate) fn below() -> Vec<String> {
    let mut found = Vec::new();
    for (_, _, point) in given() {
        walk(&point, &mut |group| found.push(format!("cgroup {}", group.display())));
    }
    found
}

/// Type, option and mount point of each hierarchy, as the process outside wrote them in the environment.
fn given() -> Vec<(String, String, PathBuf)> {
    let list = std::env::var(GROUPS).unwrap_or_default();
    let parse = |line: &str| {
        let mut words = line.split(' ').map(str::to_owned);
        Some((words.next()?, words.next()?, words.next()?.into()))
    };
    list.lines().filter_map(parse).collect()
}

/// All groups below `group`, deepest first.
fn walk(group: &Path, each: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), each);
            each(&entry.path());
        }
    }
}

/// Groups made for one test host, removed with all below them when dropped.
#[derive(Debug)]
pub(crate) struct Groups(Vec<(Hierarchy, PathBuf)>);

impl Groups {
    /// Makes a group below our own in every hierarchy that lets us; the others the host does without.
    pub(crate) fn make() -> Groups {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut made = Vec::new();
        for hierarchy in mounted().unwrap_or_default() {
            reclaim(&hierarchy.own);
            let group = hierarchy.own.join(&name);
            if fs::create_dir(&group).is_ok() {
                // A new cpuset of version 1 is empty and takes no process before it has these.
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    if let Ok(inherited) = fs::read(hierarchy.own.join(file)) {
                        let _ = fs::write(group.join(file), inherited);
                    }
                }
                made.push((hierarchy, group));
            }
        }
        Groups(made)
    }

    /// What to put in the environment under [`GROUPS`].
    pub(crate) fn list(&self) -> String {
        let line = |hierarchy: &Hierarchy| {
            format!("{} {} {}\n", hierarchy.fstype, hierarchy.option, hierarchy.point.display())
        };
        self.0.iter().map(|(hierarchy, _)| line(hierarchy)).collect()
    }

    /// How a process gets in.
    pub(crate) fn doors(&self) -> io::Result<Doors> {
        let mut doors = Doors { each: Vec::new(), unified: None };
        let open = |path: PathBuf| File::options().write(true).open(path);
        for (hierarchy, group) in &self.0 {
            // `tasks` moves only who writes, without a wait for RCU that `cgroup.procs` has (12 ms). Version 2 has none.
            let tasks = open(group.join("tasks"));
            doors.each.push(tasks.or_else(|_| open(group.join("cgroup.procs")))?);
            let gives = fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
            if !gives.trim().is_empty() {
                let out = open(hierarchy.own.join("cgroup.procs"))?;
                doors.unified = Some((out, open(group.join("cgroup.procs"))?));
            }
        }
        Ok(doors)
    }
}

/// The files through which a process enters by writing `0`.
pub(crate) struct Doors {
    each: Vec<File>,
    /// The way out of the group of version 2, and in again, where it has controllers. It then gives them on only if
    /// nobody is in it but those that the test can move.
    unified: Option<(File, File)>,
}

impl Doors {
    /// Into all. Only system calls.
    pub(crate) fn enter(&self) -> io::Result<()> {
        self.each.iter().try_for_each(pass)
    }

    /// Out of where the process between may not be, once its namespaces are made. Only system calls.
    pub(crate) fn leave(&self) -> io::Result<()> {
        self.unified.as_ref().map_or(Ok(()), |(out, _)| pass(out))
    }

    /// Into that again. Only system calls.
    pub(crate) fn enter_again(&self) -> io::Result<()> {
        self.unified.as_ref().map_or(Ok(()), |(_, again)| pass(again))
    }
}

fn pass(mut door: &File) -> io::Result<()> {
    door.write_all(b"0")
}

impl Drop for Groups {
    fn drop(&mut self) {
        self.0.iter().for_each(|(_, group)| remove(group));
    }
}

fn remove(group: &Path) {
    walk(group, &mut |below| drop(fs::remove_dir(below)));
    let _ = fs::remove_dir(group);
}

/// Removes what killed tests left. A group with a process in it can't be removed.
fn reclaim(own: &Path) {
    for entry in fs::read_dir(own).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(&entry.path());
        }
    }
}
