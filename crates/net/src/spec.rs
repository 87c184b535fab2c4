//! What is wanted of a network and of a place in one. Writing a spec never fails.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::BorrowedFd;

use crate::Mac;
use crate::ipam::{self, Wish};
use crate::options::{self, Options};
use crate::ports::Publish;

/// The two names that stand for no network of a state directory and can't be given to one: `host`, the host's own
/// namespace, and `none`, a namespace with nothing but a loopback interface (see [`crate::loopback_up`]).
pub const PREDEFINED: [&str; 2] = ["host", "none"];

/// A network as one would like to have it. [`crate::Networks::create`] checks it and reports all that is wrong at once.
///
/// ```
/// let spec = coracle_net::NetworkSpec::new("backend").subnet("10.1.0.0/24").label("team", "blue");
/// assert!(spec.problems().is_empty());
/// ```
#[derive(Clone, Debug)]
pub struct NetworkSpec {
    pub(crate) name: String,
    pub(crate) driver: String,
    pub(crate) subnets: Vec<String>,
    pub(crate) ranges: Vec<String>,
    pub(crate) gateways: Vec<IpAddr>,
    pub(crate) reserved: BTreeMap<String, IpAddr>,
    pub(crate) ipv6: bool,
    pub(crate) internal: bool,
    pub(crate) mtu: Option<u32>,
    pub(crate) options: Options,
    pub(crate) labels: BTreeMap<String, String>,
}

impl NetworkSpec {
    /// A bridge network with a subnet from the default pools. Names are as docker has them:
    /// `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, at most 128 bytes.
    pub fn new(name: impl Into<String>) -> NetworkSpec {
        NetworkSpec {
            name: name.into(),
            driver: crate::driver::BRIDGE.into(),
            subnets: Vec::new(),
            ranges: Vec::new(),
            gateways: Vec::new(),
            reserved: BTreeMap::new(),
            ipv6: false,
            internal: false,
            mtu: None,
            options: Options::default(),
            labels: BTreeMap::new(),
        }
    }

    /// What carries it: `bridge` (if nothing is said), `macvlan`, or the name of a driver that was added with
    /// [`crate::Networks::with_driver`].
    pub fn driver(mut self, name: impl Into<String>) -> NetworkSpec {
        self.driver = name.into();
        self
    }

    /// One more subnet in CIDR notation: `10.1.0.0/24`, `fd00:1::/64`. At least 4 addresses. Without one of IPv4 it
    /// is chosen; one of IPv6 makes the network an IPv6 one, too.
    pub fn subnet(mut self, subnet: impl Into<String>) -> NetworkSpec {
        self.subnets.push(subnet.into());
        self
    }

    /// Addresses are given out from this part of the subnet that it is in (`--ip-range`), in CIDR notation.
    pub fn range(mut self, range: impl Into<String>) -> NetworkSpec {
        self.ranges.push(range.into());
        self
    }

    /// The gateway of the subnet that it is in; the subnet's first address otherwise. It is the host's own address on
    /// a bridge, and somebody else's on a macvlan.
    pub fn gateway(mut self, address: impl Into<IpAddr>) -> NetworkSpec {
        self.gateways.push(address.into());
        self
    }

    /// An address that is somebody else's and not given out (`--aux-address`).
    pub fn reserve(mut self, name: impl Into<String>, address: impl Into<IpAddr>) -> NetworkSpec {
        self.reserved.insert(name.into(), address.into());
        self
    }

    /// Whether it has IPv6 beside IPv4, by a unique local subnet (RFC 4193) where none is given.
    pub fn ipv6(mut self, yes: bool) -> NetworkSpec {
        self.ipv6 = yes;
        self
    }

    /// Whether there is no way out of the network and none in.
    pub fn internal(mut self, internal: bool) -> NetworkSpec {
        self.internal = internal;
        self
    }

    /// The largest packet in bytes, 68 to 65535 (1280 and up with IPv6); otherwise that of the host's default route, at
    /// most 1500.
    pub fn mtu(mut self, bytes: u32) -> NetworkSpec {
        self.mtu = Some(bytes);
        self
    }

