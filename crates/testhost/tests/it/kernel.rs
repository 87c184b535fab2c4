//! Kernel objects made by hand: this crate has no netlink library.

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const CREATE_NEW: u16 = 0x600;

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend((4 + value.len() as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn text(value: &str) -> Vec<u8> {
    [value.as_bytes(), b"\0"].concat()
}

fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend((16 + body.len() as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((REQUEST | flags).to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend(body);
    bytes
}

/// Sends messages of which one asks for an answer, and expects that to be good.
fn ask(protocol: Option<rustix::net::Protocol>, messages: &[u8]) {
    let socket =
        socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol).unwrap();
    send(&socket, messages, SendFlags::empty()).unwrap();
    let mut answer = [0u8; 4096];
    let (read, _) = recv(&socket, &mut answer, RecvFlags::empty()).unwrap();
    assert!(read >= 20);
    assert_eq!(i32::from_ne_bytes(answer[16..20].try_into().unwrap()), 0, "the kernel's answer");
}

/// `ip link add name type veth peer name peer` (rtnetlink(7)).
pub fn make_veth(name: &str, peer: &str) {
    const RTM_NEWLINK: u16 = 16;
    const IFLA_IFNAME: u16 = 3;
    const IFLA_LINKINFO: u16 = 18;
    const IFLA_INFO_KIND: u16 = 1;
    const IFLA_INFO_DATA: u16 = 2;
    const VETH_INFO_PEER: u16 = 1;
    let ifinfomsg = [0u8; 16];
    let peer = [&ifinfomsg[..], &attribute(IFLA_IFNAME, &text(peer))].concat();
    let data = attribute(IFLA_INFO_DATA, &attribute(VETH_INFO_PEER, &peer));
    let info = attribute(IFLA_LINKINFO, &[attribute(IFLA_INFO_KIND, &text("veth")), data].concat());
    let body = [&ifinfomsg[..], &attribute(IFLA_IFNAME, &text(name)), &info].concat();
    ask(None, &message(RTM_NEWLINK, ACK | CREATE_NEW, &body));
}

/// `nft add table ip name` (linux/netfilter/nf_tables.h).
pub fn make_table(name: &str) {
    const BATCH_BEGIN: u16 = 0x10;
    const BATCH_END: u16 = 0x11;
    const NFT_MSG_NEWTABLE: u16 = 10 << 8;
    const NFTA_TABLE_NAME: u16 = 1;
    let batch = [0, 0, 0, 10]; // the subsystem, big-endian
    let ipv4 = [2, 0, 0, 0];
    let body = [&ipv4[..], &attribute(NFTA_TABLE_NAME, &text(name))].concat();
    let messages = [
        message(BATCH_BEGIN, 0, &batch),
        message(NFT_MSG_NEWTABLE, ACK | CREATE_NEW, &body),
        message(BATCH_END, 0, &batch),
    ];
    ask(Some(netlink::NETFILTER), &messages.concat());
}
