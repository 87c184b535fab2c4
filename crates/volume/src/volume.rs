//! One volume.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use coracle_host::{Dir, Lock, Mount};
use rustix::fs::AtFlags;
use rustix::io::Errno;

use crate::error::During;
use crate::loan::{Loan, User};
use crate::record::Record;
use crate::{Error, Result};

pub(crate) const RECORD: &str = "record";
pub(crate) const DATA: &str = "data";
pub(crate) const USERS: &str = "users";
pub(crate) const LOCK: &str = "lock";

/// A volume as it was found. Having one keeps nobody from removing it; a [`Loan`] does. Cheap to clone but
/// for its labels.
#[derive(Clone)]
pub struct Volume {
    volumes: Dir,
    dir: Dir,
    record: Record,
}

impl Volume {
    pub(crate) fn new(volumes: &Dir, dir: Dir, record: Record) -> Volume {
        Volume { volumes: volumes.clone(), dir, record }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// Its labels, by key.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.record.labels
    }

    /// When it was made, to the second.
    pub fn created(&self) -> SystemTime {
        let since = Duration::from_secs(self.record.created);
        SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// Who provides its data. `local`: a directory on this host.
    pub fn driver(&self) -> &str {
        &self.record.driver
    }

    /// Whether it was made without a name of its own.
    pub fn is_anonymous(&self) -> bool {
        self.record.anonymous
    }

    /// The path of its data on this host (docker's *mountpoint*), for other tools.
    pub fn path(&self) -> PathBuf {
        self.dir.path_of(DATA)
    }

    /// Who borrows it now, in any process, as they named themselves; sorted.
    ///
    /// # Errors
    /// As of openat(2) and fcntl(2).
    pub fn users(&self) -> Result<Vec<String>> {
        users(&self.dir).during("list users of", self.name())
    }

    /// Lends it. `user` says to people who borrows, for the refusal that somebody who wants to remove the volume
    /// gets: `container db`.
    ///
    /// # Errors
    /// `NotFound` when it was removed meanwhile; else the host's: `Denied` without `CAP_SYS_ADMIN`, `Exhausted`
    /// where no file can be made.
    pub fn lend(&self, user: &str) -> Result<Loan> {
        let (data, user) = self.borrow(user)?;
        let mount = self.bind(&data).during("lend", self.name())?;
        Ok(Loan::new(mount, user))
    }

    /// Lends it such that nothing can be written through the mount, nor through what is mounted below it.
    ///
    /// # Errors
    /// As of [`Volume::lend`].
    pub fn lend_read_only(&self, user: &str) -> Result<Loan> {
        let (data, user) = self.borrow(user)?;
        let mount = self.bind(&data).and_then(Mount::read_only).during("lend", self.name())?;
        Ok(Loan::new(mount, user))
    }

    fn borrow(&self, user: &str) -> Result<(Dir, User)> {
        let is_there = || is_at(&self.volumes, self.name(), &self.dir);
        match User::enter(&self.dir, is_there, user).during("lend", self.name())? {
            Some(user) => Ok((self.dir.dir(DATA).during("lend", self.name())?, user)),
            None => Err(Error::NotFound { act: "lend", name: self.name().to_owned() }),
        }
    }

    fn bind(&self, data: &Dir) -> coracle_host::Result<Mount> {
        Mount::bind(data, true, format!("volume {}", self.name()))?.private()
    }
}

impl std::fmt::Debug for Volume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Volume({})", self.name())
    }
}

/// Whether `dir` is still what `name` means: it may have been removed, and another one made.
pub(crate) fn is_at(volumes: &Dir, name: &str, dir: &Dir) -> coracle_host::Result<bool> {
    let failed = |errno| coracle_host::Error::os(format!("stat({:?})", volumes.path_of(name)), errno);
    let ours = rustix::fs::fstat(dir).map_err(failed)?;
    match rustix::fs::statat(volumes, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(named) => Ok((named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino)),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(failed(errno)),
    }
}

/// What the locked entries of `users/` say. Looks without locking, so that no question looks like a user.
pub(crate) fn users(volume: &Dir) -> coracle_host::Result<Vec<String>> {
    let mut found = Vec::new();
    let Some(users) = volume.dir_if_there(USERS)? else { return Ok(found) };
    for id in users.names()? {
        if Lock::is_held(&users, &id)? {
            let who = users.read_if_there(&id)?.unwrap_or_default();
            found.push(match String::from_utf8_lossy(&who).into_owned() {
                who if who.is_empty() => "somebody who has just come".to_owned(),
                who => who,
            });
        }
    }
    found.sort();
    Ok(found)
}

/// Removes the entries of dead borrowers. The caller holds the gate exclusively: nobody is between making an
/// entry and locking it, so what is unlocked now stays so.
pub(crate) fn sweep(volume: &Dir) -> coracle_host::Result<()> {
    let Some(users) = volume.dir_if_there(USERS)? else { return Ok(()) };
    for id in users.names()? {
        if !Lock::is_held(&users, &id)? {
            match users.remove_file(&id) {
                Err(error) if error.errno() != Some(Errno::NOENT) => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}
