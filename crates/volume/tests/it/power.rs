//! The power fails: at every moment of every act, with all that was not synced lost or kept in any mixture. What was
//! reported done is there afterwards, and nothing is half.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use coracle_host::{Dir, Kind};
use coracle_testhost::{Disk, Host, Role, power_cuts, run_with};
use coracle_volume::{Terms, Volume, VolumeSpec};

use crate::{Dice, State, below};

/// Plays an act on the state that is there, and says when it is done.
fn act(role: &mut Role, act: impl FnOnce(&State)) {
    let state = State::open(role.dir());
    role.say("ready");
    role.hear();
    act(&state);
    role.say("done");
}

fn creates(role: &mut Role) {
    act(role, |state| drop(state.volumes.create(&VolumeSpec::new("db").label("a", "b")).unwrap()));
}

fn creates_one_that_may_go(role: &mut Role) {
    act(role, |state| drop(state.volumes.create_for("me", &VolumeSpec::anonymous().volatile()).unwrap()));
}

fn imports(role: &mut Role) {
    act(role, |state| {
        let filled = state.volumes.create_filled(&VolumeSpec::new("db"), |dir| {
            plant(dir.path());
            Ok(())
        });
        filled.unwrap();
    });
}

fn seeds(role: &mut Role) {
    let image = Dir::open(role.dir().join("image")).unwrap();
    act(role, |state| {
        let volume = state.volumes.find("db").unwrap().unwrap();
        // Reported done with the loan: what the borrower does with it is the borrower's.
        std::mem::forget(volume.lend_on("test", &Terms::new().seed(&image)).unwrap());
    });
}

fn clones(role: &mut Role) {
    act(role, |state| drop(state.volumes.clone_volume("db", &VolumeSpec::new("copy")).unwrap()));
}

fn snapshots(role: &mut Role) {
    act(role, |state| drop(state.volumes.snapshot("db", &VolumeSpec::new("copy")).unwrap()));
}

fn freezes(role: &mut Role) {
    act(role, |state| state.volumes.freeze("db").unwrap());
}

fn removes(role: &mut Role) {
    act(role, |state| state.volumes.remove("db").unwrap());
}

fn prunes(role: &mut Role) {
    act(role, |state| assert_eq!(state.volumes.prune(true, &[], |_| false).unwrap().removed, ["db"]));
}

const ROLES: [(&str, coracle_testhost::Part); 9] = [
    ("creates", creates),
    ("creates_one_that_may_go", creates_one_that_may_go),
    ("imports", imports),
    ("seeds", seeds),
    ("clones", clones),
    ("snapshots", snapshots),
    ("freezes", freezes),
    ("removes", removes),
    ("prunes", prunes),
];

/// A small tree of everything that the model knows.
fn plant(place: &Path) {
    fs::create_dir_all(place.join("a/deep")).unwrap();
    fs::write(place.join("row"), "1").unwrap();
    fs::write(place.join("a/deep/row"), vec![7; 5000]).unwrap();
    fs::write(place.join("a/empty"), "").unwrap();
    std::os::unix::fs::symlink("../row", place.join("a/link")).unwrap();
    fs::hard_link(place.join("row"), place.join("a/also")).unwrap();
}

fn content(place: &Path) -> BTreeMap<String, Vec<u8>> {
    fn add(top: &Path, place: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(place).unwrap().map(|entry| entry.unwrap()) {
            let path = entry.path();
            let kind = entry.file_type().unwrap();
            let what = match kind.is_file() {
                true => fs::read(&path).unwrap(),
                false if kind.is_symlink() => {
                    fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
                }
                false => b"directory".to_vec(),
            };
            found.insert(path.strip_prefix(top).unwrap().to_str().unwrap().to_owned(), what);
            if kind.is_dir() {
                add(top, &path, found);
            }
        }
    }
    let mut found = BTreeMap::new();
    add(place, place, &mut found);
    found
}

/// Plays `role` once and looks with `after` at everything that a power cut can leave of it; `true`: it was reported done.
/// How many it were before and after that.
fn at_every_cut(host: &Host, role: &str, mut after: impl FnMut(&State, bool)) -> (usize, usize) {
    let mut player = host.play(role);
    assert_eq!(player.hear().as_deref(), Some("ready"));
    let before = Disk::of(host.dir());
    let steps = player.record(host.dir(), "go");
    let mut dice = Dice::new(Dice::seed());
    let cuts = power_cuts(&before, &steps, |end| dice.below(end));
    let after_reboot = std::env::temp_dir().join("after-reboot");
    let mut count = (0, 0);
    for (disk, done) in cuts {
        *(if done { &mut count.1 } else { &mut count.0 }) += 1;
        disk.lay(&after_reboot);
        let state = State::open(&after_reboot);
        state.reclaim();
        assert!(state.volumes.reclaim(|_| false).unwrap().failed.is_empty());
        assert_eq!(state.corners(), 1);
        after(&state, done);
        drop(state);
        fs::remove_dir_all(&after_reboot).unwrap();
    }
    eprintln!("{role}: {} steps, {} disks before it was done and {} after", steps.len(), count.0, count.1);
    assert!(count.0 > 1 && count.1 > 0, "{count:?}");
    count
}

