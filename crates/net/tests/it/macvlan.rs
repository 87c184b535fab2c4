//! Containers on the host's own network, by hardware addresses of their own.

use std::net::Ipv4Addr;

use coracle_host::Namespace;
use coracle_net::{Endpoint, Kind, Mac, Network, NetworkSpec};
use coracle_testhost::{Role, run, run_with};

use crate::support::{
    self, HOST, OUTSIDE, Outside, echo, has_link, join, listen, netns, networks, our_links, refused,
};

/// On the LAN behind `wan`, whose router is the outside.
fn lan(parent: &str) -> NetworkSpec {
    let spec = NetworkSpec::new("lan").driver("macvlan").option("parent", parent).subnet("192.0.2.0/24");
    spec.gateway(OUTSIDE).reserve("host", HOST)
}

fn on(network: &Network, name: &str) -> (Namespace, Endpoint) {
    let netns = netns();
    let endpoint = network.join(&join(&netns, name)).unwrap();
    (netns, endpoint)
}

fn here() -> Namespace {
    Namespace::current_net().unwrap()
}

/// The hardware address by which an IPv4 address was seen in a namespace.
fn seen(from: &Namespace, address: Ipv4Addr) -> String {
    let table = from.within(|| std::fs::read_to_string("/proc/thread-self/net/arp").unwrap()).unwrap();
    let line = table.lines().find(|line| line.split_whitespace().next() == Some(&address.to_string()));
    line.and_then(|line| line.split_whitespace().nth(3)).unwrap_or_default().to_owned()
}

#[test]
fn on_the_wire_by_its_own_hardware_address() {
    run(|host| {
        let outside = Outside::new();
        let before = support::picture();
        let lan = networks(host.dir()).create(&lan("wan")).unwrap();
        let ((boat, at_boat), (mate, at_mate)) = (on(&lan, "boat"), on(&lan, "mate"));
        assert_eq!((at_boat.address(), at_boat.gateway()), (Ipv4Addr::new(192, 0, 2, 3), OUTSIDE));
        let (boats, outsiders) = (listen(&boat, at_boat.address()), listen(&outside.0, OUTSIDE));
        assert_eq!(echo(&outside.0, &boats), OUTSIDE, "nobody translates");
        assert_eq!(seen(&outside.0, at_boat.address()), at_boat.mac().to_string());
        assert_eq!(echo(&boat, &outsiders), at_boat.address());
        assert_eq!(echo(&mate, &boats), at_mate.address(), "in bridge mode they reach each other");
        // As the kernel has it: not from the interface below, nor to it.
        refused(&here(), at_boat.address());
        let _heres = listen(&here(), HOST);
        refused(&boat, HOST);
        assert_eq!(lan.attached().unwrap()[1].names, ["mate"]);
        assert!(our_links().is_empty(), "nothing on the host");
        at_mate.leave().unwrap();
        assert!(!mate.within(|| has_link("eth0")).unwrap());
        drop(at_boat);
        assert_eq!(support::picture(), before);
        assert!(!boat.within(|| has_link("eth0")).unwrap());
    });
}

#[test]
fn modes_keep_them_apart() {
    run(|host| {
        let outside = Outside::new();
        let networks = networks(host.dir());
        for mode in ["private", "vepa"] {
            let lan = networks.create(&lan("wan").option("macvlan_mode", mode)).unwrap();
            let ((boat, at_boat), (mate, at_mate)) = (on(&lan, "boat"), on(&lan, "mate"));
            let boats = listen(&boat, at_boat.address());
            refused(&mate, at_boat.address());
            assert_eq!(echo(&outside.0, &boats), OUTSIDE, "{mode}");
            drop((at_boat, at_mate));
            networks.remove("lan").unwrap();
        }
        let lan = networks.create(&lan("wan").option("macvlan_mode", "passthru")).unwrap();
        let (boat, at_boat) = on(&lan, "boat");
        let own = std::fs::read_to_string("/sys/class/net/wan/address").unwrap();
        assert_eq!(at_boat.mac(), own.trim().parse::<Mac>().unwrap(), "it is the interface");
        assert_eq!(echo(&outside.0, &listen(&boat, at_boat.address())), OUTSIDE);
        let error = lan.join(&join(&netns(), "mate")).unwrap_err();
        assert!(error.to_string().contains("newlink(eth0, macvlan)"), "{error}");
        drop(at_boat);
    });
}

