//! What a container was given, as docker's `HostConfig`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use coracle::{Container, GivenDevice, Ipc, LimitValues, LogLimits, Pids, Restart, Seccomp, Throttle};

use super::mounts;
use crate::template::Value;

/// All that docker has there, as far as there is such a thing here, in docker's order.
pub(super) fn config(container: &Container) -> Value {
    let (name, most) = match container.restart_policy() {
        Restart::OnFailure { max } => ("on-failure".to_owned(), max),
        policy => (policy.to_string(), 0),
    };
    let restart = Value::fields([("Name", name.into()), ("MaximumRetryCount", i64::from(most).into())]);
    let mode = container.network_names().first().map_or_else(String::new, ToString::to_string);
    let mut fields = vec![
        ("Binds", mounts::binds(container)),
        ("LogConfig", log(container.log_limits())),
        ("NetworkMode", mode.into()),
        ("PortBindings", bindings(container.publishes())),
        ("RestartPolicy", restart),
        ("AutoRemove", container.goes_with_its_end().into()),
        // That of the terminal at the time of creation, which nothing needs.
        ("ConsoleSize", Value::list([0i64, 0])),
    ];
    let annotations = container.annotations();
    if !annotations.is_empty() {
        let annotations = annotations.into_iter().map(|(key, value)| (key.to_owned(), value));
        fields.push(("Annotations", Value::map(annotations)));
    }
    fields.extend([
        ("CapAdd", list(container.added_capabilities().iter().map(|name| capability(name)))),
        ("CapDrop", list(container.dropped_capabilities().iter().map(|name| capability(name)))),
        ("CgroupnsMode", if container.has_host_cgroups() { "host" } else { "private" }.into()),
        ("Dns", Value::list(container.dns().iter().map(ToString::to_string))),
        ("DnsOptions", Value::list(container.dns_options())),
        ("DnsSearch", Value::list(container.dns_search())),
        (
            "ExtraHosts",
            list(container.added_hosts().iter().map(|(name, address)| format!("{name}:{address}"))),
        ),
        ("GroupAdd", list(container.groups().iter().cloned())),
        ("IpcMode", ipc(container.ipc()).into()),
        ("OomScoreAdj", i64::from(container.oom_score_adj().unwrap_or(0)).into()),
        ("PidMode", pids(container.pids()).into()),
        ("Privileged", container.is_privileged().into()),
        ("PublishAllPorts", container.publishes_exposed().into()),
        ("ReadonlyRootfs", container.is_read_only().into()),
        ("SecurityOpt", security(container)),
    ]);
    fields.extend(mounts::tmpfs(container).map(|tmpfs| ("Tmpfs", tmpfs)));
    fields.extend([
        ("UTSMode", if container.has_host_uts() { "host" } else { "" }.into()),
        ("UsernsMode", if container.asked_for_host_users() { "host" } else { "" }.into()),
        ("ShmSize", container.shm_size().unwrap_or(64 << 20).into()),
    ]);
    let sysctls = container.sysctls();
    if !sysctls.is_empty() {
        let sysctls = sysctls.into_iter().map(|(name, value)| (name.to_owned(), value));
        fields.push(("Sysctls", Value::map(sysctls)));
    }
    fields.push(("Isolation", "".into()));
    fields.extend(limits(&container.limits().values(), container));
    fields.extend([
        ("MaskedPaths", Value::list(container.masked_paths())),
        ("ReadonlyPaths", Value::list(container.read_only_paths())),
    ]);
    fields.extend(container.has_init().then_some(("Init", true.into())));
    Value::fields(fields)
}

/// What it may use.
fn limits(limits: &LimitValues, container: &Container) -> Vec<(&'static str, Value)> {
    let quota = limits.cpu_quota.filter(|_| limits.nano_cpus.is_none()).unwrap_or(0);
    let period = limits.cpu_period.filter(|_| limits.nano_cpus.is_none()).unwrap_or(0);
    let weights = limits.blkio_weights.iter().map(|(path, weight)| {
        Value::fields([("Path", path.as_path().into()), ("Weight", i64::from(*weight).into())])
    });
    vec![
        ("CpuShares", limits.cpu_shares.unwrap_or(0).into()),
        ("Memory", limits.memory.unwrap_or(0).into()),
        ("NanoCpus", limits.nano_cpus.unwrap_or(0).into()),
        ("CgroupParent", container.cgroup_parent().unwrap_or_default().into()),
        ("BlkioWeight", i64::from(limits.blkio_weight.unwrap_or(0)).into()),
        ("BlkioWeightDevice", Value::List(weights.collect())),
        ("BlkioDeviceReadBps", rates(&limits.rates, Throttle::ReadBytes)),
        ("BlkioDeviceWriteBps", rates(&limits.rates, Throttle::WriteBytes)),
        ("BlkioDeviceReadIOps", rates(&limits.rates, Throttle::Reads)),
        ("BlkioDeviceWriteIOps", rates(&limits.rates, Throttle::Writes)),
        ("CpuPeriod", period.into()),
        ("CpuQuota", quota.into()),
        ("CpuRealtimePeriod", limits.cpu_realtime_period.unwrap_or(0).into()),
        ("CpuRealtimeRuntime", limits.cpu_realtime_runtime.unwrap_or(0).into()),
        ("CpusetCpus", limits.cpuset_cpus.as_deref().unwrap_or_default().into()),
        ("CpusetMems", limits.cpuset_mems.as_deref().unwrap_or_default().into()),
        ("Devices", Value::List(container.devices().map(device).collect())),
        ("DeviceCgroupRules", list(container.device_rules().iter().cloned())),
        ("MemoryReservation", limits.memory_reservation.unwrap_or(0).into()),
        ("MemorySwap", limits.memory_swap.unwrap_or(0).into()),
        ("MemorySwappiness", limits.memory_swappiness.map_or(Value::Nil, Value::from)),
        ("OomKillDisable", limits.oom_kill_disable.into()),
        ("PidsLimit", limits.pids.map_or(Value::Nil, Value::from)),
        ("Ulimits", Value::List(container.rlimits().into_iter().map(ulimit).collect())),
    ]
}

