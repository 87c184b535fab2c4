//! IPv6: every way a packet may take, and some that it must not.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use coracle_host::Namespace;
use coracle_net::dns::{Names, Responder, Server};
use coracle_net::{Kind, Network, NetworkSpec};
use coracle_testhost::run;

use crate::support::{self, Outside, join, netns, networks, our_links, route};
use crate::talk::{at, failure, here, serve_on, talk};

const HOST: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const OUTSIDE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

/// The neighbour behind `wan` has IPv6 beside IPv4, and is the default route of both.
fn outside() -> Outside {
    let outside = Outside::new();
    support::add_address("wan", HOST, 64);
    outside.0.within(|| support::add_address("wan", OUTSIDE, 64)).unwrap();
    route(Ipv6Addr::UNSPECIFIED, 0, OUTSIDE);
    outside
}

fn sea(dir: &std::path::Path) -> Network {
    networks(dir).open(&NetworkSpec::new("sea").subnet("10.1.0.0/24").subnet("fd00:1::/64")).unwrap()
}

fn serve(netns: &Namespace, port: u16) -> TcpListener {
    serve_on(netns, Ipv6Addr::UNSPECIFIED, port)
}

#[test]
fn from_name_to_answer() {
    run(|host| {
        let outside = outside();
        let before = support::picture();
        let sea = sea(host.dir());
        let ((boat, at_boat), (mate, at_mate)) = (at(&sea, "boat", &[]), at(&sea, "mate", &[]));
        assert_eq!(at_mate.addresses().len(), 2);
        assert_eq!(
            (at_mate.ipv6().unwrap().to_string(), at_mate.ipv6_prefix_len()),
            ("fd00:1::3".into(), Some(64))
        );
        assert_eq!(at_mate.ipv6_gateway().unwrap().to_string(), "fd00:1::1");
        assert_eq!(sea.zone().addresses("mate").unwrap(), at_mate.addresses());
        // Usable at once: the very first packets pass, by both families.
        let mates = serve(&mate, 7);
        assert_eq!(talk(&boat, (at_mate.ipv6().unwrap(), 7), &mates), at_boat.ipv6().unwrap());
        assert_eq!(
            talk(&here(), (at_mate.ipv6().unwrap(), 7), &mates),
            "fd00:1::1".parse::<IpAddr>().unwrap()
        );
        // Out by the host's address, and nobody comes in.
        let outsiders = outside.0.within(|| TcpListener::bind((OUTSIDE, 7))).unwrap().unwrap();
        assert_eq!(talk(&boat, (OUTSIDE, 7), &outsiders), HOST);
        outside.0.within(|| route("fd00:1::".parse::<Ipv6Addr>().unwrap(), 64, HOST)).unwrap();
        assert_eq!(failure(&outside.0, (at_mate.ipv6().unwrap(), 7)), ErrorKind::TimedOut);
        let attached = sea.attached().unwrap();
        assert_eq!(attached.iter().map(|one| one.ipv6).collect::<Vec<_>>(), [at_boat.ipv6(), at_mate.ipv6()]);
        drop((at_boat, at_mate));
        assert_eq!((support::picture(), our_links()), (before, vec![]));
        drop(outside);
    });
}

