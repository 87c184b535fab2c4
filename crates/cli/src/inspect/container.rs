//! Containers as docker's JSON: what is known of one, under docker's names and in its order. What is not known is not
//! there: no `null` stands for a fact.

use std::collections::BTreeMap;
use std::net::IpAddr;

use coracle::{Attached, Container, Engine, Health, Network, Probe, State, Status};

use super::{config, host, image, mounts};
use crate::fail::Fail;
use crate::template::Value;

/// What docker has for a time that has not come.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// What docker tells of a container, as far as there is such a thing here.
pub(crate) fn describe(engine: &Engine, container: &Container, size: bool) -> Result<Value, Fail> {
    let status = container.status()?;
    let file = |name: &str| Value::from(container.directory().join(name).as_path());
    let (path, arguments) =
        container.command().split_first().map_or(("", &[][..]), |(path, rest)| (path, rest));
    let mut fields = vec![
        ("Id", container.id().into()),
        ("Created", container.created().into()),
        ("Path", path.into()),
        ("Args", Value::list(arguments)),
        ("State", state(&status)),
        ("Image", container.image_id().into()),
        ("ResolvConfPath", file("resolv.conf")),
        ("HostnamePath", file("hostname")),
        ("HostsPath", file("hosts")),
        ("LogPath", if container.log_limits().is_some() { file("log") } else { "".into() }),
        ("Name", format!("/{}", container.name()).into()),
        ("RestartCount", i64::from(status.restarts).into()),
        ("Driver", "overlay2".into()),
        ("Platform", "linux".into()),
        ("MountLabel", container.mount_label().unwrap_or_default().into()),
        ("ProcessLabel", container.process_label().unwrap_or_default().into()),
        ("AppArmorProfile", container.apparmor_profile().unwrap_or_default().into()),
        ("HostConfig", host::config(container)),
        ("GraphDriver", image::driver(container.trees(), Some(container.directory()))),
    ];
    if size {
        let written = container.written()?;
        let image = engine.image(container.image_id())?.map_or(0, |image| image.size());
        fields.push(("SizeRw", written.into()));
        fields.push(("SizeRootFs", image.saturating_add(written).into()));
    }
    fields.push(("Mounts", mounts::mounts(engine, container)?));
    fields.push(("Config", config::config(container.config(), Some(container))));
    fields.push(("NetworkSettings", network_settings(container)?));
    Ok(Value::fields(fields))
}

/// docker's word for what a container is doing.
pub(crate) fn state_name(state: State) -> &'static str {
    match state {
        State::Created | State::Starting => "created",
        State::Restarting => "restarting",
        State::Running => "running",
        State::Paused => "paused",
        State::Exited(_) => "exited",
        _ => "dead",
    }
}

fn state(status: &Status) -> Value {
    let code = match status.state {
        State::Exited(exit) => i64::from(exit.code()),
        State::Dead => 255,
        _ => 0,
    };
    let time = |time: &Option<String>| Value::from(time.as_deref().unwrap_or(NEVER));
    let mut fields = vec![
        ("Status", state_name(status.state).into()),
        ("Running", matches!(status.state, State::Running | State::Paused | State::Restarting).into()),
        ("Paused", (status.state == State::Paused).into()),
        ("Restarting", (status.state == State::Restarting).into()),
        ("OOMKilled", status.oom_killed.into()),
        ("Dead", (status.state == State::Dead).into()),
        ("Pid", i64::from(status.pid.unwrap_or(0)).into()),
        ("ExitCode", code.into()),
        ("Error", status.error.as_deref().unwrap_or_default().into()),
        ("StartedAt", time(&status.started)),
        ("FinishedAt", time(&status.finished)),
    ];
    if let Some(health) = &status.health {
        fields.push(("Health", health_of(health)));
    }
    Value::fields(fields)
}

