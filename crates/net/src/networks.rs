//! The networks of one state directory: `networks/<name>/{record, lock, leases/, names/}`.

use std::collections::HashSet;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use coracle_host::{Call, Dir, Lock, Staging, random_hex};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::driver::{self, Driver, Unknown};
use crate::ephemeral::{Ephemeral, OWNER};
use crate::error::Doing;
use crate::network::{LOCK, Network};
use crate::record::{Record, VERSION};
use crate::{Error, Filter, Kind, NetworkSpec, Pool, Result, Subnet, act, facts, ipam, pool, spec};

/// Held while a subnet is chosen, so that no two networks get the same. A name that no network can have.
const CHOOSING: &str = ".lock";

const RECORD: &str = "record";

/// The networks of one state directory. Cheap to clone; many processes may share the directory.
///
/// Kernel objects are made in the network namespace of the calling thread, and only while somebody is on a
/// network: creating one writes a record, no more.
#[derive(Clone, Debug)]
pub struct Networks {
    dir: Dir,
    staging: Staging,
    drivers: Arc<[Arc<dyn Driver>]>,
}

impl Networks {
    /// `dir` holds a directory for each network, `staging` is on the same file system.
    pub fn new(dir: Dir, staging: Staging) -> Networks {
        Networks { dir, staging, drivers: driver::built_in().into() }
    }

    /// With another driver, in place of one of the same name if there is.
    pub fn with_driver(mut self, driver: Arc<dyn Driver>) -> Networks {
        let others = self.drivers.iter().filter(|other| other.name() != driver.name());
        self.drivers = others.cloned().chain([driver.clone()]).collect();
        self
    }

    fn driver(&self, name: &str) -> Arc<dyn Driver> {
        let known = self.drivers.iter().find(|driver| driver.name() == name);
        known.cloned().unwrap_or_else(|| Arc::new(Unknown(name.into())))
    }

    /// Creates a network.
    ///
    /// # Errors
    /// `Invalid` with everything that is wrong with the spec, an unknown driver or option among it; `AlreadyExists`;
    /// `InUse` when a wanted subnet overlaps another network or an address of the host, or another network has the
    /// interface or bridge that is named; `Exhausted` when the default pools are used up.
    pub fn create(&self, spec: &NetworkSpec) -> Result<Network> {
        let created = self.try_create(spec, false).doing(|| format!("create network `{}`", spec.name));
        created.map(|(network, _)| network)
    }

    /// Creates a network that goes with the value, and with this process however it ends: for tests. Nothing is waited for,
    /// because none of it survives.
    ///
    /// # Errors
    /// As of [`Networks::create`].
    pub fn create_ephemeral(&self, spec: &NetworkSpec) -> Result<Ephemeral> {
        let created = self.try_create(spec, true).doing(|| format!("create network `{}`", spec.name));
        created.map(|(network, owner)| Ephemeral::new(network, self.clone(), owner))
    }

    fn try_create(&self, spec: &NetworkSpec, ephemeral: bool) -> Result<(Network, Option<Lock>)> {
        let driver = self.driver(&spec.driver);
        let (wish, mut problems) = spec.wish();
        problems.extend(driver.problems(spec));
        if !problems.is_empty() {
            return Err(Error::new(Kind::Invalid, problems.join("; ")));
        }
        let _choosing = Lock::exclusive(&self.dir, CHOOSING)?;
        let others = self.list()?;
        if others.iter().any(|other| other.name() == spec.name) {
            return Err(taken());
        }
        let id = random_hex(32)?;
        let given: Vec<Subnet> = wish.pools.iter().map(|pool| pool.subnet).collect();
        let mut pools = wish.pools;
        wanted(&given, &others, driver.is_of_this_host())?;
        if wish.choose_ipv4 {
            pools.push(ipam::plain(free(&others, &given, &id, pool::choose)?));
        }
        if wish.choose_ipv6 {
            pools.push(ipam::plain(free(&others, &given, &id, pool::choose_ipv6)?));
        }
        pools.sort_by_key(|pool| pool.subnet.is_ipv6());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let record = Record {
            version: VERSION,
            id,
            name: spec.name.clone(),
            driver: spec.driver.clone(),
            created: now,
            pools,
            internal: spec.internal,
            mtu: spec.mtu,
            options: spec.options.clone(),
            labels: spec.labels.clone(),
            ephemeral,
        };
        let staged = self.staging.dir()?;
        staged.dir().make_new("leases", 0o755)?;
        staged.dir().make_new("names", 0o755)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let mut file = File::from(staged.dir().file(RECORD, flags, 0o644)?);
        file.write_all(&record.to_bytes()).call(|| format!("write({:?})", staged.dir().path_of(RECORD)))?;
        // Held before anybody sees the network, and the same file after the rename.
        let owner = match ephemeral {
            true => Lock::try_exclusive(staged.dir(), OWNER)?,
            false => None,
        };
        // While nobody knows it yet: a claim is a question to the network as it will be.
        let network = Network::open(staged.dir().clone(), record, driver.clone())?;
        if let Some(claim) = driver.claim(&network) {
            let same = |other: &&Network| {
                other.driver() == driver.name() && driver.claim(other).as_ref() == Some(&claim)
            };
            if let Some(other) = others.iter().find(same) {
                let text = format!("{claim} is that of network `{}`", other.name());
                return Err(Error::new(Kind::InUse, text));
            }
        }
        self.forget_unwritten(&spec.name)?;
        match staged.place_new(&self.dir, &spec.name) {
            Err(error) if error.kind() == Kind::AlreadyExists => return Err(taken()),
            done => done?,
        }
        // Once, and under the final name: the file and the way to it are in one transaction of the file system's journal. A
        // power cut before leaves an empty record at worst, which counts as none.
        if !ephemeral {
            file.sync_all().call(|| format!("fsync({:?})", self.dir.path_of(&spec.name).join(RECORD)))?;
        }
        Ok((Network::open(self.dir.dir(&spec.name)?, network.record().clone(), driver)?, owner))
    }

