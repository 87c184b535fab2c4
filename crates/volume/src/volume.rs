//! One volume.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use coracle_host::{Call, Dir, Lock, Mount, Staging};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use crate::driver::Drivers;
use crate::error::During;
use crate::loan::{self, Loan, User};
use crate::local::{self, Backing};
use crate::record::Record;
use crate::{Error, Place, Result, Terms, Usage, Volumes, layered, seed, walk};

pub(crate) const RECORD: &str = "record";
pub(crate) const DATA: &str = "data";
pub(crate) const USERS: &str = "users";
pub(crate) const LOCK: &str = "lock";
pub(crate) const SEEDED: &str = "seeded";
pub(crate) const OWNER: &str = "owner";
pub(crate) const FROZEN: &str = "frozen";
pub(crate) const UPPER: &str = "upper";
pub(crate) const WORK: &str = "work";

/// A volume as it was found. Having one keeps nobody from removing it; a [`Loan`] does. It keeps the staging corner of
/// the [`crate::Volumes`] that it came from. Cheap to clone but for its labels.
#[derive(Clone)]
pub struct Volume {
    volumes: Dir,
    staging: Staging,
    drivers: Drivers,
    dir: Dir,
    record: Record,
}

impl Volume {
    pub(crate) fn new(of: &Volumes, dir: Dir, record: Record) -> Volume {
        let (volumes, staging, drivers) = (of.dir().clone(), of.staging().clone(), of.drivers.clone());
        Volume { volumes, staging, drivers, dir, record }
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

    /// Who provides its data. `local`: a directory on this host, or what the options say; else a [`crate::Driver`].
    pub fn driver(&self) -> &str {
        &self.record.driver
    }

    /// Whether it was made without a name of its own.
    pub fn is_anonymous(&self) -> bool {
        self.record.anonymous
    }

    /// The path of its data on this host (docker's *mountpoint*), for other tools. Of one that began as another
    /// ([`Volume::base`]) only what differs is there, as overlayfs keeps it; all of it is seen through a loan.
    pub fn path(&self) -> PathBuf {
        self.dir.path_of(self.place())
    }

    /// The frozen volume that it began as, and whose files it shows where it has none of its own.
    pub fn base(&self) -> Option<&str> {
        self.record.base.as_deref()
    }

    /// The directory of its own files.
    fn place(&self) -> &'static str {
        if self.record.base.is_some() { UPPER } else { DATA }
    }

    pub(crate) fn is_volatile(&self) -> bool {
        self.record.volatile
    }

    /// Who borrows it now, in any process, as they named themselves; sorted.
    ///
    /// # Errors
    /// As of openat(2) and fcntl(2).
    pub fn users(&self) -> Result<Vec<String>> {
        users(&self.dir).during("list users of", self.name())
    }

    /// The options it was made with, by key.
    pub fn options(&self) -> &BTreeMap<String, String> {
        &self.record.options
    }

