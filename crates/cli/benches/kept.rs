//! What a container costs that nobody waits for: the memory of its supervisor, and the time of `run -d`.
//!
//! `cargo bench -p coracle-cli --bench kept` as root, where busybox is installed.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

const PROGRAM: &str = env!("CARGO_BIN_EXE_coracle");
const KEPT: usize = 16;

fn main() -> Result<(), Box<dyn Error>> {
    let place = tempfile::tempdir()?;
    let coracle = |arguments: &[&str], input: Stdio| -> Result<String, Box<dyn Error>> {
        let mut command = Command::new(PROGRAM);
        command.env("CORACLE_ROOT", place.path().join("state")).args(arguments).stdin(input);
        let output = command.output()?;
        match output.status.success() {
            true => Ok(String::from_utf8(output.stdout)?.trim().to_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned().into()),
        }
    };
    let mut tar = Command::new("tar");
    tar.args(["-C", "/", "-ch", "bin/busybox"]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut tar = tar.spawn()?;
    coracle(&["import", "-", "bench"], tar.stdout.take().ok_or("no pipe")?.into())?;
    tar.wait()?;
    let (mut ids, mut times) = (Vec::new(), Vec::new());
    for _ in 0..KEPT {
        let begin = Instant::now();
        let arguments = ["run", "-d", "--network", "none", "bench", "/bin/busybox", "sleep", "1000"];
        ids.push(coracle(&arguments, Stdio::null())?);
        times.push(begin.elapsed());
    }
    let mut memory = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let process = entry?.path();
        let line = fs::read(process.join("cmdline")).unwrap_or_default();
        if ids.iter().any(|id| line.ends_with(format!("{id}\0").as_bytes())) {
            let map = fs::read_to_string(process.join("smaps_rollup"))?;
            let private = map.lines().filter(|line| line.starts_with("Private_"));
            let kilobytes = private.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
            memory.push(kilobytes.sum::<u64>());
        }
    }
    memory.sort_unstable();
    times.sort_unstable();
    let all: Vec<&str> = ["rm", "-f"].into_iter().chain(ids.iter().map(String::as_str)).collect();
    coracle(&all, Stdio::null())?;
    let median = times[KEPT / 2].as_secs_f64() * 1e3;
    println!("`run -d` without network: {median:.1} ms; private memory of a supervisor: {memory:?} KB");
    if memory.len() == KEPT { Ok(()) } else { Err("not every container has a supervisor".into()) }
}
