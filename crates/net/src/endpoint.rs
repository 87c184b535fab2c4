//! A place on a network, had as long as its value lives.

use std::net::Ipv4Addr;

use coracle_host::Lock;

use crate::hold::Held;
use crate::lease::{Holder, Lease};
use crate::ports::Published;
use crate::{Error, Join, Mac, Network, Result, act, plan};

/// A network namespace's place on a network: its lease, its link, its names.
///
/// Dropping it gives all of that up, as [`Endpoint::leave`] does, which also reports failures. When the process
/// is killed, the address and the names are free at once; the link goes with the namespace, or with
/// [`crate::Networks::reclaim`].
#[must_use = "a place on a network is given up when it is dropped"]
#[derive(Debug)]
pub struct Endpoint {
    network: Network,
    interface: String,
    names: Vec<String>,
    address: Ipv4Addr,
    ports: Vec<Held>,
    held: Option<(Lease, Lock)>,
}

impl Endpoint {
    pub(crate) fn new(
        network: Network,
        presence: Lock,
        lease: Lease,
        ports: Vec<Held>,
        join: &Join<'_>,
    ) -> Endpoint {
        Endpoint {
            ports,
            network,
            interface: join.interface.clone(),
            names: join.names.clone(),
            address: lease.address,
            held: Some((lease, presence)),
        }
    }

    pub(crate) fn publish(&self, holder: &Holder) -> Result<()> {
        self.held.as_ref().map_or(Ok(()), |(lease, _)| lease.publish(holder))
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Its address there.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The length of the subnet's prefix in bits.
    pub fn prefix_len(&self) -> u8 {
        self.network.subnet().prefix_len()
    }

    /// The host's address on the network, where the default route leads.
    pub fn gateway(&self) -> Ipv4Addr {
        self.network.gateway()
    }

    /// Its hardware address.
    pub fn mac(&self) -> Mac {
        Mac::of(self.address)
    }

    /// The name of the interface inside.
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// The name of the interface's other end, on the host.
    pub fn host_interface(&self) -> String {
        plan::veth_name(self.network.id(), self.address)
    }

    /// The names that it is found by.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The ports of the host that lead to it, in the order they were asked for. What was left open is filled in:
    /// `0.0.0.0` for no address, and the port that was free.
    pub fn published(&self) -> Vec<Published> {
        self.ports.iter().map(|held| held.published).collect()
    }

    /// Leaves the network: ports and names first, then the link, then the lease. The last one out takes the bridge and its
    /// rules down. Call it, or drop the value, on a thread of the namespace that it was joined from.
    ///
    /// # Errors
    /// All failures in one; every step is done whatever the others say.
    pub fn leave(mut self) -> Result<()> {
        self.give_up()
    }

    fn give_up(&mut self) -> Result<()> {
        let Some((lease, presence)) = self.held.take() else { return Ok(()) };
        // While the sockets are ours. A port that could not be closed stays on record for whoever is next.
        let ports: Vec<Published> = self.published();
        let unpublished = act::close_ports(&ports, self.address, true).and_then(|()| lease.clear());
        self.ports.clear();
        // The last one out removes every link there is. The lease lasts until ours is gone, by whomever.
        drop(presence);
        let taken_down = self.network.take_down_if_empty();
        let unlinked = match taken_down {
            Ok(true) => Ok(()),
            _ => act::perform(&plan::leave(self.network.record(), self.address), None),
        };
        drop(lease);
        let failures: Vec<Error> =
            [unpublished, unlinked, taken_down.map(drop)].into_iter().filter_map(Result::err).collect();
        let Some(first) = failures.first() else { return Ok(()) };
        let all: Vec<String> = failures.iter().map(Error::to_string).collect();
        Err(Error::new(first.kind(), format!("leave network `{}`: {}", self.network.name(), all.join("; "))))
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        let _ = self.give_up();
    }
}
