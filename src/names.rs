//! Names of containers: `names/<name>/id` says whose a name is, and `names/<name>/lock` is held while that changes.

use coracle_host::{Dir, Lock, Staging};
use rustix::io::Errno;

use crate::error::Result;

const ID: &str = "id";
const LOCK: &str = "lock";

/// Gives `name` to the container `id`. `Some`: the id of the living container that has it already.
pub(crate) fn claim(
    names: &Dir,
    staging: &Staging,
    name: &str,
    id: &str,
    exists: impl Fn(&str) -> Result<bool>,
) -> Result<Option<String>> {
    loop {
        let dir = names.make(name, 0o700)?;
        let Some(_held) = hold(&dir)? else { continue };
        if !names.has_still(name, &dir)? {
            continue; // released, and moved away, while we waited
        }
        if let Some(owner) = read(&dir)?
            && exists(&owner)?
        {
            return Ok(Some(owner));
        }
        if let Err(error) = staging.write(&dir, ID, id.as_bytes()) {
            // Ours to remove while it is held; what can't be is reclaimed by the next open.
            let _ = staging.trash(names, name);
            return Err(error.into());
        }
        return Ok(None);
    }
}

/// Takes `name` away from the container `id`, if it has it.
pub(crate) fn release(names: &Dir, staging: &Staging, name: &str, id: &str) -> Result<()> {
    let Some(dir) = names.dir_if_there(name)? else { return Ok(()) };
    let Some(_held) = hold(&dir)? else { return Ok(()) };
    if read(&dir)?.as_deref() == Some(id) {
        staging.trash(names, name)?;
    }
    Ok(())
}

/// Removes the names of containers that are no more.
pub(crate) fn reclaim(names: &Dir, staging: &Staging, exists: impl Fn(&str) -> Result<bool>) -> Result<()> {
    for name in names.names()? {
        let Some(dir) = names.dir_if_there(&name)? else { continue };
        // Held: somebody is claiming or releasing it just now, and knows better.
        let Ok(Some(_held)) = Lock::try_exclusive(&dir, LOCK) else { continue };
        let taken = match read(&dir)? {
            Some(owner) => exists(&owner)?,
            None => false,
        };
        if !taken && names.has_still(&name, &dir)? {
            staging.trash(names, &name)?;
        }
    }
    Ok(())
}

/// Whose a name is.
pub(crate) fn find(names: &Dir, name: &str) -> Result<Option<String>> {
    match names.dir_if_there(name)? {
        Some(dir) => read(&dir),
        None => Ok(None),
    }
}

/// `None`: the directory was removed while we waited.
fn hold(dir: &Dir) -> Result<Option<Lock>> {
    match Lock::exclusive(dir, LOCK) {
        Ok(lock) => Ok(Some(lock)),
        Err(error) if error.errno() == Some(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn read(dir: &Dir) -> Result<Option<String>> {
    Ok(dir.read_if_there(ID)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}
