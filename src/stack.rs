//! A container's place in its networks: the namespace, the endpoints, the names.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use coracle_host::{Call, Dir, Mount, Namespace};
use coracle_net::{Endpoint, Join, dns, files};
use coracle_runtime::{Plan, Service};
use rustix::event::PollFlags;
use serde::{Deserialize, Serialize};

use crate::Kind;
use crate::Publish;
use crate::engine::Inner;
use crate::error::{Error, Result};

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
        Attachment { network: DEFAULT_NETWORK.into(), aliases: Vec::new(), address: None }
    }
}

/// A place in one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attachment {
    pub(crate) network: String,
    #[serde(default)]
    pub(crate) aliases: Vec<String>,
    #[serde(default)]
    pub(crate) address: Option<Ipv4Addr>,
}

/// A namespace with its endpoints, held as long as its container runs.
pub(crate) struct Stack {
    namespace: Namespace,
    endpoints: Vec<Endpoint>,
    dns: dns::Server,
}

impl Stack {
    /// A new namespace that has joined the networks under these names. Ports are published on the first one, which has
    /// the way out.
    pub(crate) fn open(
        engine: &Inner,
        id: &str,
        names: &[String],
        networks: &[Attachment],
        publish: &[Publish],
    ) -> Result<Stack> {
        let namespace = Namespace::new_net()?;
        coracle_net::loopback_up(namespace.as_fd())?;
        let mut endpoints = Vec::new();
        for (index, attachment) in networks.iter().enumerate() {
            let publish = if index == 0 { publish } else { &[] };
            endpoints.push(join(engine, &namespace, id, names, attachment, index, publish)?);
        }
        let upstream = dns::upstream(&host_resolv_conf());
        let dns = dns::Server::open(namespace.as_fd(), responder(&endpoints), upstream)?;
        Ok(Stack { namespace, endpoints, dns })
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
        let used = |number: &usize| {
            let name = format!("eth{number}");
            self.endpoints.iter().any(|endpoint| endpoint.interface() == name)
        };
        let number = (0..).find(|number| !used(number)).unwrap_or_default();
        let endpoint = join(engine, &self.namespace, id, names, attachment, number, &[])?;
        self.endpoints.push(endpoint);
        self.dns.set_responder(responder(&self.endpoints));
        Ok(())
    }

    /// Leaves a network while the container runs.
    pub(crate) fn disconnect(&mut self, network: &str) -> Result<()> {
        let index = self.endpoints.iter().position(|endpoint| endpoint.network().name() == network);
        let index =
            index.ok_or_else(|| Error::new(Kind::NotFound, format!("it is not in the network {network}")))?;
        let endpoint = self.endpoints.remove(index);
        self.dns.set_responder(responder(&self.endpoints));
        Ok(endpoint.leave()?)
    }

    /// Writes the container's `/etc/hosts` anew: it shows its addresses of now.
    pub(crate) fn write_hosts(&self, dir: &Dir, hostname: &str, extra: &[(String, IpAddr)]) -> Result<()> {
        write(dir, FILES[0], &files::hosts(hostname, &self.addresses(), extra)).map(drop)
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

/// A place in a network for the namespace. The first interface has the way out.
fn join(
    engine: &Inner,
    namespace: &Namespace,
    id: &str,
    names: &[String],
    attachment: &Attachment,
    number: usize,
    publish: &[Publish],
) -> Result<Endpoint> {
    let network = engine.network(&attachment.network)?;
    let mut join = Join::new(namespace.as_fd(), id)
        .names(names.iter().chain(&attachment.aliases).cloned())
        .interface(format!("eth{number}"))
        .default_route(number == 0);
    if let Some(address) = attachment.address {
        join = join.address(address);
    }
    join = publish.iter().fold(join, |join, publish| join.publish(publish.0.clone()));
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

/// Adds the mounts of a container's own files to its plan.
pub(crate) fn plan_files(plan: &mut Plan) -> Result<()> {
    for name in FILES {
        plan.attach(name, format!("/etc/{name}"))?;
    }
    Ok(())
}

/// The mounts of [`plan_files`]: `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf`, written to `dir`.
pub(crate) fn files(
    dir: &Dir,
    hostname: &str,
    stack: Option<&Stack>,
    mode: &Mode,
    extra: &[(String, IpAddr)],
) -> Result<Vec<Mount>> {
    let host = host_resolv_conf();
    let own = stack.map(Stack::addresses).unwrap_or_default();
    let resolv_conf = match mode {
        Mode::Networks(_) => files::resolv_conf(&host),
        Mode::Host | Mode::None | Mode::Container(_) => host,
    };
    let mut mounts = Vec::new();
    let texts = [files::hosts(hostname, &own, extra), files::hostname(hostname), resolv_conf];
    for (name, text) in FILES.into_iter().zip(texts) {
        let file = write(dir, name, &text)?;
        mounts.push(Mount::bind(&file, false, name)?.private()?);
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
