//! What an upper directory changes, against the trees before and after.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use coracle_host::Dir;
use coracle_layers::{ChainId, ChangeKind, Digest, Store, UpperOptions};
use coracle_testhost::run;

use crate::oracle::{has, ok};
use crate::tree::{describe, fill};
use crate::{attach, store, tree_of};

/// Changes what `layers` show, on a real overlay; the upper directory stays. Answers with the tree that was seen last.
fn change(
    store: &Store,
    dir: &Dir,
    layers: &[ChainId],
    change: impl FnOnce(&Path),
) -> BTreeMap<PathBuf, String> {
    let (upper, work) = (dir.make("upper", 0o700).unwrap(), dir.make("work", 0o700).unwrap());
    let rootfs = store.rootfs(layers, Some((&upper, &work)), true).unwrap();
    let mounted = attach(&rootfs.mount, &dir.path_of("merged"));
    change(&dir.path_of("merged"));
    let seen = seen(&dir.path_of("merged"));
    drop(mounted);
    drop(rootfs);
    dir.remove_tree("work").unwrap();
    seen
}

/// A tree, without what says nothing of directories.
fn seen(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let mut line = format!("{:o} {}:{} {}", meta.mode(), meta.uid(), meta.gid(), meta.rdev());
        if meta.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            line += &format!(" {} {}.{:09}", meta.size(), meta.mtime(), meta.mtime_nsec());
        }
        all.insert(path.strip_prefix(root).unwrap().to_owned(), line);
    }
    all
}

fn expected(
    old: &BTreeMap<PathBuf, String>,
    new: &BTreeMap<PathBuf, String>,
) -> BTreeMap<PathBuf, ChangeKind> {
    let mut all = BTreeMap::new();
    for path in old.keys().chain(new.keys()) {
        let kind = match (old.get(path), new.get(path)) {
            (Some(one), Some(two)) if one == two => continue,
            (Some(_), Some(_)) => ChangeKind::Changed,
            (None, _) => ChangeKind::Added,
            // Only the top of what is gone; below a file that took a directory's place nothing is said to be.
            (Some(_), None)
                if !new.get(path.parent().unwrap()).is_some_and(|line| line.starts_with("40")) =>
            {
                continue;
            }
            (Some(_), None) => ChangeKind::Removed,
        };
        all.insert(path.clone(), kind);
    }
    for path in all.clone().into_keys() {
        for above in path.ancestors().skip(1) {
            all.entry(above.to_owned()).or_insert(ChangeKind::Changed);
        }
    }
    all.remove(Path::new(""));
    all
}

fn got(store: &Store, dir: &Dir, layers: &[ChainId]) -> BTreeMap<PathBuf, ChangeKind> {
    let changes = store.changes(layers, &dir.dir("upper").unwrap(), &[]).unwrap();
    assert!(changes.is_sorted_by(|a, b| a.path < b.path));
    changes.into_iter().map(|one| (one.path.strip_prefix("/").unwrap().to_owned(), one.kind)).collect()
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % sides
    }

    /// One of a few paths, some of them in others.
    fn path(&mut self, root: &Path) -> PathBuf {
        let mut path = root.to_owned();
        for _ in 0..=self.roll(3) {
            path.push(["a", "b", "c"][self.roll(3) as usize]);
        }
        path
    }

    /// Does something; that it can't be done is fine.
    fn act(&mut self, root: &Path) {
        let path = self.path(root);
        let _ = match self.roll(9) {
            0 => fs::remove_dir_all(&path),
            1 => fs::remove_file(&path),
            2 | 3 => fs::create_dir_all(&path),
            4 => fs::write(&path, vec![b'x'; self.roll(5) as usize]),
            5 => fs::rename(&path, self.path(root)),
            6 => std::os::unix::fs::symlink("target", &path),
            7 => fs::set_permissions(&path, fs::Permissions::from_mode(0o700 + self.roll(8) as u32)),
            // Copied up, and nothing changed.
            _ => fs::OpenOptions::new().append(true).open(&path).map(drop),
        };
    }
}

#[test]
fn changes_are_the_difference_of_the_trees() {
    run(|host| {
        let dir = Dir::open(host.dir()).unwrap();
        let store = store(&host.dir().join("state"));
        let mut dice = Dice(7);
        for round in 0..60 {
            let mut layers = Vec::new();
            let mut old = BTreeMap::new();
            for _ in 0..=dice.roll(3) {
                old = change(&store, &dir, &layers, |root| (0..12).for_each(|_| dice.act(root)));
                let options = UpperOptions::new();
                let layer = store.add_layer_from_upper(layers.last(), &dir, "upper", &options).unwrap();
                layers.push(layer.chain_id());
            }
            let new = change(&store, &dir, &layers, |root| (0..12).for_each(|_| dice.act(root)));
            let (got, expected) = (got(&store, &dir, &layers), expected(&old, &new));
            assert_eq!(got, expected, "round {round}:\n{old:#?}\n{new:#?}");
            dir.remove_tree("upper").unwrap();
        }
    })
}

