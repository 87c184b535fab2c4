//! Who reaches whom, and by which name.

use std::net::{IpAddr, Ipv4Addr};

use coracle::{Container, ContainerSpec, Engine, ExecSpec, Kind, NetworkSpec};
use coracle_testhost::run as host;

use crate::support::{
    engine, fails, nothing_but_engines, our_links, says, script, tools, within_a_second, wrote,
};

fn sleeper(engine: &Engine, name: &str, network: &str) -> Container {
    engine.start(&script("sleep 100").name(name).network(network)).unwrap()
}

/// What `name` is in there: an address, or nothing.
fn lookup(container: &Container, name: &str) -> Option<Ipv4Addr> {
    let (exit, output) = container.exec(&ExecSpec::new(["getent", "ahostsv4", name])).unwrap();
    let address = output.stdout.split_whitespace().next().map(|text| text.parse().unwrap());
    assert_eq!(exit.success(), address.is_some(), "{output:?}");
    address
}

#[test]
fn names_resolve_as_soon_as_start_returns() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let sea = engine.network(&NetworkSpec::new("sea").subnet("10.9.0.0/24")).unwrap();
        assert_eq!((sea.subnet(), sea.gateway().to_string()), ("10.9.0.0/24".into(), "10.9.0.1".into()));
        let boat = engine
            .start(&script("sleep 100").name("boat").network(&sea).network_alias("vessel").hostname("ketch"))
            .unwrap();
        let address = boat.address().unwrap().unwrap();
        // Asked by the very first thing that another container does.
        let ask = "for name in boat BOAT vessel ketch; do getent hosts $name || echo $name: nobody; done";
        let answers = says(&engine, &script(ask).network("sea"));
        let lines: Vec<String> =
            answers.lines().map(|line| line.split_whitespace().next().unwrap().to_owned()).collect();
        assert_eq!(lines, vec![address.to_string(); 4], "{answers}");
        let captain = sleeper(&engine, "captain", "sea");
        assert_eq!(lookup(&captain, &boat.id()[..12]), Some(address));
        assert_eq!(lookup(&boat, "captain"), captain.address().unwrap(), "the older one sees the newer one");
        assert_eq!(lookup(&captain, "captain"), captain.address().unwrap(), "and itself");
        assert_eq!(lookup(&captain, "pirate"), None);
        let on: Vec<_> = sea.attached().unwrap().into_iter().map(|one| one.container).collect();
        assert_eq!(on.len(), 2);
        let refused = fails(engine.remove_network("sea"), Kind::InUse, &["`sea`"]);
        assert!(refused.contains("boat") && refused.contains("captain"), "{refused}");

        // Gone when it is gone, back under the same name with whatever address.
        drop(boat);
        assert_eq!(lookup(&captain, "boat"), None);
        let boat = sleeper(&engine, "boat", "sea");
        assert_eq!(lookup(&captain, "boat"), boat.address().unwrap());
        drop((boat, captain));
        engine.remove_network("sea").unwrap();
        // The kernel takes the last of it down when the namespace ends, in its own time.
        within_a_second("no link is left", || our_links().is_empty());
        nothing_but_engines(host.dir());
    });
}

#[test]
fn two_networks_know_nothing_of_each_other() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        for name in ["sea", "lake"] {
            engine.create_network(&NetworkSpec::new(name)).unwrap();
        }
        fails(engine.create_network(&NetworkSpec::new("sea")), Kind::AlreadyExists, &["`sea`"]);
        let boat = sleeper(&engine, "boat", "sea");
        let swan = sleeper(&engine, "swan", "lake");
        let both = engine.start(&script("sleep 100").name("otter").network("sea").network("lake")).unwrap();
        assert_eq!((lookup(&boat, "swan"), lookup(&swan, "boat")), (None, None));
        assert_eq!(lookup(&both, "swan"), swan.address().unwrap());
        assert_eq!(lookup(&both, "boat"), boat.address().unwrap());
        let in_sea = lookup(&boat, "otter").unwrap();
        let in_lake = lookup(&swan, "otter").unwrap();
        assert_eq!(Some(in_sea), both.address().unwrap());
        assert_ne!(in_sea, in_lake);
        let (_, links) = both.exec(&ExecSpec::new(["ls", "/sys/class/net"])).unwrap();
        assert_eq!(links.stdout, "eth0\neth1\nlo\n");
        let names: Vec<String> =
            engine.networks().unwrap().iter().map(|network| network.name().to_owned()).collect();
        assert_eq!(names, ["lake", "sea"]);
    });
}

#[test]
fn without_a_network_there_is_only_loopback() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let look = "ls /sys/class/net; cat /sys/class/net/lo/flags; getent hosts 127.0.0.1; getent hosts anybody; cat /proc/net/route";
        let seen = says(&engine, &script(look));
        let lines: Vec<&str> = seen.lines().collect();
        // 0x9: up, and the loopback
        assert_eq!(lines[..2], ["lo", "0x9"], "{seen}");
        assert!(lines[2].starts_with("127.0.0.1 "), "{seen}");
        assert_eq!(lines.len(), 4, "no answer, no routes: {seen}");
        let container = engine.start(&script("sleep 100")).unwrap();
        assert_eq!(container.address().unwrap(), None);
        // The kernel takes the last of it down when the namespace ends, in its own time.
        within_a_second("no link is left", || our_links().is_empty());
        assert!(engine.networks().unwrap().is_empty(), "the default one is made when it is needed");
    });
}

