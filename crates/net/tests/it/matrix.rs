//! Who reaches whom: every pair, by address, by name and by published port.
//!
//! `boat` (which publishes a port) and `mate` are on one bridge, `duck` on another, `frog` on an internal one, `moth` on a
//! macvlan of the host's LAN; `hermit` is on no network, `host` is the host itself, `neighbour` another host of its LAN
//! that routes to all of them by way of the host.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use coracle_host::Namespace;
use coracle_net::dns::{Names, Responder, Server};
use coracle_net::ports::parse;
use coracle_net::{Endpoint, Join, Network, NetworkSpec};
use coracle_testhost::run;
use hickory_proto::rr::RecordType::A;

use crate::dns::{Client, serving};
use crate::support::{HOST, OUTSIDE, Outside, join, netns, networks, route};

const PORT: u16 = 7;
const PUBLISHED: u16 = 8080;

/// What the documentation promises, a row for each who calls: `+` is reached, `-` is not.
///
/// An internal network has no way out, but the host is on it. A macvlan and the interface below it, by which bridges lead
/// out, do not see each other, as the kernel has it.
const EXPECTED: &str = "
           boat mate duck frog moth host neighbour published
boat       +    +    -    -    -    +    +         +
mate       +    +    -    -    -    +    +         +
duck       -    -    +    -    -    +    +         +
frog       -    -    -    +    -    +    -         -
moth       -    -    -    -    +    -    +         -
hermit     -    -    -    -    -    -    -         -
host       +    +    +    +    -    +    +         +
neighbour  -    -    -    -    +    +    +         +
";

struct World {
    names: Vec<(&'static str, Namespace)>,
    addresses: Vec<(&'static str, Ipv4Addr, u16)>,
    _endpoints: Vec<Endpoint>,
    _listeners: Vec<std::thread::JoinHandle<()>>,
}

/// Answers whoever calls with who it is.
fn greet(netns: &Namespace, name: &'static str) -> std::thread::JoinHandle<()> {
    let listener = netns.within(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))).unwrap().unwrap();
    std::thread::spawn(move || {
        for call in listener.incoming() {
            let mut word = [0; 1];
            let Ok(mut call) = call else { return };
            if call.read(&mut word).unwrap_or(0) == 1 && word == *b"." {
                return;
            }
            let _ = call.write_all(name.as_bytes());
        }
    })
}

fn on(network: &Network, name: &'static str, ports: &[&str]) -> (Namespace, Endpoint) {
    let netns = netns();
    let ports = ports.iter().flat_map(|text| parse(text).unwrap());
    let endpoint = network.join(&ports.fold(join(&netns, name), Join::publish)).unwrap();
    (netns, endpoint)
}

fn world(dir: &std::path::Path, outside: &Outside) -> (World, Vec<Network>) {
    let networks = networks(dir);
    let create = |spec: NetworkSpec| networks.create(&spec).unwrap();
    let sea = create(NetworkSpec::new("sea").subnet("10.1.0.0/24"));
    let lake = create(NetworkSpec::new("lake").subnet("10.2.0.0/24"));
    let pond = create(NetworkSpec::new("pond").subnet("10.3.0.0/24").internal(true));
    let lan = NetworkSpec::new("lan").driver("macvlan").option("parent", "wan").subnet("192.0.2.0/24");
    let lan = create(lan.gateway(OUTSIDE).reserve("host", HOST));
    let published = format!("{PUBLISHED}:{PORT}");
    let mut world =
        World { names: Vec::new(), addresses: Vec::new(), _endpoints: Vec::new(), _listeners: Vec::new() };
    for (name, network, ports) in [
        ("boat", &sea, &[published.as_str()][..]),
        ("mate", &sea, &[]),
        ("duck", &lake, &[]),
        ("frog", &pond, &[]),
        ("moth", &lan, &[]),
    ] {
        let (netns, endpoint) = on(network, name, ports);
        world.addresses.push((name, endpoint.address(), PORT));
        world._listeners.push(greet(&netns, name));
        world.names.push((name, netns));
        world._endpoints.push(endpoint);
    }
    let hermit = netns();
    coracle_net::loopback_up(hermit.as_fd()).unwrap();
    world.names.push(("hermit", hermit));
    for (name, netns, address) in [
        ("host", Namespace::current_net().unwrap(), HOST),
        ("neighbour", outside.0.try_clone().unwrap(), OUTSIDE),
    ] {
        coracle_net::loopback_up(netns.as_fd()).unwrap();
        world.addresses.push((name, address, PORT));
        world._listeners.push(greet(&netns, name));
        world.names.push((name, netns));
    }
    world.addresses.push(("published", HOST, PUBLISHED));
    (world, vec![sea, lake, pond, lan])
}

