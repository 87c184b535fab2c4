//! Who gets which address, and who reaches whom.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;

use coracle_net::{Join, Kind, NetworkSpec};
use coracle_testhost::{Role, run, run_with};

use crate::support::{connect, echo, join, listen, netns, networks, our_links};

#[test]
fn two_on_one_bridge() {
    run(|host| {
        let networks = networks(host.dir());
        let network = networks.create(&NetworkSpec::new("sea").subnet("10.1.0.0/24")).unwrap();
        assert!(our_links().is_empty(), "nothing is there before somebody joins");
        let (one, two) = (netns(), netns());
        let (at_one, at_two) =
            (network.join(&join(&one, "one")).unwrap(), network.join(&join(&two, "two")).unwrap());
        assert_eq!(
            (at_one.address(), at_two.address()),
            (Ipv4Addr::new(10, 1, 0, 2), Ipv4Addr::new(10, 1, 0, 3))
        );
        assert_eq!(at_one.mac().to_string(), "02:42:0a:01:00:02");
        assert_eq!(our_links().len(), 3);
        assert_eq!(echo(&one, &listen(&two, at_two.address())), at_one.address());
        // Also from the host, and to the host.
        let seen = echo(&coracle_host::Namespace::current_net().unwrap(), &listen(&two, at_two.address()));
        assert_eq!(seen, network.gateway());
        let names: Vec<_> =
            network.attached().unwrap().into_iter().map(|at| (at.address, at.container)).collect();
        assert_eq!(names, [(at_one.address(), "one".into()), (at_two.address(), "two".into())]);
        at_one.leave().unwrap();
        assert_eq!(our_links().len(), 2);
        assert!(connect(&one, at_two.address()).is_err());
        drop(at_two);
        assert!(our_links().is_empty(), "the last one out takes the bridge along");
    });
}

/// The kernel brings links up on a work queue. A join that didn't wait for it lost the first packet now and then,
/// and with it a second.
#[test]
fn the_first_packet_arrives() {
    run(|host| {
        let sea = networks(host.dir()).create(&NetworkSpec::new("sea")).unwrap();
        let here = coracle_host::Namespace::current_net().unwrap();
        for at in 0..40 {
            let boat = netns();
            let endpoint = sea.join(&join(&boat, "boat")).unwrap();
            let (from, to) = if at % 2 == 0 { (&here, &boat) } else { (&boat, &here) };
            let address = if at % 2 == 0 { endpoint.address() } else { sea.gateway() };
            let listener = listen(to, address);
            connect(from, address).unwrap_or_else(|error| panic!("at {at}: {error}"));
            drop((listener, endpoint));
        }
    });
}

#[test]
fn a_place_can_be_asked_for() {
    run(|host| {
        let networks = networks(host.dir());
        let network = networks.create(&NetworkSpec::new("sea").subnet("10.1.0.0/29").mtu(1280)).unwrap();
        let (one, two) = (netns(), netns());
        let wanted = Ipv4Addr::new(10, 1, 0, 5);
        let at_one = network.join(&join(&one, "one").address(wanted).interface("deck")).unwrap();
        let inside = || {
            let links = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
            let routes = std::fs::read_to_string("/proc/thread-self/net/route").unwrap();
            (links, routes)
        };
        let (links, routes) = one.within(inside).unwrap();
        assert!(links.contains("deck:") && !links.contains("eth0:"), "{links}");
        // Default by 10.1.0.1, in the byte order of the file.
        assert!(routes.lines().any(|line| line.starts_with("deck\t00000000\t0100010A\t")), "{routes}");
        let error = network.join(&join(&two, "two").address(wanted)).unwrap_err();
        assert_eq!(error.to_string(), "join network `sea`: address 10.1.0.5 is in use by one");
        assert_eq!(error.kind(), Kind::InUse);
        let error = network.join(&join(&one, "again").interface("deck")).unwrap_err();
        assert_eq!(error.kind(), Kind::AlreadyExists, "{error}");
        assert!(error.to_string().contains("newlink(corv"), "{error}");
        let error = network.join(&Join::new(two.as_fd(), "x").names(["a b"]).interface("a/b")).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(
            error.to_string().contains("\"a b\" must match")
                && error.to_string().contains("\"a/b\" is no name")
        );
        let error = networks.remove("sea").unwrap_err();
        assert_eq!(error.to_string(), "remove network `sea`: it is in use by one at 10.1.0.5");
        at_one.leave().unwrap();
        networks.remove("sea").unwrap();
        assert_eq!(networks.remove("sea").unwrap_err().kind(), Kind::NotFound);
        assert_eq!(network.join(&join(&one, "one")).unwrap_err().kind(), Kind::NotFound);
    });
}

#[test]
fn a_full_network_says_so() {
    run(|host| {
        let networks = networks(host.dir());
        let network = networks.create(&NetworkSpec::new("tub").subnet("10.1.0.0/30")).unwrap();
        let (one, two) = (netns(), netns());
        let _at_one = network.join(&join(&one, "one")).unwrap();
        let error = network.join(&join(&two, "two")).unwrap_err();
        assert_eq!(error.to_string(), "join network `tub`: all 1 addresses of 10.1.0.0/30 are leased");
        assert_eq!(error.kind(), Kind::Exhausted);
    });
}

