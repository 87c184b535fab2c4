//! Creating, finding, listing and removing.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, SystemTime};

use coracle_host::Kind;
use coracle_testhost::run;
use coracle_volume::VolumeSpec;

use crate::State;

#[test]
fn create_find_list_remove() {
    run(|host| {
        let state = State::open(host.dir());
        let volumes = &state.volumes;
        assert!(volumes.find("db").unwrap().is_none());
        let spec = VolumeSpec::new("db").label("app", "shop").label("tier", "1");
        let made = volumes.create(&spec).unwrap();
        assert!(made.created() > SystemTime::now() - Duration::from_secs(60));
        assert_eq!(made.path(), host.dir().join("state/volumes/db/data"));
        std::fs::write(made.path().join("f"), "kept").unwrap();

        let error = volumes.create(&spec).unwrap_err();
        assert_eq!(error.kind(), Kind::AlreadyExists);
        assert_eq!(error.to_string(), "create volume `db`: there is one of that name");
        let again = volumes.open(&VolumeSpec::new("db").label("app", "other")).unwrap();
        assert_eq!(again.labels()["app"], "shop", "what is there stays as it is");
        assert_eq!(again.created(), made.created());
        assert_eq!(std::fs::read(again.path().join("f")).unwrap(), b"kept");

        let anonymous = volumes.open(&VolumeSpec::anonymous()).unwrap();
        assert!(anonymous.is_anonymous() && !made.is_anonymous());
        assert_eq!(anonymous.name().len(), 64);
        assert!(anonymous.name().bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_ne!(volumes.open(&VolumeSpec::anonymous()).unwrap().name(), anonymous.name());

        let listed: Vec<_> = volumes.list().unwrap().into_iter().map(Result::unwrap).collect();
        assert_eq!(listed.len(), 3);
        assert!(listed.iter().any(|volume| volume.name() == "db" && volume.labels().len() == 2));
        for volume in listed {
            volumes.remove(volume.name()).unwrap();
        }
        assert!(volumes.names().unwrap().is_empty());
        let error = volumes.remove("db").unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
        assert_eq!(error.to_string(), "remove volume `db`: there is none of that name");
        assert_eq!(volumes.find("../tmp").unwrap_err().kind(), Kind::Invalid);
        assert_eq!(volumes.remove("../tmp").unwrap_err().kind(), Kind::Invalid);
    });
}

#[test]
fn data_may_be_written_by_its_owner_whatever_the_umask() {
    run(|host| {
        let state = State::open(host.dir());
        // In a process of its own the umask would be inherited by nobody; this one puts it back.
        let old = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        let volume = state.volumes.create(&VolumeSpec::new("db")).unwrap();
        rustix::process::umask(old);
        let mode = std::fs::metadata(volume.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o755);
        assert_eq!(std::fs::metadata(volume.path()).unwrap().uid(), 0);
    });
}

#[test]
fn a_broken_record_is_named_and_hides_nothing() {
    run(|host| {
        let state = State::open(host.dir());
        for name in ["good", "empty", "stolen", "gone"] {
            state.volumes.create(&VolumeSpec::new(name)).unwrap();
        }
        let record = |name: &str| host.dir().join("state/volumes").join(name).join("record");
        std::fs::write(record("empty"), "").unwrap();
        std::fs::copy(record("good"), record("stolen")).unwrap();
        std::fs::remove_file(record("gone")).unwrap();
        let whys = [
            ("empty", "EOF while parsing a value at line 1 column 0"),
            ("stolen", "it is the record of `good`"),
            ("gone", "there is no such file"),
        ];
        for (name, why) in whys {
            let error = state.volumes.find(name).unwrap_err();
            assert_eq!(error.kind(), Kind::Corrupt);
            assert_eq!(error.to_string(), format!("volume `{name}`: {:?}: {why}", record(name)));
            assert_eq!(state.volumes.open(&VolumeSpec::new(name)).unwrap_err().kind(), Kind::Corrupt);
        }
        let listed = state.volumes.list().unwrap();
        assert_eq!(listed.iter().filter(|volume| volume.is_ok()).count(), 1);
        assert_eq!(listed.len(), 4);
        for (name, _) in whys {
            state.volumes.remove(name).unwrap();
        }
        assert_eq!(state.volumes.names().unwrap(), ["good"]);
    });
}

#[test]
fn a_full_disk_leaves_nothing_half() {
    run(|host| {
        let disk = host.small_disk(256 << 10);
        let state = State::open(&disk);
        let kept = state.volumes.create(&VolumeSpec::new("kept")).unwrap();
        let fill = std::fs::write(kept.path().join("fill"), vec![1; 1 << 20]).unwrap_err();
        assert_eq!(fill.kind(), std::io::ErrorKind::StorageFull);

        let error = state.volumes.create(&VolumeSpec::new("more")).unwrap_err();
        assert_eq!(error.kind(), Kind::Exhausted, "{error}");
        let text = error.to_string();
        assert!(text.starts_with("create volume `more`: write(\""), "{text}");
        assert!(text.ends_with("/record\"): No space left on device (os error 28)"), "{text}");
        assert_eq!(state.volumes.names().unwrap(), ["kept"]);
        let error = kept.lend("container db").unwrap_err();
        assert_eq!(error.kind(), Kind::Exhausted, "{error}");
        assert!(kept.users().unwrap().is_empty());

        state.volumes.remove("kept").unwrap();
        state.volumes.create(&VolumeSpec::new("more")).unwrap();
    });
}
