//! Picking and putting on plain directories.

use std::fs::{self, File, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use coracle_host::{Kind, Root};

use super::digest::{Overrides, digest};
use super::owner;
use super::pick::Tree;
use super::put::Put;
use crate::ignore::Ignore;

const NONE: Overrides = Overrides { mode: false, owner: false };

/// Files by path; `d/` is a directory, `a -> b` a link.
fn tree(entries: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in entries {
        let (name, target) = entry.split_once(" -> ").unwrap_or((entry, ""));
        let path = dir.path().join(name);
        fs::create_dir_all(if name.ends_with('/') { &path } else { path.parent().unwrap() }).unwrap();
        if !target.is_empty() {
            symlink(target, path).unwrap();
        } else if !name.ends_with('/') {
            fs::write(path, name).unwrap();
        }
    }
    dir
}

/// All paths that a source means, relative to the tree.
fn picked(dir: &Path, ignore: &str, source: &str) -> Result<Vec<String>, String> {
    let fd = File::open(dir).unwrap();
    let ignore = Ignore::parse(".dockerignore", ignore.as_bytes()).unwrap();
    let tree = Tree::context(fd.as_fd(), "the context", &ignore);
    let picked = tree.pick(source).map_err(|e| e.to_string())?;
    Ok(picked.iter().flat_map(|p| &p.entries).map(|e| e.path.to_str().unwrap().to_owned()).collect())
}

/// Everything below, sorted, as `path` or `path=content` or `path -> target`.
fn listing(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
            let meta = path.symlink_metadata().unwrap();
            found.push(if meta.is_symlink() {
                format!("{name} -> {}", fs::read_link(&path).unwrap().display())
            } else if meta.is_file() {
                format!("{name}={}", fs::read_to_string(&path).unwrap())
            } else {
                name + "/"
            });
            if meta.is_dir() {
                open.push(path);
            }
        }
    }
    found.sort();
    found
}

fn me() -> Option<(u32, u32)> {
    Some((rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()))
}

fn copy(from: &Path, source: &str, to: &Path, dest: &str) -> Result<(), String> {
    let (from, to) = (File::open(from).unwrap(), File::open(to).unwrap());
    let ignore = Ignore::default();
    let tree = Tree::context(from.as_fd(), "the context", &ignore);
    let mut put = Put::new(Root::new(to.as_fd(), "snapshot"), me(), None);
    for picked in tree.pick(source).map_err(|e| e.to_string())? {
        put.place(Some(tree), &picked, dest).map_err(|e| e.to_string())?;
    }
    assert!(!put.changed);
    Ok(())
}

#[test]
fn sources_and_wildcards() {
    let dir = tree(&["package.json", "package-lock.json", "src/a.c", "src/b.h", "src/deep/c.c", "empty/"]);
    let get = |source: &str| picked(dir.path(), "", source).unwrap();
    assert_eq!(get("package*"), ["package-lock.json", "package.json"]);
    assert_eq!(get("src/*.c"), ["src/a.c"]);
    assert_eq!(get("*/*.[ch]"), ["src/a.c", "src/b.h"]);
    assert_eq!(get("src"), ["src", "src/a.c", "src/b.h", "src/deep", "src/deep/c.c"]);
    assert_eq!(get("nothing*"), Vec::<String>::new());
    assert_eq!(get("empty"), ["empty"]);
    assert_eq!(picked(dir.path(), "", "nope").unwrap_err(), "`nope` is not in the context");
    assert!(picked(dir.path(), "", "src/[").unwrap_err().contains("`[` is not closed"));
}

#[test]
fn ignored_files_do_not_exist() {
    let dir = tree(&["a", "node_modules/x/y", "src/keep/f", "src/other", "link -> node_modules/x/y"]);
    let get = |ignore: &str, source: &str| picked(dir.path(), ignore, source);
    assert_eq!(get("node_modules\nsrc", "").unwrap(), ["", "a", "link"]);
    assert_eq!(get("*\n!src/keep", "").unwrap(), ["", "src", "src/keep", "src/keep/f"]);
    assert_eq!(get("src\n!src/keep", "src").unwrap(), ["src", "src/keep", "src/keep/f"]);
    assert_eq!(get("a", "a").unwrap_err(), "`a` is not in the context: .dockerignore excludes it");
    assert_eq!(get("src", "src").unwrap_err(), "`src` is not in the context: .dockerignore excludes it");
    assert!(
        get("node_modules", "link").unwrap_err().starts_with("`link` is not in the context: it is a link to")
    );
    assert_eq!(get("a", "[ab]").unwrap(), Vec::<String>::new());
}

