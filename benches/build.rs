//! A context of 10,000 files and 200 MB: built from nothing, with its files in memory and with all of them on the disk only, again
//! with nothing changed, and with one file changed; beside `cp -a` of the same tree in the same rounds, and beside docker's
//! BuildKit where dockerd is installed. Then four stages that wait. Each build of ours is a process of its own, from its start to its end, as at a terminal.
//!
//! `cargo bench --bench build` as root; `-- --rounds N --rest SECONDS`. Nothing is removed between the rounds, and each cold
//! run is rested before: the disk may be slow for a while after other work. Before each run all is written out, since ours
//! make what they did durable, and would wait for what others left in memory. The machine may be noisy: look at the ratios.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use coracle::{BuildSpec, Capture, Engine, StepNetwork};

const FILES: usize = 10_000;
const BYTES: usize = 20_971;
const TEXT: &str = "FROM scratch\nCOPY . /app/\nCMD [\"/app/run\"]\n";
const WAITING: &str = "FROM tools AS one\nRUN sleep 1; echo > /one\nFROM tools AS two\nRUN sleep 2; echo > /two\n\
    FROM tools AS three\nRUN sleep 1; echo > /three\nFROM tools AS four\nRUN sleep 1; echo > /four\n\
    FROM scratch\nCOPY --from=one /one /\nCOPY --from=two /two /\nCOPY --from=three /three /\nCOPY --from=four /four /\n";

type Done = Result<(), Box<dyn Error>>;

fn main() -> Done {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [role, state, context, no_cache] = words.as_slice()
        && role == "--build"
    {
        return build(Path::new(state), Path::new(context), no_cache == "anew");
    }
    let number = |name: &str, else_: u64| {
        let at = words.iter().position(|word| word == name).and_then(|at| words.get(at + 1));
        at.and_then(|text| text.parse().ok()).unwrap_or(else_)
    };
    compare(number("--rounds", 3), Duration::from_secs(number("--rest", 30)))
}

/// The process that is measured: it says what memory it had at its peak.
fn build(state: &Path, context: &Path, no_cache: bool) -> Done {
    let engine = Engine::open(state)?;
    engine.build(&BuildSpec::new(context).dockerfile_text(TEXT).tag("bench").no_cache(no_cache), |_| {})?;
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0");
    println!("{}", peak.trim().trim_end_matches(" kB"));
    Ok(())
}

/// Times of one kind of build, ours and theirs.
#[derive(Default)]
struct Row {
    ours: Vec<Duration>,
    theirs: Vec<Duration>,
}

fn compare(rounds: u64, rest: Duration) -> Done {
    let place = tempfile::tempdir()?;
    let context = place.path().join("context");
    fill(&context)?;
    let mut peak = 0u64;
    let mut ours = |state: &Path, no_cache: bool| -> Result<Duration, Box<dyn Error>> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--build").arg(state).arg(&context).arg(if no_cache { "anew" } else { "cached" });
        rustix::fs::sync();
        let start = Instant::now();
        let output = command.output()?;
        let time = start.elapsed();
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into());
        }
        peak = peak.max(String::from_utf8_lossy(&output.stdout).trim().parse()?);
        Ok(time)
    };
    let docker = Docker::start(place.path())?;
    let theirs = |times: &mut Vec<Duration>, no_cache: bool| -> Done {
        if let Some(docker) = &docker {
            rustix::fs::sync();
            let start = Instant::now();
            docker.build(&context, no_cache)?;
            times.push(start.elapsed());
        }
        Ok(())
    };
    let (mut copies, mut disk_copies) = (Vec::new(), Vec::new());
    let (mut cold, mut disk, mut cached, mut changed) =
        (Row::default(), Row::default(), Row::default(), Row::default());
    for round in 0..rounds {
        let state = place.path().join(format!("state{round}"));
        let copy = |name: &str| -> Result<Duration, Box<dyn Error>> {
            rustix::fs::sync();
            let start = Instant::now();
            done(Command::new("cp").arg("-a").arg(&context).arg(place.path().join(name)))?;
            Ok(start.elapsed())
        };
        let pause = |forgets: bool| -> Done {
            std::thread::sleep(rest);
            if forgets { forget(&context) } else { Ok(()) }
        };
        pause(true)?;
        disk_copies.push(copy(&format!("copy{round} from disk"))?);
        pause(true)?;
        disk.ours.push(ours(&place.path().join(format!("state{round} from disk")), false)?);
        pause(true)?;
        theirs(&mut disk.theirs, true)?;
        // By now the files are in memory.
        pause(false)?;
        copies.push(copy(&format!("copy{round}"))?);
        pause(false)?;
        cold.ours.push(ours(&state, false)?);
        pause(false)?;
        theirs(&mut cold.theirs, true)?;
        // What was written just now is read once more before it is trusted.
        ours(&state, false)?;
        for _ in 0..3 {
            cached.ours.push(ours(&state, false)?);
            theirs(&mut cached.theirs, false)?;
        }
        for (nth, file) in ["d50/f5050", "d50/f5050", "d7/f107"].iter().enumerate() {
            fs::write(context.join(file), format!("changed {round} {nth}"))?;
            changed.ours.push(ours(&state, false)?);
            theirs(&mut changed.theirs, false)?;
        }
    }
    println!("{FILES} files, {} MB; medians of {rounds} rounds", FILES * BYTES / 1_000_000);
    println!("{:>18} {:>10} {:>10} {:>8}", "", "coracle", "BuildKit", "ahead");
    let (copy, disk_copy) = (median(&mut copies), median(&mut disk_copies));
    println!("{:>18} {copy:>10.1?}", "cp -a");
    println!("{:>18} {disk_copy:>10.1?}", "cp -a, from disk");
    let mut times = Vec::new();
    for (what, mut row) in
        [("cold", cold), ("cold, from disk", disk), ("all cached", cached), ("one file changed", changed)]
    {
        let own = median(&mut row.ours);
        times.push(own.as_secs_f64());
        if row.theirs.is_empty() {
            println!("{what:>18} {own:>10.1?} {:>10}", "no docker");
            continue;
        }
        let other = median(&mut row.theirs);
        let ahead = other.as_secs_f64() / own.as_secs_f64();
        println!("{what:>18} {own:>10.1?} {other:>10.1?} {ahead:>7.1}x");
    }
    let (in_memory, from_disk) = (times[0] / copy.as_secs_f64(), times[1] / disk_copy.as_secs_f64());
    println!("cold is {in_memory:.2}x of cp -a, and {from_disk:.2}x where both read from the disk");
    println!("peak memory of any of our processes: {:.1} MB", peak as f64 / 1000.0);
    let waited = waiting(place.path())?;
    println!("four stages that wait for 1, 2, 1 and 1 s: {waited:.2?}");
    Ok(())
}

