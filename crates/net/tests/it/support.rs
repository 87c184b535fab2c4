//! A small world around the test host: state, namespaces, sockets inside them, and an outside to go to.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::time::Duration;

use coracle_host::{Dir, Namespace, Staging};
use coracle_net::{Join, Networks};
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, link};

/// The networks of a state directory below `dir`.
pub fn networks(dir: &Path) -> Networks {
    let state = Dir::create(dir.join("state"), 0o700).unwrap();
    let staging = Staging::open(&state.make("tmp", 0o700).unwrap()).unwrap();
    Networks::new(state.make("networks", 0o700).unwrap(), staging)
}

pub fn netns() -> Namespace {
    Namespace::new_net().unwrap()
}

/// A join with the container's identifier as its only name.
pub fn join<'a>(netns: &'a Namespace, container: &str) -> Join<'a> {
    Join::new(netns.as_fd(), container).names([container])
}

/// A listener inside.
pub fn listen(netns: &Namespace, address: Ipv4Addr) -> TcpListener {
    netns.within(|| TcpListener::bind((address, 7))).unwrap().unwrap()
}

/// Connects from inside, and gives up after a third of a second.
pub fn connect(netns: &Namespace, address: Ipv4Addr) -> io::Result<TcpStream> {
    let to = SocketAddr::from((address, 7));
    netns.within(|| TcpStream::connect_timeout(&to, Duration::from_millis(333))).unwrap()
}

/// Sends a word from inside to a listener, and back. Who the listener saw.
pub fn echo(from: &Namespace, listener: &TcpListener) -> Ipv4Addr {
    let SocketAddr::V4(to) = listener.local_addr().unwrap() else { panic!("IPv6") };
    let mut call = connect(from, *to.ip()).unwrap();
    call.write_all(b"ahoy").unwrap();
    let (mut heard, peer) = listener.accept().unwrap();
    let mut word = [0; 4];
    heard.read_exact(&mut word).unwrap();
    heard.write_all(&word).unwrap();
    drop(heard);
    let mut back = String::new();
    call.read_to_string(&mut back).unwrap();
    assert_eq!(back, "ahoy");
    let SocketAddr::V4(peer) = peer else { panic!("IPv6") };
    *peer.ip()
}

/// That nothing comes through: the packets vanish, or the kernel knows no way.
#[track_caller]
pub fn refused(from: &Namespace, address: Ipv4Addr) {
    match connect(from, address) {
        Ok(_) => panic!("{address} was reached"),
        Err(error) => assert_ne!(error.kind(), io::ErrorKind::ConnectionRefused, "{address} answered"),
    }
}

/// Links, switches, routes and addresses of the calling thread's network namespace, as text.
pub fn picture() -> String {
    let mut picture = String::new();
    let conf = "/proc/sys/net/ipv4/conf";
    let mut links: Vec<_> = fs::read_dir(conf).unwrap().map(|link| link.unwrap().file_name()).collect();
    links.sort();
    for link in links {
        let link = link.to_str().unwrap();
        let switch = |name| fs::read_to_string(format!("{conf}/{link}/{name}"));
        // One whose namespace has just ended is on its way out.
        let (Ok(forwarding), Ok(filter)) = (switch("forwarding"), switch("rp_filter")) else { continue };
        picture.push_str(&format!("{link} {} {filter}", forwarding.trim()));
        let switch =
            |name| fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{link}/{name}")).unwrap_or_default();
        let six = ["forwarding", "force_forwarding", "accept_ra"].map(switch).concat().replace('\n', " ");
        picture.push_str(&format!("{link} IPv6 {six}\n"));
    }
    for file in
        ["/proc/sys/net/ipv4/ip_forward", "/proc/thread-self/net/route", "/proc/thread-self/net/fib_trie"]
    {
        picture.push_str(&fs::read_to_string(file).unwrap());
    }
    picture
}

/// The names of the links of the calling thread's network namespace that are ours.
pub fn our_links() -> Vec<String> {
    let table = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let names = table.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim().to_owned());
    names.filter(|name| name.starts_with("cor")).collect()
}

pub const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// A neighbour behind a link `wan`, which becomes the test host's default route: 192.0.2.1 here, 192.0.2.2 there.
/// The link goes with the value.
pub struct Outside(pub Namespace);

impl Outside {
    pub fn new() -> Outside {
        let outside = netns();
        let mut peer = LinkMessage::default();
        peer.attributes =
            vec![LinkAttribute::IfName("wan".into()), LinkAttribute::NetNsFd(outside.as_fd().as_raw_fd())];
        let mut pair = LinkMessage::default();
        pair.attributes = vec![
            LinkAttribute::IfName("wan".into()),
            LinkAttribute::Mtu(1400),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
            ]),
        ];
        send(Message::NewLink(pair));
        configure(HOST);
        outside.within(|| configure(OUTSIDE)).unwrap();
        route(Ipv4Addr::UNSPECIFIED, 0, OUTSIDE);
        // Until the kernel's work queue has come by, what is sent is lost.
        let begin = std::time::Instant::now();
        while fs::read("/sys/class/net/wan/operstate").unwrap() != b"up\n" {
            assert!(begin.elapsed() < Duration::from_secs(5), "wan doesn't come up");
            std::thread::yield_now();
        }
        Outside(outside)
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let mut link = LinkMessage::default();
        link.attributes = vec![LinkAttribute::IfName("wan".into())];
        send(Message::DelLink(link));
    }
}

fn configure(address: Ipv4Addr) {
    up("wan");
    add_address("wan", address, 24);
}

