//! One network: what it is, who is on it, and the way onto it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime};

use coracle_host::{Dir, Lock};
use rustix::io::Errno;

use crate::dns::Zone;
use crate::error::Doing;
use crate::lease::{self, Book, Holder};
use crate::nft::Table;
use crate::plan::{self, Plan};
use crate::ports::{Publish, Published};
use crate::record::Record;
use crate::{Endpoint, Error, Join, Kind, Mac, Result, Subnet, act, facts, hold};

/// Shared while somebody is on the network, exclusive while it is taken down or removed.
pub(crate) const LOCK: &str = "lock";

/// A network of a state directory. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Network {
    dir: Dir,
    book: Book,
    record: std::sync::Arc<Record>,
}

/// Somebody who is on a network.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attached {
    /// Its address there.
    pub address: Ipv4Addr,
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
    pub(crate) fn open(dir: Dir, record: Record) -> Result<Network> {
        Ok(Network { book: Book::open(&dir)?, dir, record: record.into() })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// 64 hexadecimal digits that no other network has.
    pub fn id(&self) -> &str {
        &self.record.id
    }

    /// The driver.
    pub fn driver(&self) -> crate::Driver {
        crate::Driver::Bridge
    }

    /// When it was created, to the second.
    pub fn created(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.record.created)
    }

    /// The addresses that it gives out.
    pub fn subnet(&self) -> Subnet {
        self.record.subnet
    }

    /// The host's own address on it.
    pub fn gateway(&self) -> Ipv4Addr {
        self.record.gateway
    }

    /// Whether there is no way out of it.
    pub fn is_internal(&self) -> bool {
        self.record.internal
    }

    /// The labels that it was created with.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.record.labels
    }

    /// The name of its bridge on the host, which is there while somebody is on the network.
    pub fn bridge(&self) -> String {
        plan::bridge_name(&self.record.id)
    }

    /// Who is on it now, by address.
    ///
    /// # Errors
    /// As of openat(2) and fcntl(2).
    pub fn attached(&self) -> Result<Vec<Attached>> {
        let held = self.book.held().doing(|| format!("list who is on network `{}`", self.name()))?;
        let attached = held.into_iter().map(|(address, holder)| {
            let Holder { container, names, ports } = holder.unwrap_or_default();
            Attached { address, container, names, mac: Mac::of(address), ports }
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

    /// Its names, for a [`crate::dns::Responder`].
    pub fn zone(&self) -> Zone {
        Zone::new(self.name(), self.subnet(), self.book.clone())
    }

    /// What [`Network::join`] would do now, without doing it. The address shown is the first of the subnet
    /// unless the join names one: which one it really gets is known when it is leased.
    ///
    /// # Errors
    /// `Invalid` with everything that is wrong with the join; else as of reading the host's network.
    pub fn plan(&self, join: &Join<'_>) -> Result<Plan> {
        self.check(join)?;
        let first = self.subnet().hosts().find(|address| *address != self.gateway());
        let address = join.address.or(first).unwrap_or(self.gateway());
        let (up, mtu) = self.bring_up()?;
        let ports: Vec<Published> = join.ports.iter().map(Publish::unbound).collect();
        let open = self.open_ports(address, &ports)?;
        let way = plan::join(&self.record, address, &join.interface, join.default_route, mtu);
        Ok(up.then(way).then(open))
    }

    fn open_ports(&self, address: Ipv4Addr, ports: &[Published]) -> Result<Plan> {
        if ports.is_empty() {
            return Ok(Plan::default());
        }
        Ok(plan::publish(&self.record, address, ports, &facts::ways_in(ports)?))
    }

    /// Gives a network namespace an address, a way out, names by which the others on the network find it, and
    /// ports of the host. All of it is there when this returns.
    ///
    /// A namespace may join several networks, one after another and while programs run in it, each by an
    /// interface of its own ([`Join::interface`]).
    ///
    /// Published ports are bound first, so that a clash is an error before anything has happened. Whoever comes
    /// from another host or another container keeps his address; the host's own loopback is seen as the gateway.
    ///
    /// Works in the network namespace of the calling thread. Takes the network's lock, shared, and then a lease.
    ///
    /// # Errors
    /// `Invalid` with everything that is wrong with the join; `Exhausted` when all addresses are leased; `InUse`
    /// naming who has the wanted address or which port is taken, or where the host has the subnet already;
    /// `NotFound` when the network
    /// was removed; `Unsupported` when the kernel lacks nf_tables and the network has a way out; `Denied`
    /// without `CAP_NET_ADMIN`.
    pub fn join(&self, join: &Join<'_>) -> Result<Endpoint> {
        self.try_join(join).doing(|| format!("join network `{}`", self.name()))
    }

    fn try_join(&self, join: &Join<'_>) -> Result<Endpoint> {
        self.check(join)?;
        let ports = hold::hold(&join.ports)?;
        let presence = match Lock::shared(&self.dir, LOCK) {
            Err(error) if error.errno() == Some(Errno::NOENT) => {
                return Err(Error::new(Kind::NotFound, "it was removed"));
            }
            presence => presence?,
        };
        let lease = self.book.take(&self.record, join.address)?;
        let address = lease.address;
        // From here on dropping the endpoint undoes whatever was done.
        let endpoint = Endpoint::new(self.clone(), presence, lease, ports, join);
        let (up, mtu) = self.bring_up()?;
        let way = plan::join(&self.record, address, &join.interface, join.default_route, mtu);
        act::perform(&up.then(way), Some(join.netns))?;
        let ports = endpoint.published();
        let (container, names) = (join.container.clone(), join.names.clone());
        endpoint.publish(&Holder { container, names, ports: ports.clone() })?;
        act::perform(&self.open_ports(address, &ports)?, None)?;
        Ok(endpoint)
    }

    /// Keeps the network's kernel objects, once they are there, also while nobody is on it: for who joins and leaves
    /// it again and again.
    ///
    /// # Errors
    /// `NotFound` when the network was removed.
    pub fn hold(&self) -> Result<Hold> {
        match Lock::shared(&self.dir, LOCK) {
            Ok(presence) => Ok(Hold { network: self.clone(), presence: Some(presence) }),
            Err(error) if error.errno() == Some(Errno::NOENT) => {
                Err(Error::new(Kind::NotFound, "it was removed"))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn check(&self, join: &Join<'_>) -> Result<()> {
        let mut problems = join.problems();
        if self.is_internal() && !join.ports.is_empty() {
            problems
                .push("the network is internal: nobody would reach a port that is published there".into());
        }
        if !problems.is_empty() {
            return Err(Error::new(Kind::Invalid, problems.join("; ")));
        }
        join.ports.iter().try_for_each(|port| port.address().map(drop))
    }

    /// What is missing for the network to be up, and the MTU that it has or will have.
    ///
    /// Somebody may have flushed all nf_tables of the host; the rules are then part of what is missing.
    fn bring_up(&self) -> Result<(Plan, u32)> {
        let bridge = self.bridge();
        if let Some(mtu) = act::ready(&bridge)? {
            let walled = match Table::open().and_then(|table| table.has(&bridge)) {
                Err(error) if self.is_internal() && error.kind() == Kind::Unsupported => true,
                walled => walled?,
            };
            if walled {
                return Ok((Plan::default(), mtu));
            }
        }
        let host = facts::host(!self.is_internal())?;
        Ok((plan::bring_up(&self.record, &host), self.record.mtu.unwrap_or_else(|| host.mtu())))
    }

    /// Closes what those published who were killed. Says how many they were.
    pub(crate) fn sweep(&self) -> Result<usize> {
        self.book.sweep()
    }

    /// Takes the network's kernel objects down, if nobody is on it. Says whether.
    pub(crate) fn take_down_if_empty(&self) -> Result<bool> {
        match Lock::try_exclusive(&self.dir, LOCK) {
            Ok(Some(_alone)) => act::perform(&plan::take_down(&self.record), None).map(|()| true),
            Ok(None) => Ok(false),
            // Removed meanwhile, which takes down first.
            Err(error) if error.errno() == Some(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
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
