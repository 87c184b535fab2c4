//! Bridge networks: what there is to do, from records and facts.

use std::net::IpAddr;

use super::{Op, Place, Plan, Switched, Sysctl, Target, Walls, bridge_name, veth_name};
use crate::driver::Seat;
use crate::options::Gateway;
use crate::ports::Published;
use crate::record::Record;
use crate::{Mac, Subnet};

/// An interface that a default route of the host's leaves by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Uplink {
    pub(crate) name: String,
    pub(crate) mtu: u32,
    /// Whether a default route of IPv4 leaves by it and its forwarding is off, or on only because we switched it on.
    pub(crate) needs_forwarding: bool,
    /// The same of IPv6.
    pub(crate) needs_forwarding6: bool,
}

/// What a plan must know of the host to bring a network up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Host {
    /// `net.ipv4.ip_forward`: the host is a router already.
    pub(crate) forwards: bool,
    /// `net.ipv6.conf.all.forwarding`, the same of IPv6.
    pub(crate) forwards6: bool,
    pub(crate) uplinks: Vec<Uplink>,
    /// Whether the kernel has nf_tables.
    pub(crate) tables: bool,
    /// Whether docker is here, and lets nothing through that it doesn't know.
    pub(crate) docker: bool,
}

const LARGEST_MTU: u32 = 1500;

impl Host {
    /// Packets fit into the way out. Only known interfaces count; one of 0 says nothing.
    pub(crate) fn mtu(&self) -> u32 {
        let mtus = self.uplinks.iter().map(|uplink| uplink.mtu).filter(|mtu| *mtu >= 68);
        mtus.min().unwrap_or(LARGEST_MTU).min(LARGEST_MTU)
    }
}

/// The MTU that a network is to have.
pub(crate) fn mtu(record: &Record, host: &Host) -> u32 {
    record.mtu.or(record.options.mtu()).unwrap_or_else(|| {
        // RFC 8200, section 5.
        if record.has_ipv6() { host.mtu().max(1280) } else { host.mtu() }
    })
}

pub(crate) fn walls(record: &Record) -> Walls {
    let options = &record.options;
    let masquerade = |six| !record.internal && options.masquerade() && options.gateway(six) == Gateway::Nat;
    Walls {
        out: !record.internal,
        masquerade: masquerade(false),
        masquerade6: masquerade(true) && record.has_ipv6(),
        icc: options.icc(),
    }
}

fn subnets(record: &Record) -> Vec<Subnet> {
    record.pools.iter().map(|pool| pool.subnet).collect()
}

/// Brings a network up. Rules come first and the bridge goes up last: a bridge that is up is ready.
///
/// Every operation is happy to find its work done, because others may be bringing the same network up.
pub(crate) fn bring_up(record: &Record, host: &Host) -> Plan {
    let bridge = bridge_name(record);
    let (walls, ipv6) = (walls(record), record.has_ipv6());
    let wanted = |forwards: bool, needs: fn(&Uplink) -> bool| {
        let uplinks = host.uplinks.iter().filter(|uplink| walls.out && needs(uplink));
        (!forwards).then(|| uplinks.map(|uplink| uplink.name.clone()).collect::<Vec<_>>())
    };
    let four = wanted(host.forwards, |uplink| uplink.needs_forwarding);
    let six = match ipv6 && walls.out {
        true => wanted(host.forwards6, |uplink| uplink.needs_forwarding6),
        false => Some(Vec::new()),
    };
    let mut ops = Vec::new();
    if walls.out || host.tables {
        let uplinks = Switched { ipv4: four.clone(), ipv6: six.clone() };
        ops.push(Op::Admit { bridge: bridge.clone(), walls, uplinks });
    }
    if walls.out && host.docker {
        ops.push(Op::PassDocker { bridge: bridge.clone() });
    }
    let set = |key, on: &str, value: bool| Op::Set { key, on: on.into(), value: value.into() };
    ops.push(Op::Bridge { name: bridge.clone(), mac: Mac::of(record.gateway()), mtu: mtu(record, host) });
    // Nobody on it tells the host where its routers are (CVE-2020-13401).
    ops.extend(match ipv6 {
        true => at_once(&bridge, Mac::of(record.gateway())),
        false => vec![set(Sysctl::DisableIpv6, &bridge, true)],
    });
    ops.extend(record.pools.iter().map(|pool| Op::Address {
        on: bridge.clone(),
        address: pool.gateway,
        prefix: pool.subnet.prefix_len(),
    }));
    ops.push(Op::Alone { subnets: subnets(record), on: bridge.clone() });
    ops.push(set(Sysctl::SourceCheck, &bridge, true));
    // Not `ip_forward`, which would make a router of the host on all its interfaces. 0 is written too:
    // a new interface starts out as the host's default says.
    ops.push(set(Sysctl::Forwarding, &bridge, walls.out));
    // Answers come in there, and forwarding is asked of the interface a packet comes in by.
    ops.extend(four.iter().flatten().map(|on| set(Sysctl::Forwarding, on, true)));
    if ipv6 && six.is_some() {
        ops.push(set(Sysctl::ForceForwarding, &bridge, walls.out));
        ops.extend(six.iter().flatten().map(|on| set(Sysctl::ForceForwarding, on, true)));
    }
    ops.push(Op::Up { link: bridge.clone() });
    ops.extend(heard(&bridge, record.pools.iter().map(|pool| pool.gateway)));
    Plan::of(Place::Host, ops)
}

