//! Which addresses a network gives out: its subnets, and from what was asked to what was given.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::Subnet;
use crate::spec::NetworkSpec;

/// A subnet of a network, and what of it is given out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Pool {
    /// All its addresses.
    pub subnet: Subnet,
    /// The part that unnamed addresses are taken from (`--ip-range`); all of it otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<Subnet>,
    /// Where the way out of the network is: the host's own address on a bridge, the router's on a macvlan.
    pub gateway: IpAddr,
    /// Addresses that are somebody else's and never given out, by name (`--aux-address`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reserved: BTreeMap<String, IpAddr>,
}

impl Pool {
    /// The addresses that are given out to who names none, in order.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.range.unwrap_or(self.subnet).all().filter(|address| self.takes(*address))
    }

    /// Whether an endpoint may have the address.
    fn takes(&self, address: IpAddr) -> bool {
        self.subnet.has_host(address)
            && address != self.gateway
            && !self.reserved.values().any(|other| *other == address)
    }

    /// Who has an address that is not given out although it is one of the subnet.
    pub(crate) fn owner(&self, address: IpAddr) -> Option<String> {
        if address == self.gateway {
            return Some("the gateway".into());
        }
        let reserved = self.reserved.iter().find(|(_, other)| **other == address);
        reserved.map(|(name, _)| format!("{name} (reserved)"))
    }

    /// How many addresses there are to give out.
    pub(crate) fn capacity(&self) -> u128 {
        let part = self.range.unwrap_or(self.subnet);
        let ends = [self.subnet.base(), self.subnet.last()];
        let apart =
            self.reserved.values().chain([&self.gateway]).filter(|other| self.subnet.has_host(**other));
        let apart = apart.filter(|other| part.contains(**other)).count() as u128;
        let ends = ends.iter().filter(|end| part.contains(**end) && !self.subnet.has_host(**end)).count();
        (part.capacity() + if part.is_ipv6() { 1 } else { 2 }).saturating_sub(apart + ends as u128)
    }
}

/// What a spec asks for: pools whose gateway may still be open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) pools: Vec<Pool>,
    /// Whether a subnet of that family is to be chosen.
    pub(crate) choose_ipv4: bool,
    pub(crate) choose_ipv6: bool,
}

/// A pool of the subnet with the gateway first in it.
pub(crate) fn plain(subnet: Subnet) -> Pool {
    let gateway = subnet.hosts().next().unwrap_or(subnet.base());
    Pool { subnet, range: None, gateway, reserved: BTreeMap::new() }
}

