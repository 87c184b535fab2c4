//! What control groups the host has.

use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use coracle_host::Call;
use rustix::fs::{AtFlags, CWD, StatxFlags};

use crate::error::{Doing, Result};

/// The two interfaces that the kernel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// One hierarchy for each controller or few (Documentation/admin-guide/cgroup-v1).
    V1,
    /// One for all (Documentation/admin-guide/cgroup-v2.rst).
    V2,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Version::V1 => "cgroup v1",
            Version::V2 => "cgroup v2",
        })
    }
}

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    pub(super) version: Version,
    pub(super) controllers: Vec<String>,
    pub(super) point: PathBuf,
    pub(super) own: Option<PathBuf>,
    pub(super) writable: bool,
}

impl Hierarchy {
    /// Which interface it has.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The controllers in it, by the kernel's names: `memory`, `cpu`. None for a named one of version 1 (`name=systemd`).
    pub fn controllers(&self) -> &[String] {
        &self.controllers
    }

    /// Where it is mounted.
    pub fn point(&self) -> &Path {
        &self.point
    }

    /// The group of this process in it, as a directory; `None` where that lies outside of what is mounted.
    pub fn own(&self) -> Option<&Path> {
        self.own.as_deref()
    }

    pub(super) fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|has| has == controller)
    }
}

/// All hierarchies that are mounted. Learning them reads three files and takes some 0.15 ms; whoever starts many containers
/// keeps the value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hierarchies(pub(super) Vec<Hierarchy>);

impl Hierarchies {
    /// What is mounted in this thread's mount namespace, and can be reached there.
    ///
    /// # Errors
    /// Where `/proc/self/mountinfo` or `/proc/self/cgroup` can't be read. That no hierarchy is mounted is not an error.
    pub fn of_this_host() -> Result<Hierarchies> {
        let text = |path: &str| {
            fs::read(path).call(|| format!("read({path:?})")).doing(|| "learn the host's control groups")
        };
        let (mounts, own) = (text("/proc/thread-self/mountinfo")?, text("/proc/thread-self/cgroup")?);
        let controllers =
            |point: &Path| fs::read_to_string(point.join("cgroup.controllers")).unwrap_or_default();
        Ok(parse(&mounts, &String::from_utf8_lossy(&own), is_at, controllers))
    }

    /// Each hierarchy.
    pub fn iter(&self) -> impl Iterator<Item = &Hierarchy> {
        self.0.iter()
    }

    /// The hierarchy that has a controller. `devices` and `freezer` are not controllers in version 2 but in every group.
    pub fn of(&self, controller: &str) -> Option<&Hierarchy> {
        self.index_of(controller).map(|index| &self.0[index])
    }

    pub(super) fn index_of(&self, controller: &str) -> Option<usize> {
        let named = self.0.iter().position(|hierarchy| hierarchy.has(controller));
        let everywhere = matches!(controller, "devices" | "freezer");
        named.or_else(|| everywhere.then(|| self.unified()).flatten())
    }

    /// The hierarchy of version 2.
    pub(super) fn unified(&self) -> Option<usize> {
        self.0.iter().position(|hierarchy| hierarchy.version == Version::V2)
    }
}

/// Only these: for who leaves some of the host's hierarchies alone.
impl FromIterator<Hierarchy> for Hierarchies {
    fn from_iter<I: IntoIterator<Item = Hierarchy>>(hierarchies: I) -> Hierarchies {
        Hierarchies(hierarchies.into_iter().collect())
    }
}

/// Super block options of version 1 that are no controllers.
const FLAGS: [&str; 9] = [
    "rw",
    "ro",
    "clone_children",
    "xattr",
    "noprefix",
    "cpuset_v2_mode",
    "none",
    "favordynmods",
    "nofavordynmods",
];

