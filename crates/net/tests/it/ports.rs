//! Published ports: who gets in, who is seen, what clashes, what is left.

use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use coracle_host::Namespace;
use coracle_net::ports::Publish;
use coracle_net::{Kind, Network, NetworkSpec};
use coracle_testhost::{Role, run, run_with};

use crate::support::{self, HOST, OUTSIDE, Outside, join, netns, networks, our_links, route};
use crate::talk::{at, failure, here, publish, serve_on, talk};

const LOCAL: Ipv4Addr = Ipv4Addr::LOCALHOST;

fn serve(netns: &Namespace, port: u16) -> TcpListener {
    serve_on(netns, Ipv4Addr::UNSPECIFIED, port)
}

fn sea(dir: &std::path::Path) -> Network {
    networks(dir).open(&NetworkSpec::new("sea").subnet("10.1.0.0/24")).unwrap()
}

#[test]
fn a_published_port_is_reached_from_everywhere() {
    run(|host| {
        let outside = Outside::new();
        let before = support::picture();
        let sea = sea(host.dir());
        let lake = networks(host.dir()).open(&NetworkSpec::new("lake").subnet("10.2.0.0/24")).unwrap();
        let (boat, at_boat) = at(&sea, "boat", &["8080:80"]);
        let ((mate, at_mate), (duck, at_duck)) = (at(&sea, "mate", &[]), at(&lake, "duck", &[]));
        assert_eq!(at_boat.published()[0].to_string(), "0.0.0.0:8080->80/tcp");
        let boats = serve(&boat, 80);
        assert_eq!(talk(&outside.0, (HOST, 8080), &boats), OUTSIDE, "a neighbour is seen as he is");
        assert_eq!(talk(&here(), (HOST, 8080), &boats), HOST);
        assert_eq!(talk(&here(), (LOCAL, 8080), &boats), sea.gateway(), "loopback is seen as the gateway");
        assert_eq!(talk(&here(), (Ipv4Addr::new(127, 9, 9, 9), 8080), &boats), sea.gateway());
        // Whether or not the host's rules are asked about what a bridge passes on, where there is that switch.
        for switch in ["0", "1"] {
            let set = std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", switch);
            if set.is_err() && switch == "1" {
                coracle_testhost::skip("ports, bridge-nf-call-iptables", "no br_netfilter");
                break;
            }
            assert_eq!(talk(&mate, (HOST, 8080), &boats), sea.gateway(), "hairpin, {switch}");
            assert_eq!(talk(&mate, (sea.gateway(), 8080), &boats), sea.gateway(), "hairpin, {switch}");
            assert_eq!(talk(&boat, (HOST, 8080), &boats), sea.gateway(), "to itself, {switch}");
        }
        assert_eq!(talk(&duck, (HOST, 8080), &boats), at_duck.address(), "another network");
        // Nothing else is open, and the container's own address stays walled.
        assert_eq!(failure(&outside.0, (HOST, 80)), ErrorKind::ConnectionRefused);
        outside.0.within(|| route(Ipv4Addr::new(10, 1, 0, 0), 24, HOST)).unwrap();
        assert_eq!(failure(&outside.0, (at_boat.address(), 80)), ErrorKind::TimedOut);
        assert_eq!(failure(&outside.0, (at_boat.address(), 8080)), ErrorKind::TimedOut);
        assert_eq!(failure(&duck, (at_boat.address(), 80)), ErrorKind::TimedOut);
        // Closed at once, for all.
        at_boat.leave().unwrap();
        for from in [&outside.0, &here(), &mate, &duck] {
            assert_eq!(failure(from, (HOST, 8080)), ErrorKind::ConnectionRefused);
        }
        assert_eq!(failure(&here(), (LOCAL, 8080)), ErrorKind::ConnectionRefused);
        drop((at_mate, at_duck));
        assert_eq!((support::picture(), our_links()), (before, vec![]));
    });
}

#[test]
fn one_address_of_the_host_is_one() {
    run(|host| {
        let outside = Outside::new();
        let sea = sea(host.dir());
        let (boat, _at_boat) = at(&sea, "boat", &["127.0.0.1:8080:80", "192.0.2.1:9090:90"]);
        let (local, outer) = (serve(&boat, 80), serve(&boat, 90));
        talk(&here(), (LOCAL, 8080), &local);
        assert_eq!(failure(&here(), (HOST, 8080)), ErrorKind::ConnectionRefused);
        assert_eq!(failure(&outside.0, (HOST, 8080)), ErrorKind::ConnectionRefused);
        talk(&outside.0, (HOST, 9090), &outer);
        assert_eq!(failure(&here(), (LOCAL, 9090)), ErrorKind::ConnectionRefused);
    });
}

