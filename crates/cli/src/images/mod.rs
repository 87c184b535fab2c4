//! Everything about images: `coracle image …`, and the verbs that are short for those.

mod archive;
mod filter;
mod history;
mod import;
mod list;
mod prune;
mod pull;
mod remove;

use coracle::{Engine, Image};

use crate::fail::{Done, Fail};
use crate::{build, inspect};

pub(crate) use archive::{LoadArgs, SaveArgs, load, save};
pub(crate) use history::{HistoryArgs, history};
pub(crate) use import::{ImportArgs, import};
pub(crate) use list::{ListArgs, list};
pub(crate) use prune::{PruneArgs, prune};
pub(crate) use pull::{PullArgs, fetch, platform, pull};
pub(crate) use remove::{RemoveArgs, remove};

/// The verbs of `coracle image`.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    Build(Box<build::Args>),
    History(HistoryArgs),
    Import(ImportArgs),
    Inspect(InspectArgs),
    Load(LoadArgs),
    #[command(alias = "list")]
    Ls(ListArgs),
    Prune(PruneArgs),
    Pull(PullArgs),
    #[command(alias = "remove")]
    Rm(RemoveArgs),
    Save(SaveArgs),
    Tag(TagArgs),
}

/// Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE
#[derive(clap::Args)]
pub(crate) struct TagArgs {
    #[arg(value_name = "SOURCE_IMAGE[:TAG]")]
    source: String,
    #[arg(value_name = "TARGET_IMAGE[:TAG]")]
    target: String,
}

/// Display detailed information on one or more images
#[derive(clap::Args)]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    format: inspect::Format,
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

pub(crate) fn run(command: &Command) -> Done {
    match command {
        Command::Build(args) => build::run(args),
        Command::History(args) => history(args),
        Command::Import(args) => import(args),
        Command::Inspect(args) => {
            let engine = Engine::open_default()?;
            inspect::each(&args.images, &args.format, |name| inspect::image::describe(&find(&engine, name)?))
        }
        Command::Load(args) => load(args),
        Command::Ls(args) => list(args),
        Command::Prune(args) => prune(args),
        Command::Pull(args) => pull(args),
        Command::Rm(args) => remove(args),
        Command::Save(args) => save(args),
        Command::Tag(args) => tag(args),
    }
}

/// Gives an image one more name.
pub(crate) fn tag(args: &TagArgs) -> Done {
    find(&Engine::open_default()?, &args.source)?.tag(&args.target)?;
    Ok(0)
}

/// The image of that name or id.
pub(crate) fn find(engine: &Engine, name: &str) -> Result<Image, Fail> {
    engine.image(name)?.ok_or_else(|| missing(name))
}

/// There is no such image, by the name that was looked for: with a tag.
fn missing(name: &str) -> Fail {
    match name.rsplit('/').next() {
        Some(last) if last.contains([':', '@']) => Fail::missing("image", name),
        _ => Fail::missing("image", &format!("{name}:latest")),
    }
}
