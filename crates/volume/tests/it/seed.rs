//! Filling empty volumes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use coracle_host::{Dir, Kind};
use coracle_testhost::{Role, run, run_with};
use coracle_volume::{Terms, VolumeSpec};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};

use crate::{State, Stop, below};

/// A tree with one of everything at `at`.
pub(crate) fn plant(at: &Path) -> Dir {
    fs::DirBuilder::new().mode(0o700).create(at).unwrap();
    fs::create_dir_all(at.join("conf/deep")).unwrap();
    fs::write(at.join("conf/file"), "text").unwrap();
    fs::write(at.join("conf/empty"), "").unwrap();
    fs::hard_link(at.join("conf/file"), at.join("conf/deep/again")).unwrap();
    symlink("/etc/passwd", at.join("out")).unwrap();
    symlink("nowhere", at.join("dangling")).unwrap();
    let sparse = fs::File::create(at.join("sparse")).unwrap();
    sparse.set_len(256 << 10).unwrap();
    std::os::unix::fs::FileExt::write_at(&sparse, b"middle", 128 << 10).unwrap();
    let plain = Mode::RUSR | Mode::WUSR;
    rustix::fs::mknodat(CWD, at.join("pipe"), FileType::Fifo, plain, 0).unwrap();
    let null = rustix::fs::makedev(1, 3);
    rustix::fs::mknodat(CWD, at.join("null"), FileType::CharacterDevice, plain, null).unwrap();
    rustix::fs::mknodat(CWD, at.join("socket"), FileType::Socket, plain, 0).unwrap();
    fs::write(at.join("suid"), "x").unwrap();

    let attribute = |path: &str, name: &str, value: &[u8]| {
        rustix::fs::lsetxattr(at.join(path), name, value, XattrFlags::empty()).unwrap();
    };
    let own = |path: &str, uid: u32, mode: u32| {
        let (path, ids) = (at.join(path), (Uid::from_raw(uid), Gid::from_raw(uid + 1)));
        rustix::fs::chownat(CWD, &path, Some(ids.0), Some(ids.1), AtFlags::SYMLINK_NOFOLLOW).unwrap();
        if !path.is_symlink() {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    own("out", 40, 0);
    own("conf", 41, 0o2750);
    own("conf/file", 42, 0o640);
    own("suid", 43, 0o6711);
    own("pipe", 44, 0o622);
    own("null", 45, 0o666);
    // cap_net_bind_service=ep, version 2, as setcap(8) writes it
    let mut capability = [0; 20];
    capability[..8].copy_from_slice(&[1, 0, 0, 2, 0, 4, 0, 0]);
    attribute("conf/file", "security.capability", &capability);
    attribute("conf/file", "trusted.note", b"\0\xff");
    attribute("conf", "trusted.dir", b"d");
    attribute("out", "trusted.link", b"l");
    attribute("", "trusted.top", b"t");
    own("", 46, 0o1770);
    for (number, path) in ["conf/file", "out", "pipe", "conf/deep", "conf", ""].into_iter().enumerate() {
        let time = Timespec { tv_sec: 1_000_000_000 + number as i64, tv_nsec: 123_456_789 };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, at.join(path), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
    Dir::open(at).unwrap()
}

/// All that there is to say about the entries of a tree, by path.
pub(crate) fn describe(top: &Path) -> BTreeMap<String, String> {
    let mut told = BTreeMap::new();
    let mut first = BTreeMap::new();
    let mut left = vec![top.to_owned()];
    while let Some(path) = left.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(top).unwrap().to_str().unwrap().to_owned();
        let content = if meta.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            String::new()
        } else if meta.is_file() {
            format!("{:?}", String::from_utf8(fs::read(&path).unwrap()).unwrap().trim_matches('\0'))
        } else if meta.is_symlink() {
            format!("{:?}", fs::read_link(&path).unwrap())
        } else {
            format!("{:?} {:x}", meta.file_type(), meta.rdev())
        };
        let mut names = vec![0; 4096];
        let length = rustix::fs::llistxattr(&path, &mut names[..]).unwrap();
        let mut attributes = BTreeMap::new();
        for attribute in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let mut value = vec![0; 4096];
            let length = rustix::fs::lgetxattr(&path, attribute, &mut value[..]).unwrap();
            attributes.insert(String::from_utf8_lossy(attribute).into_owned(), value[..length].to_vec());
        }
        let links = if meta.is_dir() { 0 } else { meta.nlink() };
        let mode = format!("{:o} {}:{}", meta.mode(), meta.uid(), meta.gid());
        let time = format!("{}.{}", meta.mtime(), meta.mtime_nsec());
        let size = if meta.is_file() { meta.size() } else { 0 };
        let text = format!("{mode} {size} {time} links {links} {content} {attributes:?}");
        if links > 1 {
            first.entry(meta.ino()).or_insert_with(Vec::new).push(name.clone());
        }
        told.insert(name, text);
    }
    for (number, mut names) in first.into_values().enumerate() {
        names.sort();
        told.insert(format!("linked {number}"), format!("{names:?}"));
    }
    told
}

