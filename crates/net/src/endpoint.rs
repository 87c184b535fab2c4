//! A place on a network, had as long as its value lives.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd};

use coracle_host::{Lock, Namespace};

use crate::error::Doing;
use crate::hold::Held;
use crate::lease::{Holder, Lease};
use crate::ports::Published;
use crate::{Driver, Error, Join, Kind, Mac, Network, Result, Seat, act, plan, spec};

/// A network namespace's place on a network: its lease, its link, its names.
///
/// Dropping it gives all of that up, as [`Endpoint::leave`] does, which also reports failures. When the process
/// is killed, the address and the names are free at once; the link goes with the namespace, or with
/// [`crate::Networks::reclaim`].
#[must_use = "a place on a network is given up when it is dropped"]
#[derive(Debug)]
pub struct Endpoint {
    network: Network,
    seat: Seat,
    netns: Namespace,
    holder: Holder,
    ports: Vec<Held>,
    held: Option<(Lease, Lock)>,
}

/// How a driver takes a place away.
type Leave = fn(&dyn Driver, &Network, &Seat, BorrowedFd<'_>) -> Result<()>;

impl Endpoint {
    pub(crate) fn new(
        network: Network,
        presence: Lock,
        lease: Lease,
        (ports, routed): (Vec<Held>, Vec<Published>),
        seat: Seat,
        join: &Join<'_>,
    ) -> Result<Endpoint> {
        let published = ports.iter().flat_map(|held| held.published.iter().copied()).chain(routed);
        let holder = Holder {
            container: join.container.clone(),
            names: join.names.clone(),
            ports: published.collect(),
            ipv6: seat.ipv6,
            mac: (seat.mac != Mac::of(seat.address)).then_some(seat.mac),
        };
        let netns = Namespace::try_from(join.netns)?;
        Ok(Endpoint { network, seat, netns, holder, ports, held: Some((lease, presence)) })
    }

    pub(crate) fn make_known(&self) -> Result<()> {
        self.held.as_ref().map_or(Ok(()), |(lease, _)| lease.publish(&self.holder))
    }

    pub(crate) fn seat(&self) -> &Seat {
        &self.seat
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Its IPv4 address there.
    pub fn address(&self) -> Ipv4Addr {
        self.seat.address
    }

    /// Its IPv6 address there, where the network has IPv6.
    pub fn ipv6(&self) -> Option<Ipv6Addr> {
        self.seat.ipv6
    }

    /// All its addresses, that of IPv4 first.
    pub fn addresses(&self) -> Vec<IpAddr> {
        [Some(IpAddr::V4(self.seat.address)), self.seat.ipv6.map(IpAddr::V6)].into_iter().flatten().collect()
    }

    /// The length of the IPv4 subnet's prefix in bits.
    pub fn prefix_len(&self) -> u8 {
        self.network.pool_of(self.seat.address).map_or(32, |pool| pool.subnet.prefix_len())
    }

    /// The length of the IPv6 subnet's prefix in bits.
    pub fn ipv6_prefix_len(&self) -> Option<u8> {
        Some(self.network.pool_of(self.seat.ipv6?)?.subnet.prefix_len())
    }

    /// Where the IPv4 default route leads: the host's address on a bridge, the router's on a macvlan.
    pub fn gateway(&self) -> Ipv4Addr {
        match self.network.pool_of(self.seat.address).map(|pool| pool.gateway) {
            Some(IpAddr::V4(gateway)) => gateway,
            _ => self.network.gateway(),
        }
    }

    /// Where the IPv6 default route leads.
    pub fn ipv6_gateway(&self) -> Option<Ipv6Addr> {
        match self.network.pool_of(self.seat.ipv6?)?.gateway {
            IpAddr::V6(gateway) => Some(gateway),
            IpAddr::V4(_) => None,
        }
    }

    /// Its hardware address.
    pub fn mac(&self) -> Mac {
        self.seat.mac
    }

    /// The name of the interface inside.
    pub fn interface(&self) -> &str {
        &self.seat.interface
    }

    /// The name of the interface's other end, on the host, where the network is a bridge.
    pub fn host_interface(&self) -> String {
        plan::veth_name(self.network.id(), self.seat.address)
    }

    /// The names that it is found by.
    pub fn names(&self) -> &[String] {
        &self.holder.names
    }

    /// Other names from now on, in place of all that it has; see [`Join::names`]. A name in both is found all the time.
    ///
    /// # Errors
    /// `Invalid` for what is no name; else as of writing the lease.
    pub fn rename<S: Into<String>>(&mut self, names: impl IntoIterator<Item = S>) -> Result<()> {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        let phrase = || format!("rename `{}` on network `{}`", self.holder.container, self.network.name());
        let problems = spec::names_problems(&names);
        if !problems.is_empty() {
            return Err(Error::new(Kind::Invalid, problems.join("; "))).doing(phrase);
        }
        let renamed = Holder { names, ..self.holder.clone() };
        if let Some((lease, _)) = &self.held {
            lease.rename(&self.holder, &renamed).doing(phrase)?;
        }
        self.holder = renamed;
        Ok(())
    }

    /// The ports of the host that lead to it: those with a port of the host's in the order they were asked for, then
    /// those that are open without one. What was left open is filled in: `0.0.0.0` (and `::`) for no address, and the
    /// port that was free.
    pub fn published(&self) -> Vec<Published> {
        self.holder.ports.clone()
    }

    /// Leaves the network: ports and names first, then the link, then the lease. The last one out takes the bridge and its
    /// rules down. Call it, or drop the value, on a thread of the namespace that it was joined from.
    ///
    /// # Errors
    /// All failures in one; every step is done whatever the others say.
    pub fn leave(mut self) -> Result<()> {
        self.give_up(|driver, network, seat, netns| driver.leave(network, seat, netns))
    }

    /// [`Endpoint::leave`] for a namespace that is about to end, in a tenth of the time: no packet passes any more, but
    /// what is left of the link inside is removed by the kernel when the last descriptor of the namespace is closed and
    /// the last process in it has ended.
    ///
    /// # Errors
    /// As of [`Endpoint::leave`].
    pub fn leave_behind(mut self) -> Result<()> {
        self.give_up(|driver, network, seat, netns| driver.leave_behind(network, seat, netns))
    }

    fn give_up(&mut self, leave: Leave) -> Result<()> {
        let Some((lease, presence)) = self.held.take() else { return Ok(()) };
        let Seat { address, ipv6, .. } = self.seat;
        // While the sockets are ours. A port that could not be closed stays on record for whoever is next.
        let unpublished =
            act::close_ports(&self.holder.ports, address, ipv6, true).and_then(|()| lease.clear());
        self.ports.clear();
        let driver = self.network.carrier();
        let unlinked = leave(driver.as_ref(), &self.network, &self.seat, self.netns.as_fd());
        // The lease lasts until the link is gone.
        drop(presence);
        let taken_down = self.network.take_down_if_empty();
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
        let _ = self.give_up(|driver, network, seat, netns| driver.leave(network, seat, netns));
    }
}
