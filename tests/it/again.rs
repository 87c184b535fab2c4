//! A COPY of many files that is built again after some have changed: what is the same is not written again, and what comes
//! out is what a build from nothing comes to.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use coracle::{BuildSpec, Engine, Image};
use coracle_testhost::{Host, run as host};

/// More than are worth a second thread.
const FILES: usize = 200;

fn fill(dir: &Path, salt: &str) {
    for n in 0..FILES {
        let sub = dir.join(format!("d{}", n % 7)).join(if n % 2 == 0 { "even" } else { "" });
        fs::create_dir_all(&sub).unwrap();
        fs::write(sub.join(format!("f{n}")), format!("{salt} {n}")).unwrap();
    }
    fs::write(dir.join("d1/top"), salt).unwrap();
    fs::set_permissions(dir.join("d3"), fs::Permissions::from_mode(0o750)).unwrap();
    symlink("d1/top", dir.join("link")).unwrap();
}

/// Everything about each file but what only this machine knows, and its inode.
fn look(engine: &Engine, image: &Image, to: &Path) -> BTreeMap<PathBuf, String> {
    engine.write_directory(image, to).unwrap();
    let mut found = BTreeMap::new();
    let mut open = vec![to.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let stat = fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(to).unwrap().to_owned();
            let head = format!("{:o} {}:{}", stat.mode(), stat.uid(), stat.gid());
            // The destination itself is dated with the build.
            let time =
                if name == Path::new("app") { 0 } else { stat.mtime_nsec() + stat.mtime() % 1_000_000 };
            let content = match stat.file_type() {
                kind if kind.is_file() => fs::read_to_string(&path).unwrap(),
                kind if kind.is_symlink() => fs::read_link(&path).unwrap().display().to_string(),
                _ => String::new(),
            };
            found.insert(name, format!("{head} {time:?} {content}"));
            if stat.is_dir() {
                open.push(path);
            }
        }
    }
    fs::remove_dir_all(to).unwrap();
    found
}

/// How many files of the image's newest layer are also another's.
fn shared(image: &Image) -> usize {
    let tree = image.trees().pop().unwrap();
    walk(&tree).iter().filter(|path| fs::metadata(path).unwrap().nlink() > 1).count()
}

