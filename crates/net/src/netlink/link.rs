//! Requests about links, addresses and routes (rtnetlink(7)), and the few facts read from the answers.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoBridge, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Message};

use super::attrs::{Attrs, attributes, ne32, text};
use super::{Reply, Request};
use crate::Mac;
use crate::Subnet;

const NEW: u16 = NLM_F_CREATE | NLM_F_EXCL;

fn link(attributes: Vec<LinkAttribute>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = attributes;
    message
}

fn named(name: &str) -> LinkMessage {
    link(vec![LinkAttribute::IfName(name.into())])
}

/// A bridge, down, with an address of its own: one without takes the lowest of its ports and changes with them.
pub(crate) fn new_bridge(name: &str, mac: Mac, mtu: u32) -> Request {
    let mut message = named(name);
    message.attributes.extend([
        LinkAttribute::Address(mac.0.to_vec()),
        LinkAttribute::Mtu(mtu),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Bridge),
            LinkInfo::Data(InfoData::Bridge(vec![InfoBridge::ForwardDelay(0)])),
        ]),
    ]);
    Request::route(Message::NewLink(message), NEW, format!("newlink({name}, bridge)"))
}

/// A pair: one end up on the bridge, the other in `netns`, all in one message, so that no instant has the second
/// end among the host's links.
pub(crate) fn new_veth(
    name: &str,
    bridge: u32,
    mtu: u32,
    peer: (&str, Mac),
    netns: BorrowedFd<'_>,
) -> Request {
    let (peer, mac) = peer;
    let inside = link(vec![
        LinkAttribute::IfName(peer.into()),
        LinkAttribute::Address(mac.0.to_vec()),
        LinkAttribute::Mtu(mtu),
        LinkAttribute::NetNsFd(netns.as_raw_fd()),
    ]);
    let mut message = named(name);
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message.attributes.extend([
        LinkAttribute::Mtu(mtu),
        LinkAttribute::Controller(bridge),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(inside))),
        ]),
    ]);
    Request::route(Message::NewLink(message), NEW, format!("newlink({name}, veth, peer {peer})"))
}

pub(crate) fn up(name: &str) -> Request {
    let mut message = named(name);
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    Request::route(Message::SetLink(message), 0, format!("setlink({name}, up)"))
}

/// Lets a bridge send a packet back by the port it came in by.
pub(crate) fn hairpin(index: u32, name: &str) -> Request {
    // struct ifinfomsg; IFLA_PROTINFO with IFLA_BRPORT_MODE, which the message crate writes in another form.
    let header = [vec![7, 0, 0, 0], index.to_ne_bytes().to_vec(), vec![0; 8]].concat();
    let mode = Attrs::new().nest(12, Attrs::new().bytes(4, &[1])).into_bytes();
    Request::new(19, 0, [header, mode].concat(), format!("setlink({name}, hairpin)"))
}

pub(crate) fn delete(name: &str) -> Request {
    Request::route(Message::DelLink(named(name)), 0, format!("dellink({name})"))
}

pub(crate) fn get(name: &str) -> Request {
    Request::route(Message::GetLink(named(name)), 0, format!("getlink({name})"))
}

/// Lists the links that are ports of a bridge.
pub(crate) fn ports(bridge: u32) -> Request {
    let message = link(vec![LinkAttribute::Controller(bridge)]);
    Request::route(Message::GetLink(message), 0, format!("getlink(ports of link {bridge})"))
}

pub(crate) fn links() -> Request {
    Request::route(Message::GetLink(LinkMessage::default()), 0, "getlink(all)")
}

pub(crate) fn add_address(index: u32, name: &str, address: Ipv4Addr, prefix: u8) -> Request {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = prefix;
    message.header.index = index;
    message.attributes =
        vec![AddressAttribute::Local(IpAddr::V4(address)), AddressAttribute::Address(IpAddr::V4(address))];
    if let Some(subnet) = Subnet::around(address, prefix).filter(|_| prefix < 31) {
        message.attributes.push(AddressAttribute::Broadcast(subnet.last()));
    }
    Request::route(Message::NewAddress(message), NEW, format!("newaddr({name}, {address}/{prefix})"))
}

