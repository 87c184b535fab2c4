//! The server: sockets, one epoll instance over all of them, and no thread of its own.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use coracle_host::{Call, Namespace, random_hex};
use hickory_proto::op::ResponseCode;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

use super::flight::{Flight, Flights};
use super::tcp::{Connection, Role, State};
use super::{ADDRESS, Answer, Responder, Upstream, message};
use crate::error::Doing;
use crate::{Kind, Result, nft};

const DATAGRAMS: u64 = 0;
const LISTENER: u64 = 1;
const TIMER: u64 = 2;
/// Servers' sockets are numbered from here, connections from [`CONNECTIONS`].
const SERVERS: u64 = 16;
const CONNECTIONS: u64 = 1 << 16;
/// In bytes, as the kernel counts them: about a thousand for a datagram.
const BUFFER: usize = 4 << 20;
/// Descriptors are the embedding program's, and scarce.
const MOST_CONNECTIONS: usize = 128;
/// After so many datagrams of one socket the others have their turn.
const BURST: usize = 64;

/// The resolver of one container, at 127.0.0.11 port 53 of its namespace, UDP and TCP.
///
/// It listens on other ports, and a table of the namespace's (`inet coracle-dns`) exchanges them for 53: the container
/// may bind port 53 of all addresses. Without nf_tables it has that port itself.
///
/// It has no thread: whoever owns it waits until its descriptor ([`AsFd`]) is readable, together with whatever
/// else it waits for, and then calls [`Server::serve_ready`]. Timeouts are in the descriptor, too.
pub struct Server {
    epoll: OwnedFd,
    timer: OwnedFd,
    armed: Option<Instant>,
    datagrams: UdpSocket,
    listener: TcpListener,
    responder: Responder,
    upstream: Upstream,
    /// Where they are asked from, if not here.
    inside: Option<Namespace>,
    sockets: Vec<UdpSocket>,
    forwards: bool,
    flights: Flights,
    connections: HashMap<u64, Connection>,
    next: u64,
}

impl Server {
    /// Listens inside `netns`, whose loopback interface must be up. What `responder` doesn't know is asked of
    /// `upstream` ([`Upstream`] says from where; a list of addresses is asked from the network namespace of the calling
    /// thread); with none, such questions get SERVFAIL. It takes the place of one that was opened in the namespace before.
    ///
    /// # Errors
    /// `Denied`; else as of socket(2).
    pub fn open(
        netns: BorrowedFd<'_>,
        responder: Responder,
        upstream: impl Into<Upstream>,
    ) -> Result<Server> {
        Server::try_open(netns, responder, upstream.into()).doing(|| "open the DNS server")
    }