/// A list that docker has as `null` when there is nothing in it.
fn list(all: impl Iterator<Item = String>) -> Value {
    let all: Vec<String> = all.collect();
    if all.is_empty() { Value::NoList } else { Value::list(all) }
}

/// docker has them in this form, however they were given.
fn capability(name: &str) -> String {
    match name.to_ascii_uppercase() {
        all if all == "ALL" => all,
        name if name.starts_with("CAP_") => name,
        name => format!("CAP_{name}"),
    }
}

fn ipc(ipc: &Ipc) -> String {
    match ipc {
        Ipc::Shareable => "shareable".into(),
        Ipc::None => "none".into(),
        Ipc::Host => "host".into(),
        Ipc::Container(id) => format!("container:{id}"),
        _ => "private".into(),
    }
}

fn pids(pids: &Pids) -> String {
    match pids {
        Pids::Host => "host".into(),
        Pids::Container(id) => format!("container:{id}"),
        _ => String::new(),
    }
}

fn security(container: &Container) -> Value {
    let mut options = Vec::new();
    options.extend(container.has_no_new_privileges().then(|| "no-new-privileges".to_owned()));
    options.extend(container.apparmor().map(|profile| format!("apparmor={profile}")));
    options.extend(container.security_labels().iter().map(|option| format!("label={option}")));
    match container.seccomp() {
        Seccomp::Unconfined => options.push("seccomp=unconfined".into()),
        Seccomp::Profile(text) => options.push(format!("seccomp={text}")),
        _ => {}
    }
    list(options.into_iter())
}

fn log(limits: Option<LogLimits>) -> Value {
    let (kind, config) = match limits {
        None => ("none", BTreeMap::new()),
        Some(limits) => {
            let mut config = BTreeMap::from([("max-file".to_owned(), limits.max_files.to_string())]);
            config.extend(limits.max_size.map(|bytes| ("max-size".to_owned(), bytes.to_string())));
            ("json-file", config)
        }
    };
    Value::fields([("Type", kind.into()), ("Config", (&config).into())])
}

fn device(device: GivenDevice<'_>) -> Value {
    Value::fields([
        ("PathOnHost", device.host.into()),
        ("PathInContainer", device.at.into()),
        ("CgroupPermissions", device.access.into()),
    ])
}

fn ulimit((name, soft, hard): (&'static str, u64, u64)) -> Value {
    let number = |value: u64| i64::try_from(value).unwrap_or(-1);
    Value::fields([("Name", name.into()), ("Hard", number(hard).into()), ("Soft", number(soft).into())])
}

fn rates(all: &[(Throttle, PathBuf, u64)], wanted: Throttle) -> Value {
    let all = all.iter().filter(|(what, ..)| *what == wanted);
    let each = |(_, path, rate): &(Throttle, PathBuf, u64)| {
        Value::fields([("Path", path.as_path().into()), ("Rate", (*rate).into())])
    };
    Value::List(all.map(each).collect())
}

/// What is wanted of the host's ports.
fn bindings(publishes: &[String]) -> Value {
    let mut ports: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for text in publishes {
        // `ADDRESS:PORT:PORT/PROTOCOL`; an address of IPv6 has colons of its own.
        let (outside, inside) = text.rsplit_once(':').unwrap_or(("", text));
        let (address, port) = outside.rsplit_once(':').unwrap_or(("", outside));
        let inside = if inside.contains('/') { inside.to_owned() } else { format!("{inside}/tcp") };
        let address = address.trim_start_matches('[').trim_end_matches(']');
        let binding = Value::fields([("HostIp", address.into()), ("HostPort", port.into())]);
        ports.entry(inside).or_default().push(binding);
    }
    Value::map(ports.into_iter().map(|(port, bindings)| (port, Value::List(bindings))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bindings_are_dockers() {
        let publishes = ["8080:80", "127.0.0.1::53/udp", "[::1]:8081:80/tcp", "90"].map(str::to_owned);
        let shown = crate::template::json(&bindings(&publishes));
        let text = r#"{"53/udp":[{"HostIp":"127.0.0.1","HostPort":""}],"80/tcp":[{"HostIp":"","HostPort":"8080"},{"HostIp":"::1","HostPort":"8081"}],"90/tcp":[{"HostIp":"","HostPort":""}]}"#;
        assert_eq!(shown, text);
    }

    #[test]
    fn words_are_dockers() {
        assert_eq!(["sys_time", "CAP_CHOWN", "all"].map(capability), ["CAP_SYS_TIME", "CAP_CHOWN", "ALL"]);
        assert_eq!(ipc(&Ipc::Container("x".into())), "container:x");
        assert_eq!((pids(&Pids::Own), ipc(&Ipc::Private)), (String::new(), "private".to_owned()));
    }
}