#[test]
fn all_of_a_tree() {
    run(|host| {
        let tree = plant(&host.dir().join("image"));
        let expected = describe(tree.path());
        assert_eq!(expected.len(), 14, "{expected:#?}");
        let state = State::open(host.dir());
        let volume = state.volumes.create(&VolumeSpec::new("db")).unwrap();
        let loan = volume.lend_on("container db", &Terms::new().seed(&tree)).unwrap();
        assert!(loan.was_seeded());
        assert_eq!(describe(&volume.path()), expected);
        assert_eq!(fs::read_to_string(below(&loan, "conf/deep/again")).unwrap(), "text");
        assert!(fs::metadata(below(&loan, "null")).unwrap().file_type().is_char_device());
        let sparse = fs::metadata(below(&loan, "sparse")).unwrap();
        assert!(sparse.blocks() * 512 < 64 << 10, "holes stay holes: {}", sparse.blocks());
        assert_eq!(state.corners(), 1);

        // Once: what is emptied later stays empty.
        drop(loan);
        for entry in fs::read_dir(volume.path()).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                fs::remove_dir_all(&entry).unwrap()
            } else {
                fs::remove_file(&entry).unwrap()
            }
        }
        let loan = volume.lend_on("container db", &Terms::new().seed(&tree)).unwrap();
        assert!(!loan.was_seeded());
        assert_eq!(fs::read_dir(volume.path()).unwrap().count(), 0);
    });
}

#[test]
fn what_is_there_is_left_alone() {
    run(|host| {
        let tree = plant(&host.dir().join("image"));
        let state = State::open(host.dir());
        let volume = state.volumes.create(&VolumeSpec::new("full")).unwrap();
        fs::write(volume.path().join("mine"), "mine").unwrap();
        let loan = volume.lend_on("one", &Terms::new().seed(&tree)).unwrap();
        assert!(!loan.was_seeded());
        assert_eq!(fs::read_dir(volume.path()).unwrap().count(), 1);

        // Somebody has it: their mount is of this very directory.
        let volume = state.volumes.create(&VolumeSpec::new("used")).unwrap();
        let first = volume.lend("first").unwrap();
        let second = volume.lend_on("second", &Terms::new().seed(&tree)).unwrap();
        assert!(!second.was_seeded());
        fs::write(below(&second, "row"), "1").unwrap();
        assert_eq!(fs::read(below(&first, "row")).unwrap(), b"1");
    });
}

#[test]
fn an_empty_tree_gives_owner_and_mode_and_nothing_is_settled() {
    run(|host| {
        let state = State::open(host.dir());
        let place = host.dir().join("empty");
        fs::create_dir(&place).unwrap();
        fs::set_permissions(&place, fs::Permissions::from_mode(0o750)).unwrap();
        std::os::unix::fs::chown(&place, Some(999), Some(998)).unwrap();
        let volume = state.volumes.create(&VolumeSpec::new("db")).unwrap();
        let terms = Terms::new().seed(&Dir::open(&place).unwrap());
        assert!(!volume.lend_on("one", &terms).unwrap().was_seeded());
        let meta = fs::metadata(volume.path()).unwrap();
        assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (999, 998, 0o750));
        fs::write(place.join("row"), "1").unwrap();
        assert!(volume.lend_on("two", &terms).unwrap().was_seeded());
        assert_eq!(fs::read(volume.path().join("row")).unwrap(), b"1");
    });
}

