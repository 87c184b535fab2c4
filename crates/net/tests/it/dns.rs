//! Names inside containers, asked over real sockets.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coracle_host::Namespace;
use coracle_net::NetworkSpec;
use coracle_net::dns::{self, Names, Responder, Server};
use coracle_testhost::run;
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use rustix::event::{PollFd, PollFlags, poll};

use crate::support::{join, netns, networks};

/// Runs `body` while a thread does what a supervisor does: wait, and serve what is ready.
pub fn serving<T>(mut server: Server, body: impl FnOnce() -> T) -> T {
    let (stop, stopped) = UnixStream::pair().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            loop {
                let mut fds = [PollFd::new(&server, PollFlags::IN), PollFd::new(&stopped, PollFlags::IN)];
                poll(&mut fds, None).unwrap();
                if !fds[1].revents().is_empty() {
                    return;
                }
                server.serve_ready().unwrap();
            }
        });
        let stop = stop; // Also when the body panics, or the scope would wait forever.
        let done = body();
        drop(stop);
        done
    })
}

pub fn query(name: &str, kind: RecordType, id: u16) -> Vec<u8> {
    let mut query = Message::new(id, MessageType::Query, OpCode::Query);
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    query.to_vec().unwrap()
}

/// What is lost is to be the server's fault.
fn enlarge(socket: &UdpSocket) {
    rustix::net::sockopt::set_socket_recv_buffer_size_force(socket, 4 << 20).unwrap();
}

/// A client inside.
pub struct Client(pub UdpSocket);

impl Client {
    pub fn new(netns: &Namespace) -> Client {
        let socket = netns.within(|| UdpSocket::bind("127.0.0.1:0")).unwrap().unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket.connect("127.0.0.11:53").unwrap();
        enlarge(&socket);
        Client(socket)
    }

    fn ask(&self, name: &str, kind: RecordType) -> Message {
        self.0.send(&query(name, kind, 4711)).unwrap();
        let reply = self.receive();
        assert_eq!(reply.metadata.id, 4711);
        reply
    }

    pub fn receive(&self) -> Message {
        let mut buffer = [0; 4096];
        let length = self.0.recv(&mut buffer).unwrap();
        Message::from_vec(&buffer[..length]).unwrap()
    }

    /// `NoError 10.1.0.2`, `NXDomain`
    pub fn line(&self, name: &str, kind: RecordType) -> String {
        line(&self.ask(name, kind))
    }
}

pub fn line(reply: &Message) -> String {
    let mut line = format!("{:?}", reply.metadata.response_code);
    reply.answers.iter().for_each(|record| line.push_str(&format!(" {}", record.data)));
    line
}

fn ask_by_tcp(netns: &Namespace, queries: &[Vec<u8>]) -> Vec<Message> {
    let mut stream = netns.within(|| TcpStream::connect("127.0.0.11:53")).unwrap().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    for query in queries {
        stream.write_all(&(query.len() as u16).to_be_bytes()).unwrap();
        stream.write_all(query).unwrap();
    }
    let read = |_| {
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut reply = vec![0; u16::from_be_bytes(length) as usize];
        stream.read_exact(&mut reply).unwrap();
        Message::from_vec(&reply).unwrap()
    };
    queries.iter().map(read).collect()
}

#[test]
fn containers_find_each_other() {
    run(|host| {
        let networks = networks(host.dir());
        let sea = networks.create(&NetworkSpec::new("sea").subnet("10.1.0.0/24")).unwrap();
        let lake = networks.create(&NetworkSpec::new("lake").subnet("10.2.0.0/24")).unwrap();
        let (boat, buoy, mark, duck) = (netns(), netns(), netns(), netns());
        let at_boat = sea.join(&join(&boat, "boat")).unwrap();
        let _at_buoy = sea.join(&join(&buoy, "buoy").names(["pool"])).unwrap();
        let at_mark = sea.join(&join(&mark, "mark").names(["Pool"])).unwrap();
        let _at_duck = lake.join(&join(&duck, "duck")).unwrap();
        let zones: Vec<Arc<dyn Names>> = vec![Arc::new(sea.zone())];
        let server = Server::open(boat.as_fd(), Responder::new(zones), vec![]).unwrap();
        serving(server, || {
            use RecordType::{A, AAAA, PTR};
            let client = Client::new(&boat);
            assert_eq!(client.line("buoy.", A), "NoError 10.1.0.3");
            assert_eq!(client.line("BOAT.", A), "NoError 10.1.0.2");
            assert_eq!(client.line("buoy.sea.", A), "NoError 10.1.0.3");
            assert_eq!(client.line("buoy.", AAAA), "NoError");
            assert_eq!(client.line("duck.", A), "NXDomain", "another network's");
            assert_eq!(client.line("3.0.1.10.in-addr.arpa.", PTR), "NoError buoy.sea.");
            assert_eq!(client.line("example.org.", A), "ServFail", "nobody to ask");
            let both = [client.line("pool.", A), client.line("pool.", A)];
            assert!(both.contains(&"NoError 10.1.0.3 10.1.0.4".into()), "{both:?}");
            assert!(both.contains(&"NoError 10.1.0.4 10.1.0.3".into()), "{both:?}");
            let by_tcp = ask_by_tcp(&boat, &[query("buoy.", A, 1), query("nobody.", A, 2)]);
            assert_eq!(by_tcp.iter().map(line).collect::<Vec<_>>(), ["NoError 10.1.0.3", "NXDomain"]);
            // Gone when it leaves, there before anything could ask when it comes.
            at_mark.leave().unwrap();
            assert_eq!(client.line("mark.", A), "NXDomain");
            assert_eq!(client.line("pool.", A), "NoError 10.1.0.3");
            for at in 0..50 {
                let netns = netns();
                let name = format!("ship{at}");
                let endpoint = sea.join(&join(&netns, &name)).unwrap();
                assert_eq!(client.line(&name, A), format!("NoError {}", endpoint.address()));
            }
        });
        drop(at_boat);
    });
}

