//! Volumes on a real kernel, each test in a private host.
#![allow(clippy::print_stderr)] // seeds and counts, for whoever looks at a failure

use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use coracle_host::{Dir, Staging};
use coracle_volume::{Loan, Volumes};

mod crash;
mod crowd;
mod driver;
mod frozen;
mod lend;
mod power;
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

/// Random numbers that come again with the same seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// `CORACLE_SEED`, or a new one; printed, so that a failure can be had again.
    fn seed() -> u64 {
        let given = std::env::var("CORACLE_SEED").ok().and_then(|text| text.parse().ok());
        let seed =
            given.unwrap_or_else(|| u64::from_str_radix(&coracle_host::random_hex(8).unwrap(), 16).unwrap());
        eprintln!("CORACLE_SEED={seed}");
        seed
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % end as u64).unwrap()
    }
}
