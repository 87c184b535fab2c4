//! Volumes: what is written and read inside one beside the same on the host; a clone of a gigabyte in ten thousand
//! files, and its first write; and the start of a template beside a plain one.
//!
//! `cargo bench --bench volume -- [DIRECTORY]` as root. The machine may be noisy: look at the ratios.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use coracle::{Capture, ContainerSpec, Engine, VolumeSpec};

type Done = Result<(), Box<dyn Error>>;

const FILES: usize = 10_000;
const GIGABYTE: usize = 1 << 30;
const ROUNDS: usize = 60;

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

/// dd of a gigabyte with fsync, and back from the disk's cache, inside and outside.
fn throughput(engine: &Engine, host: &Path) -> Done {
    fs::create_dir(host)?;
    println!("{:>28} {:>12} {:>12}", "1 GiB with dd", "volume", "host");
    let write = "if=/dev/zero of=FILE bs=1M count=1024 conv=fsync,notrunc";
    let read = "if=FILE of=/dev/null bs=1M";
    for (what, args) in [("write and fsync", write), ("again", write), ("read", read)] {
        let inside = args.replace("FILE", "/v/file");
        let spec = ContainerSpec::new("tools").command(["sh", "-c", &format!("dd {inside} 2>/dev/null")]);
        let spec = spec.volume("speed", "/v").no_network();
        let ours = timed(|| {
            let exit = engine.start(&spec)?.wait()?;
            if exit.success() { Ok(()) } else { Err(exit.to_string().into()) }
        })?;
        let outside = args.replace("FILE", &host.join("file").display().to_string());
        let theirs = timed(|| {
            let status = Command::new("dd").args(outside.split(' ')).stderr(Stdio::null()).status()?;
            if status.success() { Ok(()) } else { Err(status.to_string().into()) }
        })?;
        let rate = |took: Duration| format!("{:.0} MiB/s", 1024.0 / took.as_secs_f64());
        println!("{what:>28} {:>12} {:>12}", rate(ours), rate(theirs));
    }
    engine.remove_volume("speed")?;
    fs::remove_dir_all(host)?;
    Ok(())
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
    Ok(())
}

fn starts(engine: &Engine) -> Done {
    let first = ContainerSpec::new("tools").command(["sh", "-c", "echo file > /prepared"]).no_network();
    let first = engine.start(&first.volume("clone0", "/v"))?;
    first.wait()?;
    let template = first.freeze("prepared")?;
    drop(first);
    let plain = ContainerSpec::new("tools").command(["true"]).no_network();
    let volume = plain.clone().volume("clone1", "/v");
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

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort();
    all[all.len() / 2]
}
