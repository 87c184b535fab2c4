//! Volumes of the engine.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use coracle_volume::VolumeSpec;

use crate::error::{Error, Result};
use crate::{Engine, Kind};

/// A volume of an engine: a named directory that outlives containers. The value is only a handle.
#[derive(Clone, Debug)]
pub struct Volume(coracle_volume::Volume);

impl Engine {
    /// The volume that `spec` names, made if it is not there.
    ///
    /// # Errors
    /// `Invalid` for a bad name; as of the file system.
    pub fn volume(&self, spec: &VolumeSpec) -> Result<Volume> {
        Ok(Volume(self.0.volumes.open(spec)?))
    }

    /// The volume of that name, if it is there.
    ///
    /// # Errors
    /// `Corrupt` where its record can't be read.
    pub fn find_volume(&self, name: &str) -> Result<Option<Volume>> {
        Ok(self.0.volumes.find(name)?.map(Volume))
    }

    /// All volumes, by name.
    ///
    /// # Errors
    /// `Corrupt` where a record can't be read.
    pub fn volumes(&self) -> Result<Vec<Volume>> {
        self.0.volumes.list()?.into_iter().map(|volume| Ok(Volume(volume?))).collect()
    }

    /// Removes what no container has or, ended, had: volumes without a name, and with `all` those with one, too. Says
    /// which, and how many bytes that freed.
    ///
    /// # Errors
    /// The first volume that could not be removed; all others were tried.
    pub fn prune_volumes(&self, all: bool) -> Result<(Vec<String>, u64)> {
        let containers = self.containers()?;
        let referenced = |volume: &coracle_volume::Volume| {
            let owner = volume.owner().ok().flatten();
            containers.iter().any(|container| {
                container.has_volume(volume.name()) || owner.as_deref() == Some(container.id())
            })
        };
        let pruned = self.0.volumes.prune(all, &[], referenced)?;
        match pruned.failed.into_iter().next() {
            None => Ok((pruned.removed, pruned.freed)),
            Some(failed) => Err(failed.into()),
        }
    }

    /// Removes a volume and all its data.
    ///
    /// # Errors
    /// `NotFound`; `InUse`, with its users, while a container has it, be it one that has ended.
    pub fn remove_volume(&self, name: &str) -> Result<()> {
        if let Some(user) = self.containers()?.into_iter().find(|container| container.has_volume(name)) {
            let text = format!("remove volume `{name}`: in use by {}", user.name());
            return Err(Error::new(Kind::InUse, text));
        }
        Ok(self.0.volumes.remove(name)?)
    }
}

impl Volume {
    /// Its name.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// What keeps it: `local`.
    pub fn driver(&self) -> &str {
        self.0.driver()
    }

    /// Its labels, by key.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        self.0.labels()
    }

    /// When it was made, to the second.
    pub fn created(&self) -> SystemTime {
        self.0.created()
    }

    /// Where its data is on the host.
    pub fn path(&self) -> PathBuf {
        self.0.path()
    }
}
