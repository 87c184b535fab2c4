//! What others notice of us: nothing.

use std::time::{Duration, Instant};

use coracle_net::{Kind, NetworkSpec, loopback_up};
use coracle_testhost::run;
use std::os::fd::AsFd;

use crate::support::{self, join, netns, networks};

#[test]
fn loopback_is_all_that_none_needs() {
    run(|_host| {
        let netns = netns();
        let reach = || {
            std::net::TcpListener::bind("127.0.0.1:7")
                .and_then(|_| std::net::UdpSocket::bind("127.0.0.11:53"))
        };
        let send = || reach().and_then(|socket| socket.send_to(b"x", "127.0.0.1:9"));
        assert!(netns.within(send).unwrap().is_err());
        loopback_up(netns.as_fd()).unwrap();
        assert_eq!(netns.within(send).unwrap().unwrap(), 1);
        assert_eq!(loopback_up(std::fs::File::open("/").unwrap().as_fd()).unwrap_err().kind(), Kind::Invalid);
    });
}

#[test]
fn without_privilege_it_says_what_failed() {
    run(|host| {
        let networks = networks(host.dir());
        let sea = networks.create(&NetworkSpec::new("sea")).unwrap();
        let netns = netns();
        // A thread of its own: capabilities are a thread's.
        let error = std::thread::scope(|scope| {
            let deprived = scope.spawn(|| {
                let none = rustix::thread::CapabilitySets {
                    effective: rustix::thread::CapabilitySet::empty(),
                    permitted: rustix::thread::CapabilitySet::empty(),
                    inheritable: rustix::thread::CapabilitySet::empty(),
                };
                rustix::thread::set_capabilities(None, none).unwrap();
                assert_eq!(networks.reclaim().unwrap(), 0);
                sea.join(&join(&netns, "boat")).unwrap_err()
            });
            deprived.join().unwrap()
        });
        assert_eq!(error.kind(), Kind::Denied, "{error}");
        assert!(error.to_string().starts_with("join network `sea`: "), "{error}");
        assert!(error.to_string().contains("Operation not permitted (os error 1)"), "{error}");
    });
}

#[test]
fn a_join_takes_milliseconds() {
    run(|host| {
        let sea = networks(host.dir()).create(&NetworkSpec::new("sea")).unwrap();
        let before = support::picture();
        let first = (netns(), Instant::now());
        let _at = sea.join(&join(&first.0, "first")).unwrap();
        let up = first.1.elapsed();
        let mut joins: Vec<Duration> = (0..21)
            .map(|_| {
                let netns = netns();
                let begin = Instant::now();
                let endpoint = sea.join(&join(&netns, "next")).unwrap();
                let took = begin.elapsed();
                drop(endpoint);
                took
            })
            .collect();
        joins.sort();
        let _ = std::io::Write::write_all(
            &mut std::io::stderr(),
            format!("join: first {up:.1?}, next {:.1?} median, {:.1?} worst of 21\n", joins[10], joins[20])
                .as_bytes(),
        );
        // Generous: the machine may be busy. A goal of 5 ms is for the benchmark.
        assert!(joins[10] < Duration::from_millis(100), "{joins:?}");
        drop(_at);
        assert_eq!(support::picture(), before);
    });
}
