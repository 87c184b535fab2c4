//! Files into and out of a volume, by the rules of `docker cp`.

use std::os::fd::AsFd;
use std::path::Path;

use coracle_host::Root;
use coracle_layers::{UnpackOptions, pack_tree, unpack_tree};
use coracle_volume::Loan;
use rustix::fs::OFlags;

use super::plan::{self, destination};
use super::{CopyOptions, Tree, piped};
use crate::error::{Doing, Error, Result};
use crate::{Kind, Volume};

impl Volume {
    /// Copies a file or directory of the host into it, to the places that `docker cp` copies to; `place` is a path of the
    /// volume, absolute or not from its root on, and no link in it leads out. See
    /// [`Container::copy_in`](crate::Container::copy_in). Owners stay as they are.
    ///
    /// # Errors
    /// `NotFound` for a source, or a directory to copy into, that is not there; `Invalid` for a directory over a file and
    /// the other way round; `Denied` for a frozen volume; `InUse` for one that can be had by one at a time, and is.
    pub fn copy_in(&self, host: impl AsRef<Path>, place: &str, options: &CopyOptions) -> Result<u64> {
        let host = host.as_ref();
        let copy = || {
            let (source, dir, name) = plan::host_source(host, options.follow)?;
            let (_loan, tree) = tree(self.inner().lend(WHO)?)?;
            let at = tree.find(place, true).map_err(|error| self.missing(error, place))?;
            let to = destination(&source, &at.destination(place))?;
            let into = tree.dir(Path::new("/"))?;
            tree.dir(&to.dir).map_err(|error| self.missing(error, place))?;
            piped(
                |out| Ok(pack_tree(&dir, &name, &to.name, out)?),
                |tar| Ok(unpack_tree(&into, &to.dir, tar, &UnpackOptions::new())?),
            )
        };
        copy().doing(|| format!("copy {host:?} to {place:?} of volume `{}`", self.name()))
    }

    /// Copies a file or directory of it to the host; what is copied belongs to this program's user. See
    /// [`Container::copy_out`](crate::Container::copy_out).
    ///
    /// # Errors
    /// As of [`Volume::copy_in`].
    pub fn copy_out(&self, place: &str, host: impl AsRef<Path>, options: &CopyOptions) -> Result<u64> {
        let host = host.as_ref();
        let copy = || {
            let (_loan, tree) = tree(self.inner().lend_read_only(WHO)?)?;
            let at = tree.find(place, options.follow).map_err(|error| self.missing(error, place))?;
            if !at.exists {
                return Err(self.not_there(place));
            }
            tree.to_host(&at, place, host)
        };
        copy().doing(|| format!("copy {place:?} of volume `{}` to {host:?}", self.name()))
    }

    fn missing(&self, error: Error, place: &str) -> Error {
        if error.kind() == Kind::NotFound { self.not_there(place) } else { error }
    }

    fn not_there(&self, place: &str) -> Error {
        Error::new(Kind::NotFound, format!("could not find the file {place} in volume {}", self.name()))
    }
}

/// Who has the volume meanwhile.
const WHO: &str = "somebody who copies";

fn tree(loan: Loan) -> Result<(Loan, Tree)> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let root = Root::new(loan.mount().as_fd(), "volume").open("/", flags)?;
    Ok((loan, Tree { root, unmounted: Vec::new(), users: None, _mount: None, _lock: None }))
}
