//! Three engines, each in a network namespace of its own with a neighbour: two containers, one port published.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use coracle_host::{Dir, Namespace, Staging};
use coracle_net::ports::parse;
use coracle_net::{Endpoint, Join, Network, NetworkSpec, Networks};

use crate::Result;
use crate::load::{PORT, serve};

const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const GROUP: &str = "coracle-bench-net";

/// Ways to the server.
#[derive(Clone, Copy)]
pub(crate) enum Way {
    Container,
    Loopback,
    Own,
    Neighbour,
    Hairpin,
}

pub(crate) const PATHS: [Way; 5] = [Way::Container, Way::Loopback, Way::Own, Way::Neighbour, Way::Hairpin];

impl Way {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Way::Container => "container to container",
            Way::Loopback => "published, loopback",
            Way::Own => "published, the host's own address",
            Way::Neighbour => "published, from the LAN",
            Way::Hairpin => "published, from a container",
        }
    }
}

/// One engine's.
pub(crate) struct World {
    pub(crate) name: &'static str,
    pub(crate) host: Namespace,
    pub(crate) outside: Namespace,
    peer: Namespace,
    address: Ipv4Addr,
    _keep: Box<dyn std::any::Any>,
}

impl World {
    /// Where to call from, and whom.
    pub(crate) fn path(&self, way: Way) -> (&Namespace, SocketAddr) {
        match way {
            Way::Container => (&self.peer, (self.address, PORT).into()),
            Way::Loopback => (&self.host, (Ipv4Addr::LOCALHOST, PORT).into()),
            Way::Own => (&self.host, (HOST, PORT).into()),
            Way::Neighbour => (&self.outside, (HOST, PORT).into()),
            Way::Hairpin => (&self.peer, (HOST, PORT).into()),
        }
    }
}

/// A place for the programs' files that goes with us, and an image with one program.
pub(crate) fn prepare(place: &Path) -> Result<()> {
    let line = format!(
        "mount --make-rprivate / && mount -t tmpfs tmpfs /run && ip link set lo up && \
         mkdir {0}/root && cp \"$(command -v busybox)\" {0}/root/ && tar -C {0}/root -cf {0}/base.tar .",
        place.display()
    );
    run("sh", &["-c", &line])
}

/// Removes what the programs left outside of our namespaces.
pub(crate) fn clean(place: &Path) {
    let line = format!(
        "grep -o ' {0}[^ ]*' /proc/mounts | sort -r | xargs -r umount -l; rm -rf {0}; for try in 1 2 3; do \
         find /sys/fs/cgroup/*/{GROUP} -depth -type d -exec rmdir {{}} + 2>/dev/null; sleep 0.1; done; true",
        place.display()
    );
    let _ = run("sh", &["-c", &line]);
}

pub(crate) fn run(program: &str, words: &[&str]) -> Result<()> {
    let status = Command::new(program).args(words).stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(format!("{program} {words:?}: {status}").into()) }
}

/// A host with a neighbour: 192.0.2.1 here, 192.0.2.2 there.
fn world() -> Result<(Namespace, Namespace)> {
    let (host, outside) = (Namespace::new_net()?, Namespace::new_net()?);
    let (pid, fd) = (std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&outside.as_fd()));
    let here = format!(
        "ip link set lo up && ip link add wan mtu 1500 type veth peer name wan netns /proc/{pid}/fd/{fd} && \
         ip addr add {HOST}/24 dev wan && ip link set wan up && ip route add default via 192.0.2.2"
    );
    host.within(|| run("sh", &["-c", &here]))??;
    outside.within(|| run("sh", &["-c", "ip addr add 192.0.2.2/24 dev wan && ip link set wan up"]))??;
    Ok((host, outside))
}

pub(crate) struct Coracle {
    host: Namespace,
    outside: Namespace,
    pub(crate) networks: Networks,
}

impl Coracle {
    pub(crate) fn open(place: &Path) -> Result<Coracle> {
        let (host, outside) = world()?;
        let state = Dir::create(place.join("coracle"), 0o700)?;
        let staging = Staging::open(&state.make("tmp", 0o700)?)?;
        Ok(Coracle { host, outside, networks: Networks::new(state.make("networks", 0o700)?, staging) })
    }

    /// Does something on the engine's host.
    pub(crate) fn on_host<T: Send>(&self, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.host.within(act)?
    }

    pub(crate) fn world(&self) -> Result<World> {
        let network = self.networks.open(&NetworkSpec::new("bench"))?;
        let (a, b) = (Namespace::new_net()?, Namespace::new_net()?);
        let ports = [format!("{PORT}:{PORT}")];
        let (server, peer) = self.on_host(|| Ok((join(&network, &a, &ports)?, join(&network, &b, &[])?)))?;
        serve(&a)?;
        let address = server.address();
        let keep = Leave { host: self.host.try_clone()?, endpoints: vec![server, peer] };
        let (host, outside) = (self.host.try_clone()?, self.outside.try_clone()?);
        Ok(World { name: "coracle", host, outside, peer: b, address, _keep: Box::new(keep) })
    }
}

pub(crate) fn join(network: &Network, netns: &Namespace, ports: &[String]) -> Result<Endpoint> {
    let mut join = Join::new(netns.as_fd(), "c").names(["c"]);
    for text in ports {
        join = parse(text)?.into_iter().fold(join, Join::publish);
    }
    Ok(network.join(&join)?)
}

/// Endpoints are left on a thread of their host's.
struct Leave {
    host: Namespace,
    endpoints: Vec<Endpoint>,
}

