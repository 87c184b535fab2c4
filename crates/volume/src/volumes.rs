//! All volumes of one state directory.

use std::io::Write;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::SystemTime;

use coracle_host::{Call, Dir, Lock, Staging, random_hex};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::driver::Drivers;
use crate::error::During;
use crate::loan::Gate;
use crate::record::{LOCAL, Record};
use crate::spec::check_name;
use crate::volume::{DATA, LOCK, OWNER, RECORD, SEEDED, USERS, users};
use crate::{Driver, Error, Loan, Result, Terms, Volume, VolumeSpec, frozen, layered, loan};

/// A directory of volumes. Any number of processes may have the same one. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Volumes {
    dir: Dir,
    staging: Staging,
    pub(crate) drivers: Drivers,
}

impl Volumes {
    /// The volumes in `dir` (`<state>/volumes`); new ones are staged in `staging`, on the same file system.
    pub fn new(dir: &Dir, staging: &Staging) -> Volumes {
        Volumes { dir: dir.clone(), staging: staging.clone(), drivers: Drivers::default() }
    }

    /// The same with one more driver; of two of one name the later counts.
    #[must_use]
    pub fn with_driver(mut self, driver: Arc<dyn Driver>) -> Volumes {
        self.drivers = self.drivers.with(driver);
        self
    }

    /// That there can be such a volume: all that [`VolumeSpec::check`] knows, and what the driver says of its options.
    ///
    /// # Errors
    /// `Invalid` with everything that is wrong with it; `Unsupported` for what is well said and not done here, such as a driver
    /// that this program doesn't have.
    pub fn check(&self, spec: &VolumeSpec) -> Result<()> {
        self.drivers.check(spec)
    }

    /// The volume of the spec's name, made where there is none. One that is there keeps its labels, as with docker.
    ///
    /// # Errors
    /// `Invalid` with everything that is wrong with the spec; `Corrupt` when what is there is broken; else the host's.
    pub fn open(&self, spec: &VolumeSpec) -> Result<Volume> {
        self.check(spec)?;
        loop {
            if let Some(name) = spec.name()
                && let Some(volume) = self.find(name)?
            {
                return Ok(volume);
            }
            match self.create(spec) {
                Err(Error::AlreadyExists { .. }) => {} // somebody was faster: it is theirs that we want
                other => return other,
            }
        }
    }

    /// A new volume.
    ///
    /// # Errors
    /// `AlreadyExists`; `Invalid` with everything that is wrong with the spec; else the host's.
    pub fn create(&self, spec: &VolumeSpec) -> Result<Volume> {
        self.make(spec, None, |_| Ok(()))
    }

    /// A new volume with what `fill` puts in the directory that it is given: whole or not at all, also when it fails or
    /// the program dies meanwhile. With a base, and with options that put the data elsewhere, there is nothing to fill.
    ///
    /// # Errors
    /// As of [`Volumes::create`]; what `fill` fails with; `Unsupported` where there is nothing to fill.
    pub fn create_filled(
        &self,
        spec: &VolumeSpec,
        fill: impl FnOnce(&Dir) -> coracle_host::Result<()>,
    ) -> Result<Volume> {
        if spec.base_name().is_some() || spec.backing() != crate::local::Backing::Data {
            let what = "only a plain volume in the state directory can be filled".to_owned();
            return Err(Error::Unsupported { name: spec.name().unwrap_or_default().to_owned(), what });
        }
        self.make(spec, None, |dir| {
            fill(&dir.dir(DATA)?)?;
            dir.file(SEEDED, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, 0o644)?;
            rustix::fs::syncfs(dir.as_fd()).call(|| format!("syncfs({:?})", dir.path()))
        })
    }

    /// A new volume without a name of its own that goes with `owner`, such as a container's id: [`Volumes::remove_of`]
    /// takes it along, and [`Volumes::reclaim`] finds it when the owner is no more.
    ///
    /// # Errors
    /// `Invalid` where the spec has a name, or with everything else that is wrong with it; else the host's.
    pub fn create_for(&self, owner: &str, spec: &VolumeSpec) -> Result<Volume> {
        if !spec.is_anonymous() {
            let problems = vec!["only a volume without a name of its own has an owner".to_owned()];
            return Err(Error::Invalid { name: spec.name().unwrap_or_default().to_owned(), problems });
        }
        self.make(spec, Some(owner), |_| Ok(()))
    }

