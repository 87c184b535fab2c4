//! A container's place in its networks: the namespace, the endpoints, the names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use coracle_host::{Call, Dir, Mount, Namespace};
use coracle_net::{Endpoint, Join, dns, files};
use coracle_runtime::{Plan, Service, UserNamespace};
use rustix::event::PollFlags;
use serde::{Deserialize, Serialize};

use crate::container::is_name;
use crate::engine::Inner;
use crate::error::{Error, Result};
use crate::resolver::{self, HostAddress, Resolver};
use crate::{Kind, Mac, Publish};

/// The network that containers are on where nothing else is said, made when first needed.
pub(crate) const DEFAULT_NETWORK: &str = "bridge";

/// Which networks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// The host's own.
    Host,
    /// Loopback only.
    None,
    /// That of the container with this id.
    Container(String),
    /// These, the first one with the default route.
    Networks(Vec<Attachment>),
}

impl Default for Mode {
    fn default() -> Mode {
        Mode::Networks(vec![Attachment::default_network()])
    }
}

impl Attachment {
    /// A place in the default network.
    pub(crate) fn default_network() -> Attachment {
        Attachment::of(DEFAULT_NETWORK)
    }

    /// A place in a network, nothing said.
    pub(crate) fn of(network: impl Into<String>) -> Attachment {
        Attachment { network: network.into(), ..Attachment::default() }
    }

    /// Everything that is wrong with it.
    pub(crate) fn problems(&self) -> Vec<String> {
        let bad = |alias: &&String| !is_name(alias, 253);
        let aliases = self.aliases.iter().filter(bad);
        aliases
            .map(|alias| format!("network alias `{alias}`: only [a-zA-Z0-9][a-zA-Z0-9_.-]* is allowed"))
            .collect()
    }
}

/// A place in one network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attachment {
    pub(crate) network: String,
    #[serde(default)]
    pub(crate) aliases: Vec<String>,
    #[serde(default)]
    pub(crate) address: Option<Ipv4Addr>,
    #[serde(default)]
    pub(crate) ipv6: Option<Ipv6Addr>,
    #[serde(default)]
    pub(crate) mac: Option<Mac>,
    /// The interface's name; one is found for it otherwise.
    #[serde(default)]
    pub(crate) interface: Option<String>,
    /// The one with the highest has the way out.
    #[serde(default)]
    pub(crate) priority: i64,
}

/// What a container's network is made of.
#[derive(Clone, Copy)]
pub(crate) struct Wiring<'a> {
    /// The container's.
    pub(crate) id: &'a str,
    /// What it is found by.
    pub(crate) names: &'a [String],
    pub(crate) networks: &'a [Attachment],
    /// Ports of the host that lead to it.
    pub(crate) publish: &'a [Publish],
    pub(crate) resolver: &'a Resolver,
    /// Whose the namespace is, where not the host's.
    pub(crate) users: Option<&'a UserNamespace>,
}

impl Wiring<'_> {
    /// Which network has the way out.
    fn way_out(&self) -> usize {
        let highest = self.networks.iter().map(|one| one.priority).max();
        self.networks.iter().position(|one| Some(one.priority) == highest).unwrap_or(0)
    }
}

/// A namespace with its endpoints, held as long as its container runs.
pub(crate) struct Stack {
    namespace: Namespace,
    endpoints: Vec<Endpoint>,
    dns: dns::Server,
    asks_the_host: bool,
}

/// What is decided about one interface.
struct Place<'a> {
    name: String,
    way_out: bool,
    publish: &'a [Publish],
}

impl Stack {
    /// A new namespace that has joined the networks. Ports are published on the one that has the way out.
    pub(crate) fn open(engine: &Inner, wiring: &Wiring<'_>) -> Result<Stack> {
        let namespace = wiring.users.map_or_else(Namespace::new_net, UserNamespace::new_net)?;
        coracle_net::loopback_up(namespace.as_fd())?;
        let mut endpoints: Vec<Endpoint> = Vec::new();
        for (index, attachment) in wiring.networks.iter().enumerate() {
            let first = index == wiring.way_out();
            let publish = if first { wiring.publish } else { &[] };
            let place = Place { name: interface(attachment, index, &endpoints), way_out: first, publish };
            endpoints.push(join(engine, &namespace, (wiring.id, wiring.names), attachment, &place)?);
        }
        let upstream = wiring.resolver.upstream(&host_resolv_conf());
        let dns = dns::Server::open(namespace.as_fd(), responder(&endpoints), upstream)?;
        let mut stack = Stack { namespace, endpoints, dns, asks_the_host: wiring.resolver.asks_the_host() };
        stack.tell_dns();
        Ok(stack)
    }