    /// Whom it goes with, as given to [`crate::Volumes::create_for`]; `None` where it stays for itself.
    ///
    /// # Errors
    /// As of openat(2) and read(2).
    pub fn owner(&self) -> Result<Option<String>> {
        let bytes = self.dir.read_if_there(OWNER).during("look up the owner of", self.name())?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Lets it outlive its owner (docker's `rm` without `-v`): from now on it is like any other without a name.
    ///
    /// # Errors
    /// As of unlinkat(2); that it has none is fine.
    pub fn disown(&self) -> Result<()> {
        match self.dir.remove_file(OWNER) {
            Err(error) if error.errno() != Some(Errno::NOENT) => Err(error),
            _ => self.dir.sync(),
        }
        .during("disown", self.name())
    }

    /// How much is in its directory. What options have put elsewhere is not, nor what it shares with its base.
    ///
    /// # Errors
    /// `NotFound` (of the host's call) when it was removed meanwhile; else as of openat(2) and fstatat(2).
    pub fn usage(&self) -> Result<Usage> {
        self.dir.dir(self.place()).and_then(|data| walk::usage(&data)).during("measure", self.name())
    }

    /// Lends it. `user` says to people who borrows, for the refusal that somebody who wants to remove the volume
    /// gets: `container db`.
    ///
    /// # Errors
    /// `NotFound` when it was removed meanwhile; else the host's: `Denied` without `CAP_SYS_ADMIN`, `Exhausted`
    /// where no file can be made.
    pub fn lend(&self, user: &str) -> Result<Loan> {
        self.lend_on(user, &Terms::new())
    }

    /// Lends it such that nothing can be written through the mount, nor through what is mounted below it.
    ///
    /// # Errors
    /// As of [`Volume::lend`].
    pub fn lend_read_only(&self, user: &str) -> Result<Loan> {
        self.lend_on(user, &Terms::new().read_only())
    }

    /// Lends it on terms: read-only, a part of it, filled before. Of those who come with a seed at the same moment one
    /// fills the volume, and the others wait until it is complete; if that one dies, the next one does it. A volume that
    /// was filled once, has anything in it, is in use, or has its data elsewhere by its options, is lent as it is.
    ///
    /// # Errors
    /// As of [`Volume::lend`]. `Invalid` for terms that can't be met, such as a subpath that leads out; `NotFound` for one
    /// that is not there; `InUse` for a volume in memory that somebody has already; `Exhausted` where there is no room
    /// for the seed: the volume is empty then. `InUse`, too, for one that began as another and is lent; `Denied` to write
    /// in a frozen one.
    pub fn lend_on(&self, user: &str, terms: &Terms) -> Result<Loan> {
        let invalid = |problems| Error::Invalid { name: self.name().to_owned(), problems };
        match terms.problems() {
            problems if problems.is_empty() => {}
            problems => return Err(invalid(problems)),
        }
        let backing = self.backing();
        let gone = || Error::NotFound { act: "lend", name: self.name().to_owned() };
        let during = |result: coracle_host::Result<_>| result.during("lend", self.name());
        let mut seeded = false;
        let plain = backing == Backing::Data && self.record.base.is_none();
        let seed = terms.seed.as_ref().filter(|_| plain);
        let frozen = self.is_frozen()?;
        // Two mounts that write to one upper directory would spoil it.
        let overlay = matches!(&backing, Backing::Other { fstype, .. } if fstype == "overlay");
        let driver = match &backing {
            Backing::Driver => Some(self.drivers.get(self.driver(), self.name())?),
            _ => None,
        };
        let single = driver.is_some_and(|driver| !driver.shares())
            || matches!(backing, Backing::Tmpfs { .. })
            || overlay
            || (self.record.base.is_some() && !frozen);
        let gate = match seed {
            Some(tree) if !frozen && seed::is_wanted(&self.dir).or_else(|error| self.or_gone(error))? => {
                let gate = during(loan::alone(&self.dir, || self.is_there()))?.ok_or_else(gone)?;
                seeded = seed::fill(&self.dir, &self.staging, tree, &gate).during("seed", self.name())?;
                gate
            }
            _ if single => {
                let gate = during(loan::alone(&self.dir, || self.is_there()))?.ok_or_else(gone)?;
                let users = self.users()?;
                if !users.is_empty() {
                    return Err(Error::InUse { act: "lend", name: self.name().to_owned(), users });
                }
                gate
            }
            // Its calls come one at a time.
            _ if driver.is_some() => during(loan::alone(&self.dir, || self.is_there()))?.ok_or_else(gone)?,
            _ => during(loan::gate(&self.dir, || self.is_there()))?.ok_or_else(gone)?,
        };
        // Asked again in the gate: nobody freezes it from here on.
        if !terms.read_only && self.is_frozen()? {
            let what = "it is frozen: it is lent read-only, or cloned".to_owned();
            return Err(Error::Frozen { name: self.name().to_owned(), what });
        }
        let user = User::enter(&self.dir, user, &gate).during("lend", self.name())?;
        let gate = driver.is_some().then_some(gate);
        let mount = self.mount(&backing, terms.subpath.as_deref())?;
        drop(gate);
        let mount = if terms.read_only { mount.read_only().during("lend", self.name())? } else { mount };
        Ok(Loan::new(mount, user, seeded))
    }

    fn mount(&self, backing: &Backing, subpath: Option<&Path>) -> Result<Mount> {
        let what = format!("volume {}", self.name());
        if self.record.base.is_some() {
            let whole = layered::mount(&self.volumes, self).during("lend", self.name())?;
            return self.part(whole, subpath);
        }
        let tree: OwnedFd = match backing {
            Backing::Data => {
                let data = self.dir.dir(DATA).during("lend", self.name())?;
                data.as_fd().try_clone_to_owned().call(|| format!("fcntl({:?})", data.path()))
            }
            Backing::Bind { device, .. } => {
                let flags = OFlags::PATH | OFlags::CLOEXEC;
                rustix::fs::open(device, flags, Mode::empty()).call(|| format!("open({device:?})"))
            }
            Backing::Other { fstype, options, flags } => {
                let options: Vec<_> = options.iter().map(|(key, value)| (&**key, &**value)).collect();
                let whole = match Mount::new(fstype, &options, *flags) {
                    Err(error) if error.errno() == Some(Errno::NODEV) && !local::is_known(fstype) => {
                        let what = format!("the kernel has no file system `{fstype}`");
                        return Err(Error::Unsupported { name: self.name().to_owned(), what });
                    }
                    other => other.during("lend", self.name())?,
                };
                return self.part(whole, subpath);
            }
            Backing::Driver => {
                let data = self.dir.dir(DATA).during("lend", self.name())?;
                let whole = self.drivers.get(self.driver(), self.name())?.mount(&self.place_in(&data));
                return self.part(whole.and_then(Mount::private).during("lend", self.name())?, subpath);
            }
            Backing::Tmpfs { .. } if subpath.is_some() => {
                let problems = vec!["a volume in memory has no subpaths".to_owned()];
                return Err(Error::Invalid { name: self.name().to_owned(), problems });
            }
            Backing::Tmpfs { options, flags } => {
                let options: Vec<_> = options.iter().map(|(key, value)| (&**key, &**value)).collect();
                return Mount::new("tmpfs", &options, *flags).during("lend", self.name());
            }
        }
        .during("lend", self.name())?;
        let tree = match subpath {
            Some(path) => self.below(&tree, path)?,
            None => tree,
        };
        let (recursive, read_only) = match backing {
            Backing::Bind { recursive, read_only, .. } => (*recursive, *read_only),
            _ => (true, false),
        };
        let mount = Mount::bind(tree, recursive, what).and_then(Mount::private);
        let mount = mount.and_then(|mount| if read_only { mount.read_only() } else { Ok(mount) });
        mount.during("lend", self.name())
    }

    /// The whole mount, or what is below `path` in it.
    fn part(&self, whole: Mount, path: Option<&Path>) -> Result<Mount> {
        let Some(path) = path else { return Ok(whole) };
        let what = format!("volume {}", self.name());
        let tree = whole.as_fd().try_clone_to_owned().call(|| format!("fcntl({what})"));
        let below = self.below(&tree.during("lend", self.name())?, path)?;
        Mount::bind(below, false, what).and_then(Mount::private).during("lend", self.name())
    }

    fn place_in<'a>(&'a self, dir: &'a Dir) -> Place<'a> {
        Place { name: self.name(), options: &self.record.options, dir }
    }

    /// Has the driver, where it has one, give the data up. The caller stands in the gate alone, and nobody has it.
    pub(crate) fn give_up(&self) -> Result<()> {
        if self.backing() != Backing::Driver {
            return Ok(());
        }
        let driver = self.drivers.get(self.driver(), self.name())?;
        let data = self.dir.dir(DATA).during("remove", self.name())?;
        driver.remove(&self.place_in(&data)).during("remove", self.name())
    }

    /// What `path` leads to below `tree`: no link, swapped in at whatever moment, leads anywhere else.
    fn below(&self, tree: &OwnedFd, path: &Path) -> Result<OwnedFd> {
        let inside = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        loop {
            match openat2(tree, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), inside) {
                // Something was renamed meanwhile, and the kernel could not be sure.
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(Errno::XDEV) => {
                    let problems = vec![format!("subpath {path:?} leads out of the volume")];
                    return Err(Error::Invalid { name: self.name().to_owned(), problems });
                }
                other => {
                    let call = || format!("openat2(volume {}, {path:?})", self.name());
                    return other.call(call).during("lend", self.name());
                }
            }
        }
    }

    pub(crate) fn backing(&self) -> Backing {
        self.record.backing()
    }

    pub(crate) fn staging(&self) -> &Staging {
        &self.staging
    }

    pub(crate) fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Whether it is still what its name means.
    pub(crate) fn is_there(&self) -> coracle_host::Result<bool> {
        self.volumes.has_still(self.name(), &self.dir)
    }

    /// Of a volume that is being removed anything may be missing.
    fn or_gone(&self, error: coracle_host::Error) -> Result<bool> {
        match self.is_there().during("lend", self.name())? {
            true => Err(error).during("seed", self.name()),
            false => Err(Error::NotFound { act: "lend", name: self.name().to_owned() }),
        }
    }
}

impl std::fmt::Debug for Volume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Volume({})", self.name())
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
