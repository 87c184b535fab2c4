//! A spec and an image become a record. Looks the image up and checks everything; changes nothing.

use coracle_build::{ImageConfig, RunConfig};
use coracle_runtime::{DEFAULT_PATH, LogLimits, docker_spec};
use oci_spec::runtime::Root;

use super::health::HealthCheck;
use super::record::{Asked, Record};
use super::spaces::{Ipc, Pids};
use super::spec::{ContainerSpec, Stdin};
use super::{check, device, places, rights, room, settings, shared};
use crate::engine::Inner;
use crate::error::{Error, Result};
use crate::signal::signal_number;
use crate::stack::Mode;
use crate::{Kind, Port, Publish};

/// The record of a new container.
pub(crate) fn record(engine: &Inner, spec: &ContainerSpec) -> Result<Record> {
    let mut problems = Vec::new();
    let image = match engine.store.image(&spec.image) {
        Ok(Some(image)) => Some(image),
        Ok(None) => {
            return Err(Error::new(Kind::NotFound, format!("no such image: {}", spec.image)));
        }
        Err(error) if error.kind() == Kind::Invalid => {
            problems.push(error.to_string());
            None
        }
        Err(error) => return Err(error.into()),
    };
    let config = match &image {
        Some(image) => run_config(engine, image)?,
        None => RunConfig::default(),
    };
    let config = &config;
    let args = command(spec, config);
    if args.is_empty() && image.is_some() {
        problems.push("no command: neither the image nor the container has one".into());
    }
    if let Some(arg) = args.iter().find(|arg| arg.contains('\0')) {
        problems.push(format!("argument \"{}\" of the command has a NUL byte in it", arg.escape_default()));
    }
    let mode = spec.net.mode();
    problems.extend(check::problems(spec, &mode));
    let capabilities = rights::capabilities(spec, &mut problems);
    problems.extend(spec.seccomp.problem());
    let (devices, device_rules) = device::resolve(&spec.devices, &spec.device_rules, &mut problems);
    let workdir =
        spec.workdir.clone().or_else(|| Some(config.working_dir.clone())).filter(|dir| !dir.is_empty());
    let workdir = workdir.unwrap_or_else(|| "/".into());
    if !workdir.starts_with('/') || workdir.contains('\0') {
        problems.push(format!("working directory `{}`: not an absolute path", workdir.escape_default()));
    }
    let health = health(spec, config, &mut problems);
    let exposed = exposed(spec, config, &mut problems);
    let stop_signal = Some(config.stop_signal.as_str()).filter(|name| !name.is_empty()).and_then(|name| {
        let number = signal_number(name);
        if number.is_none() {
            problems.push(format!("the image's stop signal `{name}`: no such signal"));
        }
        number
    });
    let (wrong, mut missing) = places::problems(engine, spec)?;
    problems.extend(wrong);
    missing.extend(check::missing_networks(engine, &mode)?);
    let mode = match mode {
        Mode::Container(name) => Mode::Container(shared::resolved(engine, name, &mut missing)?),
        mode => mode,
    };
    let mut spaces = spec.spaces.clone();
    if let Pids::Container(name) = spaces.pids {
        spaces.pids = Pids::Container(shared::resolved(engine, name, &mut missing)?);
    }
    if let Ipc::Container(name) = spaces.ipc {
        spaces.ipc = Ipc::Container(shared::resolved(engine, name, &mut missing)?);
    }
    let Some(image) = image.as_ref().filter(|_| problems.is_empty() && missing.is_empty()) else {
        // Only where nothing else is wrong with it the spec itself may be right.
        let kind = if problems.is_empty() { Kind::NotFound } else { Kind::Invalid };
        problems.extend(missing);
        return Err(Error::new(kind, problems.join("; ")));
    };

    let mounts = places::resolve(engine, spec, config)?;
    let id = room::new_id()?;
    let hostname = spec.hostname.clone().unwrap_or_else(|| match mode {
        _ if spaces.host_names => host_name(),
        Mode::Host => host_name(),
        Mode::Container(ref other) => shared::hostname(engine, other).unwrap_or_else(|| id[..12].to_owned()),
        _ => id[..12].to_owned(),
    });
    let mut oci = docker_spec();
    if mode == Mode::Host
        && let Some(linux) = oci.linux_mut()
    {
        let others = linux.namespaces().iter().flatten();
        let network = oci_spec::runtime::LinuxNamespaceType::Network;
        let others = others.filter(|namespace| namespace.typ() != network).cloned().collect();
        linux.set_namespaces(Some(others));
    }
    oci.set_hostname(Some(hostname.clone()));
    if spec.read_only {
        let mut root = Root::default();
        root.set_readonly(Some(true));
        oci.set_root(Some(root));
    }
    if spec.privileged {
        rights::open(&mut oci);
    }
    if spec.open_paths {
        rights::open_paths(&mut oci);
    }
    settings::apply(spec, devices, &mut oci);
    spaces.apply(&mut oci);
    if let Some(process) = oci.process_mut() {
        process
            .set_args(Some(args))
            .set_env(Some(env(spec, config, &hostname)))
            .set_terminal(spec.terminal.then_some(true))
            .set_cwd(workdir.into())
            .set_no_new_privileges(spec.no_new_privileges.then_some(true));
        let mut sets = process.capabilities().clone().unwrap_or_default();
        sets.set_bounding(Some(capabilities.clone()))
            .set_permitted(Some(capabilities.clone()))
            .set_effective(Some(capabilities));
        process.set_capabilities(Some(sets));
    }
    Ok(Record {
        id,
        name: spec.name.clone(),
        created: jiff::Timestamp::now().to_string(),
        image: spec.image.clone(),
        image_id: image.id().to_string(),
        layers: image.layers().to_vec(),
        spec: oci,
        user: spec.user.clone().unwrap_or_else(|| config.user.clone()),
        hostname,
        mounts,
        network: mode,
        hosts: spec.net.hosts.clone(),
        resolver: spec.net.resolver.clone(),
        publish: published(spec, &exposed).iter().map(|publish| publish.0.to_string()).collect(),
        exposed: exposed.iter().map(Port::to_string).collect(),
        publish_exposed: spec.net.publish_exposed,
        labels: spec.labels.iter().cloned().collect(),
        interactive: spec.interactive,
        open_stdin: spec.open_stdin.is_some(),
        stdin_once: spec.open_stdin == Some(Stdin::Once),
        attach: spec.attach,
        limits: spec.limits.clone(),
        device_rules,
        spaces,
        groups: spec.groups.clone(),
        asked: Asked {
            cap_add: spec.cap_add.clone(),
            cap_drop: spec.cap_drop.clone(),
            devices: spec.devices.clone(),
            device_rules: spec.device_rules.clone(),
        },
        cgroup_parent: spec.cgroup_parent.clone(),
        privileged: spec.privileged,
        seccomp: spec.seccomp.clone(),
        init: spec.init,
        log: spec.log.unwrap_or(Some(LogLimits::default())),
        restart: spec.restart,
        health,
        stop_signal: spec.stop_signal.or(stop_signal),
        stop_timeout: spec.stop_timeout,
        keep: spec.keep,
        retain: (spec.keep && !spec.remove) || spec.retain,
    })
}