/// What route_localnet could open: the host's loopback to containers, and ports of 127.0.0.1 to the LAN.
#[test]
fn loopback_never_comes_from_the_wire() {
    run(|host| {
        let outside = Outside::new();
        let sea = sea(host.dir());
        let (boat, _at_boat) = at(&sea, "boat", &["8080:80", "127.0.0.1:8081:80"]);
        let (thief, _at_thief) = at(&sea, "thief", &[]);
        let boats = serve(&boat, 80);
        let secret = TcpListener::bind("127.0.0.1:6000").unwrap();
        outside.0.within(|| support::send_loopback_out(false, "wan", HOST)).unwrap();
        thief.within(|| support::send_loopback_out(true, "eth0", sea.gateway())).unwrap();
        for port in [6000, 8080, 8081] {
            assert_eq!(failure(&outside.0, (LOCAL, port)), ErrorKind::TimedOut, "{port}");
            assert_eq!(failure(&thief, (LOCAL, port)), ErrorKind::TimedOut, "{port}");
        }
        talk(&here(), (LOCAL, 8081), &boats);
        drop(secret);
    });
}

#[test]
fn a_clash_is_an_error_before_anything_happens() {
    run(|host| {
        let sea = sea(host.dir());
        let boat = netns();
        let mine = TcpListener::bind("127.0.0.1:8080").unwrap();
        let error = sea.join(&publish(&boat, "boat", &["8080:80"])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "join network `sea`: publish 8080:80/tcp: the port is in use: bind(0.0.0.0:8080, tcp): Address \
             already in use (os error 98)"
        );
        assert_eq!((error.kind(), our_links()), (Kind::InUse, vec![]));
        assert!(sea.attached().unwrap().is_empty());
        // Somebody whose connections are only just over does not count.
        let caller = TcpStream::connect("127.0.0.1:8080").unwrap();
        drop(mine.accept().unwrap());
        drop((caller, mine));
        let at_boat = sea.join(&publish(&boat, "boat", &["8080:80", "8080:80/udp"])).unwrap();
        let error = TcpListener::bind("0.0.0.0:8080").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse, "{error}");
        assert_eq!(TcpListener::bind("127.0.0.1:8080").unwrap_err().kind(), ErrorKind::AddrInUse);
        assert_eq!(UdpSocket::bind("0.0.0.0:8080").unwrap_err().kind(), ErrorKind::AddrInUse);
        let error = sea.join(&publish(&netns(), "x", &["8080:80"])).unwrap_err();
        assert_eq!(error.kind(), Kind::InUse, "{error}");
        let error = sea.join(&publish(&netns(), "x", &["9000:80", "9000:81"])).unwrap_err();
        assert_eq!(error.kind(), Kind::InUse, "{error}");
        // Without our rules nobody hangs in a queue that is never served.
        support::delete_our_table();
        assert_eq!(failure(&here(), (LOCAL, 8080)), ErrorKind::ConnectionRefused);
        at_boat.leave().unwrap();
        drop((TcpListener::bind("0.0.0.0:8080").unwrap(), UdpSocket::bind("0.0.0.0:8080").unwrap()));
    });
}

#[test]
fn what_can_not_be_published_is_refused() {
    run(|host| {
        let pond = networks(host.dir()).create(&NetworkSpec::new("pond").internal(true)).unwrap();
        let (sea, boat) = (sea(host.dir()), netns());
        let cases = [
            (pond.join(&publish(&boat, "x", &["80"])).unwrap_err(), Kind::Invalid, "the network is internal"),
            (sea.join(&publish(&boat, "x", &["[::]:80:80"])).unwrap_err(), Kind::Invalid, "has no IPv6"),
            (sea.join(&publish(&boat, "x", &["[::1]:80:80"])).unwrap_err(), Kind::Invalid, "127.0.0.1 works"),
            (sea.join(&join(&boat, "x").publish(Publish::tcp(0))).unwrap_err(), Kind::Invalid, "port 0"),
            (
                sea.join(&publish(&boat, "x", &["80"]).default_route(false)).unwrap_err(),
                Kind::Invalid,
                "no default route",
            ),
            (sea.join(&publish(&boat, "x", &["192.0.2.77:1:1"])).unwrap_err(), Kind::Other, "192.0.2.77:1"),
        ];
        for (error, kind, words) in cases {
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
        assert!(our_links().is_empty());
    });
}

#[test]
fn ranges_choices_and_free_ports() {
    run(|host| {
        let sea = sea(host.dir());
        let taken = TcpListener::bind("127.0.0.1:4000").unwrap();
        let ports = ["3000-3002:80-82", "4000-4001:90", "91", "127.0.0.1::92", "53/udp", "4001:93/udp"];
        let (boat, at_boat) = at(&sea, "boat", &ports);
        let published = at_boat.published();
        let shown: Vec<String> = published.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown[..4],
            ["0.0.0.0:3000->80/tcp", "0.0.0.0:3001->81/tcp", "0.0.0.0:3002->82/tcp", "0.0.0.0:4001->90/tcp"]
        );
        assert_eq!(shown[7], "0.0.0.0:4001->93/udp");
        for port in &published {
            if port.protocol.as_str() == "udp" {
                continue;
            }
            let listener = serve(&boat, port.container_port);
            assert!(port.host_port >= 3000, "{port}");
            talk(&here(), (LOCAL, port.host_port), &listener);
        }
        let attached = sea.attached().unwrap();
        assert_eq!((&attached[0].ports, attached[0].mac), (&published, at_boat.mac()));
        let all = sea.join(&publish(&netns(), "x", &["4000-4001:90"]));
        assert_eq!(all.unwrap_err().kind(), Kind::InUse);
        let plan = sea.plan(&publish(&netns(), "x", &["90", "127.0.0.1:5000:91"])).unwrap().to_string();
        assert!(plan.contains("publish 0.0.0.0:any->90/tcp, 127.0.0.1:5000->91/tcp at 10.1.0.2\n"), "{plan}");
        drop(taken);
    });
}

