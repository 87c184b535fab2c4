//! One network: what it is, who is on it, and the way onto it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use coracle_host::{Dir, Lock};
use rustix::io::Errno;

use crate::dns::Zone;
use crate::ephemeral::OWNER;
use crate::error::Doing;
use crate::lease::{self, Book, Holder};
use crate::options::Gateway;
use crate::plan::{self, Plan};
use crate::ports::{Publish, Published};
use crate::record::Record;
use crate::{Driver, Endpoint, Error, Join, Kind, Mac, Pool, Result, Seat, Subnet, hold};

/// Shared while somebody is on the network, exclusive while it is taken down or removed.
pub(crate) const LOCK: &str = "lock";

/// Exclusive while the network is brought up (briefly).
const BRINGING_UP: &str = "up";

/// A network of a state directory. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Network {
    dir: Dir,
    book: Book,
    record: Arc<Record>,
    driver: Arc<dyn Driver>,
}

/// Somebody who is on a network.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attached {
    /// Its IPv4 address there.
    pub address: Ipv4Addr,
    /// Its IPv6 address there, where the network has IPv6.
    pub ipv6: Option<Ipv6Addr>,
    /// The identifier it joined with; empty in the instant before it is known.
    pub container: String,
    /// The names it is found by.
    pub names: Vec<String>,
    /// Its hardware address.
    pub mac: Mac,
    /// The ports of the host that lead to it.
    pub ports: Vec<Published>,
}

impl Network {
    pub(crate) fn open(dir: Dir, record: Record, driver: Arc<dyn Driver>) -> Result<Network> {
        Ok(Network { book: Book::open(&dir)?, dir, record: record.into(), driver })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// 64 hexadecimal digits that no other network has.
    pub fn id(&self) -> &str {
        &self.record.id
    }

    /// The name of its driver: `bridge`, `macvlan`.
    pub fn driver(&self) -> &str {
        &self.record.driver
    }

    /// When it was created, to the second.
    pub fn created(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.record.created)
    }

    /// The addresses that it gives out, by subnet: those of IPv4 first, of which there is at least one.
    pub fn pools(&self) -> &[Pool] {
        &self.record.pools
    }

    /// The pool that an address is from.
    pub fn pool_of(&self, address: impl Into<IpAddr>) -> Option<&Pool> {
        self.record.pool_of(address)
    }

    /// Its first IPv4 subnet.
    pub fn subnet(&self) -> Subnet {
        self.record.subnet()
    }

    /// The gateway of its first IPv4 subnet: the host's own address, where the network is a bridge.
    pub fn gateway(&self) -> Ipv4Addr {
        self.record.gateway()
    }

    /// Whether it has IPv6 beside IPv4.
    pub fn has_ipv6(&self) -> bool {
        self.record.has_ipv6()
    }

    /// Whether there is no way out of it.
    pub fn is_internal(&self) -> bool {
        self.record.internal
    }

