//! Ports of the host, held by sockets: whoever else wants one is told so, and the kernel frees them with us.
//!
//! Nothing ever arrives at these sockets, because packets are translated before they get so far. If the rules
//! are not there (somebody flushed them), a caller is refused: the TCP socket is bound, but does not listen.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use coracle_host::Call;
use rustix::io::Errno;
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, sockopt};

use crate::error::Doing;
use crate::ports::{Protocol, Publish, Published};
use crate::{Error, Kind, Result};

/// Ports of the host's, had as long as this lives: one wish, on one address or on all of both families.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) published: Vec<Published>,
    _sockets: Vec<OwnedFd>,
}

/// How often a port that the kernel called free may be gone before it is taken.
const TRIES: u32 = 64;

/// Binds all of them, in the network namespace of the calling thread. Those who know which port they want go
/// first, so that no free choice takes it away from them. The order of the answer is that of the question.
/// `binding` stands for no address, `ipv6` is whether the network has it.
pub(crate) fn hold(wanted: &[Publish], binding: Option<IpAddr>, ipv6: bool) -> Result<Vec<Held>> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by_key(|at| match wanted[*at].host_ports {
        Some((first, last)) => last - first,
        None => u16::MAX,
    });
    let mut held: Vec<Option<Held>> = wanted.iter().map(|_| None).collect();
    for at in order {
        let hosts = wanted[at].addresses(binding, ipv6);
        held[at] = Some(hold_one(&wanted[at], &hosts).doing(|| format!("publish {}", wanted[at]))?);
    }
    Ok(held.into_iter().flatten().collect())
}

fn hold_one(publish: &Publish, hosts: &[IpAddr]) -> Result<Held> {
    let Some((first, last)) = publish.host_ports else {
        for _ in 0..TRIES {
            match bound(publish, hosts, free(hosts[0], publish.protocol)?) {
                Err(error) if error.errno() == Some(Errno::ADDRINUSE) => {}
                held => return held,
            }
        }
        let text = format!("no port is free for long enough ({TRIES} tries)");
        return Err(Error::new(Kind::Exhausted, text));
    };
    for port in first..=last {
        match bound(publish, hosts, port) {
            Err(error) if error.errno() == Some(Errno::ADDRINUSE) && port < last => {}
            Err(error) if error.errno() == Some(Errno::ADDRINUSE) => {
                let which = if first == last { "the port is" } else { "all these ports are" };
                return Err(Error::new(Kind::InUse, format!("{which} in use: {error}")));
            }
            held => return held,
        }
    }
    Err(Error::new(Kind::Invalid, format!("{first}-{last} is no range of ports")))
}

/// One port of all the addresses.
fn bound(publish: &Publish, hosts: &[IpAddr], port: u16) -> Result<Held> {
    let sockets = hosts.iter().map(|host| bound_at(*host, port, publish.protocol));
    let sockets = sockets.collect::<Result<Vec<OwnedFd>>>()?;
    let published = hosts.iter().map(|host| publish.published(*host, port)).collect();
    Ok(Held { published, _sockets: sockets })
}

fn socket(host: IpAddr, protocol: Protocol) -> Result<OwnedFd> {
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, None),
        Protocol::Udp => (SocketType::DGRAM, None),
        Protocol::Sctp => (SocketType::STREAM, Some(rustix::net::ipproto::SCTP)),
    };
    let family = if host.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = match rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, number) {
        Err(Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT) if protocol == Protocol::Sctp => {
            let text = "this kernel has no SCTP (CONFIG_IP_SCTP), so that its ports can't be held";
            return Err(Error::new(Kind::Unsupported, text));
        }
        socket => socket.call(|| format!("socket({protocol})"))?,
    };
    if host.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true).call(|| "setsockopt(IPV6_V6ONLY)")?;
    }
    Ok(socket)
}

/// A port that the kernel calls free now: it knows which ones it must not give away.
fn free(host: IpAddr, protocol: Protocol) -> Result<u16> {
    let socket = socket(host, protocol)?;
    let any = SocketAddr::new(host, 0);
    rustix::net::bind(&socket, &any).call(|| format!("bind({any}, {protocol})"))?;
    let name = rustix::net::getsockname(&socket).call(|| "getsockname")?;
    let name = SocketAddr::try_from(name).call(|| "getsockname")?;
    Ok(name.port())
}

/// Connections of a program that ended a while ago don't count as in use (`SO_REUSEADDR`), all sockets do. The
/// kernel forgets that others may reuse the port only when the socket listens, so it does for an instant.
fn bound_at(host: IpAddr, port: u16, protocol: Protocol) -> Result<OwnedFd> {
    let (socket, address) = (socket(host, protocol)?, SocketAddr::new(host, port));
    let tcp = protocol == Protocol::Tcp;
    if tcp {
        sockopt::set_socket_reuseaddr(&socket, true).call(|| "setsockopt(SO_REUSEADDR)")?;
    }
    rustix::net::bind(&socket, &address).call(|| format!("bind({address}, {protocol})"))?;
    if tcp {
        rustix::net::listen(&socket, 0).call(|| format!("listen({address})"))?;
        sockopt::set_socket_reuseaddr(&socket, false).call(|| "setsockopt(SO_REUSEADDR)")?;
        rustix::net::shutdown(&socket, Shutdown::Read).call(|| format!("shutdown({address})"))?;
    }
    Ok(socket)
}