/// Programs in a container may have port 53 for themselves, and the resolver answers all the same.
#[test]
fn port_53_is_the_containers() {
    run(|host| {
        let sea = networks(host.dir()).create(&NetworkSpec::new("sea").subnet("10.1.0.0/24")).unwrap();
        let boat = netns();
        let at_boat = sea.join(&join(&boat, "boat")).unwrap();
        let early = boat.within(|| UdpSocket::bind("0.0.0.0:53")).unwrap().unwrap();
        let server = Server::open(boat.as_fd(), Responder::new(vec![Arc::new(sea.zone())]), vec![]).unwrap();
        let own = boat.within(|| (UdpSocket::bind("[::]:53"), TcpListener::bind("0.0.0.0:53"))).unwrap();
        let (_six, listener) = (own.0.ok(), own.1.unwrap());
        serving(server, || {
            let client = Client::new(&boat);
            assert_eq!(client.line("boat.", RecordType::A), format!("NoError {}", at_boat.address()));
            let by_tcp = ask_by_tcp(&boat, &[query("boat.", RecordType::A, 1)]);
            assert_eq!(line(&by_tcp[0]), format!("NoError {}", at_boat.address()));
            // Its own servers are reached by its other addresses, from inside and from its neighbours.
            let asker = netns();
            let _at = sea.join(&join(&asker, "asker")).unwrap();
            for from in [&boat, &asker] {
                let socket = from.within(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
                socket.send_to(b"own", (at_boat.address(), 53)).unwrap();
                let mut word = [0; 8];
                early.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                assert_eq!(early.recv(&mut word).unwrap(), 3);
                let to = SocketAddr::from((at_boat.address(), 53));
                let _call = from
                    .within(|| TcpStream::connect_timeout(&to, Duration::from_secs(10)))
                    .unwrap()
                    .unwrap();
                listener.accept().unwrap();
            }
        });
    });
}

#[test]
fn one_server_for_several_networks_and_new_ones() {
    run(|host| {
        let networks = networks(host.dir());
        let sea = networks.create(&NetworkSpec::new("sea").subnet("10.1.0.0/24")).unwrap();
        let lake = networks.create(&NetworkSpec::new("lake").subnet("10.2.0.0/24")).unwrap();
        let (boat, duck) = (netns(), netns());
        let _at_sea = sea.join(&join(&boat, "boat")).unwrap();
        let _at_duck = lake.join(&join(&duck, "duck")).unwrap();
        let mut server =
            Server::open(boat.as_fd(), Responder::new(vec![Arc::new(sea.zone())]), vec![]).unwrap();
        // One after the other: the last one answers.
        let _former = std::mem::replace(
            &mut server,
            Server::open(boat.as_fd(), Responder::new(vec![Arc::new(sea.zone())]), vec![]).unwrap(),
        );
        let client = Client::new(&boat);
        let step = |server: &mut Server| {
            client.0.send(&query("duck.", RecordType::A, 1)).unwrap();
            server.serve_ready().unwrap();
            line(&client.receive())
        };
        assert_eq!(step(&mut server), "NXDomain");
        let second = join(&boat, "boat").interface("eth1").default_route(false);
        let _at_lake = lake.join(&second).unwrap();
        server.set_responder(Responder::new(vec![Arc::new(sea.zone()), Arc::new(lake.zone())]));
        assert_eq!(step(&mut server), "NoError 10.2.0.2");
    });
}

/// A name server of the host, UDP and TCP. Answers A with 203.0.113.9, TXT with 2,000 bytes (truncated over UDP),
/// and says that `*.nowhere.` does not exist. UDP answers come in batches, last first.
pub struct Upstream(pub SocketAddr);

impl Upstream {
    pub fn start(batch: usize) -> Upstream {
        let (datagrams, listener) = loop {
            let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
            if let Ok(listener) = TcpListener::bind(datagrams.local_addr().unwrap()) {
                break (datagrams, listener);
            }
        };
        let address = datagrams.local_addr().unwrap();
        enlarge(&datagrams);
        std::thread::spawn(move || {
            loop {
                let mut waiting = Vec::new();
                while waiting.len() < batch {
                    let mut buffer = [0; 4096];
                    let Ok((length, client)) = datagrams.recv_from(&mut buffer) else { return };
                    if length == 0 {
                        return;
                    }
                    waiting.push((upstream_answer(&buffer[..length], false), client));
                }
                for (reply, client) in waiting.into_iter().rev() {
                    datagrams.send_to(&reply, client).unwrap();
                }
            }
        });
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let mut length = [0; 2];
                if stream.read_exact(&mut length).is_err() {
                    return;
                }
                let mut query = vec![0; u16::from_be_bytes(length) as usize];
                stream.read_exact(&mut query).unwrap();
                let reply = upstream_answer(&query, true);
                stream.write_all(&(reply.len() as u16).to_be_bytes()).unwrap();
                stream.write_all(&reply).unwrap();
            }
        });
        Upstream(address)
    }
}

