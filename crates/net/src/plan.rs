//! Records and facts in, a list of operations out. Nothing here touches the kernel.

use std::fmt;
use std::net::Ipv4Addr;

use sha2::{Digest, Sha256};

use crate::ports::Published;
use crate::record::Record;
use crate::{Mac, Subnet};

/// Where an operation happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the namespace that has the bridges.
    Host,
    /// In the namespace that joins.
    Inside,
}

/// One operation. Each says what it does when printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Admit { bridge: String, nat: bool, uplinks: Option<Vec<String>> },
    Expel { bridge: String, subnet: Subnet },
    Hairpin { link: String },
    Remember { uplinks: Vec<String> },
    Open { ports: Vec<Published>, address: Ipv4Addr },
    Bridge { name: String, mac: Mac, mtu: u32 },
    Address { on: String, address: Ipv4Addr, prefix: u8 },
    Alone { subnet: Subnet, on: String },
    Set { key: Sysctl, on: String, value: u8 },
    Up { link: String },
    Veth { name: String, bridge: String, peer: String, mac: Mac, mtu: u32 },
    Route { via: Ipv4Addr, on: String },
    Await { links: Vec<String> },
    DeletePorts { bridge: String },
    Delete { link: String },
    Dismantle,
}

/// A switch below `net.ipv4.conf.<interface>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sysctl {
    /// Whether packets that come in here may go on to elsewhere.
    Forwarding,
    /// Whether a packet's source must be reachable by the way it came (RFC 3704), so that nobody spoofs one.
    SourceCheck,
    /// Whether packets from and to 127.0.0.0/8 may pass here.
    RouteLoopback,
}

impl Sysctl {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Sysctl::Forwarding => "forwarding",
            Sysctl::SourceCheck => "rp_filter",
            Sysctl::RouteLoopback => "route_localnet",
        }
    }
}

/// A list of operations, printable: the dry run of what joining a network would do.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Plan {
    pub(crate) steps: Vec<(Place, Op)>,
}

impl Plan {
    fn of(place: Place, ops: impl IntoIterator<Item = Op>) -> Plan {
        Plan { steps: ops.into_iter().map(|op| (place, op)).collect() }
    }

    pub(crate) fn then(mut self, next: Plan) -> Plan {
        self.steps.extend(next.steps);
        self
    }

    /// How many operations it has.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

/// An interface that the host's default route leaves by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Uplink {
    pub(crate) name: String,
    pub(crate) mtu: u32,
    /// Whether its forwarding is off, or on only because we switched it on.
    pub(crate) needs_forwarding: bool,
}

/// What a plan must know of the host to bring a network up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Host {
    /// `net.ipv4.ip_forward`: the host is a router already.
    pub(crate) forwards: bool,
    pub(crate) uplinks: Vec<Uplink>,
    /// Whether the kernel has nf_tables.
    pub(crate) tables: bool,
}

const LARGEST_MTU: u32 = 1500;

impl Host {
    /// Packets fit into the way out. Only known interfaces count; one of 0 says nothing.
    pub(crate) fn mtu(&self) -> u32 {
        let mtus = self.uplinks.iter().map(|uplink| uplink.mtu).filter(|mtu| *mtu >= 68);
        mtus.min().unwrap_or(LARGEST_MTU).min(LARGEST_MTU)
    }
}

/// Brings a network up. Rules come first and the bridge goes up last: a bridge that is up is ready.
///
/// Every operation is happy to find its work done, because others may be bringing the same network up.
pub(crate) fn bring_up(record: &Record, host: &Host) -> Plan {
    let bridge = bridge_name(&record.id);
    let nat = !record.internal;
    let mut ops = Vec::new();
    let uplinks = host.uplinks.iter().filter(|uplink| nat && !host.forwards && uplink.needs_forwarding);
    let uplinks: Vec<String> = uplinks.map(|uplink| uplink.name.clone()).collect();
    if nat || host.tables {
        let known = (!host.forwards).then(|| uplinks.clone());
        ops.push(Op::Admit { bridge: bridge.clone(), nat, uplinks: known });
    }
    let (gateway, prefix) = (record.gateway, record.subnet.prefix_len());
    let mtu = record.mtu.unwrap_or_else(|| host.mtu());
    ops.extend([
        Op::Bridge { name: bridge.clone(), mac: Mac::of(gateway), mtu },
        Op::Address { on: bridge.clone(), address: gateway, prefix },
        Op::Alone { subnet: record.subnet, on: bridge.clone() },
        Op::Set { key: Sysctl::SourceCheck, on: bridge.clone(), value: 1 },
        // Not `ip_forward`, which would make a router of the host on all its interfaces. 0 is written too:
        // a new interface starts out as the host's default says.
        Op::Set { key: Sysctl::Forwarding, on: bridge.clone(), value: nat.into() },
    ]);
    // Answers come in there, and forwarding is asked of the interface a packet comes in by.
    ops.extend(uplinks.into_iter().map(|on| Op::Set { key: Sysctl::Forwarding, on, value: 1 }));
    ops.push(Op::Up { link: bridge });
    Plan::of(Place::Host, ops)
}

