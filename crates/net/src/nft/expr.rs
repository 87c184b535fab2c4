//! Expressions: what a rule loads, compares and decides.

use crate::netlink::Attrs;

/// Register numbers (`enum nft_registers`): 0 takes a verdict, 1 to 4 are 16 bytes each.
const VERDICT: u32 = 0;
const REGISTER: u32 = 1;

/// Which of a packet's interfaces to load (`enum nft_meta_keys`).
#[derive(Clone, Copy, Debug)]
pub(crate) enum Side {
    In = 6,
    Out = 7,
}

/// What becomes of a packet (`NF_DROP`, `NF_ACCEPT`).
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verdict {
    Drop = 0,
    Accept = 1,
}

/// A packet's own fields that are loaded (`enum nft_payload_bases`; offset and length in bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    /// IPv4, RFC 791
    Source,
    /// IPv4, RFC 791
    Destination,
    /// IPv6, RFC 8200
    Destination6,
    /// TCP, RFC 9293; UDP, RFC 768
    SourcePort,
    /// TCP, RFC 9293; UDP, RFC 768
    DestinationPort,
}

impl Field {
    fn place(self) -> (u32, u32, u32) {
        match self {
            Field::Source => (1, 12, 4),
            Field::Destination => (1, 16, 4),
            Field::Destination6 => (1, 24, 16),
            Field::SourcePort => (2, 0, 2),
            Field::DestinationPort => (2, 2, 2),
        }
    }
}

/// `NFPROTO_IPV4` and `NFPROTO_IPV6`
const IPV4: u8 = 2;
const IPV6: u8 = 10;
/// `enum nft_meta_keys`: the family of the packet, and its transport protocol.
const FAMILY: u32 = 15;
const TRANSPORT: u32 = 16;
/// The four-byte registers that [`REGISTER`] starts with.
const FIRST_WORD: u32 = 8;

/// `enum ip_conntrack_info` as the bits that `ct state` yields.
pub(crate) const ESTABLISHED: u32 = 2;
pub(crate) const RELATED: u32 = 4;
/// `IPS_DST_NAT` of `ct status`.
pub(crate) const DESTINATION_TRANSLATED: u32 = 1 << 5;

/// What to load from connection tracking (`enum nft_ct_keys`).
#[derive(Clone, Copy, Debug)]
pub(crate) enum Track {
    State = 0,
    Status = 2,
}

/// The register behind an address: the second of sixteen bytes, or the second word of four.
fn after(six: bool) -> u32 {
    if six { REGISTER + 1 } else { FIRST_WORD + 1 }
}

/// The list of expressions of one rule, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rule(Attrs);

impl Rule {
    pub(crate) fn new() -> Rule {
        Rule::default()
    }

    fn expression(self, name: &str, data: Attrs) -> Rule {
        Rule(self.0.nest(1, Attrs::new().text(1, name).nest(2, data)))
    }

    fn load_interface(self, side: Side, register: u32) -> Rule {
        self.expression("meta", Attrs::new().be32(2, side as u32).be32(1, register))
    }

    fn lookup(self, set: &str, id: u32, inverted: bool) -> Rule {
        let mut data = Attrs::new().be32(2, REGISTER).text(1, set).be32(4, id);
        if inverted {
            data = data.be32(5, 1);
        }
        self.expression("lookup", data)
    }

    /// `iifname "name"` or `oifname "name"`, as iptables(8) writes it: with the terminating zero.
    pub(crate) fn interface_is(self, side: Side, name: &str) -> Rule {
        self.load_interface(side, REGISTER).compare(&[name.as_bytes(), b"\0"].concat())
    }

    /// `iifname @set` or `oifname @set`. `id` is the set's number within the transaction.
    pub(crate) fn interface_in(self, side: Side, set: &str, id: u32) -> Rule {
        self.load_interface(side, REGISTER).lookup(set, id, false)
    }

    /// `oifname != @set`
    pub(crate) fn interface_not_in(self, side: Side, set: &str, id: u32) -> Rule {
        self.load_interface(side, REGISTER).lookup(set, id, true)
    }