#[test]
fn a_mount_in_the_tree_is_refused() {
    run(|host| {
        let tree = plant(&host.dir().join("image"));
        let inner = host.dir().join("image/conf/deep");
        let plain = rustix::mount::MountFlags::empty();
        rustix::mount::mount("tmpfs", &inner, "tmpfs", plain, None).unwrap();
        fs::write(inner.join("secret"), "x").unwrap();
        let state = State::open(host.dir());
        let volume = state.volumes.create(&VolumeSpec::new("db")).unwrap();
        let error = volume.lend_on("one", &Terms::new().seed(&tree)).unwrap_err();
        assert_eq!(error.kind(), Kind::InUse);
        let expected = format!("seed volume `db`: open({inner:?}): something is mounted there");
        assert_eq!(error.to_string(), expected);
        rustix::mount::unmount(&inner, rustix::mount::UnmountFlags::empty()).unwrap();
        assert_eq!(fs::read_dir(volume.path()).unwrap().count(), 0);
        assert!(volume.lend_on("one", &Terms::new().seed(&tree)).unwrap().was_seeded());
    });
}

#[test]
fn a_full_disk_leaves_it_empty() {
    run(|host| {
        let state = State::open(&host.small_disk(1 << 20));
        let big = host.dir().join("big");
        fs::create_dir(&big).unwrap();
        for number in 0..8 {
            fs::write(big.join(number.to_string()), vec![1; 256 << 10]).unwrap();
        }
        let volume = state.volumes.create(&VolumeSpec::new("db")).unwrap();
        let terms = Terms::new().seed(&Dir::open(&big).unwrap());
        let error = volume.lend_on("one", &terms).unwrap_err();
        assert_eq!(error.kind(), Kind::Exhausted, "{error}");
        let text = error.to_string();
        assert!(text.starts_with("seed volume `db`: "), "{text}");
        assert!(text.ends_with("No space left on device (os error 28)"), "{text}");
        assert_eq!(fs::read_dir(volume.path()).unwrap().count(), 0);
        assert!(volume.users().unwrap().is_empty());
        for number in 2..8 {
            fs::remove_file(big.join(number.to_string())).unwrap();
        }
        assert!(volume.lend_on("one", &terms).unwrap().was_seeded(), "there is room again");
        assert_eq!(fs::read(volume.path().join("1")).unwrap(), vec![1; 256 << 10]);
    });
}

fn seeder(role: &mut Role) {
    let state = State::open(role.dir());
    let me = role.hear().unwrap();
    let tree = Dir::open(role.dir().join("images").join(&me)).unwrap();
    role.say("ready");
    role.hear();
    let (_, loan) =
        state.volumes.open_and_lend(&VolumeSpec::new("db"), &me, &Terms::new().seed(&tree)).unwrap();
    // Whoever filled it, it is whole as soon as one has it.
    let mut owners: Vec<_> =
        (0..40).map(|number| fs::read_to_string(below(&loan, &format!("d/{number}"))).unwrap()).collect();
    owners.dedup();
    role.say(&format!("{} {}", owners.join(","), loan.was_seeded()));
    role.hear();
}

