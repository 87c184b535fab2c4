//! A volume that begins as the copy of another one.

use std::os::fd::AsFd;

use coracle_host::{Call, Dir};
use rustix::fs::OFlags;

use crate::error::During;
use crate::local::Backing;
use crate::volume::{DATA, SEEDED, users};
use crate::{Error, Result, Volume, VolumeSpec, Volumes, layered, loan};

impl Volumes {
    /// A new volume with the content of the volume `from`. Of a frozen one it is made at once, over that one
    /// ([`VolumeSpec::base`]). Else it is a copy: files share their blocks where the file system can (reflinks), and
    /// are copied where not; then `from` must be in nobody's hands, so that the copy is of one moment; who
    /// wants to borrow it meanwhile waits. Several copies of one volume are made one after the other.
    ///
    /// # Errors
    /// `NotFound`; `InUse` saying by whom; `AlreadyExists` where the name of `to` is taken; `Unsupported` where one of
    /// the two has its data elsewhere (options `tmpfs`, `bind`); `Exhausted` after too many clones of frozen clones;
    /// `Invalid` with everything that is wrong with `to`; else the host's, and then there is no new volume.
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
            if source.is_frozen()? {
                return self.create(&to.clone().base(from));
            }
            let Some(_alone) = loan::alone(source.dir(), || source.is_there()).during(ACT, from)? else {
                continue;
            };
            let users = users(source.dir()).during(ACT, from)?;
            if !users.is_empty() {
                return Err(Error::InUse { act: ACT, name: from.to_owned(), users });
            }
            if source.is_frozen()? {
                continue;
            }
            return self.make(to, None, |new| {
                // Over its base, where it has one, it is seen through a mount only.
                let whole = source.base().map(|_| layered::mount(self.dir(), &source)).transpose()?;
                let tree = match whole {
                    Some(mount) => Dir::from_fd(mount.into(), source.path()),
                    None => source.dir().dir(DATA)?,
                };
                tree.copy_to(&new.dir(DATA)?)?;
                if source.base().is_some() || source.dir().has(SEEDED)? {
                    new.file(SEEDED, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, 0o644)?;
                }
                rustix::fs::syncfs(new.as_fd()).call(|| format!("syncfs({:?})", new.path()))
            });
        }
    }
}
