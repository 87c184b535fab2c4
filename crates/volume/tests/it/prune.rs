//! Owners, filters, usage and pruning.

use std::collections::HashSet;
use std::fs;
use std::sync::Mutex;

use coracle_host::Kind;
use coracle_testhost::{Role, run, run_with};
use coracle_volume::{Filter, Terms, Volume, VolumeSpec};

use crate::State;

#[test]
fn a_volume_goes_with_its_owner() {
    run(|host| {
        let state = State::open(host.dir());
        let volumes = &state.volumes;
        let make = |owner: &str| volumes.create_for(owner, &VolumeSpec::anonymous()).unwrap();
        let (one, two, two_too, three) = (make("one"), make("two"), make("two"), make("three"));
        volumes.create(&VolumeSpec::new("named")).unwrap();
        assert!(one.is_anonymous());
        assert_eq!(one.owner().unwrap().as_deref(), Some("one"));
        let error = volumes.create_for("one", &VolumeSpec::new("db")).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid, "{error}");

        // A container that is removed without its volumes leaves them.
        three.disown().unwrap();
        three.disown().unwrap();
        assert_eq!(three.owner().unwrap(), None);
        let loan = two.lend("container two").unwrap();
        let pruned = volumes.reclaim(|owner| owner == "one").unwrap();
        assert_eq!(pruned.removed, [two_too.name()], "one lives, two is used, three has no owner");
        drop(loan);
        assert_eq!(volumes.reclaim(|_| true).unwrap().removed, Vec::<String>::new());
        assert_eq!(volumes.remove_of("two").unwrap().removed, [two.name()]);
        assert_eq!(volumes.remove_of("two").unwrap().removed, Vec::<String>::new());
        let mut left = vec![one.name(), three.name(), "named"];
        left.sort_unstable();
        assert_eq!(volumes.names().unwrap(), left);
    });
}

#[test]
fn prune_says_what_and_how_much() {
    run(|host| {
        let state = State::open(host.dir());
        let volumes = &state.volumes;
        let make = |spec: VolumeSpec, bytes: usize| {
            let volume = volumes.create(&spec).unwrap();
            fs::create_dir(volume.path().join("d")).unwrap();
            fs::write(volume.path().join("d/f"), vec![1; bytes]).unwrap();
            fs::hard_link(volume.path().join("d/f"), volume.path().join("again")).unwrap();
            volume
        };
        let anonymous = make(VolumeSpec::anonymous(), 10_000);
        let usage = anonymous.usage().unwrap();
        assert_eq!((usage.bytes, usage.entries), (10_000, 3), "one file, whatever its names");
        assert!((10_000..40_000).contains(&usage.allotted), "{usage:?}");
        make(VolumeSpec::new("kept").label("keep", "yes"), 20);
        make(VolumeSpec::new("stopped"), 30);
        make(VolumeSpec::new("plain").label("tier", "1"), 40);
        make(VolumeSpec::new("used"), 50);
        make(VolumeSpec::new("broken"), 60);
        fs::write(host.dir().join("state/volumes/broken/record"), "{").unwrap();
        let loan = volumes.find("used").unwrap().unwrap().lend("container db").unwrap();

        let filters =
            |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Filter>>();
        let stopped = |volume: &Volume| volume.name() == "stopped";
        let listed = |texts: &[&str]| {
            let found = volumes.list_where(&filters(texts), stopped).unwrap();
            found.into_iter().flatten().map(|volume| volume.name().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(listed(&["dangling=false"]), ["stopped", "used"]);
        assert_eq!(listed(&["dangling=true", "name=k", "name=pl"]), ["kept", "plain"]);
        assert_eq!(listed(&["label=tier=1"]), ["plain"]);
        assert_eq!(listed(&["label=tier=2"]), Vec::<String>::new());
        assert_eq!(listed(&["label!=keep", "name=e"]).len(), 2 + usize::from(anonymous.name().contains('e')));
        assert_eq!(listed(&["driver=local"]).len(), 5);
        assert_eq!(listed(&["driver=nfs"]), Vec::<String>::new());
        assert_eq!(volumes.list_where(&[], stopped).unwrap().iter().filter(|one| one.is_err()).count(), 1);

        let pruned = volumes.prune(false, &[], stopped).unwrap();
        assert_eq!((&*pruned.removed, pruned.freed), (&[anonymous.name().to_owned()][..], 10_000));
        assert_eq!(pruned.failed[0].kind(), Kind::Corrupt);
        assert_eq!(pruned.failed.len(), 1);
        let pruned = volumes.prune(true, &filters(&["label!=keep"]), stopped).unwrap();
        assert_eq!((&*pruned.removed, pruned.freed), (&["plain".to_owned()][..], 40));
        assert_eq!(volumes.names().unwrap(), ["broken", "kept", "stopped", "used"]);
        drop(loan);
    });
}

/// Makes, borrows, writes, looks and gives back, while others prune.
fn user(role: &mut Role) {
    let state = State::open(role.dir());
    let me = role.hear().unwrap();
    role.say("ready");
    role.hear();
    for round in 0..60 {
        let name = format!("db{}", round % 3);
        let spec = VolumeSpec::new(&name);
        let (volume, loan) = state.volumes.open_and_lend(&spec, &me, &Terms::new()).unwrap();
        let row = crate::below(&loan, &format!("{me}-{round}"));
        fs::write(&row, &me).unwrap();
        let pruned = state.volumes.prune(true, &[], |_| false).unwrap();
        assert!(!pruned.removed.contains(&name), "{pruned:?}");
        assert!(pruned.failed.is_empty(), "{pruned:?}");
        assert_eq!(fs::read_to_string(&row).unwrap(), me);
        assert!(volume.path().join(row.file_name().unwrap()).exists(), "still the one of that name");
    }
}

#[test]
fn prune_never_takes_a_used_one() {
    run_with(&[("user", user)], |host| {
        let state = State::open(host.dir());
        let mut players: Vec<_> = (0..8).map(|_| host.play("user")).collect();
        for (number, player) in players.iter_mut().enumerate() {
            player.say(&format!("process {number}"));
            assert_eq!(player.hear().as_deref(), Some("ready"));
        }
        players.iter_mut().for_each(|player| player.say("go"));
        let removed = Mutex::new(HashSet::new());
        for player in players.drain(..2) {
            let pruned = state.volumes.prune(true, &[], |_| false).unwrap();
            removed.lock().unwrap().extend(pruned.removed);
            player.kill();
        }
        players.into_iter().for_each(coracle_testhost::Player::join);
        state.volumes.prune(true, &[], |_| false).unwrap();
        assert!(state.volumes.names().unwrap().is_empty(), "the dead keep none");
        state.reclaim();
        assert_eq!(state.corners(), 1);
    });
}