#[test]
fn the_default_network_is_there_when_it_is_wanted() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let spec = ContainerSpec::new("tools").command(["sleep", "100"]);
        let one = engine.start(&spec.clone().name("one")).unwrap();
        let two = engine.start(&spec.name("two")).unwrap();
        assert_eq!(lookup(&one, "two"), two.address().unwrap());
        fails(engine.remove_network("bridge"), Kind::Denied, &["`bridge`", "default"]);
        drop((one, two));
        // The kernel takes the last of it down when the namespace ends, in its own time.
        within_a_second("no link is left", || our_links().is_empty());
    });
}

#[test]
fn the_hosts_network_is_the_hosts() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = format!(":{:04X} ", listener.local_addr().unwrap().port());
        let spec = ContainerSpec::new("tools").command(["cat", "/proc/net/tcp"]);
        assert!(says(&engine, &spec.clone().host_network()).contains(&port));
        assert!(!says(&engine, &spec.no_network()).contains(&port));
    });
}

#[test]
fn hosts_and_addresses_as_asked_for() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let sea = engine.network(&NetworkSpec::new("sea").subnet("10.9.0.0/24")).unwrap();
        let spec = script("getent hosts lighthouse; getent hosts $(cat /etc/hostname); echo up; sleep 100")
            .add_host("lighthouse", IpAddr::from([10, 1, 2, 3]))
            .hostname("ketch")
            .network(&sea)
            .ip([10, 9, 0, 77].into())
            .name("boat");
        let boat = engine.start(&spec).unwrap();
        wrote(&boat, "up");
        let output = boat.output().unwrap().stdout;
        let words: Vec<&str> = output.split_whitespace().collect();
        assert_eq!(words, ["10.1.2.3", "lighthouse", "10.9.0.77", "ketch", "up"]);
        assert_eq!(boat.address().unwrap(), Some([10, 9, 0, 77].into()));
        let second = spec.name("other");
        fails(engine.start(&second), Kind::InUse, &["10.9.0.77", "boat", "`other`"]);
        fails(engine.start(&second.ip([10, 10, 0, 1].into())), Kind::Invalid, &["10.10.0.1", "10.9.0.0/24"]);
        drop(boat);
        nothing_but_engines(host.dir());
    });
}

#[test]
fn networks_are_joined_and_left_while_it_runs() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let (sea, land) = (NetworkSpec::new("sea"), NetworkSpec::new("land"));
        engine.network(&sea).unwrap();
        engine.network(&land).unwrap();
        let peer = engine
            .start(&ContainerSpec::new("tools").command(["sleep", "100"]).network("land").name("peer"))
            .unwrap();
        let mut container = engine
            .start(&ContainerSpec::new("tools").command(["sleep", "100"]).network("sea").name("mover"))
            .unwrap();
        let looks_up = |container: &coracle::Container, name: &str| {
            container.exec(&coracle::ExecSpec::new(["getent", "hosts", name])).unwrap().0.success()
        };
        assert!(!looks_up(&container, "peer"));
        container.connect(&coracle::ConnectSpec::new("land").alias("also")).unwrap();
        assert!(looks_up(&container, "peer") && looks_up(&peer, "also") && looks_up(&peer, "mover"));
        let hosts = container.exec(&coracle::ExecSpec::new(["cat", "/etc/hosts"])).unwrap().1.stdout;
        assert_eq!(hosts.lines().filter(|line| line.contains(container.hostname())).count(), 2, "{hosts}");
        crate::support::fails(
            container.connect(&coracle::ConnectSpec::new("land")),
            coracle::Kind::AlreadyExists,
            &["land"],
        );
        container.rename("walker").unwrap();
        assert!(looks_up(&peer, "walker") && looks_up(&peer, "also") && !looks_up(&peer, "mover"));
        container.rename("mover").unwrap();
        assert!(looks_up(&peer, "mover") && !looks_up(&peer, "walker"));
        container.disconnect("land").unwrap();
        assert!(!looks_up(&container, "peer") && !looks_up(&peer, "also"));
        crate::support::fails(container.disconnect("land"), coracle::Kind::NotFound, &["land"]);
        assert_eq!(engine.find("mover").unwrap().unwrap().network_names(), ["sea"]);
    });
}

#[test]
fn a_network_is_shared() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        engine.network(&NetworkSpec::new("sea")).unwrap();
        let boat = sleeper(&engine, "boat", "sea");
        let guest = ContainerSpec::new("tools").network_of("boat").command([
            "sh",
            "-c",
            "readlink /proc/self/ns/net; cat /etc/hosts; getent hosts boat",
        ]);
        let text = says(&engine, &guest);
        let own = boat.exec(&ExecSpec::new(["readlink", "/proc/self/ns/net"])).unwrap().1.stdout;
        assert!(text.starts_with(&own), "{text}");
        let address = boat.address().unwrap().unwrap().to_string();
        assert!(text.matches(&address).count() >= 2, "its files and its names: {text}");
        fails(engine.start(&script("id").network_of("ship")), Kind::NotFound, &["no such container: ship"]);
        boat.kill().unwrap();
        fails(
            engine.start(&script("id").network_of("boat")),
            Kind::InUse,
            &["share the network", "not running"],
        );
    });
}

#[test]
fn an_ephemeral_network_goes_with_its_value() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let sea = engine.ephemeral_network(&NetworkSpec::new("sea")).unwrap();
        let boat = engine
            .start(&ContainerSpec::new("tools").command(["sleep", "100"]).name("boat").network(&sea))
            .unwrap();
        assert_eq!(lookup(&boat, "boat"), boat.address().unwrap());
        drop(boat);
        drop(sea);
        assert!(engine.find_network("sea").unwrap().is_none());
        assert!(!host.dir().join("state/networks/sea").exists());
    });
}