/// Ends both threads.
impl Drop for Upstream {
    fn drop(&mut self) {
        let _ = UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"", self.0);
        let _ = TcpStream::connect(self.0);
    }
}

fn upstream_answer(query: &[u8], whole: bool) -> Vec<u8> {
    let mut reply = Message::from_vec(query).unwrap().into_response();
    let question = reply.queries[0].clone();
    let name = question.name().clone();
    if name.to_ascii().ends_with(".nowhere.") {
        reply.metadata.response_code = ResponseCode::NXDomain;
    } else if question.query_type() == RecordType::TXT && whole {
        let text = TXT::new((0..10).map(|_| "x".repeat(200)).collect());
        reply.add_answer(Record::from_rdata(name, 1, RData::TXT(text)));
    } else if question.query_type() == RecordType::TXT {
        reply.metadata.truncation = true;
    } else {
        reply.add_answer(Record::from_rdata(name, 1, RData::A(A(Ipv4Addr::new(203, 0, 113, 9)))));
    }
    reply.to_vec().unwrap()
}

/// A namespace with nothing but a resolver.
pub fn resolver(upstream: Vec<SocketAddr>) -> (Namespace, Server) {
    let netns = netns();
    coracle_net::loopback_up(netns.as_fd()).unwrap();
    let server = Server::open(netns.as_fd(), Responder::default(), upstream).unwrap();
    (netns, server)
}

#[test]
fn other_names_are_asked_of_the_hosts_resolvers() {
    run(|_host| {
        let upstream = Upstream::start(1);
        // The first of the two is not there: its port is closed.
        let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (netns, server) = resolver(vec![closed, upstream.0]);
        serving(server, || {
            let client = Client::new(&netns);
            let begin = Instant::now();
            assert_eq!(client.line("www.example.org.", RecordType::A), "NoError 203.0.113.9");
            assert_eq!(client.line("www.nowhere.", RecordType::A), "NXDomain");
            assert!(begin.elapsed() < Duration::from_secs(2), "a closed port needs no timeout");
            let cut = client.ask("big.example.org.", RecordType::TXT);
            assert!(cut.metadata.truncation && cut.answers.is_empty());
            let whole = &ask_by_tcp(&netns, &[query("big.example.org.", RecordType::TXT, 5)])[0];
            assert_eq!(
                (whole.metadata.id, whole.answers.len(), whole.to_vec().unwrap().len() > 2000),
                (5, 1, true)
            );
        });
        let (netns, server) = resolver(vec![closed]);
        serving(server, || {
            assert_eq!(Client::new(&netns).line("www.example.org.", RecordType::A), "ServFail");
            assert_eq!(line(&ask_by_tcp(&netns, &[query("a.b.", RecordType::A, 1)])[0]), "ServFail");
        });
        drop(upstream);
    });
}

#[test]
fn a_silent_resolver_is_given_up_for_the_next() {
    run(|_host| {
        let upstream = Upstream::start(1);
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (netns, server) = resolver(vec![silent.local_addr().unwrap(), upstream.0]);
        serving(server, || {
            let begin = Instant::now();
            assert_eq!(Client::new(&netns).line("www.example.org.", RecordType::A), "NoError 203.0.113.9");
            assert!((Duration::from_millis(1900)..Duration::from_secs(4)).contains(&begin.elapsed()));
        });
        drop(upstream);
    });
}

