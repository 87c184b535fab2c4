//! Volumes: what is written and read inside one beside the same on the host; a clone of a gigabyte in ten thousand
//! files, and its first write; and the start of a template beside a plain one.
//!
//! `cargo bench --bench volume -- [DIRECTORY]` as root. The machine may be noisy: look at the ratios.
//!
//! Seen on Linux 6.18, two cores that others had work for, ext4 and xfs on loop devices: dd writes in a volume at 1.05 and
//! 0.98 of what it does on the host, and reads at 1.10 and 0.95; a clone of a gigabyte in ten thousand files takes 14 and 17 ms
//! (0.4 ms where nothing else waits for the disk), its first write no more than the start around it; a start from a template
//! takes 1.47 and 1.03 of a plain one.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use coracle::{Capture, ContainerSpec, Engine, VolumeSpec};

type Done = Result<(), Box<dyn Error>>;

const FILES: usize = 10_000;
const GIGABYTE: usize = 1 << 30;
const ROUNDS: usize = 60;
const DD_ROUNDS: usize = 5;

fn main() -> Done {
    let given = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let place = match given.map(PathBuf::from) {
        Some(given) => tempfile::tempdir_in(given)?,
        None => tempfile::tempdir()?,
    };
    let engine = Engine::open(place.path().join("state"))?;
    let programs = Capture::new().search_path(["/bin", "/usr/bin"]).programs(["sh", "dd", "true", "sync"]);
    engine.capture(&programs, "tools")?;
    throughput(&engine, &place.path().join("host"))?;
    clones(&engine)?;
    starts(&engine)
}

/// dd of a gigabyte with fsync, and back from the disk's cache, inside and outside in turn, by dd's own clock.
fn throughput(engine: &Engine, host: &Path) -> Done {
    fs::create_dir(host)?;
    let columns = ["1 GiB with dd", "volume", "host", "of the host's"];
    println!("{:>28} {:>12} {:>12} {:>14}", columns[0], columns[1], columns[2], columns[3]);
    let write = "if=/dev/zero of=FILE bs=1M count=1024 conv=fsync,notrunc";
    let read = "if=FILE of=/dev/null bs=1M";
    for (what, args) in [("write and fsync", write), ("read", read)] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..=DD_ROUNDS {
            let inside = args.replace("FILE", "/v/file");
            let command = ["sh", "-c", &format!("LC_ALL=C dd {inside} 2>&1")].map(str::to_owned);
            let spec = ContainerSpec::new("tools").command(command).volume("speed", "/v").no_network();
            let container = engine.start(&spec)?;
            container.wait()?;
            let own = rate(&container.output()?.stdout)?;
            drop(container);
            let outside = args.replace("FILE", &host.join("file").display().to_string());
            let output = Command::new("dd").env("LC_ALL", "C").args(outside.split(' ')).output()?;
            let other = rate(&String::from_utf8(output.stderr)?)?;
            // The first ones make the files.
            if round > 0 {
                ours.push(own);
                theirs.push(other);
            }
        }
        let (ours, theirs) = (median(ours), median(theirs));
        let share = ours as f64 / theirs as f64;
        println!("{what:>28} {ours:>6} MiB/s {theirs:>6} MiB/s {share:>13.2}x");
    }
    engine.remove_volume("speed")?;
    fs::remove_dir_all(host)?;
    Ok(())
}

/// What dd says of a gigabyte (`… copied, 0.5 s, …`), in MiB/s.
fn rate(said: &str) -> Result<u64, Box<dyn Error>> {
    let seconds = said.split("copied, ").nth(1).and_then(|rest| rest.split(" s").next());
    let seconds: f64 = seconds.ok_or_else(|| format!("dd says {said:?}"))?.parse()?;
    Ok((1024.0 / seconds) as u64)
}

fn clones(engine: &Engine) -> Done {
    let golden = engine.volume(&VolumeSpec::new("golden"))?;
    for number in 0..FILES {
        let dir = golden.path().join((number / 100).to_string());
        if number % 100 == 0 {
            fs::create_dir(&dir)?;
        }
        fs::write(dir.join(number.to_string()), vec![number as u8; GIGABYTE / FILES])?;
    }
    let copied =
        timed(|| engine.clone_volume("golden", &VolumeSpec::new("copy")).map(drop).map_err(Into::into))?;
    println!("{:>28} {copied:>12.1?}", "copy of 1 GiB, 10,000 files");
    let frozen = timed(|| Ok(engine.freeze_volume("golden")?))?;
    println!("{:>28} {frozen:>12.1?}", "freeze");
    let mut all = Vec::new();
    for number in 0..20 {
        let spec = VolumeSpec::new(format!("clone{number}"));
        all.push(timed(|| engine.clone_volume("golden", &spec).map(drop).map_err(Into::into))?);
    }
    println!("{:>28} {:>12.1?}", "clone, median of 20", median(all));
    let mut all = Vec::new();
    for number in 0..20 {
        let write = ContainerSpec::new("tools").command(["sh", "-c", "echo x >> /v/7/700"]).no_network();
        let write = write.volume(format!("clone{number}"), "/v");
        all.push(timed(|| engine.start(&write)?.wait().map(drop).map_err(Into::into))?);
    }
    println!("{:>28} {:>12.1?}", "start, first write, end", median(all));
    let mut all = Vec::new();
    for number in 0..20 {
        let idle = ContainerSpec::new("tools").command(["sh", "-c", ":"]).no_network();
        let idle = idle.volume(format!("clone{number}"), "/v");
        all.push(timed(|| engine.start(&idle)?.wait().map(drop).map_err(Into::into))?);
    }
    println!("{:>28} {:>12.1?}", "the same without the write", median(all));
    Ok(())
}

fn starts(engine: &Engine) -> Done {
    let first = ContainerSpec::new("tools").command(["sh", "-c", "echo file > /prepared"]).no_network();
    let first = engine.start(&first.volume("clone0", "/v"))?;
    first.wait()?;
    let template = first.freeze("prepared")?;
    drop(first);
    let plain = ContainerSpec::new("tools").command(["true"]).no_network();
    let volume = plain.clone().volume("plain", "/v");
    let from = template.spec().command(["true"]).no_network();
    let (mut plains, mut volumes, mut templates) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS + 10 {
        for (spec, all) in [(&plain, &mut plains), (&volume, &mut volumes), (&from, &mut templates)] {
            let took = timed(|| engine.start(spec)?.wait().map(drop).map_err(Into::into))?;
            if round >= 10 {
                all.push(took);
            }
        }
    }
    let (plain, volume, from) = (median(plains), median(volumes), median(templates));
    println!("{:>28} {plain:>12.2?}", "plain start to removal");
    println!("{:>28} {volume:>12.2?} {:>11.2}x", "with a volume", volume.as_secs_f64() / plain.as_secs_f64());
    println!("{:>28} {from:>12.2?} {:>11.2}x", "from a template", from.as_secs_f64() / plain.as_secs_f64());
    Ok(())
}

fn timed(act: impl FnOnce() -> Done) -> Result<Duration, Box<dyn Error>> {
    let begun = Instant::now();
    act()?;
    Ok(begun.elapsed())
}

fn median<T: Ord + Copy>(mut all: Vec<T>) -> T {
    all.sort();
    all[all.len() / 2]
}
