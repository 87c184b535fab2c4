//! Messages: tables, chains, sets, rules and elements, made and unmade.

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE};

use crate::netlink::{Attrs, Request, attributes};

const SUBSYSTEM: u16 = 10 << 8;
/// `NFPROTO_INET`: rules that see IPv4 and IPv6.
const INET: u8 = 1;
/// `NLM_F_NONREC`: refuse to delete what still has something in it.
const ONLY_EMPTY: u16 = 0x100;

const NEW_TABLE: u16 = 0;
const GET_TABLE: u16 = 1;
const DEL_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const DEL_CHAIN: u16 = 5;
const NEW_RULE: u16 = 6;
const DEL_RULE: u16 = 8;
const NEW_SET: u16 = 9;
const DEL_SET: u16 = 11;
const NEW_ELEMENT: u16 = 12;
const GET_ELEMENT: u16 = 13;
const DEL_ELEMENT: u16 = 14;
const GET_GENERATION: u16 = 16;

/// The name of the only table of the host that we touch.
pub(crate) const TABLE: &str = "coracle";
/// The name of the table in a container's namespace.
pub(crate) const INSIDE: &str = "coracle-dns";

/// Where a base chain hooks in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hook {
    pub(crate) kind: &'static str,
    /// `enum nf_inet_hooks`: 2 is forward, 4 is postrouting.
    pub(crate) number: u32,
    pub(crate) priority: i32,
}

/// What the keys of a set are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    Interface,
    /// Of interfaces: in, out.
    Pair,
    /// IPv4 address, protocol and port.
    Port,
    /// IPv6 address, protocol and port.
    Port6,
}

/// A set or a map.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Set {
    pub(crate) name: &'static str,
    /// Its number within a transaction, by which rules find it before it exists.
    pub(crate) id: u32,
    pub(crate) keys: Keys,
    /// Whether keys lead to something: those with an address to another and a port.
    pub(crate) map: bool,
}

/// An interface name as a key: 16 bytes, filled up with zeros.
pub(crate) fn interface_key(name: &str) -> Vec<u8> {
    let mut key = name.as_bytes().to_vec();
    key.resize(16, 0);
    key
}

fn message(number: u16, flags: u16, attrs: Attrs, what: String) -> Request {
    let payload = [vec![INET, 0, 0, 0], attrs.into_bytes()].concat();
    Request::new(SUBSYSTEM | number, flags, payload, what)
}

/// The two marks around a transaction.
pub(crate) fn begin(what: &str) -> Request {
    Request::new(0x10, 0, vec![0, 0, 0, 10], what)
}

/// [`begin`], but the transaction fails with `ERESTART` if any rule of the host has changed since `generation`.
pub(crate) fn begin_at(what: &str, generation: u32) -> Request {
    let payload = [vec![0, 0, 0, 10], Attrs::new().be32(1, generation).into_bytes()].concat();
    Request::new(0x10, 0, payload, what)
}

/// The number of the current generation, to be read by [`read_generation`].
pub(crate) fn generation() -> Request {
    Request::new(SUBSYSTEM | GET_GENERATION, 0, vec![0, 0, 0, 0], "nft(get generation)")
}

pub(crate) fn read_generation(payload: &[u8]) -> Option<u32> {
    let bytes = payload.get(4..)?;
    let (_, value) = attributes(bytes).find(|(kind, _)| *kind == 1)?;
    Some(u32::from_be_bytes(value.try_into().ok()?))
}

pub(crate) fn end() -> Request {
    Request::new(0x11, 0, vec![0, 0, 0, 10], "nft(commit)")
}

pub(crate) fn add_table(table: &str) -> Request {
    message(
        NEW_TABLE,
        NLM_F_CREATE,
        Attrs::new().text(1, table).be32(2, 0),
        format!("nft(add table {table})"),
    )
}

/// Fails with `ENOENT` when it isn't there.
pub(crate) fn get_table() -> Request {
    message(GET_TABLE, 0, Attrs::new().text(1, TABLE), format!("nft(get table {TABLE})"))
}

pub(crate) fn remove_empty_table() -> Request {
    message(DEL_TABLE, ONLY_EMPTY, Attrs::new().text(1, TABLE), format!("nft(delete table {TABLE})"))
}

