//! Volumes of the engine.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use coracle_host::{Dir, Root};
use coracle_layers::{UnpackOptions, pack_tree, unpack_tree};
use coracle_volume::{Filter as VolumeFilter, Usage as VolumeUsage, VolumeSpec};

use rustix::fs::OFlags;

use crate::error::{Doing, Error, Result};
use crate::{Container, Engine, Kind};

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

    /// A new volume with what a tar (plain, gzip or zstd) has: owners, modes, times, attributes, links. It is there whole or not
    /// at all.
    ///
    /// # Errors
    /// `AlreadyExists`; `Invalid` and `Corrupt` for what is wrong with the archive, naming the entry; `Exhausted` where
    /// there is no room.
    pub fn import_volume(&self, to: &VolumeSpec, tar: impl Read) -> Result<Volume> {
        let made = self.0.volumes.create_filled(to, |dir| {
            let unpacked = unpack_tree(dir, Path::new(""), tar, &UnpackOptions::new());
            unpacked.map_err(|error| coracle_host::Error::new(error.kind(), error.to_string()))
        });
        Ok(Volume(made?))
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
    pub(crate) fn inner(&self) -> &coracle_volume::Volume {
        &self.0
    }

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

    /// Writes all that it shows as one tar, its root as `.`; sockets are left out. It is written as it is read: what changes
    /// meanwhile is old or new, and after a failure `out` has got a part of it.
    ///
    /// # Errors
    /// `NotFound` where it was removed meanwhile; `InUse` where a file shrank while it was read, or where it has a base and
    /// somebody has it; what writing fails with.
    pub fn export(&self, out: impl Write) -> Result<()> {
        let doing = || format!("export volume `{}`", self.name());
        let loan = self.0.lend_read_only("somebody who exports it").doing(doing)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let root = Root::new(loan.mount().as_fd(), "volume").open("/", flags).doing(doing)?;
        pack_tree(&Dir::from_fd(root, self.name()), OsStr::new("."), OsStr::new("."), out).doing(doing)
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

impl Container {
    /// [`Container::remove`], and with it the volumes without a name that it brought (docker's `rm -v`), but those that
    /// others have.
    ///
    /// # Errors
    /// As of [`Container::remove`]; what of the volumes could not be removed.
    pub fn remove_with_volumes(self) -> Result<()> {
        let engine = self.engine().clone();
        let drawn: Vec<String> = self.drawn_volumes().map(str::to_owned).collect();
        self.remove()?;
        for name in drawn {
            if !engine.volume_users(&name)?.is_empty() {
                continue;
            }
            match engine.0.volumes.remove(&name) {
                // Somebody was faster, to remove it or to have it.
                Err(error) if !matches!(error.kind(), Kind::NotFound | Kind::InUse) => {
                    return Err(error.into());
                }
                _ => {}
            }
        }
        Ok(())
    }
}
