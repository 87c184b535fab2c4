//! Names when much is asked, when many come and go, and when resolvers are not what they should be.

use std::collections::HashSet;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use coracle_net::NetworkSpec;
use coracle_net::dns::{Responder, Server};
use coracle_testhost::run;
use hickory_proto::rr::RecordType::A;

use crate::dns::{Client, Upstream, line, query, resolver, serving};
use crate::support::{join, netns, networks};

/// 10,000 questions to the host's resolver, 200 always under way: each is answered once, and none twice.
#[test]
fn none_of_ten_thousand_is_lost() {
    run(|_host| {
        let upstream = Upstream::start(1);
        let (netns, server) = resolver(vec![upstream.0]);
        serving(server, || {
            let client = Client::new(&netns);
            let ask = |id: u16| {
                client.0.send(&query(&format!("n{id}.example.org."), A, id)).unwrap();
            };
            let mut waiting: HashSet<u16> = (0..200).collect();
            waiting.iter().for_each(|id| ask(*id));
            for next in 200..10_200u16 {
                let reply = client.receive();
                assert!(waiting.remove(&reply.metadata.id), "{} was answered twice", reply.metadata.id);
                let expected = format!("n{}.example.org.", reply.metadata.id);
                assert_eq!(
                    (reply.queries[0].name().to_ascii(), line(&reply)),
                    (expected, "NoError 203.0.113.9".into())
                );
                if next < 10_000 {
                    waiting.insert(next);
                    ask(next);
                }
            }
            assert!(waiting.is_empty());
        });
        drop(upstream);
    });
}

/// A peer's first question finds a container that has just started, each of a thousand times.
#[test]
fn a_name_is_there_before_the_first_question() {
    run(|host| {
        let sea = networks(host.dir()).create(&NetworkSpec::new("sea").ipv6(true)).unwrap();
        let boat = netns();
        let _at_boat = sea.join(&join(&boat, "boat")).unwrap();
        let responder = Responder::new(vec![Arc::new(sea.zone())]);
        let server = Server::open(boat.as_fd(), responder, vec![]).unwrap();
        serving(server, || {
            let client = Client::new(&boat);
            for at in 0..1000 {
                let (netns, name) = (netns(), format!("ship{at}"));
                let endpoint = sea.join(&join(&netns, &name)).unwrap();
                assert_eq!(client.line(&name, A), format!("NoError {}", endpoint.address()));
                endpoint.leave_behind().unwrap();
                assert_eq!(client.line(&name, A), "NXDomain");
            }
        });
    });
}

/// A resolver of the host's that answers what nobody asked, cut off, with names that point at themselves, or as another.
/// The next one's answer is what the container gets.
#[test]
fn a_hostile_resolver_stops_nobody() {
    run(|_host| {
        let upstream = Upstream::start(1);
        let hostile = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = hostile.local_addr().unwrap();
        let liar = std::thread::spawn(move || {
            let mut seed = 7u64;
            let mut buffer = [0; 512];
            while let Ok((length @ 1.., client)) = hostile.recv_from(&mut buffer) {
                let asked = &buffer[..length];
                let mut lies: Vec<Vec<u8>> = (0..40).map(|cut| asked[..length.min(cut)].to_vec()).collect();
                let mut wrong_id = asked.to_vec();
                (wrong_id[0], wrong_id[2]) = (asked[0] ^ 0x55, 0x81);
                let mut other_name = asked.to_vec();
                (other_name[2], other_name[13]) = (0x81, b'x');
                let looped = [&asked[..2], b"\x81\x80\0\x01\0\x01\0\0\0\0\xc0\x0c\0\x01\0\x01"].concat();
                lies.extend([wrong_id, other_name, looped, vec![0xff; 4096]]);
                for _ in 0..40 {
                    seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    let mut bent = asked.to_vec();
                    let at = 2 + (seed >> 33) as usize % (length - 2);
                    bent[at] = bent[at].wrapping_add(1 + (seed >> 50) as u8 % 255);
                    // Not what could pass for an answer: the question stays one.
                    bent[2] &= 0x7f;
                    lies.push(bent);
                }
                lies.iter().for_each(|lie| drop(hostile.send_to(lie, client)));
            }
        });
        let (netns, server) = resolver(vec![address, upstream.0]);
        serving(server, || {
            let client = Client::new(&netns);
            client.0.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            assert_eq!(client.line("www.example.org.", A), "NoError 203.0.113.9");
        });
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"", address).unwrap();
        liar.join().unwrap();
        drop(upstream);
    });
}
