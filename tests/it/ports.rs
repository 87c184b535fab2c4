//! Ports of the host that lead into containers.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use coracle::{Engine, Kind, NetworkSpec, Publish, tcp, udp};
use coracle_testhost::run as host;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::support::{engine, fails, nothing_but_engines, process_named, says, script, tools};

/// Answers one caller in the network of the container whose process is called `name`.
fn answer_once(name: &'static str, port: u16) -> thread::JoinHandle<()> {
    let (ready, listening) = std::sync::mpsc::channel();
    let server = thread::spawn(move || {
        let pid = process_named(name);
        let net = std::fs::File::open(format!("/proc/{pid}/ns/net")).unwrap();
        move_into_link_name_space(std::os::fd::AsFd::as_fd(&net), Some(LinkNameSpaceType::Network)).unwrap();
        let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap();
        ready.send(()).unwrap();
        listener.accept().unwrap().0.write_all(b"ahoy").unwrap();
    });
    listening.recv().unwrap();
    server
}

fn ask(address: SocketAddr) -> String {
    let mut text = String::new();
    TcpStream::connect(address).unwrap().read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_published_port_is_reached_from_the_host_and_closed_with_its_container() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let container = engine.start(&script("exec sleep 100").network("bridge").publish(tcp(80))).unwrap();
        let address = container.addr(tcp(80)).unwrap();
        assert_eq!(address.ip(), Ipv4Addr::LOCALHOST, "nobody else is let in unless it is said");
        let server = answer_once("sleep", 80);
        assert_eq!(ask(address), "ahoy");
        server.join().unwrap();
        // Another engine sees it, too.
        let other = Engine::open(engine.path()).unwrap().find(container.id()).unwrap().unwrap();
        assert_eq!(other.published().unwrap(), container.published().unwrap());
        assert_eq!(container.published().unwrap()[0].to_string(), format!("{address}->80/tcp"));
        fails(container.addr(udp(80)), Kind::NotFound, &["80/udp", "not published"]);
        drop(container);
        TcpStream::connect(address).unwrap_err();
        drop(other);
        nothing_but_engines(host.dir());
    });
}

#[test]
fn a_port_that_is_taken_is_an_error_before_anything_starts() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let spec = script("exec sleep 100").network("bridge").publish(tcp(80).on(address));
        fails(engine.start(&spec), Kind::InUse, &[&address.port().to_string(), "in use"]);
        assert!(engine.containers().unwrap().is_empty());
        drop(taken);
        let container = engine.start(&spec).unwrap();
        assert_eq!(container.addr(tcp(80)).unwrap(), address);
        fails(engine.start(&spec), Kind::InUse, &[&address.port().to_string()]);
        drop(container);
        let alone = script("true").publish(tcp(80));
        fails(engine.start(&alone), Kind::Invalid, &["published port", "network"]);
        let range = Publish::parse("127.0.0.1:7000-7001:80-81").unwrap();
        let spec =
            range.into_iter().fold(script("exec sleep 100").network("bridge"), |spec, one| spec.publish(one));
        let container = engine.start(&spec).unwrap();
        assert_eq!(container.addr(tcp(81)).unwrap().port(), 7001);
        drop(container);
        nothing_but_engines(host.dir());
    });
}

#[test]
fn names_and_ports_by_ipv6() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let six = NetworkSpec::new("six").subnet("10.9.0.0/24").subnet("fd00:9::/64");
        let six = engine.network(&six).unwrap();
        let address = "fd00:9::7".parse().unwrap();
        let anywhere = tcp(80).on((Ipv6Addr::UNSPECIFIED, 0));
        let spec = script("exec sleep 100").name("web").network(&six).ip6(address).publish(anywhere);
        let container = engine.start(&spec).unwrap();
        let found = says(&engine, &script("getent ahostsv6 web").network(&six));
        assert!(found.starts_with("fd00:9::7 "), "{found}");
        let published = container.published().unwrap().remove(0);
        let server = answer_once("sleep", 80);
        // By an address of the host's that is not loopback.
        let host = six.pools().iter().find(|pool| pool.subnet.is_ipv6()).unwrap().gateway;
        assert_eq!(ask(SocketAddr::new(host, published.host().port())), "ahoy");
        server.join().unwrap();
    });
}
