//! Table `inet coracle`: the one table of ours, shared by all networks of all state directories on a host.
//!
//! ```text
//! set bridges   every bridge of ours            set same       (bridge, the same bridge)
//! set out       those with a way out            set icc        the same, where those on it may reach each other
//! set masq      those that leave by the host's  set uplinks    interfaces whose forwarding we switched on
//!     masq6     addresses                           uplinks6
//! map ports     (host address or 0.0.0.0, protocol, port) to (address, port): what is published
//!     ports6    the same of IPv6                set open, open6  (address, protocol, port): open without translation
//!
//! chain early (filter, prerouting, -300)        what it is for
//!   iifname @bridges ip daddr 127.0.0.0/8 drop  with route_localnet a bridge would let these in: nothing on it
//!   iifname @bridges ip saddr 127.0.0.0/8 drop  talks to the host's loopback or pretends to be it
//!
//! chain prerouting (nat, prerouting, -100)
//!   ip daddr 127.0.0.0/8 accept                 loopback has its own chain; from the wire nobody reaches
//!   dnat to ip daddr . proto . port @ports      what is published there
//!   fib daddr type local dnat to 0.0.0.0 . proto . port @ports
//!   the last two of IPv6, @ports6
//!
//! chain output (nat, output, -100)              the same translations, for the host itself
//!   ip6 daddr ::1 accept                        the kernel routes no answer to ::1
//!
//! chain forward (filter, forward, 0)
//!   ct state established,related accept         answers
//!   iifname . oifname @icc accept               one network, where br_netfilter shows us its packets
//!   iifname @bridges fib saddr . iif oif 0 drop of IPv6: no spoofed sources; IPv4 has rp_filter
//!   iifname @bridges iifname != @out drop       internal networks have no way out
//!   oifname @out ct status & dnat != 0 accept   published ports
//!   oifname @out ip daddr . proto . port @open accept, and of IPv6
//!   oifname @bridges drop                       walls between networks; nobody routes into one
//!   iifname @out accept                         out
//!   iifname @uplinks ct status & dnat == 0 drop the host stays no router for its neighbours; of IPv6 @uplinks6
//!
//! chain postrouting (nat, postrouting, 100)
//!   iifname @masq oifname != @bridges masquerade, of IPv6 @masq6
//!   iifname . oifname @same ct status & dnat != 0 masquerade
//!                                               hairpin: an answer must come back this way
//!   oifname @out ct status & dnat != 0 fib saddr type != local iifname "" masquerade
//!                                               the same, where br_netfilter lets the bridge do it
//!   ip saddr 127.0.0.0/8 oifname @out masquerade
//!                                               the host's loopback becomes the gateway, to which there is a way
//! ```
//!
//! A packet costs the same few lookups however many networks and ports there are, and a network or port that comes
//! or goes touches its own elements only. The two lookups for ports are a connection's, not a packet's. `iifname` in postrouting needs Linux 5.7, NAT in the inet family 5.2.
//!
//! Nobody owns the table, so taking it down is a question to the kernel rather than to a lock: one transaction
//! flushes the chains and deletes the sets *if they are empty*, and fails as a whole when another network is there.

use std::net::Ipv6Addr;

use rustix::io::Errno;

use super::expr::{DESTINATION_TRANSLATED, ESTABLISHED, Field, RELATED, Rule, Side, Track, Verdict};
use super::message::{self as nft, Hook, Keys, Set};
use crate::netlink::{Attrs, Request, Socket, attributes, attrs};
use crate::plan::{Switched, Walls};
use crate::{Error, Kind, Result, Subnet};

const fn set(name: &'static str, id: u32, keys: Keys, map: bool) -> Set {
    Set { name, id, keys, map }
}

const BRIDGES: Set = set("bridges", 1, Keys::Interface, false);
const OUT: Set = set("out", 2, Keys::Interface, false);
const UPLINKS: Set = set("uplinks", 3, Keys::Interface, false);
const SAME: Set = set("same", 4, Keys::Pair, false);
pub(super) const PORTS: Set = set("ports", 5, Keys::Port, true);
const ICC: Set = set("icc", 6, Keys::Pair, false);
const MASQ: Set = set("masq", 7, Keys::Interface, false);
const MASQ6: Set = set("masq6", 8, Keys::Interface, false);
const UPLINKS6: Set = set("uplinks6", 9, Keys::Interface, false);
pub(super) const PORTS6: Set = set("ports6", 10, Keys::Port6, true);
pub(super) const OPEN: Set = set("open", 11, Keys::Port, false);
pub(super) const OPEN6: Set = set("open6", 12, Keys::Port6, false);

