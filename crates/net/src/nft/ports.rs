//! The map of published ports. An element has no owner that the kernel knows: who holds the port's socket may
//! change it, and who holds the lease of the address that it leads to may remove it.

use std::net::IpAddr;

use rustix::io::Errno;

use super::message::{self as nft, Set};
use super::table::{OPEN, OPEN6, PORTS, PORTS6, Table, elements, inner, named};
use crate::netlink::{Reply, Request};
use crate::plan::Target;
use crate::ports::Published;
use crate::{Error, Kind, Result, Subnet};

/// How often others may change rules while we look at ours.
const TRIES: u32 = 1000;

/// Where something is, its key, and what that leads to.
type Element = (Set, Vec<u8>, Vec<u8>);

/// Address, protocol, port, each filled up with zeros to words.
fn key(port: &Published) -> Vec<u8> {
    let [high, low] = port.host_port.to_be_bytes();
    [octets(port.host), vec![port.protocol.number(), 0, 0, 0], vec![high, low, 0, 0]].concat()
}

/// Address and port.
fn target(address: IpAddr, port: u16) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    [octets(address), vec![high, low, 0, 0]].concat()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().into(),
        IpAddr::V6(address) => address.octets().into(),
    }
}

impl Target {
    fn of(&self, port: &Published) -> Option<IpAddr> {
        if port.host.is_ipv4() { Some(self.ipv4.into()) } else { self.ipv6.map(IpAddr::V6) }
    }

    /// Whether the port is the endpoint's own, open to who knows a route to it.
    fn is_open(&self, port: &Published) -> bool {
        self.of(port) == Some(port.host)
    }
}

/// Where a port has its element: a map, or a set of open ones.
fn place(port: &Published, target: &Target) -> Set {
    match (target.is_open(port), port.host.is_ipv4()) {
        (false, true) => PORTS,
        (false, false) => PORTS6,
        (true, true) => OPEN,
        (true, false) => OPEN6,
    }
}

/// Key and value of the elements in one message; those of a set have no value.
fn mappings(reply: &Reply) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    elements(&reply.payload).into_iter().filter_map(|element| {
        let value = |kind| inner(&inner(&element, kind).pop()?, 1).pop();
        Some((value(1)?, value(2).unwrap_or_default()))
    })
}

/// The address that a value begins with: 8 bytes of IPv4, 20 of IPv6.
fn leads_to(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        8 => Some(<[u8; 4]>::try_from(&value[..4]).ok()?.into()),
        20 => Some(<[u8; 16]>::try_from(&value[..16]).ok()?.into()),
        _ => None,
    }
}

impl Table {
    /// Lets ports lead to an endpoint. The caller holds the ports' sockets, so what has a port already is a dead
    /// holder's, and is replaced.
    pub(crate) fn open_ports(&self, ports: &[Published], target: Target) -> Result<()> {
        let mut batch = Vec::new();
        for (map, open) in [(PORTS, OPEN), (PORTS6, OPEN6)] {
            let here = |set: Set| ports.iter().filter(move |port| place(port, &target).id == set.id);
            let mapping =
                |port: &Published| Some((key(port), self::target(target.of(port)?, port.container_port)));
            let mappings: Vec<_> = here(map).filter_map(mapping).collect();
            batch.extend(nft::add_mappings(map, &mappings));
            batch.extend(nft::add_elements(open, &here(open).map(key).collect::<Vec<_>>()));
        }
        match self.commit("nft(publish)", &batch) {
            Err(error) if matches!(error.errno(), Some(Errno::BUSY | Errno::EXIST)) => {
                let taken = self.present(ports, &target)?;
                batch.splice(..0, removals(taken.into_iter().map(|(set, key, _)| (set, key))));
                self.commit("nft(publish)", &batch).map_err(named)
            }
            done => done.map_err(named),
        }
    }

    /// Removes those of the ports that lead to the endpoint. `exclusive` is whether nobody else may change them,
    /// because the caller holds the ports' sockets; otherwise it is tried again until nobody has.
    pub(crate) fn close_ports(&self, ports: &[Published], target: Target, exclusive: bool) -> Result<()> {
        let ours = |(set, _, to): &Element| {
            let to = leads_to(to);
            !set.map || to == Some(target.ipv4.into()) || to.is_some() && to == target.ipv6.map(IpAddr::V6)
        };
        for _ in 0..TRIES {
            let generation = if exclusive { None } else { Some(self.generation()?) };
            let present = self.present(ports, &target)?.into_iter().filter(ours);
            let batch = removals(present.map(|(set, key, _)| (set, key)));
            if batch.is_empty() {
                return Ok(());
            }
            let begin = match generation {
                Some(generation) => nft::begin_at("nft(unpublish)", generation),
                None => nft::begin("nft(unpublish)"),
            };
            match self.socket.transaction(begin, &batch, nft::end()) {
                // Somebody changed the rules, or removed the table, since we looked.
                Err(error) if matches!(error.errno(), Some(RESTART | Errno::NOENT)) => {}
                done => return done.map_err(named),
            }
        }
        let text = format!("nft(unpublish): others changed rules on every one of {TRIES} tries");
        Err(Error::new(Kind::Interrupted, text))
    }

