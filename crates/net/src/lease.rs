//! Addresses as locks: `leases/<ip>` is held by whoever has the address, `leases/<ip>.json` says who that is,
//! `names/<name>/<ip>` is how it is found. All three count only while the lock is held, so that a killed
//! holder's address is free and its names are gone that instant; what it left is swept up by the next holder.

use std::fs::File;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::Path;

use coracle_host::{Call, Dir, Lock};
use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::ports::Published;
use crate::record::Record;
use crate::{Error, Kind, Result, act};

/// Who has an address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    pub(crate) container: String,
    /// As given; compared without regard to case.
    pub(crate) names: Vec<String>,
    /// Written before they are opened, so that they are closed before somebody else has the address.
    #[serde(default)]
    pub(crate) ports: Vec<Published>,
}

impl Holder {
    pub(crate) fn is_called(&self, name: &str) -> bool {
        self.names.iter().any(|own| own.eq_ignore_ascii_case(name))
    }
}

/// The two directories of a network that change.
#[derive(Clone, Debug)]
pub(crate) struct Book {
    leases: Dir,
    names: Dir,
}

impl Book {
    pub(crate) fn open(network: &Dir) -> Result<Book> {
        Ok(Book { leases: network.dir("leases")?, names: network.dir("names")? })
    }

    /// Who holds the address now.
    pub(crate) fn holder(&self, address: Ipv4Addr) -> Result<Option<Holder>> {
        if !Lock::is_held(&self.leases, address.to_string())? {
            return Ok(None);
        }
        self.written(address)
    }

