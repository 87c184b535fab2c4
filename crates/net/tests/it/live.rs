//! While programs run: onto another network, off it again, and which networks there are.

use std::sync::Arc;

use coracle_net::dns::{Names, Responder, Server};
use coracle_net::{Filter, Kind, NetworkSpec};
use coracle_testhost::run;
use std::os::fd::AsFd;

use crate::support::{self, HOST, OUTSIDE, Outside, echo, join, listen, netns, networks, our_links, refused};

#[test]
fn onto_another_network_and_off_it_again() {
    run(|host| {
        let outside = Outside::new();
        let before = support::picture();
        let networks = networks(host.dir());
        let sea = networks.create(&NetworkSpec::new("sea").subnet("10.1.0.0/24")).unwrap();
        let lake = networks.create(&NetworkSpec::new("lake").subnet("10.2.0.0/24")).unwrap();
        let (boat, duck) = (netns(), netns());
        let at_boat = sea.join(&join(&boat, "boat")).unwrap();
        let at_duck = lake.join(&join(&duck, "duck")).unwrap();
        let mut server =
            Server::open(boat.as_fd(), Responder::new(vec![Arc::new(sea.zone())]), vec![]).unwrap();
        let ducks = listen(&duck, at_duck.address());
        refused(&boat, at_duck.address());
        let links = || std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
        for round in 0..2 {
            // Names of its own there, an interface of its own, the default route stays where it is.
            let second = join(&boat, "boat").names(["guest"]).interface("eth1").default_route(false);
            let visit = lake.join(&second).unwrap();
            let zones: Vec<Arc<dyn Names>> = vec![Arc::new(sea.zone()), Arc::new(lake.zone())];
            server.set_responder(Responder::new(zones));
            assert_eq!(visit.address().to_string(), "10.2.0.3", "round {round}");
            assert_eq!(lake.zone().addresses("guest").unwrap(), [visit.address()]);
            assert_eq!(echo(&boat, &ducks), visit.address());
            assert_eq!(echo(&boat, &listen(&outside.0, OUTSIDE)), HOST);
            assert!(boat.within(links).unwrap().contains("eth1:"));
            visit.leave().unwrap();
            server.set_responder(Responder::new(vec![Arc::new(sea.zone())]));
            assert!(lake.zone().addresses("guest").unwrap().is_empty());
            let left = boat.within(links).unwrap();
            assert!(left.contains("eth0:") && !left.contains("eth1:"), "{left}");
            refused(&boat, at_duck.address());
            assert_eq!(echo(&boat, &listen(&outside.0, OUTSIDE)), HOST);
        }
        assert_eq!(lake.attached().unwrap().len(), 1);
        drop((server, at_boat, at_duck));
        assert_eq!((support::picture(), our_links()), (before, vec![]));
        drop(outside);
    });
}

/// With a namespace that ends: off the network at once, the address free for the next, and no trace on the host.
#[test]
fn leaving_with_the_namespace() {
    run(|host| {
        let sea = networks(host.dir()).create(&NetworkSpec::new("sea").subnet("10.1.0.0/24")).unwrap();
        let (mate, at_mate) = {
            let netns = netns();
            let at = sea.join(&join(&netns, "mate")).unwrap();
            (netns, at)
        };
        for _ in 0..10 {
            let boat = netns();
            let at_boat = sea.join(&join(&boat, "boat")).unwrap();
            let (address, boats) = (at_boat.address(), listen(&boat, at_boat.address()));
            assert_eq!(echo(&mate, &boats), at_mate.address());
            at_boat.leave_behind().unwrap();
            // Links of namespaces that are ending are of no network any more.
            let links: Vec<_> = our_links().into_iter().filter(|link| !link.starts_with("corx")).collect();
            assert_eq!(links.len(), 2, "the bridge and the other's link: {links:?}");
            refused(&mate, address);
            // The next one has the address while the dead one's namespace is still there.
            let next = netns();
            let at_next = sea.join(&join(&next, "next")).unwrap();
            assert_eq!(at_next.address(), address);
            assert_eq!(echo(&mate, &listen(&next, address)), at_mate.address());
            drop(boat);
        }
        at_mate.leave_behind().unwrap();
        assert!(our_links().iter().all(|link| link.starts_with("corx")));
    });
}

#[test]
fn networks_are_selected_and_pruned() {
    run(|host| {
        let networks = networks(host.dir());
        let spec = |name: &str| NetworkSpec::new(name);
        let sea = networks.create(&spec("sea").label("team", "blue").label("deep", "")).unwrap();
        networks.create(&spec("lake").label("team", "red")).unwrap();
        networks.create(&spec("seaside")).unwrap();
        let boat = netns();
        let at_sea = sea.join(&join(&boat, "boat")).unwrap();
        let names = |conditions: &[&str]| {
            let filter = conditions.iter().try_fold(Filter::new(), |filter, text| filter.condition(text));
            let found = networks.select(&filter.unwrap()).unwrap();
            found.iter().map(|network| network.name().to_owned()).collect::<Vec<_>>().join(" ")
        };
        for (conditions, found) in [
            (&[][..], "lake sea seaside"),
            (&["name=sea"], "sea seaside"),
            (&["name=lake", "name=side"], "lake seaside"),
            (&["label=team"], "lake sea"),
            (&["label=team=blue", "label=deep"], "sea"),
            (&["label=team=blue", "label=team=red"], ""),
            (&["driver=bridge", "dangling=true"], "lake seaside"),
            (&["driver=macvlan"], ""),
            (&["dangling=false"], "sea"),
            (&["name=sea", "dangling=1"], "seaside"),
        ] {
            assert_eq!(names(conditions), found, "{conditions:?}");
        }
        assert_eq!(names(&[&format!("id={}", &sea.id()[..12])]), "sea");
        assert_eq!(networks.prune(|network| network.name() != "seaside").unwrap(), ["lake"]);
        assert_eq!(names(&[]), "sea seaside");
        at_sea.leave().unwrap();
        let hold = sea.hold().unwrap();
        assert_eq!(networks.prune(|_| true).unwrap(), ["seaside"]);
        drop(hold);
        assert_eq!(networks.prune(|_| true).unwrap(), ["sea"]);
        assert_eq!(sea.join(&join(&boat, "boat")).unwrap_err().kind(), Kind::NotFound);
        assert!(our_links().is_empty());
    });
}