#[test]
fn a_vlan_comes_and_goes_with_the_network() {
    run(|host| {
        if !support::has_vlans("macvlan::a_vlan_comes_and_goes_with_the_network") {
            return;
        }
        let outside = Outside::new();
        outside
            .0
            .within(|| {
                support::add_vlan("wan.10", "wan", 10);
                support::add_address("wan.10", Ipv4Addr::new(10, 9, 0, 1), 24);
            })
            .unwrap();
        let spec = || {
            let spec = NetworkSpec::new("lan").driver("macvlan").option("parent", "wan.10");
            spec.subnet("10.9.0.0/24").option("com.docker.network.driver.mtu", "1300")
        };
        let networks = networks(host.dir());
        let lan = networks.create(&spec()).unwrap();
        assert!(!has_link("wan.10"), "nothing is there before somebody joins");
        let (boat, at_boat) = on(&lan, "boat");
        let (mate, at_mate) = on(&lan, "mate");
        assert!(has_link("wan.10"));
        let neighbour = Ipv4Addr::new(10, 9, 0, 1);
        assert_eq!(echo(&outside.0, &listen(&boat, at_boat.address())), neighbour);
        assert_eq!(echo(&mate, &listen(&outside.0, neighbour)), at_mate.address());
        drop(at_mate);
        assert!(has_link("wan.10"), "somebody is still on it");
        drop(at_boat);
        assert!(!has_link("wan.10"));
        // One that somebody else made stays as it is.
        support::add_vlan("wan.10", "wan", 10);
        drop(on(&lan, "boat").1);
        assert!(has_link("wan.10"));
        assert_eq!(networks.reclaim().unwrap(), 0);
        networks.remove("lan").unwrap();
        assert!(has_link("wan.10"));
    });
}

fn owner(role: &mut Role) {
    let spec = NetworkSpec::new("lan").driver("macvlan").option("parent", "wan.10").subnet("10.9.0.0/24");
    let netns = netns();
    let _endpoint = networks(role.dir()).open(&spec).unwrap().join(&join(&netns, "captain")).unwrap();
    role.say("aboard");
    role.hear();
}

#[test]
fn a_killed_owners_vlan_is_reclaimed() {
    run_with(&[("owner", owner)], |host| {
        if !support::has_vlans("macvlan::a_killed_owners_vlan_is_reclaimed") {
            return;
        }
        let outside = Outside::new();
        let mut owner = host.play("owner");
        assert_eq!(owner.hear().as_deref(), Some("aboard"));
        assert!(has_link("wan.10"));
        assert_eq!(networks(host.dir()).reclaim().unwrap(), 0, "it is in use");
        owner.kill();
        assert_eq!(networks(host.dir()).reclaim().unwrap(), 1);
        assert!(!has_link("wan.10"));
        assert_eq!(networks(host.dir()).reclaim().unwrap(), 0);
        drop(outside);
    });
}

fn sailor(role: &mut Role) {
    let netns = netns();
    let networks = networks(role.dir());
    role.hear();
    networks.open(&lan("wan")).unwrap().join(&join(&netns, "sailor")).unwrap().leave().unwrap();
    networks.remove("lan").unwrap();
}

#[test]
fn killed_at_any_system_call() {
    run_with(&[("sailor", sailor)], |host| {
        let outside = Outside::new();
        let before = support::picture();
        let networks = networks(host.dir());
        let mut calls = 0;
        while host.play("sailor").kill_after(calls, "go") {
            networks.reclaim().unwrap_or_else(|error| panic!("after {calls} calls: {error}"));
            assert_eq!(support::picture(), before, "after {calls} calls");
            if let Some(lan) = networks.find("lan").unwrap() {
                assert_eq!(lan.attached().unwrap(), []);
                networks.remove("lan").unwrap_or_else(|error| panic!("after {calls} calls: {error}"));
            }
            calls += 3;
        }
        assert!(calls > 50, "{calls} calls are too few to be a join");
        drop(outside);
    });
}

#[test]
fn what_it_can_not_do_is_said() {
    run(|host| {
        let _outside = Outside::new();
        let networks = networks(host.dir());
        let lan = networks.create(&lan("wan")).unwrap();
        let bare = || NetworkSpec::new("x").driver("macvlan").subnet("10.9.0.0/24");
        for (spec, kind, words) in [
            (bare(), Kind::Invalid, "needs option parent"),
            (
                bare().option("parent", "wan").option("macvlan_mode", "source"),
                Kind::Invalid,
                "macvlan_mode=source",
            ),
            (bare().option("parent", "eth0").option("colour", "blue"), Kind::Invalid, "no such option"),
            (bare().option("parent", "wan"), Kind::InUse, "parent wan is that of network `lan`"),
            (bare().driver("overlay"), Kind::Invalid, "driver `overlay` is unknown here"),
        ] {
            let error = networks.create(&spec).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
        let boat = netns();
        let error = lan.join(&join(&boat, "x").publish(coracle_net::ports::Publish::tcp(80))).unwrap_err();
        assert!(error.to_string().contains("driver `macvlan` publish no ports"), "{error}");
        let gone = networks.create(&bare().option("parent", "wan9")).unwrap();
        let error = gone.join(&join(&boat, "x")).unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound, "{error}");
        let error = networks.create(&NetworkSpec::new("y").option("parent", "wan")).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid, "{error}");
    });
}