    /// `iifname . oifname @set`: the names lie in two registers, one after the other.
    pub(crate) fn both_interfaces_in(self, set: &str, id: u32) -> Rule {
        self.load_interface(Side::In, REGISTER).load_interface(Side::Out, REGISTER + 1).lookup(set, id, false)
    }

    /// `ct state a,b` (any of the bits), or none of them when `any` is false.
    pub(crate) fn tracked(self, key: Track, bits: u32, any: bool) -> Rule {
        let value = |value: u32| Attrs::new().bytes(1, &value.to_ne_bytes());
        self.expression("ct", Attrs::new().be32(2, key as u32).be32(1, REGISTER))
            .expression(
                "bitwise",
                Attrs::new()
                    .be32(1, REGISTER)
                    .be32(2, REGISTER)
                    .be32(3, 4)
                    .nest(4, value(bits))
                    .nest(5, value(0)),
            )
            .expression("cmp", Attrs::new().be32(1, REGISTER).be32(2, u32::from(any)).nest(3, value(0)))
    }

    /// `meta nfproto ipv4`
    pub(crate) fn ipv4(self) -> Rule {
        self.expression("meta", Attrs::new().be32(2, FAMILY).be32(1, REGISTER)).compare(&[IPV4])
    }

    /// `meta nfproto ipv6`
    pub(crate) fn ipv6(self) -> Rule {
        self.expression("meta", Attrs::new().be32(2, FAMILY).be32(1, REGISTER)).compare(&[IPV6])
    }

    /// One of the two.
    pub(crate) fn family(self, six: bool) -> Rule {
        if six { self.ipv6() } else { self.ipv4() }
    }

    /// `==`
    fn compare(self, value: &[u8]) -> Rule {
        let value = Attrs::new().bytes(1, value);
        self.expression("cmp", Attrs::new().be32(1, REGISTER).be32(2, 0).nest(3, value))
    }

    fn load(self, field: Field, register: u32) -> Rule {
        let (base, offset, length) = field.place();
        let data = Attrs::new().be32(1, register).be32(2, base).be32(3, offset).be32(4, length);
        self.expression("payload", data)
    }

    /// That a field has this value, after [`Rule::family`] and, for ports, [`Rule::transport`].
    pub(crate) fn is(self, field: Field, value: &[u8]) -> Rule {
        self.load(field, REGISTER).compare(value)
    }

    /// `meta l4proto`
    pub(crate) fn transport(self, protocol: u8) -> Rule {
        self.expression("meta", Attrs::new().be32(2, TRANSPORT).be32(1, REGISTER)).compare(&[protocol])
    }

    /// The end of the rule: the field gets this value, two bytes, and the checksum that is at `checksum` of the transport
    /// header follows.
    pub(crate) fn set(self, field: Field, value: [u8; 2], checksum: u32) -> Attrs {
        let (base, offset, length) = field.place();
        let data = Attrs::new().bytes(1, &value);
        let write = Attrs::new().be32(5, REGISTER).be32(2, base).be32(3, offset).be32(4, length);
        // NFT_PAYLOAD_CSUM_INET
        self.expression("immediate", Attrs::new().be32(1, REGISTER).nest(2, data))
            .expression("payload", write.be32(6, 1).be32(7, checksum))
            .0
    }

    /// `fib saddr . iif oif 0`, after [`Rule::ipv6`]: there is no way back to the source by where it came from.
    pub(crate) fn spoofed(self) -> Rule {
        // NFT_FIB_RESULT_OIF by NFTA_FIB_F_SADDR | NFTA_FIB_F_IIF
        self.expression("fib", Attrs::new().be32(3, 9).be32(2, 1).be32(1, REGISTER)).compare(&[0; 4])
    }

    /// `ip saddr 127.0.0.0/8` or `ip daddr …`, after [`Rule::ipv4`].
    pub(crate) fn loopback(self, field: Field) -> Rule {
        self.load(field, REGISTER).prefix(&[127])
    }

