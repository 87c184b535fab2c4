//! What a test sees of its host.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::mount::MountFlags;

use crate::roles::Player;

/// The private host that a test runs in. The test is its pid 1.
#[derive(Debug)]
pub struct Host {
    name: String,
    place: PathBuf,
    dir: PathBuf,
    disks: AtomicUsize,
}

impl Host {
    pub(crate) fn new(name: &str, place: PathBuf) -> Host {
        Host { name: name.to_owned(), dir: place.join("dir"), place, disks: AtomicUsize::new(0) }
    }

    /// An empty directory on a tmpfs of this host's own. `TMPDIR` is another one beside it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The name of the test, for [`crate::skip`].
    pub fn test(&self) -> &str {
        &self.name
    }

    /// The mount point of a new tmpfs that has room for `bytes` (rounded up to pages).
    ///
    /// # Panics
    /// When it can't be mounted.
    pub fn small_disk(&self, bytes: u64) -> PathBuf {
        let number = self.disks.fetch_add(1, Ordering::Relaxed);
        let point = self.place.join(format!("{SMALL}{number}"));
        mount_tmpfs(&point, &format!("mode=0755,size={bytes}")).unwrap();
        point
    }

    /// Starts `role` (see [`crate::run_with`]) in a process of its own.
    ///
    /// # Panics
    /// When the process can't be started.
    pub fn play(&self, role: &str) -> Player {
        Player::start(&self.name, role)
    }

    /// The living processes of this host but the test itself, as `pid name (state): command line`. Zombies don't count.
    ///
    /// # Panics
    /// When `/proc` can't be read.
    pub fn processes(&self) -> Vec<String> {
        crate::leak::processes().into_iter().filter(|process| !process.contains(" (Z): ")).collect()
    }
}

/// How the names of small disks begin. The leak check knows that they stay.
pub(crate) const SMALL: &str = "small-";

pub(crate) fn mount_tmpfs(point: &Path, options: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(point)?;
    let options = std::ffi::CString::new(options)?;
    Ok(rustix::mount::mount("tmpfs", point, "tmpfs", MountFlags::empty(), options.as_c_str())?)
}
