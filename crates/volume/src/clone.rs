//! A volume that begins as the copy of another one.

use std::os::fd::AsFd;

use coracle_host::{Call, Lock};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::error::During;
use crate::local::Backing;
use crate::volume::{DATA, LOCK, SEEDED, users};
use crate::{Error, Result, Volume, VolumeSpec, Volumes, copy};

impl Volumes {
    /// A new volume with the content of the volume `from`: its files share their blocks where the file system can
    /// (reflinks), else they are copied. `from` must be in nobody's hands, so that the copy is of one moment; who
    /// wants to borrow it meanwhile waits. Several clones of one volume are made one after the other.
    ///
    /// # Errors
    /// `NotFound`; `InUse` saying by whom; `AlreadyExists` where the name of `to` is taken; `Unsupported` where one of
    /// the two has its data elsewhere (options `tmpfs`, `bind`); `Invalid` with everything that is wrong with `to`;
    /// else the host's, and then there is no new volume.
    pub fn clone_volume(&self, from: &str, to: &VolumeSpec) -> Result<Volume> {
        const ACT: &str = "clone";
        to.check()?;
        if let Some(name) = to.name()
            && self.find(name)?.is_some()
        {
            return Err(Error::AlreadyExists { name: name.to_owned() });
        }
        loop {
            let missing = || Error::NotFound { act: ACT, name: from.to_owned() };
            let source = self.find(from)?.ok_or_else(missing)?;
            let elsewhere = [(from, source.backing()), (to.name().unwrap_or_default(), to.backing())];
            for (name, backing) in elsewhere {
                if backing != Backing::Data {
                    let what = "only volumes in the state directory can be cloned".to_owned();
                    return Err(Error::Unsupported { name: name.to_owned(), what });
                }
            }
            let _alone = match Lock::exclusive(source.dir(), LOCK) {
                Ok(gate) => gate,
                Err(error) if error.errno() == Some(Errno::NOENT) => continue,
                Err(cause) => return Err(cause).during(ACT, from),
            };
            if !source.is_there().during(ACT, from)? {
                continue;
            }
            let users = users(source.dir()).during(ACT, from)?;
            if !users.is_empty() {
                return Err(Error::InUse { act: ACT, name: from.to_owned(), users });
            }
            return self.make(to, None, |new| {
                copy::tree(&source.dir().dir(DATA)?, &new.dir(DATA)?)?;
                if source.dir().has(SEEDED)? {
                    new.file(SEEDED, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, 0o644)?;
                }
                rustix::fs::syncfs(new.as_fd()).call(|| format!("syncfs({:?})", new.path()))
            });
        }
    }
}
