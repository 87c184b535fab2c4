//! Ports of the host, held by sockets: whoever else wants one is told so, and the kernel frees them with us.
//!
//! Nothing ever arrives at these sockets, because packets are translated before they get so far. If the rules
//! are not there (somebody flushed them), a caller is refused: the TCP socket is bound, but does not listen.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;

use coracle_host::Call;
use rustix::io::Errno;
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, sockopt};

use crate::error::Doing;
use crate::ports::{Protocol, Publish, Published};
use crate::{Error, Kind, Result};

/// A port of the host's, had as long as this lives.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) published: Published,
    _socket: OwnedFd,
}

/// How often a port that the kernel called free may be gone before it is taken.
const TRIES: u32 = 64;

/// Binds all of them, in the network namespace of the calling thread. Those who know which port they want go
/// first, so that no free choice takes it away from them. The order of the answer is that of the question.
pub(crate) fn hold(wanted: &[Publish]) -> Result<Vec<Held>> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by_key(|at| match wanted[*at].host_ports {
        Some((first, last)) => last - first,
        None => u16::MAX,
    });
    let mut held: Vec<Option<Held>> = wanted.iter().map(|_| None).collect();
    for at in order {
        held[at] = Some(hold_one(&wanted[at])?);
    }
    Ok(held.into_iter().flatten().collect())
}

fn hold_one(publish: &Publish) -> Result<Held> {
    let host = publish.address()?;
    let made = |socket: OwnedFd, host_port| {
        let published = Published { host_port, ..publish.unbound() };
        Held { published, _socket: socket }
    };
    let Some((first, last)) = publish.host_ports else {
        for _ in 0..TRIES {
            let port = free(host, publish.protocol).doing(|| format!("publish {publish}"))?;
            match bound(host, port, publish.protocol) {
                Err(error) if error.errno() == Some(Errno::ADDRINUSE) => {}
                socket => return Ok(made(socket.doing(|| format!("publish {publish}"))?, port)),
            }
        }
        let text = format!("publish {publish}: no port is free for long enough ({TRIES} tries)");
        return Err(Error::new(Kind::Exhausted, text));
    };
    for port in first..=last {
        match bound(host, port, publish.protocol) {
            Err(error) if error.errno() == Some(Errno::ADDRINUSE) && port < last => {}
            Err(error) if error.errno() == Some(Errno::ADDRINUSE) => {
                let which = if first == last { "the port is" } else { "all these ports are" };
                return Err(Error::new(Kind::InUse, format!("publish {publish}: {which} in use: {error}")));
            }
            socket => return Ok(made(socket.doing(|| format!("publish {publish}"))?, port)),
        }
    }
    Err(Error::new(Kind::Invalid, format!("publish {publish}: {first}-{last} is no range of ports")))
}

fn socket(protocol: Protocol) -> Result<OwnedFd> {
    let kind = match protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let socket = rustix::net::socket_with(AddressFamily::INET, kind, SocketFlags::CLOEXEC, None);
    Ok(socket.call(|| format!("socket({protocol})"))?)
}

/// A port that the kernel calls free now: it knows which ones it must not give away.
fn free(host: Ipv4Addr, protocol: Protocol) -> Result<u16> {
    let socket = socket(protocol)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(host, 0)).call(|| format!("bind({host}:0, {protocol})"))?;
    let name = rustix::net::getsockname(&socket).call(|| "getsockname")?;
    let name = SocketAddr::try_from(name).call(|| "getsockname")?;
    Ok(name.port())
}

/// Connections of a program that ended a while ago don't count as in use (`SO_REUSEADDR`), all sockets do. The
/// kernel forgets that others may reuse the port only when the socket listens, so it does for an instant.
fn bound(host: Ipv4Addr, port: u16, protocol: Protocol) -> Result<OwnedFd> {
    let socket = socket(protocol)?;
    let tcp = protocol == Protocol::Tcp;
    if tcp {
        sockopt::set_socket_reuseaddr(&socket, true).call(|| "setsockopt(SO_REUSEADDR)")?;
    }
    let bind = || format!("bind({host}:{port}, {protocol})");
    rustix::net::bind(&socket, &SocketAddrV4::new(host, port)).call(bind)?;
    if tcp {
        rustix::net::listen(&socket, 0).call(|| format!("listen({host}:{port})"))?;
        sockopt::set_socket_reuseaddr(&socket, false).call(|| "setsockopt(SO_REUSEADDR)")?;
        rustix::net::shutdown(&socket, Shutdown::Read).call(|| format!("shutdown({host}:{port})"))?;
    }
    Ok(socket)
}