impl Drop for Leave {
    fn drop(&mut self) {
        let endpoints = std::mem::take(&mut self.endpoints);
        let _ = self.host.within(|| drop(endpoints));
    }
}

/// What docker and podman have in common: a command line.
pub(crate) trait Program: Sync {
    const NAME: &'static str;
    /// The program with its global flags.
    fn command(&self) -> Command;
    fn host(&self) -> &Namespace;
    fn outside(&self) -> &Namespace;

    /// Removes a container at once.
    fn remove(&self, name: &str) -> Result<()> {
        self.ask(&["rm", "-f", name]).map(drop)
    }

    /// Runs a verb on the engine's host; what it printed.
    fn ask(&self, words: &[&str]) -> Result<String> {
        let output = self.host().within(|| self.command().args(words).stdin(Stdio::null()).output())??;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
            false => {
                let said = String::from_utf8_lossy(&output.stderr);
                Err(format!("{} {words:?}: {said}", Self::NAME).into())
            }
        }
    }

    /// Starts a container that sleeps.
    fn start(&self, name: &str, flags: &[&str]) -> Result<()> {
        let group = format!("/{GROUP}");
        let words = ["run", "-d", "--name", name, "--cgroup-parent", &group];
        let rest = ["bb:1", "/busybox", "sleep", "100000"];
        self.ask(&[&words[..], flags, &rest].concat()).map(drop)
    }

    /// The container's namespace and address.
    fn look(&self, name: &str) -> Result<(Namespace, Ipv4Addr)> {
        let format = "{{.State.Pid}} {{.NetworkSettings.IPAddress}}";
        let told = self.ask(&["inspect", "-f", format, name])?;
        let (pid, address) = told.split_once(' ').ok_or("inspect: no address")?;
        let netns = File::open(format!("/proc/{pid}/ns/net"))?;
        Ok((Namespace::try_from(netns.as_fd())?, address.parse()?))
    }

    fn world(&self) -> Result<World> {
        let port = format!("{PORT}:{PORT}");
        self.start("server", &["-p", &port])?;
        self.start("peer", &[])?;
        let ((a, address), (b, _)) = (self.look("server")?, self.look("peer")?);
        serve(&a)?;
        let (host, outside) = (self.host().try_clone()?, self.outside().try_clone()?);
        Ok(World { name: Self::NAME, host, outside, peer: b, address, _keep: Box::new(()) })
    }
}

/// A docker daemon of our own.
pub(crate) struct Docker {
    host: Namespace,
    outside: Namespace,
    socket: PathBuf,
    daemon: Child,
}

impl Docker {
    /// `None` where it is not installed.
    pub(crate) fn open(place: &Path) -> Result<Option<Docker>> {
        if run("sh", &["-c", "command -v docker && command -v dockerd"]).is_err() {
            println!("docker: not installed");
            return Ok(None);
        }
        let (host, outside) = world()?;
        let socket = place.join("docker.sock");
        let log = File::create(place.join("dockerd.log"))?;
        let daemon = host.within(|| {
            let mut command = Command::new("dockerd");
            command.arg("--data-root").arg(place.join("docker")).args(["--exec-root", "/run/docker"]);
            command.args(["-p", "/run/docker.pid", "-H"]).arg(format!("unix://{}", socket.display()));
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()
        })??;
        let docker = Docker { host, outside, socket, daemon };
        let deadline = Instant::now() + Duration::from_secs(30);
        while docker.ask(&["version"]).is_err() {
            if Instant::now() > deadline {
                println!("docker: the daemon does not come up");
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        docker.ask(&["import", &place.join("base.tar").display().to_string(), "bb:1"])?;
        Ok(Some(docker))
    }
}

impl Program for Docker {
    const NAME: &'static str = "docker";

    fn command(&self) -> Command {
        let mut command = Command::new("docker");
        command.env("DOCKER_HOST", format!("unix://{}", self.socket.display()));
        command
    }

    fn host(&self) -> &Namespace {
        &self.host
    }

    fn outside(&self) -> &Namespace {
        &self.outside
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let _ = self.remove("peer");
        let _ = self.remove("many");
        let _ = run("kill", &[&self.daemon.id().to_string()]);
        let _ = self.daemon.wait();
    }
}

pub(crate) struct Podman {
    host: Namespace,
    outside: Namespace,
    place: PathBuf,
}

impl Podman {
    /// `None` where it is not installed.
    pub(crate) fn open(place: &Path) -> Result<Option<Podman>> {
        if run("sh", &["-c", "command -v podman && command -v runc"]).is_err() {
            println!("podman: not installed");
            return Ok(None);
        }
        let (host, outside) = world()?;
        let podman = Podman { host, outside, place: place.into() };
        podman.ask(&["import", &place.join("base.tar").display().to_string(), "bb:1"])?;
        Ok(Some(podman))
    }
}

impl Program for Podman {
    const NAME: &'static str = "podman";

    fn command(&self) -> Command {
        let mut command = Command::new("podman");
        command.arg("--root").arg(self.place.join("podman"));
        command.args(["--runroot", "/run/podman", "--tmpdir", "/run/podman-tmp", "--runtime", "runc"]);
        command.arg("--network-config-dir").arg(self.place.join("podman-networks"));
        command.args(["--cgroup-manager", "cgroupfs", "--events-backend", "none"]);
        command
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.ask(&["rm", "-f", "-t", "0", name]).map(drop)
    }

    fn host(&self) -> &Namespace {
        &self.host
    }

    fn outside(&self) -> &Namespace {
        &self.outside
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        for name in ["server", "peer", "many"] {
            let _ = self.remove(name);
        }
    }
}
