//! Records and facts in, a list of operations out. Nothing here touches the kernel.

pub(crate) mod bridge;
pub(crate) mod macvlan;
mod show;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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

/// What a bridge may do, as far as tables say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Walls {
    /// Whether there is a way out.
    pub(crate) out: bool,
    /// Whether packets leave by the host's addresses.
    pub(crate) masquerade: bool,
    /// The same, of IPv6.
    pub(crate) masquerade6: bool,
    /// Whether those on it reach each other.
    pub(crate) icc: bool,
}

/// The interfaces whose forwarding is, or is to be, switched on by us; `None` where the host forwards by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Switched {
    pub(crate) ipv4: Option<Vec<String>>,
    pub(crate) ipv6: Option<Vec<String>>,
}

/// The addresses that ports lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) ipv4: Ipv4Addr,
    pub(crate) ipv6: Option<Ipv6Addr>,
}

/// One operation. Each says what it does when printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Admit {
        bridge: String,
        walls: Walls,
        uplinks: Switched,
    },
    Expel {
        bridge: String,
        subnets: Vec<Subnet>,
    },
    PassDocker {
        bridge: String,
    },
    Hairpin {
        link: String,
    },
    Isolate {
        link: String,
    },
    Remember {
        uplinks: Switched,
    },
    Open {
        ports: Vec<Published>,
        target: Target,
    },
    Bridge {
        name: String,
        mac: Mac,
        mtu: u32,
    },
    Address {
        on: String,
        address: IpAddr,
        prefix: u8,
    },
    Alone {
        subnets: Vec<Subnet>,
        on: String,
    },
    Set {
        key: Sysctl,
        on: String,
        value: u8,
    },
    NoLinkLocal {
        link: String,
    },
    Up {
        link: String,
    },
    Veth {
        name: String,
        bridge: String,
        peer: String,
        mac: Mac,
        mtu: u32,
    },
    Vlan {
        name: String,
        parent: String,
        number: u16,
        group: u32,
    },
    Macvlan {
        name: String,
        parent: String,
        mode: macvlan::Mode,
        mac: Option<Mac>,
        mtu: Option<u32>,
    },
    Route {
        via: IpAddr,
        on: String,
    },
    Await {
        links: Vec<String>,
    },
    AwaitHeard {
        on: String,
        addresses: Vec<Ipv6Addr>,
    },
    Abandon {
        link: String,
    },
    DeleteBridge {
        name: String,
        mac: Mac,
    },
    Delete {
        link: String,
    },
    DeleteOwn {
        link: String,
        group: u32,
    },
    Dismantle,
    /// What a driver does that doesn't say more.
    Driver {
        name: String,
    },
}

/// A switch of an interface, below `/proc/sys/net`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sysctl {
    /// Whether IPv4 packets that come in here may go on to elsewhere.
    Forwarding,
    /// The same of IPv6 (Linux 6.17), whatever `net.ipv6.conf.all.forwarding` says.
    ForceForwarding,
    /// Whether a packet's source must be reachable by the way it came (RFC 3704), so that nobody spoofs one.
    SourceCheck,
    /// Whether packets from and to 127.0.0.0/8 may pass here.
    RouteLoopback,
    /// Whether routers may say what addresses and routes there are (RFC 4861).
    RouterAdvertisements,
    /// Whether addresses wait a second for others that have them (RFC 4862, section 5.4). The link-local one, too, without
    /// which nobody's neighbours are found for packets that are passed on.
    DuplicateDetection,
    /// Whether there is no IPv6 here.
    DisableIpv6,
}

impl Sysctl {
    /// Family and name.
    pub(crate) fn parts(self) -> (&'static str, &'static str) {
        match self {
            Sysctl::Forwarding => ("ipv4", "forwarding"),
            Sysctl::SourceCheck => ("ipv4", "rp_filter"),
            Sysctl::RouteLoopback => ("ipv4", "route_localnet"),
            Sysctl::ForceForwarding => ("ipv6", "force_forwarding"),
            Sysctl::RouterAdvertisements => ("ipv6", "accept_ra"),
            Sysctl::DuplicateDetection => ("ipv6", "accept_dad"),
            Sysctl::DisableIpv6 => ("ipv6", "disable_ipv6"),
        }
    }
}

/// A list of operations, printable: the dry run of what joining a network would do.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Plan {
    pub(crate) steps: Vec<(Place, Op)>,
}

impl Plan {
    pub(crate) fn of(place: Place, ops: impl IntoIterator<Item = Op>) -> Plan {
        Plan { steps: ops.into_iter().map(|op| (place, op)).collect() }
    }

    /// One step, of which the driver says no more.
    pub(crate) fn by_driver(name: &str) -> Plan {
        Plan::of(Place::Inside, [Op::Driver { name: name.into() }])
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

/// The name of a network's bridge: the one that it was given, or `cor-` and the first 11 digits of its id, which is
/// 15 bytes, all that an interface's name may have.
pub(crate) fn bridge_name(record: &Record) -> String {
    match record.options.get(crate::options::BRIDGE_NAME) {
        Some(name) => name.into(),
        None => format!("cor-{}", &record.id[..record.id.len().min(11)]),
    }
}

/// The host's end of a lease. It follows from network and address, so that whoever has the lease knows what a
/// dead holder left behind, and may remove it.
pub(crate) fn veth_name(id: &str, address: Ipv4Addr) -> String {
    let digest = Sha256::digest(format!("{id}/{address}"));
    let digits: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("corv{}", &digits[..11])
}

/// All that a namespace without a network needs.
pub(crate) fn loopback() -> Plan {
    Plan::of(Place::Inside, [Op::Up { link: "lo".into() }])
}

#[cfg(test)]
mod tests;
