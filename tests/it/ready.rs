//! When a container counts as started.

use std::net::{Ipv4Addr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use coracle::{Kind, Ready, tcp};
use coracle_testhost::run as host;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::support::{engine, fails, nothing_but_engines, process_named, script, tools};

#[test]
fn a_line_of_the_log_is_waited_for() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let log = Ready::log("listening").within(Duration::from_secs(20));
        let spec =
            script("echo starting; sleep 0.05; echo now listening >&2; exec sleep 100").ready(log.clone());
        let container = engine.start(&spec).unwrap();
        let output = container.output().unwrap();
        assert_eq!((&*output.stdout, &*output.stderr), ("starting\n", "now listening\n"));
        // What was written just before the end counts.
        let brief = engine.start(&script("echo listening").ready(log)).unwrap();
        assert!(brief.wait().unwrap().success());
    });
}

#[test]
fn a_port_is_waited_for() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        // In the container's network, but for the test's own binary not to be in its image.
        let server = thread::spawn(|| {
            let pid = process_named("sleep");
            let net = std::fs::File::open(format!("/proc/{pid}/ns/net")).unwrap();
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&net), Some(LinkNameSpaceType::Network))
                .unwrap();
            thread::sleep(Duration::from_millis(50));
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 7)).unwrap();
            listener.accept().unwrap().1
        });
        let port = Ready::port(tcp(7)).within(Duration::from_secs(20));
        let container = engine.start(&script("exec sleep 100").network("bridge").ready(port)).unwrap();
        let gateway = engine.find_network("bridge").unwrap().unwrap().gateway();
        assert_eq!(server.join().unwrap().ip(), gateway, "whoever looked did so over the network");
        drop(container);
        nothing_but_engines(host.dir());
    });
}

#[test]
fn what_is_not_ready_was_not_started() {
    host(|host| {
        let engine = engine(host.dir());
        tools(&engine);
        let soon = Duration::from_millis(150);
        let begin = Instant::now();
        let spec = script("echo hm; sleep 100").name("x");
        let log = spec.clone().ready(Ready::log("listening").within(soon));
        fails(engine.start(&log), Kind::Timeout, &["container `x`", "\"listening\"", "150ms", "| hm"]);
        let port = spec.clone().network("bridge").ready(Ready::port(tcp(80)).within(soon));
        fails(engine.start(&port), Kind::Timeout, &["container `x`", "80/tcp", "150ms"]);
        assert!(begin.elapsed() < Duration::from_secs(10));
        fails(engine.start(&spec.ready(Ready::port(tcp(80)))), Kind::Invalid, &["80/tcp", "no network"]);
        let early = script("echo reading config; echo no such config >&2; exit 3").name("x");
        let words = ["container `x`", "exit status 3", "| reading config", "| no such config"];
        fails(engine.start(&early.clone().ready(Ready::log("listening"))), Kind::Failed, &words);
        fails(engine.start(&early.network("bridge").ready(Ready::port(tcp(80)))), Kind::Failed, &words);
        nothing_but_engines(host.dir());
    });
}