/// Gives a namespace its place: an address, and the way out unless there is none.
pub(crate) fn join(
    record: &Record,
    address: Ipv4Addr,
    interface: &str,
    default_route: bool,
    mtu: u32,
) -> Plan {
    let on = interface.to_owned();
    let (name, bridge) = (veth_name(&record.id, address), bridge_name(&record.id));
    // The kernel lets packets pass a little later, and those sent in between are lost: an ARP request takes a
    // second to be repeated, and so would the first connection.
    let wait = Op::Await { links: vec![name.clone(), bridge.clone()] };
    let veth = Op::Veth { name, bridge, peer: on.clone(), mac: Mac::of(address), mtu };
    let mut inside = vec![
        Op::Up { link: "lo".into() },
        Op::Address { on: on.clone(), address, prefix: record.subnet.prefix_len() },
        Op::Up { link: on.clone() },
    ];
    if default_route && !record.internal {
        inside.push(Op::Route { via: record.gateway, on });
    }
    Plan::of(Place::Host, [veth]).then(Plan::of(Place::Inside, inside)).then(Plan::of(Place::Host, [wait]))
}

/// Lets ports of the host lead to an address. `ways_in` are the host's interfaces that do not forward yet but
/// for us: whoever comes in by one is to be passed on. The ports themselves come last.
pub(crate) fn publish(record: &Record, address: Ipv4Addr, ports: &[Published], ways_in: &[String]) -> Plan {
    let mut ops = Vec::new();
    if ports.is_empty() {
        return Plan::default();
    }
    if ports.iter().any(|port| port.host.is_unspecified() || port.host.is_loopback()) {
        // From here the host's loopback reaches the bridge, and answers come back. The other way round is walled.
        ops.push(Op::Set { key: Sysctl::RouteLoopback, on: bridge_name(&record.id), value: 1 });
    }
    if !ways_in.is_empty() {
        ops.push(Op::Remember { uplinks: ways_in.to_vec() });
        ops.extend(ways_in.iter().map(|on| Op::Set { key: Sysctl::Forwarding, on: on.clone(), value: 1 }));
    }
    // For one that calls itself by the host's address.
    ops.push(Op::Hairpin { link: veth_name(&record.id, address) });
    ops.push(Op::Open { ports: ports.to_vec(), address });
    Plan::of(Place::Host, ops)
}

/// All that a namespace without a network needs.
pub(crate) fn loopback() -> Plan {
    Plan::of(Place::Inside, [Op::Up { link: "lo".into() }])
}

/// Removes one place again. The other end goes with this one.
pub(crate) fn leave(record: &Record, address: Ipv4Addr) -> Plan {
    Plan::of(Place::Host, [Op::Delete { link: veth_name(&record.id, address) }])
}

/// Takes a network down that nobody is on: links first, so that no packet sees fewer rules than before.
pub(crate) fn take_down(record: &Record) -> Plan {
    let bridge = bridge_name(&record.id);
    Plan::of(
        Place::Host,
        [
            Op::DeletePorts { bridge: bridge.clone() },
            Op::Delete { link: bridge.clone() },
            Op::Expel { bridge, subnet: record.subnet },
            Op::Dismantle,
        ],
    )
}

/// `cor-` and the first 11 digits of the id: 15 bytes, all that an interface's name may have.
pub(crate) fn bridge_name(id: &str) -> String {
    format!("cor-{}", &id[..id.len().min(11)])
}

/// The host's end of a lease. It follows from network and address, so that whoever has the lease knows what a
/// dead holder left behind, and may remove it.
pub(crate) fn veth_name(id: &str, address: Ipv4Addr) -> String {
    let digest = Sha256::digest(format!("{id}/{address}"));
    let digits: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("corv{}", &digits[..11])
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (place, op)) in self.steps.iter().enumerate() {
            let inside = if *place == Place::Inside { "inside: " } else { "" };
            writeln!(f, "{at:2} {inside}{op}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Admit { bridge, nat, uplinks } => {
                let way = if *nat { "with NAT out" } else { "walled in" };
                write!(f, "admit {bridge} to table inet coracle, {way}")?;
                match uplinks.as_deref() {
                    Some([]) => Ok(()),
                    Some(uplinks) => write!(f, ", answers by {}", uplinks.join(" ")),
                    None => write!(f, ", the host forwards"),
                }
            }
            Op::Expel { bridge, .. } => write!(f, "expel {bridge} from table inet coracle"),
            Op::Hairpin { link } => write!(f, "let the bridge send back to {link} what came from it"),
            Op::Remember { uplinks } => write!(f, "note that {} forward for us", uplinks.join(" ")),
            Op::Open { ports, address } => {
                let shown: Vec<String> = ports.iter().take(4).map(Published::to_string).collect();
                write!(f, "publish {}", shown.join(", "))?;
                match ports.len() - shown.len() {
                    0 => {}
                    more => write!(f, " and {more} more")?,
                }
                write!(f, " at {address}")
            }
            Op::Bridge { name, mac, mtu } => write!(f, "create bridge {name} ({mac}, mtu {mtu})"),
            Op::Address { on, address, prefix } => write!(f, "add {address}/{prefix} to {on}"),
            Op::Alone { subnet, on } => write!(f, "check that only {on} has {subnet}"),
            Op::Set { key, on, value } => write!(f, "set net.ipv4.conf.{on}.{} = {value}", key.as_str()),
            Op::Up { link } => write!(f, "set {link} up"),
            Op::Veth { name, bridge, peer, mac, mtu } => {
                write!(f, "create veth {name} on {bridge}, its peer {peer} inside ({mac}, mtu {mtu})")
            }
            Op::Route { via, on } => write!(f, "add default route via {via} by {on}"),
            Op::Await { links } => write!(f, "wait until {} pass packets", links.join(" and ")),
            Op::DeletePorts { bridge } => write!(f, "delete what is left on {bridge}"),
            Op::Delete { link } => write!(f, "delete {link}"),
            Op::Dismantle => write!(f, "remove table inet coracle if no bridge is left in it"),
        }
    }
}

#[cfg(test)]
mod tests;