/// What a bridge's own elements are in, and what ports are in: empty when the last network is gone.
const OWN: [Set; 10] = [BRIDGES, OUT, SAME, ICC, MASQ, MASQ6, PORTS, PORTS6, OPEN, OPEN6];
/// The memory of what we switched on: the last to go.
const SWITCHED: [Set; 2] = [UPLINKS, UPLINKS6];

const EARLY: (&str, Hook) = ("early", Hook { kind: "filter", number: 0, priority: -300 });
const PREROUTING: (&str, Hook) = ("prerouting", Hook { kind: "nat", number: 0, priority: -100 });
const OUTPUT: (&str, Hook) = ("output", Hook { kind: "nat", number: 3, priority: -100 });
const FORWARD: (&str, Hook) = ("forward", Hook { kind: "filter", number: 2, priority: 0 });
const POSTROUTING: (&str, Hook) = ("postrouting", Hook { kind: "nat", number: 4, priority: 100 });
const CHAINS: [(&str, Hook); 5] = [EARLY, PREROUTING, OUTPUT, FORWARD, POSTROUTING];

/// What became of an attempt to remove something shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removal {
    Done,
    /// Somebody uses it. Nothing has happened.
    InUse,
    /// It wasn't there, or not all of it. Nothing has happened.
    Absent,
}

/// The table of the network namespace of the thread that opened it.
pub(crate) struct Table {
    pub(super) socket: Socket,
}

impl Table {
    /// # Errors
    /// `Unsupported` when the kernel has no nf_tables.
    pub(crate) fn open() -> Result<Table> {
        Ok(Table { socket: Socket::netfilter().map_err(named)? })
    }

    /// Makes the table if need be, and admits a bridge to it. Idempotent.
    ///
    /// `uplinks` become known as interfaces whose forwarding we switched on; `None` forgets all of these,
    /// because the host forwards by itself.
    pub(crate) fn admit(&self, bridge: &str, walls: Walls, uplinks: &Switched) -> Result<()> {
        let mut batch = skeleton();
        let wanted = membership(bridge).into_iter().filter(|(set, _)| match set.name {
            "out" => walls.out,
            "masq" => walls.masquerade,
            "masq6" => walls.masquerade6,
            "icc" => walls.icc,
            _ => true,
        });
        batch.extend(wanted.map(|(set, key)| nft::add_element(set, &key)));
        for (set, uplinks) in [(UPLINKS, &uplinks.ipv4), (UPLINKS6, &uplinks.ipv6)] {
            match uplinks {
                Some(uplinks) => {
                    batch.extend(uplinks.iter().map(|name| nft::add_element(set, &nft::interface_key(name))));
                }
                None => batch.push(nft::flush_set(set)),
            }
        }
        self.commit("nft(admit)", &batch).map_err(named)
    }

    /// Whether the bridge is admitted, and with it the whole table there. Asks without disturbing anybody.
    pub(crate) fn has(&self, bridge: &str) -> Result<bool> {
        self.has_element(BRIDGES, &nft::interface_key(bridge))
    }

    /// Whether there is a table at all. Worth asking: a transaction that fails costs as much as one that doesn't.
    pub(crate) fn exists(&self) -> Result<bool> {
        self.there(nft::get_table())
    }

    fn has_element(&self, set: Set, key: &[u8]) -> Result<bool> {
        self.there(nft::get_element(set, key))
    }

    pub(super) fn there(&self, question: Request) -> Result<bool> {
        match self.socket.one(question) {
            Ok(_) => Ok(true),
            Err(error) if error.errno() == Some(Errno::NOENT) => Ok(false),
            Err(error) => Err(named(error)),
        }
    }

    /// Remembers more interfaces whose forwarding we switch on.
    pub(crate) fn add_uplinks(&self, uplinks: &Switched) -> Result<()> {
        let four = uplinks.ipv4.iter().flatten().map(|name| (UPLINKS, name));
        let all = four.chain(uplinks.ipv6.iter().flatten().map(|name| (UPLINKS6, name)));
        let batch: Vec<Request> =
            all.map(|(set, name)| nft::add_element(set, &nft::interface_key(name))).collect();
        self.commit("nft(uplinks)", &batch).map_err(named)
    }

    /// Takes the bridge's elements out, and the ports that lead into its subnets. What isn't there is fine.
    pub(crate) fn expel(&self, bridge: &str, subnets: &[Subnet]) -> Result<()> {
        let mut batch = self.removals_of_ports_into(subnets)?;
        // Asked first, because a transaction waits for all packets under way, and one that fails did so in vain.
        let members = membership(bridge);
        let questions: Vec<Request> = members.iter().map(|(set, key)| nft::get_element(*set, key)).collect();
        for ((set, key), answer) in members.iter().zip(self.socket.each(&questions)?) {
            match answer {
                Ok(_) => batch.push(nft::remove_element(*set, key)),
                Err(error) if error.errno() == Some(Errno::NOENT) => {}
                Err(error) => return Err(named(error)),
            }
        }
        if batch.is_empty() { Ok(()) } else { self.commit("nft(expel)", &batch).map_err(named) }
    }

