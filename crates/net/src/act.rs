//! Does what plans say.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use coracle_host::{Call, Namespace, random_hex};
use rustix::io::Errno;

use crate::error::Doing;
use crate::netlink::link::PortFlag;
use crate::netlink::{News, Request, Socket, link};
use crate::nft::{Removal, Table};
use crate::plan::{Op, Place, Plan, Sysctl, Target};
use crate::ports::Published;
use crate::{Error, Kind, Mac, Result, Subnet};
use crate::{conntrack, facts};

/// Performs a plan. Operations in the joining namespace happen on a thread that goes there; all others in the
/// network namespace of the calling thread.
pub(crate) fn perform(plan: &Plan, netns: Option<BorrowedFd<'_>>) -> Result<()> {
    for steps in plan.steps.chunk_by(|a, b| a.0 == b.0) {
        let ops = steps.iter().map(|(_, op)| op);
        match (steps[0].0, netns) {
            (Place::Host, _) => Actor::open()?.perform(ops, netns)?,
            (Place::Inside, Some(netns)) => {
                let work = move || Actor::open().and_then(|mut actor| actor.perform(ops, None));
                Namespace::try_from(netns)?.within(work)??;
            }
            (Place::Inside, None) => return Err(no_namespace()),
        }
    }
    Ok(())
}

fn no_namespace() -> Error {
    Error::new(Kind::Invalid, "the plan needs the namespace that joins")
}

/// Whether a network's bridge is there and up, and its MTU if so.
pub(crate) fn ready(name: &str, gateway: Ipv4Addr) -> Result<Option<u32>> {
    let found = link(name)?.filter(|link| link.mac == Some(Mac::of(gateway)));
    Ok(found.filter(|link| link.up).map(|link| link.mtu))
}

/// A link, if it is there.
pub(crate) fn link(name: &str) -> Result<Option<link::Link>> {
    Actor::open()?.find(name)
}

/// How long a link may take to come up; a millisecond is usual.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sends what can be sent together in one go.
struct Actor {
    socket: Socket,
    pending: Vec<Request>,
    indices: HashMap<String, u32>,
}

impl Actor {
    fn open() -> Result<Actor> {
        Ok(Actor { socket: Socket::route()?, pending: Vec::new(), indices: HashMap::new() })
    }