/// With a volume `db` of [`plant`]'s files.
fn planted(host: &Host) -> BTreeMap<String, Vec<u8>> {
    let state = State::open(host.dir());
    let volume = state.volumes.create(&VolumeSpec::new("db").label("a", "b")).unwrap();
    plant(&volume.path());
    content(&volume.path())
}

fn found(state: &State, name: &str) -> Option<Volume> {
    let all = state.volumes.list().unwrap();
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    state.volumes.find(name).unwrap()
}

#[test]
fn what_was_created_is_there() {
    run_with(&ROLES, |host| {
        at_every_cut(host, "creates", |state, done| match found(state, "db") {
            Some(volume) => {
                assert_eq!(volume.labels()["a"], "b");
                drop(volume.lend("test").unwrap());
                state.volumes.remove("db").unwrap();
            }
            None => assert!(!done),
        });
    });
}

#[test]
fn what_may_go_is_in_nobodys_way() {
    run_with(&ROLES, |host| {
        at_every_cut(host, "creates_one_that_may_go", |state, _| {
            let left = state.volumes.list().unwrap();
            for volume in left.into_iter().map(Result::unwrap) {
                assert_eq!(volume.owner().unwrap(), None, "its owner is dead");
            }
            state.volumes.prune(false, &[], |_| false).unwrap();
            assert!(state.volumes.names().unwrap().is_empty());
        });
    });
}

#[test]
fn what_was_imported_is_whole() {
    run_with(&ROLES, |host| {
        plant(&host.dir().join("image"));
        let whole = content(&host.dir().join("image"));
        at_every_cut(host, "imports", |state, done| match found(state, "db") {
            Some(volume) => assert_eq!(content(&volume.path()), whole),
            None => assert!(!done),
        });
    });
}

#[test]
fn what_was_seeded_is_whole() {
    run_with(&ROLES, |host| {
        plant(&host.dir().join("image"));
        let whole = content(&host.dir().join("image"));
        drop(State::open(host.dir()).volumes.create(&VolumeSpec::new("db")).unwrap());
        at_every_cut(host, "seeds", |state, done| {
            let volume = found(state, "db").unwrap();
            let content = content(&volume.path());
            assert!(content == whole || (content.is_empty() && !done), "{done}: {content:?}");
        });
    });
}

#[test]
fn what_was_copied_is_whole() {
    run_with(&ROLES, |host| {
        let whole = planted(host);
        for role in ["clones", "snapshots"] {
            at_every_cut(host, role, |state, done| {
                assert_eq!(content(&found(state, "db").unwrap().path()), whole);
                match found(state, "copy") {
                    Some(volume) => {
                        assert_eq!(content(&volume.path()), whole);
                        assert!(!done || role == "clones" || volume.is_frozen().unwrap());
                    }
                    None => assert!(!done),
                }
            });
            State::open(host.dir()).volumes.remove("copy").unwrap();
        }
    });
}

#[test]
fn what_was_cloned_of_a_frozen_one_is_whole() {
    run_with(&ROLES, |host| {
        let whole = planted(host);
        at_every_cut(host, "freezes", |state, done| {
            let volume = found(state, "db").unwrap();
            assert_eq!(content(&volume.path()), whole);
            assert!(volume.is_frozen().unwrap() || !done);
        });
        at_every_cut(host, "clones", |state, done| match found(state, "copy") {
            Some(volume) => {
                let loan = volume.lend("test").unwrap();
                assert_eq!(content(&below(&loan, ".")), whole);
                assert_eq!(state.volumes.remove("db").unwrap_err().kind(), Kind::InUse);
            }
            None => assert!(!done),
        });
    });
}

#[test]
fn what_was_removed_is_gone() {
    run_with(&ROLES, |host| {
        for role in ["removes", "prunes"] {
            let whole = planted(host);
            at_every_cut(host, role, |state, done| {
                if let Some(volume) = found(state, "db") {
                    assert!(!done, "it was reported gone");
                    assert_eq!(content(&volume.path()), whole, "nothing is missing");
                }
            });
        }
    });
}
