//! What is there, so that what a test left there can be told.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::host::SMALL;
use crate::{cgroup, nft};

/// Everything of a host that a test could leave changed, as sentences, each with how often it is true.
#[derive(Debug)]
pub(crate) struct Snapshot(BTreeMap<String, usize>);

impl Snapshot {
    pub(crate) fn take(place: &Path) -> Snapshot {
        let mut found = BTreeMap::new();
        let all = [processes(), threads(), mounts(place), links(), nft::tables(), cgroup::below(), fds()];
        for thing in all.into_iter().flatten().chain(locks(place)).chain(manners()) {
            *found.entry(thing).or_insert(0) += 1;
        }
        Snapshot(found)
    }

    /// What is more or less in `later`.
    pub(crate) fn differences(&self, later: &Snapshot) -> Vec<String> {
        let things: BTreeSet<&String> = self.0.keys().chain(later.0.keys()).collect();
        let mut findings = Vec::new();
        for thing in things {
            let count = |snapshot: &Snapshot| snapshot.0.get(thing).copied().unwrap_or(0);
            match (count(self), count(later)) {
                (before, after) if after > before => findings.push(format!("left: {thing}")),
                (before, after) if after < before => findings.push(format!("gone: {thing}")),
                _ => {}
            }
        }
        findings
    }
}

/// All processes but this one. In its own pid namespace there are no kernel threads to leave out.
pub(crate) fn processes() -> Vec<String> {
    let mut found = Vec::new();
    for pid in numbers("/proc").into_iter().filter(|pid| *pid != std::process::id()) {
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        // `pid (name) state …`: the name may contain anything, also a parenthesis.
        let Some((name, rest)) = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(") ")) else {
            continue;
        };
        let state = rest.chars().next().unwrap_or('?');
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        found.push(format!("process {pid} {name} ({state}): {}", line.trim_end()));
    }
    found
}

fn threads() -> Vec<String> {
    let own = std::process::id();
    let others = numbers("/proc/self/task").into_iter().filter(|tid| *tid != own);
    let name = |tid| fs::read_to_string(format!("/proc/self/task/{tid}/comm"));
    others.filter_map(|tid| Some(format!("thread {tid} {}", name(tid).ok()?.trim_end()))).collect()
}

fn mounts(place: &Path) -> Vec<String> {
    let small = place.join(SMALL).into_os_string().into_encoded_bytes();
    let table = fs::read("/proc/self/mountinfo").unwrap();
    let lines = table.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let point = |line: &[u8]| line.split(|byte| *byte == b' ').nth(4).unwrap_or_default().to_vec();
    // Not below a small disk, but such a disk itself: its name has nothing but the number after the prefix.
    let is_small = |line: &[u8]| {
        point(line).strip_prefix(&*small).is_some_and(|number| number.iter().all(u8::is_ascii_digit))
    };
    lines
        .filter(|line| !is_small(line))
        .map(|line| format!("mount {}", String::from_utf8_lossy(line)))
        .collect()
}

fn links() -> Vec<String> {
    let table = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let names = table.lines().filter_map(|line| line.split_once(':'));
    names.map(|(name, _)| format!("link {}", name.trim())).collect()
}

fn fds() -> Vec<String> {
    let target = |fd| fs::read_link(format!("/proc/self/fd/{fd}")).ok();
    let targets = numbers("/proc/self/fd").into_iter().filter_map(target);
    targets.map(|target| format!("fd on {}", target.display())).collect()
}

/// Open file description locks on files of the host's own file systems. Of these locks the kernel says the
/// file, not the owner (proc_locks(5)).
fn locks(place: &Path) -> Vec<String> {
    let mut files = BTreeMap::new();
    let disks = fs::read_dir(place).unwrap().flatten();
    for disk in disks.map(|entry| entry.path()).filter(|path| !path.ends_with("tmp")) {
        index(&disk, &mut files);
    }
    let devices: BTreeSet<u64> = files.keys().map(|(device, _)| *device).collect();
    let mut found = Vec::new();
    for line in fs::read_to_string("/proc/locks").unwrap().lines() {
        let words: Vec<&str> = line.split_whitespace().filter(|word| *word != "->").collect();
        let (Some(kind), Some(file)) = (words.get(1), words.get(5)) else { continue };
        let Some(file) = device_and_inode(file).filter(|(device, _)| devices.contains(device)) else {
            continue;
        };
        let path =
            files.get(&file).map_or_else(|| "a removed file".to_owned(), |path| path.display().to_string());
        found.push(format!("lock {kind} {} on {path}", words.get(3).unwrap_or(&"?")));
    }
    found
}

/// `00:2f:123`: hexadecimal major and minor, decimal inode.
fn device_and_inode(text: &str) -> Option<(u64, u64)> {
    let mut parts = text.split(':');
    let major = u32::from_str_radix(parts.next()?, 16).ok()?;
    let minor = u32::from_str_radix(parts.next()?, 16).ok()?;
    Some((rustix::fs::makedev(major, minor), parts.next()?.parse().ok()?))
}

fn index(path: &Path, files: &mut BTreeMap<(u64, u64), PathBuf>) {
    let Ok(meta) = fs::symlink_metadata(path) else { return };
    files.insert((meta.dev(), meta.ino()), path.to_owned());
    if meta.is_dir() {
        fs::read_dir(path).into_iter().flatten().flatten().for_each(|entry| index(&entry.path(), files));
    }
}

/// What a library must not change in its program: working directory, umask, signal handlers and masks.
fn manners() -> Vec<String> {
    let cwd = fs::read_link("/proc/self/cwd").unwrap();
    // Of this thread: libtest's main thread changes its own mask while it starts us.
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let ours = ["Umask:", "SigBlk:", "SigIgn:", "SigCgt:"];
    let lines = status.lines().filter(|line| ours.iter().any(|key| line.starts_with(key)));
    let mut found: Vec<String> = lines.map(|line| line.replace('\t', " ")).collect();
    found.push(format!("working directory {}", cwd.display()));
    found
}

fn numbers(path: &str) -> Vec<u32> {
    let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("open({path:?}): {error}"));
    let number = |entry: fs::DirEntry| std::str::from_utf8(entry.file_name().as_bytes()).ok()?.parse().ok();
    // Collected before any use: the descriptor of this very listing is among /proc/self/fd, and gone after it.
    entries.flatten().filter_map(number).collect()
}