/// Four independent stages, each of which waits.
fn waiting(place: &Path) -> Result<Duration, Box<dyn Error>> {
    let engine = Engine::open(place.join("waiting"))?;
    engine.capture(&Capture::new().programs(["/bin/sh", "/bin/sleep"]), "tools")?;
    let spec = BuildSpec::without_context(WAITING).network(StepNetwork::None);
    let start = Instant::now();
    engine.build(&spec, |_| {})?;
    Ok(start.elapsed())
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

/// Has the kernel keep nothing of the files in memory.
fn forget(context: &Path) -> Done {
    rustix::fs::sync();
    for dir in fs::read_dir(context)? {
        for file in fs::read_dir(dir?.path())? {
            let file = fs::File::open(file?.path())?;
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        }
    }
    Ok(())
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn done(command: &mut Command) -> Done {
    let output = command.stdin(Stdio::null()).output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into()),
    }
}

/// A docker daemon of our own, in namespaces that end with it.
struct Docker {
    init: Child,
    root: PathBuf,
}

impl Docker {
    fn start(place: &Path) -> Result<Option<Docker>, Box<dyn Error>> {
        if !["/usr/sbin/dockerd", "/usr/bin/docker"].iter().all(|path| Path::new(path).exists()) {
            return Ok(None);
        }
        let root = place.join("docker");
        fs::create_dir_all(&root)?;
        let script = "mount -t tmpfs tmpfs /run && exec dockerd --data-root \"$1/data\" --exec-root /run/docker \
             -H \"unix://$1/docker.sock\" -p /run/docker.pid --iptables=false --bridge=none >\"$1/log\" 2>&1";
        let words =
            ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script, "sh"];
        let init = Command::new("unshare").args(words).arg(&root).stdin(Stdio::null()).spawn()?;
        let docker = Docker { init, root };
        let deadline = Instant::now() + Duration::from_secs(60);
        while done(docker.command().arg("version")).is_err() {
            if Instant::now() > deadline {
                return Err("dockerd does not start".into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(Some(docker))
    }

    fn command(&self) -> Command {
        let mut command = Command::new("/usr/bin/docker");
        command.env("DOCKER_HOST", format!("unix://{}/docker.sock", self.root.display()));
        command.env("DOCKER_BUILDKIT", "1").env("HOME", &self.root);
        command
    }

    fn build(&self, context: &Path, no_cache: bool) -> Done {
        let dockerfile = context.with_file_name("Dockerfile");
        fs::write(&dockerfile, TEXT)?;
        let mut command = self.command();
        command.args(["build", "-q", "-t", "bench", "-f"]).arg(dockerfile);
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
