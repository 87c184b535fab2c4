//! What carries a network: the trait, and the drivers that come with the crate.

mod bridge;
mod macvlan;
mod unknown;

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

pub(crate) use bridge::Bridge;
pub(crate) use macvlan::Macvlan;
pub(crate) use unknown::Unknown;

use crate::plan::Plan;
use crate::ports::Published;
use crate::{Error, Kind, Mac, Network, NetworkSpec, Result};

pub(crate) const BRIDGE: &str = "bridge";
pub(crate) const MACVLAN: &str = "macvlan";

/// One namespace's place on a network, as its driver has to make it. The addresses are leased already.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Seat {
    /// Its IPv4 address. [`Network::pool_of`] says with which prefix and gateway.
    pub address: Ipv4Addr,
    /// Its IPv6 address, where the network has IPv6.
    pub ipv6: Option<Ipv6Addr>,
    /// Its hardware address.
    pub mac: Mac,
    /// The name of the interface inside.
    pub interface: String,
    /// Whether default routes go this way.
    pub default_route: bool,
}

/// How a network carries packets. Names, addresses, records and locks are the crate's: a driver gets a leased place and
/// makes the kernel's objects for it.
///
/// All calls come on a thread of the network namespace that the network is in, hold the network's lock, shared for
/// [`Driver::join`], [`Driver::publish`] and [`Driver::leave`] and exclusively for [`Driver::take_down`], and may come
/// from several processes at once. What a call begins must be found and removed by `take_down`, also when its process
/// was killed in the middle.
///
/// # Several hosts
///
/// An overlay is a driver like others. What it needs beyond the host is its own: the key-value store is named by a driver
/// option ([`NetworkSpec::option_value`], [`Network::options`]), and whom else it has learnt of there is written to the
/// kernel (tunnels, neighbours) in [`Driver::join`] and by a thread of its own while a network is in use; [`Driver::trace`]
/// and [`Driver::is_left`] tell what to remove after a crash. Leases are locks of one host, so that every host has a part of
/// the subnet to itself ([`NetworkSpec::range`]); names of other hosts' containers are answered by one more
/// [`crate::dns::Names`] beside [`Network::zone`]. [`Driver::is_of_this_host`] says no: gateway and subnet are shared.
///
/// Drivers are known by the name in a network's record, so that programs with and without one can share a state
/// directory: who lacks it may list and inspect its networks, and is refused to join them.
pub trait Driver: fmt::Debug + Send + Sync {
    /// The word for it in records and on command lines.
    fn name(&self) -> &str;

    /// Everything that it can't do of what a network is to be, options above all: what it doesn't know must be here.
    fn problems(&self, spec: &NetworkSpec) -> Vec<String>;

    /// Whether the host itself has the gateways' addresses, so that a subnet must not be one that the host is in
    /// already. Otherwise it is the subnet of a network that exists outside.
    fn is_of_this_host(&self) -> bool {
        true
    }

    /// What two networks can't both have, the interface below them for example.
    fn claim(&self, _network: &Network) -> Option<String> {
        None
    }

    /// The hardware address of a place for which none is asked.
    ///
    /// # Errors
    /// What it takes to know it.
    fn mac(&self, _network: &Network, address: Ipv4Addr) -> Result<Mac> {
        Ok(Mac::of(address))
    }

    /// What [`Driver::join`] would do.
    ///
    /// # Errors
    /// What it takes to know it.
    fn plan(&self, _network: &Network, _seat: &Seat) -> Result<Plan> {
        Ok(Plan::by_driver(self.name()))
    }

    /// Brings the network up as far as it isn't, and gives `netns` its place.
    ///
    /// # Errors
    /// Whatever fails. [`Driver::leave`] is called afterwards.
    fn join(&self, network: &Network, seat: &Seat, netns: BorrowedFd<'_>) -> Result<()>;

    /// Whether it has [`Driver::publish`]. Asked before anything is done.
    fn publishes(&self) -> bool {
        false
    }

    /// Lets ports of the host lead to a place. Their sockets are bound by the caller.
    ///
    /// # Errors
    /// `Unsupported` unless the driver has it.
    fn publish(&self, _network: &Network, _seat: &Seat, _ports: &[Published]) -> Result<()> {
        Err(Error::new(Kind::Unsupported, format!("driver `{}` publishes no ports", self.name())))
    }

    /// What [`Driver::publish`] would do.
    ///
    /// # Errors
    /// What it takes to know it.
    fn plan_ports(&self, _network: &Network, _seat: &Seat, _ports: &[Published]) -> Result<Plan> {
        Ok(Plan::default())
    }

    /// Takes a place away again, also one that was made in part, or not at all. `netns` is the namespace, which may be
    /// about to end.
    ///
    /// # Errors
    /// Whatever fails.
    fn leave(&self, network: &Network, seat: &Seat, netns: BorrowedFd<'_>) -> Result<()>;

    /// [`Driver::leave`] for a namespace that ends as soon as the last descriptor of it is closed: what is in it may be
    /// left to that. From here on nothing passes.
    ///
    /// # Errors
    /// Whatever fails.
    fn leave_behind(&self, network: &Network, seat: &Seat, netns: BorrowedFd<'_>) -> Result<()> {
        self.leave(network, seat, netns)
    }

    /// Removes everything of the network that nobody is on from the kernel. What isn't there is fine.
    ///
    /// # Errors
    /// Whatever fails.
    fn take_down(&self, network: &Network) -> Result<()>;

    /// The name of a link of this host that is there if anything of the network is.
    fn trace(&self, _network: &Network) -> Option<String> {
        None
    }

    /// Whether anything is there that [`Driver::take_down`] would remove.
    ///
    /// # Errors
    /// What it takes to know it.
    fn is_left(&self, network: &Network) -> Result<bool>;
}

/// The drivers that are always there.
pub(crate) fn built_in() -> Vec<Arc<dyn Driver>> {
    vec![Arc::new(Bridge), Arc::new(Macvlan)]
}

pub(crate) fn is_built_in(name: &str) -> bool {
    matches!(name, BRIDGE | MACVLAN)
}
