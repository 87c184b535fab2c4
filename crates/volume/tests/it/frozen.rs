//! Frozen volumes, and those that begin as one.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;

use coracle_host::Kind;
use coracle_testhost::{Role, run, run_with};
use coracle_volume::{Terms, Volume, VolumeSpec};

use crate::seed::{describe, plant};
use crate::{State, below};

/// What borrowers see of a volume.
fn seen(volume: &Volume) -> BTreeMap<String, String> {
    let loan = volume.lend_read_only("who looks").unwrap();
    describe(&below(&loan, "."))
}

fn golden(state: &State, host: &coracle_testhost::Host) -> Volume {
    let tree = plant(&host.dir().join("image"));
    let volume = state.volumes.create(&VolumeSpec::new("golden")).unwrap();
    drop(volume.lend_on("test", &Terms::new().seed(&tree)).unwrap());
    volume
}

#[test]
fn a_frozen_volume_stays_as_it_is() {
    run(|host| {
        let state = State::open(host.dir());
        let volume = golden(&state, host);
        let before = describe(&volume.path());
        let loan = volume.lend("a writer").unwrap();
        let error = state.volumes.freeze("golden").unwrap_err();
        assert_eq!(error.to_string(), "freeze volume `golden`: in use by a writer");
        drop(loan);
        state.volumes.freeze("golden").unwrap();
        state.volumes.freeze("golden").unwrap();
        assert!(volume.is_frozen().unwrap());
        let error = volume.lend("a writer").unwrap_err();
        assert_eq!(error.kind(), Kind::Denied);
        assert!(error.to_string().contains("it is frozen"), "{error}");
        let (one, other) = (volume.lend_read_only("a").unwrap(), volume.lend_read_only("b").unwrap());
        assert!(fs::write(below(&one, "new"), "x").is_err());
        drop((one, other));
        assert_eq!(describe(&volume.path()), before, "other tools see it as ever");
        assert_eq!(state.volumes.freeze("none").unwrap_err().kind(), Kind::NotFound);
        state.volumes.create(&VolumeSpec::new("memory").option("type", "tmpfs")).unwrap();
        assert_eq!(state.volumes.freeze("memory").unwrap_err().kind(), Kind::Unsupported);
    });
}

#[test]
fn clones_are_apart_from_each_other_and_from_their_base() {
    run(|host| {
        let state = State::open(host.dir());
        let volume = golden(&state, host);
        let whole = describe(&volume.path());
        state.volumes.freeze("golden").unwrap();
        let one = state.volumes.clone_volume("golden", &VolumeSpec::new("one")).unwrap();
        let two = state.volumes.create(&VolumeSpec::new("two").base("golden")).unwrap();
        assert_eq!((one.base(), two.base()), (Some("golden"), Some("golden")));
        assert_eq!((seen(&one), seen(&two)), (whole.clone(), whole.clone()));

        // What one writes and removes, nobody else sees.
        let loan = one.lend("a writer").unwrap();
        fs::write(below(&loan, "new"), "mine").unwrap();
        let mut removed = fs::read_dir(volume.path()).unwrap().map(|entry| entry.unwrap());
        let removed = removed.find(|entry| entry.file_type().unwrap().is_file()).unwrap().file_name();
        fs::remove_file(below(&loan, removed.to_str().unwrap())).unwrap();
        let error = one.lend("another").unwrap_err();
        assert_eq!(error.to_string(), "lend volume `one`: in use by a writer");
        drop(loan);
        let loan = one.lend("a writer").unwrap();
        assert_eq!(fs::read_to_string(below(&loan, "new")).unwrap(), "mine", "it is kept");
        assert!(!below(&loan, removed.to_str().unwrap()).exists());
        drop(loan);
        assert_eq!(describe(&volume.path()), whole);
        assert_eq!(seen(&two), whole);

        // A part of it, and what it is a copy of.
        let mine = one.lend_on("test", &Terms::new().subpath("new").read_only()).unwrap();
        assert_eq!(fs::read_to_string(format!("/proc/self/fd/{}", fd(&mine))).unwrap(), "mine");
        drop(mine);
        let copy = state.volumes.clone_volume("one", &VolumeSpec::new("copy")).unwrap();
        assert_eq!(copy.base(), None);
        assert_eq!(describe(&copy.path()), seen(&one), "a copy of an unfrozen clone is whole");

        // A clone that is frozen is a base, too.
        state.volumes.freeze("one").unwrap();
        let three = state.volumes.clone_volume("one", &VolumeSpec::new("three")).unwrap();
        assert_eq!(seen(&three), seen(&one));
        let ids = |volume: &Volume| {
            let stat = fs::metadata(below(&volume.lend_read_only("x").unwrap(), ".")).unwrap();
            (stat.uid(), stat.gid(), stat.mode(), stat.mtime())
        };
        assert_eq!(ids(&two), {
            let stat = fs::metadata(volume.path()).unwrap();
            (stat.uid(), stat.gid(), stat.mode(), stat.mtime())
        });

        // Nothing is removed from under another.
        let error = state.volumes.remove("golden").unwrap_err();
        assert_eq!(error.to_string(), "remove volume `golden`: in use by volume one, volume two");
        assert_eq!(error.kind(), Kind::InUse);
        state.volumes.remove("two").unwrap();
        assert_eq!(state.volumes.remove("one").unwrap_err().kind(), Kind::InUse);
        let pruned = state.volumes.prune(true, &[], |volume| volume.name() == "three").unwrap();
        assert_eq!(pruned.removed, ["copy"], "what the last one lies on stays");
        let pruned = state.volumes.prune(true, &[], |_| false).unwrap();
        assert_eq!(pruned.removed, ["golden", "one", "three"]);
    });
}