    fn try_open(netns: BorrowedFd<'_>, responder: Responder, upstream: Upstream) -> Result<Server> {
        let netns = Namespace::try_from(netns)?;
        let (datagrams, listener) = netns.within(listen)??;
        datagrams.set_nonblocking(true).call(|| "fcntl(DNS server, O_NONBLOCK)")?;
        listener.set_nonblocking(true).call(|| "fcntl(DNS server, O_NONBLOCK)")?;
        let epoll = epoll::create(CreateFlags::CLOEXEC).call(|| "epoll_create()")?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer =
            rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags).call(|| "timerfd_create()")?;
        let all = || upstream.servers.iter().map(socket_to).collect::<Result<Vec<_>>>();
        let (sockets, inside) = match upstream.inside && !upstream.servers.is_empty() {
            true => (netns.within(all)??, Some(netns)),
            false => (all()?, None),
        };
        let server = Server {
            epoll,
            timer,
            armed: None,
            datagrams,
            listener,
            responder,
            upstream,
            inside,
            sockets,
            forwards: true,
            flights: Flights::default(),
            connections: HashMap::new(),
            next: CONNECTIONS,
        };
        server.watch(server.datagrams.as_fd(), DATAGRAMS)?;
        server.watch(server.listener.as_fd(), LISTENER)?;
        server.watch(server.timer.as_fd(), TIMER)?;
        for (socket, number) in server.sockets.iter().zip(SERVERS..) {
            server.watch(socket.as_fd(), number)?;
        }
        Ok(server)
    }

    /// Another responder from now on: the container has joined a network, or left one.
    pub fn set_responder(&mut self, responder: Responder) {
        self.responder = responder;
    }

    /// Whether the upstream servers are asked at all, as they are unless told otherwise. A container that has no way out
    /// must not have one by way of names either (CVE-2024-29018); such questions get SERVFAIL.
    pub fn set_forwarding(&mut self, yes: bool) {
        self.forwards = yes;
    }

    /// Serves what is ready, and returns without waiting for more.
    ///
    /// # Errors
    /// Of epoll itself. What a client or an upstream server does is never an error.
    pub fn serve_ready(&mut self) -> Result<()> {
        let mut events = Vec::with_capacity(64);
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&none)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(crate::Error::os("epoll_wait(DNS server)", errno)),
        }
        let now = Instant::now();
        for event in &events {
            match event.data.u64() {
                DATAGRAMS => self.serve_datagrams(now),
                LISTENER => self.accept(now)?,
                TIMER => self.expire(now),
                number if number >= CONNECTIONS => self.serve_connection(number, now),
                number => self.take_answers((number - SERVERS) as usize, now),
            }
        }
        self.arm()
    }

    fn serve_datagrams(&mut self, now: Instant) {
        let mut buffer = [0; 4096];
        for _ in 0..BURST {
            let Ok((length, client)) = self.datagrams.recv_from(&mut buffer) else { return };
            let query = &buffer[..length];
            match self.responder.answer(query) {
                Answer::Reply(reply) => self.reply(reply, query, client),
                Answer::Forward => {
                    let flight = Flight { client, query: query.to_vec(), server: 0, tries: 0 };
                    self.ask(flight, now);
                }
                Answer::Ignore => {}
            }
        }
    }

    /// A client that takes no answer will ask again.
    fn reply(&self, reply: Vec<u8>, query: &[u8], client: SocketAddr) {
        let _ = self.datagrams.send_to(&message::fit(reply, message::limit(query)), client);
    }

    /// Asks one server after the other, each at least once and all together at least twice.
    fn ask(&mut self, mut flight: Flight, now: Instant) {
        while self.forwards && flight.tries < self.sockets.len().max(2) && !self.sockets.is_empty() {
            flight.server = flight.tries % self.sockets.len();
            flight.tries += 1;
            let mut query = flight.query.clone();
            let server = flight.server;
            let Some(id) = self.flights.start(flight.clone(), random_id(), now) else { break };
            message::set_id(&mut query, id);
            let socket = &self.sockets[server];
            let sent = socket.send(&query).or_else(|_| {
                socket.connect(self.upstream.servers[server])?;
                socket.send(&query)
            });
            match sent {
                Ok(_) => return,
                Err(_) => {
                    self.flights.abandon(id);
                }
            }
        }
        self.reply(message::refusal(&flight.query, ResponseCode::ServFail), &flight.query, flight.client);
    }

    fn take_answers(&mut self, server: usize, now: Instant) {
        let mut buffer = vec![0; 1 << 16];
        for _ in 0..BURST {
            let Some(socket) = self.sockets.get(server) else { return };
            match socket.recv(&mut buffer) {
                Ok(length) => {
                    let mut reply = buffer[..length].to_vec();
                    let Some(flight) = self.flights.land(server, &reply) else { continue };
                    message::set_id(&mut reply, message::id(&flight.query));
                    self.reply(reply, &flight.query, flight.client);
                }
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                    for flight in self.flights.refused(server) {
                        self.ask(flight, now);
                    }
                }
                Err(_) => return,
            }
        }
    }

    fn accept(&mut self, now: Instant) -> Result<()> {
        for _ in 0..BURST {
            let Ok((stream, _)) = self.listener.accept() else { return Ok(()) };
            if !self.make_room(None) {
                continue;
            }
            let Ok(connection) = Connection::accepted(stream, now) else { continue };
            self.add(connection)?;
        }
        Ok(())
    }

    /// Where there are too many connections, closes the client's that was of no use for longest, but for one.
    fn make_room(&mut self, but: Option<u64>) -> bool {
        if self.connections.len() < MOST_CONNECTIONS {
            return true;
        }
        let clients = self
            .connections
            .iter()
            .filter(|(number, connection)| Some(**number) != but && matches!(connection.role, Role::Client));
        let oldest = clients.min_by_key(|(_, connection)| connection.deadline).map(|(number, _)| *number);
        oldest.is_some_and(|number| self.connections.remove(&number).is_some())
    }

    fn add(&mut self, connection: Connection) -> Result<u64> {
        let number = self.next;
        self.next += 1;
        let fd = connection.stream().as_fd();
        epoll::add(&self.epoll, fd, EventData::new_u64(number), interest(&connection))
            .call(|| "epoll_ctl(DNS server, EPOLL_CTL_ADD)")?;
        self.connections.insert(number, connection);
        Ok(number)
    }

    fn serve_connection(&mut self, number: u64, now: Instant) {
        // Taken out while it is served, so that serving it may add and remove others.
        let Some(mut connection) = self.connections.remove(&number) else { return };
        let mut state = connection.write(now);
        let (messages, read) = connection.read(now);
        if let Role::Upstream { client, server, query, tries } = &connection.role {
            if let Some(reply) = messages.into_iter().find(|reply| message::answers(reply, query)) {
                return self.pass_on(*client, &reply, now);
            }
            if state == State::Closed || read == State::Closed {
                return self.ask_by_tcp(*client, query.clone(), server + 1, *tries, now);
            }
        } else {
            for query in messages {
                match self.responder.answer(&query) {
                    Answer::Reply(reply) => connection.push(&reply),
                    Answer::Forward => {
                        // The answer goes to the connection by its number, so it must be findable again.
                        self.connections.insert(number, connection);
                        self.ask_by_tcp(number, query, 0, 0, now);
                        let Some(back) = self.connections.remove(&number) else { return };
                        connection = back;
                    }
                    Answer::Ignore => state = State::Closed,
                }
            }
            if state == State::Open {
                state = connection.write(now);
            }
            if read == State::Closed && !connection.wants_to_write() {
                return;
            }
        }
        if state == State::Open {
            self.keep(number, connection);
        }
    }

    /// Puts a connection back, watched for what it now waits for. Dropping it instead closes it.
    fn keep(&mut self, number: u64, connection: Connection) {
        let fd = connection.stream().as_fd();
        if epoll::modify(&self.epoll, fd, EventData::new_u64(number), interest(&connection)).is_ok() {
            self.connections.insert(number, connection);
        }
    }

    fn ask_by_tcp(&mut self, client: u64, query: Vec<u8>, mut server: usize, mut tries: usize, now: Instant) {
        let count = self.upstream.servers.len();
        while self.forwards && tries < count && self.make_room(Some(client)) {
            server %= count;
            tries += 1;
            let role = Role::Upstream { client, server, query: query.clone(), tries };
            let to = self.upstream.servers[server];
            let connect = || Connection::to(to, role, now).ok();
            let connection = match &self.inside {
                Some(inside) => inside.within(connect).ok().flatten(),
                None => connect(),
            };
            if let Some(mut connection) = connection {
                connection.push(&query);
                if self.add(connection).is_ok() {
                    return;
                }
            }
            server += 1;
        }
        self.pass_on(client, &message::refusal(&query, ResponseCode::ServFail), now);
    }

    fn pass_on(&mut self, client: u64, reply: &[u8], now: Instant) {
        let Some(mut connection) = self.connections.remove(&client) else { return };
        connection.push(reply);
        if connection.write(now) == State::Open {
            self.keep(client, connection);
        }
    }

    fn expire(&mut self, now: Instant) {
        let mut ticks = [0; 8];
        let _ = rustix::io::read(&self.timer, &mut ticks);
        self.armed = None;
        for flight in self.flights.overdue(now) {
            self.ask(flight, now);
        }
        let overdue: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.deadline <= now)
            .map(|(number, _)| *number)
            .collect();
        for number in overdue {
            let Some(connection) = self.connections.remove(&number) else { continue };
            if let Role::Upstream { client, server, query, tries } = connection.role {
                self.ask_by_tcp(client, query, server + 1, tries, now);
            }
        }
    }

    /// Sets the timer to whatever is due first.
    fn arm(&mut self) -> Result<()> {
        let connections = self.connections.values().map(|connection| connection.deadline);
        let due = connections.chain(self.flights.deadline()).min();
        if due == self.armed {
            return Ok(());
        }
        // Zero would disarm it.
        let left = due.map_or(Duration::ZERO, |due| {
            due.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
        });
        let value = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)
            .call(|| "timerfd_settime(DNS server)")?;
        self.armed = due;
        Ok(())
    }

    fn watch(&self, fd: BorrowedFd<'_>, number: u64) -> Result<()> {
        Ok(epoll::add(&self.epoll, fd, EventData::new_u64(number), EventFlags::IN)
            .call(|| "epoll_ctl(DNS server, EPOLL_CTL_ADD)")?)
    }
}