    /// That what was loaded begins with these bytes.
    fn prefix(self, bytes: &[u8]) -> Rule {
        let mask: Vec<u8> = (0..4).map(|at| if at < bytes.len() { 0xff } else { 0 }).collect();
        let mut value = bytes.to_vec();
        value.resize(4, 0);
        let data = |bytes: &[u8]| Attrs::new().bytes(1, bytes);
        let attrs = Attrs::new().be32(1, REGISTER).be32(2, REGISTER).be32(3, 4);
        self.expression("bitwise", attrs.nest(4, data(&mask)).nest(5, data(&[0; 4]))).compare(&value)
    }

    /// `fib daddr type local`: the destination is an address of this host.
    pub(crate) fn for_this_host(self) -> Rule {
        // NFT_FIB_RESULT_ADDRTYPE by NFTA_FIB_F_DADDR; RTN_LOCAL
        self.expression("fib", Attrs::new().be32(3, 2).be32(2, 3).be32(1, REGISTER))
            .compare(&2u32.to_ne_bytes())
    }

    /// `fib saddr type != local iifname ""`: a packet on its way out that neither this host made nor any interface
    /// is known for, which is one that a bridge passes on (br_netfilter).
    pub(crate) fn bridged(self) -> Rule {
        // NFTA_FIB_F_SADDR; RTN_LOCAL
        let local = Attrs::new().bytes(1, &2u32.to_ne_bytes());
        self.expression("fib", Attrs::new().be32(3, 1).be32(2, 3).be32(1, REGISTER))
            .expression("cmp", Attrs::new().be32(1, REGISTER).be32(2, 1).nest(3, local))
            .load_interface(Side::In, REGISTER)
            .compare(&[0; 16])
    }

    /// `ip daddr . meta l4proto . th dport`, or `0.0.0.0` or `::` in the destination's place: the words of a key.
    fn load_port(self, six: bool, any_address: bool) -> Rule {
        let (length, field) = if six { (16, Field::Destination6) } else { (4, Field::Destination) };
        let rule = match any_address {
            true => {
                let zero = Attrs::new().bytes(1, &[0; 16][..length]);
                self.expression("immediate", Attrs::new().be32(1, REGISTER).nest(2, zero))
            }
            false => self.load(field, REGISTER),
        };
        rule.expression("meta", Attrs::new().be32(2, TRANSPORT).be32(1, after(six)))
            .load(Field::DestinationPort, FIRST_WORD + length as u32 / 4 + 1)
    }

    /// `ip daddr . meta l4proto . th dport @set`
    pub(crate) fn port_in(self, six: bool, set: &str, id: u32) -> Rule {
        self.family(six).load_port(six, false).lookup(set, id, false)
    }

    /// The end of the rule: `dnat ip to ip daddr . meta l4proto . th dport map @map`, or with 0.0.0.0 in the
    /// destination's place.
    pub(crate) fn translate(self, six: bool, any_address: bool, map: &str, id: u32) -> Attrs {
        // NFT_NAT_DNAT; address and port come from the words that the map gave.
        let family = if six { IPV6 } else { IPV4 };
        let nat = Attrs::new().be32(1, 1).be32(2, family.into()).be32(3, REGISTER).be32(5, after(six));
        self.load_port(six, any_address)
            .expression("lookup", Attrs::new().be32(2, REGISTER).be32(3, REGISTER).text(1, map).be32(4, id))
            .expression("nat", nat)
            .0
    }

    /// The end of the rule: accept or drop.
    pub(crate) fn verdict(self, verdict: Verdict) -> Attrs {
        let code = Attrs::new().be32(1, verdict as u32);
        let data = Attrs::new().be32(1, VERDICT).nest(2, Attrs::new().nest(2, code));
        self.expression("immediate", data).0
    }

    /// The end of the rule: the source becomes the address of the interface that the packet leaves by.
    pub(crate) fn masquerade(self) -> Attrs {
        self.expression("masq", Attrs::new()).0
    }
}

#[cfg(test)]
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