    /// Names are those of its networks of now. The host's resolvers are asked only by who has a way out: what is asked
    /// would be one (CVE-2024-29018). Servers of its own are asked from within, where there is a way or none.
    fn tell_dns(&mut self) {
        self.dns.set_responder(responder(&self.endpoints));
        let out = self.endpoints.iter().any(|endpoint| !endpoint.network().is_internal());
        self.dns.set_forwarding(out || !self.asks_the_host);
    }

    /// Joins one more network while the container runs.
    pub(crate) fn connect(
        &mut self,
        engine: &Inner,
        id: &str,
        names: &[String],
        attachment: &Attachment,
    ) -> Result<()> {
        if self.endpoints.iter().any(|endpoint| endpoint.network().name() == attachment.network) {
            let text = format!("it is already in the network {}", attachment.network);
            return Err(Error::new(Kind::AlreadyExists, text));
        }
        let name = interface(attachment, 0, &self.endpoints);
        let place = Place { name, way_out: self.endpoints.is_empty(), publish: &[] };
        let endpoint = join(engine, &self.namespace, (id, names), attachment, &place)?;
        self.endpoints.push(endpoint);
        self.tell_dns();
        Ok(())
    }

    /// Leaves a network while the container runs.
    pub(crate) fn disconnect(&mut self, network: &str) -> Result<()> {
        let index = self.endpoints.iter().position(|endpoint| endpoint.network().name() == network);
        let index =
            index.ok_or_else(|| Error::new(Kind::NotFound, format!("it is not in the network {network}")))?;
        let endpoint = self.endpoints.remove(index);
        self.tell_dns();
        Ok(endpoint.leave()?)
    }

    /// Other names from now on, beside the aliases that it has on each network.
    pub(crate) fn rename(&mut self, names: &[String], mode: &Mode) -> Result<()> {
        let Mode::Networks(networks) = mode else { return Ok(()) };
        for endpoint in &mut self.endpoints {
            let place = networks.iter().find(|place| place.network == endpoint.network().name());
            let aliases = place.map(|place| place.aliases.as_slice()).unwrap_or_default();
            endpoint.rename(names.iter().chain(aliases).cloned())?;
        }
        Ok(())
    }

    /// Writes the container's `/etc/hosts` anew: it shows its addresses of now.
    pub(crate) fn write_hosts(
        &self,
        dir: &Dir,
        hostname: &str,
        extra: &[(String, HostAddress)],
    ) -> Result<()> {
        let extra = resolver::lines(extra, &self.host_addresses());
        write(dir, FILES[0], &files::hosts(hostname, &self.addresses(), &extra)).map(drop)
    }

    /// The host's on the first network where it has some.
    fn host_addresses(&self) -> Vec<IpAddr> {
        let bridge = self.endpoints.iter().find(|endpoint| endpoint.network().driver() == "bridge");
        let Some(bridge) = bridge else { return Vec::new() };
        let both = [Some(IpAddr::V4(bridge.gateway())), bridge.ipv6_gateway().map(IpAddr::V6)];
        both.into_iter().flatten().collect()
    }

    /// Another handle on the namespace.
    pub(crate) fn namespace(&self) -> Result<Namespace> {
        Ok(self.namespace.try_clone()?)
    }

    /// Its addresses, in the order of its networks.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        self.endpoints.iter().flat_map(Endpoint::addresses).collect()
    }

    /// Leaves all networks. The links are gone when this returns: that takes the kernel some 30 ms.
    pub(crate) fn leave(self) -> Result<()> {
        self.leave_by(Endpoint::leave)
    }

    /// Leaves all networks for a namespace that is about to end, with which the kernel takes the links down in its own
    /// time.
    pub(crate) fn leave_behind(self) -> Result<()> {
        self.leave_by(Endpoint::leave_behind)
    }

    fn leave_by(self, leave: fn(Endpoint) -> coracle_net::Result<()>) -> Result<()> {
        let mut failure = None;
        for endpoint in self.endpoints {
            if let Err(error) = leave(endpoint) {
                failure.get_or_insert(error);
            }
        }
        failure.map_or(Ok(()), |error| Err(error.into()))
    }
}

/// The name of an interface: that which is asked for, or the first `eth…` from `number` on that is free.
fn interface(attachment: &Attachment, number: usize, others: &[Endpoint]) -> String {
    let used = |name: &String| others.iter().any(|endpoint| endpoint.interface() == name);
    let own = attachment.interface.clone();
    let mut free = (number..).map(|number| format!("eth{number}")).filter(|name| !used(name));
    own.or_else(|| free.next()).unwrap_or_default()
}

