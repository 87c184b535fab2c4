//! Names for containers: a pure [`Responder`] that knows what to say, and a [`Server`] that says it at
//! 127.0.0.11 inside a network namespace and forwards the rest to the host's resolvers.
//!
//! Nobody has to keep a table: the responder reads the networks' own directories at every question (a few
//! microseconds), where a name counts only while its owner lives. So names are there before a container starts,
//! and gone when it ends, however it ends.

mod flight;
mod message;
mod responder;
mod server;
mod tcp;
mod zone;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

pub use responder::{Answer, Names, Responder};
pub use server::Server;
pub use zone::Zone;

/// Where the server listens inside a container, as docker's does.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// Whom a [`Server`] asks what its [`Responder`] doesn't know, and from where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upstream {
    pub(crate) servers: Vec<SocketAddr>,
    pub(crate) inside: bool,
}

impl Upstream {
    /// Servers that are asked from the network namespace of the thread that opens the server: the host's resolvers,
    /// which may be on its loopback.
    pub fn of_the_host(servers: impl IntoIterator<Item = SocketAddr>) -> Upstream {
        Upstream { servers: servers.into_iter().collect(), inside: false }
    }

    /// Servers that are asked from the container's own namespace, as `--dns` names them: what its networks don't reach is
    /// not reached, and 127.0.0.1 is the container's.
    pub fn of_the_container(servers: impl IntoIterator<Item = SocketAddr>) -> Upstream {
        Upstream { servers: servers.into_iter().collect(), inside: true }
    }
}

impl From<Vec<SocketAddr>> for Upstream {
    fn from(servers: Vec<SocketAddr>) -> Upstream {
        Upstream::of_the_host(servers)
    }
}

/// The name servers of a resolv.conf(5), in order, at most three, as the C library takes them.
///
/// They are meant to be asked from the namespace that the file belongs to, so loopback addresses are fine.
/// Scoped addresses (`fe80::1%eth0`) are left out.
pub fn upstream(resolv_conf: &str) -> Vec<SocketAddr> {
    let servers = resolv_conf.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse::<IpAddr>().ok()).flatten()
    });
    servers.take(3).map(|address| SocketAddr::new(address, 53)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_of_a_file() {
        let text = "# nameserver 1.1.1.1\nsearch a b\n nameserver\t127.0.0.53 # local\nnameserver fe80::1%eth0\n\
                    nameserver\nnameserver ::1\nnameservers 9.9.9.9\nnameserver 8.8.8.8\nnameserver 8.8.4.4\n";
        let all: Vec<String> = upstream(text).iter().map(SocketAddr::to_string).collect();
        assert_eq!(all, ["127.0.0.53:53", "[::1]:53", "8.8.8.8:53"]);
        assert!(upstream("").is_empty());
    }
}
