//! A context of 10,000 files and 200 MB: built cold, again with nothing changed, and with one file changed; beside `cp -a`
//! of the same tree, and beside docker's BuildKit where dockerd is installed. Rounds are interleaved.
//!
//! `cargo bench --bench build` as root. The machine may be noisy: look at the ratios.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use coracle::{BuildSpec, Engine};

const FILES: usize = 10_000;
const BYTES: usize = 20_971;
const ROUNDS: usize = 3;
const TEXT: &str = "FROM scratch\nCOPY . /app/\nCMD [\"/app/run\"]\n";

type Done = Result<(), Box<dyn Error>>;

fn main() -> Done {
    let place = tempfile::tempdir()?;
    let context = place.path().join("context");
    fill(&context)?;
    let engine = Engine::open(place.path().join("state"))?;
    let spec = || BuildSpec::new(&context).dockerfile_text(TEXT).tag("bench");
    let ours = |no_cache: bool| -> Done { Ok(engine.build(&spec().no_cache(no_cache), |_| {}).map(drop)?) };
    let docker = Docker::start(place.path())?;
    let theirs = |no_cache: bool| docker.as_ref().map_or(Ok(()), |docker| docker.build(&context, no_cache));
    let copy = || -> Done {
        let to = place.path().join("copy");
        let _ = fs::remove_dir_all(&to);
        done(Command::new("cp").arg("-a").arg(&context).arg(&to))
    };
    let mut change = 0;
    let mut changed = |build: &dyn Fn(bool) -> Done| -> Result<Duration, Box<dyn Error>> {
        change += 1;
        fs::write(context.join("d50/f5050"), format!("changed {change}"))?;
        timed(|| build(false))
    };
    println!("{FILES} files, {} MB, medians of {ROUNDS} rounds", FILES * BYTES / 1_000_000);
    println!("{:>22} {:>12} {:>12}", "", "coracle", "BuildKit");
    let mut rows: [(&str, Vec<Duration>, Vec<Duration>); 3] =
        [("cold", vec![], vec![]), ("all cached", vec![], vec![]), ("one file changed", vec![], vec![])];
    let mut copies = Vec::new();
    for _ in 0..ROUNDS {
        copies.push(timed(copy)?);
        rows[0].1.push(timed(|| ours(true))?);
        rows[0].2.push(timed(|| theirs(true))?);
        // What was written just now is read once more before it is trusted.
        ours(false)?;
        rows[1].1.push(timed(|| ours(false))?);
        rows[1].2.push(timed(|| theirs(false))?);
        rows[2].1.push(changed(&ours)?);
        rows[2].2.push(changed(&theirs)?);
    }
    println!("{:>22} {:>10.1?}", "cp -a", median(&mut copies));
    for (what, mut own, mut other) in rows {
        let (own, other) = (median(&mut own), median(&mut other));
        match docker {
            Some(_) => {
                let ratio = other.as_secs_f64() / own.as_secs_f64();
                println!("{what:>22} {own:>10.1?} {other:>10.1?}  {ratio:.1}x");
            }
            None => println!("{what:>22} {own:>10.1?} {:>12}", "no docker"),
        }
    }
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("");
    println!("peak memory of this process: {}", peak.trim_start_matches("VmHWM:").trim());
    Ok(())
}

fn fill(context: &Path) -> Done {
    let mut seed = 1u64;
    for file in 0..FILES {
        let dir = context.join(format!("d{}", file % 100));
        fs::create_dir_all(&dir)?;
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            seed.to_be_bytes()
        })
        .flatten()
        .take(BYTES)
        .collect();
        fs::write(dir.join(format!("f{file}")), bytes)?;
    }
    Ok(())
}

fn timed(act: impl FnOnce() -> Done) -> Result<Duration, Box<dyn Error>> {
    let start = Instant::now();
    act()?;
    Ok(start.elapsed())
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn done(command: &mut Command) -> Done {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}").into()) }
}

/// A docker daemon of our own, in namespaces that end with it.
struct Docker {
    init: Child,
    socket: PathBuf,
}

impl Docker {
    fn start(place: &Path) -> Result<Option<Docker>, Box<dyn Error>> {
        if !Path::new("/usr/sbin/dockerd").exists() {
            return Ok(None);
        }
        let root = place.join("docker");
        fs::create_dir_all(&root)?;
        let script = "mount -t tmpfs tmpfs /run && exec dockerd --data-root \"$1/data\" --exec-root /run/docker \
             -H \"unix://$1/docker.sock\" -p /run/docker.pid --iptables=false --bridge=none >\"$1/log\" 2>&1";
        let words = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script, "sh"];
        let init = Command::new("unshare").args(words).arg(&root).stdin(Stdio::null()).spawn()?;
        let docker = Docker { init, socket: root.join("docker.sock") };
        let deadline = Instant::now() + Duration::from_secs(30);
        while done(docker.command().arg("version")).is_err() {
            if Instant::now() > deadline {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(Some(docker))
    }

    fn command(&self) -> Command {
        let mut command = Command::new("/usr/bin/docker");
        command.env("DOCKER_HOST", format!("unix://{}", self.socket.display())).env("DOCKER_BUILDKIT", "1");
        command
    }

    fn build(&self, context: &Path, no_cache: bool) -> Done {
        let dockerfile = context.with_file_name("Dockerfile");
        fs::write(&dockerfile, TEXT)?;
        let mut command = self.command();
        command.args(["build", "-t", "bench", "-f"]).arg(dockerfile);
        if no_cache {
            command.arg("--no-cache");
        }
        done(command.arg(context))
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let _ = self.init.kill();
        let _ = self.init.wait();
    }
}