#[test]
fn many_questions_in_flight_keep_their_answers_apart() {
    run(|_host| {
        let upstream = Upstream::start(100);
        let (netns, server) = resolver(vec![upstream.0]);
        serving(server, || {
            // Two clients with the same ids.
            let clients = [Client::new(&netns), Client::new(&netns)];
            for round in 0..20 {
                let mut asked = HashMap::new();
                for id in 0..50u16 {
                    for (at, client) in clients.iter().enumerate() {
                        let name = format!("n{id}.c{at}.r{round}.org.");
                        client.0.send(&query(&name, RecordType::A, id)).unwrap();
                        asked.insert((at, id), name);
                    }
                }
                for (at, client) in clients.iter().enumerate() {
                    for _ in 0..50 {
                        let reply = client.receive();
                        let name = asked.remove(&(at, reply.metadata.id)).expect("each is answered once");
                        assert_eq!(
                            (reply.queries[0].name().to_ascii(), line(&reply)),
                            (name, "NoError 203.0.113.9".into())
                        );
                    }
                }
            }
        });
        drop(upstream);
    });
}

#[test]
fn hostile_clients_stop_nobody() {
    run(|_host| {
        let upstream = Upstream::start(1);
        let (netns, server) = resolver(vec![upstream.0]);
        serving(server, || {
            let client = Client::new(&netns);
            let good = query("www.example.org.", RecordType::A, 1);
            // Connections that say nothing, half a message, or nonsense; more than the server keeps.
            let idle: Vec<TcpStream> = (0..200)
                .map(|at: usize| {
                    let mut stream = netns.within(|| TcpStream::connect("127.0.0.11:53")).unwrap().unwrap();
                    let bytes: &[u8] = [b"".as_slice(), b"\xff", b"\0\x20abc", b"\0\x05short"][at % 4];
                    let _ = stream.write_all(bytes);
                    stream
                })
                .collect();
            let mut seed = 1u64;
            for length in (0..512).step_by(3) {
                let noise: Vec<u8> = (0..length)
                    .map(|_| {
                        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                        (seed >> 33) as u8
                    })
                    .collect();
                client.0.send(&noise).unwrap();
                let mut damaged = good.clone();
                damaged[length % good.len()] ^= 0xff;
                client.0.send(&damaged).unwrap();
            }
            // Datagrams may be lost while the noise fills queues, so this one asks again, as any client does.
            let other = Client::new(&netns);
            other.0.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            let mut buffer = [0; 512];
            let answer = (0..10).find_map(|_| {
                other.0.send(&query("www.example.org.", RecordType::A, 4711)).unwrap();
                other.0.recv(&mut buffer).ok()
            });
            let answer = Message::from_vec(&buffer[..answer.unwrap()]).unwrap();
            assert_eq!(line(&answer), "NoError 203.0.113.9");
            assert_eq!(line(&ask_by_tcp(&netns, &[good])[0]), "NoError 203.0.113.9");
            drop(idle);
        });
        drop(upstream);
    });
}

#[test]
fn questions_leave_by_the_hosts_way_or_the_containers_or_not_at_all() {
    run(|_host| {
        let ours = netns();
        coracle_net::loopback_up(ours.as_fd()).unwrap();
        // One on the container's loopback, and one on the host's.
        let (inside, outside) = (ours.within(|| Upstream::start(1)).unwrap(), Upstream::start(1));
        let all = |upstream: dns::Upstream, forwards: bool| {
            let mut server = Server::open(ours.as_fd(), Responder::default(), upstream).unwrap();
            server.set_forwarding(forwards);
            serving(server, || {
                let udp = Client::new(&ours).line("www.example.org.", RecordType::A);
                let tcp = &ask_by_tcp(&ours, &[query("big.example.org.", RecordType::TXT, 5)])[0];
                (udp, tcp.metadata.response_code)
            })
        };
        let (answered, refused) = (
            ("NoError 203.0.113.9".to_owned(), ResponseCode::NoError),
            ("ServFail".to_owned(), ResponseCode::ServFail),
        );
        assert_eq!(all(dns::Upstream::of_the_container([inside.0]), true), answered);
        assert_eq!(all(dns::Upstream::of_the_container([outside.0]), true), refused);
        assert_eq!(all(dns::Upstream::of_the_host([outside.0]), true), answered);
        assert_eq!(all(dns::Upstream::of_the_host([inside.0]), true), refused);
        assert_eq!(all(dns::Upstream::of_the_host([outside.0]), false), refused);
        drop(outside);
        ours.within(|| drop(inside)).unwrap();
    });
}
