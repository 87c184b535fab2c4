//! `coracle rmi`.

use coracle::{Engine, RemovedImage};

use crate::each::each_printing;
use crate::fail::Done;

/// Remove one or more images
#[derive(clap::Args)]
pub(crate) struct RemoveArgs {
    /// Force removal of the image
    #[arg(short, long)]
    force: bool,
    /// Do not delete untagged parents (there are none)
    #[arg(long)]
    no_prune: bool,
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Removes names, and images with their last one.
pub(crate) fn remove(args: &RemoveArgs) -> Done {
    let engine = Engine::open_default()?;
    each_printing(&args.images, |name| {
        if engine.image(name)?.is_none() {
            let fail = super::missing(name);
            return Err(if args.force { fail.with(0) } else { fail });
        }
        let removed =
            if args.force { engine.force_remove_image(name)? } else { engine.remove_image(name)? };
        Ok(lines(&removed, "Untagged", "Deleted").join("\n"))
    })
}

/// What was done, a line each.
pub(super) fn lines(removed: &RemovedImage, untagged: &str, deleted: &str) -> Vec<String> {
    let names = removed.untagged.iter().map(|name| format!("{untagged}: {name}"));
    names.chain(removed.deleted.iter().map(|id| format!("{deleted}: {id}"))).collect()
}