/// Ranges, gateways and reserved addresses belong to the subnet that they are in, as on docker's command line.
/// All that is wrong comes out as sentences, appended to `problems`.
pub(crate) fn wish(spec: &NetworkSpec, problems: &mut Vec<String>) -> Wish {
    let mut pools: Vec<Pool> = Vec::new();
    for text in &spec.subnets {
        match text.parse::<Subnet>() {
            Err(problem) => problems.push(problem),
            Ok(subnet) => match subnet_problem(&subnet, &pools) {
                Some(problem) => problems.push(problem),
                None => pools.push(plain(subnet)),
            },
        }
    }
    // What is in a subnet that was refused is not reported as well.
    let whole = pools.len() == spec.subnets.len();
    let nowhere = |what: String| match (whole, spec.subnets.is_empty()) {
        (true, true) => Some(format!("{what} needs a subnet to be in")),
        (true, false) => Some(format!("{what} is in none of the subnets")),
        (false, _) => None,
    };
    for text in &spec.ranges {
        let range = match text.parse::<Subnet>() {
            Ok(range) => range,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        let pool = pools.iter_mut().find(|pool| {
            pool.subnet.contains(range.base()) && pool.subnet.prefix_len() <= range.prefix_len()
        });
        match pool {
            None => problems.extend(nowhere(format!("the range {range}"))),
            Some(pool) if pool.range.is_some() => {
                problems.push(format!("{} has two ranges to take addresses from", pool.subnet));
            }
            Some(pool) => pool.range = Some(range),
        }
    }
    let mut given: Vec<Subnet> = Vec::new();
    for gateway in &spec.gateways {
        match pools.iter_mut().find(|pool| pool.subnet.contains(*gateway)) {
            None => problems.extend(nowhere(format!("the gateway {gateway}"))),
            Some(pool) if !pool.subnet.has_host(*gateway) => {
                problems.push(format!("the gateway {gateway} is no host address of {}", pool.subnet));
            }
            Some(pool) if given.contains(&pool.subnet) => {
                problems.push(format!("{} has two gateways", pool.subnet));
            }
            Some(pool) => {
                pool.gateway = *gateway;
                given.push(pool.subnet);
            }
        }
    }
    for (name, address) in &spec.reserved {
        match pools.iter_mut().find(|pool| pool.subnet.contains(*address)) {
            None => problems.extend(nowhere(format!("the reserved address {address} ({name})"))),
            Some(pool) => {
                pool.reserved.insert(name.clone(), *address);
            }
        }
    }
    let has = |six| pools.iter().any(|pool| pool.subnet.is_ipv6() == six);
    Wish { choose_ipv4: !has(false), choose_ipv6: spec.ipv6 && !has(true), pools }
}

fn subnet_problem(subnet: &Subnet, others: &[Pool]) -> Option<String> {
    let longest = if subnet.is_ipv6() { 126 } else { 30 };
    if subnet.prefix_len() > longest {
        return Some(format!("{subnet} is too small: a network needs at least a /{longest}"));
    }
    if !usable(subnet) {
        return Some(format!("{subnet} is no subnet for hosts"));
    }
    let other = others.iter().find(|other| other.subnet.overlaps(subnet))?;
    Some(format!("{subnet} overlaps {}", other.subnet))
}

/// Not loopback, link-local, multicast, reserved or "this network", nor larger than any network is.
fn usable(subnet: &Subnet) -> bool {
    match subnet.base() {
        IpAddr::V4(base) => {
            let first = base.octets()[0];
            subnet.prefix_len() >= 8 && !base.is_loopback() && first != 0 && first < 224
        }
        IpAddr::V6(base) => {
            let first = base.segments()[0];
            subnet.prefix_len() >= 16 && first != 0 && first & 0xffc0 != 0xfe80 && first & 0xff00 != 0xff00
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wished(spec: NetworkSpec) -> (Wish, Vec<String>) {
        let mut problems = Vec::new();
        (wish(&spec, &mut problems), problems)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn everything_goes_to_its_subnet() {
        let spec = NetworkSpec::new("n").subnet("10.1.0.0/24").subnet("fd00:1::/64").subnet("10.2.0.0/16");
        let spec = spec.range("10.2.3.0/30").range("fd00:1::8/125").gateway(ip("fd00:1::9"));
        let spec = spec.reserve("router", ip("10.2.3.1")).gateway(ip("10.2.3.2"));
        let (wish, problems) = wished(spec);
        assert!(problems.is_empty(), "{problems:?}");
        let [first, six, second] = &wish.pools[..] else { panic!("{wish:?}") };
        assert_eq!((first.gateway, first.range, first.capacity()), (ip("10.1.0.1"), None, 253));
        assert_eq!((six.gateway, second.gateway), (ip("fd00:1::9"), ip("10.2.3.2")));
        // A range's ends are no ends of the subnet.
        assert_eq!(second.candidates().collect::<Vec<_>>(), [ip("10.2.3.0"), ip("10.2.3.3")]);
        assert_eq!((second.capacity(), six.candidates().count(), six.capacity()), (2, 7, 7));
        assert_eq!(second.owner(ip("10.2.3.1")), Some("router (reserved)".into()));
        assert!(!wish.choose_ipv4 && !wish.choose_ipv6);
        assert_eq!(plain("fd00::/64".parse().unwrap()).capacity(), (1u128 << 64) - 2);
    }

    #[test]
    fn what_is_missing_is_chosen() {
        let chosen = |spec| {
            let (wish, problems) = wished(spec);
            assert!(problems.is_empty(), "{problems:?}");
            (wish.choose_ipv4, wish.choose_ipv6)
        };
        assert_eq!(chosen(NetworkSpec::new("n")), (true, false));
        assert_eq!(chosen(NetworkSpec::new("n").ipv6(true)), (true, true));
        assert_eq!(chosen(NetworkSpec::new("n").subnet("fd00::/64")), (true, false));
        assert_eq!(chosen(NetworkSpec::new("n").subnet("10.1.0.0/24").ipv6(true)), (false, true));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let base = || NetworkSpec::new("n").subnet("10.1.0.0/24");
        for (spec, says) in [
            (base().subnet("10.1.0.128/25"), "10.1.0.128/25 overlaps 10.1.0.0/24"),
            (base().subnet("fe80::/64"), "fe80::/64 is no subnet for hosts"),
            (base().subnet("fd00::/127"), "fd00::/127 is too small: a network needs at least a /126"),
            (base().range("10.1.0.0/16"), "the range 10.1.0.0/16 is in none of the subnets"),
            (
                base().range("10.1.0.0/25").range("10.1.0.128/25"),
                "10.1.0.0/24 has two ranges to take addresses from",
            ),
            (base().gateway(ip("10.1.0.255")), "the gateway 10.1.0.255 is no host address of 10.1.0.0/24"),
            (base().gateway(ip("10.1.0.1")).gateway(ip("10.1.0.2")), "10.1.0.0/24 has two gateways"),
            (base().gateway(ip("10.2.0.1")), "the gateway 10.2.0.1 is in none of the subnets"),
            (NetworkSpec::new("n").gateway(ip("fd00::1")), "the gateway fd00::1 needs a subnet to be in"),
            (
                base().reserve("a", ip("10.9.0.1")),
                "the reserved address 10.9.0.1 (a) is in none of the subnets",
            ),
            (
                NetworkSpec::new("n").subnet("x").gateway(ip("10.1.0.1")),
                "`x` is no subnet; one looks like 10.1.0.0/24 or fd00:1::/64",
            ),
        ] {
            assert_eq!(wished(spec).1, [says]);
        }
    }
}
