//! How long a seed and a clone take, of many small files and of one big one.
//!
//! `sudo cargo bench -p coracle-volume --bench copy -- DIRECTORY` in a directory of the file system in question.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use coracle_host::{Dir, Staging};
use coracle_volume::{Terms, VolumeSpec, Volumes};

const FILES: usize = 10_000;
const BIG: usize = 1 << 30;

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
        let tree = Dir::open(&tree)?;
        rustix::fs::syncfs(&tree)?;
        let volume = volumes.create(&VolumeSpec::new(name))?;
        let start = Instant::now();
        drop(volume.lend_on("bench", &Terms::new().seed(&tree))?);
        println!("{name:6} seed  {:9.1} ms", start.elapsed().as_secs_f64() * 1e3);
        let start = Instant::now();
        let copy = volumes.clone_volume(name, &VolumeSpec::new(format!("{name}-copy")))?;
        println!("{name:6} clone {:9.1} ms", start.elapsed().as_secs_f64() * 1e3);
        let usage = copy.usage()?;
        println!("{name:6} {} entries, {} MiB", usage.entries, usage.bytes >> 20);
    }
    Ok(())
}
