//! Many containers: 64 starts at once; 1,000 running at once, and what they cost the embedding process; exec beside
//! `nsenter`; and what is left after 10,000 starts and ends.
//!
//! `cargo bench --bench many` as root; `-- exec` and such for one part. The machine may be noisy: look at the ratios.
#![allow(clippy::print_stdout)]

mod common;

use std::error::Error;
use std::process::Command;
use std::time::Instant;

use common::{Done, Spread, done, entries, milliseconds, private_memory, timed};
use coracle::{Capture, ContainerSpec, Engine, ExecSpec};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const AT_ONCE: usize = 64;
const RUNNING: usize = 1000;
const EXECS: usize = 200;
const CYCLES: usize = 10_000;

fn main() -> Done {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    let place = tempfile::tempdir()?;
    let engine = Engine::open(place.path())?;
    let image = engine.capture(&Capture::new().program("/bin/true").program("/bin/sleep"), "few")?;
    type Part = fn(&Engine, &ContainerSpec) -> Done;
    let parts: [(&str, Part); 4] =
        [("exec", exec), ("at-once", at_once), ("running", running), ("cycles", cycles)];
    let asked = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    for (name, part) in parts {
        if asked.as_deref().is_none_or(|asked| asked == name) {
            part(&engine, &ContainerSpec::new(&image).no_network())?;
        }
    }
    Ok(())
}

fn exec(engine: &Engine, spec: &ContainerSpec) -> Done {
    let container = engine.start(&spec.clone().command(["/bin/sleep", "1000"]))?;
    let pid = container.status()?.pid.ok_or("it doesn't run")?.to_string();
    let program = ExecSpec::new(["/bin/true"]);
    let ours = || -> Done {
        let (exit, _) = container.exec(&program)?;
        if exit.success() { Ok(()) } else { Err(exit.to_string().into()) }
    };
    let nsenter =
        || done(Command::new("nsenter").args(["-t", &pid, "-m", "-u", "-i", "-n", "-p", "/bin/true"]));
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..EXECS {
        a.push(timed(ours)?);
        b.push(timed(nsenter)?);
    }
    let (a, b) = (Spread::of(a), Spread::of(b));
    println!("exec of `true`: coracle {a}, nsenter {b} (p50 / p99): {:.2}x", a.over(&b));
    Ok(())
}

fn unshare() -> Done {
    done(Command::new("unshare").args(["-m", "-p", "-f", "-u", "-i", "-n", "/bin/true"]))
}

fn at_once(engine: &Engine, spec: &ContainerSpec) -> Done {
    let spec = spec.clone().command(["/bin/true"]);
    let one = || -> Result<_, String> {
        let begin = Instant::now();
        let exit =
            engine.start(&spec).and_then(|container| container.wait()).map_err(|error| error.to_string())?;
        if exit.success() { Ok(begin.elapsed()) } else { Err(exit.to_string()) }
    };
    let begin = Instant::now();
    let times: Result<Vec<_>, String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| "a thread ended".to_owned())?).collect()
    });
    let whole = begin.elapsed();
    let spread = Spread::of(times?);
    println!(
        "{AT_ONCE} starts at once: all ended after {:.1} ms; each {spread} (p50 / p99)",
        milliseconds(whole)
    );
    Ok(())
}

fn running(engine: &Engine, spec: &ContainerSpec) -> Done {
    let spec = spec.clone().command(["/bin/sleep", "1000"]);
    let mut containers = vec![engine.start(&spec)?];
    let (before, files) = (private_memory("self")?, entries("/proc/self/fd"));
    let (mut times, mut floor) = (Vec::new(), Vec::new());
    while containers.len() <= RUNNING {
        let begin = Instant::now();
        containers.push(engine.start(&spec)?);
        times.push(begin.elapsed());
        if !(100..RUNNING - 100).contains(&times.len()) {
            floor.push(timed(unshare)?);
        }
    }
    let memory = private_memory("self")?.saturating_sub(before);
    let files = entries("/proc/self/fd") - files;
    let last = Spread::of(times.split_off(RUNNING - 100));
    times.truncate(100);
    let first = Spread::of(times);
    let many = Spread::of(floor.split_off(floor.len() / 2));
    let few = Spread::of(floor);
    println!(
        "{RUNNING} running: {:.1} KB and {:.1} descriptors of the embedder each; start of the first hundred {first}, of the \
         last {last}: {:.2}x",
        memory as f64 / RUNNING as f64,
        files as f64 / RUNNING as f64,
        last.over(&first)
    );
    println!("`unshare` meanwhile: {few}, and {many} at the end: {:.2}x", many.over(&few));
    Ok(())
}

fn cycles(engine: &Engine, spec: &ContainerSpec) -> Done {
    let spec = spec.clone().command(["/bin/true"]);
    engine.start(&spec)?.wait()?;
    let now = || -> Result<[(&str, usize); 5], Box<dyn Error>> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?.lines().count();
        let children = std::fs::read_to_string("/proc/thread-self/children")?.split_whitespace().count();
        Ok([
            ("descriptors", entries("/proc/self/fd")),
            ("threads", entries("/proc/self/task")),
            ("mounts", mounts),
            ("children", children),
            ("groups", groups()),
        ])
    };
    let (before, memory) = (now()?, private_memory("self")?);
    let begin = Instant::now();
    for _ in 0..CYCLES {
        engine.start(&spec)?.wait()?;
    }
    let each = milliseconds(begin.elapsed()) / CYCLES as f64;
    let (after, grown) = (now()?, private_memory("self")?.saturating_sub(memory));
    println!("{CYCLES} starts and ends, {each:.2} ms each: {after:?} after, {grown} KB more memory");
    if before != after {
        return Err(format!("something was left: {before:?} before, {after:?} after").into());
    }
    Ok(())
}

/// The control groups of containers, in all hierarchies.
fn groups() -> usize {
    let dirs = |dir: &std::path::Path| -> Vec<_> {
        std::fs::read_dir(dir)
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .collect()
    };
    let ours = |dir: &std::path::PathBuf| {
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        name.strip_prefix("coracle-").is_some_and(|id| id.len() == 64)
    };
    let tops = dirs("/sys/fs/cgroup".as_ref());
    tops.iter().flat_map(|top| dirs(top)).chain(tops.iter().cloned()).filter(ours).count()
}
