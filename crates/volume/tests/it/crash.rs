//! Death at every system call of every act.

use std::fs;

use coracle_host::{Dir, Kind};
use coracle_testhost::{Host, Role, run_with};
use coracle_volume::{Terms, VolumeSpec};

use crate::State;
use crate::seed::{describe, plant};

fn ready(role: &mut Role) -> State {
    let state = State::open(role.dir());
    role.say("ready");
    role.hear();
    state
}

fn creates(role: &mut Role) {
    let state = ready(role);
    state.volumes.create(&VolumeSpec::new("db").label("a", "b")).unwrap();
}

fn lends(role: &mut Role) {
    let state = ready(role);
    drop(state.volumes.find("db").unwrap().unwrap().lend("the dead").unwrap());
}

fn removes(role: &mut Role) {
    ready(role).volumes.remove("db").unwrap();
}

fn seeds(role: &mut Role) {
    let tree = Dir::open(role.dir().join("image")).unwrap();
    let state = ready(role);
    drop(state.volumes.find("db").unwrap().unwrap().lend_on("the dead", &Terms::new().seed(&tree)).unwrap());
}

fn clones(role: &mut Role) {
    ready(role).volumes.clone_volume("db", &VolumeSpec::new("copy")).unwrap();
}

fn prunes(role: &mut Role) {
    let pruned = ready(role).volumes.prune(true, &[], |_| false).unwrap();
    assert_eq!(pruned.removed, ["db"]);
}

fn freezes(role: &mut Role) {
    ready(role).volumes.freeze("db").unwrap();
}

const ROLES: [(&str, coracle_testhost::Part); 7] = [
    ("freezes", freezes),
    ("creates", creates),
    ("lends", lends),
    ("removes", removes),
    ("seeds", seeds),
    ("clones", clones),
    ("prunes", prunes),
];

/// Plays `role` again and again, killed one system call later each time, until it comes to its end. Before each
/// time `before`, after it `after`; with a fresh look at the state, as of the next program. How often it was killed.
fn at_every_call(host: &Host, role: &str, before: impl Fn(&State), mut after: impl FnMut(&State)) -> usize {
    for calls in 0.. {
        before(&State::open(host.dir()));
        let mut player = host.play(role);
        assert_eq!(player.hear().as_deref(), Some("ready"));
        let killed = player.kill_after(calls, "go");
        let state = State::open(host.dir());
        state.reclaim();
        assert_eq!(state.corners(), 1, "after {calls} calls");
        after(&state);
        if !killed {
            return calls;
        }
    }
    unreachable!("the role never ends")
}

#[test]
fn a_creation_is_whole_or_not() {
    run_with(&ROLES, |host| {
        let (mut none, mut whole) = (0, 0);
        let died = at_every_call(
            host,
            "creates",
            |_| (),
            |state| match state.volumes.find("db").unwrap() {
                Some(volume) => {
                    whole += 1;
                    assert_eq!(volume.labels()["a"], "b");
                    drop(volume.lend("test").unwrap());
                    state.volumes.remove("db").unwrap();
                }
                None => none += 1,
            },
        );
        assert!(died > 10 && none > 5 && whole > 1, "{died} deaths: {none} without, {whole} with");
    });
}

#[test]
fn a_loan_ends_with_its_owner() {
    run_with(&ROLES, |host| {
        let volume = State::open(host.dir()).volumes.create(&VolumeSpec::new("db")).unwrap();
        fs::write(volume.path().join("row"), "1").unwrap();
        drop(volume); // and with it our corner in `tmp/`
        let died = at_every_call(
            host,
            "lends",
            |_| (),
            |state| {
                let volume = state.volumes.find("db").unwrap().unwrap();
                assert!(volume.users().unwrap().is_empty());
                let loan = volume.lend("test").unwrap();
                assert_eq!(volume.users().unwrap(), ["test"]);
                let users = fs::read_dir(volume.path().with_file_name("users")).unwrap();
                assert_eq!(users.count(), 1, "the dead are swept out");
                drop(loan);
                assert_eq!(fs::read(volume.path().join("row")).unwrap(), b"1");
            },
        );
        assert!(died > 10, "{died}");
        State::open(host.dir()).volumes.remove("db").unwrap();
    });
}

#[test]
fn a_removal_is_whole_or_not() {
    run_with(&ROLES, |host| {
        let (mut there, mut gone) = (0, 0);
        let died = at_every_call(
            host,
            "removes",
            |state| {
                let volume = state.volumes.open(&VolumeSpec::new("db")).unwrap();
                fs::create_dir_all(volume.path().join("a/b")).unwrap();
                fs::write(volume.path().join("a/b/row"), "1").unwrap();
            },
            |state| match state.volumes.find("db").unwrap() {
                Some(volume) => {
                    there += 1;
                    assert_eq!(fs::read(volume.path().join("a/b/row")).unwrap(), b"1", "nothing is missing");
                }
                None => {
                    gone += 1;
                    assert_eq!(state.volumes.remove("db").unwrap_err().kind(), Kind::NotFound);
                }
            },
        );
        assert!(died > 10 && there > 5 && gone > 5, "{died} deaths: {there} there, {gone} gone");
    });
}