/// A place in a network for the namespace.
fn join(
    engine: &Inner,
    namespace: &Namespace,
    (id, names): (&str, &[String]),
    attachment: &Attachment,
    place: &Place<'_>,
) -> Result<Endpoint> {
    let network = engine.network(&attachment.network)?;
    let mut join = Join::new(namespace.as_fd(), id)
        .names(names.iter().chain(&attachment.aliases).cloned())
        .interface(&place.name)
        .default_route(place.way_out);
    if let Some(address) = attachment.address {
        join = join.address(address);
    }
    if let Some(address) = attachment.ipv6 {
        join = join.ipv6(address);
    }
    if let Some(mac) = attachment.mac {
        join = join.mac(mac);
    }
    join = place.publish.iter().fold(join, |join, publish| join.publish(publish.0.clone()));
    Ok(network.join(&join)?)
}

/// Answers with the names of all these networks.
fn responder(endpoints: &[Endpoint]) -> dns::Responder {
    let zones = endpoints.iter().map(|endpoint| Arc::new(endpoint.network().zone()) as Arc<dyn dns::Names>);
    dns::Responder::new(zones.collect())
}

impl Service for Stack {
    fn interests(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        vec![(self.dns.as_fd(), PollFlags::IN)]
    }

    fn ready(&mut self) {
        // Only epoll itself can fail, for want of memory; the next query asks again.
        let _ = self.dns.serve_ready();
    }
}

/// The files in `/etc` that every container has of its own.
pub(crate) const FILES: [&str; 3] = ["hosts", "hostname", "resolv.conf"];

/// Those of them that a step of a build has: what it writes to `/etc/hostname` is the image's.
pub(crate) const STEP_FILES: [&str; 2] = ["hosts", "resolv.conf"];

/// Adds the mounts of a container's own files to its plan.
pub(crate) fn plan_files(plan: &mut Plan, names: &[&'static str]) -> Result<()> {
    for name in names {
        plan.attach(*name, format!("/etc/{name}"))?;
    }
    Ok(())
}

/// What is in these files, beside addresses.
#[derive(Clone, Copy)]
pub(crate) struct Told<'a> {
    pub(crate) hostname: &'a str,
    pub(crate) hosts: &'a [(String, HostAddress)],
    pub(crate) resolver: &'a Resolver,
}

/// The mounts of [`plan_files`] of the same names, written to `dir`.
pub(crate) fn files(
    dir: &Dir,
    names: &[&'static str],
    told: &Told<'_>,
    stack: Option<&Stack>,
    mode: &Mode,
) -> Result<Vec<Mount>> {
    let own = stack.map(Stack::addresses).unwrap_or_default();
    let gateways = match mode {
        Mode::Networks(_) => stack.map(Stack::host_addresses).unwrap_or_default(),
        Mode::Host | Mode::None | Mode::Container(_) => resolver::LOOPBACK.to_vec(),
    };
    let lost =
        |(_, address): &&(String, HostAddress)| *address == HostAddress::Gateway && gateways.is_empty();
    if let Some((name, _)) = told.hosts.iter().find(lost) {
        let text = format!("added host `{name}`: the host has no address on the container's networks");
        return Err(Error::new(Kind::Unsupported, text));
    }
    let host = host_resolv_conf();
    let resolv_conf = match mode {
        Mode::Networks(_) => told.resolver.file(&host),
        Mode::Host | Mode::None | Mode::Container(_) => told.resolver.plain_file(host),
    };
    let extra = resolver::lines(told.hosts, &gateways);
    let mut mounts = Vec::new();
    for name in names {
        let text = match *name {
            "hosts" => &files::hosts(told.hostname, &own, &extra),
            "hostname" => &files::hostname(told.hostname),
            _ => &resolv_conf,
        };
        let file = write(dir, name, text)?;
        mounts.push(Mount::bind(&file, false, *name)?.private()?);
    }
    Ok(mounts)
}

/// The same mounts of another container's files, which it then shares.
pub(crate) fn files_of(dir: &Dir) -> Result<Vec<Mount>> {
    let open = |name: &str| -> Result<Mount> {
        let file = std::fs::File::from(dir.file(name, rustix::fs::OFlags::RDONLY, 0)?);
        Ok(Mount::bind(&file, false, name)?.private()?)
    };
    FILES.into_iter().map(open).collect()
}

fn write(dir: &Dir, name: &str, text: &str) -> Result<std::fs::File> {
    use rustix::fs::{Mode, OFlags, fchmod};
    use std::io::Write;
    let file = dir.file(name, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC, 0o644)?;
    fchmod(&file, Mode::from_raw_mode(0o644)).call(|| format!("chmod({:?})", dir.path_of(name)))?;
    let mut file = std::fs::File::from(file);
    file.write_all(text.as_bytes()).call(|| format!("write({:?})", dir.path_of(name)))?;
    Ok(file)
}

/// A host without the file has no resolvers.
fn host_resolv_conf() -> String {
    std::fs::read("/etc/resolv.conf")
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}