/// On ports of our own, to which the kernel leads what is sent to port 53: that one is the container's. Where it can't,
/// on port 53.
fn listen() -> Result<(UdpSocket, TcpListener)> {
    let bind = |port: u16| -> Result<(UdpSocket, TcpListener)> {
        let datagrams = UdpSocket::bind((ADDRESS, port)).call(|| format!("bind({ADDRESS}:{port}, udp)"))?;
        let listener = TcpListener::bind((ADDRESS, port)).call(|| format!("bind({ADDRESS}:{port}, tcp)"))?;
        Ok((datagrams, listener))
    };
    let (datagrams, listener) = bind(0)?;
    enlarge(&datagrams);
    let udp = datagrams.local_addr().call(|| "getsockname(DNS server, udp)")?.port();
    let tcp = listener.local_addr().call(|| "getsockname(DNS server, tcp)")?.port();
    match nft::lead_to_resolver(ADDRESS, udp, tcp) {
        Err(error) if error.kind() == Kind::Unsupported => bind(53),
        done => done.map(|()| (datagrams, listener)),
    }
}

/// Room for some thousands of datagrams, where there would be one for some hundred. Best effort.
fn enlarge(socket: &UdpSocket) {
    if sockopt::set_socket_recv_buffer_size_force(socket, BUFFER).is_err() {
        let _ = sockopt::set_socket_recv_buffer_size(socket, BUFFER);
    }
}

fn interest(connection: &Connection) -> EventFlags {
    if connection.wants_to_write() { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN }
}

fn socket_to(server: &SocketAddr) -> Result<UdpSocket> {
    let any: SocketAddr = if server.is_ipv4() { ([0; 4], 0).into() } else { ([0; 16], 0).into() };
    let socket = UdpSocket::bind(any).call(|| format!("bind({any}, udp)"))?;
    // Connected, so that only the server's datagrams come in, and its absence is told. A host that has no way to it now
    // (it is offline) may have one when something is asked.
    let _ = socket.connect(server);
    enlarge(&socket);
    socket.set_nonblocking(true).call(|| format!("fcntl({server}, O_NONBLOCK)"))?;
    Ok(socket)
}

fn random_id() -> u16 {
    random_hex(2).ok().and_then(|digits| u16::from_str_radix(&digits, 16).ok()).unwrap_or(0)
}

impl AsFd for Server {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("upstream", &self.upstream).finish_non_exhaustive()
    }
}
