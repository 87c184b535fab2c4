//! Table `inet coracle`: the one table of ours, shared by all networks of all state directories on a host.
//!
//! ```text
//! set bridges   every bridge of ours            set same     (bridge, the same bridge)
//! set nat       those with a way out            set uplinks  interfaces whose forwarding we switched on
//! map ports     (host address or 0.0.0.0, protocol, port) to (address, port): what is published
//!
//! chain early (filter, prerouting, -300)        what it is for
//!   iifname @bridges ip daddr 127.0.0.0/8 drop  with route_localnet a bridge would let these in: nothing on it
//!   iifname @bridges ip saddr 127.0.0.0/8 drop  talks to the host's loopback or pretends to be it
//!
//! chain prerouting (nat, prerouting, -100)
//!   ip daddr 127.0.0.0/8 accept                 loopback has its own chain; from the wire nobody reaches
//!   dnat to ip daddr . proto . port @ports      what is published there
//!   fib daddr type local dnat to 0.0.0.0 . proto . port @ports
//!
//! chain output (nat, output, -100)              the same two, for the host itself
//!
//! chain forward (filter, forward, 0)
//!   ct state established,related accept         answers
//!   iifname . oifname @same accept              one network, where br_netfilter shows us its packets
//!   iifname @bridges iifname != @nat drop       internal networks have no way out
//!   oifname @nat ct status & dnat != 0 accept   published ports
//!   oifname @bridges drop                       walls between networks; nobody routes into one
//!   iifname @nat accept                         out
//!   iifname @uplinks ct status & dnat == 0 drop the host stays no router for its neighbours
//!
//! chain postrouting (nat, postrouting, 100)
//!   iifname @nat oifname != @bridges masquerade
//!   iifname . oifname @same ct status & dnat != 0 masquerade
//!                                               hairpin: an answer must come back this way
//!   oifname @nat ct status & dnat != 0 fib saddr type != local iifname "" masquerade
//!                                               the same, where br_netfilter lets the bridge do it
//!   ip saddr 127.0.0.0/8 oifname @nat masquerade
//!                                               the host's loopback becomes the gateway, to which there is a way
//! ```
//!
//! A packet costs the same few lookups however many networks and ports there are, and a network or port that comes
//! or goes touches its own elements only. The two lookups for ports are a connection's, not a packet's. `iifname` in postrouting needs Linux 5.7, NAT in the inet family 5.2.
//!
//! Nobody owns the table, so taking it down is a question to the kernel rather than to a lock: one transaction
//! flushes the chains and deletes the sets *if they are empty*, and fails as a whole when another network is there.

use rustix::io::Errno;

use super::expr::{DESTINATION_TRANSLATED, ESTABLISHED, Field, RELATED, Rule, Side, Track, Verdict};
use super::message::{self as nft, Hook, Keys, Set};
use crate::netlink::{Attrs, Request, Socket, attributes, attrs};
use crate::{Error, Kind, Result, Subnet};

