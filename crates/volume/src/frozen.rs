//! Volumes that never change again, for others to begin as.

use coracle_host::Dir;

use crate::error::During;
use crate::local::Backing;
use crate::volume::{FROZEN, users};
use crate::{Error, Result, Volume, VolumeSpec, Volumes, loan};

impl Volumes {
    /// Freezes the volume of that name: from now on nobody borrows it to write in it, and a clone of it
    /// ([`Volumes::clone_volume`], [`VolumeSpec::base`]) is made at once. It can't be undone, but a clone can be had. That it
    /// is frozen already is fine.
    ///
    /// # Errors
    /// `NotFound`; `InUse` saying by whom; `Unsupported` where its data is elsewhere by its options; else the host's.
    pub fn freeze(&self, name: &str) -> Result<()> {
        const ACT: &str = "freeze";
        loop {
            let missing = || Error::NotFound { act: ACT, name: name.to_owned() };
            let volume = self.find(name)?.ok_or_else(missing)?;
            if volume.backing() != Backing::Data {
                let what = "only volumes in the state directory can be frozen".to_owned();
                return Err(Error::Unsupported { name: name.to_owned(), what });
            }
            let Some(_alone) = loan::alone(volume.dir(), || volume.is_there()).during(ACT, name)? else {
                continue;
            };
            if volume.is_frozen()? {
                return Ok(());
            }
            let users = users(volume.dir()).during(ACT, name)?;
            if !users.is_empty() {
                return Err(Error::InUse { act: ACT, name: name.to_owned(), users });
            }
            return volume.staging().write(volume.dir(), FROZEN, b"").during(ACT, name);
        }
    }

    /// A new frozen volume `to` with the content that the volume `from` has now; `from` may be written in afterwards. It is
    /// a copy as of [`Volumes::clone_volume`].
    ///
    /// # Errors
    /// As of [`Volumes::clone_volume`].
    pub fn snapshot(&self, from: &str, to: &VolumeSpec) -> Result<Volume> {
        let made = self.clone_volume(from, to)?;
        self.freeze(made.name())?;
        Ok(made)
    }
}

impl Volume {
    /// Whether it never changes again.
    ///
    /// # Errors
    /// As of fstatat(2).
    pub fn is_frozen(&self) -> Result<bool> {
        self.dir().has(FROZEN).during("look at", self.name())
    }
}

/// The volumes that began as this one, in words, for whoever stands in its gate alone.
pub(crate) fn dependents(volumes: &Volumes, name: &str, dir: &Dir) -> Result<Vec<String>> {
    // Nothing else can be a base.
    if !dir.has(FROZEN).during("look at", name)? {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for volume in volumes.list()? {
        // One that can't be read may be one of them: then nothing is known, and nothing removed.
        let volume = volume?;
        if volume.base() == Some(name) {
            found.push(format!("volume {}", volume.name()));
        }
    }
    Ok(found)
}
