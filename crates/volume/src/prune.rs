//! Removing what nobody wants any more.

use coracle_host::Lock;
use rustix::io::Errno;

use crate::error::During;
use crate::filter::matches;
use crate::loan::Gate;
use crate::volume::{LOCK, users};
use crate::{Error, Filter, Result, Volume, Volumes, frozen};

/// What was removed.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Pruned {
    /// The names, sorted.
    pub removed: Vec<String>,
    /// What their files took, in bytes: [`crate::Usage::bytes`] of each.
    pub freed: u64,
    /// What could not be looked at or removed; the others were.
    pub failed: Vec<Error>,
}

/// What to do while somebody stands in the gate.
#[derive(Clone, Copy)]
enum Wait {
    /// Wait: it may be one who only looks, as others do who tidy up.
    Yes,
    /// Leave it alone: it is about to be borrowed.
    No,
}

/// What came of removing one.
enum Removed {
    /// It is gone, and took this many bytes.
    Yes(u64),
    No,
    /// Others begin as it is.
    ForOthers,
}

impl Volumes {
    /// Removes the volumes that nobody uses and that meet all of `filters`: of those without a name of their own, or with
    /// `all` of all. `referenced` says of a volume whether it belongs to something that is not running now, such as
    /// a stopped container; that is kept. It is asked while nobody can borrow the volume.
    ///
    /// # Errors
    /// As of [`Volumes::names`]. What fails for one volume is in [`Pruned::failed`].
    pub fn prune(
        &self,
        all: bool,
        filters: &[Filter],
        referenced: impl Fn(&Volume) -> bool,
    ) -> Result<Pruned> {
        self.remove_those(Wait::No, |volume| {
            let candidate = all || volume.is_anonymous();
            Ok(candidate && matches(filters, volume, || Ok(false))? && !referenced(volume))
        })
    }

    /// Removes the volumes of owners that are no more: `lives` says of an owner (as given to
    /// [`Volumes::create_for`]) whether it is still there. One that is used is kept all the same.
    ///
    /// # Errors
    /// As of [`Volumes::prune`].
    pub fn reclaim(&self, lives: impl Fn(&str) -> bool) -> Result<Pruned> {
        self.remove_those(Wait::No, |volume| Ok(volume.owner()?.is_some_and(|owner| !lives(&owner))))
    }

    /// Removes the volumes of `owner` (docker's `rm -v` and `--rm`). One that others use is kept.
    ///
    /// # Errors
    /// As of [`Volumes::prune`].
    pub fn remove_of(&self, owner: &str) -> Result<Pruned> {
        self.remove_those(Wait::Yes, |volume| Ok(volume.owner()?.as_deref() == Some(owner)))
    }

    /// All volumes that meet `filters`, sorted by name. `referenced` as of [`Volumes::prune`]; it makes a volume one that
    /// is not dangling, as being borrowed does.
    ///
    /// # Errors
    /// As of [`Volumes::names`]; one that can't be read is an error in its place.
    pub fn list_where(
        &self,
        filters: &[Filter],
        referenced: impl Fn(&Volume) -> bool,
    ) -> Result<Vec<Result<Volume>>> {
        let mut found = Vec::new();
        for volume in self.list()? {
            let wanted = volume.and_then(|volume| {
                let used = || Ok(referenced(&volume) || !volume.users()?.is_empty());
                Ok(matches(filters, &volume, used)?.then_some(volume))
            });
            found.extend(wanted.transpose());
        }
        Ok(found)
    }

    fn remove_those(&self, wait: Wait, wanted: impl Fn(&Volume) -> Result<bool>) -> Result<Pruned> {
        let mut pruned = Pruned::default();
        loop {
            let before = pruned.removed.len();
            let mut kept = false;
            pruned.failed.clear();
            for volume in self.list()? {
                let removed = volume.and_then(|volume| Ok((self.remove_if(&volume, wait, &wanted)?, volume)));
                match removed {
                    Ok((Removed::Yes(freed), volume)) => {
                        pruned.removed.push(volume.name().to_owned());
                        pruned.freed += freed;
                    }
                    Ok((Removed::ForOthers, _)) => kept = true,
                    Ok((Removed::No, _)) => {}
                    Err(error) => pruned.failed.push(error),
                }
            }
            // What others began as may go when those have gone.
            if !kept || pruned.removed.len() == before {
                pruned.removed.sort();
                return Ok(pruned);
            }
        }
    }

    /// Removes it if it is `wanted` and nobody has it or is about to; what it took, if so.
    fn remove_if(
        &self,
        volume: &Volume,
        wait: Wait,
        wanted: impl Fn(&Volume) -> Result<bool>,
    ) -> Result<Removed> {
        // First without the gate, in which nobody should stand who has nothing to do there.
        if !wanted(volume)? {
            return Ok(Removed::No);
        }
        let act = "prune";
        let gate = match wait {
            Wait::Yes => Lock::exclusive(volume.dir(), LOCK).map(Some),
            Wait::No => Lock::try_exclusive(volume.dir(), LOCK),
        };
        let gate = match gate {
            Ok(Some(gate)) => Gate::from(gate),
            // Somebody is borrowing or filling it.
            Ok(None) => return Ok(Removed::No),
            Err(error) if error.errno() == Some(Errno::NOENT) => return Ok(Removed::No),
            Err(cause) => return Err(cause).during(act, volume.name()),
        };
        if !volume.is_there().during(act, volume.name())?
            || !users(volume.dir()).during(act, volume.name())?.is_empty()
            || !wanted(volume)?
        {
            return Ok(Removed::No);
        }
        if !frozen::dependents(self, volume.name(), volume.dir())?.is_empty() {
            return Ok(Removed::ForOthers);
        }
        let freed = volume.usage()?.bytes;
        self.trash(volume.name(), gate, volume.is_volatile()).during(act, volume.name())?;
        Ok(Removed::Yes(freed))
    }
}
