//! The networks of one state directory: `networks/<name>/{record, lock, leases/, names/}`.

use std::collections::HashSet;
use std::time::{SystemTime, UNIX_EPOCH};

use coracle_host::{Dir, Lock, Staging, random_hex};

use crate::error::Doing;
use crate::network::{LOCK, Network};
use crate::record::{Record, VERSION};
use crate::{Driver, Error, Filter, Kind, NetworkSpec, Result, Subnet, act, facts, plan, pool, spec};

/// Held while a subnet is chosen, so that no two networks get the same. A name that no network can have.
const CHOOSING: &str = ".lock";

/// The networks of one state directory. Cheap to clone; many processes may share the directory.
///
/// Kernel objects are made in the network namespace of the calling thread, and only while somebody is on a
/// network: creating one writes a record, no more.
#[derive(Clone, Debug)]
pub struct Networks {
    dir: Dir,
    staging: Staging,
}

impl Networks {
    /// `dir` holds a directory for each network, `staging` is on the same file system.
    pub fn new(dir: Dir, staging: Staging) -> Networks {
        Networks { dir, staging }
    }

    /// Creates a network.
    ///
    /// # Errors
    /// `Invalid` with everything that is wrong with the spec; `AlreadyExists`; `InUse` when the wanted subnet
    /// overlaps another network or an address of the host; `Exhausted` when the default pools are used up.
    pub fn create(&self, spec: &NetworkSpec) -> Result<Network> {
        self.try_create(spec).doing(|| format!("create network `{}`", spec.name))
    }

    fn try_create(&self, spec: &NetworkSpec) -> Result<Network> {
        let problems = spec.problems();
        if !problems.is_empty() {
            return Err(Error::new(Kind::Invalid, problems.join("; ")));
        }
        let _choosing = Lock::exclusive(&self.dir, CHOOSING)?;
        let others = self.records()?;
        if others.iter().any(|other| other.name == spec.name) {
            return Err(taken());
        }
        let id = random_hex(32)?;
        let subnet = match spec.subnet.as_deref().map(str::parse::<Subnet>) {
            Some(Ok(subnet)) => wanted(subnet, &others)?,
            Some(Err(problem)) => return Err(Error::new(Kind::Invalid, problem)),
            None => free(&others, &id)?,
        };
        let first = subnet.hosts().next().unwrap_or(subnet.base());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let record = Record {
            version: VERSION,
            id,
            name: spec.name.clone(),
            driver: Driver::Bridge.as_str().into(),
            created: now,
            subnet,
            gateway: spec.gateway.unwrap_or(first),
            internal: spec.internal,
            mtu: spec.mtu,
            labels: spec.labels.clone(),
        };
        let staged = self.staging.dir()?;
        staged.dir().make_new("leases", 0o755)?;
        staged.dir().make_new("names", 0o755)?;
        self.staging.write_new(staged.dir(), "record", &record.to_bytes())?;
        match staged.publish_new(&self.dir, &spec.name) {
            Err(error) if error.kind() == Kind::AlreadyExists => return Err(taken()),
            done => done?,
        }
        Network::open(self.dir.dir(&spec.name)?, record)
    }

    /// The network of that name, if there is one.
    ///
    /// # Errors
    /// `Corrupt` or `Unsupported` for its record; else as of openat(2).
    pub fn find(&self, name: &str) -> Result<Option<Network>> {
        if spec::name_problem("network name", name, 128).is_some() {
            return Ok(None);
        }
        let Some(dir) = self.dir.dir_if_there(name)? else { return Ok(None) };
        match read(&dir)? {
            Some(record) => Network::open(dir, record).map(Some),
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
        if Driver::predefined(name).is_some() {
            return Err(Error::new(Kind::Invalid, "it is always there and can't be removed"));
        }
        let missing = || Error::new(Kind::NotFound, "there is no such network");
        let network = self.find(name)?.ok_or_else(missing)?;
        let Some(_alone) = Lock::try_exclusive(network.dir(), LOCK)? else { return Err(network.in_use()) };
        if act::is_left(&network.bridge())? {
            act::perform(&plan::take_down(network.record()), None)?;
        }
        Ok(self.staging.trash(&self.dir, name)?)
    }

    /// Removes bridges, links and rules of networks that nobody is on any more, which killed processes left.
    /// Says how many networks had some. Of networks in use only the published ports of the dead are removed. Who lacks the privilege to look has left
    /// nothing, either.
    ///
    /// # Errors
    /// The first failure, after all networks were tried.
    pub fn reclaim(&self) -> Result<usize> {
        let known: HashSet<String> = match act::leftovers() {
            Err(error) if error.kind() == Kind::Denied => return Ok(0),
            known => known?.into_iter().collect(),
        };
        let networks = if known.is_empty() { Vec::new() } else { self.list()? };
        let (mut reclaimed, mut failure) = (0, None);
        for network in networks {
            if !known.contains(&plan::bridge_name(network.id())) {
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
        failure.map_or(Ok(reclaimed), Err)
    }

    fn names(&self) -> Result<Vec<String>> {
        let names = self.dir.names()?.into_iter().filter_map(|name| name.into_string().ok());
        Ok(names.filter(|name| spec::name_problem("network name", name, 128).is_none()).collect())
    }

    fn records(&self) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        for name in self.names()? {
            if let Some(dir) = self.dir.dir_if_there(&name)? {
                records.extend(read(&dir)?);
            }
        }
        Ok(records)
    }
}

fn taken() -> Error {
    Error::new(Kind::AlreadyExists, "there is a network of that name")
}

fn read(dir: &Dir) -> Result<Option<Record>> {
    let bytes = dir.read_if_there("record")?;
    bytes.map(|bytes| Record::read(&bytes, &dir.path_of("record"))).transpose()
}

fn wanted(subnet: Subnet, others: &[Record]) -> Result<Subnet> {
    if let Some(other) = others.iter().find(|other| other.subnet.overlaps(&subnet)) {
        let text = format!("subnet {subnet} overlaps that of network `{}` ({})", other.name, other.subnet);
        return Err(Error::new(Kind::InUse, text));
    }
    // Routes don't count here: who names a subnet may want just that part of a larger one.
    let occupied = facts::occupied()?;
    match occupied.addresses.iter().find(|taken| taken.overlaps(&subnet)) {
        Some(taken) => {
            Err(Error::new(Kind::InUse, format!("subnet {subnet} overlaps {taken}, which this host is in")))
        }
        None => Ok(subnet),
    }
}

fn free(others: &[Record], id: &str) -> Result<Subnet> {
    let occupied = facts::occupied()?;
    let mut taken: Vec<Subnet> = others.iter().map(|other| other.subnet).collect();
    taken.extend(occupied.addresses);
    taken.extend(occupied.routes);
    let start = u64::from_str_radix(id.get(..8).unwrap_or("0"), 16).unwrap_or(0);
    pool::choose(&taken, start).ok_or_else(|| {
        let text =
            "the default pools are used up (10.64.0.0/12, 10.112.0.0/12, 172.24.0.0/14); give it a subnet";
        Error::new(Kind::Exhausted, text)
    })
}
