//! Whose resolvers a container asks, and who asks nobody.

use std::net::UdpSocket;

use coracle::{ConnectSpec, Container, ContainerSpec, ExecSpec, NetworkSpec};
use coracle_testhost::run as host;
use rustix::mount::{UnmountFlags, mount_bind, unmount};

use crate::support::{engine, tools};

/// The answer of a name server that knows one address for all names.
fn answer(query: &[u8]) -> Vec<u8> {
    let mut end = 12;
    while query[end] != 0 {
        end += usize::from(query[end]) + 1;
    }
    let kind = query[end + 2];
    let mut reply = query[..end + 5].to_vec();
    reply[2] |= 0x80;
    reply[6..12].copy_from_slice(&[0, u8::from(kind == 1), 0, 0, 0, 0]);
    if kind == 1 {
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 203, 0, 113, 9]);
    }
    reply
}

fn looks_up(container: &Container) -> bool {
    let (exit, output) = container.exec(&ExecSpec::new(["getent", "ahostsv4", "far.example.org"])).unwrap();
    assert_eq!(exit.success(), output.stdout.contains("203.0.113.9"), "{output:?}");
    exit.success()
}

/// CVE-2024-29018: what is asked is a way out.
#[test]
fn who_has_no_way_out_asks_nobody() {
    host(|host| {
        let server = UdpSocket::bind("127.0.0.1:53").unwrap();
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 512];
            loop {
                let (length, client) = server.recv_from(&mut buffer).unwrap();
                if length == 0 {
                    return;
                }
                server.send_to(&answer(&buffer[..length]), client).unwrap();
            }
        });
        let file = host.dir().join("resolv.conf");
        std::fs::write(&file, "nameserver 127.0.0.1\n").unwrap();
        mount_bind(&file, "/etc/resolv.conf").unwrap();
        let engine = engine(host.dir());
        tools(&engine);
        engine.network(&NetworkSpec::new("sea")).unwrap();
        engine.network(&NetworkSpec::new("pond").internal(true)).unwrap();
        let on = |network: &str| {
            let spec = ContainerSpec::new("tools").command(["sleep", "100"]).network(network);
            engine.start(&spec).unwrap()
        };
        assert!(looks_up(&on("sea")));
        let mut frog = on("pond");
        assert!(!looks_up(&frog));
        frog.connect(&ConnectSpec::new("sea")).unwrap();
        assert!(looks_up(&frog), "it has a way out now");
        frog.disconnect("sea").unwrap();
        assert!(!looks_up(&frog), "and none again");
        // Servers of its own are asked from within, whose loopback is another.
        let own = ContainerSpec::new("tools").command(["sleep", "100"]).network("sea");
        assert!(!looks_up(&engine.start(&own.dns([127, 0, 0, 1].into())).unwrap()));
        drop(frog);
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"", "127.0.0.1:53").unwrap();
        thread.join().unwrap();
        unmount("/etc/resolv.conf", UnmountFlags::empty()).unwrap();
    });
}