    fn perform<'a>(
        &mut self,
        ops: impl Iterator<Item = &'a Op>,
        netns: Option<BorrowedFd<'_>>,
    ) -> Result<()> {
        for op in ops {
            self.op(op, netns).doing(|| op)?;
        }
        self.flush()
    }

    fn op(&mut self, op: &Op, netns: Option<BorrowedFd<'_>>) -> Result<()> {
        match op {
            Op::Admit { bridge, walls, uplinks } => Table::open()?.admit(bridge, *walls, uplinks),
            Op::PassDocker { bridge } => Table::open()?.pass_docker(bridge),
            Op::Expel { bridge, subnets } => with_table(|table| {
                table.forget_docker(bridge)?;
                table.expel(bridge, subnets)
            }),
            Op::Hairpin { link } => self.set_port(link, PortFlag::Hairpin),
            Op::Isolate { link } => self.set_port(link, PortFlag::Isolated),
            Op::Remember { uplinks } => Table::open()?.add_uplinks(uplinks),
            Op::Open { ports, target } => {
                Table::open()?.open_ports(ports, *target)?;
                conntrack::forget_datagrams(ports)
            }
            Op::Dismantle => with_table(dismantle),
            Op::Driver { name } => {
                Err(Error::new(Kind::Unsupported, format!("driver `{name}` does what it does by itself")))
            }
            Op::Bridge { name, mac, mtu } => self.bridge(name, *mac, *mtu),
            Op::Address { on, address, prefix } => {
                let index = self.index(on)?;
                self.pending.push(link::add_address(index, on, *address, *prefix));
                Ok(())
            }
            Op::Alone { subnets, on } => self.alone(subnets, on),
            Op::Set { key, on, value } => {
                self.flush()?;
                set(on, *key, *value)
            }
            Op::Vlan { name, parent, number, group } => {
                let parent = self.index(parent)?;
                let made = self.socket.one(link::new_vlan(name, parent, *number, *group));
                tolerate(made.map(drop), Errno::EXIST)
            }
            Op::Macvlan { name, parent, mode, mac, mtu } => {
                let parent = self.index(parent)?;
                let netns = netns.ok_or_else(no_namespace)?;
                self.socket.one(link::new_macvlan(name, parent, *mode, *mac, *mtu, netns)).map(drop)
            }
            Op::NoLinkLocal { link } => {
                self.pending.push(link::no_link_local(link));
                Ok(())
            }
            Op::Up { link } => {
                self.pending.push(link::up(link));
                Ok(())
            }
            Op::Veth { name, bridge, peer, mac, mtu } => {
                let bridge = self.index(bridge)?;
                let netns = netns.ok_or_else(no_namespace)?;
                self.veth(name, link::new_veth(name, bridge, *mtu, (peer, *mac), netns))
            }
            Op::Route { via, on } => {
                let index = self.index(on)?;
                self.pending.push(link::default_route(index, on, *via));
                Ok(())
            }
            Op::Await { links } => self.wait(links),
            Op::AwaitHeard { on, addresses } => {
                self.flush()?;
                wait_until_heard(on, addresses)
            }
            Op::Abandon { link } => self.abandon(link),
            Op::DeleteBridge { name, mac } => match self.find(name)? {
                Some(found) if found.mac == Some(*mac) => {
                    self.delete_ports(found.index)?;
                    tolerate(self.socket.one(link::delete(name)).map(drop), Errno::NODEV)
                }
                _ => Ok(()),
            },
            Op::DeleteOwn { link, group } => match self.find(link)? {
                Some(found) if found.group == *group => {
                    tolerate(self.socket.one(link::delete(link)).map(drop), Errno::NODEV)
                }
                _ => Ok(()),
            },
            Op::Delete { link } => {
                self.flush()?;
                tolerate(self.socket.one(link::delete(link)).map(drop), Errno::NODEV)
            }
        }
    }

    fn set_port(&mut self, link: &str, flag: PortFlag) -> Result<()> {
        let index = self.index(link)?;
        self.pending.push(link::set_port(index, link, flag));
        Ok(())
    }

    /// One that is there was made by someone with the same plan, or, by its hardware address, is somebody else's.
    fn bridge(&mut self, name: &str, mac: Mac, mtu: u32) -> Result<()> {
        match self.socket.one(link::new_bridge(name, mac, mtu)) {
            Err(error) if error.errno() == Some(Errno::EXIST) => match self.find(name)? {
                Some(found) if found.mac != Some(mac) => Err(error),
                _ => Ok(()),
            },
            done => done.map(drop),
        }
    }

    /// The name follows from the lease, and the lease is ours: what has the name is a dead holder's.
    fn veth(&mut self, name: &str, request: Request) -> Result<()> {
        match self.socket.one(request.clone()) {
            Err(error) if error.errno() == Some(Errno::EXIST) => {
                if self.socket.one(link::delete(name)).is_err() {
                    return Err(error); // It was the name inside that is taken.
                }
                self.socket.one(request).map(drop)
            }
            done => done.map(drop),
        }
    }

    /// The name is that of the lease, which others have next. A kernel that renames no link that is up (before 6.2) takes
    /// the time to delete it.
    fn abandon(&mut self, name: &str) -> Result<()> {
        let Some(found) = self.find(name)? else { return Ok(()) };
        let new = format!("corx{}", &random_hex(6)?[..11]);
        match self.socket.one(link::abandon(found.index, name, &new)) {
            Err(error) if matches!(error.errno(), Some(Errno::BUSY | Errno::EXIST)) => {
                tolerate(self.socket.one(link::delete(name)).map(drop), Errno::NODEV)
            }
            done => tolerate(done.map(drop), Errno::NODEV),
        }
    }

    fn delete_ports(&mut self, bridge: u32) -> Result<()> {
        let ports = self.socket.dump(link::ports(bridge))?;
        let ports: Vec<_> =
            ports.iter().filter_map(link::read_link).map(|port| link::delete(&port.name)).collect();
        for answer in if ports.is_empty() { Vec::new() } else { self.socket.each(&ports)? } {
            tolerate(answer.map(drop), Errno::NODEV)?;
        }
        Ok(())
    }

    /// Two states on one host can't see each other's idle networks. Each looks after it has added its address, so
    /// that of two at once at least one sees the other.
    fn alone(&mut self, subnets: &[Subnet], on: &str) -> Result<()> {
        let own = self.index(on)?;
        let addresses = self.socket.dump(link::addresses())?;
        let other = addresses.iter().filter_map(link::read_address).find_map(|(index, taken)| {
            let subnet = subnets.iter().find(|subnet| index != own && taken.overlaps(subnet))?;
            Some((index, taken, *subnet))
        });
        let Some((index, taken, subnet)) = other else { return Ok(()) };
        let links = self.socket.dump(link::links())?;
        let name = links.iter().filter_map(link::read_link).find(|link| link.index == index);
        let name = name.map_or_else(|| format!("link {index}"), |link| link.name);
        Err(Error::new(Kind::InUse, format!("subnet {subnet} is in use: {name} of this host has {taken}")))
    }

    /// Links come up on a work queue of the kernel's. Both the link's qdisc and the bridge's port are ready when
    /// the link says that it works.
    fn wait(&mut self, links: &[String]) -> Result<()> {
        let monitor = Socket::link_monitor()?;
        let deadline = Instant::now() + PATIENCE;
        for name in links {
            let missing = || Error::os(format!("getlink({name})"), Errno::NODEV);
            let mut works = self.find(name)?.ok_or_else(missing)?.works;
            while !works {
                // Where hundreds join at once, each hears of all the others, and asks about its own only. It does ask: the
                // news come while the kernel is still about it, the answer when that is done.
                let ask = match monitor.news(deadline.saturating_duration_since(Instant::now()))? {
                    Some(News::Unknown) => true,
                    Some(News::Heard(heard)) => {
                        let links = heard.iter().filter_map(link::read_link);
                        links.filter(|link| link.name == *name).any(|link| link.works)
                    }
                    None => {
                        let text = format!("{name} does not work after {} seconds", PATIENCE.as_secs());
                        return Err(Error::new(Kind::Timeout, text));
                    }
                };
                works = ask && self.find(name)?.ok_or_else(missing)?.works;
            }
        }
        Ok(())
    }

    fn find(&mut self, name: &str) -> Result<Option<link::Link>> {
        self.flush()?;
        match self.socket.one(link::get(name)) {
            Ok(replies) => Ok(replies.iter().find_map(link::read_link)),
            Err(error) if error.errno() == Some(Errno::NODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn index(&mut self, name: &str) -> Result<u32> {
        if let Some(index) = self.indices.get(name) {
            return Ok(*index);
        }
        let missing = || Error::os(format!("getlink({name})"), Errno::NODEV);
        let index = self.find(name)?.ok_or_else(missing)?.index;
        self.indices.insert(name.into(), index);
        Ok(index)
    }

    /// Sends what has gathered. An address that is there already was added by someone with the same plan.
    fn flush(&mut self) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() {
            return Ok(());
        }
        for answer in self.socket.each(&pending)? {
            // A kernel without IPv6 needs not be told that there is none.
            tolerate(tolerate(answer.map(drop), Errno::EXIST), Errno::AFNOSUPPORT)?;
        }
        Ok(())
    }
}

/// Who asks for an IPv6 address sends to a group (RFC 4291, section 2.7.1), which the kernel joins on a work queue, some
/// time after it was told of the address.
fn wait_until_heard(on: &str, addresses: &[Ipv6Addr]) -> Result<()> {
    let monitor = Socket::address_monitor()?;
    let deadline = Instant::now() + PATIENCE;
    let path = "/proc/thread-self/net/igmp6";
    loop {
        // News of an address come after its group was joined.
        let table = std::fs::read_to_string(path).call(|| format!("read({path:?})"))?;
        if addresses.iter().all(|address| is_member(&table, on, *address)) {
            return Ok(());
        }
        if monitor.news(deadline.saturating_duration_since(Instant::now()))?.is_none() {
            let text = format!("{on} hears nobody after {} seconds", PATIENCE.as_secs());
            return Err(Error::new(Kind::Timeout, text));
        }
    }
}

/// Whether a link is a member of an address's solicited-node group: a line of index, name, group and counters.
fn is_member(table: &str, on: &str, address: Ipv6Addr) -> bool {
    let low = u128::from(address) & 0xff_ffff;
    let group = format!("{:032x}", u128::from(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0)) | low);
    table.lines().any(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        words.next() == Some(on) && words.next() == Some(&group)
    })
}