pub(crate) fn add_chain(table: &str, name: &str, hook: Hook) -> Request {
    let place = Attrs::new().be32(1, hook.number).be32(2, hook.priority as u32);
    let attrs = Attrs::new().text(1, table).text(3, name).text(7, hook.kind).be32(5, 1).nest(4, place);
    message(NEW_CHAIN, NLM_F_CREATE, attrs, format!("nft(add chain {table} {name})"))
}

pub(crate) fn remove_chain(name: &str) -> Request {
    let attrs = Attrs::new().text(1, TABLE).text(3, name);
    message(DEL_CHAIN, 0, attrs, format!("nft(delete chain {TABLE} {name})"))
}

pub(crate) fn flush_chain(table: &str, name: &str) -> Request {
    let attrs = Attrs::new().text(1, table).text(2, name);
    message(DEL_RULE, 0, attrs, format!("nft(flush chain {table} {name})"))
}

pub(crate) fn add_rule(table: &str, chain: &str, rule: Attrs) -> Request {
    let attrs = Attrs::new().text(1, table).text(2, chain).nest(4, rule);
    message(NEW_RULE, NLM_F_CREATE | NLM_F_APPEND, attrs, format!("nft(add rule {table} {chain})"))
}

pub(crate) fn add_set(set: Set) -> Request {
    // Types as nft(8) numbers them, so that it lists the set: 41 is an interface name, 7 an IPv4 address, 8 one of
    // IPv6, 12 a protocol, 13 a port; concatenations shift by 6 bits. Notes (NFTA_SET_USERDATA) are for nft(8), too.
    let (kind, length): (u32, u32) = match set.keys {
        Keys::Interface => (41, 16),
        Keys::Pair => (41 << 6 | 41, 32),
        Keys::Port => (7 << 12 | 12 << 6 | 13, 12),
        Keys::Port6 => (8 << 12 | 12 << 6 | 13, 24),
    };
    let note: &[u8] = match set.keys {
        Keys::Interface => &NAME_NOTE,
        Keys::Pair => &PAIR_NOTE,
        Keys::Port | Keys::Port6 if set.map => &MAP_NOTE,
        Keys::Port | Keys::Port6 => &PORT_NOTE,
    };
    let mut attrs = Attrs::new()
        .text(1, TABLE)
        .text(2, set.name)
        .be32(3, if set.map { MAP } else { 0 })
        .be32(4, kind)
        .be32(5, length);
    if set.map {
        let (kind, length) = if set.keys == Keys::Port6 { (8 << 6 | 13, 20) } else { (7 << 6 | 13, 8) };
        attrs = attrs.be32(6, kind).be32(7, length);
    }
    attrs = attrs.be32(10, set.id).bytes(13, note);
    message(NEW_SET, NLM_F_CREATE, attrs, format!("nft(add set {TABLE} {})", set.name))
}

const NAME_NOTE: [u8; 6] = [0, 4, 1, 0, 0, 0];
const PAIR_NOTE: [u8; 16] = [0, 4, 0, 0, 0, 0, 3, 8, 0, 4, 0x0d, 0, 0, 0, 1, 0];
const PORT_NOTE: [u8; 16] = [0, 4, 0, 0, 0, 0, 3, 8, 0, 4, 0x0d, 0, 0, 0, 1, 0];
const MAP_NOTE: [u8; 38] = [
    0, 4, 0, 0, 0, 0, 1, 4, 0, 0, 0, 0, 3, 8, 0, 4, 0x0d, 0, 0, 0, 1, 0, 4, 8, 0, 4, 0x0d, 0, 0, 0, 1, 0, 6,
    4, 0, 0, 0, 0,
];
/// `NFT_SET_MAP`
const MAP: u32 = 8;

pub(crate) fn remove_empty_set(set: Set) -> Request {
    let attrs = Attrs::new().text(1, TABLE).text(2, set.name);
    message(DEL_SET, ONLY_EMPTY, attrs, format!("nft(delete set {TABLE} {})", set.name))
}

pub(crate) fn remove_set(set: Set) -> Request {
    let attrs = Attrs::new().text(1, TABLE).text(2, set.name);
    message(DEL_SET, 0, attrs, format!("nft(delete set {TABLE} {})", set.name))
}