/// The ports that it and its image say that they serve, in order.
fn exposed(spec: &ContainerSpec, config: &RunConfig, problems: &mut Vec<String>) -> Vec<Port> {
    let mut ports = spec.net.expose.clone();
    for text in config.exposed_ports.keys() {
        match Port::parse(text) {
            Ok(port) => ports.push(port),
            Err(error) => problems.push(format!("the image exposes what is no port: {error}")),
        }
    }
    ports.sort();
    ports.dedup();
    ports
}

/// The ports that are published: those that were named, and with them all others where that is asked for. Not where there
/// is no network of its own, as docker has it.
fn published(spec: &ContainerSpec, exposed: &[Port]) -> Vec<Publish> {
    let mut publish = spec.net.publish.clone();
    if spec.net.publish_exposed && matches!(spec.net.mode(), Mode::Networks(_)) {
        let named = |port: &&Port| spec.net.publish.iter().any(|publish| port.is_of(publish));
        publish.extend(exposed.iter().filter(|port| !named(port)).map(|port| port.anywhere()));
    }
    publish
}

/// Bytes of an image's configuration; those of real images have some kilobytes.
const LONGEST_CONFIG: u64 = 8 << 20;

/// How an image says that it is to be run. (OCI's own type has no health check.)
fn run_config(engine: &Inner, image: &coracle_layers::Image) -> Result<RunConfig> {
    let blob = engine.store.blobs().read(&image.id().digest(), LONGEST_CONFIG)?;
    Ok(ImageConfig::from_json(&blob)?.config)
}

/// The image's health check, or the spec's.
fn health(spec: &ContainerSpec, config: &RunConfig, problems: &mut Vec<String>) -> Option<HealthCheck> {
    if let Some(own) = &spec.health {
        return own.clone();
    }
    let check = HealthCheck::from_image(config.healthcheck.as_ref()?, config.shell.as_deref());
    check.unwrap_or_else(|problem| {
        problems.push(format!("the image's health check: {problem}"));
        None
    })
}

/// Dockerfile reference, "Understand how CMD and ENTRYPOINT interact".
fn command(spec: &ContainerSpec, config: &RunConfig) -> Vec<String> {
    let own = config.cmd.clone().unwrap_or_default();
    let (mut args, rest) = match &spec.entrypoint {
        Some(entrypoint) => (entrypoint.clone(), spec.command.clone().unwrap_or_default()),
        None => (config.entrypoint.clone().unwrap_or_default(), spec.command.clone().unwrap_or(own)),
    };
    args.extend(rest);
    args
}

fn env(spec: &ContainerSpec, config: &RunConfig, hostname: &str) -> Vec<String> {
    let mut env: Vec<(String, String)> =
        vec![("PATH".into(), DEFAULT_PATH.into()), ("HOSTNAME".into(), hostname.to_owned())];
    if spec.terminal {
        env.push(("TERM".into(), "xterm".into()));
    }
    let given = config.env.iter().filter_map(|pair| pair.split_once('='));
    let given = given.map(|(name, value)| (name.to_owned(), value.to_owned()));
    for (name, value) in given.chain(spec.env.iter().cloned()) {
        match env.iter_mut().find(|(known, _)| *known == name) {
            Some(known) => known.1 = value,
            None => env.push((name, value)),
        }
    }
    env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts() {
        let config = RunConfig {
            env: vec!["PATH=/x".into(), "A=1".into()],
            entrypoint: Some(vec!["e".into()]),
            cmd: Some(vec!["c".into()]),
            ..RunConfig::default()
        };
        let spec = ContainerSpec::new("i").env("A", "2").env("B", "3=4");
        assert_eq!(env(&spec, &config, "h"), ["PATH=/x", "HOSTNAME=h", "A=2", "B=3=4"]);
        assert_eq!(command(&spec, &config), ["e", "c"]);
        assert_eq!(command(&spec.clone().command(["d"]), &config), ["e", "d"]);
        assert_eq!(command(&spec.clone().entrypoint(["f"]), &config), ["f"]);
        assert_eq!(command(&spec.entrypoint([""; 0]).command(["d"]), &config), ["d"]);
    }
}
