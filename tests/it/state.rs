//! State directories that an engine must not touch, and says why.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use coracle::{Engine, Error, Kind};
use coracle_testhost::run as host;
use rustix::mount::{MountFlags, UnmountFlags, mount_bind, mount_remount, unmount};
use rustix::process::{Gid, Uid};

use crate::support::{engine, fails, listing, refuses, state, tools};

#[track_caller]
fn open_refuses(dir: &Path, kind: Kind, words: &[&str]) {
    let path = format!("{:?}", state(dir));
    refuses(dir, kind, &[&["open state directory", &*path], words].concat(), || Engine::open(state(dir)));
}

#[test]
fn of_another_version() {
    host(|host| {
        tools(&engine(host.dir()));
        let file = state(host.dir()).join("coracle-state.json");
        let good = fs::read_to_string(&file).unwrap();
        let name = "coracle-state.json";
        fs::write(&file, good.replace("\"version\": 1", "\"version\": 2")).unwrap();
        open_refuses(host.dir(), Kind::Unsupported, &[name, "version 2", "knows version 1"]);
        fs::write(&file, good.replace("\"incompatible\": []", "\"incompatible\": [\"sharding\"]")).unwrap();
        open_refuses(host.dir(), Kind::Unsupported, &[name, "sharding"]);
        fs::write(&file, good.replace("\"compatible\": []", "\"compatible\": [\"hints\"]")).unwrap();
        drop(Engine::open(state(host.dir())).unwrap());
        for broken in ["", "{", "[]", "{\"version\": -1}"] {
            fs::write(&file, broken).unwrap();
            open_refuses(host.dir(), Kind::Corrupt, &[name, "can't be read"]);
        }
        fs::write(&file, good).unwrap();
        assert_eq!(engine(host.dir()).images().unwrap().len(), 1, "nothing was lost");
    });
}

#[test]
fn of_somebody_else() {
    host(|host| {
        let place = state(host.dir());
        fs::create_dir(&place).unwrap();
        fs::write(place.join("thesis.tex"), "chapter one").unwrap();
        open_refuses(host.dir(), Kind::Invalid, &["thesis.tex", "not a state directory"]);
        fs::remove_dir_all(&place).unwrap();
        fs::write(&place, "a file").unwrap();
        fails(Engine::open(&place), Kind::AlreadyExists, &["open state directory", "state\"", "File exists"]);
        assert_eq!(fs::read_to_string(&place).unwrap(), "a file");
        fs::remove_file(&place).unwrap();
        fs::create_dir(&place).unwrap();
        fs::create_dir(place.join("lost+found")).unwrap();
        drop(Engine::open(&place).unwrap());
    });
}

/// Opens as nobody, on a thread: credentials are a thread's.
fn as_nobody(path: &Path) -> Result<(), Error> {
    std::thread::scope(|scope| {
        let nobody = scope.spawn(|| {
            let (uid, gid) = (Uid::from_raw(65534), Gid::from_raw(65534));
            rustix::thread::set_thread_groups(&[]).unwrap();
            rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
            rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
            Engine::open(path).map(drop)
        });
        nobody.join().unwrap()
    })
}

#[test]
fn without_permission() {
    host(|host| {
        tools(&engine(host.dir()));
        let path = state(host.dir());
        let before = listing(&path);
        fails(as_nobody(&path), Kind::Denied, &["open state directory", "Permission denied", "state"]);
        let elsewhere = host.dir().join("new");
        fails(as_nobody(&elsewhere), Kind::Denied, &["open state directory", "mkdir", "new"]);
        assert!(!elsewhere.exists());
        // A directory of one's own is fine: what is in it can be looked at by anybody who may.
        fs::create_dir(&elsewhere).unwrap();
        chown(&elsewhere, Some(65534), Some(65534)).unwrap();
        fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o700)).unwrap();
        as_nobody(&elsewhere).unwrap();

        mount_bind(&path, &path).unwrap();
        mount_remount(&path, MountFlags::BIND | MountFlags::RDONLY, c"").unwrap();
        fails(Engine::open(&path), Kind::Denied, &["open state directory", "Read-only file system"]);
        unmount(&path, UnmountFlags::empty()).unwrap();
        assert_eq!(listing(&path), before);
        assert_eq!(Engine::open(&path).unwrap().images().unwrap().len(), 1);
    });
}
