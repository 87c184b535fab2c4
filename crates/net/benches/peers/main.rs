//! What networks carry, beside docker and podman in the same run: throughput, requests, new connections and latency by every
//! way to a container, and what ports and networks cost.
//!
//! As root: `cargo bench -p coracle-net --bench peers`. Every engine is in a network namespace of its own, with a neighbour
//! behind a link; a docker daemon is started for it and ends with it. Needs unshare(1) and ip(8).
#![allow(clippy::print_stdout)]

mod costs;
mod load;
mod worlds;

use std::process::Command;

use load::{Figures, measure};
use worlds::{Coracle, Docker, Podman, Program, World};

pub(crate) type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

const INSIDE: &str = "CORACLE_BENCH_INSIDE";
const ROUNDS: usize = 9;

fn main() -> Result<()> {
    if std::env::var_os(INSIDE).is_none() {
        let words = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
        let status =
            Command::new("unshare").args(words).arg(std::env::current_exe()?).env(INSIDE, "1").status()?;
        return if status.success() { Ok(()) } else { Err(format!("unshare: {status}").into()) };
    }
    let place = std::env::temp_dir().join(format!("coracle-net-peers-{}", coracle_host::random_hex(4)?));
    std::fs::create_dir(&place)?;
    let told = tell(&place);
    worlds::clean(&place);
    told
}

fn tell(place: &std::path::Path) -> Result<()> {
    worlds::prepare(place)?;
    let coracle = Coracle::open(place)?;
    let docker = Docker::open(place)?;
    let podman = Podman::open(place)?;
    let mut worlds: Vec<World> = vec![coracle.world()?];
    worlds.extend(docker.as_ref().map(Docker::world).transpose()?);
    worlds.extend(podman.as_ref().map(Podman::world).transpose()?);
    println!(
        "{:34} {:8} {:>12} {:>12} {:>12} {:>12}",
        "", "", "Mbit/s", "requests/s", "connections/s", "latency"
    );
    println!("(the best of {ROUNDS} rounds, one engine after the other in each)");
    for path in worlds::PATHS {
        let mut figures: Vec<Vec<Figures>> = vec![Vec::new(); worlds.len()];
        for _ in 0..ROUNDS {
            for (world, figures) in worlds.iter().zip(&mut figures) {
                let (from, to) = world.path(path);
                figures.push(measure(from, to)?);
            }
        }
        for (world, figures) in worlds.iter().zip(figures) {
            let Figures { megabits, requests, connections, latency } = Figures::best(&figures);
            println!(
                "{:34} {:8} {megabits:>12.0} {requests:>12.0} {connections:>12.0} {latency:>12.1?}",
                path.name(),
                world.name
            );
        }
    }
    drop(worlds);
    costs::tell(&coracle, docker.as_ref(), podman.as_ref())
}