/// Sets a link of the calling thread's namespace up.
pub fn up(link: &str) {
    let mut up = LinkMessage::default();
    up.header.flags = LinkFlags::Up;
    up.header.change_mask = LinkFlags::Up;
    up.attributes = vec![LinkAttribute::IfName(link.into())];
    send(Message::SetLink(up));
}

/// Whether the kernel has VLANs. Names the skip of a test where it hasn't.
pub fn has_vlans(test: &str) -> bool {
    // Without the module, the kernel refuses the type before it looks at anything else.
    let mut link = LinkMessage::default();
    let kind = LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Vlan)]);
    link.attributes = vec![LinkAttribute::IfName("vlan-or-not".into()), kind];
    let has = !matches!(try_send(Message::NewLink(link)), Err(95));
    if !has {
        coracle_testhost::skip(test, "the kernel has no VLANs (CONFIG_VLAN_8021Q)");
    }
    has
}

/// A VLAN's interface on a link of the calling thread's namespace, up.
pub fn add_vlan(name: &str, on: &str, number: u16) {
    let mut link = LinkMessage::default();
    link.attributes = vec![
        LinkAttribute::IfName(name.into()),
        LinkAttribute::Link(index(on)),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Vlan),
            LinkInfo::Data(InfoData::Vlan(vec![InfoVlan::Id(number)])),
        ]),
    ];
    send(Message::NewLink(link));
    up(name);
}

/// Whether the calling thread's namespace has the link.
pub fn has_link(name: &str) -> bool {
    let table = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    table.lines().any(|line| line.trim().starts_with(&format!("{name}:")))
}

/// Gives a link of the calling thread's namespace an address.
pub fn add_address(link: &str, address: impl Into<IpAddr>, prefix: u8) {
    let address = address.into();
    let mut message = AddressMessage::default();
    message.header.family = family(address);
    message.header.prefix_len = prefix;
    message.header.index = index(link);
    message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
    if address.is_ipv6() {
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    send(Message::NewAddress(message));
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// A route of the calling thread's namespace.
pub fn route(to: impl Into<IpAddr>, length: u8, via: impl Into<IpAddr>) {
    let (to, via) = (to.into(), via.into());
    let mut message = RouteMessage::default();
    message.header.address_family = family(to);
    message.header.destination_prefix_length = length;
    message.header.table = 254;
    message.header.protocol = RouteProtocol::Boot;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![RouteAttribute::Gateway(RouteAddress::from(via))];
    if length > 0 {
        message.attributes.push(RouteAttribute::Destination(RouteAddress::from(to)));
    }
    send(Message::NewRoute(message));
}

fn index(name: &str) -> u32 {
    let mut query = LinkMessage::default();
    query.attributes = vec![LinkAttribute::IfName(name.into())];
    match send(Message::GetLink(query)) {
        Some(Message::NewLink(link::LinkMessage { header, .. })) => header.index,
        other => panic!("getlink({name}): {other:?}"),
    }
}

#[track_caller]
fn send(message: Message) -> Option<Message> {
    let shown = format!("{message:?}");
    try_send(message).unwrap_or_else(|errno| panic!("{shown}: {}", io::Error::from_raw_os_error(errno)))
}

/// The answer, or the error's number.
fn try_send(message: Message) -> Result<Option<Message>, i32> {
    let mut socket = netlink_sys::Socket::new(netlink_sys::protocols::NETLINK_ROUTE).unwrap();
    socket.bind_auto().unwrap();
    let ask = matches!(message, Message::GetLink(_));
    let mut request = NetlinkMessage::from(message);
    request.header.flags = NLM_F_REQUEST | if ask { 0 } else { NLM_F_ACK | NLM_F_CREATE };
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0).unwrap();
    let (reply, _) = socket.recv_from_full().unwrap();
    match NetlinkMessage::<Message>::deserialize(&reply).unwrap().payload {
        NetlinkPayload::InnerMessage(message) => Ok(Some(message)),
        NetlinkPayload::Error(error) => error.code.map_or(Ok(None), |code| Err(-code.get())),
        other => panic!("{request:?}: {other:?}"),
    }
}

/// Makes 127.0.0.0/8 a place like any other for the calling thread's namespace, to be reached by way of `via`.
/// `up` is whether the loopback interface was ever up, and has its address.
pub fn send_loopback_out(up: bool, interface: &str, via: Ipv4Addr) {
    if up {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.prefix_len = 8;
        message.header.index = 1;
        message.attributes = vec![AddressAttribute::Local(Ipv4Addr::LOCALHOST.into())];
        send(Message::DelAddress(message));
    }
    fs::write(format!("/proc/sys/net/ipv4/conf/{interface}/route_localnet"), "1").unwrap();
    route(Ipv4Addr::new(127, 0, 0, 0), 8, via);
}

/// Gives the loopback interface of the calling thread's namespace another address.
pub fn add_loopback_address(address: impl Into<IpAddr>) {
    let address = address.into();
    add_address("lo", address, if address.is_ipv4() { 32 } else { 128 });
}

/// `nft delete table inet coracle`
pub fn delete_our_table() {
    let message = |kind: u16, payload: &[u8]| {
        let mut bytes = (16 + payload.len() as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([1, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend(payload);
        bytes
    };
    let batch = [
        message(0x10, &[0, 0, 0, 10]),
        message(10 << 8 | 2, b"\x01\0\0\0\x0c\0\x01\0coracle\0"),
        message(0x11, &[0, 0, 0, 10]),
    ];
    let mut socket = netlink_sys::Socket::new(netlink_sys::protocols::NETLINK_NETFILTER).unwrap();
    socket.bind_auto().unwrap();
    socket.send(&batch.concat(), 0).unwrap();
}