    /// A driver option by docker's name for it.
    ///
    /// Of `bridge`: `com.docker.network.bridge.name`, `….enable_icc`, `….enable_ip_masquerade`, `….gateway_mode_ipv4`
    /// and `….gateway_mode_ipv6` (`nat` or `routed`), `….host_binding_ipv4`, and `com.docker.network.driver.mtu`. Of
    /// `macvlan`: `parent` (an interface of the host's, or one with a VLAN's number behind it, `eth0.10`),
    /// `macvlan_mode` (`bridge`, `vepa`, `private` or `passthru`) and `com.docker.network.driver.mtu`.
    pub fn option(mut self, key: impl Into<String>, value: impl Into<String>) -> NetworkSpec {
        self.options.0.insert(key.into(), value.into());
        self
    }

    /// A label: kept and shown, never interpreted.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> NetworkSpec {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value of a driver option.
    pub fn option_value(&self, key: &str) -> Option<&str> {
        self.options.get(key)
    }

    /// The driver options, by key.
    pub fn options(&self) -> &BTreeMap<String, String> {
        &self.options.0
    }

    /// Everything that is wrong with the spec but its options, one sentence each, without looking at the host.
    /// [`crate::Driver::problems`] knows about options.
    pub fn problems(&self) -> Vec<String> {
        self.wish().1
    }

    pub(crate) fn wish(&self) -> (Wish, Vec<String>) {
        let mut problems = Vec::new();
        if PREDEFINED.contains(&self.name.as_str()) {
            problems.push(format!("`{}` is always there and can't be created", self.name));
        } else if let Some(problem) = name_problem("network name", &self.name, 128) {
            problems.push(problem);
        }
        let wish = ipam::wish(self, &mut problems);
        let ipv6 = wish.choose_ipv6 || wish.pools.iter().any(|pool| pool.subnet.is_ipv6());
        let (least, why) = if ipv6 { (1280, ", which IPv6 asks for") } else { (68, "") };
        let mtu = self.mtu.or(self.options.mtu());
        if let Some(mtu) = mtu.filter(|mtu| !(least..=65535).contains(mtu)) {
            problems.push(format!("an mtu of {mtu} is outside {least} to 65535{why}"));
        }
        if self.mtu.zip(self.options.mtu()).is_some_and(|(one, other)| one != other) {
            problems.push(format!("there is another mtu in option {}", options::MTU));
        }
        (wish, problems)
    }
}

/// Docker's rule for names, which also makes them safe as file names and as DNS labels.
pub(crate) fn name_problem(what: &str, name: &str, longest: usize) -> Option<String> {
    let mut bytes = name.bytes();
    let good = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if !good {
        return Some(format!("{what} {name:?} must match [a-zA-Z0-9][a-zA-Z0-9_.-]*"));
    }
    (name.len() > longest).then(|| format!("{what} of {} bytes is longer than {longest}", name.len()))
}

/// Why a link can't have the name.
pub(crate) fn interface_problem(name: &str) -> Option<String> {
    let bytes = name.as_bytes();
    let bad = bytes.is_empty()
        || bytes.len() > 15
        || matches!(name, "." | ".." | "lo")
        || bytes.iter().any(|b| !b.is_ascii_graphic() || matches!(b, b'/' | b':' | b'%'));
    bad.then(|| format!("{name:?} is no name for an interface (1 to 15 bytes, without / : %)"))
}

/// A place in a network for one network namespace.
#[derive(Clone, Debug)]
pub struct Join<'fd> {
    pub(crate) netns: BorrowedFd<'fd>,
    pub(crate) container: String,
    pub(crate) names: Vec<String>,
    pub(crate) address: Option<Ipv4Addr>,
    pub(crate) ipv6: Option<Ipv6Addr>,
    pub(crate) mac: Option<Mac>,
    pub(crate) interface: String,
    pub(crate) default_route: bool,
    pub(crate) ports: Vec<Publish>,
}