#[test]
fn networks_are_made_found_listed_and_told_apart() {
    run(|host| {
        let networks = networks(host.dir());
        let sea = networks.create(&NetworkSpec::new("sea").label("depth", "11 km")).unwrap();
        let error = networks.create(&NetworkSpec::new("sea")).unwrap_err();
        assert_eq!(error.to_string(), "create network `sea`: there is a network of that name");
        assert_eq!(error.kind(), Kind::AlreadyExists);
        let again = networks.open(&NetworkSpec::new("sea")).unwrap();
        assert_eq!((again.id(), again.labels()["depth"].as_str()), (sea.id(), "11 km"));
        let lake = networks.open(&NetworkSpec::new("lake").internal(true)).unwrap();
        assert!(!lake.subnet().overlaps(&sea.subnet()));
        assert_eq!(lake.gateway(), lake.subnet().hosts().next().unwrap());
        let overlapping = NetworkSpec::new("bay").subnet(sea.subnet().to_string().replace("/24", "/25"));
        let error = networks.create(&overlapping).unwrap_err();
        assert_eq!(error.kind(), Kind::InUse);
        assert!(error.to_string().contains("overlaps that of network `sea`"), "{error}");
        let all: Vec<String> = networks.list().unwrap().iter().map(|network| network.name().into()).collect();
        assert_eq!(all, ["lake", "sea"]);
        assert!(networks.find("pond").unwrap().is_none() && networks.find("../sea").unwrap().is_none());
        // Another state directory doesn't know of this network, but of its bridge.
        let boat = netns();
        let _at = sea.join(&join(&boat, "boat")).unwrap();
        let other = crate::support::networks(&host.dir().join("other"));
        let error = other.create(&NetworkSpec::new("same").subnet(sea.subnet().to_string())).unwrap_err();
        assert!(error.to_string().contains("which this host is in"), "{error}");
    });
}

/// The record is synced under its final name, so a power cut may leave one that is empty.
#[test]
fn a_network_that_a_power_cut_left_unwritten_is_none() {
    run(|host| {
        let networks = networks(host.dir());
        let first = networks.create(&NetworkSpec::new("sea").subnet("10.1.0.0/24")).unwrap();
        std::fs::write(host.dir().join("state/networks/sea/record"), "").unwrap();
        assert!(networks.find("sea").unwrap().is_none());
        assert!(networks.list().unwrap().is_empty());
        assert_eq!(networks.remove("sea").unwrap_err().kind(), Kind::NotFound);
        let again = networks.create(&NetworkSpec::new("sea").subnet("10.1.0.0/24")).unwrap();
        assert_ne!(again.id(), first.id());
        networks.remove("sea").unwrap();
    });
}

#[test]
fn a_subnet_that_another_state_brought_up_meanwhile_is_refused() {
    run(|host| {
        let (mine, theirs) = (networks(&host.dir().join("a")), networks(&host.dir().join("b")));
        let spec = NetworkSpec::new("sea").subnet("10.1.0.0/24");
        let (mine, theirs) = (mine.create(&spec).unwrap(), theirs.create(&spec).unwrap());
        let (one, two) = (netns(), netns());
        let _at = theirs.join(&join(&one, "one")).unwrap();
        let error = mine.join(&join(&two, "two")).unwrap_err();
        assert_eq!(error.kind(), Kind::InUse);
        assert!(error.to_string().contains("subnet 10.1.0.0/24 is in use: cor-"), "{error}");
        assert_eq!(our_links().len(), 2, "what the failed join began is undone");
    });
}

#[test]
fn many_threads_at_once() {
    run(|host| {
        let networks = networks(host.dir());
        let all: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..32)
                .map(|at| {
                    let networks = &networks;
                    scope.spawn(move || {
                        let network = networks.open(&NetworkSpec::new("port")).unwrap();
                        let netns = netns();
                        let endpoint = network.join(&join(&netns, &at.to_string())).unwrap();
                        (netns, endpoint)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let addresses: BTreeSet<_> = all.iter().map(|(_, endpoint)| endpoint.address()).collect();
        assert_eq!((addresses.len(), networks.list().unwrap().len()), (32, 1));
        let (first, _) = &all[0];
        let (last, at_last) = &all[31];
        echo(first, &listen(last, at_last.address()));
        std::thread::scope(|scope| {
            all.into_iter().for_each(|(_, at)| drop(scope.spawn(|| at.leave().unwrap())))
        });
    });
}

fn joiner(role: &mut Role) {
    let network = networks(role.dir()).open(&NetworkSpec::new("port")).unwrap();
    let netns = netns();
    role.say("ready");
    role.hear();
    let endpoint = network.join(&join(&netns, &std::process::id().to_string())).unwrap();
    role.say(&endpoint.address().to_string());
    role.hear();
    endpoint.leave().unwrap();
}

#[test]
fn many_processes_at_once() {
    run_with(&[("joiner", joiner)], |host| {
        let mut players: Vec<_> = (0..32).map(|_| host.play("joiner")).collect();
        players.iter_mut().for_each(|player| assert_eq!(player.hear().as_deref(), Some("ready")));
        players.iter_mut().for_each(|player| player.say("go"));
        let addresses: BTreeSet<_> =
            players.iter_mut().map(|player| player.hear().expect("an address")).collect();
        assert_eq!(addresses.len(), 32, "{addresses:?}");
        players.iter_mut().for_each(|player| player.say("go"));
        players.into_iter().for_each(|player| player.join());
        // The staging corners of ended processes are all that is left, and no business of this crate.
        assert_eq!(networks(host.dir()).list().unwrap()[0].attached().unwrap(), []);
    });
}
