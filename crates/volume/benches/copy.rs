//! How long a seed and a clone take, of many small files and of one big one; a seed beside `cp -a` and a sync.
//!
//! `sudo cargo bench -p coracle-volume --bench copy -- DIRECTORY` in a directory of the file system in question.
//!
//! Seen on Linux 6.18: a seed takes 1.03 (ext4) and 1.10 (xfs, with reflinks) of `cp -a`'s time for ten thousand files of 4 KiB;
//! for one of a gigabyte 0.73 on ext4, and 20 ms beside 13 ms on xfs.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use coracle_host::{Dir, Staging};
use coracle_volume::{Terms, VolumeSpec, Volumes};

const FILES: usize = 10_000;
const BIG: usize = 1 << 30;
const ROUNDS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let given = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let place = given.map_or_else(std::env::temp_dir, PathBuf::from);
    let place = place.join(format!("coracle-volume-{}", std::process::id()));
    let told = tell(&place);
    fs::remove_dir_all(&place)?;
    told
}

fn tell(place: &Path) -> Result<(), Box<dyn Error>> {
    let state = Dir::create(place, 0o700)?;
    let staging = Staging::open(&state.make("tmp", 0o700)?)?;
    let volumes = Volumes::new(&state.make("volumes", 0o700)?, &staging);
    let small = place.join("small");
    for number in 0..FILES {
        let dir = small.join((number / 100).to_string());
        fs::create_dir_all(&dir)?;
        fs::write(dir.join(number.to_string()), vec![number as u8; 4 << 10])?;
    }
    let big = place.join("big");
    fs::create_dir(&big)?;
    fs::write(big.join("file"), vec![7; BIG])?;
    for (name, tree) in [("small", small), ("big", big)] {
        let seed = Dir::open(&tree)?;
        rustix::fs::syncfs(&seed)?;
        let (mut seeds, mut copies) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let volume = volumes.create(&VolumeSpec::new(format!("{name}-{round}")))?;
            // Else the first one pays for what others have not written yet.
            rustix::fs::syncfs(&seed)?;
            let start = Instant::now();
            drop(volume.lend_on("bench", &Terms::new().seed(&seed))?);
            seeds.push(start.elapsed());
            // What cp doesn't: a seed is on the disk when it is there.
            let beside = place.join("beside");
            rustix::fs::syncfs(&seed)?;
            let start = Instant::now();
            let status = Command::new("cp").arg("-a").arg(&tree).arg(&beside).status()?;
            rustix::fs::syncfs(&seed)?;
            copies.push(start.elapsed());
            assert!(status.success(), "cp: {status}");
            fs::remove_dir_all(&beside)?;
            if round > 0 {
                volumes.remove(volume.name())?;
            }
        }
        let (seed, copy) = (median(seeds), median(copies));
        println!("{name:6} seed   {:9.1} ms", seed.as_secs_f64() * 1e3);
        println!(
            "{name:6} cp -a  {:9.1} ms   a seed takes {:.2} of it",
            copy.as_secs_f64() * 1e3,
            seed.as_secs_f64() / copy.as_secs_f64()
        );
        let start = Instant::now();
        let clone = volumes.clone_volume(&format!("{name}-0"), &VolumeSpec::new(format!("{name}-clone")))?;
        println!("{name:6} clone  {:9.1} ms", start.elapsed().as_secs_f64() * 1e3);
        let usage = clone.usage()?;
        println!("{name:6} {} entries, {} MiB", usage.entries, usage.bytes >> 20);
    }
    Ok(())
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort();
    all[all.len() / 2]
}
