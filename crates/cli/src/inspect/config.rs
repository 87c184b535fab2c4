//! How an image or a container is run, as docker's `Config`.

use std::collections::BTreeMap;

use coracle::{Container, Nothing, RunConfig};

use crate::template::Value;

/// In docker's order; of a container with what an image can't say.
pub(super) fn config(config: &RunConfig, container: Option<&Container>) -> Value {
    let set = |set: &BTreeMap<String, Nothing>| match set.is_empty() {
        true => Value::NoMap,
        false => Value::map(set.keys().map(|key| (key, Value::fields::<&str>([])))),
    };
    let words = |words: &Option<Vec<String>>| words.as_ref().map_or(Value::NoList, Value::list);
    // Go's nil where nothing is said.
    let filled = |words: &[String]| if words.is_empty() { Value::NoList } else { Value::list(words) };
    let mut fields: Vec<(&str, Value)> = vec![
        ("Hostname", container.map_or("", Container::hostname).into()),
        ("Domainname", container.and_then(Container::domainname).unwrap_or_default().into()),
        ("User", config.user.as_str().into()),
    ];
    if container.is_none() {
        // Who is attached to a container is not written down.
        fields.extend(["AttachStdin", "AttachStdout", "AttachStderr"].map(|name| (name, false.into())));
    }
    if !config.exposed_ports.is_empty() {
        fields.push(("ExposedPorts", set(&config.exposed_ports)));
    }
    fields.extend([
        ("Tty", container.is_some_and(Container::has_terminal).into()),
        ("OpenStdin", container.is_some_and(Container::has_stdin).into()),
        ("StdinOnce", container.is_some_and(Container::has_stdin_once).into()),
        ("Env", filled(&config.env)),
        ("Cmd", words(&config.cmd)),
    ]);
    if let Some(check) = &config.healthcheck {
        fields.push(("Healthcheck", health(check)));
    }
    // Of an image only: docker says it of CMDs that a Dockerfile has set.
    if container.is_none() && config.args_escaped {
        fields.push(("ArgsEscaped", true.into()));
    }
    let labels = match (config.labels.is_empty(), container) {
        (true, None) => Value::NoMap,
        _ => (&config.labels).into(),
    };
    fields.extend([
        ("Image", container.map_or("", Container::image).into()),
        ("Volumes", set(&config.volumes)),
        ("WorkingDir", config.working_dir.as_str().into()),
        ("Entrypoint", words(&config.entrypoint)),
        ("OnBuild", filled(&config.on_build)),
        ("Labels", labels),
    ]);
    if !config.stop_signal.is_empty() {
        fields.push(("StopSignal", config.stop_signal.as_str().into()));
    }
    if let Some(patience) = container.and_then(Container::stop_timeout) {
        fields.push(("StopTimeout", i64::try_from(patience.as_secs()).unwrap_or(-1).into()));
    }
    if config.shell.is_some() {
        fields.push(("Shell", words(&config.shell)));
    }
    Value::fields(fields)
}

/// A health check in docker's order.
fn health(check: &serde_json::Value) -> Value {
    let names = ["Test", "Interval", "Timeout", "StartPeriod", "StartInterval", "Retries"];
    Value::fields(names.into_iter().filter_map(|name| Some((name, check.get(name)?.clone().into()))))
}
