//! `coracle image prune`.

use coracle::Engine;

use super::filter::Filters;
use super::remove::lines;
use crate::fail::Done;
use crate::filter;
use crate::prune::agreed;

/// Remove unused images
#[derive(clap::Args)]
pub(crate) struct PruneArgs {
    /// Remove all unused images, not just dangling ones
    #[arg(short, long)]
    all: bool,
    /// Provide filter values (e.g. "until=<timestamp>")
    #[arg(long, value_name = "filter", value_parser = filter::pair)]
    filter: Vec<(String, String)>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

/// Removes images that no container is of; without `--all` only those without a name.
pub(crate) fn prune(args: &PruneArgs) -> Done {
    let filters = Filters::parse_prune(&args.filter)?;
    let all = args.all || filters.dangling() == Some(false);
    let which = match all {
        true => "all images without at least one container associated to them",
        false => "all dangling images",
    };
    if !args.force && !agreed(which)? {
        return Ok(0);
    }
    let removed = Engine::open_default()?
        .prune_images(|image| filters.takes(image) && (all || image.names().is_empty()))?;
    if !removed.is_empty() {
        let lines: Vec<String> = removed.iter().flat_map(|one| lines(one, "untagged", "deleted")).collect();
        crate::out::line(format_args!("Deleted Images:\n{}\n", lines.join("\n")))?;
    }
    // Blobs and layers are not collected yet, so nothing is freed yet.
    crate::out::line("Total reclaimed space: 0B")?;
    Ok(0)
}
