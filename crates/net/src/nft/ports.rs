//! The map of published ports. An element has no owner that the kernel knows: who holds the port's socket may
//! change it, and who holds the lease of the address that it leads to may remove it.

use std::net::Ipv4Addr;

use rustix::io::Errno;

use super::message as nft;
use super::table::{PORTS, Table, elements, inner, named};
use crate::netlink::{Reply, Request};
use crate::ports::Published;
use crate::{Error, Kind, Result, Subnet};

/// How often others may change rules while we look at ours.
const TRIES: u32 = 1000;

/// Three words: address, protocol, port, each filled up with zeros.
fn key(port: &Published) -> Vec<u8> {
    let [high, low] = port.host_port.to_be_bytes();
    [port.host.octets(), [port.protocol.number(), 0, 0, 0], [high, low, 0, 0]].concat()
}

/// Two words: address and port.
fn target(address: Ipv4Addr, port: u16) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    [address.octets(), [high, low, 0, 0]].concat()
}

/// Key and value of the elements in one message.
fn mappings(reply: &Reply) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    elements(&reply.payload).into_iter().filter_map(|element| {
        let value = |kind| inner(&inner(&element, kind).pop()?, 1).pop();
        Some((value(1)?, value(2)?))
    })
}

/// The address that a value begins with.
fn leads_to(value: &[u8]) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(value.get(..4)?).ok()?))
}

impl Table {
    /// Lets ports lead to an address. The caller holds the ports' sockets, so what has a port already is a dead
    /// holder's, and is replaced.
    pub(crate) fn open_ports(&self, ports: &[Published], address: Ipv4Addr) -> Result<()> {
        let mapping = |port: &Published| (key(port), target(address, port.container_port));
        let mappings: Vec<_> = ports.iter().map(mapping).collect();
        let mut batch = nft::add_mappings(PORTS, &mappings);
        match self.commit("nft(publish)", &batch) {
            Err(error) if matches!(error.errno(), Some(Errno::BUSY | Errno::EXIST)) => {
                let taken: Vec<_> = self.present(ports)?.into_iter().map(|(key, _)| key).collect();
                batch.splice(..0, nft::remove_elements(PORTS, &taken));
                self.commit("nft(publish)", &batch).map_err(named)
            }
            done => done.map_err(named),
        }
    }

    /// Removes those of the ports that lead to the address. `exclusive` is whether nobody else may change them,
    /// because the caller holds the ports' sockets; otherwise it is tried again until nobody has.
    pub(crate) fn close_ports(&self, ports: &[Published], address: Ipv4Addr, exclusive: bool) -> Result<()> {
        for _ in 0..TRIES {
            let generation = if exclusive { None } else { Some(self.generation()?) };
            let ours = self.present(ports)?.into_iter().filter(|(_, to)| leads_to(to) == Some(address));
            let ours: Vec<_> = ours.map(|(key, _)| key).collect();
            let batch = nft::remove_elements(PORTS, &ours);
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

    /// What it takes to remove all ports that lead into a subnet.
    pub(super) fn removals_of_ports_into(&self, subnet: Subnet) -> Result<Vec<Request>> {
        let replies = match self.socket.dump(nft::list_elements(PORTS)) {
            Err(error) if error.errno() == Some(Errno::NOENT) => return Ok(Vec::new()),
            replies => replies.map_err(named)?,
        };
        let into = replies.iter().flat_map(mappings);
        let into = into.filter(|(_, to)| leads_to(to).is_some_and(|to| subnet.contains(to)));
        let keys: Vec<_> = into.map(|(key, _)| key).collect();
        Ok(nft::remove_elements(PORTS, &keys))
    }

    /// Those of the ports that are in the map, with what they lead to.
    fn present(&self, ports: &[Published]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut present = Vec::new();
        // Answers come while questions are sent: no more at once than a socket's buffer takes.
        for some in ports.chunks(64) {
            let questions: Vec<Request> =
                some.iter().map(|port| nft::get_element(PORTS, &key(port))).collect();
            for answer in self.socket.each(&questions)? {
                match answer {
                    Ok(replies) => present.extend(replies.iter().flat_map(mappings)),
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

/// `ERESTART`, which user space sees nowhere else.
const RESTART: Errno = Errno::from_raw_os_error(85);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::Attrs;
    use crate::ports::Publish;

    #[test]
    fn a_mapping_is_read_as_it_was_written() {
        let port = Publish::tcp(80).on([127, 0, 0, 1]).host_port(8080).unbound();
        let to = target(Ipv4Addr::new(10, 1, 0, 2), 80);
        let request = nft::add_mappings(PORTS, &[(key(&port), to.clone())]).remove(0);
        let reply = Reply { kind: 0, payload: request.payload().to_vec() };
        let read: Vec<_> = mappings(&reply).collect();
        assert_eq!(read, [(key(&port), to)]);
        assert_eq!(leads_to(&read[0].1), Some(Ipv4Addr::new(10, 1, 0, 2)));
        let short = Reply { kind: 0, payload: Attrs::new().into_bytes() };
        assert_eq!(mappings(&short).count(), 0);
    }
}
