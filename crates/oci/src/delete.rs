//! delete: what create made is removed.

use std::time::Duration;

use coracle_host::Kind;

use crate::error::{Error, Result};
use crate::journal::Log;
use crate::mounted::Mounted;
use crate::record::{Found, Home, Status};
use crate::{cgroup, hooks, list};

/// How long a killed process may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn delete(home: &Home, id: &str, force: bool, log: &Log) -> Result<()> {
    let found = match home.find(id) {
        Err(_) if force => return Ok(()),
        other => other?,
    };
    let _lock = found.lock()?;
    match found.status()? {
        // Nobody makes it any more: who does has the lock.
        Status::Creating | Status::Stopped => {}
        _ if force => end(&found)?,
        other => {
            let text = format!("container `{id}` is {}, and only stopped ones are deleted", other.word());
            return Err(Error::new(text));
        }
    }
    let mut hooks = oci_spec::runtime::Hooks::default();
    if let Some(record) = &found.record {
        if let Some(group) = cgroup::find(record)? {
            // What outlived the first process, where that had no pid namespace of its own.
            group.kill()?;
            group.remove()?;
        }
        hooks = found.config()?.hooks().clone().unwrap_or_default();
    } else if let Ok(config) = found.config()
        && let Some(group) = cgroup::left(&config, id)?
        && let Err(error) = group.remove()
    {
        // It may be one that others have, too.
        log.warn(&format!("remove the control group of container `{id}`: {error}"));
    }
    Mounted::of(&found.dir)?.map_or(Ok(()), |mounted| mounted.take_away())?;
    match home.open()?.remove_tree(id) {
        Err(error) if error.kind() == Kind::NotFound => {}
        other => other?,
    }
    if let Some(record) = &found.record {
        let state = list::described(record, Status::Stopped);
        // config.md, "Poststop": a failure is a warning, and the rest goes on.
        if let Err(error) = hooks::run("poststop", hooks.poststop().as_deref(), &state) {
            log.warn(&error.to_string());
        }
    }
    Ok(())
}

fn end(found: &Found) -> Result<()> {
    let record = found.record()?;
    if let Some(process) = found.process()? {
        process.signal(9)?;
        // A frozen one takes it when it is thawed.
        if let Some(group) = cgroup::find(record)?
            && group.is_frozen().unwrap_or(false)
        {
            group.thaw()?;
        }
        if !process.ended_within(Some(PATIENCE))? {
            return Err(Error::new(format!("container `{}` was killed and doesn't end", record.id)));
        }
    }
    Ok(())
}
