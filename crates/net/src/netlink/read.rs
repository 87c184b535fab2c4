//! The few facts that are read from answers about links, addresses and routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Reply;
use super::attrs::{attributes, ne32, text};
use crate::{Mac, Subnet};

/// What we ask of a link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) mtu: u32,
    pub(crate) mac: Option<Mac>,
    pub(crate) group: u32,
    /// Whether it was set up.
    pub(crate) up: bool,
    /// Whether it passes packets (RFC 2863, `ifOperStatus`).
    pub(crate) works: bool,
}

/// Reads an `RTM_NEWLINK`: index and flags of `struct ifinfomsg`, `IFLA_ADDRESS`, `IFLA_IFNAME`, `IFLA_MTU`,
/// `IFLA_OPERSTATE`, `IFLA_GROUP`.
pub(crate) fn read_link(reply: &Reply) -> Option<Link> {
    let header = reply.payload.get(..16).filter(|_| reply.kind == 16)?;
    let (index, up) = (ne32(&header[4..])?, ne32(&header[8..])? & 1 != 0);
    let mut link = Link { index, up, ..Link::default() };
    for (kind, value) in attributes(&reply.payload[16..]) {
        match kind {
            1 => link.mac = <[u8; 6]>::try_from(&value[..]).ok().map(Mac),
            3 => link.name = text(&value),
            4 => link.mtu = ne32(&value)?,
            16 => link.works = value.first() == Some(&6),
            27 => link.group = ne32(&value)?,
            _ => {}
        }
    }
    Some(link)
}

/// Reads an `RTM_NEWADDR`: the link's index and the prefix that the address makes reachable.
pub(crate) fn read_address(reply: &Reply) -> Option<(u32, Subnet)> {
    let header = reply.payload.get(..8).filter(|_| reply.kind == 20)?;
    // IFA_ADDRESS is the peer's on point-to-point links, and its prefix the one that matters.
    let address =
        attributes(&reply.payload[8..]).find(|(kind, _)| *kind == 1).and_then(|(_, v)| address(&v))?;
    Some((ne32(&header[4..])?, Subnet::around(address, header[1])?))
}

/// A route: where to, and by which link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) to: Subnet,
    pub(crate) out: Option<u32>,
}

/// Reads an `RTM_NEWROUTE` of type unicast or one that refuses; those of the local table are of other types.
pub(crate) fn read_route(reply: &Reply) -> Option<Route> {
    let header = reply.payload.get(..12).filter(|_| reply.kind == 24)?;
    let (family, length, kind) = (header[0], header[1], header[7]);
    if !matches!(kind, 1 | 6..=9) {
        return None;
    }
    let mut base = match family {
        2 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        10 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let mut out = None;
    for (kind, value) in attributes(&reply.payload[12..]) {
        match kind {
            1 => base = address(&value)?,
            4 => out = ne32(&value),
            // RTA_MULTIPATH: struct rtnexthop has the link's index in its second word. The first hop will do.
            9 => out = out.or(value.get(4..8).and_then(ne32)),
            _ => {}
        }
    }
    Some(Route { to: Subnet::around(base, length)?, out })
}

fn address(value: &[u8]) -> Option<IpAddr> {
    let four = || <[u8; 4]>::try_from(value).ok().map(IpAddr::from);
    <[u8; 16]>::try_from(value).ok().map(IpAddr::from).or_else(four)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::{Request, link};

    /// The kernel's answers have the form of our requests, so these read back what they wrote.
    fn as_reply(request: &Request, kind: u16) -> Reply {
        Reply { kind, payload: request.payload().to_vec() }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn links_addresses_and_routes_are_read() {
        let bridge = read_link(&as_reply(&link::new_bridge("cor-1", Mac([2; 6]), 1400), 16)).unwrap();
        let expected = Link { name: "cor-1".into(), mtu: 1400, mac: Some(Mac([2; 6])), ..Link::default() };
        assert_eq!(bridge, expected);
        assert!(read_link(&as_reply(&link::up("cor-1"), 16)).unwrap().up);
        assert_eq!(read_link(&as_reply(&link::new_vlan("a.7", 3, 7, 99), 16)).unwrap().group, 99);
        for (address, prefix, subnet) in [("10.1.0.9", 24, "10.1.0.0/24"), ("fd00::9", 64, "fd00::/64")] {
            let added = link::add_address(7, "cor-1", ip(address), prefix);
            assert_eq!(read_address(&as_reply(&added, 20)), Some((7, subnet.parse().unwrap())));
        }
        for (via, to) in [("10.1.0.1", "0.0.0.0/0"), ("fd00::1", "::/0")] {
            let read = read_route(&as_reply(&link::default_route(7, "eth0", ip(via)), 24)).unwrap();
            assert_eq!((read.to.to_string(), read.out), (to.into(), Some(7)));
        }
    }

    #[test]
    fn short_answers_are_no_facts() {
        for length in 0..8 {
            for kind in [16, 20, 24] {
                let reply = Reply { kind, payload: vec![1; length] };
                assert!(read_link(&reply).is_none() && read_address(&reply).is_none());
                assert!(read_route(&reply).is_none());
            }
        }
    }
}