    /// What is written about an address, held or not.
    fn written(&self, address: Ipv4Addr) -> Result<Option<Holder>> {
        let bytes = self.leases.read_if_there(record_name(address))?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// All addresses that are held, in order.
    pub(crate) fn held(&self) -> Result<Vec<(Ipv4Addr, Option<Holder>)>> {
        let mut held = Vec::new();
        for address in addresses(&self.leases)? {
            if Lock::is_held(&self.leases, address.to_string())? {
                held.push((address, self.written(address)?));
            }
        }
        held.sort_by_key(|(address, _)| *address);
        Ok(held)
    }

    /// Closes what those published who are no more. Says how many there were.
    pub(crate) fn sweep(&self) -> Result<usize> {
        let mut swept = 0;
        for address in addresses(&self.leases)? {
            if self.written(address)?.is_some_and(|holder| !holder.ports.is_empty()) {
                swept += usize::from(self.try_take(address)?.is_some());
            }
        }
        Ok(swept)
    }

    /// The addresses of those who go by the name now, in order.
    pub(crate) fn find(&self, name: &str) -> Result<Vec<Ipv4Addr>> {
        let Some(entry) = self.names.dir_if_there(name.to_ascii_lowercase())? else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for address in addresses(&entry)? {
            if self.holder(address)?.is_some_and(|holder| holder.is_called(name)) {
                found.push(address);
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Takes the wanted address, or the first free one.
    pub(crate) fn take(&self, record: &Record, wanted: Option<Ipv4Addr>) -> Result<Lease> {
        if let Some(address) = wanted {
            return self.take_wanted(record, address);
        }
        let free = record.subnet.hosts().filter(|address| *address != record.gateway);
        for address in free {
            if let Some(lease) = self.try_take(address)? {
                return Ok(lease);
            }
        }
        let all = record.subnet.capacity().saturating_sub(1);
        let text = format!("all {all} addresses of {} are leased", record.subnet);
        Err(Error::new(Kind::Exhausted, text))
    }

    fn take_wanted(&self, record: &Record, address: Ipv4Addr) -> Result<Lease> {
        if !crate::spec::is_host(&record.subnet, address) {
            let text = format!("{address} is no host address of {}", record.subnet);
            return Err(Error::new(Kind::Invalid, text));
        }
        if address == record.gateway {
            return Err(Error::new(Kind::InUse, format!("address {address} is in use by the gateway")));
        }
        if let Some(lease) = self.try_take(address)? {
            return Ok(lease);
        }
        let by =
            self.written(address)?.map(|holder| format!(" by {}", described(&holder))).unwrap_or_default();
        Err(Error::new(Kind::InUse, format!("address {address} is in use{by}")))
    }

    fn try_take(&self, address: Ipv4Addr) -> Result<Option<Lease>> {
        let Some(lock) = Lock::try_exclusive(&self.leases, address.to_string())? else { return Ok(None) };
        let lease = Lease { address, book: self.clone(), _lock: lock };
        // Before the record of them goes, and long before somebody answers at the address.
        if let Some(dead) = self.written(address)? {
            act::close_ports(&dead.ports, address, false)?;
        }
        lease.clear()?;
        Ok(Some(lease))
    }
}

/// An address, had as long as this lives.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) address: Ipv4Addr,
    book: Book,
    _lock: Lock,
}

impl Lease {
    /// Makes the holder known. Not forced to disk: a lease outlives no reboot.
    pub(crate) fn publish(&self, holder: &Holder) -> Result<()> {
        let Book { leases, names } = &self.book;
        let (staged, name) = (format!(".{}", self.address), record_name(self.address));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
        let mut file = File::from(leases.file(&staged, flags, 0o644)?);
        let bytes = serde_json::to_vec(holder).unwrap_or_default(); // Strings only: it can't fail.
        file.write_all(&bytes).call(|| format!("write({:?})", leases.path_of(&staged)))?;
        leases.rename(&staged, leases, &name)?;
        for name in &holder.names {
            mark(names, &name.to_ascii_lowercase(), &self.address.to_string())?;
        }
        Ok(())
    }

    /// Takes back what was published, by this holder or by one who died.
    pub(crate) fn clear(&self) -> Result<()> {
        let Book { leases, names } = &self.book;
        let Some(old) = self.book.written(self.address)? else { return Ok(()) };
        // The record last: it knows which marks there are, should this be cut short.
        for name in &old.names {
            let name = name.to_ascii_lowercase();
            if crate::spec::name_problem("name", &name, 253).is_none() {
                unmark(names, &name, &self.address.to_string())?;
            }
        }
        leases.remove_file(record_name(self.address)).or_else(absent)?;
        Ok(())
    }
}

pub(crate) fn described(holder: &Holder) -> String {
    match holder.names.first() {
        Some(name) if *name != holder.container => format!("{name} ({})", holder.container),
        _ => holder.container.clone(),
    }
}

fn record_name(address: Ipv4Addr) -> String {
    format!("{address}.json")
}

/// The entries that are addresses.
fn addresses(dir: &Dir) -> Result<Vec<Ipv4Addr>> {
    let names = match dir.names() {
        Err(error) if error.errno() == Some(Errno::NOENT) => Vec::new(),
        names => names?,
    };
    Ok(names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect())
}

/// Somebody else who leaves may remove the directory of a name between our making and our using it.
fn mark(names: &Dir, name: &str, address: &str) -> Result<()> {
    let mut tries = 0;
    loop {
        let done = names
            .make(name, 0o755)
            .and_then(|entry| entry.file(address, OFlags::WRONLY | OFlags::CREATE, 0o644).map(drop));
        tries += 1;
        match done {
            Err(error) if error.errno() == Some(Errno::NOENT) && tries < 1000 => {}
            done => return Ok(done?),
        }
    }
}

fn unmark(names: &Dir, name: &str, address: &str) -> Result<()> {
    let Some(entry) = names.dir_if_there(name)? else { return Ok(()) };
    entry.remove_file(address).or_else(absent)?;
    // The last one out. Others may still be called that, or somebody may just come in.
    let removed = rustix::fs::unlinkat(names, Path::new(name), rustix::fs::AtFlags::REMOVEDIR);
    match removed {
        Ok(()) | Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT) => Ok(()),
        Err(errno) => Err(Error::os(format!("rmdir({:?})", names.path_of(name)), errno)),
    }
}

fn absent(error: coracle_host::Error) -> coracle_host::Result<()> {
    if error.errno() == Some(Errno::NOENT) { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests;