fn tolerate(result: Result<()>, errno: Errno) -> Result<()> {
    match result {
        Err(error) if error.errno() == Some(errno) => Ok(()),
        result => result,
    }
}

/// The links of this host that may be those of networks, of any state, and the bridges in the table.
pub(crate) fn leftovers() -> Result<Vec<String>> {
    let links = Socket::route()?.dump(link::links())?;
    let links = links.iter().filter_map(link::read_link);
    let ours = links.filter(|link| link.group != 0 || link.name.starts_with("cor-"));
    let mut names: Vec<String> = ours.map(|link| link.name).collect();
    with_table(|table| {
        names.extend(table.bridges()?);
        Ok(())
    })?;
    Ok(names)
}

/// Whether anything of a bridge is left: the link, or its place in the table. Who may not look at tables has
/// left nothing in them.
pub(crate) fn is_left(bridge: &str, gateway: Ipv4Addr) -> Result<bool> {
    if link(bridge)?.is_some_and(|link| link.mac == Some(Mac::of(gateway))) {
        return Ok(true);
    }
    match Table::open().and_then(|table| table.has(bridge)) {
        Err(error) if matches!(error.kind(), Kind::Unsupported | Kind::Denied) => Ok(false),
        left => left,
    }
}

/// [`Op::Dismantle`] alone, for when the last one out was killed on the way.
pub(crate) fn dismantle_if_empty() -> Result<()> {
    with_table(dismantle)
}