    /// The labels that it was created with.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.record.labels
    }

    /// The driver options that it was created with.
    pub fn options(&self) -> &BTreeMap<String, String> {
        &self.record.options.0
    }

    /// The largest packet in bytes, where it was asked for.
    pub fn mtu(&self) -> Option<u32> {
        self.record.mtu.or(self.record.options.mtu())
    }

    /// The name of its bridge on the host, which is there while somebody is on the network. Networks of other drivers
    /// have none.
    pub fn bridge(&self) -> String {
        plan::bridge_name(&self.record)
    }

    /// Who is on it now, by address.
    ///
    /// # Errors
    /// As of openat(2) and fcntl(2).
    pub fn attached(&self) -> Result<Vec<Attached>> {
        let held = self.book.held().doing(|| format!("list who is on network `{}`", self.name()))?;
        let attached = held.into_iter().map(|(address, holder)| {
            let Holder { container, names, ports, ipv6, mac } = holder.unwrap_or_default();
            Attached { address, ipv6, container, names, mac: mac.unwrap_or(Mac::of(address)), ports }
        });
        Ok(attached.collect())
    }

    /// Whether somebody is on it or holds it now, in any process.
    ///
    /// # Errors
    /// As of openat(2) and fcntl(2).
    pub fn is_in_use(&self) -> Result<bool> {
        match Lock::is_held(&self.dir, LOCK) {
            Err(error) if error.errno() == Some(Errno::NOENT) => Ok(false),
            held => Ok(held?),
        }
    }

    /// Whether it goes with the value that it was made with ([`crate::Ephemeral`]).
    pub fn is_ephemeral(&self) -> bool {
        self.record.ephemeral
    }

    /// Whether its owner is gone.
    pub(crate) fn is_abandoned(&self) -> Result<bool> {
        Ok(self.record.ephemeral && !Lock::is_held(&self.dir, OWNER)?)
    }

    /// Its names, for a [`crate::dns::Responder`].
    pub fn zone(&self) -> Zone {
        let subnets = self.pools().iter().map(|pool| pool.subnet).collect();
        Zone::new(self.name(), subnets, self.book.clone())
    }

    /// What [`Network::join`] would do now, without doing it. The addresses shown are the first of the subnets
    /// unless the join names others: which ones it really gets is known when they are leased.
    ///
    /// # Errors
    /// `Invalid` with everything that is wrong with the join; else as of reading the host's network.
    pub fn plan(&self, join: &Join<'_>) -> Result<Plan> {
        self.check(join)?;
        let first = |six| {
            let mut pools = self.pools().iter().filter(move |pool| pool.subnet.is_ipv6() == six);
            pools.find_map(|pool| pool.candidates().next())
        };
        let four = match first(false) {
            Some(IpAddr::V4(four)) => four,
            _ => self.gateway(),
        };
        let six = match first(true) {
            Some(IpAddr::V6(six)) => Some(six),
            _ => None,
        };
        let seat = self.seat(join, join.address.unwrap_or(four), join.ipv6.or(six))?;
        let routed: Vec<&Publish> = join.ports.iter().filter(|port| self.is_routed(port)).collect();
        let translated = join.ports.iter().filter(|port| !self.is_routed(port));
        let mut ports: Vec<Published> =
            translated.flat_map(|port| port.unbound(self.binding(), self.has_ipv6())).collect();
        ports.extend(routed.into_iter().flat_map(|port| self.routed(port, &seat)));
        Ok(self.driver.plan(self, &seat)?.then(self.driver.plan_ports(self, &seat, &ports)?))
    }

    fn seat(&self, join: &Join<'_>, address: Ipv4Addr, ipv6: Option<Ipv6Addr>) -> Result<Seat> {
        let mac = join.mac.map_or_else(|| self.driver.mac(self, address), Ok)?;
        let (interface, default_route) = (join.interface.clone(), join.default_route);
        Ok(Seat { address, ipv6, mac, interface, default_route })
    }

    /// Gives a network namespace addresses, a way out, names by which the others on the network find it, and
    /// ports of the host. All of it is there when this returns.
    ///
    /// A namespace may join several networks, one after another and while programs run in it, each by an
    /// interface of its own ([`Join::interface`]).
    ///
    /// Published ports are bound first, so that a clash is an error before anything has happened. Whoever comes
    /// from another host or another container keeps his address; the host's own loopback is seen as the gateway.
    ///
    /// Works in the network namespace of the calling thread. Takes the network's lock, shared, and then leases.
    ///
    /// # Errors
    /// `Invalid` with everything that is wrong with the join; `Exhausted` when all addresses are leased; `InUse`
    /// naming who has the wanted address or which port is taken, or where the host has the subnet already;
    /// `NotFound` when the network or the interface it is on is not there; `Unsupported` when the kernel lacks nf_tables
    /// and the network has a way out, or when the driver is unknown; `Denied` without `CAP_NET_ADMIN`.
    pub fn join(&self, join: &Join<'_>) -> Result<Endpoint> {
        self.try_join(join).doing(|| format!("join network `{}`", self.name()))
    }

    fn try_join(&self, join: &Join<'_>) -> Result<Endpoint> {
        self.check(join)?;
        let translated: Vec<Publish> =
            join.ports.iter().filter(|port| !self.is_routed(port)).cloned().collect();
        let held = hold::hold(&translated, self.binding(), self.has_ipv6())?;
        let presence = self.presence()?;
        let lease = self.book.take(&self.record, join.address, join.ipv6)?;
        let seat = self.seat(join, lease.address, lease.ipv6)?;
        let routed = join.ports.iter().filter(|port| self.is_routed(port));
        let routed: Vec<Published> = routed.flat_map(|port| self.routed(port, &seat)).collect();
        // From here on dropping the endpoint undoes whatever was done.
        let endpoint = Endpoint::new(self.clone(), presence, lease, (held, routed), seat, join)?;
        self.driver.join(self, endpoint.seat(), join.netns)?;
        endpoint.make_known()?;
        let ports = endpoint.published();
        if !ports.is_empty() {
            self.driver.publish(self, endpoint.seat(), &ports)?;
        }
        Ok(endpoint)
    }

    /// Held while the network's own kernel objects are made.
    pub(crate) fn bringing_up(&self) -> Result<Lock> {
        Ok(Lock::exclusive(&self.dir, BRINGING_UP)?)
    }

    /// Where ports are published that name no address.
    fn binding(&self) -> Option<IpAddr> {
        self.record.options.host_binding()
    }

    /// Whether a port is opened rather than translated. One that names no address is of the IPv4 side.
    fn is_routed(&self, port: &Publish) -> bool {
        let ipv6 = port.host().is_some_and(|host| host.is_ipv6());
        self.record.options.gateway(ipv6) == Gateway::Routed
    }

    /// A port as it is where nothing is translated: the endpoint's own, on both its addresses.
    fn routed(&self, port: &Publish, seat: &Seat) -> Vec<Published> {
        let addresses = [Some(IpAddr::V4(seat.address)), seat.ipv6.map(IpAddr::V6)];
        let open = |address: IpAddr| port.published(address, port.container_port());
        let wanted = |address: &IpAddr| port.host().is_none_or(|host| host.is_ipv6() == address.is_ipv6());
        addresses.into_iter().flatten().filter(wanted).map(open).collect()
    }

    /// The network's lock, shared: it stays up and stays where it is.
    fn presence(&self) -> Result<Lock> {
        match Lock::shared(&self.dir, LOCK) {
            Err(error) if error.errno() == Some(Errno::NOENT) => {
                Err(Error::new(Kind::NotFound, "it was removed"))
            }
            presence => Ok(presence?),
        }
    }

    /// Keeps the network's kernel objects, once they are there, also while nobody is on it: for who joins and leaves
    /// it again and again.
    ///
    /// # Errors
    /// `NotFound` when the network was removed.
    pub fn hold(&self) -> Result<Hold> {
        Ok(Hold { presence: Some(self.presence()?), network: self.clone() })
    }

    fn check(&self, join: &Join<'_>) -> Result<()> {
        let mut problems = join.problems();
        if !join.ports.is_empty() && !self.driver.publishes() {
            problems.push(format!("networks of driver `{}` publish no ports", self.driver.name()));
        } else if self.is_internal() && !join.ports.is_empty() {
            problems
                .push("the network is internal: nobody would reach a port that is published there".into());
        }
        let six = |port: &&Publish| port.host().is_some_and(|host| host.is_ipv6());
        if let Some(port) = join.ports.iter().find(six).filter(|_| !self.has_ipv6()) {
            problems.push(format!("publish {port}: the network has no IPv6"));
        }
        for port in join.ports.iter().filter(|port| self.is_routed(port)) {
            let own =
                port.wanted().is_none_or(|wanted| wanted == (port.container_port()..=port.container_port()));
            if !own || port.host().is_some_and(|host| !host.is_unspecified()) {
                problems
                    .push(format!("publish {port}: the network is routed, where a port is open as it is"));
            }
        }
        if !problems.is_empty() {
            return Err(Error::new(Kind::Invalid, problems.join("; ")));
        }
        Ok(())
    }

    /// Closes what those published who were killed. Says how many they were.
    pub(crate) fn sweep(&self) -> Result<usize> {
        self.book.sweep()
    }

    /// Takes the network's kernel objects down, if nobody is on it. Says whether.
    pub(crate) fn take_down_if_empty(&self) -> Result<bool> {
        match Lock::try_exclusive(&self.dir, LOCK) {
            Ok(Some(_alone)) => self.driver.take_down(self).map(|()| true),
            Ok(None) => Ok(false),
            // Removed meanwhile, which takes down first.
            Err(error) if error.errno() == Some(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn carrier(&self) -> &Arc<dyn Driver> {
        &self.driver
    }

    pub(crate) fn dir(&self) -> &Dir {
        &self.dir
    }

    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    pub(crate) fn in_use(&self) -> Error {
        let holders: Vec<String> =
            self.book.held().unwrap_or_default().into_iter().map(holder_text).collect();
        let text = match holders.is_empty() {
            true => "it is in use".into(),
            false => format!("it is in use by {}", holders.join(", ")),
        };
        Error::new(Kind::InUse, text)
    }
}

fn holder_text((address, holder): (Ipv4Addr, Option<Holder>)) -> String {
    match holder {
        Some(holder) => format!("{} at {address}", lease::described(&holder)),
        None => address.to_string(),
    }
}

/// A network kept up. Dropping it, on a thread of the namespace that the network is in, takes the network down if
/// nobody is on it.
#[must_use = "a network is kept up as long as this lives"]
#[derive(Debug)]
pub struct Hold {
    network: Network,
    presence: Option<Lock>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.presence = None;
        // What is left in the kernel is found by the next reclaim.
        let _ = self.network.take_down_if_empty();
    }
}