#[test]
fn a_published_port_is_reached_by_ipv6() {
    run(|host| {
        let outside = outside();
        let before = support::picture();
        let sea = sea(host.dir());
        let lake = networks(host.dir()).open(&NetworkSpec::new("lake").ipv6(true)).unwrap();
        assert!(lake.pools()[1].subnet.to_string().starts_with("fd"), "{:?}", lake.pools());
        let (boat, at_boat) = at(&sea, "boat", &["8080:80", "[2001:db8::1]:9090:80", "81"]);
        let shown: Vec<String> = at_boat.published().iter().map(ToString::to_string).collect();
        assert_eq!(shown[..3], ["0.0.0.0:8080->80/tcp", "[::]:8080->80/tcp", "[2001:db8::1]:9090->80/tcp"]);
        let free: Vec<u16> = at_boat.published()[3..].iter().map(|port| port.host_port).collect();
        assert!(free.len() == 2 && free[0] == free[1], "one port for both families: {shown:?}");
        let ((mate, _at_mate), (duck, at_duck)) = (at(&sea, "mate", &[]), at(&lake, "duck", &[]));
        let boats = serve(&boat, 80);
        let gateway = at_boat.ipv6_gateway().unwrap();
        assert_eq!(talk(&outside.0, (HOST, 8080), &boats), OUTSIDE, "a neighbour is seen as he is");
        assert_eq!(talk(&outside.0, (HOST, 9090), &boats), OUTSIDE);
        assert_eq!(talk(&here(), (HOST, 8080), &boats), HOST);
        for switch in ["0", "1"] {
            let set = std::fs::write("/proc/sys/net/bridge/bridge-nf-call-ip6tables", switch);
            if set.is_err() && switch == "1" {
                coracle_testhost::skip("ipv6, bridge-nf-call-ip6tables", "no br_netfilter");
                break;
            }
            assert_eq!(talk(&mate, (HOST, 8080), &boats), gateway, "hairpin, {switch}");
            assert_eq!(talk(&boat, (gateway, 8080), &boats), gateway, "to itself, {switch}");
        }
        assert_eq!(talk(&duck, (HOST, 8080), &boats), at_duck.ipv6().unwrap(), "another network");
        assert_eq!(failure(&duck, (at_boat.ipv6().unwrap(), 80)), ErrorKind::TimedOut, "but not its address");
        assert_eq!(failure(&outside.0, (HOST, 80)), ErrorKind::ConnectionRefused);
        // The kernel routes no answer to ::1, so that calls there are refused at once rather than lost.
        assert_eq!(failure(&here(), (Ipv6Addr::LOCALHOST, 8080)), ErrorKind::ConnectionRefused);
        assert!(TcpListener::bind((Ipv6Addr::UNSPECIFIED, 8080)).is_err(), "the port is bound");
        at_boat.leave().unwrap();
        for from in [&outside.0, &here(), &mate] {
            assert_eq!(failure(from, (HOST, 8080)), ErrorKind::ConnectionRefused);
        }
        drop((_at_mate, at_duck));
        assert_eq!((support::picture(), our_links()), (before, vec![]));
        drop(outside);
    });
}

#[test]
fn datagrams_come_and_go() {
    run(|host| {
        let outside = outside();
        let (boat, _at_boat) = at(&sea(host.dir()), "boat", &["5353:53/udp"]);
        let boats = boat.within(|| UdpSocket::bind("[::]:53")).unwrap().unwrap();
        for (from, seen) in [(&outside.0, OUTSIDE), (&here(), HOST)] {
            let client = from.within(|| UdpSocket::bind("[::]:0")).unwrap().unwrap();
            for socket in [&client, &boats] {
                socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            }
            client.connect((HOST, 5353)).unwrap();
            client.send(b"ahoy").unwrap();
            let mut word = [0; 8];
            let (length, peer) = boats.recv_from(&mut word).unwrap();
            assert_eq!((&word[..length], peer.ip()), (&b"ahoy"[..], IpAddr::V6(seen)));
            boats.send_to(b"aye", peer).unwrap();
            assert_eq!(client.recv(&mut word).unwrap(), 3);
        }
        drop(outside);
    });
}

/// Nothing checks a source's way back for IPv6 but our own rule.
#[test]
fn no_spoofed_source_leaves() {
    run(|host| {
        let outside = outside();
        let (boat, _at_boat) = at(&sea(host.dir()), "boat", &[]);
        let heard = outside.0.within(|| UdpSocket::bind((OUTSIDE, 9))).unwrap().unwrap();
        heard.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        boat.within(|| {
            support::add_loopback_address("2001:db8:7::7".parse::<Ipv6Addr>().unwrap());
            UdpSocket::bind("[2001:db8:7::7]:0").unwrap().send_to(b"lie", (OUTSIDE, 9)).unwrap();
            UdpSocket::bind("[::]:0").unwrap().send_to(b"truth", (OUTSIDE, 9)).unwrap();
        })
        .unwrap();
        let mut word = [0; 16];
        let (length, from) = heard.recv_from(&mut word).unwrap();
        assert_eq!((&word[..length], from.ip()), (&b"truth"[..], IpAddr::V6(HOST)));
        drop(outside);
    });
}

/// A container that calls itself a router is believed by nobody (CVE-2020-13401).
#[test]
fn router_advertisements_are_not_believed() {
    run(|host| {
        for (network, name) in [
            (sea(host.dir()), "boat"),
            (networks(host.dir()).open(&NetworkSpec::new("lake").subnet("10.2.0.0/24")).unwrap(), "duck"),
        ] {
            let (netns, at) = at(&network, name, &[]);
            let switch = |link: &str, key: &str| {
                std::fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{link}/{key}"))
                    .unwrap()
                    .trim()
                    .to_owned()
            };
            let deaf = |link: &str| switch(link, "accept_ra") == "0" || switch(link, "disable_ipv6") == "1";
            assert!(deaf(&network.bridge()), "the host on {name}'s bridge");
            assert!(netns.within(|| deaf("eth0")).unwrap(), "{name}");
            let addresses =
                netns.within(|| std::fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap()).unwrap();
            let own = addresses.lines().filter(|line| line.ends_with("eth0")).count();
            assert_eq!(own > 0, network.has_ipv6(), "{addresses}");
            assert_eq!(switch(&network.bridge(), "disable_ipv6") == "1", !network.has_ipv6());
            drop(at);
        }
    });
}