fn date(path: &Path, time: SystemTime) {
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

type Change = (&'static str, usize, fn(&Path));

/// What happens to the context, and how many files a build need not write after it (of those that were there).
const CHANGES: [Change; 9] = [
    ("one is written to", 1, |dir| fs::write(dir.join("d1/f1"), "other").unwrap()),
    ("as long and as old as before", 1, |dir| {
        let path = dir.join("d1/f15");
        let (old, time) = (fs::read(&path).unwrap(), fs::metadata(&path).unwrap().modified().unwrap());
        fs::write(&path, vec![b'x'; old.len()]).unwrap();
        date(&path, time);
    }),
    ("two change places", 2, |dir| {
        fs::rename(dir.join("d2/f9"), dir.join("d2/f")).unwrap();
        fs::rename(dir.join("d2/f23"), dir.join("d2/f9")).unwrap();
        fs::rename(dir.join("d2/f"), dir.join("d2/f23")).unwrap();
    }),
    ("a mode", 1, |dir| {
        fs::set_permissions(dir.join("d4/f11"), fs::Permissions::from_mode(0o755)).unwrap();
    }),
    ("only a time, and a mode that the key sees", 2, |dir| {
        date(&dir.join("d4/f25"), SystemTime::UNIX_EPOCH);
        fs::set_permissions(dir.join("d4/f25"), fs::Permissions::from_mode(0o600)).unwrap();
        date(&dir.join("d5/f5"), SystemTime::UNIX_EPOCH);
    }),
    ("one goes, one comes", 1, |dir| {
        fs::remove_file(dir.join("d6/f13")).unwrap();
        fs::write(dir.join("d6/new"), "new").unwrap();
    }),
    ("a file becomes a directory", 1, |dir| {
        fs::remove_file(dir.join("d1/f29")).unwrap();
        fs::create_dir(dir.join("d1/f29")).unwrap();
        fs::write(dir.join("d1/f29/in"), "in").unwrap();
    }),
    ("a file becomes a link", 1, |dir| {
        fs::remove_file(dir.join("d1/f43")).unwrap();
        symlink("f1", dir.join("d1/f43")).unwrap();
    }),
    ("a further name", 1, |dir| {
        fs::hard_link(dir.join("d1/f1"), dir.join("d1/f1-too")).unwrap();
    }),
];

fn follows_changes(host: &Host, epoch: Option<i64>) {
    let context = host.dir().join("context");
    fs::create_dir(&context).unwrap();
    fill(&context, "first");
    let spec = || {
        let spec = BuildSpec::new(&context).dockerfile_text("FROM scratch\nCOPY . /app/\n");
        match epoch {
            Some(seconds) => spec.source_date_epoch(seconds),
            None => spec,
        }
    };
    let engine = crate::support::engine(host.dir());
    let first = engine.build(&spec(), |_| {}).unwrap().image;
    let at_first = look(&engine, &first, &host.dir().join("out"));
    assert_eq!(shared(&first), 0);
    for (what, most, change) in CHANGES {
        let files = || walk(&context).len();
        let before = files();
        change(&context);
        let again = engine.build(&spec(), |_| {}).unwrap().image;
        let other = Engine::open(host.dir().join("other")).unwrap();
        let anew = other.build(&spec(), |_| {}).unwrap().image;
        let out = host.dir().join("out");
        let (left, right) = (look(&engine, &again, &out), look(&other, &anew, &out));
        assert_eq!(left, right, "{what}");
        if epoch.is_some() {
            assert_eq!(again.id(), anew.id(), "{what}");
        }
        let shared = shared(&again);
        assert!(shared >= before.min(files()) - most, "{what}: only {shared} of {} shared", files());
        drop(other);
        fs::remove_dir_all(host.dir().join("other")).unwrap();
    }
    // What came first is still what it was, and can be written as the tar that it was.
    assert_eq!(look(&engine, &first, &host.dir().join("out")), at_first);
    engine.save(&[first.id()], std::io::sink()).unwrap();
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let all = entries.flat_map(|entry| match entry.file_type().unwrap() {
        kind if kind.is_dir() => walk(&entry.path()),
        kind if kind.is_file() => vec![entry.path()],
        _ => Vec::new(),
    });
    all.collect()
}

#[test]
fn a_build_after_a_change_is_as_one_from_nothing() {
    host(|host| follows_changes(host, None));
}

#[test]
fn a_dated_build_after_a_change_is_as_one_from_nothing() {
    host(|host| follows_changes(host, Some(1_000_000_000)));
}

#[test]
fn sources_over_each_other_and_over_what_is_there() {
    host(|host| {
        let context = host.dir().join("context");
        for name in ["one", "two"] {
            fs::create_dir_all(context.join(name)).unwrap();
            fill(&context.join(name), name);
        }
        fs::create_dir_all(context.join("base/real/d1")).unwrap();
        fs::write(context.join("base/real/d1/f1"), "base").unwrap();
        fs::write(context.join("base/real/d1/stays"), "base").unwrap();
        symlink("real", context.join("base/app")).unwrap();
        // The second source takes the place of most of the first one's files.
        fs::write(context.join("one/d1/only"), "one").unwrap();
        let text = "FROM scratch AS base\nCOPY base /\nFROM base\nCOPY one two /app/\n";
        let spec = || BuildSpec::new(&context).dockerfile_text(text).source_date_epoch(1_000_000_000);
        let engine = crate::support::engine(host.dir());
        for round in ["first", "second"] {
            fs::write(context.join("two/d1/top"), round).unwrap();
            fs::write(context.join("one/d1/only"), round).unwrap();
            let image = engine.build(&spec(), |_| {}).unwrap().image;
            let tree = look(&engine, &image, &host.dir().join("out"));
            let ends = |path: &str, with: &str| {
                let line = tree.get(Path::new(path)).unwrap_or_else(|| panic!("{path}: {tree:?}"));
                assert!(line.ends_with(with), "{path}: {line}");
            };
            ends("app", "real");
            ends("real/d1/f1", "two 1");
            ends("real/d1/stays", "base");
            ends("real/d1/top", round);
            ends("real/d1/only", round);
            ends("real/d2/even/f2", "two 2");
            let other = Engine::open(host.dir().join("other")).unwrap();
            assert_eq!(other.build(&spec(), |_| {}).unwrap().image.id(), image.id(), "{round}");
            drop(other);
            fs::remove_dir_all(host.dir().join("other")).unwrap();
        }
    });
}

/// The same files in another order of making, with other inodes and later times.
fn copy_backwards(from: &Path, to: &Path) {
    let mut entries: Vec<_> = fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort_by(|a, b| b.cmp(a));
    fs::create_dir_all(to).unwrap();
    for path in entries {
        let (there, stat) = (to.join(path.file_name().unwrap()), fs::symlink_metadata(&path).unwrap());
        match stat.file_type() {
            kind if kind.is_dir() => copy_backwards(&path, &there),
            kind if kind.is_symlink() => symlink(fs::read_link(&path).unwrap(), &there).unwrap(),
            _ => {
                fs::copy(&path, &there).unwrap();
                date(&there, SystemTime::now() + Duration::from_secs(stat.ino() % 1000));
            }
        }
    }
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
}

#[test]
fn a_dated_image_depends_on_no_time_no_inode_and_no_history() {
    host(|host| {
        let (one, two) = (host.dir().join("one"), host.dir().join("two"));
        fs::create_dir(&one).unwrap();
        fill(&one, "first");
        let text = "FROM scratch\nCOPY . /app/\nCOPY d1 d2 /more/\nLABEL a=b\nCOPY d3/f3 /single\n";
        let build = |state: &str, context: &Path| {
            let engine = Engine::open(host.dir().join(state)).unwrap();
            let spec = BuildSpec::new(context).dockerfile_text(text).source_date_epoch(1_000_000_000);
            let image = engine.build(&spec.tag("same"), |_| {}).unwrap().image;
            let mut saved = Vec::new();
            engine.save(&["same"], &mut saved).unwrap();
            (image.id().to_string(), image.digest().to_string(), saved)
        };
        let mut before = None;
        for change in ["first", "second"] {
            // The first state directory has built it before.
            fs::write(one.join("d1/f1"), change).unwrap();
            let here = build("state", &one);
            copy_backwards(&one, &two);
            let there = build(change, &two);
            assert_eq!((&here.0, &here.1), (&there.0, &there.1), "{change}");
            assert!(here.2 == there.2, "{change}: the archives differ");
            assert_ne!(before.replace(here.0.clone()), Some(here.0), "{change}: nothing changed");
            fs::remove_dir_all(&two).unwrap();
        }
    });
}

/// An image of many files, one of which has an attribute or has not.
fn attributed(engine: &Engine, has: bool) {
    let mut tar = tar::Builder::new(Vec::new());
    for n in 0..FILES {
        if has && n == 7 {
            tar.append_pax_extensions([("SCHILY.xattr.user.kept", b"yes".as_slice())]).unwrap();
        }
        let mut header = tar::Header::new_ustar();
        header.set_size(1);
        header.set_mode(0o644);
        header.set_mtime(1_000_000_000);
        tar.append_data(&mut header, format!("d/f{n}"), b"x".as_slice()).unwrap();
    }
    engine.import(&*tar.into_inner().unwrap(), "files").unwrap();
}

#[test]
fn a_file_that_has_lost_an_attribute_is_another() {
    host(|host| {
        let engine = crate::support::engine(host.dir());
        let spec = BuildSpec::without_context("FROM files AS one\nFROM scratch\nCOPY --from=one /d /d\n");
        for has in [true, false, true] {
            attributed(&engine, has);
            let image = engine.build(&spec, |_| {}).unwrap().image;
            let file = image.trees().pop().unwrap().join("d/f7");
            let found = rustix::fs::getxattr(file, "user.kept", &mut [0; 8]);
            assert_eq!(found.is_ok(), has, "{found:?}");
        }
    });
}