    /// Takes chains and sets down if no bridge is left, all but the memory of uplinks.
    pub(crate) fn dismantle(&self) -> Result<Removal> {
        let mut batch: Vec<Request> =
            CHAINS.iter().map(|(name, _)| nft::flush_chain(nft::TABLE, name)).collect();
        batch.extend(CHAINS.iter().map(|(name, _)| nft::remove_chain(name)));
        batch.extend(OWN.map(nft::remove_empty_set));
        self.attempt("nft(dismantle)", &batch)
    }

    /// Forgets the uplinks and removes the table, unless somebody has built it up again in between.
    pub(crate) fn remove(&self) -> Result<Removal> {
        let mut batch: Vec<Request> = SWITCHED.map(nft::remove_set).into();
        batch.push(nft::remove_empty_table());
        self.attempt("nft(remove)", &batch)
    }

    /// The interfaces whose forwarding we switched on.
    pub(crate) fn switched(&self) -> Result<Switched> {
        Ok(Switched { ipv4: Some(self.names(UPLINKS)?), ipv6: Some(self.names(UPLINKS6)?) })
    }

    /// The bridges that are admitted.
    pub(crate) fn bridges(&self) -> Result<Vec<String>> {
        self.names(BRIDGES)
    }

    fn names(&self, set: Set) -> Result<Vec<String>> {
        let replies = match self.socket.dump(nft::list_elements(set)) {
            Err(error) if error.errno() == Some(Errno::NOENT) => return Ok(Vec::new()),
            replies => replies.map_err(named)?,
        };
        Ok(replies.iter().flat_map(|reply| element_names(&reply.payload)).collect())
    }

    fn attempt(&self, what: &str, batch: &[Request]) -> Result<Removal> {
        match self.commit(what, batch) {
            Ok(()) => Ok(Removal::Done),
            Err(error) if error.errno() == Some(Errno::BUSY) => Ok(Removal::InUse),
            Err(error) if error.errno() == Some(Errno::NOENT) => Ok(Removal::Absent),
            Err(error) => Err(named(error)),
        }
    }

    pub(super) fn commit(&self, what: &str, batch: &[Request]) -> Result<()> {
        self.socket.transaction(nft::begin(what), batch, nft::end())
    }
}

/// The sets that a bridge is in, with its key in each.
fn membership(bridge: &str) -> [(Set, Vec<u8>); 6] {
    let key = nft::interface_key(bridge);
    let pair = [key.clone(), key.clone()].concat();
    // What lets packets through goes first when it is taken out.
    let [icc, same] = [(ICC, pair.clone()), (SAME, pair)];
    [icc, same, (OUT, key.clone()), (MASQ, key.clone()), (MASQ6, key.clone()), (BRIDGES, key)]
}

/// The table with its rules as written at the top, whether it was there or not.
fn skeleton() -> Vec<Request> {
    let mut batch = vec![nft::add_table(nft::TABLE)];
    batch.extend(OWN.iter().chain(&SWITCHED).map(|set| nft::add_set(*set)));
    batch.extend(CHAINS.map(|(name, hook)| nft::add_chain(nft::TABLE, name, hook)));
    batch.extend(CHAINS.map(|(name, _)| nft::flush_chain(nft::TABLE, name)));
    for ((chain, _), rules) in [
        (EARLY, early()),
        (PREROUTING, prerouting()),
        (OUTPUT, output()),
        (FORWARD, forward()),
        (POSTROUTING, postrouting()),
    ] {
        batch.extend(rules.into_iter().map(|rule| nft::add_rule(nft::TABLE, chain, rule)));
    }
    batch
}

fn inside(set: Set) -> Rule {
    Rule::new().interface_in(Side::In, set.name, set.id)
}

fn onto(set: Set) -> Rule {
    Rule::new().interface_in(Side::Out, set.name, set.id)
}

fn early() -> Vec<Attrs> {
    let loopback = |field| inside(BRIDGES).ipv4().loopback(field).verdict(Verdict::Drop);
    vec![loopback(Field::Destination), loopback(Field::Source)]
}

fn prerouting() -> Vec<Attrs> {
    let mut rules = vec![Rule::new().ipv4().loopback(Field::Destination).verdict(Verdict::Accept)];
    rules.extend(translations());
    rules
}

fn output() -> Vec<Attrs> {
    let here = Rule::new().ipv6().is(Field::Destination6, &Ipv6Addr::LOCALHOST.octets());
    let mut rules = vec![here.verdict(Verdict::Accept)];
    rules.extend(translations());
    rules
}

