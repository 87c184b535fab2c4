//! A RUN step: its process, its network, its end.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd};

use coracle_build::{Cancel, Command, HostAddress, Network, Stream};
use coracle_host::{Exit, PidFd, Root};
use coracle_runtime::cgroup::Cgroup;
use coracle_runtime::seccomp::{Profile, Program, Target};
use coracle_runtime::{Bundle, Facts, Plan, Pump, Service, Stdio, docker_spec, supervise};
use oci_spec::runtime::{Capability, LinuxNamespaceType, Spec};
use rustix::event::PollFlags;
use rustix::thread::{CapabilitySet, capability_is_in_bounding_set};

use super::stubs::Stubs;
use super::{Builder, Change, Snapshot, directory, mounts};
use crate::container::{new_id, set_rlimits, set_shm_size, set_user};
use crate::error::{Doing, Result};
use crate::resolver::{self, Resolver};
use crate::stack::{self, Attachment, DEFAULT_NETWORK, Mode, Stack, Told, Wiring};

/// Where a container has mounts of its own in any case.
const PLACES: [&str; 5] = ["/proc", "/sys", "/dev", "/etc/hosts", "/etc/resolv.conf"];

impl Builder<'_> {
    /// Runs the command on the calling thread, which owns it: a build that is killed takes its steps along.
    pub(super) fn execute(
        &self,
        on: &Snapshot,
        place: &Change,
        command: &Command,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Exit> {
        let rootfs = self.mount(on, place)?;
        let root = directory(&rootfs.mount)?;
        let inside = Root::new(root.as_fd(), "snapshot");
        inside.make_dirs(&command.cwd, 0o755, None)?;
        let targets = command.mounts.iter().filter_map(|mount| mount.target());
        let stubs = Stubs::before(inside, PLACES.into_iter().chain(targets))?;
        let id = new_id()?;
        let mode = match command.network {
            Network::Host => Mode::Host,
            Network::None => Mode::None,
            Network::Default => {
                self.hold_network()?;
                Mode::Networks(vec![Attachment::default_network()])
            }
        };
        let mut spec = spec(command, &mode);
        spec.set_hostname(Some(command.hostname.clone()));
        if let Some(process) = spec.process_mut() {
            // Those that list the user, as BuildKit has it.
            set_user(process, &command.user, &root, |user, _| Ok(user.groups.clone()))?;
        }
        let group = self.group(place)?;
        if let (Some(group), Some(linux)) = (&group, spec.linux_mut()) {
            linux.set_cgroups_path(Some(group.place().name().into()));
        }
        let mut plan = Plan::container(&spec, &Facts::of_this_host())?;
        if !command.insecure {
            plan.filter(&filter(&spec)?)?;
        }
        let resolver = Resolver::default();
        let names = std::slice::from_ref(&command.hostname);
        let bare =
            Wiring { id: &id, names: &[], networks: &[], publish: &[], resolver: &resolver, users: None };
        let mut stack = match &mode {
            // A step has no other container beside it.
            Mode::Host | Mode::Container(_) => None,
            Mode::None => Some(Stack::open(self.engine, &bare)?),
            Mode::Networks(networks) => Some(Stack::open(self.engine, &Wiring { names, networks, ..bare })?),
        };
        stack::plan_files(&mut plan, &stack::STEP_FILES)?;
        let mut hosts = self.hosts(command)?;
        // Where it has no address of its own its name is here all the same, as with BuildKit.
        if !matches!(mode, Mode::Networks(_)) {
            let here = resolver::HostAddress::Is(IpAddr::V4(Ipv4Addr::LOCALHOST));
            hosts.push((command.hostname.clone(), here));
        }
        let told = Told { hostname: &command.hostname, hosts: &hosts, resolver: &resolver };
        let mut given = stack::files(place.staged.dir(), &stack::STEP_FILES, &told, stack.as_ref(), &mode)?;
        let mut held = mounts::open(self, place, command)?;
        for mount in std::mem::take(&mut held.mounts) {
            plan.attach(mount.what, mount.at)?;
            given.push(mount.mount);
        }
        let net = stack.as_ref().map(Stack::namespace).transpose()?;
        let stdio = [Stdio::Null, Stdio::Pipe, Stdio::Pipe];
        let entrance = group.as_ref().map(Cgroup::entrance).transpose()?;
        let bundle = Bundle { mounts: given, net, stdio, group: entrance, ..Bundle::new(rootfs.mount) };
        let mut running = plan.start(bundle)?;
        let exit = {
            let mut pump = Pump::new(running.stdout.take(), running.stderr.take())?.to(|stream, bytes| {
                let stream = match stream {
                    coracle_runtime::Stream::Stdout => Stream::Stdout,
                    coracle_runtime::Stream::Stderr => Stream::Stderr,
                };
                output(stream, bytes);
            });
            let mut end =
                self.cancel.as_ref().map(|cancel| End { cancel, process: &running.pidfd, done: false });
            let mut services: Vec<&mut dyn Service> = vec![&mut pump];
            services.extend(stack.as_mut().map(|stack| stack as &mut dyn Service));
            services.extend(held.agents.iter_mut().map(|agent| agent as &mut dyn Service));
            services.extend(end.as_mut().map(|end| end as &mut dyn Service));
            supervise(&running.pidfd, &mut services)?
        };
        drop(held);
        group.map_or(Ok(()), Cgroup::remove)?;
        stubs.remove(inside).doing(|| "remove the places of the step's mounts")?;
        if let Some(stack) = stack {
            self.leave(stack)?;
        }
        Ok(exit)
    }

    fn hosts(&self, command: &Command) -> Result<Vec<(String, resolver::HostAddress)>> {
        let address = |address: &HostAddress| -> Result<IpAddr> {
            match address {
                HostAddress::Ip(ip) => Ok(*ip),
                HostAddress::Gateway => Ok(IpAddr::V4(self.engine.network(DEFAULT_NETWORK)?.gateway())),
            }
        };
        let line = |(name, of): &(String, HostAddress)| -> Result<_> {
            Ok((name.clone(), resolver::HostAddress::Is(address(of)?)))
        };
        command.hosts.iter().map(line).collect()
    }
}

