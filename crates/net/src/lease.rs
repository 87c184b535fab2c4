//! Addresses as locks: `leases/<ip>` is held by whoever has the address, `leases/<ip>.json` says who that is,
//! `names/<name>/<ip>` is how it is found. All three count only while the lock is held, so that a killed
//! holder's address is free and its names are gone that instant; what it left is swept up by the next holder. Who has
//! an IPv6 address beside the other has two locks and two equal records.

use std::fs::File;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use coracle_host::{Call, Dir, Lock};
use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::ports::Published;
use crate::record::Record;
use crate::{Error, Kind, Mac, Result, act};

/// Who has an address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    pub(crate) container: String,
    /// As given; compared without regard to case.
    pub(crate) names: Vec<String>,
    /// Written before they are opened, so that they are closed before somebody else has the address.
    #[serde(default)]
    pub(crate) ports: Vec<Published>,
    #[serde(default)]
    pub(crate) ipv6: Option<Ipv6Addr>,
    /// Where it is not the one that follows from the address.
    #[serde(default)]
    pub(crate) mac: Option<Mac>,
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
    pub(crate) fn holder(&self, address: IpAddr) -> Result<Option<Holder>> {
        if !Lock::is_held(&self.leases, address.to_string())? {
            return Ok(None);
        }
        self.written(address)
    }

    /// What is written about an address, held or not.
    fn written(&self, address: IpAddr) -> Result<Option<Holder>> {
        let bytes = self.leases.read_if_there(record_name(address))?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// All holders with their IPv4 addresses, in order of these.
    pub(crate) fn held(&self) -> Result<Vec<(Ipv4Addr, Option<Holder>)>> {
        let mut held = Vec::new();
        for address in addresses(&self.leases)? {
            let IpAddr::V4(ipv4) = address else { continue };
            if Lock::is_held(&self.leases, address.to_string())? {
                held.push((ipv4, self.written(address)?));
            }
        }
        held.sort_by_key(|(address, _)| *address);
        Ok(held)
    }

    /// Closes what those published who are no more. Says how many there were.
    pub(crate) fn sweep(&self) -> Result<usize> {
        let mut swept = 0;
        for address in addresses(&self.leases)?.into_iter().filter(IpAddr::is_ipv4) {
            let has_ports = self.written(address)?.is_some_and(|holder| !holder.ports.is_empty());
            if has_ports && let Some(lock) = Lock::try_exclusive(&self.leases, address.to_string())? {
                self.sweep_up(address, &lock)?;
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// The addresses of those who go by the name now, in order.
    pub(crate) fn find(&self, name: &str) -> Result<Vec<IpAddr>> {
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

    /// Takes the wanted addresses, or the first free ones: one of IPv4, and one of IPv6 where the network has it.
    pub(crate) fn take(
        &self,
        record: &Record,
        ipv4: Option<Ipv4Addr>,
        ipv6: Option<Ipv6Addr>,
    ) -> Result<Lease> {
        let (address, lock) = self.take_one(record, false, ipv4.map(IpAddr::V4))?;
        let (mut lease, mut locks) = (Lease::new(self.clone()), vec![lock]);
        if let IpAddr::V4(address) = address {
            lease.address = address;
        }
        if record.has_ipv6() {
            let (address, lock) = self.take_one(record, true, ipv6.map(IpAddr::V6))?;
            if let IpAddr::V6(address) = address {
                lease.ipv6 = Some(address);
            }
            locks.push(lock);
        } else if let Some(ipv6) = ipv6 {
            let text = format!("{ipv6} can't be had: the network has no IPv6");
            return Err(Error::new(Kind::Invalid, text));
        }
        lease.locks = locks;
        Ok(lease)
    }

    fn take_one(&self, record: &Record, six: bool, wanted: Option<IpAddr>) -> Result<(IpAddr, Lock)> {
        if let Some(address) = wanted {
            return self.take_wanted(record, address);
        }
        let pools = || record.pools.iter().filter(|pool| pool.subnet.is_ipv6() == six);
        for address in pools().flat_map(|pool| pool.candidates()) {
            if let Some(lock) = self.try_take(address)? {
                return Ok((address, lock));
            }
        }
        let all: u128 = pools().map(|pool| pool.capacity()).sum();
        let which: Vec<String> = pools().map(|pool| pool.range.unwrap_or(pool.subnet).to_string()).collect();
        let text = format!("all {all} addresses of {} are leased", which.join(" and "));
        Err(Error::new(Kind::Exhausted, text))
    }

    fn take_wanted(&self, record: &Record, address: IpAddr) -> Result<(IpAddr, Lock)> {
        let Some(pool) = record.pool_of(address).filter(|pool| pool.subnet.has_host(address)) else {
            let pools = record.pools.iter().filter(|pool| pool.subnet.is_ipv6() == address.is_ipv6());
            let which: Vec<String> = pools.map(|pool| pool.subnet.to_string()).collect();
            let text = format!("{address} is no host address of {}", which.join(" or "));
            return Err(Error::new(Kind::Invalid, text));
        };
        if let Some(owner) = pool.owner(address) {
            return Err(Error::new(Kind::InUse, format!("address {address} is in use by {owner}")));
        }
        if let Some(lock) = self.try_take(address)? {
            return Ok((address, lock));
        }
        let by =
            self.written(address)?.map(|holder| format!(" by {}", described(&holder))).unwrap_or_default();
        Err(Error::new(Kind::InUse, format!("address {address} is in use{by}")))
    }

    fn try_take(&self, address: IpAddr) -> Result<Option<Lock>> {
        let Some(lock) = Lock::try_exclusive(&self.leases, address.to_string())? else { return Ok(None) };
        self.sweep_up(address, &lock)?;
        Ok(Some(lock))
    }

    /// Removes what a dead holder left, before somebody else answers at the address.
    fn sweep_up(&self, address: IpAddr, _held: &Lock) -> Result<()> {
        let Some(dead) = self.written(address)? else { return Ok(()) };
        if let IpAddr::V4(ipv4) = address {
            act::close_ports(&dead.ports, ipv4, dead.ipv6, false)?;
        }
        self.clear(address, &dead)
    }

    fn clear(&self, address: IpAddr, old: &Holder) -> Result<()> {
        // The record last: it knows which marks there are, should this be cut short.
        for name in &old.names {
            let name = name.to_ascii_lowercase();
            if crate::spec::name_problem("name", &name, 253).is_none() {
                unmark(&self.names, &name, &address.to_string())?;
            }
        }
        self.leases.remove_file(record_name(address)).or_else(absent)?;
        Ok(())
    }
}

/// Addresses, had as long as this lives.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) address: Ipv4Addr,
    pub(crate) ipv6: Option<Ipv6Addr>,
    book: Book,
    locks: Vec<Lock>,
}

impl Lease {
    fn new(book: Book) -> Lease {
        Lease { address: Ipv4Addr::UNSPECIFIED, ipv6: None, book, locks: Vec::new() }
    }

    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        [Some(IpAddr::V4(self.address)), self.ipv6.map(IpAddr::V6)].into_iter().flatten()
    }

    /// Makes the holder known. Not forced to disk: a lease outlives no reboot.
    pub(crate) fn publish(&self, holder: &Holder) -> Result<()> {
        let Book { leases, names } = &self.book;
        let bytes = serde_json::to_vec(holder).unwrap_or_default(); // Strings only: it can't fail.
        for address in self.addresses() {
            let (staged, name) = (format!(".{address}"), record_name(address));
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
            let mut file = File::from(leases.file(&staged, flags, 0o644)?);
            file.write_all(&bytes).call(|| format!("write({:?})", leases.path_of(&staged)))?;
            leases.rename(&staged, leases, &name)?;
            for name in &holder.names {
                mark(names, &name.to_ascii_lowercase(), &address.to_string())?;
            }
        }
        Ok(())
    }

    /// Other names from now on. At no instant it has neither, and a name in both is found all the time.
    pub(crate) fn rename(&self, old: &Holder, new: &Holder) -> Result<()> {
        // While the record has the old names, these are what is found; marks of names that it hasn't count nothing. For
        // whoever sweeps up after a crash in between, the record first has all.
        let gone: Vec<String> = old.names.iter().filter(|name| !new.is_called(name)).cloned().collect();
        let names = new.names.iter().chain(&gone).cloned().collect();
        self.publish(&Holder { names, ..new.clone() })?;
        for (address, name) in
            self.addresses().flat_map(|address| gone.iter().map(move |name| (address, name)))
        {
            unmark(&self.book.names, &name.to_ascii_lowercase(), &address.to_string())?;
        }
        self.publish(new)
    }

    /// Takes back what was published, by this holder or by one who died.
    pub(crate) fn clear(&self) -> Result<()> {
        for address in self.addresses() {
            if let Some(old) = self.book.written(address)? {
                self.book.clear(address, &old)?;
            }
        }
        Ok(())
    }
}

pub(crate) fn described(holder: &Holder) -> String {
    match holder.names.first() {
        Some(name) if *name != holder.container => format!("{name} ({})", holder.container),
        _ => holder.container.clone(),
    }
}

fn record_name(address: IpAddr) -> String {
    format!("{address}.json")
}

/// The entries that are addresses.
fn addresses(dir: &Dir) -> Result<Vec<IpAddr>> {
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
