//! A spec and an image become a record. Looks the image up and checks everything; changes nothing.

use std::collections::HashMap;

use coracle_build::{ImageConfig, RunConfig};
use coracle_layers::Platform;
use coracle_runtime::{Facts, LogLimits, docker_spec};
use oci_spec::runtime::Root;

use super::record::{Asked, Record};
use super::spaces::{Ipc, Pids};
use super::spec::{ContainerSpec, Stdin};
use super::{check, config, device, label, places, rights, room, settings, shared};
use crate::engine::Inner;
use crate::error::{Error, Result};
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
    let given = match &image {
        Some(image) => {
            problems.extend(spec.platform.as_ref().and_then(|wanted| unfit(wanted, image)));
            image_config(engine, image)?.config
        }
        None => RunConfig::default(),
    };
    let health = config::health(spec, &given, &mut problems);
    let config = config::merged(spec, &given, health.as_ref());
    let args = config::args(&config);
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
    let workdir = if config.working_dir.is_empty() { "/" } else { config.working_dir.as_str() }.to_owned();
    if !workdir.starts_with('/') || workdir.contains('\0') {
        problems.push(format!("working directory `{}`: not an absolute path", workdir.escape_default()));
    }
    let exposed = config::exposed(&config, &mut problems);
    let stop_signal = config::stop_signal(&config, &mut problems);
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

    let mounts = places::resolve(engine, spec, &given)?;
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
    let annotations = spec.annotations.iter().cloned().collect::<HashMap<_, _>>();
    oci.set_annotations(Some(annotations).filter(|all| !all.is_empty()));
    settings::apply(spec, devices, &mut oci);
    label::apply(spec, &id, &Facts::of_this_host(), &mut oci)?;
    spaces.apply(&mut oci);
    if let Some(process) = oci.process_mut() {
        process
            .set_args(Some(args))
            .set_env(Some(config::env(&config, &hostname, spec.terminal)))
            .set_terminal(spec.terminal.then_some(true))
            .set_cwd(workdir.into())
            .set_no_new_privileges(spec.no_new_privileges.then_some(true));
        rights::bound(process, &capabilities);
    }
    Ok(Record {
        id,
        name: spec.name.clone(),
        created: jiff::Timestamp::now().to_string(),
        image: spec.image.clone(),
        image_id: image.id().to_string(),
        layers: image.layers().to_vec(),
        spec: oci,
        config,
        hostname,
        mounts,
        network: mode,
        hosts: spec.net.hosts.clone(),
        resolver: spec.net.resolver.clone(),
        publish: published(spec, &exposed).iter().map(|publish| publish.0.to_string()).collect(),
        publish_exposed: spec.net.publish_exposed,
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
            apparmor: spec.apparmor.clone(),
            label_options: spec.label_options.clone(),
        },
        cgroup_parent: spec.cgroup_parent.clone(),
        privileged: spec.privileged,
        seccomp: spec.seccomp.clone(),
        init: spec.init,
        log: spec.log.unwrap_or(Some(LogLimits::default())),
        restart: spec.restart,
        health,
        stop_signal,
        stop_timeout: spec.stop_timeout,
        keep: spec.keep,
        retain: (spec.keep && !spec.remove) || spec.retain,
    })
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

fn image_config(engine: &Inner, image: &coracle_layers::Image) -> Result<ImageConfig> {
    let blob = engine.store.blobs().read(&image.id().digest(), LONGEST_CONFIG)?;
    Ok(ImageConfig::from_json(&blob)?)
}

/// Why an image is not for the platform that is wanted, if it is not.
fn unfit(wanted: &str, image: &coracle_layers::Image) -> Option<String> {
    let config = image.config();
    match wanted.parse::<Platform>() {
        Err(problem) => Some(problem.to_string()),
        Ok(platform) if image.is_for(&platform) => None,
        Ok(_) => Some(format!(
            "the image does not match the specified platform: wanted {wanted}, actual: {}/{}",
            config.os(),
            config.architecture()
        )),
    }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