fn spec(command: &Command, mode: &Mode) -> Spec {
    let mut spec = docker_spec();
    if let Some(linux) = spec.linux_mut() {
        if *mode == Mode::Host {
            let mut namespaces = linux.namespaces().clone().unwrap_or_default();
            namespaces.retain(|namespace| namespace.typ() != LinuxNamespaceType::Network);
            linux.set_namespaces(Some(namespaces));
        }
        if command.insecure {
            linux.set_masked_paths(None).set_readonly_paths(None);
        }
    }
    if let Some(bytes) = command.shm_size {
        set_shm_size(&mut spec, bytes);
    }
    if let Some(process) = spec.process_mut() {
        let env = command.env.iter().chain(&command.quiet_env);
        let env = env.map(|(name, value)| format!("{name}={value}")).collect();
        process.set_args(Some(command.argv.clone())).set_env(Some(env)).set_cwd(command.cwd.clone().into());
        set_rlimits(process, &command.rlimits);
        if command.insecure {
            let all = all_capabilities();
            let mut sets = process.capabilities().clone().unwrap_or_default();
            sets.set_bounding(Some(all.clone())).set_permitted(Some(all.clone())).set_effective(Some(all));
            process.set_capabilities(Some(sets));
        }
    }
    if command.insecure {
        for mount in spec.mounts_mut().iter_mut().flatten() {
            let options = mount.options().clone().unwrap_or_default();
            if mount.destination() == std::path::Path::new("/sys") {
                mount.set_options(Some(options.into_iter().filter(|option| option != "ro").collect()));
            }
        }
    }
    spec
}

/// Docker's default filter, for the capabilities that a step has.
fn filter(spec: &Spec) -> Result<Program> {
    let sets = spec.process().as_ref().and_then(|process| process.capabilities().as_ref());
    let bounding = sets.and_then(|sets| sets.bounding().clone()).unwrap_or_default();
    Ok(Profile::docker().compile(&Target::of_this_host(bounding)?)?)
}

/// All that this program could give away.
fn all_capabilities() -> std::collections::HashSet<Capability> {
    let own = CapabilitySet::all()
        .iter_names()
        .filter(|(_, capability)| capability_is_in_bounding_set(*capability).unwrap_or(false));
    own.filter_map(|(name, _)| name.parse().ok()).collect()
}

/// SIGKILL: signal(7).
const KILL: u8 = 9;

/// Kills the command when the build is cancelled.
struct End<'a> {
    cancel: &'a Cancel,
    process: &'a PidFd,
    done: bool,
}

impl Service for End<'_> {
    fn interests(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        // The descriptor stays readable.
        if self.done { Vec::new() } else { vec![(self.cancel.as_fd(), PollFlags::IN)] }
    }

    fn ready(&mut self) {
        if self.cancel.is_cancelled() {
            // The first process of the container takes the others along. It may have ended by itself just now.
            let _ = self.process.signal(KILL);
            self.done = true;
        }
    }
}
