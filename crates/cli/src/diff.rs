//! `coracle diff`.

use coracle::Engine;

use crate::each::container;
use crate::fail::Done;

/// Inspect changes to files or directories on a container's filesystem
#[derive(clap::Args)]
pub(crate) struct Args {
    container: String,
}

/// Prints a line for each path that was added, changed or deleted.
pub(crate) fn run(args: &Args) -> Done {
    let changes = container(&Engine::open_default()?, &args.container)?.diff()?;
    let lines: String =
        changes.iter().map(|change| format!("{} {}\n", change.kind, change.path.display())).collect();
    crate::out::text(lines)?;
    Ok(0)
}
