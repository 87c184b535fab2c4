//! Published ports of SCTP.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use coracle_net::{Kind, NetworkSpec};
use coracle_testhost::{run, skip};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};

use crate::support::{HOST, OUTSIDE, Outside, netns, networks};
use crate::talk::publish;

/// A stream socket, which the standard library reads from like any other.
fn socket() -> rustix::io::Result<OwnedFd> {
    let socket =
        socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, Some(ipproto::SCTP))?;
    set_socket_timeout(&socket, Timeout::Send, Some(Duration::from_millis(700)))?;
    Ok(socket)
}

fn call(to: (Ipv4Addr, u16)) -> std::io::Result<TcpStream> {
    let socket = socket()?;
    rustix::net::connect(&socket, &SocketAddr::from(to))?;
    Ok(socket.into())
}

#[test]
fn associations_come_in() {
    run(|host| {
        let outside = Outside::new();
        let networks = networks(host.dir());
        let sea = networks.create(&NetworkSpec::new("sea").subnet("10.1.0.0/24")).unwrap();
        let boat = netns();
        let joined = sea.join(&publish(&boat, "boat", &["8080:80/sctp"]));
        if socket().is_err() {
            let error = joined.unwrap_err();
            assert_eq!(error.kind(), Kind::Unsupported, "{error}");
            assert!(error.to_string().contains("CONFIG_IP_SCTP"), "{error}");
            return skip("sctp::associations_come_in", "the kernel has no SCTP (CONFIG_IP_SCTP)");
        }
        let endpoint = joined.unwrap();
        let listener = boat
            .within(|| {
                let socket = socket().unwrap();
                rustix::net::bind(&socket, &SocketAddr::from((Ipv4Addr::UNSPECIFIED, 80))).unwrap();
                rustix::net::listen(&socket, 8).unwrap();
                TcpListener::from(socket)
            })
            .unwrap();
        let mut stream = outside.0.within(|| call((HOST, 8080))).unwrap().unwrap();
        stream.write_all(b"ahoy").unwrap();
        let (mut heard, peer) = listener.accept().unwrap();
        let mut word = [0; 4];
        heard.read_exact(&mut word).unwrap();
        assert_eq!((&word, peer.ip()), (b"ahoy", OUTSIDE.into()));
        let clash = sea.join(&publish(&netns(), "mate", &["8080:80/sctp"])).unwrap_err();
        assert_eq!(clash.kind(), Kind::InUse, "{clash}");
        drop((stream, heard));
        endpoint.leave().unwrap();
        let closed = outside.0.within(|| call((HOST, 8080))).unwrap().unwrap_err();
        assert_ne!(closed.kind(), ErrorKind::AddrInUse, "{closed}");
    });
}
