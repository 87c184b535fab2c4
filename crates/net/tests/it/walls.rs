//! What gets through and what doesn't.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use coracle_host::Namespace;
use coracle_net::{Endpoint, Network, NetworkSpec, Networks};
use coracle_testhost::run;

use crate::support::{self, HOST, OUTSIDE, Outside, echo, join, listen, netns, networks, refused, route};

/// A namespace on a network.
fn on(network: &Network, name: &str) -> (Namespace, Endpoint) {
    let netns = netns();
    let endpoint = network.join(&join(&netns, name)).unwrap();
    (netns, endpoint)
}

fn sea(networks: &Networks) -> Network {
    networks.open(&NetworkSpec::new("sea").subnet("10.1.0.0/24")).unwrap()
}

#[test]
fn networks_do_not_reach_each_other() {
    run(|host| {
        let networks = networks(host.dir());
        let lake = networks.create(&NetworkSpec::new("lake").subnet("10.2.0.0/24")).unwrap();
        let ((boat, at_boat), (duck, at_duck)) = (on(&sea(&networks), "boat"), on(&lake, "duck"));
        let (sail, at_sail) = on(&sea(&networks), "sail");
        let (boats, ducks) = (listen(&boat, at_boat.address()), listen(&duck, at_duck.address()));
        refused(&boat, at_duck.address());
        refused(&duck, at_boat.address());
        // Nothing but the wall kept them apart.
        echo(&sail, &boats);
        let here = Namespace::current_net().unwrap();
        echo(&here, &ducks);
        drop(at_sail);
    });
}

#[test]
fn the_way_out_is_by_the_hosts_address_and_nobody_comes_in() {
    run(|host| {
        let before_outside = support::picture();
        let outside = Outside::new();
        let before = support::picture();
        let (boat, at_boat) = on(&sea(&networks(host.dir())), "boat");
        let during = support::picture();
        assert!(
            during.contains("wan 1 ") && during.contains("all 0 "),
            "only two interfaces forward:\n{during}"
        );
        assert_eq!(echo(&boat, &listen(&outside.0, OUTSIDE)), HOST, "translated on the way out");
        // The MTU of the way out is the container's.
        let mtu = boat.within(|| fs::read_to_string("/sys/class/net/eth0/mtu"));
        drop(mtu); // sysfs shows the namespace that it was mounted in; the plan's test has the number.
        // A neighbour that routes to the container's address through the host.
        outside.0.within(|| route(Ipv4Addr::new(10, 1, 0, 0), 24, HOST)).unwrap();
        let boats = listen(&boat, at_boat.address());
        refused(&outside.0, at_boat.address());
        echo(&Namespace::current_net().unwrap(), &boats);
        drop((boats, at_boat));
        assert_eq!(support::picture(), before, "as it was");
        drop(outside);
        assert_eq!(support::picture(), before_outside);
    });
}

#[test]
fn an_internal_network_has_no_way_out() {
    run(|host| {
        let outside = Outside::new();
        let before = support::picture();
        let spec = NetworkSpec::new("pond").subnet("10.3.0.0/24").internal(true);
        let pond = networks(host.dir()).create(&spec).unwrap();
        let ((frog, at_frog), (newt, at_newt)) = (on(&pond, "frog"), on(&pond, "newt"));
        assert!(support::picture().contains("wan 0 "), "nothing is switched on for it");
        let outsiders = listen(&outside.0, OUTSIDE);
        assert_eq!(
            support::connect(&frog, OUTSIDE).unwrap_err().kind(),
            std::io::ErrorKind::NetworkUnreachable,
            "no route"
        );
        // An outsider who knows the way back.
        outside.0.within(|| route(Ipv4Addr::new(10, 3, 0, 0), 24, HOST)).unwrap();
        // One who makes himself a route gets no further, also on a host that is a router.
        frog.within(|| route(Ipv4Addr::UNSPECIFIED, 0, pond.gateway())).unwrap();
        refused(&frog, OUTSIDE);
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        refused(&frog, OUTSIDE);
        let frogs = listen(&frog, at_frog.address());
        refused(&outside.0, at_frog.address());
        echo(&newt, &frogs);
        fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        echo(&Namespace::current_net().unwrap(), &outsiders);
        drop((frogs, at_frog, at_newt));
        assert_eq!(support::picture(), before);
    });
}