    /// [`Volumes::create_for`], or the volume that is there under the name that was drawn for it.
    ///
    /// # Errors
    /// As of [`Volumes::create_for`].
    pub fn open_for(&self, owner: &str, spec: &VolumeSpec) -> Result<Volume> {
        loop {
            if let Some(name) = spec.name()
                && let Some(volume) = self.find(name)?
            {
                return Ok(volume);
            }
            match self.create_for(owner, spec) {
                Err(Error::AlreadyExists { .. }) => {}
                other => return other,
            }
        }
    }

    /// The volume of the spec's name, made where there is none, and borrowed: whatever others remove meanwhile.
    ///
    /// # Errors
    /// As of [`Volumes::open`] and [`Volume::lend_on`].
    pub fn open_and_lend(&self, spec: &VolumeSpec, user: &str, terms: &Terms) -> Result<(Volume, Loan)> {
        loop {
            let volume = self.open(spec)?;
            match volume.lend_on(user, terms) {
                Ok(loan) => return Ok((volume, loan)),
                Err(Error::NotFound { .. }) => {} // removed between the two
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes a volume of what `fill` puts in its directory beside the rest.
    pub(crate) fn make(
        &self,
        spec: &VolumeSpec,
        owner: Option<&str>,
        fill: impl FnOnce(&Dir) -> coracle_host::Result<()>,
    ) -> Result<Volume> {
        self.check(spec)?;
        let name = match spec.name() {
            Some(name) => name.to_owned(),
            None => random_hex(32).during("create", "(anonymous)")?,
        };
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let record = Record {
            name: name.clone(),
            created: since.map_or(0, |since| since.as_secs()),
            labels: spec.labels().clone(),
            driver: spec.other_driver().unwrap_or(LOCAL).to_owned(),
            anonymous: spec.is_anonymous(),
            options: spec.options().clone(),
            base: spec.base_name().map(str::to_owned),
            volatile: spec.is_volatile(),
        };
        // Held until the new one is there: nobody removes the base meanwhile.
        let base = spec.base_name().map(|base| self.hold_base(base)).transpose()?;
        let fill = |dir: &Dir| match &base {
            Some((base, _gate)) => layered::begin(&layered::stack(&self.dir, base)?, dir),
            None => {
                let data = dir.make_new(DATA, 0o755)?;
                // Whatever the umask of the program is: who may write in a volume is its borrowers' to say.
                rustix::fs::fchmod(&data, Mode::from_raw_mode(0o755))
                    .call(|| format!("chmod({:?}, 0755)", data.path()))?;
                fill(dir)
            }
        };
        match self.publish(&record, owner, fill) {
            Ok(dir) => Ok(Volume::new(self, dir, record)),
            Err(error) if error.errno() == Some(Errno::EXIST) => Err(Error::AlreadyExists { name }),
            Err(cause) => Err(cause).during("create", &name),
        }
    }

    /// The volume of that name, if there is one.
    ///
    /// # Errors
    /// `Invalid` where no volume can have that name; `Corrupt` when its record can't be read.
    pub fn find(&self, name: &str) -> Result<Option<Volume>> {
        check_name(name)?;
        loop {
            let Some(dir) = self.dir.dir_if_there(name).during("find", name)? else { return Ok(None) };
            if let Some(bytes) = dir.read_if_there(RECORD).during("find", name)? {
                let corrupt = |why| Error::Corrupt { name: name.to_owned(), path: dir.path_of(RECORD), why };
                let record = Record::parse(&bytes, name).map_err(corrupt)?;
                return Ok(Some(Volume::new(self, dir, record)));
            }
            if self.dir.has_still(name, &dir).during("find", name)? {
                let why = "there is no such file".to_owned();
                return Err(Error::Corrupt { name: name.to_owned(), path: dir.path_of(RECORD), why });
            }
            // Removed while we looked; there may be another one of that name by now.
        }
    }

    /// The names of all volumes, sorted.
    ///
    /// # Errors
    /// As of getdents64(2).
    pub fn names(&self) -> Result<Vec<String>> {
        let act = || format!("list volumes in {:?}", self.dir.path());
        let names = self.dir.names().map_err(|cause| Error::Host { act: act(), cause })?;
        // What can't be a volume's name was not put there by this crate.
        let name = |name: std::ffi::OsString| name.into_string().ok().filter(|name| check_name(name).is_ok());
        Ok(names.into_iter().filter_map(name).collect())
    }

    /// All volumes, sorted by name. One that can't be read is an error in its place, and doesn't hide the others.
    ///
    /// # Errors
    /// As of [`Volumes::names`].
    pub fn list(&self) -> Result<Vec<Result<Volume>>> {
        Ok(self.names()?.iter().filter_map(|name| self.find(name).transpose()).collect())
    }

    /// Removes a volume with its data, also one whose record is broken. When it returns without an error, or
    /// with one of deleting the data, the name is free.
    ///
    /// # Errors
    /// `NotFound`; `InUse` saying by whom; else the host's.
    pub fn remove(&self, name: &str) -> Result<()> {
        check_name(name)?;
        loop {
            let Some(dir) = self.dir.dir_if_there(name).during("remove", name)? else {
                return Err(Error::NotFound { act: "remove", name: name.to_owned() });
            };
            let gate = match Lock::exclusive(&dir, LOCK) {
                Ok(gate) => Gate::from(gate),
                Err(error) if error.errno() == Some(Errno::NOENT) => continue,
                Err(cause) => return Err(cause).during("remove", name),
            };
            if !self.dir.has_still(name, &dir).during("remove", name)? {
                continue;
            }
            let mut users = users(&dir).during("remove", name)?;
            users.extend(frozen::dependents(self, name, &dir)?);
            if !users.is_empty() {
                return Err(Error::InUse { act: "remove", name: name.to_owned(), users });
            }
            // One whose record is broken has nobody to be asked for it.
            if let Ok(Some(volume)) = self.find(name) {
                volume.give_up()?;
            }
            return self.trash(name, gate, false).during("remove", name);
        }
    }

    pub(crate) fn dir(&self) -> &Dir {
        &self.dir
    }

    pub(crate) fn staging(&self) -> &Staging {
        &self.staging
    }

    /// The frozen volume of that name and a place in its gate, which keeps it from being removed.
    fn hold_base(&self, name: &str) -> Result<(Volume, Gate)> {
        const ACT: &str = "clone";
        loop {
            let missing = || Error::NotFound { act: ACT, name: name.to_owned() };
            let base = self.find(name)?.ok_or_else(missing)?;
            let Some(gate) = loan::gate(base.dir(), || base.is_there()).during(ACT, name)? else { continue };
            if base.is_frozen()? {
                return Ok((base, gate));
            }
            let what = "only a frozen volume can be what another one begins as".to_owned();
            return Err(Error::Unsupported { name: name.to_owned(), what });
        }
    }

    /// Out of the way by one rename, then deleted. A crash leaves the rest to the next reclaim of the staging directory.
    pub(crate) fn trash(&self, name: &str, gate: Gate, volatile: bool) -> coracle_host::Result<()> {
        let trash = self.staging.dir()?;
        self.dir.rename(name, trash.dir(), name)?;
        if !volatile {
            self.dir.sync()?;
        }
        drop(gate);
        trash.dir().remove_tree(name)
    }

    /// Makes the volume in staging and puts it under its name whole.
    fn publish(
        &self,
        record: &Record,
        owner: Option<&str>,
        fill: impl FnOnce(&Dir) -> coracle_host::Result<()>,
    ) -> coracle_host::Result<Dir> {
        let staged = self.staging.dir()?;
        let dir = staged.dir();
        dir.make_new(USERS, 0o700)?;
        let new = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        dir.file(LOCK, new, 0o600)?;
        let write = |name: &str, bytes: &[u8]| {
            let mut file = std::fs::File::from(dir.file(name, new, 0o644)?);
            let written = file.write_all(bytes).and_then(|()| match record.volatile {
                true => Ok(()),
                false => file.sync_all(),
            });
            written.call(|| format!("write({:?})", dir.path_of(name)))
        };
        write(RECORD, &record.to_bytes())?;
        if let Some(owner) = owner {
            write(OWNER, owner.as_bytes())?;
        }
        fill(dir)?;
        if !record.volatile {
            dir.sync()?;
        }
        // Not opened again by its name: somebody may have removed it by then.
        let place = self.dir.path_of(&record.name);
        let fd = dir.as_fd().try_clone_to_owned().call(|| format!("fcntl({place:?}, F_DUPFD_CLOEXEC)"))?;
        match record.volatile {
            true => staged.place_new(&self.dir, &record.name)?,
            false => staged.publish_new(&self.dir, &record.name)?,
        }
        Ok(Dir::from_fd(fd, place))
    }
}
