//! `coracle rm`.

use coracle::{Engine, Kind};

use crate::each::{container, each};
use crate::fail::Done;

/// Remove one or more containers
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Force the removal of a running container (uses SIGKILL)
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Remove anonymous volumes associated with the container
    #[arg(short, long)]
    pub(crate) volumes: bool,
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

/// Removes each. With force, one that is not there is told of but no failure, as docker has it.
pub(crate) fn run(args: &Args) -> Done {
    let engine = Engine::open_default()?;
    each(&args.containers, |name| {
        let found = match container(&engine, name) {
            Err(fail) if args.force => return Err(fail.with(0)),
            found => found?,
        };
        let removed = match (args.force, args.volumes) {
            (true, true) => found.kill().and_then(|_| found.remove_with_volumes()),
            (false, true) => found.remove_with_volumes(),
            (true, false) => found.force_remove(),
            (false, false) => found.remove(),
        };
        match removed {
            // Somebody else was faster, perhaps the container itself with --rm.
            Err(error) if error.kind() == Kind::NotFound && args.force => Ok(()),
            removed => Ok(removed?),
        }
    })
}