/// mountinfo is `id parent major:minor root point options fields - type source super-options` (proc_pid_mountinfo(5)).
pub(super) fn parse(
    mountinfo: &[u8],
    own: &str,
    reach: impl Fn(&Path, u64) -> bool,
    controllers: impl Fn(&Path) -> String,
) -> Hierarchies {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.split(|byte| *byte == b'\n') {
        let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let Some(dash) = words.iter().position(|word| *word == b"-") else { continue };
        let (Some(id), Some(root), Some(point), Some(options), Some(fstype), Some(supers)) = (
            words.first().and_then(|word| number(word)),
            words.get(3),
            words.get(4),
            words.get(5),
            words.get(dash + 1),
            words.get(dash + 3),
        ) else {
            continue;
        };
        let supers = String::from_utf8_lossy(supers);
        let (point, root) = (unescape(point), unescape(root));
        let version = match *fstype {
            b"cgroup" => Version::V1,
            b"cgroup2" => Version::V2,
            _ => continue,
        };
        if !reach(&point, id) {
            continue;
        }
        let names: Vec<String> = match version {
            Version::V1 => supers.split(',').filter(|name| is_name(name)).map(str::to_owned).collect(),
            Version::V2 => controllers(&point).split_whitespace().map(str::to_owned).collect(),
        };
        let ours = own.lines().find_map(|line| own_path(line, version, &names));
        let own = ours.and_then(|ours| ours.strip_prefix(&root).ok().map(|below| point.join(below)));
        let own = own.filter(|own| !own.components().any(|part| part.as_os_str() == ".."));
        let writable = !options.split(|byte| *byte == b',').any(|option| option == b"ro")
            && !supers.split(',').any(|option| option == "ro");
        let controllers = names.into_iter().filter(|name| !name.starts_with("name=")).collect();
        let new = Hierarchy { version, controllers, point, own, writable };
        // One hierarchy may be mounted at several places: the one that can be written to counts, then the first.
        let same = |old: &&mut Hierarchy| match version {
            Version::V1 => !new.controllers.is_empty() && old.controllers == new.controllers,
            Version::V2 => old.version == version,
        };
        match found.iter_mut().find(same) {
            Some(old) if new.writable && !old.writable => *old = new,
            Some(_) => {}
            None => found.push(new),
        }
    }
    Hierarchies(found)
}

fn is_name(option: &str) -> bool {
    !FLAGS.contains(&option) && !option.starts_with("release_agent=")
}

/// `5:cpu,cpuacct:/path`; version 2 is `0::/path` (cgroups(7)).
fn own_path(line: &str, version: Version, names: &[String]) -> Option<PathBuf> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (listed, path) = (parts.next()?, parts.next()?);
    let ours = match version {
        Version::V2 => listed.is_empty(),
        Version::V1 => !names.is_empty() && names.iter().all(|name| listed.split(',').any(|has| has == name)),
    };
    ours.then(|| path.into())
}

/// Whether this mount is what the path leads to, and not one that is hidden below another.
fn is_at(point: &Path, id: u64) -> bool {
    let found = rustix::fs::statx(CWD, point, AtFlags::NO_AUTOMOUNT, StatxFlags::MNT_ID);
    // Before Linux 5.8 the answer has no such number.
    found.is_ok_and(|found| found.stx_mask & StatxFlags::MNT_ID.bits() == 0 || found.stx_mnt_id == id)
}

fn number(word: &[u8]) -> Option<u64> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// Blanks and backslashes are written as `\040`.
fn unescape(word: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                bytes.push(byte);
                rest = &after[3..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    std::ffi::OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        let mounts = b"30 1 0:5 / / rw - tmpfs tmpfs rw\n\
            31 30 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
            32 30 0:27 /docker/7 /sys/fs/cgroup/memory ro,relatime - cgroup cgroup rw,memory\n\
            33 30 0:28 / /odd\\040place rw - cgroup2 cgroup2 rw,nsdelegate\n\
            34 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup systemd rw,xattr,release_agent=/x,name=systemd\n\
            35 30 0:30 / /hidden rw - cgroup cgroup rw,pids\n";
        let own = "9:memory:/docker/7/below\n5:cpuacct,cpu:/../..\n1:name=systemd:/init\n0::/a\n";
        let found = parse(mounts, own, |point, _| point != Path::new("/hidden"), |_| "io hugetlb\n".into());
        let [cpu, memory, unified, systemd] = &*found.0 else { panic!("{found:?}") };
        assert_eq!(
            (cpu.controllers(), cpu.own(), cpu.writable),
            (&["cpu".to_owned(), "cpuacct".into()][..], None, true)
        );
        assert_eq!((memory.own(), memory.writable), (Some(Path::new("/sys/fs/cgroup/memory/below")), false));
        assert_eq!((unified.version(), unified.point()), (Version::V2, Path::new("/odd place")));
        assert_eq!(unified.own(), Some(Path::new("/odd place/a")));
        assert_eq!(
            (systemd.controllers().len(), systemd.own()),
            (0, Some(Path::new("/sys/fs/cgroup/systemd/init")))
        );
        assert_eq!(found.of("hugetlb"), Some(unified));
        assert_eq!(found.of("freezer"), Some(unified)); // in every group of version 2
        assert_eq!(found.of("pids"), None);
    }

    #[test]
    fn a_second_mount_counts_only_where_the_first_is_read_only() {
        let mounts = b"1 0 0:1 / /ro ro - cgroup2 c rw\n2 0 0:1 / /rw rw - cgroup2 c rw\n3 0 0:1 / /rw2 rw - cgroup2 c rw\n";
        let found = parse(mounts, "", |_, _| true, |_| String::new());
        assert_eq!(found.0.len(), 1);
        assert_eq!(found.0[0].point(), Path::new("/rw"));
    }
}
