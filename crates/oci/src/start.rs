//! start: the program is let go. run: everything in one call.

use crate::cli::Run;
use crate::error::{During, Error, Result};
use crate::journal::Log;
use crate::record::{Found, Home, Status};
use crate::{create, delete, hooks, list};

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
    rustix::io::write(&gate, b"!").during(|| "let the container's process go".to_owned())?;
    started(&found, log)
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
pub(crate) fn run(home: &Home, options: &Run, log: &Log) -> Result<u8> {
    let attached = options.create.console_socket.is_none() && !options.detach;
    let pidfd = create::create(home, &options.create, log)?;
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
