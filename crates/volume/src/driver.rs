//! Others who provide the data of volumes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use coracle_host::{Dir, Mount, Result};

use crate::record::LOCAL;
use crate::{Error, VolumeSpec};

/// Who provides the data of volumes in another way than `local`: a network file system, encrypted or remote storage, data
/// made up by a program. What a volume is beside its data (name, labels, owner, who has it) is kept here as for any other.
///
/// A driver is known by its name, which stands in a volume's record, so that programs with and without it can share a
/// state directory: who lacks it may list and inspect its volumes, and is refused to lend and to remove them.
///
/// Calls for one volume come one at a time, whatever processes they come from; calls for several at once. A call that its
/// process did not survive is made again, so each must cope with what is there already.
///
/// ```
/// use coracle_host::{Kind, Mount, Result};
/// use coracle_volume::{Driver, Place};
///
/// /// Directories of a big disk, by volume.
/// #[derive(Debug)]
/// struct Big;
///
/// impl Driver for Big {
///     fn name(&self) -> &str {
///         "big"
///     }
///     fn problems(&self, options: &std::collections::BTreeMap<String, String>) -> Vec<String> {
///         options.keys().map(|key| format!("option `{key}` is unknown")).collect()
///     }
///     fn mount(&self, volume: &Place<'_>) -> Result<Mount> {
///         let disk = coracle_host::Dir::create("/mnt/big", 0o700)?;
///         Mount::bind(disk.make(volume.name(), 0o755)?, true, volume.name())
///     }
///     fn remove(&self, volume: &Place<'_>) -> Result<()> {
///         match coracle_host::Dir::open("/mnt/big")?.remove_tree(volume.name()) {
///             Err(error) if error.kind() == Kind::NotFound => Ok(()),
///             other => other,
///         }
///     }
/// }
/// ```
pub trait Driver: fmt::Debug + Send + Sync {
    /// The word for it in records and on command lines; not `local`.
    fn name(&self) -> &str;

    /// Everything that is wrong with these options: what it doesn't know must be here. Asked before a volume is made.
    fn problems(&self, options: &BTreeMap<String, String>) -> Vec<String>;

    /// The data, as a detached mount, for one more borrower: made if this is the first one. What subpaths and read-only
    /// loans ask for is done to it afterwards. It is given back by nobody's call: the mount goes with its last user.
    ///
    /// # Errors
    /// Whatever fails; the volume is not lent then.
    fn mount(&self, volume: &Place<'_>) -> Result<Mount>;

    /// Gives the data up, before the volume goes; nobody has it. There may never have been any.
    ///
    /// # Errors
    /// Whatever fails; the volume stays then.
    fn remove(&self, volume: &Place<'_>) -> Result<()>;

    /// Whether several borrowers may have a volume at once.
    fn shares(&self) -> bool {
        true
    }
}

/// A volume as its driver sees it.
#[derive(Debug)]
pub struct Place<'a> {
    pub(crate) name: &'a str,
    pub(crate) options: &'a BTreeMap<String, String>,
    pub(crate) dir: &'a Dir,
}

impl Place<'_> {
    /// The volume's name.
    pub fn name(&self) -> &str {
        self.name
    }

    /// The options that it was made with, by key.
    pub fn options(&self) -> &BTreeMap<String, String> {
        self.options
    }

    /// A directory of the volume's own on this host, for whatever the driver keeps; it goes with the volume.
    pub fn dir(&self) -> &Dir {
        self.dir
    }
}

/// The drivers that this program has beside `local`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Drivers(Arc<BTreeMap<String, Arc<dyn Driver>>>);

impl Drivers {
    pub(crate) fn with(&self, driver: Arc<dyn Driver>) -> Drivers {
        let mut all = BTreeMap::clone(&self.0);
        all.insert(driver.name().to_owned(), driver);
        Drivers(Arc::new(all))
    }

    /// The one of that name; `Unsupported` naming those that there are.
    pub(crate) fn get(&self, name: &str, volume: &str) -> crate::Result<&Arc<dyn Driver>> {
        self.0.get(name).ok_or_else(|| {
            let there = match self.0.is_empty() {
                true => format!("there is only `{LOCAL}`"),
                false => {
                    let known: Vec<String> = self.0.keys().map(|known| format!("`{known}`")).collect();
                    format!("there are `{LOCAL}`, {}", known.join(", "))
                }
            };
            Error::Unsupported { name: volume.to_owned(), what: format!("driver `{name}`: {there}") }
        })
    }

    /// That there can be such a volume.
    pub(crate) fn check(&self, spec: &VolumeSpec) -> crate::Result<()> {
        let name = spec.name().unwrap_or_default();
        let Some(driver) = spec.other_driver() else { return spec.check() };
        // What is wrong with the rest counts more than a driver that is not there.
        spec.check()?;
        match self.get(driver, name)?.problems(spec.options()) {
            problems if problems.is_empty() => Ok(()),
            problems => Err(Error::Invalid { name: name.to_owned(), problems }),
        }
    }
}