fn element(set: Set, id: bool, key: &[u8]) -> Attrs {
    elements(set, id, &[(key, None)])
}

/// Keys, and what they lead to where the set is a map.
fn elements(set: Set, id: bool, all: &[(&[u8], Option<&[u8]>)]) -> Attrs {
    let element = all.iter().fold(Attrs::new(), |list, (key, to)| {
        let mut one = Attrs::new().nest(1, Attrs::new().bytes(1, key));
        if let Some(to) = to {
            one = one.nest(2, Attrs::new().bytes(1, to));
        }
        list.nest(1, one)
    });
    let mut attrs = Attrs::new().text(1, TABLE).text(2, set.name);
    if id {
        attrs = attrs.be32(4, set.id);
    }
    attrs.nest(3, element)
}

pub(crate) fn add_element(set: Set, key: &[u8]) -> Request {
    message(
        NEW_ELEMENT,
        NLM_F_CREATE,
        element(set, true, key),
        format!("nft(add element {TABLE} {})", set.name),
    )
}

/// How many elements go into one message: an attribute has at most 64 KiB, an element of ours at most 68 bytes.
const AT_ONCE: usize = 500;

/// Adds to a map. One that is there already with another value fails with `EBUSY` or `EEXIST`.
pub(crate) fn add_mappings(set: Set, all: &[(Vec<u8>, Vec<u8>)]) -> Vec<Request> {
    let message = |some: &[(Vec<u8>, Vec<u8>)]| {
        let some: Vec<_> = some.iter().map(|(key, to)| (&key[..], Some(&to[..]))).collect();
        let what = format!("nft(add element {TABLE} {})", set.name);
        message(NEW_ELEMENT, NLM_F_CREATE, elements(set, true, &some), what)
    };
    all.chunks(AT_ONCE).map(message).collect()
}

/// Removes elements that are there.
pub(crate) fn remove_elements(set: Set, keys: &[Vec<u8>]) -> Vec<Request> {
    let message = |some: &[Vec<u8>]| {
        let some: Vec<_> = some.iter().map(|key| (&key[..], None)).collect();
        let what = format!("nft(delete element {TABLE} {})", set.name);
        message(DEL_ELEMENT, 0, elements(set, false, &some), what)
    };
    keys.chunks(AT_ONCE).map(message).collect()
}

/// Adds to a set.
pub(crate) fn add_elements(set: Set, keys: &[Vec<u8>]) -> Vec<Request> {
    let message = |some: &[Vec<u8>]| {
        let some: Vec<_> = some.iter().map(|key| (&key[..], None)).collect();
        let what = format!("nft(add element {TABLE} {})", set.name);
        message(NEW_ELEMENT, NLM_F_CREATE, elements(set, true, &some), what)
    };
    keys.chunks(AT_ONCE).map(message).collect()
}

pub(crate) fn remove_element(set: Set, key: &[u8]) -> Request {
    message(DEL_ELEMENT, 0, element(set, false, key), format!("nft(delete element {TABLE} {})", set.name))
}

/// Takes all elements out of a set, but not the set.
pub(crate) fn flush_set(set: Set) -> Request {
    let attrs = Attrs::new().text(1, TABLE).text(2, set.name);
    message(DEL_ELEMENT, 0, attrs, format!("nft(flush set {TABLE} {})", set.name))
}

/// Fails with `ENOENT` when table, set or element are not there.
pub(crate) fn get_element(set: Set, key: &[u8]) -> Request {
    message(GET_ELEMENT, 0, element(set, false, key), format!("nft(get element {TABLE} {})", set.name))
}