/// Closes what was published at an address, by the caller or, if not `exclusive`, by somebody who is no more.
pub(crate) fn close_ports(
    ports: &[Published],
    ipv4: Ipv4Addr,
    ipv6: Option<Ipv6Addr>,
    exclusive: bool,
) -> Result<()> {
    if ports.is_empty() {
        return Ok(());
    }
    let target = Target { ipv4, ipv6 };
    with_table(|table| {
        table.close_ports(ports, target, exclusive).and_then(|()| conntrack::forget_target(target))
    })
}

/// Where there is no nf_tables, nothing of ours is in it.
fn with_table(act: impl FnOnce(&Table) -> Result<()>) -> Result<()> {
    match Table::open().and_then(|table| act(&table)) {
        Err(error) if error.kind() == Kind::Unsupported => Ok(()),
        result => result,
    }
}

/// The last network out removes the table and puts the uplinks' switches back.
///
/// The set of uplinks is the memory of which switches are ours, and the kernel the only arbiter between
/// processes that know nothing of each other. So the set goes last: while it stands, whoever comes in sees that
/// a switch which is on is on because of us. When the table turns out to be in use in the end, somebody came in
/// meanwhile and needs the switches on. Chains that are gone already (of one who was killed here, or who is here
/// at the same time) are no reason to stop.
fn dismantle(table: &Table) -> Result<()> {
    if !table.exists()? || table.dismantle()? == Removal::InUse {
        return Ok(());
    }
    let ours = table.switched()?;
    let mut switches = Vec::new();
    if !facts::ip_forward()? {
        switches.extend(ours.ipv4.into_iter().flatten().map(|on| (on, Sysctl::Forwarding)));
    }
    if !facts::ip6_forward()? {
        switches.extend(ours.ipv6.into_iter().flatten().map(|on| (on, Sysctl::ForceForwarding)));
    }
    for (on, key) in &switches {
        set(on, *key, 0)?;
    }
    if table.remove()? == Removal::InUse {
        for (on, key) in &switches {
            set(on, *key, 1)?;
        }
    }
    Ok(())
}

/// Through /proc and not netlink (`IFLA_INET_CONF`), which would leave offloads on that forwarding can't have.
fn set(interface: &str, key: Sysctl, value: u8) -> Result<()> {
    let path = facts::sysctl(interface, key);
    match std::fs::write(&path, value.to_string()).call(|| format!("write({path:?}, {value})")) {
        // Written when it must be: a /proc that can't be written to is fine if it says the right thing.
        Err(error) if error.kind() == Kind::Denied && facts::read(&path)? == (value != 0) => Ok(()),
        // The interface is gone, and its switch with it; or the kernel has no IPv6 that could be switched off.
        Err(error) if value == 0 && error.errno() == Some(Errno::NOENT) => Ok(()),
        Err(error) if key == Sysctl::DisableIpv6 && error.errno() == Some(Errno::NOENT) => Ok(()),
        result => Ok(result?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_a_group() {
        let table = "2    eth0            ff0200000000000000000001ff000003     1 00000004 0\n\
                     3    eth1            ff0200000000000000000001ffabcdef     1 00000004 0\n";
        assert!(is_member(table, "eth0", "fd00:1::3".parse().unwrap()));
        assert!(is_member(table, "eth1", "fd00:1::12ab:cdef".parse().unwrap()));
        assert!(!is_member(table, "eth1", "fd00:1::3".parse().unwrap()));
    }
}
