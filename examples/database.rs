//! A database that is killed, started again, and has everything that it said it had written.
//!
//! `sudo cargo run --example database [STATE-DIRECTORY]`
//!
//! Any program that keeps its data in one directory goes here; this one appends lines and says so when they are on
//! the disk.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use coracle::{Capture, ContainerSpec, Engine, Ready, VolumeSpec};

/// Writes a line after the other to the volume, and says each one that is synced.
const DATABASE: &str = "n=$(wc -l < /data/log 2>/dev/null || echo 0); echo \"found $n\"; \
                        while :; do n=$((n+1)); echo \"row $n\" >> /data/log; sync /data/log; echo \"committed $n\"; done";

fn main() -> Result<(), Box<dyn Error>> {
    let given = std::env::args_os().nth(1).map(PathBuf::from);
    let state = given.unwrap_or_else(|| std::env::temp_dir().join("coracle-database"));
    let engine = Engine::open(&state)?;
    let programs = Capture::new().search_path(["/bin", "/usr/bin"]).programs(["sh", "wc", "sync"]);
    engine.capture(&programs, "database")?;
    let data = engine.volume(&VolumeSpec::new("database-data").label("app", "example"))?;

    let ready = Ready::log("committed").within(Duration::from_secs(10));
    let spec = ContainerSpec::new("database").command(["sh", "-c", DATABASE]).no_network();
    let spec = spec.volume(&data, "/data").ready(ready);
    let mut committed = 0;
    for _ in 0..3 {
        let database = engine.start(&spec)?;
        let found = number(&database.output()?.stdout, "found ").unwrap_or(0);
        assert!(found >= committed, "{committed} were committed, {found} are there");
        // However it ends: this is a SIGKILL.
        database.kill()?;
        committed = number(&database.output()?.stdout, "committed ").unwrap_or(0);
        println!("found {found}, committed up to {committed}, killed");
    }
    println!("the data is in {}", data.path().display());
    engine.remove_volume(data.name())?;
    Ok(())
}

/// The number in the last line that begins so.
fn number(output: &str, before: &str) -> Option<u64> {
    output
        .lines()
        .filter_map(|line| line.strip_prefix(before))
        .filter_map(|rest| rest.trim().parse().ok())
        .next_back()
}
