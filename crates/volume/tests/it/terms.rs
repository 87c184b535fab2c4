//! Parts of volumes, volumes that are elsewhere, and clones.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use coracle_host::Kind;
use coracle_testhost::run;
use coracle_volume::{Terms, VolumeSpec};

use crate::seed::{describe, plant};
use crate::{State, Stop, below};

#[test]
fn a_subpath_stays_inside() {
    run(|host| {
        let state = State::open(host.dir());
        let volume = state.volumes.create(&VolumeSpec::new("db")).unwrap();
        let data = volume.path();
        fs::create_dir_all(data.join("a/b")).unwrap();
        fs::write(data.join("a/b/row"), "1").unwrap();
        symlink("a/b", data.join("inside")).unwrap();
        symlink("../../..", data.join("up")).unwrap();
        symlink("/etc", data.join("abs")).unwrap();
        let lend = |path: &str| volume.lend_on("one", &Terms::new().subpath(path));
        for path in ["a/b", "inside", "./a//b"] {
            assert_eq!(fs::read(below(&lend(path).unwrap(), "row")).unwrap(), b"1", "{path}");
        }
        let file = lend("a/b/row").unwrap();
        assert_eq!(fs::read(below(&file, "").to_str().unwrap().trim_end_matches('/')).unwrap(), b"1");
        for path in ["up", "up/etc", "abs", "abs/passwd", "../db", "/etc"] {
            let error = lend(path).unwrap_err();
            assert_eq!(error.kind(), Kind::Invalid, "{path}: {error}");
        }
        assert_eq!(
            lend("abs/passwd").unwrap_err().to_string(),
            r#"volume "db": subpath "abs/passwd" leads out of the volume"#
        );
        let error = lend("none").unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
        assert!(
            error.to_string().starts_with(r#"lend volume `db`: openat2(volume db, "none"): "#),
            "{error}"
        );
        let read_only = volume.lend_on("two", &Terms::new().subpath("a").read_only()).unwrap();
        let refused = fs::write(below(&read_only, "b/row"), "2").unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
        drop((file, read_only));
        assert!(volume.users().unwrap().is_empty(), "who got nothing doesn't use it");
    });
}

#[test]
fn a_subpath_that_is_swapped_for_a_link_never_leads_out() {
    run(|host| {
        let state = State::open(host.dir());
        let volume = state.volumes.create(&VolumeSpec::new("db")).unwrap();
        let data = volume.path();
        fs::create_dir_all(data.join("a/b")).unwrap();
        fs::write(data.join("a/b/mine"), "mine").unwrap();
        fs::create_dir_all(host.dir().join("secret/b")).unwrap();
        symlink(host.dir().join("secret"), data.join("link")).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let exchange = rustix::fs::RenameFlags::EXCHANGE;
                let dir = fs::File::open(&data).unwrap();
                while !done.load(Ordering::Relaxed) {
                    rustix::fs::renameat_with(&dir, "a", &dir, "link", exchange).unwrap();
                }
            });
            let _stop = Stop(&done);
            let (mut lent, mut refused) = (0, 0);
            for _ in 0..2000 {
                match volume.lend_on("one", &Terms::new().subpath("a/b")) {
                    Ok(loan) => {
                        lent += 1;
                        assert_eq!(fs::read(below(&loan, "mine")).unwrap(), b"mine");
                    }
                    Err(error) => {
                        refused += 1;
                        assert_eq!(error.kind(), Kind::Invalid, "{error}");
                    }
                }
            }
            assert!(lent > 0 && refused > 0, "{lent} lent, {refused} refused");
        });
    });
}

#[test]
fn a_volume_in_memory() {
    run(|host| {
        let state = State::open(host.dir());
        let spec = VolumeSpec::new("fast").option("type", "tmpfs").option("device", "tmpfs");
        let volume = state.volumes.create(&spec.option("o", "size=64k,mode=0711,noexec")).unwrap();
        let volume = state.volumes.find(volume.name()).unwrap().unwrap();
        assert_eq!(volume.options()["type"], "tmpfs");
        let loan = volume.lend("one").unwrap();
        fs::write(below(&loan, "row"), "1").unwrap();
        let full = fs::write(below(&loan, "big"), vec![1; 1 << 20]).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        let error = volume.lend("two").unwrap_err();
        assert_eq!(error.to_string(), "lend volume `fast`: in use by one");
        drop(loan);
        assert!(!below(&volume.lend("two").unwrap(), "row").exists(), "gone with its borrower");
        assert_eq!(fs::read_dir(volume.path()).unwrap().count(), 0);

        let wrong = VolumeSpec::new("wrong").option("type", "tmpfs").option("o", "sice=1m");
        let error = state.volumes.create(&wrong).unwrap().lend("one").unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid, "{error}");
        assert!(error.to_string().contains("sice"), "{error}");
    });
}

