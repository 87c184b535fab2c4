//! A sandbox over any directory, with nothing but this crate: `alone ROOT COMMAND [ARGUMENT…]`.
//!
//! Without arguments it prints the plan of one and starts nothing. What the command writes goes to an overlay that is
//! thrown away.
#![allow(clippy::print_stdout)]

use std::error::Error;

use coracle_host::{Dir, Mount, Overlay};
use coracle_runtime::{Bundle, Facts, Plan, Stdio, docker_spec, supervise};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut spec = docker_spec();
    spec.set_hostname(Some("alone".into()));
    let Some((root, command)) = arguments.split_first() else {
        spec.process_mut().as_mut().ok_or("no process")?.set_args(Some(vec!["sh".into()]));
        print!("{}", Plan::container(&spec, &Facts::assumed(&[]))?);
        return Ok(());
    };
    spec.process_mut().as_mut().ok_or("no process")?.set_args(Some(command.to_vec()));
    let plan = Plan::container(&spec, &Facts::of_this_host())?;

    let place = tempfile::tempdir()?;
    let scratch = Dir::open(place.path())?;
    let (upper, work) = (scratch.make("upper", 0o755)?, scratch.make("work", 0o755)?);
    let lower = [Dir::open(root)?];
    let root = Mount::overlay(&Overlay {
        lower: &lower,
        upper: Some((&upper, &work)),
        volatile: true,
        context: None,
    })?;

    let stdio = [Stdio::Inherit, Stdio::Inherit, Stdio::Inherit];
    let running = plan.start(Bundle { stdio, ..Bundle::new(root) })?;
    let exit = supervise(&running.pidfd, &mut [])?;
    println!("{exit}");
    Ok(())
}