#[test]
fn what_was_made_to_be_mounted_over_is_no_change() {
    run(|host| {
        let dir = Dir::open(host.dir()).unwrap();
        let store = store(&host.dir().join("state"));
        let base = store.import(empty().as_slice(), &coracle_layers::ImportOptions::new()).unwrap();
        change(&store, &dir, base.layers(), |root| {
            for name in ["proc", "dev/pts", "etc", "mnt"] {
                fs::create_dir_all(root.join(name)).unwrap();
            }
            fs::write(root.join("etc/hosts"), "").unwrap();
            fs::write(root.join("etc/hostname"), "somebody wrote this").unwrap();
        });
        let mounted: Vec<PathBuf> =
            ["/proc", "/dev", "/dev/pts", "/etc/hosts", "/etc/hostname"].map(PathBuf::from).into();
        let upper = dir.dir("upper").unwrap();
        let before = describe(&host.dir().join("upper"));
        let changes = store.changes(base.layers(), &upper, &mounted).unwrap();
        let shown: Vec<String> =
            changes.iter().map(|change| format!("{} {}", change.kind, change.path.display())).collect();
        assert_eq!(shown, ["A /etc", "A /etc/hostname", "A /mnt"]);
        let layer = store.copy_layer_from_upper(base.layers().last(), &upper, &mounted).unwrap();
        let copied = describe(&tree_of(&host.dir().join("state"), &layer));
        let names: Vec<_> = copied.keys().map(|path| path.display().to_string()).collect();
        assert_eq!(names, ["", "etc", "etc/hostname", "mnt"]);
        assert_eq!(before, describe(&host.dir().join("upper")), "nothing of it was touched");
    })
}

/// Bytes of the files and links below a directory, each file once.
fn walk_bytes(dir: &Path) -> u64 {
    let (mut bytes, mut seen, mut todo) = (0, std::collections::HashSet::new(), vec![dir.to_owned()]);
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if (meta.is_file() || meta.is_symlink()) && seen.insert(meta.ino()) {
            bytes += meta.size();
        }
    }
    bytes
}

/// A tar of nothing.
fn empty() -> Vec<u8> {
    vec![0; 1024]
}

#[test]
fn a_copy_is_the_layer_that_the_directory_would_become() {
    run(|host| {
        let dir = Dir::open(host.dir()).unwrap();
        let place = host.dir().join("state");
        let store = store(&place);
        let base = store.import(empty().as_slice(), &coracle_layers::ImportOptions::new()).unwrap();
        change(&store, &dir, base.layers(), |root| {
            fill(root);
            fs::write(root.join("bytes"), [1; 5000]).unwrap();
            drop(std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap());
        });
        let upper = dir.dir("upper").unwrap();
        let copy = store.copy_layer_from_upper(base.layers().last(), &upper, &[]).unwrap();
        assert!(host.dir().join("upper/socket").exists());
        assert!(store.blobs().has(&copy.blob().digest).unwrap());
        let (mut ours, mut theirs) = (describe(&tree_of(&place, &copy)), describe(&host.dir().join("upper")));
        theirs.remove(Path::new("socket"));
        // The root is no part of a layer where only its time differs.
        ours.remove(Path::new(""));
        theirs.remove(Path::new(""));
        assert_eq!(ours, theirs);
        // Packed and unpacked, the same is counted.
        let files = walk_bytes(&host.dir().join("upper"));
        assert_eq!(copy.content_size(), files);
        let again = store.copy_layer_from_upper(base.layers().last(), &upper, &[]).unwrap();
        assert_eq!(copy.chain_id(), again.chain_id());
        let nobody = ChainId::from(Digest::of(b"nobody"));
        assert!(store.copy_layer_from_upper(Some(&nobody), &upper, &[]).is_err());
    })
}

#[test]
fn an_exported_file_system_is_what_is_seen() {
    run(|host| {
        if !has(host, "tar") {
            return;
        }
        let dir = Dir::open(host.dir()).unwrap();
        let store = store(&host.dir().join("state"));
        let mut layers = Vec::new();
        for text in ["one", "two"] {
            change(&store, &dir, &layers, |root| {
                if text == "one" {
                    fill(root);
                }
                fs::create_dir_all(root.join(text)).unwrap();
                fs::write(root.join(text).join("file"), text).unwrap();
            });
            let options = UpperOptions::new();
            let layer = store.add_layer_from_upper(layers.last(), &dir, "upper", &options).unwrap();
            layers.push(layer.chain_id());
        }
        change(&store, &dir, &layers, |root| {
            fs::remove_dir_all(root.join("one")).unwrap();
            fs::write(root.join("two/.wh.name"), "is only a name").unwrap();
        });
        let archive = host.dir().join("all.tar");
        let upper = dir.dir("upper").unwrap();
        store.export(&layers, &upper, fs::File::create(&archive).unwrap()).unwrap();
        let theirs = host.dir().join("theirs");
        fs::create_dir(&theirs).unwrap();
        let flags = ["--xattrs", "--xattrs-include=*", "--numeric-owner", "-p", "-xf"];
        ok(Command::new("tar").args(flags).arg(&archive).arg("-C").arg(&theirs).output());
        let view = store.view(&layers, &upper).unwrap();
        let merged = host.dir().join("view");
        let _mounted = attach(&view.mount, &merged);
        let (mut ours, mut theirs) = (describe(&merged), describe(&theirs));
        // Of the root itself the archive says nothing where it is as roots are.
        ours.remove(Path::new(""));
        theirs.remove(Path::new(""));
        assert_eq!(ours, theirs);
        assert!(!ours.contains_key(Path::new("one")) && ours.contains_key(Path::new("two/.wh.name")));
    })
}
