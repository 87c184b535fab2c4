//! `containers/<id>/`: made, found, removed, and reclaimed when its owner is gone.

use std::io::Write;

use coracle_host::{Call, Dir, Lock, random_hex};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::group;
use super::mount::Source;
use super::record::{self, LOCK, RECORD, Record, UPPER, WORK};
use crate::engine::Inner;
use crate::error::{Doing, Error, Result};
use crate::{Kind, names};

/// Makes the room of a container and gives it its name. The lock is held from the room's first moment on.
pub(crate) fn make(engine: &Inner, record: &Record) -> Result<(Dir, Lock)> {
    let state = &engine.state;
    let staged = state.staging.dir()?;
    let dir = staged.dir();
    dir.make(UPPER, 0o755)?;
    dir.make(WORK, 0o700)?;
    let text = record::json(record)?;
    let lock = Lock::exclusive(dir, LOCK)?;
    if record.retain {
        state.staging.write(dir, RECORD, &text)?;
        staged.publish_new(&state.containers, &record.id)?;
    } else {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let mut file = std::fs::File::from(dir.file(RECORD, flags, 0o600)?);
        file.write_all(&text).call(|| format!("write({:?})", dir.path_of(RECORD)))?;
        staged.place_new(&state.containers, &record.id)?;
    }
    let room = state.containers.dir(&record.id)?.aside()?;
    if let Some(name) = &record.name {
        let exists = |id: &str| Ok(state.containers.has(id)?);
        let owner = names::claim(&state.names, &state.staging, name, &record.id, exists);
        if let Some(owner) = owner.transpose() {
            let taken = owner.and_then(|owner| {
                let text =
                    format!("the name `{name}` is in use by container {}", &owner[..owner.len().min(12)]);
                Err::<(), _>(Error::new(Kind::AlreadyExists, text))
            });
            state.staging.trash(&state.containers, &record.id)?;
            taken?;
        }
    }
    record.tell(&engine.state.dir, "create", &[]);
    Ok((room, lock))
}

/// Removes a room and its name. Its lock must be held by the caller.
pub(crate) fn discard(engine: &Inner, record: &Record) -> Result<()> {
    let state = &engine.state;
    let group = group::discard(engine, record);
    let name = match &record.name {
        Some(name) => names::release(&state.names, &state.staging, name, &record.id),
        None => Ok(()),
    };
    state.staging.trash(&state.containers, &record.id)?;
    record.tell(&engine.state.dir, "destroy", &[]);
    group?;
    name?;
    release(engine, record)
}

/// Lets go of the volumes without a name that came with a container. As docker's `rm` leaves them they stay for others to
/// find, use or prune; those of a container that was not to stay go with it, unless another one has them.
fn release(engine: &Inner, record: &Record) -> Result<()> {
    if record.drawn_volumes().next().is_none() {
        return Ok(());
    }
    let mut others = Vec::new();
    for id in engine.state.containers.names()? {
        let Some(room) = engine.state.containers.dir_if_there(&id)? else { continue };
        others.extend(Record::read(&room).ok());
    }
    let has = |name: &str| {
        others
            .iter()
            .flat_map(|other| &other.mounts)
            .any(|mount| mount.source == Source::Volume(name.to_owned()))
    };
    for name in record.drawn_volumes().filter(|name| record.retain || has(name)) {
        if let Some(volume) = engine.volumes.find(name)? {
            volume.disown()?;
        }
    }
    match engine.volumes.remove_of(&record.id)?.failed.into_iter().next() {
        None => Ok(()),
        Some(failed) => Err(failed.into()),
    }
}

/// Finds a container by name, id or unambiguous beginning of an id.
pub(crate) fn find(engine: &Inner, wanted: &str) -> Result<Option<Dir>> {
    let state = &engine.state;
    let simple = !wanted.is_empty() && wanted != "." && wanted != ".." && !wanted.contains(['/', '\0']);
    if !simple {
        return Ok(None);
    }
    if let Some(id) = names::find(&state.names, wanted)?
        && let Some(room) = state.containers.dir_if_there(&id)?
    {
        return Ok(Some(room));
    }
    if !wanted.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(None);
    }
    let ids = state.containers.names()?;
    let mut ids = ids.iter().filter_map(|id| id.to_str()).filter(|id| id.starts_with(wanted));
    match (ids.next(), ids.next()) {
        (Some(_), Some(_)) => Err(Error::new(
            Kind::Invalid,
            format!("`{wanted}` is the beginning of more than one container's id"),
        )),
        (Some(id), None) => Ok(state.containers.dir_if_there(id)?),
        (None, _) => Ok(None),
    }
}

/// Removes what owners that were killed left: rooms whose lock is free and that nobody wanted to stay.
pub(crate) fn reclaim(engine: &Inner) -> Result<()> {
    let containers = &engine.state.containers;
    for id in containers.names()? {
        let Some(room) = containers.dir_if_there(&id)? else { continue };
        let _lock = match Lock::try_exclusive(&room, LOCK) {
            Ok(Some(lock)) => lock,
            Ok(None) => continue,
            Err(error) if error.errno() == Some(Errno::NOENT) => continue,
            Err(error) => return Err(error).doing(|| format!("reclaim container {}", id.display())),
        };
        match Record::read(&room) {
            Ok(record) if record.retain => {}
            Ok(record) => discard(engine, &record).doing(|| format!("reclaim container {}", record.id))?,
            // A record that can't be read is a person's to look at, unless the room never got one.
            Err(error) if error.kind() == Kind::NotFound => engine.state.staging.trash(containers, &id)?,
            Err(_) => {}
        }
    }
    let state = &engine.state;
    names::reclaim(&state.names, &state.staging, |id| Ok(containers.has(id)?)).doing(|| "reclaim names")?;
    // One whose container can't be looked for now is left for the next time.
    let lives = |id: &str| containers.has(id).unwrap_or(true);
    engine.volumes.reclaim(lives).map(drop).doing(|| "reclaim volumes of containers that are no more")
}

/// A new id: 64 hexadecimal digits. Its beginning serves as a host name, and resolvers take one that is all decimal
/// for an address (inet_aton(3)).
pub(crate) fn new_id() -> Result<String> {
    loop {
        let id = random_hex(32)?;
        if !is_decimal(&id[..12]) {
            return Ok(id);
        }
    }
}

fn is_decimal(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_id_begins_like_an_address() {
        assert!(is_decimal("012345678901") && !is_decimal("01234567890a"));
        // One in 280 of all that are drawn.
        assert!((0..3000).all(|_| !is_decimal(&new_id().unwrap()[..12])));
    }
}
