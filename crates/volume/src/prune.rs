//! Removing what nobody wants any more.

use coracle_host::{Dir, Kind, Lock};
use rustix::io::Errno;

use crate::error::During;
use crate::filter::matches;
use crate::loan::Gate;
use crate::volume::{LOCK, RECORD, users};
use crate::{Error, Filter, Result, Volume, Volumes, frozen};

/// Whether a name can have been drawn ([`crate::VolumeSpec::anonymous`]).
fn is_drawn(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_torn(volume: &Dir) -> coracle_host::Result<bool> {
    Ok(volume.read_if_there(RECORD)?.is_none_or(|bytes| bytes.is_empty()))
}

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
    /// [`Volumes::create_for`]) whether it is still there. One that is used is kept all the same. What a power cut has left of
    /// volatile ones ([`crate::VolumeSpec::volatile`]) goes, too; one that has only lost its owner that way is left to
    /// [`Volumes::prune`].
    ///
    /// # Errors
    /// As of [`Volumes::prune`].
    pub fn reclaim(&self, lives: impl Fn(&str) -> bool) -> Result<Pruned> {
        let torn = self.remove_torn()?;
        let gone = |volume: &Volume| Ok(volume.owner()?.is_some_and(|owner| !lives(&owner)));
        let mut pruned = self.remove_those(Wait::No, gone)?;
        pruned.removed.extend(torn);
        pruned.removed.sort();
        Ok(pruned)
    }

    /// Removes volumes under drawn names that have no record, or an empty one: only one that nothing was waited for can be
    /// so, after the power failed before its record was on the disk.
    fn remove_torn(&self) -> Result<Vec<String>> {
        let mut removed = Vec::new();
        for name in self.names()?.into_iter().filter(|name| is_drawn(name)) {
            let act = "reclaim";
            let Some(dir) = self.dir().dir_if_there(&name).during(act, &name)? else { continue };
            if !is_torn(&dir).during(act, &name)? {
                continue;
            }
            let gate = match Lock::exclusive(&dir, LOCK) {
                Ok(gate) => Gate::from(gate),
                Err(error) if error.errno() == Some(Errno::NOENT) => continue,
                Err(cause) => return Err(cause).during(act, &name),
            };
            // One that is being removed loses its record, too, but no more under its name.
            if self.dir().has_still(&name, &dir).during(act, &name)? && is_torn(&dir).during(act, &name)? {
                self.trash(&name, gate, true).during(act, &name)?;
                removed.push(name);
            }
        }
        Ok(removed)
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
        let freed = match volume.usage() {
            Ok(usage) => usage.bytes,
            // A power cut has taken it from one that was not waited for.
            Err(error) if error.kind() == Kind::NotFound => 0,
            Err(error) => return Err(error),
        };
        volume.give_up()?;
        self.trash(volume.name(), gate, volume.is_volatile()).during(act, volume.name())?;
        Ok(Removed::Yes(freed))
    }
}
