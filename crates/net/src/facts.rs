//! What the host's network is like: addresses, routes, ways out, switches.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use coracle_host::Call;
use rustix::io::Errno;

use crate::netlink::{Socket, link};
use crate::nft::Table;
use crate::plan::{Host, Sysctl, Uplink};
use crate::ports::Published;
use crate::{Kind, Result, Subnet};

/// Prefixes that the host knows.
pub(crate) struct Occupied {
    /// Those that it has an address in.
    pub(crate) addresses: Vec<Subnet>,
    /// Those that it has a route to, but the default routes.
    pub(crate) routes: Vec<Subnet>,
}

/// Every prefix that the host knows of.
pub(crate) fn occupied() -> Result<Occupied> {
    let socket = Socket::route()?;
    let addresses = socket.dump(link::addresses())?;
    let routes = socket.dump(link::routes())?;
    let addresses = addresses.iter().filter_map(link::read_address).map(|(_, subnet)| subnet);
    let routes = routes.iter().filter_map(link::read_route).map(|route| route.to);
    Ok(Occupied { addresses: addresses.collect(), routes: routes.filter(|to| to.prefix_len() > 0).collect() })
}

/// What [`crate::plan::bring_up`] asks for.
///
/// `nat` is whether the network has a way out. Only then uplinks matter, and only then a kernel without
/// nf_tables is a failure rather than a fact.
pub(crate) fn host(nat: bool) -> Result<Host> {
    let table = match Table::open() {
        Ok(table) => Some(table),
        Err(error) if !nat && error.kind() == Kind::Unsupported => None,
        Err(error) => return Err(error),
    };
    let forwards = ip_forward()?;
    // Before the switches are read: see `act::dismantle` for why the order matters.
    let ours = match &table {
        Some(table) if nat && !forwards => table.uplinks()?,
        _ => Vec::new(),
    };
    let mut uplinks = Vec::new();
    for (name, mtu) in ways_out()? {
        let needs_forwarding = ours.contains(&name) || !read(&sysctl(&name, Sysctl::Forwarding))?;
        uplinks.push(Uplink { name, mtu, needs_forwarding });
    }
    Ok(Host { forwards, uplinks, tables: table.is_some() })
}

/// The interfaces that somebody may come in by to a published port, and that don't pass packets on but for us:
/// all that have an address, but for loopback, which is another matter, and our bridges.
pub(crate) fn ways_in(ports: &[Published]) -> Result<Vec<String>> {
    if ports.iter().all(|port| port.host.is_loopback()) || ip_forward()? {
        return Ok(Vec::new());
    }
    let ours = Table::open()?.uplinks()?;
    let socket = Socket::route()?;
    let addresses = socket.dump(link::addresses())?;
    let outer = addresses.iter().filter_map(link::read_address).filter(|(_, to)| !to.base().is_loopback());
    let indices: BTreeSet<u32> = outer.map(|(index, _)| index).collect();
    let links = socket.dump(link::links())?;
    let names = links.iter().filter_map(link::read_link).filter(|link| indices.contains(&link.index));
    let mut ways = Vec::new();
    for name in names.map(|link| link.name).filter(|name| name != "lo" && !name.starts_with("cor-")) {
        if !ours.contains(&name) && !read(&sysctl(&name, Sysctl::Forwarding))? {
            ways.push(name);
        }
    }
    Ok(ways)
}

/// Name and MTU of the interfaces that default routes leave by.
fn ways_out() -> Result<Vec<(String, u32)>> {
    let socket = Socket::route()?;
    let routes = socket.dump(link::routes())?;
    let defaults = routes.iter().filter_map(link::read_route).filter(|route| route.to.prefix_len() == 0);
    let mut indices: Vec<u32> = defaults.filter_map(|route| route.out).collect();
    if indices.is_empty() {
        return Ok(Vec::new());
    }
    indices.sort_unstable();
    indices.dedup();
    let links = socket.dump(link::links())?;
    let mut links: HashMap<u32, link::Link> =
        links.iter().filter_map(link::read_link).map(|link| (link.index, link)).collect();
    Ok(indices.iter().filter_map(|index| links.remove(index)).map(|link| (link.name, link.mtu)).collect())
}

/// `net.ipv4.ip_forward`.
pub(crate) fn ip_forward() -> Result<bool> {
    read(&PathBuf::from("/proc/sys/net/ipv4/ip_forward"))
}

/// The file behind a switch, of the calling thread's network namespace.
pub(crate) fn sysctl(interface: &str, key: Sysctl) -> PathBuf {
    PathBuf::from("/proc/sys/net/ipv4/conf").join(interface).join(key.as_str())
}

/// Whether a switch is on. One that isn't there is off: interfaces come and go.
pub(crate) fn read(path: &PathBuf) -> Result<bool> {
    match std::fs::read(path).call(|| format!("read({path:?})")) {
        Ok(bytes) => Ok(bytes.first().is_some_and(|byte| *byte != b'0')),
        Err(error) if error.errno() == Some(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
