//! Connections that the kernel remembers (include/uapi/linux/netfilter/nfnetlink_conntrack.h).
//!
//! A datagram of a known connection is translated as its first one was, whatever the rules say by now. So those that led
//! to a port are forgotten when it closes, and those that went elsewhere when it opens.

use std::net::IpAddr;

use rustix::io::Errno;

use crate::netlink::{Attrs, Reply, Request, Socket, attributes};
use crate::plan::Target;
use crate::ports::{Protocol, Published};
use crate::{Error, Result};

const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
const NESTED: u16 = 0x8000;
/// `CTA_TUPLE_ORIG`, `CTA_TUPLE_REPLY`, `CTA_ID`, `CTA_FILTER`
const ASKED: u16 = 1;
const ANSWERED: u16 = 2;
const ID: u16 = 12;
const FILTER: u16 = 25;
/// What a listing is to be restricted by (Linux 5.8; before, it lists all): the source address, the protocol.
const BY_SOURCE: u32 = 1;
const BY_PROTOCOL: u32 = 1 << 3;

/// Forgets the connections that were translated to an endpoint.
pub(crate) fn forget_target(target: Target) -> Result<()> {
    let addresses = [Some(IpAddr::V4(target.ipv4)), target.ipv6.map(IpAddr::V6)];
    for address in addresses.into_iter().flatten() {
        let (family, kind, bytes) = match address {
            IpAddr::V4(address) => (2, 1, address.octets().to_vec()),
            IpAddr::V6(address) => (10, 3, address.octets().to_vec()),
        };
        let tuple = Attrs::new().nest(1, Attrs::new().bytes(kind, &bytes));
        let filter = Attrs::new().bytes(1, &[0; 4]).bytes(2, &BY_SOURCE.to_ne_bytes());
        let attrs = Attrs::new().nest(ANSWERED, tuple).nest(FILTER, filter);
        forget(family, attrs, |_, answered| answered.source == bytes)?;
    }
    Ok(())
}

/// Forgets the datagrams that went to what are published ports now.
pub(crate) fn forget_datagrams(ports: &[Published]) -> Result<()> {
    let number = Protocol::Udp.number();
    for (family, six) in [(2, false), (10, true)] {
        let udp = |port: &&Published| port.protocol == Protocol::Udp && port.host.is_ipv6() == six;
        let numbers: Vec<u16> = ports.iter().filter(udp).map(|port| port.host_port).collect();
        if numbers.is_empty() {
            continue;
        }
        let tuple = Attrs::new().nest(2, Attrs::new().bytes(1, &[number]));
        let filter = Attrs::new().bytes(1, &BY_PROTOCOL.to_ne_bytes()).bytes(2, &[0; 4]);
        let attrs = Attrs::new().nest(ASKED, tuple).nest(FILTER, filter);
        forget(family, attrs, |asked, _| asked.protocol == number && numbers.contains(&asked.port))?;
    }
    Ok(())
}

/// One direction of a connection, as far as it matters.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tuple {
    source: Vec<u8>,
    protocol: u8,
    /// Of the destination.
    port: u16,
}

fn forget(family: u8, which: Attrs, matches: impl Fn(&Tuple, &Tuple) -> bool) -> Result<()> {
    let payload = |attrs: Attrs| [vec![family, 0, 0, 0], attrs.into_bytes()].concat();
    let socket = Socket::netfilter()?;
    let known = match socket.dump(Request::new(GET, 0, payload(which), "conntrack(list)")) {
        // A kernel that can't be asked can't be told, either.
        Err(error) if is_lacking(&error) => return Ok(()),
        known => known?,
    };
    let requests: Vec<Request> = known
        .iter()
        .filter_map(|reply| {
            let (asked, answered) = (tuple(reply, ASKED)?, tuple(reply, ANSWERED)?);
            matches(&asked, &answered).then(|| {
                let own = attribute(reply, ASKED).unwrap_or_default();
                let id = attribute(reply, ID).unwrap_or_default();
                let attrs = Attrs::new().bytes(ASKED | NESTED, &own).bytes(ID, &id);
                Request::new(DELETE, 0, payload(attrs), "conntrack(delete)")
            })
        })
        .collect();
    // No more at once than a socket's buffer takes answers of.
    for some in requests.chunks(64) {
        for answer in socket.each(some)? {
            match answer {
                // It ended by itself.
                Err(error) if error.errno() == Some(Errno::NOENT) => {}
                answer => drop(answer?),
            }
        }
    }
    Ok(())
}

fn is_lacking(error: &Error) -> bool {
    matches!(error.errno(), Some(Errno::INVAL | Errno::OPNOTSUPP | Errno::PROTONOSUPPORT))
}

fn attribute(reply: &Reply, wanted: u16) -> Option<Vec<u8>> {
    find(reply.payload.get(4..)?, wanted)
}

fn find(bytes: &[u8], wanted: u16) -> Option<Vec<u8>> {
    attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// `CTA_TUPLE_IP` with `CTA_IP_V4_SRC` or `CTA_IP_V6_SRC`; `CTA_TUPLE_PROTO` with `CTA_PROTO_NUM` and
/// `CTA_PROTO_DST_PORT`.
fn tuple(reply: &Reply, which: u16) -> Option<Tuple> {
    let tuple = attribute(reply, which)?;
    let (addresses, protocol) = (find(&tuple, 1)?, find(&tuple, 2)?);
    Some(Tuple {
        source: find(&addresses, 1).or_else(|| find(&addresses, 3))?,
        protocol: *find(&protocol, 1)?.first()?,
        port: find(&protocol, 3)
            .and_then(|port| Some(u16::from_be_bytes(port.try_into().ok()?)))
            .unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_read() {
        let side = |source: &[u8], port: u16| {
            let addresses = Attrs::new().bytes(1, source).bytes(2, &[9; 4]);
            let protocol = Attrs::new().bytes(1, &[17]).bytes(2, &[0, 1]).bytes(3, &port.to_be_bytes());
            Attrs::new().nest(1, addresses).nest(2, protocol)
        };
        let attrs =
            Attrs::new().nest(ASKED, side(&[10, 0, 0, 1], 53)).nest(ANSWERED, side(&[10, 0, 0, 2], 7));
        let payload = [vec![2, 0, 0, 0], attrs.into_bytes()].concat();
        let reply = Reply { kind: SUBSYSTEM, payload };
        let expected = Tuple { source: vec![10, 0, 0, 1], protocol: 17, port: 53 };
        assert_eq!(tuple(&reply, ASKED), Some(expected));
        assert_eq!(tuple(&reply, ANSWERED).unwrap().port, 7);
        for cut in 0..reply.payload.len() {
            let _ = tuple(&Reply { kind: SUBSYSTEM, payload: reply.payload[..cut].to_vec() }, ANSWERED);
        }
    }
}
