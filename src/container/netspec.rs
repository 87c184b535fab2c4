//! What a container's spec says about networks, names and ports.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{ConnectSpec, ContainerSpec};
use crate::resolver::{HostAddress, Resolver};
use crate::stack::{Attachment, Mode};
use crate::{Mac, Port, Publish};

/// That part of a [`ContainerSpec`].
#[derive(Clone, Debug, Default)]
pub(crate) struct NetWish {
    pub(crate) mode: Option<Mode>,
    pub(crate) aliases: Vec<String>,
    pub(crate) address: Option<Ipv4Addr>,
    pub(crate) ipv6: Option<Ipv6Addr>,
    pub(crate) mac: Option<Mac>,
    pub(crate) hosts: Vec<(String, HostAddress)>,
    pub(crate) resolver: Resolver,
    pub(crate) publish: Vec<Publish>,
    pub(crate) publish_exposed: bool,
    pub(crate) expose: Vec<Port>,
}

impl NetWish {
    /// The networks it asks for, with aliases and addresses in place.
    pub(crate) fn mode(&self) -> Mode {
        let mut mode = self.mode.clone().unwrap_or_default();
        if let Mode::Networks(networks) = &mut mode {
            for network in networks.iter_mut() {
                network.aliases.extend(self.aliases.iter().cloned());
            }
            if let Some(first) = networks.first_mut() {
                first.address = first.address.or(self.address);
                first.ipv6 = first.ipv6.or(self.ipv6);
                first.mac = first.mac.or(self.mac);
            }
        }
        mode
    }

    /// Whether it asks for what only a network of its own can have.
    pub(crate) fn wants_an_endpoint(&self) -> bool {
        self.address.is_some() || self.ipv6.is_some() || self.mac.is_some() || !self.aliases.is_empty()
    }
}

/// Networks, names and ports.
impl ContainerSpec {
    /// A place on this network (a [`Network`](crate::Network) or a name), instead of the default one. Said several
    /// times: on all of them, the first one with the way out.
    #[must_use]
    pub fn network(self, network: impl Into<String>) -> ContainerSpec {
        self.connect(ConnectSpec::new(network))
    }

    /// [`ContainerSpec::network`] with aliases and addresses of its own there. Of several networks the one of the highest
    /// [priority](ConnectSpec::priority) has the way out.
    #[must_use]
    pub fn connect(mut self, place: ConnectSpec) -> ContainerSpec {
        let attachment: Attachment = place.into();
        match &mut self.net.mode {
            Some(Mode::Networks(networks)) => networks.push(attachment),
            mode => *mode = Some(Mode::Networks(vec![attachment])),
        }
        self
    }

    /// A further name on its networks.
    #[must_use]
    pub fn network_alias(mut self, alias: impl Into<String>) -> ContainerSpec {
        self.net.aliases.push(alias.into());
        self
    }

    /// This address on its (first) network.
    #[must_use]
    pub fn ip(mut self, address: Ipv4Addr) -> ContainerSpec {
        self.net.address = Some(address);
        self
    }

    /// This IPv6 address on its (first) network, which must have IPv6.
    #[must_use]
    pub fn ip6(mut self, address: Ipv6Addr) -> ContainerSpec {
        self.net.ipv6 = Some(address);
        self
    }

    /// This hardware address on its (first) network.
    #[must_use]
    pub fn mac(mut self, mac: Mac) -> ContainerSpec {
        self.net.mac = Some(mac);
        self
    }

    /// No network but loopback.
    #[must_use]
    pub fn no_network(mut self) -> ContainerSpec {
        self.net.mode = Some(Mode::None);
        self
    }

    /// The network of this container, by name or id: its interfaces, ports and loopback. That one must run when this one is
    /// started.
    #[must_use]
    pub fn network_of(mut self, container: impl Into<String>) -> ContainerSpec {
        self.net.mode = Some(Mode::Container(container.into()));
        self
    }

    /// The host's own network, with all its interfaces.
    #[must_use]
    pub fn host_network(mut self) -> ContainerSpec {
        self.net.mode = Some(Mode::Host);
        self
    }

    /// A line in its `/etc/hosts`.
    #[must_use]
    pub fn add_host(mut self, name: impl Into<String>, address: IpAddr) -> ContainerSpec {
        self.net.hosts.push((name.into(), HostAddress::Is(address)));
        self
    }

    /// A line in its `/etc/hosts` that leads to the host: its address on the container's first bridge network
    /// (127.0.0.1 with the host's own network).
    #[must_use]
    pub fn add_host_gateway(mut self, name: impl Into<String>) -> ContainerSpec {
        self.net.hosts.push((name.into(), HostAddress::Gateway));
        self
    }

    /// One more name server, instead of the host's; asked by way of the container's own networks.
    #[must_use]
    pub fn dns(mut self, server: IpAddr) -> ContainerSpec {
        self.net.resolver.servers.push(server);
        self
    }

    /// One more domain that is tried behind names, instead of the host's; `.` alone for none at all.
    #[must_use]
    pub fn dns_search(mut self, domain: impl Into<String>) -> ContainerSpec {
        self.net.resolver.search.push(domain.into());
        self
    }

    /// One more option of resolv.conf(5), instead of the host's: `ndots:2`.
    #[must_use]
    pub fn dns_option(mut self, option: impl Into<String>) -> ContainerSpec {
        self.net.resolver.options.push(option.into());
        self
    }

    /// A port of the host that leads to a port of the container. A [`Port`](crate::Port) alone is published on any free
    /// port of 127.0.0.1, which [`Container::addr`](crate::Container::addr) tells; `tcp(80).on(([0, 0, 0, 0], 8080))` says
    /// where. A port that is taken is an error before anything starts.
    #[must_use]
    pub fn publish(mut self, port: impl Into<Publish>) -> ContainerSpec {
        self.net.publish.push(port.into());
        self
    }

    /// A port that it says that it serves, besides the image's. That alone opens nothing: see
    /// [`ContainerSpec::publish_exposed`].
    #[must_use]
    pub fn expose(mut self, port: Port) -> ContainerSpec {
        self.net.expose.push(port);
        self
    }

    /// Publishes all ports that it and its image say that they serve, and that are not published otherwise, each on any
    /// free port of all addresses of the host (docker's `-P`).
    #[must_use]
    pub fn publish_exposed(mut self) -> ContainerSpec {
        self.net.publish_exposed = true;
        self
    }
}
