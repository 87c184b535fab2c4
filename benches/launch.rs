//! Start to exit of `true` without network: in process; beside `unshare` of the same program, and beside runc and
//! crun with the same root file system, capabilities and seccomp profile as bundles, in the same run; and with 0, 1 and 4 GB
//! of touched memory in the embedding process.
//!
//! `cargo bench --bench launch` as root. The machine may be noisy: look at the ratios.
#![allow(clippy::print_stdout)]

mod common;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Done, Spread, done, is_installed, timed};
use coracle::{Capture, ContainerSpec, Engine};
use coracle_runtime::seccomp::{Profile, Target};
use serde_json::json;

const ROUNDS: usize = 200;
const PEER_ROUNDS: usize = 20;

fn main() -> Result<(), Box<dyn Error>> {
    let place = tempfile::tempdir()?;
    let state = place.path().join("state");
    let engine = Engine::open(&state)?;
    let image = engine.capture(&Capture::new().program("/bin/true"), "true")?;
    let spec = ContainerSpec::new(&image).command(["/bin/true"]).no_network();
    let ours = || -> Done {
        let exit = engine.start(&spec)?.wait()?;
        if exit.success() { Ok(()) } else { Err(exit.to_string().into()) }
    };
    let unshare = || done(Command::new("unshare").args(["-m", "-p", "-f", "-u", "-i", "-n", "/bin/true"]));
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
        println!("{gigabytes:>9} GB {a} {b} {:>7.2}x", a.over(&b));
        match at_zero {
            None => at_zero = Some(a.median),
            Some(zero) => println!("{:>48.2}x of 0 GB", a.median.as_secs_f64() / zero.as_secs_f64()),
        }
    }
    drop(ballast);

    println!("bundles, {PEER_ROUNDS} rounds, interleaved");
    let bundle = bundle(&state, place.path())?;
    for program in ["crun", "runc"] {
        if !is_installed(program) {
            println!("{program:>12} is not installed");
            continue;
        }
        let root = place.path().join(program);
        // Debian 12's crun takes no host that has both versions of control groups: it gets a view without the
        // second, and makes no group.
        let hybrid = program == "crun" && Path::new("/sys/fs/cgroup/unified").exists();
        let theirs = || {
            let mut command = Command::new(if hybrid { "unshare" } else { program });
            if hybrid {
                command.args(["-m", "sh", "-c", "umount /sys/fs/cgroup/unified; exec crun \"$@\"", "crun"]);
            }
            command.arg("--root").arg(&root).args(hybrid.then_some("--cgroup-manager=disabled"));
            done(command.arg("run").arg("--bundle").arg(&bundle).arg("bench"))
        };
        theirs()?;
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for _ in 0..PEER_ROUNDS {
            a.push(timed(ours)?);
            b.push(timed(theirs)?);
        }
        let (a, b) = (Spread::of(a), Spread::of(b));
        println!("{program:>12} {a} {b} {:>7.2}x", a.over(&b));
    }
    Ok(())
}

/// The same container as a bundle: the image's tree, docker's capabilities and its seccomp profile.
fn bundle(state: &Path, place: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let layers = fs::read_dir(state.join("layers"))?.filter_map(Result::ok);
    let tree = layers.map(|layer| layer.path().join("fs")).find(|tree| tree.is_dir());
    let bundle = place.join("bundle");
    fs::create_dir(&bundle)?;
    done(Command::new("cp").arg("-a").arg(tree.ok_or("no layer")?).arg(bundle.join("rootfs")))?;
    let mut spec = serde_json::to_value(coracle_runtime::docker_spec())?;
    let bounding =
        coracle_runtime::docker_spec().process().clone().and_then(|process| process.capabilities().clone());
    let bounding = bounding.and_then(|sets| sets.bounding().clone()).unwrap_or_default();
    let target = Target::of_this_host(bounding)?;
    spec["ociVersion"] = json!("1.0.2");
    spec["root"] = json!({ "path": "rootfs" });
    spec["process"]["args"] = json!(["/bin/true"]);
    spec["process"]["terminal"] = json!(false);
    spec["linux"]["seccomp"] = serde_json::to_value(Profile::docker().to_oci(&target))?;
    fs::write(bundle.join("config.json"), serde_json::to_vec(&spec)?)?;
    Ok(bundle)
}

/// Pages that are really there: what a copying clone would have to copy tables for.
fn touched_gigabyte() -> Vec<u8> {
    let mut bytes = vec![0u8; 1 << 30];
    bytes.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
    std::hint::black_box(bytes)
}