fn health_of(health: &Health) -> Value {
    let probe = |probe: &Probe| {
        Value::fields([
            ("Start", probe.start.as_str().into()),
            ("End", probe.end.as_str().into()),
            ("ExitCode", i64::from(probe.exit_code).into()),
            ("Output", probe.output.as_str().into()),
        ])
    };
    Value::fields([
        ("Status", health.status.to_string().into()),
        ("FailingStreak", i64::from(health.failing_streak).into()),
        ("Log", Value::list(health.log.iter().map(probe))),
    ])
}

fn network_settings(container: &Container) -> Result<Value, Fail> {
    let mut ports: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for published in container.published()? {
        let host = published.host();
        let binding = Value::fields([
            ("HostIp", host.ip().to_string().into()),
            ("HostPort", host.port().to_string().into()),
        ]);
        ports.entry(published.container().to_string()).or_default().push(binding);
    }
    let endpoints = container.endpoints()?;
    // docker has a null for what is served and not published.
    let closed = container.exposed().into_iter().filter(|_| !endpoints.is_empty());
    let closed: Vec<_> =
        closed.map(|port| port.to_string()).filter(|port| !ports.contains_key(port)).collect();
    let open = ports.into_iter().map(|(port, bindings)| (port, Value::List(bindings)));
    let ports: BTreeMap<String, Value> =
        open.chain(closed.into_iter().map(|port| (port, Value::NoList))).collect();
    let mut networks = BTreeMap::new();
    // Those that it has when it runs have their names before.
    for name in container.network_names() {
        let found = endpoints.iter().find(|(network, _)| network.name() == name);
        networks.insert(name.to_owned(), endpoint(found));
    }
    let first = networks.get("bridge").cloned().unwrap_or_else(|| endpoint(None));
    let of_first = |field: &str| first.entry(field).cloned().unwrap_or(Value::Nil);
    Ok(Value::fields([
        ("Ports", Value::Map(ports)),
        // What only the default network has up here.
        ("Gateway", of_first("Gateway")),
        ("IPAddress", of_first("IPAddress")),
        ("IPPrefixLen", of_first("IPPrefixLen")),
        ("IPv6Gateway", of_first("IPv6Gateway")),
        ("GlobalIPv6Address", of_first("GlobalIPv6Address")),
        ("GlobalIPv6PrefixLen", of_first("GlobalIPv6PrefixLen")),
        ("MacAddress", of_first("MacAddress")),
        ("Networks", Value::Map(networks)),
    ]))
}

fn endpoint(found: Option<&(Network, Attached)>) -> Value {
    let text = |text: Option<String>| Value::from(text.unwrap_or_default());
    let pool = |address: Option<IpAddr>| {
        let (network, _) = found?;
        network.pools().iter().find(|pool| address.is_some_and(|address| pool.subnet.contains(address)))
    };
    let ipv4 = found.map(|(_, attached)| IpAddr::V4(attached.address));
    let ipv6 = found.and_then(|(_, attached)| attached.ipv6.map(IpAddr::V6));
    let gateway = |address| text(pool(address).map(|pool| pool.gateway.to_string()));
    let bits = |address| Value::from(pool(address).map_or(0, |pool| i64::from(pool.subnet.prefix_len())));
    let shown = |address: Option<IpAddr>| text(address.map(|address| address.to_string()));
    Value::fields([
        ("Aliases", found.map_or(Value::NoList, |(_, attached)| Value::list(&attached.names))),
        ("MacAddress", text(found.map(|(_, attached)| attached.mac.to_string()))),
        ("NetworkID", text(found.map(|(network, _)| network.id().to_owned()))),
        ("Gateway", gateway(ipv4)),
        ("IPAddress", shown(ipv4)),
        ("IPPrefixLen", bits(ipv4)),
        ("IPv6Gateway", gateway(ipv6)),
        ("GlobalIPv6Address", shown(ipv6)),
        ("GlobalIPv6PrefixLen", bits(ipv6)),
        ("DNSNames", found.map_or(Value::NoList, |(_, attached)| Value::list(&attached.names))),
    ])
}
