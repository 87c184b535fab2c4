//! What is in an upper directory only because something was mounted over it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use coracle_host::{Call, Dir};
use rustix::fs::{AtFlags, FileType, Stat};

use crate::Result;
use crate::xattr::os;

/// Places where a mount needed something to be mounted on, by path without a slash before it. Whoever mounted made empty
/// files and directories there, and the directories on the way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Skip(BTreeSet<Vec<u8>>);

impl Skip {
    /// From paths in the container, their directories with them.
    pub fn new(places: &[impl AsRef<Path>]) -> Skip {
        let mut all = BTreeSet::new();
        for place in places {
            let mut path = Vec::new();
            for part in place.as_ref().components() {
                let Component::Normal(name) = part else { continue };
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(name.as_bytes());
                all.insert(path.clone());
            }
        }
        Skip(all)
    }

    /// Whether the entry `name` of `dir`, at `path`, is such a thing and nothing else. What lower layers have there
    /// is no matter: then nobody had to make anything.
    pub fn takes(&self, dir: &Dir, name: &[u8], path: &[u8], stat: &Stat) -> Result<bool> {
        if !self.0.contains(path) {
            return Ok(false);
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(stat.st_size == 0),
            FileType::Directory => {
                let below = dir.dir(os(name))?;
                for name in below.names()? {
                    let stat = rustix::fs::statat(&below, &name, AtFlags::SYMLINK_NOFOLLOW)
                        .call(|| format!("stat({:?})", below.path_of(&name)))?;
                    let path = [path, b"/".as_slice(), OsStr::as_bytes(&name)].concat();
                    if !self.takes(&below, name.as_bytes(), &path, &stat)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}
