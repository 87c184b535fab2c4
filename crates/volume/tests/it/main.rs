//! Volumes on a real kernel, each test in a private host.

use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use coracle_host::{Dir, Staging};
use coracle_volume::{Loan, Volumes};

mod crash;
mod frozen;
mod lend;
mod prune;
mod race;
mod seed;
mod store;
mod terms;

/// A state directory: its `tmp/` and `volumes/`, opened as a program would.
struct State {
    top: Dir,
    volumes: Volumes,
}

impl State {
    fn open(place: &Path) -> State {
        let top = Dir::create(place.join("state"), 0o700).unwrap();
        let staging = Staging::open(&top.make("tmp", 0o700).unwrap()).unwrap();
        let volumes = Volumes::new(&top.make("volumes", 0o700).unwrap(), &staging);
        State { top, volumes }
    }

    /// What the next program to open the state does first.
    fn reclaim(&self) {
        Staging::reclaim(&self.top.dir("tmp").unwrap()).unwrap();
    }

    /// The number of corners in `tmp/`: one for each living [`Staging`].
    fn corners(&self) -> usize {
        self.top.dir("tmp").unwrap().names().unwrap().len()
    }
}

/// A path into a loan's mount, which is attached nowhere.
fn below(loan: &Loan, name: &str) -> PathBuf {
    format!("/proc/self/fd/{}/{name}", loan.mount().as_fd().as_raw_fd()).into()
}

/// Tells the thread that makes trouble to stop, also when the test fails.
struct Stop<'a>(&'a std::sync::atomic::AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}