#[test]
fn sixteen_processes_fill_it_once() {
    run_with(&[("seeder", seeder)], |host| {
        for number in 0..16 {
            let tree = host.dir().join(format!("images/{number}/d"));
            fs::create_dir_all(&tree).unwrap();
            for file in 0..40 {
                fs::write(tree.join(file.to_string()), number.to_string()).unwrap();
            }
        }
        let state = State::open(host.dir());
        for killed in [0, 4] {
            let mut players: Vec<_> = (0..16).map(|_| host.play("seeder")).collect();
            for (number, player) in players.iter_mut().enumerate() {
                player.say(&number.to_string());
                assert_eq!(player.hear().as_deref(), Some("ready"));
            }
            players.iter_mut().for_each(|player| player.say("go"));
            // Some die while they fill, or wait, or have it: the rest don't mind.
            players.drain(..killed).for_each(coracle_testhost::Player::kill);
            let told: Vec<String> = players.iter_mut().map(|player| player.hear().unwrap()).collect();
            let (owner, _) = told[0].split_once(' ').unwrap();
            assert!(told.iter().all(|line| line.split_once(' ').unwrap().0 == owner), "{told:?}");
            let filled = told.iter().filter(|line| line.ends_with(" true")).count();
            assert!(filled == 1 || killed > 0 && filled == 0 && owner.parse::<usize>().unwrap() < killed);
            players.into_iter().for_each(|player| player.hang_up().join());
            state.volumes.remove("db").unwrap();
            state.reclaim();
            assert_eq!(state.corners(), 1);
        }
    });
}

#[test]
fn a_source_that_changes_into_links_never_leads_out() {
    run(|host| {
        let image = host.dir().join("image");
        fs::create_dir_all(image.join("d")).unwrap();
        fs::create_dir_all(host.dir().join("secret")).unwrap();
        for number in 0..20 {
            fs::write(image.join(format!("d/{number}")), "mine").unwrap();
            fs::write(host.dir().join(format!("secret/{number}")), "secret").unwrap();
        }
        fs::write(image.join("file"), "mine").unwrap();
        symlink(host.dir().join("secret"), image.join("link")).unwrap();
        symlink(host.dir().join("secret/1"), image.join("link2")).unwrap();
        let tree = Dir::open(&image).unwrap();
        let state = State::open(host.dir());
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let exchange = rustix::fs::RenameFlags::EXCHANGE;
                while !done.load(Ordering::Relaxed) {
                    for (one, other) in [("d", "link"), ("file", "link2")] {
                        rustix::fs::renameat_with(&tree, one, &tree, other, exchange).unwrap();
                    }
                }
            });
            let _stop = Stop(&done);
            let (mut filled, mut refused) = (0, 0);
            // On a busy machine the two threads seldom run at the same time.
            let deadline = Instant::now() + Duration::from_secs(30);
            while (filled < 50 || refused < 50) && Instant::now() < deadline {
                let volume = state.volumes.create(&VolumeSpec::new("db")).unwrap();
                match volume.lend_on("one", &Terms::new().seed(&tree)) {
                    Ok(loan) => filled += usize::from(loan.was_seeded()),
                    Err(error) => {
                        refused += 1;
                        assert!(error.to_string().starts_with("seed volume `db`: "), "{error}");
                        assert_eq!(fs::read_dir(volume.path()).unwrap().count(), 0);
                    }
                }
                let told = describe(&volume.path());
                assert!(!told.values().any(|text| text.contains("\"secret\"")), "{told:#?}");
                state.volumes.remove("db").unwrap();
            }
            assert!(filled > 0 && refused > 0, "{filled} filled, {refused} refused");
        });
        assert_eq!(state.corners(), 1);
    });
}

#[test]
fn nobody_is_left_with_the_directory_of_before() {
    run(|host| {
        let tree = plant(&host.dir().join("image"));
        let state = State::open(host.dir());
        for round in 0..100 {
            let volume = state.volumes.create(&VolumeSpec::new("db")).unwrap();
            let start = std::sync::Barrier::new(2);
            std::thread::scope(|scope| {
                let seeded = scope.spawn(|| {
                    start.wait();
                    volume.lend_on("seeds", &Terms::new().seed(&tree)).unwrap()
                });
                start.wait();
                let plain = volume.lend("plain").unwrap();
                let seeded = seeded.join().unwrap();
                fs::write(below(&plain, "row"), "1").unwrap();
                assert_eq!(fs::read(below(&seeded, "row")).unwrap(), b"1", "round {round}");
                assert_eq!(below(&plain, "conf/file").exists(), seeded.was_seeded());
            });
            state.volumes.remove("db").unwrap();
        }
    });
}
