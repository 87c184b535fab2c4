//! Trees to compare: every entry as a line of text.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, XattrFlags};

/// All below `root`, by path: type, mode, owner, time, target, device, content, attributes, and which names are one file.
pub fn describe(root: &Path) -> BTreeMap<PathBuf, String> {
    let (mut all, mut inodes) = (BTreeMap::new(), HashMap::new());
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = std::fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(root).unwrap().to_owned();
        let kind = meta.file_type();
        if kind.is_char_device() && meta.rdev() == 0 {
            // Only that it is there says anything.
            all.insert(name, "whiteout".to_owned());
            continue;
        }
        let mut line = format!(
            "{:o} {}:{} {}.{:09}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.mtime(),
            meta.mtime_nsec()
        );
        if kind.is_dir() {
            let mut names: Vec<_> = std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()).collect();
            names.sort();
            todo.extend(names);
        } else if kind.is_symlink() {
            line += &format!(" -> {:?}", std::fs::read_link(&path).unwrap());
        } else if kind.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            line += &format!(" {} bytes {}", bytes.len(), coracle_layers::Digest::of(&bytes));
        } else if kind.is_char_device() || kind.is_block_device() {
            line += &format!(" device {:x}", meta.rdev());
        }
        for (attribute, value) in attributes(&path) {
            line += &format!(" {attribute}={value:?}");
        }
        if !kind.is_dir() && meta.nlink() > 1 {
            inodes.entry(meta.ino()).or_insert_with(Vec::new).push(name.clone());
        }
        all.insert(name, line);
    }
    for mut names in inodes.into_values() {
        names.sort();
        for name in &names {
            all.get_mut(name).unwrap().push_str(&format!(" one of {names:?}"));
        }
    }
    all
}

/// Overlay's own marks that say nothing about the content are left out.
fn attributes(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut list = vec![0u8; 4096];
    let length = rustix::fs::llistxattr(path, &mut list[..]).unwrap();
    let mut attributes: Vec<_> = list[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .filter(|name| {
            !matches!(&**name, "trusted.overlay.origin" | "trusted.overlay.impure" | "trusted.overlay.uuid")
        })
        .map(|name| {
            let mut value = vec![0u8; 4096];
            let length = rustix::fs::lgetxattr(path, &*name, &mut value[..]).unwrap();
            value.truncate(length);
            (name, value)
        })
        .collect();
    attributes.sort();
    attributes
}

/// Two trees that must be alike; the times of directories in `but` may differ.
#[track_caller]
pub fn assert_same(left: &Path, right: &Path) {
    let (left, right) = (describe(left), describe(right));
    for name in left.keys().chain(right.keys()) {
        assert_eq!(left.get(name), right.get(name), "{name:?} differs");
    }
}

/// One of everything that a layer can hold.
pub fn fill(root: &Path) {
    let at = |name: &str| root.join(name);
    std::fs::create_dir_all(at("dir/sub")).unwrap();
    std::fs::create_dir_all(at("empty")).unwrap();
    std::fs::write(at("dir/file"), "content").unwrap();
    std::fs::write(at("dir/none"), "").unwrap();
    std::fs::hard_link(at("dir/file"), at("dir/sub/second")).unwrap();
    std::fs::hard_link(at("dir/file"), at("a first name")).unwrap();
    std::os::unix::fs::symlink("../dangling/target", at("link")).unwrap();
    std::os::unix::fs::symlink("x".repeat(300), at("long link")).unwrap();
    std::fs::hard_link(at("link"), at("link again")).unwrap();
    let long = "n".repeat(200);
    std::fs::create_dir_all(at(&format!("{long}/{long}"))).unwrap();
    std::fs::write(at(&format!("{long}/{long}/{long}")), "deep").unwrap();
    std::fs::write(at("ünï"), "not ascii").unwrap();
    std::fs::write(root.join(std::ffi::OsStr::from_bytes(b"not utf8 \xff\xfe")), "bytes").unwrap();
    std::fs::write(at("new\nline"), "odd").unwrap();
    for (name, kind, device) in [
        ("fifo", FileType::Fifo, 0),
        ("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3)),
        ("block", FileType::BlockDevice, rustix::fs::makedev(7, 300)),
    ] {
        rustix::fs::mknodat(CWD, at(name), kind, Mode::from_raw_mode(0o640), device).unwrap();
    }
    let big = std::fs::File::create(at("sparse")).unwrap();
    big.set_len(10 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&big, b"middle", 5 << 20).unwrap();
    std::os::unix::fs::chown(at("dir/none"), Some(1000), Some(3_000_000_000)).unwrap();
    std::os::unix::fs::lchown(at("link"), Some(12), Some(34)).unwrap();
    std::os::unix::fs::chown(at("empty"), Some(7), Some(8)).unwrap();
    for (name, mode) in
        [("", 0o751), ("dir/none", 0o6711), ("empty", 0o3777), ("dir/sub", 0o000), ("ünï", 0o4755)]
    {
        rustix::fs::chmodat(CWD, at(name), Mode::from_raw_mode(mode), rustix::fs::AtFlags::empty()).unwrap();
    }
    let set = |name: &str, attribute: &str, value: &[u8]| {
        rustix::fs::lsetxattr(at(name), attribute, value, XattrFlags::empty()).unwrap();
    };
    // cap_net_raw=ep, version 2 (capabilities(7)).
    set("ünï", "security.capability", &[1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    set("dir/file", "user.note", b"binary\0\n=value");
    set("empty", "user.empty", b"");
    set("link", "trusted.on.a.link", b"yes");
    for (name, secs, nanos) in [
        ("dir/file", 1_000_000_000, 123_456_789),
        ("dir/none", -1, 500_000_000),
        ("link", 5, 1),
        ("sparse", 9_000_000_000, 0),
        ("fifo", 0, 0),
        ("empty", 17, 0),
        ("dir/sub", 18, 0),
        ("dir", 19, 999_999_999),
        ("", 20, 0),
    ] {
        set_time(&at(name), secs, nanos);
    }
}

pub fn set_time(path: &Path, secs: i64, nanos: i64) {
    let time = rustix::fs::Timespec { tv_sec: secs, tv_nsec: nanos };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
}