/// Gives a namespace its place: addresses, and the way out unless there is none.
pub(crate) fn join(record: &Record, seat: &Seat, mtu: u32) -> Plan {
    let on = seat.interface.clone();
    let (name, bridge) = (veth_name(&record.id, seat.address), bridge_name(record));
    // The kernel lets packets pass a little later, and those sent in between are lost: an ARP request takes a
    // second to be repeated, and so would the first connection.
    let wait = Op::Await { links: vec![name.clone(), bridge.clone()] };
    let mut outside = vec![Op::Veth { name: name.clone(), bridge, peer: on, mac: seat.mac, mtu }];
    if !record.options.icc() {
        outside.push(Op::Isolate { link: name });
    }
    let inside = inside(record, seat, !record.internal);
    Plan::of(Place::Host, outside).then(inside).then(Plan::of(Place::Host, [wait]))
}

/// IPv6 by our addresses alone, and without waiting. The link-local one is ours, too: the kernel makes its own some time
/// after the link comes up, and passes nothing on before.
fn at_once(on: &str, mac: Mac) -> Vec<Op> {
    let off = |key| Op::Set { key, on: on.into(), value: 0 };
    let address = IpAddr::V6(mac.link_local());
    vec![
        off(Sysctl::RouterAdvertisements),
        off(Sysctl::DuplicateDetection),
        Op::NoLinkLocal { link: on.into() },
        Op::Address { on: on.into(), address, prefix: 64 },
    ]
}

/// Until neighbours that ask who has an address are heard.
fn heard(on: &str, addresses: impl IntoIterator<Item = IpAddr>) -> Option<Op> {
    let six = |address| match address {
        IpAddr::V6(address) => Some(address),
        IpAddr::V4(_) => None,
    };
    let addresses: Vec<_> = addresses.into_iter().filter_map(six).collect();
    (!addresses.is_empty()).then(|| Op::AwaitHeard { on: on.into(), addresses })
}

/// What happens within: addresses, routes, no surprises by IPv6.
pub(crate) fn inside(record: &Record, seat: &Seat, way_out: bool) -> Plan {
    let on = || seat.interface.clone();
    let mut ops = vec![Op::Up { link: "lo".into() }];
    match seat.ipv6 {
        Some(_) => ops.extend(at_once(&seat.interface, seat.mac)),
        // Not `disable_ipv6`, whose writers go round in circles until nobody else changes a link: of 200 who join at
        // once, the last would wait for seconds.
        None => {
            ops.push(Op::Set { key: Sysctl::RouterAdvertisements, on: on(), value: 0 });
            ops.push(Op::NoLinkLocal { link: on() });
        }
    }
    let addresses = [Some(IpAddr::V4(seat.address)), seat.ipv6.map(IpAddr::V6)];
    let pools =
        || addresses.iter().flatten().filter_map(|address| Some((*address, record.pool_of(*address)?)));
    ops.extend(pools().map(|(address, pool)| Op::Address {
        on: on(),
        address,
        prefix: pool.subnet.prefix_len(),
    }));
    ops.push(Op::Up { link: on() });
    if seat.default_route && way_out {
        ops.extend(pools().map(|(_, pool)| Op::Route { via: pool.gateway, on: on() }));
    }
    ops.extend(heard(&seat.interface, seat.ipv6.map(IpAddr::V6)));
    Plan::of(Place::Inside, ops)
}

/// Lets ports of the host lead to an endpoint. `ways_in` are the host's interfaces that do not forward yet but
/// for us: whoever comes in by one is to be passed on. The ports themselves come last.
pub(crate) fn publish(record: &Record, target: Target, ports: &[Published], ways_in: Switched) -> Plan {
    let mut ops = Vec::new();
    if ports.is_empty() {
        return Plan::default();
    }
    let local =
        |port: &Published| port.host.is_ipv4() && (port.host.is_unspecified() || port.host.is_loopback());
    if ports.iter().any(local) {
        // From here the host's loopback reaches the bridge, and answers come back. The other way round is walled.
        ops.push(Op::Set { key: Sysctl::RouteLoopback, on: bridge_name(record), value: 1 });
    }
    let (four, six) = (ways_in.ipv4.clone().unwrap_or_default(), ways_in.ipv6.clone().unwrap_or_default());
    if !four.is_empty() || !six.is_empty() {
        ops.push(Op::Remember { uplinks: ways_in });
        ops.extend(four.into_iter().map(|on| Op::Set { key: Sysctl::Forwarding, on, value: 1 }));
        ops.extend(six.into_iter().map(|on| Op::Set { key: Sysctl::ForceForwarding, on, value: 1 }));
    }
    // For one that calls itself by the host's address.
    ops.push(Op::Hairpin { link: veth_name(&record.id, target.ipv4) });
    ops.push(Op::Open { ports: ports.to_vec(), target });
    Plan::of(Place::Host, ops)
}

/// Takes a network down that nobody is on: links first, so that no packet sees fewer rules than before.
pub(crate) fn take_down(record: &Record) -> Plan {
    let bridge = bridge_name(record);
    Plan::of(
        Place::Host,
        [
            Op::DeleteBridge { name: bridge.clone(), mac: Mac::of(record.gateway()) },
            Op::Expel { bridge, subnets: subnets(record) },
            Op::Dismantle,
        ],
    )
}

/// Removes one place again. The other end goes with this one.
pub(crate) fn leave(record: &Record, seat: &Seat) -> Plan {
    Plan::of(Place::Host, [Op::Delete { link: veth_name(&record.id, seat.address) }])
}

/// The same for a namespace that is about to end: the kernel removes the link with it, in its own time. From here on
/// nothing passes.
pub(crate) fn leave_behind(record: &Record, seat: &Seat) -> Plan {
    Plan::of(Place::Host, [Op::Abandon { link: veth_name(&record.id, seat.address) }])
}
