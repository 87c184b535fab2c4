//! Networks of the engine.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::ops::Deref;
use std::time::SystemTime;

use coracle_net::{Attached, NetworkSpec, Pool};

use crate::error::{Doing, Error, Result};
use crate::stack::DEFAULT_NETWORK;
use crate::{Engine, Kind};

/// A network of an engine. The value is only a handle: the network stays until it is removed.
#[derive(Clone, Debug)]
pub struct Network(pub(crate) coracle_net::Network);

impl Engine {
    /// The network that `spec` names, made if it is not there.
    ///
    /// # Errors
    /// `Invalid` with everything that is wrong with the spec; `Exhausted` where no subnet is free.
    pub fn network(&self, spec: &NetworkSpec) -> Result<Network> {
        Ok(Network(self.0.networks.open(spec)?))
    }

    /// A new network.
    ///
    /// # Errors
    /// `AlreadyExists`; else as of [`Engine::network`].
    pub fn create_network(&self, spec: &NetworkSpec) -> Result<Network> {
        Ok(Network(self.0.networks.create(spec)?))
    }

    /// A new network that goes with its value, and with this program however it ends: for tests. While a container is on it
    /// it stays; a container that is declared after it ends before it.
    ///
    /// # Errors
    /// As of [`Engine::create_network`].
    pub fn ephemeral_network(&self, spec: &NetworkSpec) -> Result<EphemeralNetwork> {
        let owned = self.0.networks.create_ephemeral(spec)?;
        Ok(EphemeralNetwork { network: Network(owned.network().clone()), _owned: owned })
    }

    /// The network of that name, if it is there.
    ///
    /// # Errors
    /// `Corrupt` where its record can't be read.
    pub fn find_network(&self, name: &str) -> Result<Option<Network>> {
        Ok(self.0.networks.find(name)?.map(Network))
    }

    /// All networks, by name.
    ///
    /// # Errors
    /// `Corrupt` where a record can't be read.
    pub fn networks(&self) -> Result<Vec<Network>> {
        Ok(self.0.networks.list()?.into_iter().map(Network).collect())
    }

    /// Removes a network.
    ///
    /// # Errors
    /// `NotFound`; `InUse` while a container is on it; `Denied` for the default network.
    pub fn remove_network(&self, name: &str) -> Result<()> {
        if name == DEFAULT_NETWORK {
            return Err(Error::new(
                Kind::Denied,
                format!("remove network `{name}`: it is the default network"),
            ));
        }
        Ok(self.0.networks.remove(name)?)
    }

    /// Removes all networks that no container is on and that `wanted` says yes to, but the default one. Their names, in
    /// order.
    ///
    /// # Errors
    /// The first failure, after all networks were tried.
    pub fn prune_networks(&self, mut wanted: impl FnMut(&Network) -> bool) -> Result<Vec<String>> {
        let which =
            |one: &coracle_net::Network| one.name() != DEFAULT_NETWORK && wanted(&Network(one.clone()));
        self.0.networks.prune(which).doing(|| "prune networks")
    }
}

/// A [`Network`] that goes with this value, as soon as no container is on it.
#[must_use = "the network goes with this value"]
#[derive(Debug)]
pub struct EphemeralNetwork {
    network: Network,
    _owned: coracle_net::Ephemeral,
}

impl Deref for EphemeralNetwork {
    type Target = Network;

    fn deref(&self) -> &Network {
        &self.network
    }
}

impl From<&EphemeralNetwork> for String {
    fn from(network: &EphemeralNetwork) -> String {
        network.name().to_owned()
    }
}

impl Network {
    /// Its name.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// Its id: 64 hexadecimal digits.
    pub fn id(&self) -> &str {
        self.0.id()
    }

    /// What carries it: `bridge`, `macvlan`.
    pub fn driver(&self) -> &str {
        self.0.driver()
    }

    /// Its subnets, each with gateway, range and reserved addresses; those of IPv4 first.
    pub fn pools(&self) -> &[Pool] {
        self.0.pools()
    }

    /// Whether it has IPv6 beside IPv4.
    pub fn has_ipv6(&self) -> bool {
        self.0.has_ipv6()
    }

    /// The driver options that it was made with, by key.
    pub fn options(&self) -> &BTreeMap<String, String> {
        self.0.options()
    }

    /// Its first subnet in CIDR notation.
    pub fn subnet(&self) -> String {
        self.0.subnet().to_string()
    }

    /// The host's address on it.
    pub fn gateway(&self) -> Ipv4Addr {
        self.0.gateway()
    }

    /// Whether it has no way out.
    pub fn is_internal(&self) -> bool {
        self.0.is_internal()
    }

    /// Its labels, by key.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        self.0.labels()
    }

    /// When it was made, to the second.
    pub fn created(&self) -> SystemTime {
        self.0.created()
    }

    /// Who is on it now: containers by their ids, each with its address and names.
    ///
    /// # Errors
    /// `Corrupt` where a lease can't be read.
    pub fn attached(&self) -> Result<Vec<Attached>> {
        Ok(self.0.attached()?)
    }
}