#[test]
fn a_host_that_is_a_router_stays_as_it_is() {
    run(|host| {
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        let outside = Outside::new();
        let before = support::picture();
        let (boat, at_boat) = on(&sea(&networks(host.dir())), "boat");
        assert_eq!(echo(&boat, &listen(&outside.0, OUTSIDE)), HOST);
        drop(at_boat);
        assert_eq!(support::picture(), before);
    });
}

#[test]
fn no_spoofed_source_leaves() {
    run(|host| {
        let outside = Outside::new();
        let (boat, at_boat) = on(&sea(&networks(host.dir())), "boat");
        let heard = outside.0.within(|| UdpSocket::bind((OUTSIDE, 9))).unwrap().unwrap();
        boat.within(|| {
            // An address of its own making, on the loopback interface, which the kernel lets it send from.
            support::add_loopback_address(Ipv4Addr::new(198, 51, 100, 7));
            let liar = UdpSocket::bind("198.51.100.7:0").unwrap();
            liar.send_to(b"lie", (OUTSIDE, 9)).unwrap();
            UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"truth", (OUTSIDE, 9)).unwrap();
        })
        .unwrap();
        let mut word = [0; 16];
        let (length, from) = heard.recv_from(&mut word).unwrap();
        assert_eq!((&word[..length], from.ip()), (&b"truth"[..], SocketAddr::from((HOST, 0)).ip()));
        drop(at_boat);
    });
}

/// Docker drops what it doesn't know. One chain is there for others, and as it was when we are gone.
#[test]
fn beside_docker() {
    run(|host| {
        let nft = |arguments: &[&str]| {
            let out = std::process::Command::new("nft").args(arguments).output().unwrap();
            assert!(out.status.success(), "nft {arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
            String::from_utf8(out.stdout).unwrap()
        };
        if std::process::Command::new("nft").arg("--version").output().is_err() {
            return coracle_testhost::skip("walls::beside_docker", "nft(8) is not installed");
        }
        let outside = Outside::new();
        nft(&[
            "add table ip filter; add chain ip filter DOCKER-USER; add rule ip filter DOCKER-USER return; \
               add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }; \
               add rule ip filter FORWARD jump DOCKER-USER",
        ]);
        let before = nft(&["-a", "list", "ruleset"]);
        let sea = sea(&networks(host.dir()));
        let (boat, at_boat) = on(&sea, "boat");
        let (_mate, at_mate) = on(&sea, "mate");
        assert_eq!(echo(&boat, &listen(&outside.0, OUTSIDE)), HOST);
        let during = nft(&["list", "chain", "ip", "filter", "DOCKER-USER"]);
        assert_eq!(during.matches("accept comment \"coracle cor-").count(), 2, "{during}");
        // Nobody else's wall has fallen: ours stands.
        outside.0.within(|| route(Ipv4Addr::new(10, 1, 0, 0), 24, HOST)).unwrap();
        let boats = listen(&boat, at_boat.address());
        refused(&outside.0, at_boat.address());
        drop((boats, at_boat, at_mate));
        assert_eq!(nft(&["-a", "list", "ruleset"]), before);
        nft(&["delete table ip filter"]);
    });
}

#[test]
fn rules_that_somebody_flushed_come_back_with_the_next_join() {
    run(|host| {
        let outside = Outside::new();
        let sea = sea(&networks(host.dir()));
        let (boat, at_boat) = on(&sea, "boat");
        support::delete_our_table();
        let outsiders = listen(&outside.0, OUTSIDE);
        let plan = sea.plan(&join(&netns(), "sail")).unwrap();
        assert!(plan.to_string().starts_with(" 0 admit cor-"), "{plan}");
        let (sail, at_sail) = on(&sea, "sail");
        assert_eq!(echo(&boat, &outsiders), HOST);
        assert_eq!(echo(&sail, &outsiders), HOST);
        // Nothing more to do for a third.
        assert_eq!(sea.plan(&join(&netns(), "third")).unwrap().len(), 8);
        drop((at_boat, at_sail));
    });
}