#[test]
fn links_are_followed_inside_only() {
    let out = tree(&["secret"]);
    let dir = tree(&[
        "real/f",
        "f -> real/f",
        "d -> real",
        "abs -> /real/f",
        "sub/abs -> /real/f",
        "loop -> loop",
        "up -> ../../../../real/f",
    ]);
    symlink(out.path().join("secret"), dir.path().join("escape")).unwrap();
    symlink(out.path(), dir.path().join("escape-dir")).unwrap();
    symlink("/etc/passwd", dir.path().join("real/inner")).unwrap();
    let get = |source: &str| picked(dir.path(), "", source);
    assert_eq!(get("f").unwrap(), ["real/f"]);
    assert_eq!(get("d/f").unwrap(), ["real/f"]);
    assert_eq!(get("d").unwrap(), ["real", "real/f", "real/inner"]);
    assert_eq!(get("abs").unwrap(), ["real/f"]);
    assert_eq!(get("sub/abs").unwrap(), ["real/f"]);
    assert_eq!(get("up").unwrap(), ["real/f"]);
    assert!(get("loop").unwrap_err().contains("Too many levels"), "{:?}", get("loop"));
    let error = get("escape").unwrap_err();
    assert!(error.starts_with("`escape` is not in the context: it is a link to `/"), "{error}");
    assert!(get("escape-dir/secret").is_err());
    // Inside a directory, links are copied as links.
    let to = tree(&[]);
    copy(dir.path(), "real", to.path(), "/x").unwrap();
    assert_eq!(listing(to.path()), ["x/", "x/f=real/f", "x/inner -> /etc/passwd"]);
}

#[test]
fn sockets_are_in_no_copy() {
    let dir = tree(&["d/a"]);
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("d/s")).unwrap();
    assert_eq!(picked(dir.path(), "", "d").unwrap(), ["d", "d/a"]);
    assert_eq!(
        picked(dir.path(), "", "d/s").unwrap_err(),
        "`d/s` is not in the context: it is a socket, which no copy has"
    );
    assert_eq!(picked(dir.path(), "d/s", "d").unwrap(), ["d", "d/a"]);
}

#[test]
fn digests_tell_content_from_circumstance() {
    let of = |dir: &Path, source: &str, overrides| {
        let fd = File::open(dir).unwrap();
        let ignore = Ignore::default();
        let tree = Tree::context(fd.as_fd(), "the context", &ignore);
        digest(Some(tree), &tree.pick(source).unwrap(), overrides).unwrap().digest
    };
    let (a, b) = (tree(&["x/f", "x/l -> t"]), tree(&["y/z/f", "y/z/l -> t"]));
    fs::write(b.path().join("y/z/f"), "x/f").unwrap();
    assert_eq!(of(a.path(), "x", NONE), of(b.path(), "y/z", NONE), "the place in the context is nothing");
    let first = of(a.path(), "x", NONE);
    let old = std::time::SystemTime::UNIX_EPOCH;
    File::options().write(true).open(a.path().join("x/f")).unwrap().set_modified(old).unwrap();
    assert_eq!(of(a.path(), "x", NONE), first, "a time is nothing");
    fs::set_permissions(a.path().join("x/f"), Permissions::from_mode(0o755)).unwrap();
    assert_ne!(of(a.path(), "x", NONE), first, "a mode is something");
    let forced = Overrides { mode: true, owner: true };
    assert_eq!(of(a.path(), "x", forced), of(b.path(), "y/z", forced), "unless it is overridden");
    fs::remove_file(a.path().join("x/l")).unwrap();
    symlink("u", a.path().join("x/l")).unwrap();
    assert_ne!(of(a.path(), "x", forced), of(b.path(), "y/z", forced), "a link's target is something");
}

