//! What a container has from another one that runs: its network, its processes, its IPC.

use std::os::fd::OwnedFd;

use coracle_host::{Dir, PidFd};

use super::control::{self, Question, Reached};
use super::record::Record;
use super::{room, spaces};
use crate::Kind;
use crate::engine::Inner;
use crate::error::{Doing, Error, Result};

/// The id of that container.
pub(crate) fn id(engine: &Inner, name: &str) -> Result<Option<String>> {
    let Some(room) = room::find(engine, name)? else { return Ok(None) };
    Ok(Some(Record::read(&room)?.id))
}

/// [`id`]; where there is none it is noted as missing.
pub(crate) fn resolved(engine: &Inner, name: String, missing: &mut Vec<String>) -> Result<String> {
    Ok(match id(engine, &name)? {
        Some(id) => id,
        None => {
            missing.push(format!("no such container: {name}"));
            name
        }
    })
}

/// Its host name, which goes with its network.
pub(crate) fn hostname(engine: &Inner, id: &str) -> Option<String> {
    let room = engine.state.containers.dir_if_there(id).ok()??;
    Some(Record::read(&room).ok()?.hostname)
}

/// A container that runs and shares something.
pub(crate) struct Shared {
    /// With its files.
    pub(crate) room: Dir,
    pidfd: PidFd,
}

impl Shared {
    /// One namespace of the container with this id, by its name below `/proc/PID/ns`; and the container. `what` is for
    /// messages.
    pub(crate) fn of(engine: &Inner, id: &str, what: &str, kind: &str) -> Result<(OwnedFd, Shared)> {
        let doing = || format!("share the {what} of container {}", &id[..id.len().min(12)]);
        let over = || Error::new(Kind::InUse, "it is not running");
        let room = engine.state.containers.dir_if_there(id).doing(doing)?;
        let room = room.ok_or_else(|| Error::new(Kind::NotFound, "it was removed")).doing(doing)?;
        let process = control::ask(&room, Question::Reach).doing(doing)?.and_then(Reached::process);
        let (pidfd, _) = process.ok_or_else(over).doing(doing)?;
        let shared = Shared { room, pidfd };
        Ok((shared.namespace(kind).doing(doing)?, shared))
    }

    /// One more of its namespaces.
    pub(crate) fn namespace(&self, kind: &str) -> Result<OwnedFd> {
        spaces::open(&self.pidfd, kind)
    }
}
