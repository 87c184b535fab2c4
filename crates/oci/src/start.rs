//! start: the program is let go. run: everything in one call.

use std::time::Duration;

use crate::cli::Run;
use crate::error::{During, Error, Result};
use crate::journal::Log;
use crate::record::{Found, Home, Status};
use crate::{create, delete, hooks, list};

/// How long a killed process may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn start(home: &Home, id: &str, log: &Log) -> Result<()> {
    let found = home.find(id)?;
    let _lock = found.lock()?;
    let gate = match found.status()? {
        Status::Created => found.gate()?,
        _ => None,
    };
    let Some(gate) = gate else {
        return Err(Error::new(format!("container `{id}` is {}, not created", found.status()?.word())));
    };
    before(&found, log)?;
    rustix::io::write(&gate, b"!").during(|| "let the container's process go".to_owned())?;
    started(&found, log)
}

/// What comes before its program. A failure there ends the container (runtime.md, "Lifecycle" 7).
fn before(found: &Found, log: &Log) -> Result<()> {
    let config = found.config()?;
    let Some(process) = found.process()? else { return Ok(()) };
    let state = list::described(found.record()?, Status::Created);
    let ran = hooks::run_inside(found, &config, &process, &state);
    if ran.is_err()
        && let Err(error) = process.signal(9).and_then(|_| process.ended_within(Some(PATIENCE)))
    {
        log.warn(&format!("end the container: {error}"));
    }
    ran
}

/// What comes after the start. Failures there don't undo it (config.md, "Poststart").
fn started(found: &Found, log: &Log) -> Result<()> {
    let hooks = found.config()?.hooks().clone().unwrap_or_default();
    let state = list::described(found.record()?, Status::Running);
    if let Err(error) = hooks::run("poststart", hooks.poststart().as_deref(), &state) {
        log.warn(&error.to_string());
    }
    Ok(())
}

/// What the program is to exit with: what the container ended with, where it is waited for.
pub(crate) fn run(home: &Home, options: &Run, systemd: bool, log: &Log) -> Result<u8> {
    let attached = options.create.console_socket.is_none() && !options.detach;
    let pidfd = create::create(home, &options.create, systemd, log)?;
    let id = &options.create.id;
    start(home, id, log)?;
    if !attached {
        return Ok(0);
    }
    let exit = pidfd.reap()?;
    if !options.keep {
        delete::delete(home, id, false, log)?;
    }
    Ok(exit.code())
}