const BRIDGES: Set = Set { name: "bridges", id: 1, keys: Keys::Interface };
const NAT: Set = Set { name: "nat", id: 2, keys: Keys::Interface };
const UPLINKS: Set = Set { name: "uplinks", id: 3, keys: Keys::Interface };
const SAME: Set = Set { name: "same", id: 4, keys: Keys::Pair };
pub(super) const PORTS: Set = Set { name: "ports", id: 5, keys: Keys::Port };

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

    /// Makes the table if need be, and admits a bridge to it, with a way out (`nat`) or without. Idempotent.
    /// `uplinks` become known as interfaces whose forwarding we switched on; `None` forgets all of these,
    /// because the host forwards by itself.
    pub(crate) fn admit(&self, bridge: &str, nat: bool, uplinks: Option<&[String]>) -> Result<()> {
        let key = nft::interface_key(bridge);
        let mut batch = skeleton();
        batch.push(nft::add_element(BRIDGES, &key));
        batch.push(nft::add_element(SAME, &[key.clone(), key.clone()].concat()));
        if nat {
            batch.push(nft::add_element(NAT, &key));
        }
        match uplinks {
            Some(uplinks) => {
                batch.extend(uplinks.iter().map(|name| nft::add_element(UPLINKS, &nft::interface_key(name))));
            }
            None => batch.push(nft::flush_set(UPLINKS)),
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
    pub(crate) fn add_uplinks(&self, uplinks: &[String]) -> Result<()> {
        let add = |name: &String| nft::add_element(UPLINKS, &nft::interface_key(name));
        let batch: Vec<Request> = uplinks.iter().map(add).collect();
        self.commit("nft(uplinks)", &batch).map_err(named)
    }

    /// Takes the bridge's elements out, and the ports that lead into its subnet. What isn't there is fine.
    pub(crate) fn expel(&self, bridge: &str, subnet: Subnet) -> Result<()> {
        let key = nft::interface_key(bridge);
        let pair = [key.clone(), key.clone()].concat();
        let elements = [(NAT, &key), (SAME, &pair), (BRIDGES, &key)];
        let mut batch = self.removals_of_ports_into(subnet)?;
        for (set, key) in elements {
            // Asked first, because a transaction waits for all packets under way, and one that fails did so in vain.
            if self.has_element(set, key)? {
                batch.push(nft::remove_element(set, key));
            }
        }
        if batch.is_empty() { Ok(()) } else { self.commit("nft(expel)", &batch).map_err(named) }
    }

    /// Takes chains and sets down if no bridge is left, all but the memory of uplinks.
    pub(crate) fn dismantle(&self) -> Result<Removal> {
        let mut batch: Vec<Request> = CHAINS.iter().map(|(name, _)| nft::flush_chain(name)).collect();
        batch.extend(CHAINS.iter().map(|(name, _)| nft::remove_chain(name)));
        batch.extend([PORTS, SAME, NAT, BRIDGES].map(nft::remove_empty_set));
        self.attempt("nft(dismantle)", &batch)
    }

    /// Forgets the uplinks and removes the table, unless somebody has built it up again in between.
    pub(crate) fn remove(&self) -> Result<Removal> {
        self.attempt("nft(remove)", &[nft::remove_set(UPLINKS), nft::remove_empty_table()])
    }

    /// The interfaces whose forwarding we switched on.
    pub(crate) fn uplinks(&self) -> Result<Vec<String>> {
        self.names(UPLINKS)
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

/// The table with its rules as written at the top, whether it was there or not.
fn skeleton() -> Vec<Request> {
    let mut batch = vec![nft::add_table()];
    batch.extend([BRIDGES, NAT, UPLINKS, SAME, PORTS].map(nft::add_set));
    batch.extend(CHAINS.map(|(name, hook)| nft::add_chain(name, hook)));
    batch.extend(CHAINS.map(|(name, _)| nft::flush_chain(name)));
    for ((chain, _), rules) in [
        (EARLY, early()),
        (PREROUTING, prerouting()),
        (OUTPUT, translations().into()),
        (FORWARD, forward()),
        (POSTROUTING, postrouting()),
    ] {
        batch.extend(rules.into_iter().map(|rule| nft::add_rule(chain, rule)));
    }
    batch
}

fn inside(set: Set) -> Rule {
    Rule::new().interface_in(Side::In, set.name, set.id)
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

fn translations() -> [Attrs; 2] {
    let ipv4 = || Rule::new().ipv4();
    [
        ipv4().translate(false, PORTS.name, PORTS.id),
        ipv4().for_this_host().translate(true, PORTS.name, PORTS.id),
    ]
}

fn forward() -> Vec<Attrs> {
    let published = |rule: Rule, yes| rule.tracked(Track::Status, DESTINATION_TRANSLATED, yes);
    let onto = |set: Set| Rule::new().interface_in(Side::Out, set.name, set.id);
    vec![
        Rule::new().tracked(Track::State, ESTABLISHED | RELATED, true).verdict(Verdict::Accept),
        Rule::new().both_interfaces_in(SAME.name, SAME.id).verdict(Verdict::Accept),
        inside(BRIDGES).interface_not_in(Side::In, NAT.name, NAT.id).verdict(Verdict::Drop),
        published(onto(NAT), true).verdict(Verdict::Accept),
        onto(BRIDGES).verdict(Verdict::Drop),
        inside(NAT).verdict(Verdict::Accept),
        published(inside(UPLINKS), false).verdict(Verdict::Drop),
    ]
}

fn postrouting() -> Vec<Attrs> {
    let hairpin = Rule::new().both_interfaces_in(SAME.name, SAME.id);
    let bridged = Rule::new().ipv4().interface_in(Side::Out, NAT.name, NAT.id);
    let loopback = Rule::new().ipv4().loopback(Field::Source);
    vec![
        inside(NAT).interface_not_in(Side::Out, BRIDGES.name, BRIDGES.id).masquerade(),
        hairpin.tracked(Track::Status, DESTINATION_TRANSLATED, true).masquerade(),
        bridged.tracked(Track::Status, DESTINATION_TRANSLATED, true).bridged().masquerade(),
        loopback.interface_in(Side::Out, NAT.name, NAT.id).masquerade(),
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