fn translations() -> [Attrs; 4] {
    let of = |six, any: bool, map: Set| {
        let rule = Rule::new().family(six);
        let rule = if any { rule.for_this_host() } else { rule };
        rule.translate(six, any, map.name, map.id)
    };
    [of(false, false, PORTS), of(false, true, PORTS), of(true, false, PORTS6), of(true, true, PORTS6)]
}

fn forward() -> Vec<Attrs> {
    let published = |rule: Rule, yes| rule.tracked(Track::Status, DESTINATION_TRANSLATED, yes);
    let known = |rule: Rule, set: Set| rule.both_interfaces_in(set.name, set.id);
    vec![
        Rule::new().tracked(Track::State, ESTABLISHED | RELATED, true).verdict(Verdict::Accept),
        known(Rule::new(), ICC).verdict(Verdict::Accept),
        inside(BRIDGES).ipv6().spoofed().verdict(Verdict::Drop),
        inside(BRIDGES).interface_not_in(Side::In, OUT.name, OUT.id).verdict(Verdict::Drop),
        published(onto(OUT), true).verdict(Verdict::Accept),
        onto(OUT).port_in(false, OPEN.name, OPEN.id).verdict(Verdict::Accept),
        onto(OUT).port_in(true, OPEN6.name, OPEN6.id).verdict(Verdict::Accept),
        onto(BRIDGES).verdict(Verdict::Drop),
        inside(OUT).verdict(Verdict::Accept),
        published(inside(UPLINKS).ipv4(), false).verdict(Verdict::Drop),
        published(inside(UPLINKS6).ipv6(), false).verdict(Verdict::Drop),
    ]
}

fn postrouting() -> Vec<Attrs> {
    let leaving = |set, six| inside(set).family(six).interface_not_in(Side::Out, BRIDGES.name, BRIDGES.id);
    let translated = |rule: Rule| rule.tracked(Track::Status, DESTINATION_TRANSLATED, true);
    let hairpin = Rule::new().both_interfaces_in(SAME.name, SAME.id);
    let bridged = |six| Rule::new().family(six).interface_in(Side::Out, OUT.name, OUT.id);
    let loopback = Rule::new().ipv4().loopback(Field::Source);
    vec![
        leaving(MASQ, false).masquerade(),
        leaving(MASQ6, true).masquerade(),
        translated(hairpin).masquerade(),
        translated(bridged(false)).bridged().masquerade(),
        translated(bridged(true)).bridged().masquerade(),
        loopback.interface_in(Side::Out, OUT.name, OUT.id).masquerade(),
    ]
}

/// The keys in one message of a listing: list (3), element (1), key (1), value (1).
fn element_names(payload: &[u8]) -> Vec<String> {
    let keys = elements(payload).into_iter().flat_map(|element| inner(&element, 1));
    keys.flat_map(|key| inner(&key, 1)).map(|value| attrs::text(&value)).collect()
}

/// The elements in one message of a listing.
pub(super) fn elements(payload: &[u8]) -> Vec<Vec<u8>> {
    let lists = inner(payload.get(4..).unwrap_or_default(), 3);
    lists.iter().flat_map(|list| inner(list, 1)).collect()
}

pub(super) fn inner(bytes: &[u8], wanted: u16) -> Vec<Vec<u8>> {
    attributes(bytes).filter(|(kind, _)| *kind == wanted).map(|(_, value)| value).collect()
}

/// What a kernel without nf_tables answers depends on what else it lacks.
pub(super) fn named(error: Error) -> Error {
    match error.errno() {
        Some(Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT | Errno::OPNOTSUPP | Errno::INVAL) => Error::new(
            Kind::Unsupported,
            format!(
                "this kernel has no nf_tables for walls and NAT (CONFIG_NF_TABLES_INET, CONFIG_NFT_CT, \
                 CONFIG_NFT_NAT, \
                 CONFIG_NFT_MASQ, CONFIG_NFT_FIB_INET; Linux 5.7): {error}"
            ),
        ),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_read_down_to_the_names() {
        let element = |name: &str| {
            Attrs::new().nest(1, Attrs::new().nest(1, Attrs::new().bytes(1, &nft::interface_key(name))))
        };
        let list = [element("eth0").into_bytes(), element("wlan0").into_bytes()].concat();
        let message = Attrs::new().text(1, "coracle").text(2, "uplinks").bytes(3 | 0x8000, &list);
        let payload = [vec![1, 0, 0, 0], message.into_bytes()].concat();
        assert_eq!(element_names(&payload), ["eth0", "wlan0"]);
        assert!(element_names(&payload[..9]).is_empty());
    }
}
