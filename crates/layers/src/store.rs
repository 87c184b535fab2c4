//! The state directory's part that holds images.

use coracle_host::{Dir, Kind, Staging};
use rustix::fs::{Mode, OFlags};
use serde_json::json;

use crate::blobs::Blobs;
use crate::{Error, Result, json};

/// An open store of images and layers. Cheap to clone; any number of processes may have the same directory open.
///
/// ```text
/// <state>/
/// ├── oci-layout, index.json      so that skopeo and crane can read the directory (image-layout.md)
/// ├── blobs/sha256/<hex>          immutable bytes
/// ├── layers/<chain id>/          fs/ the tree · meta what it is · lock shared while it is in use
/// └── images/                     <name>, @<image id>: JSON, which manifest
/// ```
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) state: Dir,
    pub(crate) staging: Staging,
    pub(crate) blobs: Blobs,
    pub(crate) layers: Dir,
    pub(crate) images: Dir,
}

/// An empty directory, which is what is below the lowest layer.
pub(crate) const EMPTY: &str = ".empty";

impl Store {
    /// Opens the store in `dir`, making what is missing. `staging` must be on the same file system.
    ///
    /// # Errors
    /// As of mkdirat(2) and openat(2); `Unsupported` where the directory is an OCI layout of another version.
    pub fn open(dir: &Dir, staging: &Staging) -> Result<Store> {
        let layers = dir.make("layers", 0o700)?;
        // Seen as the root of containers that have no layers; the umask may have taken something away.
        let empty = layers.make(EMPTY, 0o755)?;
        let readable = Mode::from_raw_mode(0o755);
        rustix::fs::chmodat(&empty, ".", readable, rustix::fs::AtFlags::empty())
            .map_err(|errno| coracle_host::Error::os(format!("chmod({:?})", empty.path()), errno))?;
        let store = Store {
            state: dir.clone(),
            staging: staging.clone(),
            blobs: Blobs::at(dir, staging)?,
            layers,
            images: dir.make("images", 0o700)?,
        };
        store.check_layout()?;
        store.reindex_if_stale()?;
        Ok(store)
    }

    /// The store's blobs.
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    fn check_layout(&self) -> Result<()> {
        const FILE: &str = "oci-layout";
        const VERSION: &str = "1.0.0";
        let path = self.state.path_of(FILE);
        match self.state.read_if_there(FILE)? {
            None => {
                let bytes = json::canonical(&json!({ "imageLayoutVersion": VERSION }))?;
                match self.staging.write_new(&self.state, FILE, &bytes) {
                    Err(error) if error.kind() == Kind::AlreadyExists => Ok(()),
                    other => Ok(other?),
                }
            }
            Some(bytes) => {
                let layout: serde_json::Value = json::parse(&bytes, || format!("{path:?}"))?;
                match layout["imageLayoutVersion"].as_str() {
                    Some(VERSION) => Ok(()),
                    other => {
                        let text =
                            format!("{path:?}: image layout version {other:?}, only {VERSION} is known");
                        Err(Error::unsupported(text))
                    }
                }
            }
        }
    }
}

/// Makes a small file of a staged directory. What makes the whole directory durable makes it so, too.
pub(crate) fn put(dir: &Dir, name: &str, bytes: &[u8]) -> Result<()> {
    use coracle_host::Call;
    use std::io::Write;
    let file = dir.file(name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, 0o600)?;
    let written = std::fs::File::from(file).write_all(bytes);
    Ok(written.call(|| format!("write({:?})", dir.path_of(name)))?)
}
