//! What several benchmarks measure with.
#![allow(dead_code)] // each benchmark is a program of its own, and none needs all of it

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub type Done = Result<(), Box<dyn Error>>;

pub fn timed(work: impl FnOnce() -> Done) -> Result<Duration, Box<dyn Error>> {
    let begin = Instant::now();
    work()?;
    Ok(begin.elapsed())
}

/// Runs a program that must succeed, with nothing to read and nowhere to write.
pub fn done(command: &mut Command) -> Done {
    let output = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output()?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let program = command.get_program().to_string_lossy().into_owned();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(format!("{program}: {}: {}", output.status, said.trim()).into())
        }
    }
}

/// Whether there is such a program.
pub fn is_installed(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|dir| dir.join(program).is_file())
}

/// Half and nearly all of what was measured.
pub struct Spread {
    pub median: Duration,
    pub p99: Duration,
}

impl Spread {
    pub fn of(mut times: Vec<Duration>) -> Spread {
        times.sort();
        Spread { median: times[times.len() / 2], p99: times[times.len() * 99 / 100] }
    }

    /// How many times the other one's median.
    pub fn over(&self, other: &Spread) -> f64 {
        self.median.as_secs_f64() / other.median.as_secs_f64()
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = format!("{:.2} / {:.2}", milliseconds(self.median), milliseconds(self.p99));
        write!(f, "{text:>19} ms")
    }
}

pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Memory that is a process's own, in kilobytes: what the machine would get back if it ended.
pub fn private_memory(process: &str) -> Result<u64, Box<dyn Error>> {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
    let of = |line: &str| line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
    Ok(text.lines().filter(|line| line.starts_with("Private_")).filter_map(of).sum())
}

/// How many entries a directory has.
pub fn entries(dir: impl AsRef<Path>) -> usize {
    fs::read_dir(dir).map_or(0, Iterator::count)
}