    /// Removes what a power cut left of a network that was being made. Nobody else is making one: the caller has
    /// [`CHOOSING`].
    fn forget_unwritten(&self, name: &str) -> Result<()> {
        let Some(dir) = self.dir.dir_if_there(name)? else { return Ok(()) };
        if read(&dir)?.is_none() {
            self.staging.trash(&self.dir, name)?;
        }
        Ok(())
    }

    /// The network of that name, if there is one.
    ///
    /// # Errors
    /// `Corrupt` or `Unsupported` for its record; else as of openat(2).
    pub fn find(&self, name: &str) -> Result<Option<Network>> {
        match self.look(name)? {
            Some(network) if network.is_abandoned()? && self.sweep_away(&network) => Ok(None),
            found => Ok(found),
        }
    }

    /// Removes a network whose owner is gone. Whether it is: not while somebody is on it, or where we may not.
    fn sweep_away(&self, network: &Network) -> bool {
        match self.take_away(network) {
            Ok(()) => true,
            Err(error) => error.kind() == Kind::NotFound || error.errno() == Some(Errno::NOENT),
        }
    }

    fn look(&self, name: &str) -> Result<Option<Network>> {
        if spec::name_problem("network name", name, 128).is_some() {
            return Ok(None);
        }
        let Some(dir) = self.dir.dir_if_there(name)? else { return Ok(None) };
        match read(&dir)? {
            Some(record) => {
                let driver = self.driver(&record.driver);
                Network::open(dir, record, driver).map(Some)
            }
            None => Ok(None),
        }
    }

    /// The network of the spec's name, created if there is none. An existing one is taken as it is.
    ///
    /// # Errors
    /// As of [`Networks::find`] and [`Networks::create`].
    pub fn open(&self, spec: &NetworkSpec) -> Result<Network> {
        loop {
            if let Some(network) = self.find(&spec.name)? {
                return Ok(network);
            }
            match self.create(spec) {
                Err(error) if error.kind() == Kind::AlreadyExists => {}
                done => return done,
            }
        }
    }

    /// All networks, by name.
    ///
    /// # Errors
    /// As of [`Networks::find`].
    pub fn list(&self) -> Result<Vec<Network>> {
        let mut networks = Vec::new();
        for name in self.names()? {
            networks.extend(self.find(&name)?);
        }
        Ok(networks)
    }

    /// The networks that a filter lets through, by name.
    ///
    /// # Errors
    /// As of [`Networks::list`] and [`Filter::matches`].
    pub fn select(&self, filter: &Filter) -> Result<Vec<Network>> {
        let mut networks = Vec::new();
        for network in self.list()? {
            if filter.matches(&network)? {
                networks.push(network);
            }
        }
        Ok(networks)
    }

    /// Removes all networks that nobody is on and that `which` says yes to. Their names, in order.
    ///
    /// # Errors
    /// The first failure, after all networks were tried.
    pub fn prune(&self, mut which: impl FnMut(&Network) -> bool) -> Result<Vec<String>> {
        let (mut removed, mut failure) = (Vec::new(), None);
        for network in self.list()?.into_iter().filter(|network| which(network)) {
            match self.remove(network.name()) {
                Ok(()) => removed.push(network.name().to_owned()),
                Err(error) if matches!(error.kind(), Kind::InUse | Kind::NotFound) => {}
                Err(error) => {
                    failure.get_or_insert(error);
                }
            }
        }
        failure.map_or(Ok(removed), Err)
    }