#[test]
fn destinations() {
    let from = tree(&["f", "d/g", "d/sub/h"]);
    let lay = |source: &str, dest: &str, before: &[&str]| {
        let to = tree(before);
        copy(from.path(), source, to.path(), dest).map(|()| listing(to.path()))
    };
    let ok = |source, dest, before: &[&str]| lay(source, dest, before).unwrap();
    assert_eq!(ok("f", "/a/b/c", &[]), ["a/", "a/b/", "a/b/c=f"]);
    assert_eq!(ok("f", "/a/", &[]), ["a/", "a/f=f"]);
    assert_eq!(ok("f", "/a", &["a/"]), ["a/", "a/f=f"]);
    assert_eq!(ok("f", "/a", &["a"]), ["a=f"]);
    assert_eq!(ok("d", "/a", &[]), ["a/", "a/g=d/g", "a/sub/", "a/sub/h=d/sub/h"]);
    assert_eq!(
        ok("d", "/a/", &["a/sub/old"]),
        ["a/", "a/g=d/g", "a/sub/", "a/sub/h=d/sub/h", "a/sub/old=a/sub/old"]
    );
    assert_eq!(ok("*", "/", &["d/"]), ["d/", "f=f", "g=d/g", "sub/", "sub/h=d/sub/h"]);
    // Links in the destination lead within it, and what they lead to is written anew.
    assert_eq!(ok("f", "/l/x", &["l -> /r", "r/"]), ["l -> /r", "r/", "r/x=f"]);
    assert_eq!(ok("f", "/l", &["l -> ../../r/old", "r/old"]), ["l -> ../../r/old", "r/", "r/old=f"]);
    assert_eq!(ok("f", "/l/x", &["l -> /new/dir"]), ["l -> /new/dir", "new/", "new/dir/", "new/dir/x=f"]);
    assert_eq!(lay("d", "/a", &["a"]).unwrap_err(), "a directory can't be put at `/a`: a file is there");
    assert_eq!(
        lay("f", "/a/", &["a/f/x"]).unwrap_err(),
        "a file can't be put at `/a/f`: a directory is there"
    );
    assert_eq!(
        lay("d", "/", &["sub -> /etc"]).unwrap_err(),
        "a directory can't be put at `/sub`: a file or link is there"
    );
    assert!(lay("f", "/a/b", &["a"]).unwrap_err().contains("Not a directory"));
}

#[test]
fn modes_times_and_hard_links() {
    let from = tree(&["d/f"]);
    let file = from.path().join("d/f");
    fs::set_permissions(&file, Permissions::from_mode(0o6751)).unwrap();
    fs::set_permissions(from.path().join("d"), Permissions::from_mode(0o711)).unwrap();
    let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_nanos(1_234_567_891);
    File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
    let to = tree(&["old/f"]);
    fs::set_permissions(to.path().join("old"), Permissions::from_mode(0o755)).unwrap();
    fs::hard_link(to.path().join("old/f"), to.path().join("twin")).unwrap();
    copy(from.path(), "d", to.path(), "/new").unwrap();
    copy(from.path(), "d", to.path(), "/old").unwrap();
    copy(from.path(), "d", to.path(), "/asked/").unwrap();
    let meta = |name: &str| to.path().join(name).metadata().unwrap();
    assert_eq!(meta("new/f").mode() & 0o7777, 0o6751);
    assert_eq!(meta("new/f").modified().unwrap(), time);
    assert_eq!(meta("new").mode() & 0o7777, 0o755, "what is in the source is copied, not the source");
    assert_eq!(meta("asked").mode() & 0o7777, 0o755);
    assert_eq!(meta("old").mode() & 0o7777, 0o755, "a directory that was there stays as it was");
    assert_eq!(
        fs::read_to_string(to.path().join("twin")).unwrap(),
        "old/f",
        "not written through a hard link"
    );
}

#[test]
fn owners_by_name() {
    let dir = tree(&[]);
    fs::create_dir(dir.path().join("etc")).unwrap();
    fs::write(dir.path().join("etc/passwd"), "root:x:0:0::/:/bin/sh\napp:x:1000:1001::/:/bin/sh\nbad:x\n")
        .unwrap();
    fs::write(dir.path().join("etc/group"), "root:x:0:\nstaff:x:50:\n").unwrap();
    let fd = File::open(dir.path()).unwrap();
    let root = Root::new(fd.as_fd(), "snapshot");
    let get = |text: &str| owner::resolve(&root, text);
    assert_eq!(get("app").unwrap(), (1000, 1001));
    assert_eq!(get("app:staff").unwrap(), (1000, 50));
    assert_eq!(get("7").unwrap(), (7, 7));
    assert_eq!(get("7:staff").unwrap(), (7, 50));
    let error = get("nobody").unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (Kind::NotFound, "there is no user `nobody` in /etc/passwd")
    );
    assert_eq!(get("app:x").unwrap_err().to_string(), "there is no group `x` in /etc/group");
    assert_eq!(get("bad").unwrap_err().kind(), Kind::Corrupt);
    assert_eq!((get(":staff").unwrap(), get("app:").unwrap()), ((0, 50), (1000, 0)));
}
