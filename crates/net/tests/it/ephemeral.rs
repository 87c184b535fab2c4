//! Networks that go with their owner.

use coracle_net::{Kind, NetworkSpec};
use coracle_testhost::{Host, Role, run, run_with};

use crate::support::{self, Outside, join, netns, networks, our_links};

/// What is in the directory of the networks, but for the lock.
fn left(host: &Host) -> Vec<String> {
    let entries = std::fs::read_dir(host.dir().join("state/networks")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != ".lock").collect()
}

#[test]
fn one_goes_with_its_value() {
    run(|host| {
        let (ours, others) = (networks(host.dir()), networks(host.dir()));
        let sea = ours.create_ephemeral(&NetworkSpec::new("sea").subnet("10.1.0.0/24")).unwrap();
        assert!(others.find("sea").unwrap().unwrap().is_ephemeral());
        let taken = others.create(&NetworkSpec::new("sea")).unwrap_err();
        assert_eq!(taken.kind(), Kind::AlreadyExists);
        let boat = netns();
        let at_boat = others.find("sea").unwrap().unwrap().join(&join(&boat, "boat")).unwrap();
        assert_eq!(sea.attached().unwrap().len(), 1);
        drop(sea);
        assert!(others.find("sea").unwrap().is_some(), "somebody is on it");
        at_boat.leave().unwrap();
        assert!(others.find("sea").unwrap().is_none());
        assert!(left(host).is_empty() && our_links().is_empty());
        // Its name and its subnet are free.
        let again = ours.create(&NetworkSpec::new("sea").subnet("10.1.0.0/24")).unwrap();
        assert!(!again.is_ephemeral());
        ours.remove("sea").unwrap();
        drop(ours.create_ephemeral(&NetworkSpec::new("sea")).unwrap());
        assert!(left(host).is_empty(), "at once, where nobody is on it");
    });
}

fn sailor(role: &mut Role) {
    let networks = networks(role.dir());
    let boat = netns();
    role.hear();
    let sea = networks.create_ephemeral(&NetworkSpec::new("sea").subnet("10.1.0.0/24")).unwrap();
    let _at_boat = sea.join(&join(&boat, "sailor")).unwrap();
    role.say("aboard");
    role.hear();
}

#[test]
fn one_goes_with_its_process() {
    run_with(&[("sailor", sailor)], |host| {
        let outside = Outside::new();
        let before = support::picture();
        let networks = networks(host.dir());
        let mut owner = host.play("sailor");
        owner.say("go");
        assert_eq!(owner.hear().as_deref(), Some("aboard"));
        assert!(networks.find("sea").unwrap().is_some());
        owner.kill();
        // Nobody sees it any more; what it had of the kernel goes with it.
        assert!(networks.list().unwrap().is_empty() && left(host).is_empty());
        let links: Vec<_> = our_links().into_iter().filter(|link| link.starts_with("cor-")).collect();
        assert!(links.is_empty(), "{links:?}");
        networks.reclaim().unwrap();
        assert_eq!((support::picture(), our_links()), (before, vec![]));
        drop(outside);
    });
}

fn passer(role: &mut Role) {
    let networks = networks(role.dir());
    role.hear();
    drop(networks.create_ephemeral(&NetworkSpec::new("sea").subnet("10.1.0.0/24")).unwrap());
}

/// Of joining there is another test.
#[test]
fn killed_at_any_system_call() {
    run_with(&[("passer", passer)], |host| {
        let networks = networks(host.dir());
        let mut calls = 0;
        while host.play("passer").kill_after(calls, "go") {
            networks.reclaim().unwrap_or_else(|error| panic!("after {calls} calls: {error}"));
            assert_eq!(left(host), [""; 0], "after {calls} calls");
            calls += 1;
        }
        assert!(calls > 80, "{calls} calls are too few");
    });
}
