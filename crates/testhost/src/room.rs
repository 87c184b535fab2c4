//! Room for control groups of version 2.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long killed processes may take to be gone.
const SOON: Duration = Duration::from_secs(20);

/// A leaf for the test's own process: a group of version 2 that gives controllers on holds none. The process goes back, and
/// the leaf goes, with the value.
#[derive(Debug)]
pub struct Room(PathBuf);

impl Room {
    /// Below the test host's own group, at this mount point.
    ///
    /// # Panics
    /// Where the kernel refuses it.
    pub fn below(top: &Path) -> Room {
        let room = top.join("room");
        fs::create_dir(&room).unwrap();
        fs::write(room.join("cgroup.procs"), "0").unwrap();
        Room(room)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let Some(top) = self.0.parent().filter(|_| !std::thread::panicking()) else { return };
        // What was given on by the test keeps the process from coming back.
        let given = fs::read_to_string(top.join("cgroup.subtree_control")).unwrap();
        for name in given.split_whitespace() {
            fs::write(top.join("cgroup.subtree_control"), format!("-{name}")).unwrap();
        }
        fs::write(top.join("cgroup.procs"), "0").unwrap();
        // Killed ones that were in it, too, may still be leaving.
        let deadline = Instant::now() + SOON;
        while fs::remove_dir(&self.0).is_err() {
            assert!(Instant::now() < deadline, "{:?} does not become empty", self.0);
            std::thread::yield_now();
        }
    }
}
