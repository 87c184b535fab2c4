//! The state directory: its version, its rooms, and what dead owners left in them. STATE.md specifies it.

use coracle_host::{Dir, Staging};
use serde::{Deserialize, Serialize};

use crate::Kind;
use crate::error::{Doing, Error, Result};

const FILE: &str = "coracle-state.json";
const VERSION: u32 = 1;

/// `coracle-state.json`. A program may write a state whose incompatible features it all knows, and read one
/// whose read-only-compatible features it does not know; compatible ones concern nobody.
#[derive(Debug, Serialize, Deserialize)]
struct Version {
    version: u32,
    #[serde(default)]
    compatible: Vec<String>,
    #[serde(default)]
    read_only_compatible: Vec<String>,
    #[serde(default)]
    incompatible: Vec<String>,
}

/// The rooms of a state directory.
pub(crate) struct State {
    pub(crate) dir: Dir,
    pub(crate) staging: Staging,
    pub(crate) cache: Dir,
    pub(crate) mounts: Dir,
    pub(crate) containers: Dir,
    pub(crate) names: Dir,
    pub(crate) networks: Dir,
    pub(crate) volumes: Dir,
}

impl State {
    /// Opens a state directory, making what is missing.
    pub(crate) fn open(path: &std::path::Path) -> Result<State> {
        let dir = Dir::create(path, 0o700)?;
        // Before anything is touched: is it ours, and of a version that we know?
        let known = check(&dir)?;
        let tmp = dir.make("tmp", 0o700)?;
        Staging::reclaim(&tmp).doing(|| "reclaim what ended programs were staging")?;
        let staging = Staging::open(&tmp)?;
        if !known {
            let version = Version {
                version: VERSION,
                compatible: vec![],
                read_only_compatible: vec![],
                incompatible: vec![],
            };
            let mut text = serde_json::to_vec_pretty(&version)
                .map_err(|error| Error::new(Kind::Other, format!("write {FILE}: {error}")))?;
            text.push(b'\n');
            staging.write(&dir, FILE, &text)?;
        }
        Ok(State {
            cache: dir.make("cache", 0o700)?,
            mounts: dir.make("mounts", 0o700)?,
            containers: dir.make("containers", 0o700)?,
            names: dir.make("names", 0o700)?,
            networks: dir.make("networks", 0o700)?,
            volumes: dir.make("volumes", 0o711)?,
            staging,
            dir,
        })
    }
}

/// Whether the version file is there and names a version that this program can write.
fn check(dir: &Dir) -> Result<bool> {
    // In this order: who makes a state directory at this moment writes the file before all the rest.
    let mut names = dir.names()?.into_iter();
    let Some(bytes) = dir.read_if_there(FILE)? else {
        // A directory with other things in it is somebody else's.
        return match names.find(|name| name != "tmp" && name != "lost+found" && name != FILE) {
            None => Ok(false),
            Some(name) => Err(Error::new(
                Kind::Invalid,
                format!("{:?} holds {name:?} but no {FILE}: not a state directory of Coracle", dir.path()),
            )),
        };
    };
    let path = dir.path_of(FILE);
    let version: Version = serde_json::from_slice(&bytes)
        .map_err(|error| Error::new(Kind::Corrupt, format!("{path:?} can't be read: {error}")))?;
    let newer = version.version > VERSION;
    if newer || !version.incompatible.is_empty() || !version.read_only_compatible.is_empty() {
        let features = [version.incompatible, version.read_only_compatible].concat().join(", ");
        let features = if features.is_empty() { String::new() } else { format!(" with {features}") };
        return Err(Error::new(
            Kind::Unsupported,
            format!(
                "{path:?} says version {}{features}; this program knows version {VERSION}: use a newer one, or another \
                 state directory",
                version.version
            ),
        ));
    }
    Ok(true)
}
