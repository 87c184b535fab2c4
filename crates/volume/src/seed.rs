//! Filling an empty volume, once.

use std::os::fd::AsFd;

use coracle_host::{Call, Dir, Result, Staging};
use rustix::io::Errno;

use crate::loan::Gate;
use crate::volume::{DATA, SEEDED, users};

/// Whether there is anything to do for a seed: it costs the gate, so those who can do without it should.
pub(crate) fn is_wanted(volume: &Dir) -> Result<bool> {
    Ok(!volume.has(SEEDED)? && volume.dir(DATA)?.is_empty()?)
}

/// Fills the volume with what `tree` has, if it is empty, was never filled and is in nobody's hands. The caller
/// stands in the gate alone. Whether it was filled.
///
/// The copy is made beside, and takes the place of the empty directory in one rename: whoever dies before that leaves
/// the volume empty, and a file that somebody else put there meanwhile makes it fail and is left alone.
pub(crate) fn fill(volume: &Dir, staging: &Staging, tree: &Dir, _alone: &Gate) -> Result<bool> {
    if !is_wanted(volume)? || !users(volume)?.is_empty() {
        return Ok(false);
    }
    let nothing = tree.is_empty()?;
    let staged = staging.dir()?;
    let data = staged.dir().make_new(DATA, 0o700)?;
    tree.copy_to(&data)?;
    if nothing {
        rustix::fs::fsync(data.as_fd()).call(|| format!("fsync({:?})", data.path()))?;
    } else {
        staged.sync_all()?;
    }
    match staged.dir().rename(DATA, volume, DATA) {
        Err(error) if matches!(error.errno(), Some(Errno::NOTEMPTY | Errno::EXIST)) => return Ok(false),
        other => other?,
    }
    volume.sync()?;
    // An empty tree has given its owner and mode; another one may still have more to give.
    if !nothing {
        staging.write(volume, SEEDED, b"")?;
    }
    Ok(!nothing)
}
