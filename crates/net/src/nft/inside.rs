//! Table `inet coracle-dns` in a container's namespace: port 53 of the resolver's address leads to the resolver's own
//! ports, so that the container may have port 53 of all addresses for itself.
//!
//! ```text
//! chain there (filter, output, -300)
//!   ip daddr 127.0.0.11 udp dport 53 udp dport set <port>        and of tcp
//! chain back (filter, output, -150)
//!   ip saddr 127.0.0.11 udp sport <port> udp sport set 53        and of tcp
//! ```
//!
//! Ports are exchanged in the packets themselves, without connection tracking, which would be switched on for all
//! that the container does. Where the container uses it, it sees the resolver's own ports both ways (-200 lies between).

use std::net::Ipv4Addr;

use super::expr::{Field, Rule};
use super::message::{self as nft, Hook, INSIDE};
use super::table::named;
use crate::Result;
use crate::netlink::{Attrs, Socket};
use crate::ports::Protocol;

const DOMAIN: [u8; 2] = 53u16.to_be_bytes();
const THERE: (&str, Hook) = ("there", Hook { kind: "filter", number: 3, priority: -300 });
const BACK: (&str, Hook) = ("back", Hook { kind: "filter", number: 3, priority: -150 });

/// In the network namespace of the calling thread. What was there before is replaced.
///
/// # Errors
/// `Unsupported` when the kernel has no nf_tables.
pub(crate) fn lead_to_resolver(address: Ipv4Addr, udp: u16, tcp: u16) -> Result<()> {
    let mut batch = vec![nft::add_table(INSIDE)];
    for (chain, hook) in [THERE, BACK] {
        batch.extend([nft::add_chain(INSIDE, chain, hook), nft::flush_chain(INSIDE, chain)]);
    }
    for (protocol, port) in [(Protocol::Udp, udp), (Protocol::Tcp, tcp)] {
        let [there, back] = exchange(address, protocol, port);
        batch.extend([nft::add_rule(INSIDE, THERE.0, there), nft::add_rule(INSIDE, BACK.0, back)]);
    }
    let socket = Socket::netfilter().map_err(named)?;
    socket.transaction(nft::begin("nft(resolver)"), &batch, nft::end()).map_err(named)
}

fn exchange(address: Ipv4Addr, protocol: Protocol, port: u16) -> [Attrs; 2] {
    // Where the header has its checksum: RFC 768, RFC 9293.
    let checksum = if protocol == Protocol::Udp { 6 } else { 16 };
    let port = port.to_be_bytes();
    let packets = |field| Rule::new().ipv4().is(field, &address.octets()).transport(protocol.number());
    [
        packets(Field::Destination).is(Field::DestinationPort, &DOMAIN).set(
            Field::DestinationPort,
            port,
            checksum,
        ),
        packets(Field::Source).is(Field::SourcePort, &port).set(Field::SourcePort, DOMAIN, checksum),
    ]
}
