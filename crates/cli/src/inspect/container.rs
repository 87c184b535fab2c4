//! Containers as docker's JSON: what is known of one, under docker's names and in its order. What is not known is not
//! there: no `null` stands for a fact.

use std::collections::BTreeMap;

use coracle::{Container, State, Status};

use crate::fail::Fail;
use crate::template::Value;

/// What docker has for a time that has not come.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// What docker tells of a container, as far as there is such a thing here.
pub(crate) fn describe(container: &Container, size: bool) -> Result<Value, Fail> {
    if size {
        return Err(Fail::new(1, "inspect --size: not supported yet for a container"));
    }
    let status = container.status()?;
    let (path, arguments) =
        container.command().split_first().map_or(("", &[][..]), |(path, rest)| (path, rest));
    Ok(Value::fields([
        ("Id", container.id().into()),
        ("Created", container.created().into()),
        ("Path", path.into()),
        ("Args", Value::list(arguments)),
        ("State", state(&status)),
        ("Name", format!("/{}", container.name()).into()),
        ("Driver", "overlay2".into()),
        ("Platform", "linux".into()),
        ("Config", config(container)),
        ("NetworkSettings", network(container)?),
    ]))
}

/// docker's word for what a container is doing.
pub(crate) fn state_name(state: State) -> &'static str {
    match state {
        State::Starting => "created",
        State::Running => "running",
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
    Value::fields([
        ("Status", state_name(status.state).into()),
        ("Running", (status.state == State::Running).into()),
        ("Dead", (status.state == State::Dead).into()),
        ("ExitCode", code.into()),
        ("FinishedAt", status.finished.as_deref().unwrap_or(NEVER).into()),
    ])
}

fn config(container: &Container) -> Value {
    Value::fields([
        ("Cmd", Value::list(container.command())),
        ("Image", container.image().into()),
        ("Labels", container.labels().into()),
    ])
}

fn network(container: &Container) -> Result<Value, Fail> {
    let mut ports: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for published in container.published()? {
        let host = published.host();
        let binding = Value::fields([
            ("HostIp", host.ip().to_string().into()),
            ("HostPort", host.port().to_string().into()),
        ]);
        ports.entry(published.container().to_string()).or_default().push(binding);
    }
    let address = container.address()?.map_or_else(String::new, |address| address.to_string());
    Ok(Value::fields([
        ("Ports", Value::map(ports.into_iter().map(|(port, bindings)| (port, Value::List(bindings))))),
        ("IPAddress", address.into()),
    ]))
}
