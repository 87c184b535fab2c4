//! Start to exit of `true`: in process, without network, beside `unshare` of the same program in the same run; and
//! with 0, 1 and 4 GB of touched memory in the embedding process.
//!
//! `cargo bench --bench launch` as root. The machine may be noisy: look at the ratios.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use coracle::{Capture, ContainerSpec, Engine};

const ROUNDS: usize = 200;

fn main() -> Result<(), Box<dyn Error>> {
    let place = tempfile::tempdir()?;
    let engine = Engine::open(place.path())?;
    let image = engine.capture(&Capture::new().program("/bin/true"), "true")?;
    let spec = ContainerSpec::new(&image).command(["/bin/true"]).no_network();
    let ours = || -> Result<(), Box<dyn Error>> {
        let exit = engine.start(&spec)?.wait()?;
        if exit.success() { Ok(()) } else { Err(exit.to_string().into()) }
    };
    let unshare = || -> Result<(), Box<dyn Error>> {
        let mut command = Command::new("unshare");
        command.args(["-m", "-p", "-f", "-u", "-i", "-n", "/bin/true"]).stdin(Stdio::null());
        let status = command.status()?;
        if status.success() { Ok(()) } else { Err(status.to_string().into()) }
    };
    for _ in 0..20 {
        ours()?;
        unshare()?;
    }
    println!("start to exit of `true`, {ROUNDS} rounds, interleaved");
    println!("{:>12} {:>22} {:>22} {:>8}", "embedder", "coracle p50 / p99", "unshare p50 / p99", "ratio");
    let mut ballast = Vec::new();
    let mut at_zero = None;
    for gigabytes in [0, 1, 4] {
        while ballast.len() < gigabytes {
            ballast.push(touched_gigabyte());
        }
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            a.push(timed(ours)?);
            b.push(timed(unshare)?);
        }
        let (a, b) = (Spread::of(a), Spread::of(b));
        let ratio = a.median.as_secs_f64() / b.median.as_secs_f64();
        println!("{:>9} GB {a} {b} {ratio:>7.2}x", gigabytes);
        match at_zero {
            None => at_zero = Some(a.median),
            Some(zero) => println!("{:>48.2}x of 0 GB", a.median.as_secs_f64() / zero.as_secs_f64()),
        }
    }
    Ok(())
}

/// Pages that are really there: what a copying clone would have to copy tables for.
fn touched_gigabyte() -> Vec<u8> {
    let mut bytes = vec![0u8; 1 << 30];
    bytes.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
    std::hint::black_box(bytes)
}

fn timed(work: impl Fn() -> Result<(), Box<dyn Error>>) -> Result<Duration, Box<dyn Error>> {
    let begin = Instant::now();
    work()?;
    Ok(begin.elapsed())
}

struct Spread {
    median: Duration,
    p99: Duration,
}

impl Spread {
    fn of(mut times: Vec<Duration>) -> Spread {
        times.sort();
        Spread { median: times[times.len() / 2], p99: times[times.len() * 99 / 100] }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        write!(f, "{:>9.2} / {:>7.2} ms", ms(self.median), ms(self.p99))
    }
}
