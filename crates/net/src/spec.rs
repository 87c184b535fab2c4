//! What is wanted of a network and of a place in one. Writing a spec never fails.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;

use crate::Subnet;
use crate::ports::Publish;

/// How a network carries packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Driver {
    /// A software bridge on this host, with translation (NAT) on the way out.
    Bridge,
    /// The host's own namespace: nothing to make, nothing to join.
    Host,
    /// A namespace of its own with nothing but a loopback interface; see [`crate::loopback_up`].
    None,
}

impl Driver {
    /// The driver behind one of the two names that are always there and never created: `host` and `none`.
    pub fn predefined(name: &str) -> Option<Driver> {
        match name {
            "host" => Some(Driver::Host),
            "none" => Some(Driver::None),
            _ => None,
        }
    }

    /// The word for it in records and on command lines.
    pub fn as_str(self) -> &'static str {
        match self {
            Driver::Bridge => "bridge",
            Driver::Host => "host",
            Driver::None => "none",
        }
    }
}

/// A network as one would like to have it. [`crate::Networks::create`] checks it and reports all that is wrong at once.
///
/// ```
/// let spec = coracle_net::NetworkSpec::new("backend").subnet("10.1.0.0/24").label("team", "blue");
/// assert!(spec.problems().is_empty());
/// ```
#[derive(Clone, Debug)]
pub struct NetworkSpec {
    pub(crate) name: String,
    pub(crate) subnet: Option<String>,
    pub(crate) gateway: Option<Ipv4Addr>,
    pub(crate) internal: bool,
    pub(crate) mtu: Option<u32>,
    pub(crate) labels: BTreeMap<String, String>,
}

impl NetworkSpec {
    /// A bridge network with a subnet from the default pools. Names are as docker has them:
    /// `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, at most 128 bytes.
    pub fn new(name: impl Into<String>) -> NetworkSpec {
        NetworkSpec {
            name: name.into(),
            subnet: None,
            gateway: None,
            internal: false,
            mtu: None,
            labels: BTreeMap::new(),
        }
    }

    /// The subnet in CIDR notation: `10.1.0.0/24`. At least 4 addresses (`/30`).
    pub fn subnet(mut self, subnet: impl Into<String>) -> NetworkSpec {
        self.subnet = Some(subnet.into());
        self
    }

    /// The host's address on the network; the first of the subnet otherwise. Needs a subnet.
    pub fn gateway(mut self, address: Ipv4Addr) -> NetworkSpec {
        self.gateway = Some(address);
        self
    }

    /// Whether there is no way out of the network and none in.
    pub fn internal(mut self, internal: bool) -> NetworkSpec {
        self.internal = internal;
        self
    }

    /// The largest packet in bytes, 68 to 65535; otherwise that of the host's default route, at most 1500.
    pub fn mtu(mut self, bytes: u32) -> NetworkSpec {
        self.mtu = Some(bytes);
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

    /// Everything that is wrong with the spec, one sentence each, without looking at the host.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if Driver::predefined(&self.name).is_some() {
            problems.push(format!("`{}` is always there and can't be created", self.name));
        } else if let Some(problem) = name_problem("network name", &self.name, 128) {
            problems.push(problem);
        }
        let subnet = self.subnet.as_deref().map(str::parse::<Subnet>);
        match (&subnet, self.gateway) {
            (Some(Err(problem)), _) => problems.push(problem.clone()),
            (Some(Ok(subnet)), _) if subnet.prefix_len() > 30 => {
                problems.push(format!("{subnet} is too small: a network needs at least a /30"));
            }
            (Some(Ok(subnet)), _) if subnet.prefix_len() < 8 || !usable(subnet) => {
                problems.push(format!("{subnet} is no subnet for hosts"));
            }
            (Some(Ok(subnet)), Some(gateway)) if !is_host(subnet, gateway) => {
                problems.push(format!("the gateway {gateway} is no host address of {subnet}"));
            }
            (None, Some(gateway)) => problems.push(format!("the gateway {gateway} needs a subnet to be in")),
            _ => {}
        }
        if let Some(mtu) = self.mtu.filter(|mtu| !(68..=65535).contains(mtu)) {
            problems.push(format!("an mtu of {mtu} is outside 68 to 65535"));
        }
        problems
    }
}

/// Not loopback, multicast, reserved or "this network".
fn usable(subnet: &Subnet) -> bool {
    let base = subnet.base();
    !base.is_loopback() && !base.is_multicast() && base.octets()[0] != 0 && base.octets()[0] < 240
}

pub(crate) fn is_host(subnet: &Subnet, address: Ipv4Addr) -> bool {
    subnet.contains(address) && address != subnet.base() && address != subnet.last()
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

/// A place in a network for one network namespace.
#[derive(Clone, Debug)]
pub struct Join<'fd> {
    pub(crate) netns: BorrowedFd<'fd>,
    pub(crate) container: String,
    pub(crate) names: Vec<String>,
    pub(crate) address: Option<Ipv4Addr>,
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
            interface: "eth0".into(),
            default_route: true,
            ports: Vec::new(),
        }
    }

    /// The names by which the network's others find it. The first is also what its address resolves back to.
    pub fn names<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Join<'fd> {
        self.names.extend(names.into_iter().map(Into::into));
        self
    }

    /// This address and no other.
    pub fn address(mut self, address: Ipv4Addr) -> Join<'fd> {
        self.address = Some(address);
        self
    }

    /// The name of the interface inside, `eth0` unless told otherwise; 1 to 15 bytes.
    pub fn interface(mut self, name: impl Into<String>) -> Join<'fd> {
        self.interface = name.into();
        self
    }

    /// Whether the namespace's default route goes through this network (if the network has a way out). A
    /// namespace in several networks wants it from one of them.
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
        let mut problems: Vec<String> =
            self.names.iter().filter_map(|name| name_problem("container name", name, 253)).collect();
        problems.extend(self.ports.iter().filter_map(Publish::problem));
        if !self.ports.is_empty() && !self.default_route {
            problems.push("ports can't be published where there is no default route for the answers".into());
        }
        let name = self.interface.as_bytes();
        if name.is_empty()
            || name.len() > 15
            || self.interface == "."
            || self.interface == ".."
            || self.interface == "lo"
            || name.iter().any(|b| !b.is_ascii_graphic() || matches!(b, b'/' | b':' | b'%'))
        {
            problems.push(format!(
                "{:?} is no name for an interface (1 to 15 bytes, without / : %)",
                self.interface
            ));
        }
        problems
    }
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
                "the gateway 10.2.0.1 is no host address of 10.1.0.0/24",
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
        assert_eq!(NetworkSpec::new("n").gateway(Ipv4Addr::LOCALHOST).problems().len(), 1);
    }
}