pub(crate) fn addresses() -> Request {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    Request::route(Message::GetAddress(message), 0, "getaddr(all)")
}

pub(crate) fn default_route(index: u32, name: &str, via: Ipv4Addr) -> Request {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Boot;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![RouteAttribute::Gateway(RouteAddress::Inet(via)), RouteAttribute::Oif(index)];
    Request::route(Message::NewRoute(message), NEW, format!("newroute(default via {via} dev {name})"))
}

pub(crate) fn routes() -> Request {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    Request::route(Message::GetRoute(message), 0, "getroute(all)")
}

/// What we ask of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) mtu: u32,
    /// Whether it was set up.
    pub(crate) up: bool,
    /// Whether it passes packets (RFC 2863, `ifOperStatus`).
    pub(crate) works: bool,
}

/// Reads an `RTM_NEWLINK`: index and flags of `struct ifinfomsg`, `IFLA_IFNAME`, `IFLA_MTU`, `IFLA_OPERSTATE`.
pub(crate) fn read_link(reply: &Reply) -> Option<Link> {
    let header = reply.payload.get(..16).filter(|_| reply.kind == 16)?;
    let (index, up) = (ne32(&header[4..])?, ne32(&header[8..])? & 1 != 0);
    let mut link = Link { index, name: String::new(), mtu: 0, up, works: false };
    for (kind, value) in attributes(&reply.payload[16..]) {
        match kind {
            3 => link.name = text(&value),
            4 => link.mtu = ne32(&value)?,
            16 => link.works = value.first() == Some(&6),
            _ => {}
        }
    }
    Some(link)
}

/// Reads an `RTM_NEWADDR`: the link's index and the prefix that the address makes reachable.
pub(crate) fn read_address(reply: &Reply) -> Option<(u32, Subnet)> {
    let header = reply.payload.get(..8).filter(|_| reply.kind == 20)?;
    // IFA_ADDRESS is the peer's on point-to-point links, and its prefix the one that matters.
    let address = attributes(&reply.payload[8..]).find(|(kind, _)| *kind == 1).and_then(|(_, v)| ipv4(&v))?;
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
    let (length, kind) = (header[1], header[7]);
    if !matches!(kind, 1 | 6..=9) {
        return None;
    }
    let (mut base, mut out) = (Ipv4Addr::UNSPECIFIED, None);
    for (kind, value) in attributes(&reply.payload[12..]) {
        match kind {
            1 => base = ipv4(&value)?,
            4 => out = ne32(&value),
            // RTA_MULTIPATH: struct rtnexthop has the link's index in its second word. The first hop will do.
            9 => out = out.or(value.get(4..8).and_then(ne32)),
            _ => {}
        }
    }
    Some(Route { to: Subnet::around(base, length)?, out })
}

fn ipv4(value: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(value).ok().map(Ipv4Addr::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel's answers have the form of our requests, so these read back what they wrote.
    fn as_reply(request: &Request, kind: u16) -> Reply {
        Reply { kind, payload: request.payload().to_vec() }
    }

    #[test]
    fn links_addresses_and_routes_are_read() {
        let bridge = read_link(&as_reply(&new_bridge("cor-1", Mac([2; 6]), 1400), 16)).unwrap();
        assert_eq!(bridge, Link { index: 0, name: "cor-1".into(), mtu: 1400, up: false, works: false });
        assert!(read_link(&as_reply(&up("cor-1"), 16)).unwrap().up);
        let address = add_address(7, "cor-1", Ipv4Addr::new(10, 1, 0, 9), 24);
        assert_eq!(read_address(&as_reply(&address, 20)), Some((7, "10.1.0.0/24".parse().unwrap())));
        let route = default_route(7, "eth0", Ipv4Addr::new(10, 1, 0, 1));
        let read = read_route(&as_reply(&route, 24)).unwrap();
        assert_eq!((read.to.to_string(), read.out), ("0.0.0.0/0".into(), Some(7)));
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