pub(crate) fn list_elements(set: Set) -> Request {
    let attrs = Attrs::new().text(1, TABLE).text(2, set.name);
    message(GET_ELEMENT, 0, attrs, format!("nft(list set {TABLE} {})", set.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::expr::hex;

    // Taken from what nft 1.0.6 sends (strace -e write) for the command in each comment.

    const BRIDGES: Set = Set { name: "bridges", id: 1, keys: Keys::Interface, map: false };
    const SAME: Set = Set { name: "same", id: 4, keys: Keys::Pair, map: false };

    /// `add table inet coracle`
    #[test]
    fn table() {
        assert_eq!(hex(add_table(TABLE).payload()), "010000000c000100636f7261636c65000800020000000000");
    }

    /// `add chain inet coracle postrouting { type nat hook postrouting priority 100; policy accept; }`
    #[test]
    fn chain() {
        let hook = Hook { kind: "nat", number: 4, priority: 100 };
        assert_eq!(
            hex(add_chain(TABLE, "postrouting", hook).payload()),
            "010000000c000100636f7261636c650010000300706f7374726f7574696e6700080007006e617400080005000000000114000480\
             08000100000000040800020000000064"
        );
    }

    /// `add set inet coracle bridges { type ifname; }` and `same { type ifname . ifname; }`
    #[test]
    fn sets() {
        assert_eq!(
            hex(add_set(BRIDGES).payload()),
            "010000000c000100636f7261636c65000c00020062726964676573000800030000000000080004000000002908000500000000\
             1008000a00000000010a000d000004010000000000"
        );
        assert_eq!(
            hex(add_set(SAME).payload()),
            "010000000c000100636f7261636c65000900020073616d650000000008000300000000000800040000000a690800050000000020\
             08000a000000000414000d00000400000000030800040d0000000100"
        );
    }

    /// `add map inet coracle ports { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }` and
    /// `add element inet coracle ports { 127.0.0.1 . tcp . 8080 : 10.1.0.2 . 80 }`
    #[test]
    fn map() {
        let ports = Set { name: "ports", id: 1, keys: Keys::Port, map: true };
        assert_eq!(
            hex(add_set(ports).payload()),
            "010000000c000100636f7261636c65000a000200706f727473000000080003000000000808000400 0000730d08000500000000\
             0c08000600000001cd08000700000000080 8000a00000000012a000d0000040000000001040000000003080004 0d00000001000408\
             00040d0000000100060400000000 0000"
                .replace(' ', "")
        );
        assert_eq!(
            hex(add_mappings(ports, &[(b"\x7f\0\0\x01\x06\0\0\0\x1f\x90\0\0".to_vec(), b"\x0a\x01\0\x02\0\x50\0\0".to_vec())])[0].payload()),
            "010000000c000100636f7261636c65000a000200706f7274730000000800040000000001 2c000380280001801400018010000100\
             7f000001060000001f900000100002800c0001000a01000200500000"
                .replace(' ', "")
        );
    }

    /// `add map inet coracle ports6 { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }`,
    /// `add set inet coracle open { type ipv4_addr . inet_proto . inet_service; }`
    #[test]
    fn ports_of_ipv6_and_open_ones() {
        let ports6 = Set { name: "ports6", id: 1, keys: Keys::Port6, map: true };
        let sent = "
            010000000c000100636f7261636c65000b000200706f7274733600000800030000000008080004000000830d08000500000000180800
        06000000020d080007000000001408000a00000000012a000d00000400000000010400000000030800040d0000000100040800040d00
        000001000604000000000000";
        assert_eq!(hex(add_set(ports6).payload()), sent.split_ascii_whitespace().collect::<String>());
        let open = Set { name: "open", id: 2, keys: Keys::Port, map: false };
        let sent = "
            010000000c000100636f7261636c6500090002006f70656e000000000800030000000000080004000000730d080005000000000c0800
        0a000000000214000d00000400000000030800040d0000000100";
        assert_eq!(hex(add_set(open).payload()), sent.split_ascii_whitespace().collect::<String>());
    }

    /// `add element inet coracle bridges { "cor-1a2b3c4d" }`
    #[test]
    fn elements() {
        assert_eq!(
            hex(add_element(BRIDGES, &interface_key("cor-1a2b3c4d")).payload()),
            "010000000c000100636f7261636c65000c00020062726964676573000800040000000001200003801c00018018000180140001\
             00636f722d316132623363346400000000"
        );
    }

    /// `add rule inet coracle forward oifname @bridges drop`, the message around the rule
    #[test]
    fn rule() {
        assert_eq!(
            hex(add_rule(TABLE, "forward", Attrs::new()).payload()),
            "010000000c000100636f7261636c65000c000200666f72776172640004000480"
        );
    }
}
