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
    /// TCP, RFC 9293; UDP, RFC 768
    DestinationPort,
}

impl Field {
    fn place(self) -> (u32, u32, u32) {
        match self {
            Field::Source => (1, 12, 4),
            Field::Destination => (1, 16, 4),
            Field::DestinationPort => (2, 2, 2),
        }
    }
}

/// `NFPROTO_IPV4`
const IPV4: u8 = 2;
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

    /// The end of the rule: `dnat ip to ip daddr . meta l4proto . th dport map @map`, or with 0.0.0.0 in the
    /// destination's place.
    pub(crate) fn translate(self, any_address: bool, map: &str, id: u32) -> Attrs {
        let rule = match any_address {
            true => {
                let zero = Attrs::new().bytes(1, &[0; 4]);
                self.expression("immediate", Attrs::new().be32(1, REGISTER).nest(2, zero))
            }
            false => self.load(Field::Destination, REGISTER),
        };
        // NFT_NAT_DNAT; address and port come from the two words that the map gave.
        let nat = Attrs::new().be32(1, 1).be32(2, IPV4.into()).be32(3, REGISTER).be32(5, FIRST_WORD + 1);
        rule.expression("meta", Attrs::new().be32(2, TRANSPORT).be32(1, FIRST_WORD + 1))
            .load(Field::DestinationPort, FIRST_WORD + 2)
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
mod tests {
    use super::*;

    // Taken from what nft 1.0.6 sends (strace -e write) for the rule in each comment.

    /// `ct state established,related accept`
    #[test]
    fn connection_state() {
        let rule = Rule::new().tracked(Track::State, ESTABLISHED | RELATED, true).verdict(Verdict::Accept);
        assert_eq!(
            hex(&rule.into_bytes()),
            "2000018007000100637400001400028008000200000000000800010000000001440001800c0001006269747769736500340002\
             800800010000000001080002000000000108000300000000040c00048008000100060000000c00058008000100000000002c00\
             018008000100636d700020000280080001000000000108000200000000010c0003800800010000000000300001800e000100696d\
             6d6564696174650000001c0002800800010000000000100002800c0002800800010000000001"
        );
    }

    /// `iifname . oifname @same accept`
    #[test]
    fn pair_of_interfaces() {
        let rule = Rule::new().both_interfaces_in("same", 4).verdict(Verdict::Accept);
        assert_eq!(
            hex(&rule.into_bytes()),
            "24000180090001006d65746100000000140002800800020000000006080001000000000124000180090001006d65746100000000\
             1400028008000200000000070800010000000002300001800b0001006c6f6f6b7570000020000280080002000000000109000100\
             73616d65000000000800040000000004300001800e000100696d6d6564696174650000001c000280080001000000000010000280\
             0c0002800800010000000001"
        );
    }

    /// `oifname @bridges drop`
    #[test]
    fn interface_in_a_set() {
        let rule = Rule::new().interface_in(Side::Out, "bridges", 1).verdict(Verdict::Drop);
        assert_eq!(
            hex(&rule.into_bytes()),
            "24000180090001006d657461000000001400028008000200000000070800010000000001300001800b0001006c6f6f6b75700000\
             2000028008000200000000010c00010062726964676573000800040000000001300001800e000100696d6d656469617465000000\
             1c0002800800010000000000100002800c0002800800010000000000"
        );
    }

    /// `dnat ip to ip daddr . meta l4proto . th dport map @ports`
    #[test]
    fn translation() {
        let rule = Rule::new().ipv4().translate(false, "ports", 1);
        let sent = "
            24000180090001006d65746100000000140002800800020000 00000f08000100000000012c00018008000100636d7000200002 80
            08000100000000010800020000 0000000c0003800500010002000000 340001800c0001007061796c6f616400240002800800010000
            00000108000200000000010800030000000010080004000000000424000180090001006d657461000000001400028008000200000000
            100800010000000009340001800c0001007061796c6f6164002400028008000100 0000000a08000200000000020800030000000002
            0800040000000002380001800b0001006c6f6f6b757000002800028008000200000000010800030000 0000010a000100706f727473
            0000000800040000000001300001 80080001006e617400240002800800010000000001080002000000000208000300000000010800
            050000000009";
        assert_eq!(hex(&rule.into_bytes()), sent.split_ascii_whitespace().collect::<String>());
    }

    /// `fib daddr type local accept`
    #[test]
    fn destination_of_ours() {
        let rule = Rule::new().for_this_host().verdict(Verdict::Accept);
        let sent = "
            280001800800010066696200 1c0002800800030000000002080002000000000308000100000000012c00018008000100636d7000
            20000280080001000000000108000200000000000c00038008000100020000003000018 00e000100696d6d6564696174650000001c
            0002800800010000000000100002800c0002800800010000000001";
        assert_eq!(hex(&rule.into_bytes()), sent.split_ascii_whitespace().collect::<String>());
    }

    /// `iifname @nat oifname != @bridges masquerade`
    #[test]
    fn masquerade() {
        let rule = Rule::new()
            .interface_in(Side::In, "nat", 2)
            .interface_not_in(Side::Out, "bridges", 1)
            .masquerade();
        assert_eq!(
            hex(&rule.into_bytes()),
            "24000180090001006d6574610000000014000280080002000000000608000100000000012c0001800b0001006c6f6f6b75700000\
             1c0002800800020000000001080001006e617400080004000000000224000180090001006d657461000000001400028008000200\
             000000070800010000000001380001800b0001006c6f6f6b757000002800028008000200000000010c0001006272696467657300\
             0800040000000001080005000000000114000180090001006d6173710000000004000280"
        );
    }
}