#[test]
fn a_seed_is_whole_or_not() {
    run_with(&ROLES, |host| {
        let tree = plant(&host.dir().join("image"));
        let whole = describe(tree.path());
        let (mut empty, mut full) = (0, 0);
        let died = at_every_call(
            host,
            "seeds",
            |state| drop(state.volumes.create(&VolumeSpec::new("db")).unwrap()),
            |state| {
                let volume = state.volumes.find("db").unwrap().unwrap();
                match fs::read_dir(volume.path()).unwrap().count() {
                    0 => empty += 1,
                    _ => {
                        full += 1;
                        assert_eq!(describe(&volume.path()), whole);
                    }
                }
                // The next one makes up for it.
                drop(volume.lend_on("test", &Terms::new().seed(&tree)).unwrap());
                assert_eq!(describe(&volume.path()), whole);
                state.volumes.remove("db").unwrap();
            },
        );
        assert!(died > 100 && empty > 50 && full > 5, "{died} deaths: {empty} empty, {full} full");
    });
}

#[test]
fn a_clone_is_whole_or_not() {
    run_with(&ROLES, |host| {
        let tree = plant(&host.dir().join("image"));
        let whole = describe(tree.path());
        let source = State::open(host.dir()).volumes.create(&VolumeSpec::new("db")).unwrap();
        drop(source.lend_on("test", &Terms::new().seed(&tree)).unwrap());
        drop(source);
        let (mut none, mut full) = (0, 0);
        let died = at_every_call(
            host,
            "clones",
            |_| (),
            |state| match state.volumes.find("copy").unwrap() {
                Some(volume) => {
                    full += 1;
                    assert_eq!(describe(&volume.path()), whole);
                    state.volumes.remove("copy").unwrap();
                }
                None => none += 1,
            },
        );
        assert!(died > 100 && none > 50 && full > 1, "{died} deaths: {none} without, {full} with");
    });
}

#[test]
fn a_prune_is_whole_or_not() {
    run_with(&ROLES, |host| {
        let (mut there, mut gone) = (0, 0);
        let died = at_every_call(
            host,
            "prunes",
            |state| {
                let volume = state.volumes.open(&VolumeSpec::new("db")).unwrap();
                fs::write(volume.path().join("row"), "1").unwrap();
            },
            |state| match state.volumes.find("db").unwrap() {
                Some(volume) => {
                    there += 1;
                    assert_eq!(fs::read(volume.path().join("row")).unwrap(), b"1", "nothing is missing");
                }
                None => gone += 1,
            },
        );
        assert!(died > 10 && there > 5 && gone > 3, "{died} deaths: {there} there, {gone} gone");
    });
}

#[test]
fn a_clone_of_a_frozen_one_is_whole_or_not() {
    run_with(&ROLES, |host| {
        let tree = plant(&host.dir().join("image"));
        let whole = describe(tree.path());
        let state = State::open(host.dir());
        let source = state.volumes.create(&VolumeSpec::new("db")).unwrap();
        drop(source.lend_on("test", &Terms::new().seed(&tree)).unwrap());
        state.volumes.freeze("db").unwrap();
        drop((source, state));
        let (mut none, mut full) = (0, 0);
        let died = at_every_call(
            host,
            "clones",
            |_| (),
            |state| match state.volumes.find("copy").unwrap() {
                Some(volume) => {
                    full += 1;
                    let loan = volume.lend("test").unwrap();
                    assert_eq!(describe(&crate::below(&loan, ".")), whole);
                    drop(loan);
                    state.volumes.remove("copy").unwrap();
                }
                None => none += 1,
            },
        );
        assert!(died > 20 && none > 10 && full > 1, "{died} deaths: {none} without, {full} with");
        State::open(host.dir()).volumes.remove("db").unwrap();
    });
}

#[test]
fn frozen_is_frozen_or_not() {
    run_with(&ROLES, |host| {
        let (mut thawed, mut frozen) = (0, 0);
        let died = at_every_call(
            host,
            "freezes",
            |state| drop(state.volumes.create(&VolumeSpec::new("db")).unwrap()),
            |state| {
                let volume = state.volumes.find("db").unwrap().unwrap();
                match volume.lend("a writer") {
                    Ok(_) => thawed += 1,
                    Err(error) => {
                        assert_eq!(error.kind(), Kind::Denied);
                        frozen += 1;
                    }
                }
                state.volumes.remove("db").unwrap();
            },
        );
        assert!(died > 10 && thawed > 5 && frozen > 1, "{died} deaths: {thawed} before, {frozen} after");
    });
}
