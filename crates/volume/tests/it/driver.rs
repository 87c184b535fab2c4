//! Volumes whose data others provide.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use coracle_host::{Dir, Error, Kind, Mount};
use coracle_testhost::run;
use coracle_volume::{Driver, Place, Terms, VolumeSpec, Volumes};

use crate::{State, below};

/// Directories elsewhere. It counts how many calls are under way at once for one volume: never more than one.
#[derive(Debug)]
struct Elsewhere {
    disk: PathBuf,
    shares: bool,
    under_way: AtomicUsize,
}

impl Elsewhere {
    fn at(disk: PathBuf, shares: bool) -> Arc<Elsewhere> {
        fs::create_dir_all(&disk).unwrap();
        Arc::new(Elsewhere { disk, shares, under_way: AtomicUsize::new(0) })
    }
}

impl Driver for Elsewhere {
    fn name(&self) -> &str {
        "elsewhere"
    }

    fn problems(&self, options: &BTreeMap<String, String>) -> Vec<String> {
        let unknown = options.keys().filter(|key| *key != "tier");
        unknown.map(|key| format!("option `{key}` is unknown")).collect()
    }

    fn mount(&self, volume: &Place<'_>) -> coracle_host::Result<Mount> {
        assert_eq!(self.under_way.fetch_add(1, Ordering::SeqCst), 0, "one at a time");
        fs::write(volume.dir().path_of("note"), volume.name()).unwrap();
        let dir = Dir::open(&self.disk)?.make(volume.name(), 0o755)?;
        if let Some(tier) = volume.options().get("tier") {
            fs::write(dir.path_of("tier"), tier).unwrap();
        }
        let mount = Mount::bind(&dir, true, volume.name());
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        mount
    }

    fn remove(&self, volume: &Place<'_>) -> coracle_host::Result<()> {
        if self.disk.join("stuck").exists() {
            return Err(Error::new(Kind::Denied, "the disk is stuck"));
        }
        match Dir::open(&self.disk)?.remove_tree(volume.name()) {
            Err(error) if error.kind() == Kind::NotFound => Ok(()),
            other => other,
        }
    }

    fn shares(&self) -> bool {
        self.shares
    }
}

fn with(state: &State, driver: Arc<Elsewhere>) -> Volumes {
    state.volumes.clone().with_driver(driver)
}

#[test]
fn data_comes_from_the_driver_and_goes_with_the_volume() {
    run(|host| {
        let state = State::open(host.dir());
        let disk = host.dir().join("disk");
        let volumes = with(&state, Elsewhere::at(disk.clone(), true));
        let spec = VolumeSpec::new("db").driver("elsewhere").label("a", "b");
        let volume = volumes.create(&spec.clone().option("tier", "fast")).unwrap();
        assert_eq!((volume.driver(), &*volume.options()["tier"]), ("elsewhere", "fast"));
        let one = volume.lend("one").unwrap();
        fs::write(below(&one, "row"), "1").unwrap();
        let two = volume.lend_on("two", &Terms::new().read_only()).unwrap();
        assert_eq!(fs::read(below(&two, "row")).unwrap(), b"1");
        assert!(fs::write(below(&two, "row"), "2").is_err(), "read-only");
        fs::create_dir(below(&one, "sub")).unwrap();
        fs::write(below(&one, "sub/row"), "2").unwrap();
        let part = volume.lend_on("three", &Terms::new().subpath("sub")).unwrap();
        assert_eq!(fs::read(below(&part, "row")).unwrap(), b"2");
        assert_eq!(fs::read(disk.join("db/tier")).unwrap(), b"fast");
        assert_eq!(volume.users().unwrap(), ["one", "three", "two"]);
        assert_eq!(volumes.remove("db").unwrap_err().kind(), Kind::InUse);
        drop((one, two, part));
        assert_eq!(
            volumes.clone_volume("db", &VolumeSpec::new("copy")).unwrap_err().kind(),
            Kind::Unsupported
        );

        // It is not removed while the driver can't.
        fs::write(disk.join("stuck"), "").unwrap();
        let error = volumes.remove("db").unwrap_err();
        assert_eq!(error.to_string(), "remove volume `db`: the disk is stuck");
        assert_eq!(fs::read(disk.join("db/row")).unwrap(), b"1");
        fs::remove_file(disk.join("stuck")).unwrap();
        volumes.remove("db").unwrap();
        assert!(!disk.join("db").exists());

        // One that nobody has ever borrowed, pruned.
        volumes.create(&spec).unwrap();
        assert_eq!(volumes.prune(true, &[], |_| false).unwrap().removed, ["db"]);

        let error = volumes.create(&spec.option("tear", "x")).unwrap_err();
        assert_eq!(error.to_string(), "volume \"db\": option `tear` is unknown");
        assert_eq!(error.kind(), Kind::Invalid);
    });
}

#[test]
fn who_lacks_a_driver_looks_and_does_not_touch() {
    run(|host| {
        let state = State::open(host.dir());
        let spec = VolumeSpec::new("db").driver("elsewhere").option("tier", "fast");
        let error = state.volumes.create(&spec).unwrap_err();
        assert_eq!(error.to_string(), "volume \"db\": driver `elsewhere`: there is only `local`");
        assert_eq!(error.kind(), Kind::Unsupported);
        with(&state, Elsewhere::at(host.dir().join("disk"), true)).create(&spec).unwrap();
        let found = state.volumes.find("db").unwrap().unwrap();
        assert_eq!((found.driver(), &*found.options()["tier"]), ("elsewhere", "fast"));
        for error in [found.lend("one").unwrap_err(), state.volumes.remove("db").unwrap_err()] {
            assert_eq!(error.kind(), Kind::Unsupported, "{error}");
        }
        let pruned = state.volumes.prune(true, &[], |_| false).unwrap();
        assert_eq!((pruned.removed.len(), pruned.failed.len()), (0, 1));
        assert!(found.users().unwrap().is_empty());
    });
}

#[test]
fn many_borrow_and_the_driver_is_asked_one_at_a_time() {
    run(|host| {
        let state = State::open(host.dir());
        let volumes = with(&state, Elsewhere::at(host.dir().join("disk"), true));
        let volume = volumes.create(&VolumeSpec::new("db").driver("elsewhere")).unwrap();
        std::thread::scope(|scope| {
            for number in 0..16 {
                let volume = &volume;
                scope.spawn(move || {
                    for _ in 0..10 {
                        let loan = volume.lend(&number.to_string()).unwrap();
                        fs::write(below(&loan, &number.to_string()), "x").unwrap();
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(host.dir().join("disk/db")).unwrap().count(), 16);
        let alone = with(&state, Elsewhere::at(host.dir().join("disk"), false));
        let volume = alone.find("db").unwrap().unwrap();
        let loan = volume.lend("one").unwrap();
        assert_eq!(volume.lend("two").unwrap_err().to_string(), "lend volume `db`: in use by one");
        drop(loan);
        volumes.remove("db").unwrap();
    });
}
