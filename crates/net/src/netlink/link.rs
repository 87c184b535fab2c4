//! Requests about links, addresses and routes (rtnetlink(7)). What is read from the answers is in [`super::read`].

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridge, InfoData, InfoKind, InfoMacVlan, InfoVeth,
    InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, MacVlanMode,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Message};

use super::Request;
use super::attrs::Attrs;
pub(crate) use super::read::{Link, read_address, read_link, read_route};
use crate::plan::macvlan::Mode;
use crate::{Mac, Subnet};

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

/// No link-local address when it comes up (`IFLA_INET6_ADDR_GEN_MODE`).
pub(crate) fn no_link_local(name: &str) -> Request {
    let mut message = named(name);
    let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    message.attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])]));
    Request::route(Message::SetLink(message), 0, format!("setlink({name}, no link-local address)"))
}

/// A switch of a link as the port of a bridge.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PortFlag {
    /// The bridge sends a packet back by the port it came in by (`IFLA_BRPORT_MODE`).
    Hairpin = 4,
    /// No packets to and from other such ports (`IFLA_BRPORT_ISOLATED`, Linux 4.18).
    Isolated = 33,
}

pub(crate) fn set_port(index: u32, name: &str, flag: PortFlag) -> Request {
    // struct ifinfomsg of AF_BRIDGE; IFLA_PROTINFO with the flag, which the message crate writes in another form.
    let header = [vec![7, 0, 0, 0], index.to_ne_bytes().to_vec(), vec![0; 8]].concat();
    let mode = Attrs::new().nest(12, Attrs::new().bytes(flag as u16, &[1])).into_bytes();
    Request::new(19, 0, [header, mode].concat(), format!("setlink({name}, {flag:?})"))
}

/// A VLAN's interface, marked by its group.
pub(crate) fn new_vlan(name: &str, parent: u32, number: u16, group: u32) -> Request {
    let mut message = named(name);
    message.attributes.extend([
        LinkAttribute::Link(parent),
        LinkAttribute::Group(group),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Vlan),
            LinkInfo::Data(InfoData::Vlan(vec![InfoVlan::Id(number)])),
        ]),
    ]);
    Request::route(Message::NewLink(message), NEW, format!("newlink({name}, vlan {number})"))
}

/// A macvlan on a link here, for a namespace there.
pub(crate) fn new_macvlan(
    name: &str,
    parent: u32,
    mode: Mode,
    mac: Option<Mac>,
    mtu: Option<u32>,
    netns: BorrowedFd<'_>,
) -> Request {
    let mut message = named(name);
    let kernels = match mode {
        Mode::Private => MacVlanMode::Private,
        Mode::Vepa => MacVlanMode::Vepa,
        Mode::Bridge => MacVlanMode::Bridge,
        Mode::Passthru => MacVlanMode::Passthrough,
    };
    message.attributes.extend([LinkAttribute::Link(parent), LinkAttribute::NetNsFd(netns.as_raw_fd())]);
    message.attributes.extend(mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
    message.attributes.extend(mtu.map(LinkAttribute::Mtu));
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::MacVlan),
        LinkInfo::Data(InfoData::MacVlan(vec![InfoMacVlan::Mode(kernels)])),
    ]));
    Request::route(Message::NewLink(message), NEW, format!("newlink({name}, macvlan)"))
}

/// Takes a link off its bridge and gives it another name.
pub(crate) fn abandon(index: u32, name: &str, new: &str) -> Request {
    let mut message = named(new);
    message.header.index = index;
    message.attributes.push(LinkAttribute::Controller(0));
    Request::route(Message::SetLink(message), 0, format!("setlink({name}, nomaster, name {new})"))
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

/// IPv6 addresses are usable at once: nobody else has them, because they are leased (no RFC 4862, section 5.4).
pub(crate) fn add_address(index: u32, name: &str, address: IpAddr, prefix: u8) -> Request {
    let mut message = AddressMessage::default();
    message.header.family = family(address);
    message.header.prefix_len = prefix;
    message.header.index = index;
    message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
    match Subnet::around(address, prefix).map(|subnet| subnet.last()) {
        Some(IpAddr::V4(last)) if prefix < 31 => message.attributes.push(AddressAttribute::Broadcast(last)),
        Some(IpAddr::V6(_)) => message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad)),
        _ => {}
    }
    Request::route(Message::NewAddress(message), NEW, format!("newaddr({name}, {address}/{prefix})"))
}

/// Those of all families.
pub(crate) fn addresses() -> Request {
    Request::route(Message::GetAddress(AddressMessage::default()), 0, "getaddr(all)")
}

pub(crate) fn default_route(index: u32, name: &str, via: IpAddr) -> Request {
    let mut message = RouteMessage::default();
    message.header.address_family = family(via);
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Boot;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![RouteAttribute::Gateway(RouteAddress::from(via)), RouteAttribute::Oif(index)];
    Request::route(Message::NewRoute(message), NEW, format!("newroute(default via {via} dev {name})"))
}

pub(crate) fn routes(ipv6: bool) -> Request {
    let mut message = RouteMessage::default();
    message.header.address_family = if ipv6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    Request::route(Message::GetRoute(message), 0, "getroute(all)")
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}