#[test]
fn only_the_frozen_are_bases() {
    run(|host| {
        let state = State::open(host.dir());
        let volume = golden(&state, host);
        let over = |base: &str| state.volumes.create(&VolumeSpec::new("new").base(base));
        assert_eq!(over("golden").unwrap_err().kind(), Kind::Unsupported);
        assert_eq!(over("none").unwrap_err().kind(), Kind::NotFound);
        assert_eq!(over("a/b").unwrap_err().kind(), Kind::Invalid);
        let snapshot = state.volumes.snapshot("golden", &VolumeSpec::new("snap")).unwrap();
        assert!(snapshot.is_frozen().unwrap() && !volume.is_frozen().unwrap());
        assert_eq!(describe(&snapshot.path()), describe(&volume.path()));
        fs::write(volume.path().join("later"), "").unwrap();
        assert!(!snapshot.path().join("later").exists());
        // So many over each other, and no more.
        let mut last = "snap".to_owned();
        let error = loop {
            let next = format!("n{}", state.volumes.names().unwrap().len());
            match state.volumes.clone_volume(&last, &VolumeSpec::new(&next)) {
                Ok(_) => state.volumes.freeze(&next).unwrap(),
                Err(error) => break error,
            }
            last = next;
        };
        assert_eq!(error.kind(), Kind::Exhausted, "{error}");
        let deepest = state.volumes.find(&last).unwrap().unwrap();
        assert_eq!(seen(&deepest), describe(&snapshot.path()));
        assert!(state.volumes.names().unwrap().len() > 60);
    });
}

fn cloner(role: &mut Role) {
    let state = State::open(role.dir());
    let me = role.hear().unwrap();
    role.say("ready");
    role.hear();
    for round in 0.. {
        let name = format!("{me}-{round}");
        match state.volumes.clone_volume("golden", &VolumeSpec::new(&name)) {
            Ok(volume) => {
                fs::write(below(&volume.lend(&me).unwrap(), "mine"), &name).unwrap();
                if round % 2 == 0 {
                    state.volumes.remove(&name).unwrap();
                }
            }
            Err(error) => assert_eq!(error.kind(), Kind::NotFound, "{error}"),
        }
    }
}

#[test]
fn a_base_outlives_its_clones_whoever_is_killed() {
    run_with(&[("cloner", cloner)], |host| {
        let state = State::open(host.dir());
        let volume = golden(&state, host);
        let whole = describe(&volume.path());
        state.volumes.freeze("golden").unwrap();
        state.volumes.clone_volume("golden", &VolumeSpec::new("anchor")).unwrap();
        for round in 0..4 {
            let mut players: Vec<_> = (0..4).map(|_| host.play("cloner")).collect();
            for (number, player) in players.iter_mut().enumerate() {
                player.say(&format!("r{round}p{number}"));
                assert_eq!(player.hear().as_deref(), Some("ready"));
            }
            players.iter_mut().for_each(|player| player.say("go"));
            while state.volumes.names().unwrap().len() < 12 * (round + 1) {
                if let Err(error) = state.volumes.remove("golden") {
                    assert_eq!(error.kind(), Kind::InUse, "{error}");
                } else {
                    panic!("the base went although clones stay");
                }
            }
            players.into_iter().for_each(coracle_testhost::Player::kill);
        }
        state.reclaim();
        for clone in state.volumes.list().unwrap() {
            let clone = clone.unwrap();
            if clone.name() == "golden" {
                continue;
            }
            assert!(clone.users().unwrap().is_empty());
            let loan = clone.lend("test").unwrap();
            // Killed between the two, it has nothing of its own yet.
            if let Ok(text) = fs::read_to_string(below(&loan, "mine")) {
                assert!(text.is_empty() || text == clone.name());
            }
            let _ = fs::remove_file(below(&loan, "mine"));
            drop(loan);
            assert_eq!(seen(&clone).len(), whole.len());
        }
        assert_eq!(state.volumes.prune(true, &[], |_| false).unwrap().failed.len(), 0);
        assert!(state.volumes.names().unwrap().is_empty());
    });
}

fn fd(loan: &coracle_volume::Loan) -> i32 {
    use std::os::fd::{AsFd, AsRawFd};
    loan.mount().as_fd().as_raw_fd()
}
