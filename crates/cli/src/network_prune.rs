//! `coracle network prune`.

use coracle::Engine;

use crate::fail::Done;
use crate::prune::{Flags, Wanted, agreed};

/// Remove all unused networks
#[derive(clap::Args)]
pub(crate) struct PruneArgs {
    #[command(flatten)]
    flags: Flags,
}

/// Removes the networks that nobody is on, but the default one.
pub(crate) fn prune(args: &PruneArgs) -> Done {
    let wanted = Wanted::read(&args.flags.filter)?;
    if !args.flags.force && !agreed("all custom networks not used by at least one container")? {
        return Ok(0);
    }
    let removed = Engine::open_default()?
        .prune_networks(|network| wanted.takes(network.created(), network.labels()))?;
    if !removed.is_empty() {
        crate::out::line(format_args!("Deleted Networks:\n{}\n", removed.join("\n")))?;
    }
    Ok(0)
}