impl<'fd> Join<'fd> {
    /// `netns` is the namespace, `container` an identifier of its owner that is kept with the lease and
    /// shown where the lease is in the way.
    pub fn new(netns: BorrowedFd<'fd>, container: impl Into<String>) -> Join<'fd> {
        Join {
            netns,
            container: container.into(),
            names: Vec::new(),
            address: None,
            ipv6: None,
            mac: None,
            interface: "eth0".into(),
            default_route: true,
            ports: Vec::new(),
        }
    }

    /// The names by which the network's others find it. The first is also what its addresses resolve back to.
    pub fn names<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Join<'fd> {
        self.names.extend(names.into_iter().map(Into::into));
        self
    }

    /// This IPv4 address and no other.
    pub fn address(mut self, address: Ipv4Addr) -> Join<'fd> {
        self.address = Some(address);
        self
    }

    /// This IPv6 address and no other. The network must have IPv6.
    pub fn ipv6(mut self, address: Ipv6Addr) -> Join<'fd> {
        self.ipv6 = Some(address);
        self
    }

    /// This hardware address; one that follows from the IPv4 address otherwise.
    pub fn mac(mut self, mac: Mac) -> Join<'fd> {
        self.mac = Some(mac);
        self
    }

    /// The name of the interface inside, `eth0` unless told otherwise; 1 to 15 bytes.
    pub fn interface(mut self, name: impl Into<String>) -> Join<'fd> {
        self.interface = name.into();
        self
    }

    /// Whether the namespace's default routes go through this network (if the network has a way out). A
    /// namespace in several networks wants them from one of them.
    pub fn default_route(mut self, yes: bool) -> Join<'fd> {
        self.default_route = yes;
        self
    }

    /// One more port of the namespace that is reached by way of the host. Needs the default route, by which
    /// answers leave.
    pub fn publish(mut self, port: Publish) -> Join<'fd> {
        self.ports.push(port);
        self
    }

    /// Everything that is wrong with it, one sentence each, without looking at the host.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = names_problems(&self.names);
        problems.extend(self.ports.iter().filter_map(Publish::problem));
        if !self.ports.is_empty() && !self.default_route {
            problems.push("ports can't be published where there is no default route for the answers".into());
        }
        if let Some(mac) = self.mac.filter(|mac| !mac.is_one_hosts()) {
            problems.push(format!("{mac} is no hardware address of one interface"));
        }
        problems.extend(interface_problem(&self.interface));
        problems
    }
}

pub(crate) fn names_problems(names: &[String]) -> Vec<String> {
    names.iter().filter_map(|name| name_problem("container name", name, 253)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_problems_are_reported_at_once() {
        let spec = NetworkSpec::new("-x").subnet("10.1.0.0/24").gateway(Ipv4Addr::new(10, 2, 0, 1)).mtu(20);
        assert_eq!(
            spec.problems(),
            [
                "network name \"-x\" must match [a-zA-Z0-9][a-zA-Z0-9_.-]*",
                "the gateway 10.2.0.1 is in none of the subnets",
                "an mtu of 20 is outside 68 to 65535",
            ]
        );
    }

    #[test]
    fn names_are_dockers() {
        for good in ["a", "my_custom_network", "0.x-y", "A9"] {
            assert!(NetworkSpec::new(good).problems().is_empty(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "_a", "a b", "ü", "host", "none", &"x".repeat(129)] {
            assert_eq!(NetworkSpec::new(bad).problems().len(), 1, "{bad}");
        }
    }

    #[test]
    fn subnets_must_have_room_for_hosts() {
        for bad in ["10.0.0.0/31", "127.0.0.0/8", "224.0.0.0/8", "0.0.0.0/0", "10.0.0.1/24", "nonsense"] {
            assert_eq!(NetworkSpec::new("n").subnet(bad).problems().len(), 1, "{bad}");
        }
        assert!(NetworkSpec::new("n").subnet("10.0.0.0/30").problems().is_empty());
        assert_eq!(NetworkSpec::new("n").subnet("fd00::/64").mtu(1200).problems().len(), 1);
        assert_eq!(NetworkSpec::new("n").gateway(Ipv4Addr::LOCALHOST).problems().len(), 1);
    }
}