#[test]
fn an_internal_network_has_no_way_out_by_ipv6() {
    run(|host| {
        let outside = outside();
        let spec = NetworkSpec::new("pond").subnet("10.3.0.0/24").subnet("fd00:3::/64").internal(true);
        let pond = networks(host.dir()).create(&spec).unwrap();
        let ((frog, at_frog), (newt, _at_newt)) = (at(&pond, "frog", &[]), at(&pond, "newt", &[]));
        let outsiders = outside.0.within(|| TcpListener::bind((OUTSIDE, 7))).unwrap().unwrap();
        assert_eq!(failure(&frog, (OUTSIDE, 7)), ErrorKind::NetworkUnreachable);
        frog.within(|| route(Ipv6Addr::UNSPECIFIED, 0, "fd00:3::1".parse::<Ipv6Addr>().unwrap())).unwrap();
        outside.0.within(|| route("fd00:3::".parse::<Ipv6Addr>().unwrap(), 64, HOST)).unwrap();
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
        assert_ne!(failure(&frog, (OUTSIDE, 7)), ErrorKind::ConnectionRefused);
        let frogs = serve(&frog, 7);
        assert_ne!(failure(&outside.0, (at_frog.ipv6().unwrap(), 7)), ErrorKind::ConnectionRefused);
        talk(&newt, (at_frog.ipv6().unwrap(), 7), &frogs);
        drop((outsiders, outside));
    });
}

#[test]
fn addresses_and_names_as_asked() {
    run(|host| {
        let spec =
            NetworkSpec::new("sea").subnet("10.1.0.0/24").subnet("fd00:1::/64").range("fd00:1::10/124");
        let spec = spec.gateway("fd00:1::10".parse::<Ipv6Addr>().unwrap());
        let sea = networks(host.dir())
            .create(&spec.reserve("router", "fd00:1::11".parse::<Ipv6Addr>().unwrap()))
            .unwrap();
        let (boat, at_boat) = at(&sea, "boat", &[]);
        assert_eq!(
            at_boat.ipv6().unwrap().to_string(),
            "fd00:1::12",
            "past the gateway and what is reserved"
        );
        let wanted = "fd00:1::77".parse().unwrap();
        let mate = netns();
        let mac = "02:00:00:00:00:07".parse().unwrap();
        let at_mate =
            sea.join(&join(&mate, "mate").ipv6(wanted).address(Ipv4Addr::new(10, 1, 0, 7)).mac(mac)).unwrap();
        assert_eq!((at_mate.ipv6(), at_mate.mac(), sea.attached().unwrap()[1].mac), (Some(wanted), mac, mac));
        let other = netns();
        let error = sea.join(&join(&other, "x").ipv6(wanted)).unwrap_err();
        assert_eq!(error.to_string(), "join network `sea`: address fd00:1::77 is in use by mate");
        let error = sea.join(&join(&other, "x").mac("01:00:00:00:00:07".parse().unwrap())).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid, "{error}");
        let lake = networks(host.dir()).create(&NetworkSpec::new("lake")).unwrap();
        let error = lake.join(&join(&other, "x").ipv6(wanted)).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().contains("has no IPv6")),
            (Kind::Invalid, true),
            "{error}"
        );
        // By name, and back.
        let mut server =
            Server::open(boat.as_fd(), Responder::new(vec![Arc::new(sea.zone()) as Arc<dyn Names>]), vec![])
                .unwrap();
        let asker = boat.within(|| UdpSocket::bind("127.0.0.1:0")).unwrap().unwrap();
        asker.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let question = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x04mate\0\0\x1c\0\x01";
        asker.send_to(question, "127.0.0.11:53").unwrap();
        server.serve_ready().unwrap();
        let mut answer = [0; 512];
        let length = asker.recv(&mut answer).unwrap();
        assert_eq!(answer[length - 16..length], wanted.octets());
        assert_eq!(sea.zone().name_of(wanted.into()).unwrap().as_deref(), Some("mate"));
        let mut at_mate = at_mate;
        at_mate.rename(["mate", "bosun"]).unwrap();
        assert_eq!(sea.zone().addresses("bosun").unwrap(), at_mate.addresses());
    });
}