    /// Removes a network that nobody is on.
    ///
    /// # Errors
    /// `NotFound`; `InUse` naming who is on it; `Invalid` for `host` and `none`.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.try_remove(name).doing(|| format!("remove network `{name}`"))
    }

    fn try_remove(&self, name: &str) -> Result<()> {
        if spec::PREDEFINED.contains(&name) {
            return Err(Error::new(Kind::Invalid, "it is always there and can't be removed"));
        }
        let missing = || Error::new(Kind::NotFound, "there is no such network");
        let network = self.look(name)?.ok_or_else(missing)?;
        self.take_away(&network)
    }

    /// Who holds the network's lock alone knows that it still is the one of its name.
    fn take_away(&self, network: &Network) -> Result<()> {
        let Some(_alone) = Lock::try_exclusive(network.dir(), LOCK)? else { return Err(network.in_use()) };
        let driver = network.carrier();
        if driver.is_left(network)? {
            driver.take_down(network)?;
        }
        Ok(self.staging.trash(&self.dir, network.name())?)
    }

    /// Removes bridges, links and rules of networks that nobody is on any more, which killed processes left, and the
    /// ephemeral networks of these. Says how many networks had some. Of networks in use only the published ports of the dead are removed. Who lacks
    /// the privilege to look has left nothing, either.
    ///
    /// # Errors
    /// The first failure, after all networks were tried.
    pub fn reclaim(&self) -> Result<usize> {
        let known: HashSet<String> = match act::leftovers() {
            Err(error) if error.kind() == Kind::Denied => return Ok(0),
            known => known?.into_iter().collect(),
        };
        // Other drivers leave what only they know.
        let known_all = self.drivers.iter().all(|driver| driver::is_built_in(driver.name()));
        let networks = if known.is_empty() && known_all { Vec::new() } else { self.list()? };
        let (mut reclaimed, mut failure) = (0, None);
        for network in networks {
            let driver = network.carrier();
            let traced = driver.trace(&network).is_none_or(|trace| known.contains(&trace));
            if !traced || !driver.is_left(&network)? {
                continue;
            }
            let done = match network.take_down_if_empty() {
                Ok(false) => network.sweep().map(|_| false),
                done => done,
            };
            match done.doing(|| format!("reclaim network `{}`", network.name())) {
                Ok(done) => reclaimed += usize::from(done),
                Err(error) => {
                    failure.get_or_insert(error);
                }
            }
        }
        act::dismantle_if_empty()?;
        for name in self.names()? {
            if self.dir.has(Path::new(&name).join(OWNER))? {
                self.find(&name)?;
            }
        }
        failure.map_or(Ok(reclaimed), Err)
    }

    fn names(&self) -> Result<Vec<String>> {
        let names = self.dir.names()?.into_iter().filter_map(|name| name.into_string().ok());
        Ok(names.filter(|name| spec::name_problem("network name", name, 128).is_none()).collect())
    }
}

fn taken() -> Error {
    Error::new(Kind::AlreadyExists, "there is a network of that name")
}

fn read(dir: &Dir) -> Result<Option<Record>> {
    let bytes = dir.read_if_there(RECORD)?.filter(|bytes| !bytes.is_empty());
    bytes.map(|bytes| Record::read(&bytes, &dir.path_of("record"))).transpose()
}

/// Whether subnets that were named can be had.
fn wanted(subnets: &[Subnet], others: &[Network], of_this_host: bool) -> Result<()> {
    if subnets.is_empty() {
        return Ok(());
    }
    let given = others.iter().flat_map(|other| other.pools().iter().map(move |pool| (other, pool)));
    for (other, Pool { subnet: taken, .. }) in given {
        if let Some(subnet) = subnets.iter().find(|subnet| taken.overlaps(subnet)) {
            let text = format!("subnet {subnet} overlaps that of network `{}` ({taken})", other.name());
            return Err(Error::new(Kind::InUse, text));
        }
    }
    if !of_this_host {
        return Ok(());
    }
    // Routes don't count here: who names a subnet may want just that part of a larger one.
    for taken in facts::occupied()?.addresses {
        if let Some(subnet) = subnets.iter().find(|subnet| taken.overlaps(subnet)) {
            let text = format!("subnet {subnet} overlaps {taken}, which this host is in");
            return Err(Error::new(Kind::InUse, text));
        }
    }
    Ok(())
}

/// A subnet of the default pools that nobody has. The search starts at a place that follows from the network's id.
fn free(
    others: &[Network],
    given: &[Subnet],
    id: &str,
    choose: fn(&[Subnet], u64) -> Option<Subnet>,
) -> Result<Subnet> {
    let occupied = facts::occupied()?;
    let mut taken: Vec<Subnet> = others.iter().flat_map(Network::pools).map(|pool| pool.subnet).collect();
    taken.extend(given);
    taken.extend(occupied.addresses);
    taken.extend(occupied.routes);
    let start = u64::from_str_radix(id.get(..10).unwrap_or("0"), 16).unwrap_or(0);
    choose(&taken, start).ok_or_else(|| {
        let text =
            "the default pools are used up (10.64.0.0/12, 10.112.0.0/12, 172.24.0.0/14); give it a subnet";
        Error::new(Kind::Exhausted, text)
    })
}
