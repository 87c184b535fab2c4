//! A network that is another container's.

use coracle_host::{Call, Dir, Namespace};

use super::control::{self, Question, Reached};
use super::record::Record;
use super::room;
use crate::Kind;
use crate::engine::Inner;
use crate::error::{Doing, Error, Result};

/// The id of that container.
pub(crate) fn id(engine: &Inner, name: &str) -> Result<Option<String>> {
    let Some(room) = room::find(engine, name)? else { return Ok(None) };
    Ok(Some(Record::read(&room)?.id))
}

/// Its host name, which goes with its network.
pub(crate) fn hostname(engine: &Inner, id: &str) -> Option<String> {
    let room = engine.state.containers.dir_if_there(id).ok()??;
    Some(Record::read(&room).ok()?.hostname)
}

/// What is shared of a running container.
pub(crate) struct Shared {
    pub(crate) namespace: Namespace,
    /// With its files.
    pub(crate) room: Dir,
}

impl Shared {
    pub(crate) fn of(engine: &Inner, id: &str) -> Result<Shared> {
        let doing = || format!("share the network of container {}", &id[..id.len().min(12)]);
        let over = || Error::new(Kind::InUse, "it is not running");
        let room = engine.state.containers.dir_if_there(id).doing(doing)?;
        let room = room.ok_or_else(|| Error::new(Kind::NotFound, "it was removed")).doing(doing)?;
        let process = control::ask(&room, Question::Reach).doing(doing)?.and_then(Reached::process);
        let (pidfd, _) = process.ok_or_else(over).doing(doing)?;
        let path = format!("/proc/{}/ns/net", pidfd.pid().doing(doing)?);
        let file = std::fs::File::open(&path).call(|| format!("open({path:?})")).doing(doing)?;
        // It is still the one that had the number: then the namespace is its own.
        if !pidfd.signal(0).doing(doing)? {
            return Err(over()).doing(doing);
        }
        Ok(Shared { namespace: Namespace::from_fd(file.into()), room })
    }
}