    /// What it takes to remove all ports that lead into subnets.
    pub(super) fn removals_of_ports_into(&self, subnets: &[Subnet]) -> Result<Vec<Request>> {
        let mut found = Vec::new();
        let into = |address: Option<IpAddr>| {
            address.is_some_and(|address| subnets.iter().any(|subnet| subnet.contains(address)))
        };
        for set in [PORTS, PORTS6, OPEN, OPEN6] {
            if !subnets.iter().any(|subnet| subnet.is_ipv6() == (set.keys == nft::Keys::Port6)) {
                continue;
            }
            let replies = match self.socket.dump(nft::list_elements(set)) {
                Err(error) if error.errno() == Some(Errno::NOENT) => continue,
                replies => replies.map_err(named)?,
            };
            for (key, to) in replies.iter().flat_map(mappings) {
                // A key without its last two words is the address.
                let own = key.len().checked_sub(8).map(|length| [&key[..length], &[0; 4]].concat());
                let address = if set.map { leads_to(&to) } else { own.as_deref().and_then(leads_to) };
                if into(address) {
                    found.push((set, key));
                }
            }
        }
        Ok(removals(found))
    }

    /// Those of the ports that are in their sets, with what they lead to.
    fn present(&self, ports: &[Published], target: &Target) -> Result<Vec<Element>> {
        let mut present = Vec::new();
        // Answers come while questions are sent: no more at once than a socket's buffer takes.
        for some in ports.chunks(64) {
            let sets = some.iter().map(|port| place(port, target));
            let questions: Vec<Request> =
                sets.clone().zip(some).map(|(set, port)| nft::get_element(set, &key(port))).collect();
            for (set, answer) in sets.zip(self.socket.each(&questions)?) {
                match answer {
                    Ok(replies) => {
                        present.extend(replies.iter().flat_map(mappings).map(|(key, to)| (set, key, to)));
                    }
                    Err(error) if error.errno() == Some(Errno::NOENT) => {}
                    Err(error) => return Err(named(error)),
                }
            }
        }
        Ok(present)
    }

    fn generation(&self) -> Result<u32> {
        let replies = self.socket.one(nft::generation()).map_err(named)?;
        let number = replies.iter().find_map(|reply| nft::read_generation(&reply.payload));
        number.ok_or_else(|| Error::new(Kind::Other, "nft(get generation): there is no number in the answer"))
    }
}

/// One message for each set, or more where they are many.
fn removals(elements: impl IntoIterator<Item = (Set, Vec<u8>)>) -> Vec<Request> {
    let all: Vec<(Set, Vec<u8>)> = elements.into_iter().collect();
    let sets = [PORTS, PORTS6, OPEN, OPEN6];
    let of = |set: Set| all.iter().filter(move |(own, _)| own.id == set.id).map(|(_, key)| key.clone());
    sets.into_iter().flat_map(|set| nft::remove_elements(set, &of(set).collect::<Vec<_>>())).collect()
}

/// `ERESTART`, which user space sees nowhere else.
const RESTART: Errno = Errno::from_raw_os_error(85);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::Attrs;
    use crate::ports::Publish;

    #[test]
    fn a_mapping_is_read_as_it_was_written() {
        for (host, set, to) in [("127.0.0.1", PORTS, "10.1.0.2"), ("fd00::1", PORTS6, "fd00:1::2")] {
            let (host, to): (IpAddr, IpAddr) = (host.parse().unwrap(), to.parse().unwrap());
            let port = Publish::tcp(80).published(host, 8080);
            let target = target(to, 80);
            let request = nft::add_mappings(set, &[(key(&port), target.clone())]).remove(0);
            let reply = Reply { kind: 0, payload: request.payload().to_vec() };
            let read: Vec<_> = mappings(&reply).collect();
            assert_eq!(read, [(key(&port), target)]);
            assert_eq!(leads_to(&read[0].1), Some(to));
        }
        let short = Reply { kind: 0, payload: Attrs::new().into_bytes() };
        assert_eq!(mappings(&short).count(), 0);
    }
}
