//! Volumes of the engine.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use coracle_volume::{Filter as VolumeFilter, Usage as VolumeUsage, VolumeSpec};

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
        self.prune_volumes_where(all, &[])
    }

    /// [`Engine::prune_volumes`] of those only that meet all of `filters`.
    ///
    /// # Errors
    /// As of [`Engine::prune_volumes`].
    pub fn prune_volumes_where(&self, all: bool, filters: &[VolumeFilter]) -> Result<(Vec<String>, u64)> {
        let containers = self.containers()?;
        let referenced = |volume: &coracle_volume::Volume| {
            let owner = volume.owner().ok().flatten();
            containers.iter().any(|container| {
                container.has_volume(volume.name()) || owner.as_deref() == Some(container.id())
            })
        };
        let pruned = self.0.volumes.prune(all, filters, referenced)?;
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

impl Engine {
    /// Who has the volume of that name, in words: containers that run or have ended, by their names, and whoever else
    /// borrows it.
    ///
    /// # Errors
    /// `Corrupt` where a record can't be read.
    pub fn volume_users(&self, name: &str) -> Result<Vec<String>> {
        let mut users = match self.0.volumes.find(name)? {
            Some(volume) => volume.users()?,
            None => Vec::new(),
        };
        let having = self.containers()?.into_iter().filter(|container| container.has_volume(name));
        users.extend(having.map(|container| container.name().to_owned()));
        users.sort();
        users.dedup();
        Ok(users)
    }

    /// A new volume with the content of another one: of a frozen one at once, whatever its size, else by a copy, which
    /// shares blocks where the file system can.
    ///
    /// # Errors
    /// `NotFound`; `InUse` where `from` is not frozen and somebody has it; `AlreadyExists`; `Invalid` for a bad name;
    /// `Unsupported` where the data of one of them is elsewhere.
    pub fn clone_volume(&self, from: &str, to: &VolumeSpec) -> Result<Volume> {
        Ok(Volume(self.0.volumes.clone_volume(from, to)?))
    }

    /// A new frozen volume with the content that another one has now.
    ///
    /// # Errors
    /// As of [`Engine::clone_volume`].
    pub fn snapshot_volume(&self, from: &str, to: &VolumeSpec) -> Result<Volume> {
        Ok(Volume(self.0.volumes.snapshot(from, to)?))
    }

    /// Keeps a volume from ever changing again: it is mounted read-only or cloned from now on, which then takes no time.
    ///
    /// # Errors
    /// `NotFound`; `InUse`, saying by whom; `Unsupported` where its data is elsewhere.
    pub fn freeze_volume(&self, name: &str) -> Result<()> {
        Ok(self.0.volumes.freeze(name)?)
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

    /// The options of its driver, by key.
    pub fn options(&self) -> &BTreeMap<String, String> {
        self.0.options()
    }

    /// Whether it was made without a name of its own.
    pub fn is_anonymous(&self) -> bool {
        self.0.is_anonymous()
    }

    /// The frozen volume that it began as, and whose files it shows where it has none of its own.
    pub fn base(&self) -> Option<&str> {
        self.0.base()
    }

    /// Whether it never changes again.
    ///
    /// # Errors
    /// As of the file system.
    pub fn is_frozen(&self) -> Result<bool> {
        Ok(self.0.is_frozen()?)
    }

    /// How much is in it, without what it shares with its base.
    ///
    /// # Errors
    /// As of the file system.
    pub fn usage(&self) -> Result<VolumeUsage> {
        Ok(self.0.usage()?)
    }

    /// Where its data is on the host. Of one with a base only what differs from that is there.
    pub fn path(&self) -> PathBuf {
        self.0.path()
    }
}