#[test]
fn datagrams_come_and_go() {
    run(|host| {
        let outside = Outside::new();
        let sea = sea(host.dir());
        let (boat, _at_boat) = at(&sea, "boat", &["5353:53/udp"]);
        let (mate, _at_mate) = at(&sea, "mate", &[]);
        let bound = |netns: &Namespace| {
            let socket = netns.within(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            socket
        };
        let boats = boat.within(|| UdpSocket::bind("0.0.0.0:53")).unwrap().unwrap();
        boats.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        for (from, to, seen) in [
            (&outside.0, HOST, OUTSIDE),
            (&here(), HOST, HOST),
            (&here(), LOCAL, sea.gateway()),
            (&mate, HOST, sea.gateway()),
        ] {
            let client = bound(from);
            client.connect((to, 5353)).unwrap();
            client.send(b"ahoy").unwrap();
            let mut word = [0; 8];
            let (length, peer) = boats.recv_from(&mut word).unwrap();
            assert_eq!((&word[..length], peer.ip()), (&b"ahoy"[..], IpAddr::V4(seen)));
            boats.send_to(b"aye", peer).unwrap();
            // Connected: only an answer from where it was sent to arrives.
            assert_eq!(client.recv(&mut word).unwrap(), 3);
        }
    });
}

/// The kernel goes on with known datagrams as it did with the first: it must be told.
#[test]
fn datagrams_follow_the_port_and_not_its_past() {
    run(|host| {
        let outside = Outside::new();
        let sea = sea(host.dir());
        // Translation makes the kernel remember in the first place.
        let (_first, _at_first) = at(&sea, "first", &["7000:7"]);
        let client = outside.0.within(|| UdpSocket::bind("0.0.0.0:4444")).unwrap().unwrap();
        let send = |word: &[u8]| client.send_to(word, (HOST, 5353)).map(drop);
        let hears = |socket: &UdpSocket| {
            socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            let mut word = [0; 16];
            socket.recv(&mut word).map(|length| word[..length].to_vec()).ok()
        };
        let server = |netns: &Namespace| netns.within(|| UdpSocket::bind("0.0.0.0:53")).unwrap().unwrap();
        send(b"too early").unwrap();
        let (boat, at_boat) = at(&sea, "boat", &["5353:53/udp"]);
        let boats = server(&boat);
        send(b"now").unwrap();
        assert_eq!(hears(&boats).as_deref(), Some(&b"now"[..]), "the port is open also for who tried before");
        at_boat.leave().unwrap();
        // Somebody else, who publishes nothing, has the address now.
        let (mate, at_mate) = at(&sea, "mate", &[]);
        let mates = server(&mate);
        send(b"too late").unwrap();
        assert_eq!(hears(&mates), None, "the port is closed also for who was connected");
        assert_eq!(at_mate.address().to_string(), "10.1.0.3");
        let (next, _at_next) = at(&sea, "next", &["5353:53/udp"]);
        let nexts = server(&next);
        send(b"again").unwrap();
        assert_eq!(hears(&nexts).as_deref(), Some(&b"again"[..]));
        drop(outside);
    });
}

fn owner(role: &mut Role) {
    let boat = netns();
    let _endpoint = sea(role.dir()).join(&publish(&boat, "captain", &["8080:80", "8081:81"])).unwrap();
    role.say("aboard");
    role.hear();
}

#[test]
fn a_killed_owners_ports_lead_nobody_astray() {
    run_with(&[("owner", owner)], |host| {
        let outside = Outside::new();
        let before = support::picture();
        let sea = sea(host.dir());
        let killed = || {
            let mut owner = host.play("owner");
            assert_eq!(owner.hear().as_deref(), Some("aboard"));
            assert!(TcpListener::bind("0.0.0.0:8080").is_err());
            owner.kill();
        };
        killed();
        // The next one has the dead one's address, but not his ports.
        let (mate, at_mate) = at(&sea, "mate", &[]);
        assert_eq!(at_mate.address().to_string(), "10.1.0.2");
        let mates = serve(&mate, 80);
        assert_eq!(failure(&outside.0, (HOST, 8080)), ErrorKind::ConnectionRefused);
        // Somebody else publishes the dead one's port, by an address of his own; then the dead one's is taken.
        killed();
        let wanted = |netns, name, ports, last| {
            let address = Ipv4Addr::new(10, 1, 0, last);
            sea.join(&publish(netns, name, ports).address(address)).unwrap()
        };
        let (bosun, cook) = (netns(), netns());
        let at_bosun = wanted(&bosun, "bosun", &["8080:80"], 9);
        let at_cook = wanted(&cook, "cook", &[], 3);
        let bosuns = serve(&bosun, 80);
        talk(&outside.0, (HOST, 8080), &bosuns);
        assert_eq!(failure(&outside.0, (HOST, 8081)), ErrorKind::ConnectionRefused);
        drop((at_bosun, at_cook));
        // Reclaiming closes them, too, also while the network is in use.
        killed();
        networks(host.dir()).reclaim().unwrap();
        assert_eq!(failure(&outside.0, (HOST, 8080)), ErrorKind::ConnectionRefused);
        assert_eq!(failure(&outside.0, (HOST, 8081)), ErrorKind::ConnectionRefused);
        drop((mates, at_mate));
        assert_eq!((support::picture(), our_links()), (before, vec![]));
        killed();
        assert_eq!(networks(host.dir()).reclaim().unwrap(), 1);
        assert_eq!(our_links(), Vec::<String>::new());
        drop(outside);
    });
}

#[test]
fn many_ports_cost_little() {
    run(|host| {
        let sea = sea(host.dir());
        let (_first, at_first) = at(&sea, "first", &[]);
        let timed = |ports: &[&str]| {
            let netns = netns();
            let begin = Instant::now();
            let endpoint = sea.join(&publish(&netns, "x", ports)).unwrap();
            let joined = begin.elapsed();
            let begin = Instant::now();
            endpoint.leave().unwrap();
            (joined, begin.elapsed())
        };
        timed(&[]);
        for (count, ports) in
            [(0, &[][..]), (1, &["7000:80"]), (99, &["7000-7098:80-178"]), (999, &["7000-7998:80-1078"])]
        {
            let mut times: Vec<_> = (0..5).map(|_| timed(ports)).collect();
            times.sort();
            let (join, leave) = times[2];
            let line = format!("{count} ports: join {join:.1?}, leave {leave:.1?} (median of 5)\n");
            let _ = std::io::stderr().write_all(line.as_bytes());
            assert!(join + leave < Duration::from_secs(1), "{line}");
        }
        drop(at_first);
    });
}

/// Somebody else's table, with a rule and a counter, is byte for byte what it was.
#[test]
fn no_other_table_is_touched() {
    run(|host| {
        let nft = |arguments: &[&str]| {
            let out = std::process::Command::new("nft").args(arguments).output().unwrap();
            assert!(out.status.success(), "nft {arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
            String::from_utf8(out.stdout).unwrap()
        };
        if std::process::Command::new("nft").arg("--version").output().is_err() {
            return coracle_testhost::skip("ports::no_other_table_is_touched", "nft(8) is not installed");
        }
        nft(&["add table ip other; add chain ip other c { type nat hook prerouting priority -100; }; \
               add rule ip other c tcp dport 1 dnat to 10.9.9.9"]);
        let before = nft(&["-a", "list", "ruleset"]);
        let sea = sea(host.dir());
        let (boat, at_boat) = at(&sea, "boat", &["8080:80", "127.0.0.1:53:53/udp"]);
        let during = nft(&["-a", "list", "ruleset"]);
        for line in [
            "dnat ip to ip daddr . meta l4proto . th dport map @ports",
            "0.0.0.0 . tcp . 8080 : 10.1.0.2 . 80",
            "127.0.0.1 . udp . 53 : 10.1.0.2 . 53",
        ] {
            assert!(during.contains(line), "{during}");
        }
        assert!(during.contains("table ip other"), "{during}");
        drop((boat, at_boat));
        assert_eq!(nft(&["-a", "list", "ruleset"]), before);
        nft(&["delete table ip other"]);
    });
}
