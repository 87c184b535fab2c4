//! Trees and configurations in a form that can be compared.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::Path;

use coracle_host::{Dir, Mount, Overlay, Root};
use rustix::fs::{AtFlags, FileType, OFlags};
use serde_json::Value;

/// By path: type, mode, owner, and content or target.
pub(crate) type Tree = BTreeMap<String, String>;

/// What is in a mount that nobody sees.
pub(crate) fn mounted(mount: &Mount) -> Tree {
    let root = Root::new(mount.as_fd(), "image");
    let dir = Dir::from_fd(root.open("/", OFlags::RDONLY | OFlags::DIRECTORY).unwrap(), "/");
    let mut tree = Tree::new();
    walk(&dir, &mut tree);
    tree
}

fn walk(dir: &Dir, tree: &mut Tree) {
    for name in dir.names().unwrap() {
        let path = dir.path_of(&name).display().to_string();
        let stat = rustix::fs::statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        let kind = FileType::from_raw_mode(stat.st_mode);
        let content = match kind {
            FileType::RegularFile => {
                let bytes = dir.read(&name).unwrap();
                match bytes.len() {
                    0..200 => format!("{:?}", String::from_utf8_lossy(&bytes)),
                    n => format!("{n} bytes, sum {}", bytes.iter().map(|b| u64::from(*b)).sum::<u64>()),
                }
            }
            FileType::Symlink => format!("{:?}", rustix::fs::readlinkat(dir, &name, Vec::new()).unwrap()),
            FileType::Directory => {
                walk(&dir.dir(&name).unwrap(), tree);
                String::new()
            }
            _ => String::new(),
        };
        let mode = stat.st_mode & 0o7777;
        tree.insert(path, format!("{kind:?} {mode:04o} {}:{} {content}", stat.st_uid, stat.st_gid));
    }
}

/// The tree of docker's image, from its layers on the disk (overlay2).
pub(crate) fn docker(inspected: &Value) -> Tree {
    let data = &inspected["GraphDriver"]["Data"];
    let upper = data["UpperDir"].as_str().unwrap();
    let lower = data["LowerDir"].as_str().unwrap_or("");
    let dirs = std::iter::once(upper).chain(lower.split(':')).filter(|path| !path.is_empty());
    let dirs: Vec<Dir> = dirs.map(|path| Dir::open(Path::new(path)).unwrap()).collect();
    match dirs.as_slice() {
        [only] => mounted(&Mount::bind(only, false, "layer").unwrap()),
        all => mounted(
            &Mount::overlay(&Overlay { lower: all, upper: None, volatile: false, context: None }).unwrap(),
        ),
    }
}

/// How two trees differ.
pub(crate) fn trees(docker: &Tree, ours: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, theirs) in docker {
        match ours.get(path) {
            None => found.push(format!("{path}: docker has {theirs}, we nothing")),
            Some(own) if own != theirs => found.push(format!("{path}: docker has {theirs}, we {own}")),
            Some(_) => {}
        }
    }
    let more = ours.iter().filter(|(path, _)| !docker.contains_key(*path));
    found.extend(more.map(|(path, own)| format!("{path}: docker has nothing, we {own}")));
    found
}

const FIELDS: [&str; 12] = [
    "Env",
    "Cmd",
    "Entrypoint",
    "User",
    "WorkingDir",
    "Volumes",
    "ExposedPorts",
    "Labels",
    "Healthcheck",
    "OnBuild",
    "Shell",
    "StopSignal",
];

/// How two configurations differ. What is empty is as what is not there.
pub(crate) fn configs(docker: &Value, ours: &Value) -> Vec<String> {
    let full = |value: &Value| match value {
        Value::String(text) if text.is_empty() => Value::Null,
        Value::Array(list) if list.is_empty() => Value::Null,
        Value::Object(map) if map.is_empty() => Value::Null,
        other => other.clone(),
    };
    let fields = FIELDS.iter().filter_map(|field| {
        let (theirs, own) = (full(&docker[field]), full(&ours[field]));
        (theirs != own).then(|| format!("{field}: docker has {theirs}, we {own}"))
    });
    fields.collect()
}
