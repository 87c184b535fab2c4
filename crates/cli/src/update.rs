//! `coracle update`.

use coracle::{Engine, Limits, Restart};

use crate::each::{container, each};
use crate::fail::{Done, Fail};
use crate::run::{limits, restart};

/// Update configuration of one or more containers
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    limits: limits::Flags,
    /// Restart policy to apply when a container exits
    #[arg(long, value_name = "POLICY", value_parser = restart)]
    restart: Option<Restart>,
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Changes each, at once where it runs.
pub(crate) fn run(args: &Args) -> Done {
    let limits = args.limits.for_update()?;
    if limits == Limits::new() && args.restart.is_none() {
        return Err(Fail::new(1, "you must provide one or more flags when using this command"));
    }
    let engine = Engine::open_default()?;
    each(&args.containers, |name| Ok(container(&engine, name)?.update(&limits, args.restart)?))
}
