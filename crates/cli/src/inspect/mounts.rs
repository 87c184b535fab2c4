//! What is mounted in a container, as docker's JSON.

use coracle::{Container, Engine, Mount, Source};

use crate::fail::Fail;
use crate::template::Value;

/// `Mounts`: volumes, directories of the host, images. Memory is told elsewhere.
pub(super) fn mounts(engine: &Engine, container: &Container) -> Result<Value, Fail> {
    let mut all = Vec::new();
    for mount in container.mounts() {
        let mut fields: Vec<(&str, Value)> = vec![("Type", mount.kind().into())];
        let (source, driver) = match mount.source() {
            Source::Volume(name) => {
                fields.push(("Name", name.into()));
                let volume = engine.find_volume(name)?;
                let path = volume.as_ref().map(|volume| volume.path().display().to_string());
                let driver = volume.map_or_else(|| "local".to_owned(), |volume| volume.driver().to_owned());
                (path.unwrap_or_default(), driver)
            }
            Source::Bind(path) => (path.display().to_string(), String::new()),
            Source::Image(name) => (name.clone(), String::new()),
            // One that was never started has no volume yet.
            Source::Anonymous => (String::new(), "local".to_owned()),
            _ => continue,
        };
        fields.push(("Source", source.into()));
        fields.push(("Destination", mount.at().into()));
        if !driver.is_empty() {
            fields.push(("Driver", driver.into()));
        }
        let propagation = match mount.source() {
            Source::Bind(_) => mount.propagates().unwrap_or_default().word(),
            _ => "",
        };
        fields.extend([
            ("Mode", Value::from(if mount.is_read_only() { "ro" } else { "" })),
            ("RW", (!mount.is_read_only()).into()),
            ("Propagation", propagation.into()),
        ]);
        all.push(Value::fields(fields));
    }
    Ok(Value::List(all))
}

/// `HostConfig.Binds`: what `-v` would have asked for.
pub(super) fn binds(container: &Container) -> Value {
    let bind = |mount: &Mount| {
        let source = match mount.source() {
            Source::Volume(name) => name.clone(),
            Source::Bind(path) => path.display().to_string(),
            _ => return None,
        };
        let mode = if mount.is_read_only() { ":ro" } else { "" };
        Some(format!("{source}:{}{mode}", mount.at().display()))
    };
    match container.mounts().iter().filter_map(bind).collect::<Vec<_>>() {
        binds if binds.is_empty() => Value::NoList,
        binds => Value::list(binds),
    }
}

/// `HostConfig.Tmpfs`: the options of memory, by place.
pub(super) fn tmpfs(container: &Container) -> Option<Value> {
    let memory = |mount: &&Mount| matches!(mount.source(), Source::Tmpfs);
    let mut memory = container.mounts().iter().filter(memory).peekable();
    memory.peek()?;
    Some(Value::map(memory.map(|mount| (mount.at().display().to_string(), mount.tmpfs_options().join(",")))))
}