/// Who answers.
fn call(from: &Namespace, to: (Ipv4Addr, u16)) -> Result<String, ErrorKind> {
    let to = SocketAddr::from(to);
    let call = from.within(|| TcpStream::connect_timeout(&to, Duration::from_millis(400))).unwrap();
    let mut call = call.map_err(|error| error.kind())?;
    call.write_all(b"?").map_err(|error| error.kind())?;
    let mut text = String::new();
    call.read_to_string(&mut text).map_err(|error| error.kind())?;
    Ok(text)
}

#[test]
fn every_pair() {
    run(|host| {
        let outside = Outside::new();
        let (world, networks) = world(host.dir(), &outside);
        // A neighbour who knows the subnets, and a container who makes itself a route: the walls hold by themselves.
        for network in &networks[..3] {
            outside.0.within(|| route(network.subnet().base(), 24, HOST)).unwrap();
        }
        let frog = &world.names.iter().find(|(name, _)| *name == "frog").unwrap().1;
        frog.within(|| route(Ipv4Addr::UNSPECIFIED, 0, networks[2].gateway())).unwrap();
        let columns: Vec<&str> = world.addresses.iter().map(|(name, ..)| *name).collect();
        let mut table = format!("\n{:11}{}\n", "", columns.join(" "));
        for (from, netns) in &world.names {
            let mut row = format!("{from:11}");
            for (to, address, port) in &world.addresses {
                let answer = call(netns, (*address, *port));
                if let Ok(who) = &answer {
                    assert_eq!(who, if *to == "published" { "boat" } else { to }, "{from} called {to}");
                }
                // A call that is not let through vanishes or has no way; only one's own kernel may refuse.
                if let Err(kind) = answer {
                    assert_ne!(kind, ErrorKind::ConnectionRefused, "{from} was answered by {to}");
                }
                let mark = if answer.is_ok() { '+' } else { '-' };
                row.push_str(&format!("{mark:width$} ", width = to.len()));
            }
            table.push_str(&format!("{}\n", row.trim_end()));
        }
        assert_eq!(table, EXPECTED, "\n{table}");
        // Names are those of one's own networks.
        for (index, name) in ["boat", "duck", "frog", "moth"].into_iter().enumerate() {
            let (_, netns) = world.names.iter().find(|(own, _)| *own == name).unwrap();
            let zone: std::sync::Arc<dyn Names> = std::sync::Arc::new(networks[index].zone());
            let server = Server::open(netns.as_fd(), Responder::new(vec![zone]), vec![]).unwrap();
            serving(server, || {
                let client = Client::new(netns);
                for (other, address, _) in &world.addresses[..5] {
                    let own = networks[index].pool_of(IpAddr::V4(*address)).is_some();
                    let expected = if own { format!("NoError {address}") } else { "NXDomain".into() };
                    assert_eq!(client.line(other, A), expected, "{name} asks for {other}");
                }
            });
        }
        for (_, netns) in world.names.iter().filter(|(name, _)| *name != "hermit") {
            let stop = || TcpStream::connect(("127.0.0.1", PORT)).and_then(|mut call| call.write_all(b"."));
            netns.within(stop).unwrap().unwrap();
        }
        for listener in world._listeners {
            listener.join().unwrap();
        }
        drop(outside);
    });
}

