//! What the host's network is like: addresses, routes, ways out, switches.

use std::collections::BTreeSet;
use std::path::PathBuf;

use coracle_host::Call;
use rustix::io::Errno;

use crate::netlink::{Reply, Socket, link};
use crate::nft::Table;
use crate::plan::bridge::{Host, Uplink};
use crate::plan::{Switched, Sysctl};
use crate::ports::Published;
use crate::{Error, Kind, Result, Subnet};

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
    let mut routes = socket.dump(link::routes(false))?;
    routes.extend(ipv6_routes(&socket)?);
    let addresses = addresses.iter().filter_map(link::read_address).map(|(_, subnet)| subnet);
    let routes = routes.iter().filter_map(link::read_route).map(|route| route.to);
    Ok(Occupied { addresses: addresses.collect(), routes: routes.filter(|to| to.prefix_len() > 0).collect() })
}

/// A kernel without IPv6 has none.
fn ipv6_routes(socket: &Socket) -> Result<Vec<Reply>> {
    match socket.dump(link::routes(true)) {
        Err(error) if matches!(error.errno(), Some(Errno::AFNOSUPPORT | Errno::OPNOTSUPP)) => Ok(Vec::new()),
        routes => routes,
    }
}

/// What [`crate::plan::bridge::bring_up`] asks for.
///
/// `out` is whether the network has a way out. Only then uplinks matter, and only then a kernel without
/// nf_tables is a failure rather than a fact.
pub(crate) fn host(out: bool, ipv6: bool) -> Result<Host> {
    let table = match Table::open() {
        Ok(table) => Some(table),
        Err(error) if !out && error.kind() == Kind::Unsupported => None,
        Err(error) => return Err(error),
    };
    let (forwards, forwards6) = (ip_forward()?, ipv6 && ip6_forward()?);
    if ipv6 && out && !forwards6 {
        can_force_forwarding()?;
    }
    // Before the switches are read: see `act::dismantle` for why the order matters.
    let ours = match &table {
        Some(table) if out => table.switched()?,
        _ => Switched::default(),
    };
    let mut uplinks = Vec::new();
    for way in ways_out(ipv6)? {
        let needs = |wanted: bool, ours: &Option<Vec<String>>, key| -> Result<bool> {
            let known = ours.iter().flatten().any(|name| *name == way.name);
            Ok(wanted && (known || !read(&sysctl(&way.name, key))?))
        };
        uplinks.push(Uplink {
            needs_forwarding: needs(way.ipv4, &ours.ipv4, Sysctl::Forwarding)?,
            needs_forwarding6: needs(way.ipv6, &ours.ipv6, Sysctl::ForceForwarding)?,
            mtu: way.mtu,
            name: way.name,
        });
    }
    let docker = match &table {
        Some(table) if out => !table.docker_families()?.is_empty(),
        _ => false,
    };
    Ok(Host { forwards, forwards6, uplinks, tables: table.is_some(), docker })
}

/// Whether one interface can be told to forward IPv6 without making a router of the whole host, which would then
/// believe no router any more.
fn can_force_forwarding() -> Result<()> {
    let path = sysctl("all", Sysctl::ForceForwarding);
    if path.try_exists().call(|| format!("stat({path:?})"))? {
        return Ok(());
    }
    let text = "this host forwards no IPv6, and its kernel (before Linux 6.17) can't for single interfaces: set \
                net.ipv6.conf.all.forwarding = 1 (and accept_ra = 2 where the host's own routes come by \
                advertisements), or make the network internal";
    Err(Error::new(Kind::Unsupported, text))
}

/// The interfaces that somebody may come in by to a published port, and that don't pass packets on but for us:
/// all that have an address, but for loopback, which is another matter, and our bridges.
pub(crate) fn ways_in(ports: &[Published]) -> Result<Switched> {
    let outer = |six: bool| ports.iter().any(|port| port.host.is_ipv6() == six && !port.host.is_loopback());
    let (four, six) = (outer(false) && !ip_forward()?, outer(true) && !ip6_forward()?);
    let mut ways = Switched { ipv4: four.then(Vec::new), ipv6: six.then(Vec::new) };
    if !four && !six {
        return Ok(ways);
    }
    let table = Table::open()?;
    let (ours, bridges) = (table.switched()?, table.bridges()?);
    let socket = Socket::route()?;
    let addresses = socket.dump(link::addresses())?;
    let addresses: Vec<(u32, Subnet)> = addresses.iter().filter_map(link::read_address).collect();
    let links = socket.dump(link::links())?;
    for link in links.iter().filter_map(link::read_link) {
        if link.name == "lo" || bridges.contains(&link.name) {
            continue;
        }
        for (ways, ours, six, key) in [
            (&mut ways.ipv4, &ours.ipv4, false, Sysctl::Forwarding),
            (&mut ways.ipv6, &ours.ipv6, true, Sysctl::ForceForwarding),
        ] {
            let Some(ways) = ways else { continue };
            let has = |(index, to): &(u32, Subnet)| {
                *index == link.index && to.is_ipv6() == six && !to.base().is_loopback()
            };
            let known = ours.iter().flatten().any(|name| *name == link.name);
            if addresses.iter().any(has) && !known && !read(&sysctl(&link.name, key))? {
                ways.push(link.name.clone());
            }
        }
    }
    Ok(ways)
}

/// An interface that default routes leave by.
struct WayOut {
    name: String,
    mtu: u32,
    ipv4: bool,
    ipv6: bool,
}

fn ways_out(ipv6: bool) -> Result<Vec<WayOut>> {
    let socket = Socket::route()?;
    let defaults = |replies: Vec<Reply>| -> BTreeSet<u32> {
        let routes = replies.iter().filter_map(link::read_route);
        routes.filter(|route| route.to.prefix_len() == 0).filter_map(|route| route.out).collect()
    };
    let four = defaults(socket.dump(link::routes(false))?);
    let six = if ipv6 { defaults(ipv6_routes(&socket)?) } else { BTreeSet::new() };
    if four.is_empty() && six.is_empty() {
        return Ok(Vec::new());
    }
    let links = socket.dump(link::links())?;
    let ways = links.iter().filter_map(link::read_link).map(|link| WayOut {
        ipv4: four.contains(&link.index),
        ipv6: six.contains(&link.index),
        mtu: link.mtu,
        name: link.name,
    });
    // The default routes that a kernel has by itself refuse, by way of loopback.
    Ok(ways.filter(|way| (way.ipv4 || way.ipv6) && way.name != "lo").collect())
}

/// `net.ipv4.ip_forward`.
pub(crate) fn ip_forward() -> Result<bool> {
    read(&PathBuf::from("/proc/sys/net/ipv4/ip_forward"))
}

/// `net.ipv6.conf.all.forwarding`.
pub(crate) fn ip6_forward() -> Result<bool> {
    read(&PathBuf::from("/proc/sys/net/ipv6/conf/all/forwarding"))
}

/// The file behind a switch, of the calling thread's network namespace.
pub(crate) fn sysctl(interface: &str, key: Sysctl) -> PathBuf {
    let (family, name) = key.parts();
    PathBuf::from("/proc/sys/net").join(family).join("conf").join(interface).join(name)
}

/// Whether a switch is on. One that isn't there is off: interfaces come and go.
pub(crate) fn read(path: &PathBuf) -> Result<bool> {
    match std::fs::read(path).call(|| format!("read({path:?})")) {
        Ok(bytes) => Ok(bytes.first().is_some_and(|byte| *byte != b'0')),
        Err(error) if error.errno() == Some(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