#[test]
fn a_file_system_that_the_kernel_lacks() {
    run(|host| {
        let state = State::open(host.dir());
        let spec = VolumeSpec::new("far").option("type", "nosuchfs").option("device", ":/srv");
        let error = state.volumes.create(&spec).unwrap().lend("one").unwrap_err();
        assert_eq!(error.to_string(), "volume \"far\": the kernel has no file system `nosuchfs`");
        assert_eq!(error.kind(), Kind::Unsupported);
        assert!(state.volumes.find("far").unwrap().unwrap().users().unwrap().is_empty());
        // One that it has, with what that one doesn't like.
        let spec = VolumeSpec::new("near").option("type", "overlay").option("device", "overlay");
        let error =
            state.volumes.create(&spec.option("o", "lowerdir=/nowhere")).unwrap().lend("one").unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound, "{error}");
    });
}

#[test]
fn a_volume_of_the_hosts() {
    run(|host| {
        let state = State::open(host.dir());
        let place = host.dir().join("srv");
        let make = |name: &str, o: &str| {
            let spec = VolumeSpec::new(name).option("type", "none").option("o", o);
            state.volumes.create(&spec.option("device", place.to_str().unwrap())).unwrap()
        };
        let volume = make("host", "bind");
        let error = volume.lend("one").unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound, "{error}");
        fs::create_dir_all(place.join("sub")).unwrap();
        fs::write(place.join("sub/row"), "1").unwrap();
        let part = volume.lend_on("one", &Terms::new().subpath("sub")).unwrap();
        assert_eq!(fs::read(below(&part, "row")).unwrap(), b"1");
        fs::write(below(&part, "row"), "2").unwrap();
        let fixed = make("fixed", "bind,ro").lend("two").unwrap();
        assert_eq!(fs::read(below(&fixed, "sub/row")).unwrap(), b"2");
        let refused = fs::write(below(&fixed, "sub/row"), "3").unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);

        // A seed is not for the host's directories, and removing the volume leaves them.
        let tree = plant(&host.dir().join("image"));
        fs::remove_dir_all(&place).unwrap();
        fs::create_dir(&place).unwrap();
        assert!(!volume.lend_on("one", &Terms::new().seed(&tree)).unwrap().was_seeded());
        fs::write(place.join("kept"), "1").unwrap();
        drop(part);
        state.volumes.remove("host").unwrap();
        assert_eq!(fs::read(place.join("kept")).unwrap(), b"1");
    });
}

#[test]
fn a_clone_is_the_same_and_apart() {
    run(|host| {
        let tree = plant(&host.dir().join("image"));
        let state = State::open(host.dir());
        let volumes = &state.volumes;
        let source = volumes.create(&VolumeSpec::new("db")).unwrap();
        let loan = source.lend_on("container db", &Terms::new().seed(&tree)).unwrap();
        let to = VolumeSpec::new("copy").label("test", "1");
        let error = volumes.clone_volume("db", &to).unwrap_err();
        assert_eq!(error.to_string(), "clone volume `db`: in use by container db");
        drop(loan);
        let copy = volumes.clone_volume("db", &to).unwrap();
        assert_eq!(copy.labels()["test"], "1");
        assert_eq!(describe(&copy.path()), describe(tree.path()));
        fs::write(copy.path().join("conf/file"), "changed").unwrap();
        assert_eq!(describe(&source.path()), describe(tree.path()));

        assert_eq!(volumes.clone_volume("db", &to).unwrap_err().kind(), Kind::AlreadyExists);
        let none = volumes.clone_volume("none", &VolumeSpec::anonymous()).unwrap_err();
        assert_eq!(none.to_string(), "clone volume `none`: there is none of that name");
        let memory = VolumeSpec::new("fast").option("type", "tmpfs");
        assert_eq!(volumes.clone_volume("db", &memory).unwrap_err().kind(), Kind::Unsupported);
        // Emptied by its borrower, the clone is as settled as its source is.
        fs::remove_dir_all(copy.path()).unwrap();
        fs::create_dir(copy.path()).unwrap();
        assert!(!copy.lend_on("one", &Terms::new().seed(&tree)).unwrap().was_seeded());
        assert_eq!(state.corners(), 1);
    });
}

#[test]
fn twenty_clones_at_once() {
    run(|host| {
        let tree = plant(&host.dir().join("image"));
        let state = State::open(host.dir());
        let source = state.volumes.create(&VolumeSpec::new("db")).unwrap();
        drop(source.lend_on("test", &Terms::new().seed(&tree)).unwrap());
        let expected = describe(tree.path());
        std::thread::scope(|scope| {
            for number in 0..20 {
                let (state, expected) = (&state, &expected);
                scope.spawn(move || {
                    let copy =
                        state.volumes.clone_volume("db", &VolumeSpec::new(format!("c{number}"))).unwrap();
                    assert_eq!(&describe(&copy.path()), expected);
                });
            }
        });
        assert_eq!(state.volumes.names().unwrap().len(), 21);
    });
}