/// On a network where nobody reaches another, all reach the host and the world, and published ports.
#[test]
fn each_for_himself() {
    run(|host| {
        let outside = Outside::new();
        let spec = NetworkSpec::new("sea")
            .subnet("10.1.0.0/24")
            .option("com.docker.network.bridge.enable_icc", "false");
        let sea = networks(host.dir()).create(&spec).unwrap();
        let (boat, at_boat) = on(&sea, "boat", &["8080:7"]);
        let (mate, at_mate) = on(&sea, "mate", &[]);
        let serve = |netns: &Namespace, address: Ipv4Addr| {
            netns.within(|| TcpListener::bind((address, PORT))).unwrap().unwrap()
        };
        let (boats, mates, theirs) =
            (serve(&boat, at_boat.address()), serve(&mate, at_mate.address()), serve(&outside.0, OUTSIDE));
        let reaches = |from: &Namespace, to: (Ipv4Addr, u16), listener: &TcpListener| {
            let to = SocketAddr::from(to);
            let call = from.within(|| TcpStream::connect_timeout(&to, Duration::from_millis(400))).unwrap();
            call.is_ok() && listener.accept().is_ok()
        };
        let br_netfilter = std::path::Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables").exists();
        for switch in ["0", "1"] {
            let _ = std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", switch);
            assert!(!reaches(&mate, (at_boat.address(), PORT), &boats), "{switch}");
            assert!(!reaches(&boat, (at_mate.address(), PORT), &mates), "{switch}");
            // Where br_netfilter translates what is on the bridge, it stays on the bridge, and the ports are apart.
            assert_eq!(
                reaches(&mate, (HOST, 8080), &boats),
                switch == "0" || !br_netfilter,
                "published, {switch}"
            );
            assert!(reaches(&boat, (OUTSIDE, PORT), &theirs), "out, {switch}");
            assert!(
                reaches(&Namespace::current_net().unwrap(), (at_mate.address(), PORT), &mates),
                "{switch}"
            );
        }
        // Nor by way of the host.
        mate.within(|| route(at_boat.address(), 32, sea.gateway())).unwrap();
        assert!(!reaches(&mate, (at_boat.address(), PORT), &boats));
        drop(outside);
    });
}

#[test]
fn as_the_gateway_is_told() {
    run(|host| {
        let outside = Outside::new();
        let networks = networks(host.dir());
        let bare = NetworkSpec::new("bare").subnet("10.1.0.0/24");
        let bare =
            networks.create(&bare.option("com.docker.network.bridge.enable_ip_masquerade", "false")).unwrap();
        let routed = NetworkSpec::new("routed").subnet("10.2.0.0/24").subnet("fd00:2::/64");
        let routed = routed.option("com.docker.network.bridge.gateway_mode_ipv4", "routed");
        let routed = networks.create(&routed.option("com.docker.network.bridge.name", "lan0")).unwrap();
        let (boat, at_boat) = on(&bare, "boat", &[]);
        let (duck, at_duck) = on(&routed, "duck", &["7"]);
        for network in [&bare, &routed] {
            outside.0.within(|| route(network.subnet().base(), 24, HOST)).unwrap();
        }
        let theirs = outside.0.within(|| TcpListener::bind((OUTSIDE, PORT))).unwrap().unwrap();
        let seen = |from: &Namespace| {
            let _call = from.within(|| TcpStream::connect((OUTSIDE, PORT))).unwrap().unwrap();
            theirs.accept().unwrap().1.ip()
        };
        assert_eq!(seen(&boat), IpAddr::V4(at_boat.address()), "by its own address");
        assert_eq!(seen(&duck), IpAddr::V4(at_duck.address()));
        // Only the published port is open, and it is the container's own.
        let shown: Vec<String> = at_duck.published().iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.2.0.2:7->7/tcp", "[fd00:2::2]:7->7/tcp"]);
        let listen =
            |port: u16| duck.within(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))).unwrap().unwrap();
        let (_open, _closed) = (listen(PORT), listen(8));
        let duck_address = at_duck.address();
        let knock = |port: u16| {
            let to = SocketAddr::from((duck_address, port));
            outside.0.within(|| TcpStream::connect_timeout(&to, Duration::from_millis(400))).unwrap().is_ok()
        };
        assert!(knock(PORT) && !knock(8));
        assert!(crate::support::has_link("lan0"));
        let error = routed.join(&join(&netns(), "x").publish(parse("80:7").unwrap().remove(0))).unwrap_err();
        assert!(error.to_string().contains("routed, where a port is open as it is"), "{error}");
        at_duck.leave().unwrap();
        assert!(!knock(PORT) && !crate::support::has_link("lan0"));
        // A bridge of that name that is somebody else's is left alone.
        std::process::Command::new("ip").args(["link", "add", "lan0", "type", "bridge"]).status().unwrap();
        if crate::support::has_link("lan0") {
            let error = routed.join(&join(&netns(), "x")).unwrap_err();
            assert_eq!(error.kind(), coracle_net::Kind::AlreadyExists, "{error}");
            assert_eq!(networks.reclaim().unwrap(), 0);
            networks.remove("routed").unwrap();
            assert!(crate::support::has_link("lan0"));
            std::process::Command::new("ip").args(["link", "del", "lan0"]).status().unwrap();
        }
        drop((at_boat, outside));
    });
}
