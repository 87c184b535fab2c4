//! Endpoints with ports, listeners in them, and callers from anywhere, by either version of IP.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use coracle_host::Namespace;
use coracle_net::ports::parse;
use coracle_net::{Endpoint, Join, Network};

use crate::support::{join, netns};

/// The test's own namespace.
pub fn here() -> Namespace {
    Namespace::current_net().unwrap()
}

/// A join with these ports, as `-p` has them.
pub fn publish<'a>(netns: &'a Namespace, container: &str, ports: &[&str]) -> Join<'a> {
    let ports = ports.iter().flat_map(|text| parse(text).unwrap());
    ports.fold(join(netns, container), Join::publish)
}

/// A new namespace on a network.
pub fn at(network: &Network, name: &str, ports: &[&str]) -> (Namespace, Endpoint) {
    let netns = netns();
    let endpoint = network.join(&publish(&netns, name, ports)).unwrap();
    (netns, endpoint)
}

/// A listener inside, on all addresses of the family of `any`.
pub fn serve_on(netns: &Namespace, any: impl Into<IpAddr>, port: u16) -> TcpListener {
    let address = SocketAddr::from((any.into(), port));
    netns.within(|| TcpListener::bind(address)).unwrap().unwrap()
}

/// Connects from inside, and gives up soon.
pub fn call(from: &Namespace, to: (impl Into<IpAddr>, u16)) -> std::io::Result<TcpStream> {
    let to = SocketAddr::from((to.0.into(), to.1));
    from.within(|| TcpStream::connect_timeout(&to, Duration::from_millis(700))).unwrap()
}

/// Calls, and has a word with the listener. Whom the listener saw.
#[track_caller]
pub fn talk(from: &Namespace, to: (impl Into<IpAddr>, u16), listener: &TcpListener) -> IpAddr {
    let to = (to.0.into(), to.1);
    let mut call = call(from, to).unwrap_or_else(|error| panic!("{to:?}: {error}"));
    call.write_all(b"ahoy").unwrap();
    let (mut heard, peer) = listener.accept().unwrap();
    let mut word = [0; 4];
    heard.read_exact(&mut word).unwrap();
    heard.write_all(b"aye!").unwrap();
    call.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"aye!");
    peer.ip()
}

/// What becomes of a call that must not come through.
#[track_caller]
pub fn failure(from: &Namespace, to: (impl Into<IpAddr>, u16)) -> ErrorKind {
    let to = (to.0.into(), to.1);
    call(from, to).map(|_| panic!("{to:?} was reached")).unwrap_err().kind()
}
