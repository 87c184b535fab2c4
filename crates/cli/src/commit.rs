//! `coracle commit`.

use coracle::{CommitSpec, Engine};

use crate::each::container;
use crate::fail::Done;

/// Create a new image from a container's changes
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")
    #[arg(short, long, value_name = "string")]
    author: Option<String>,
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "list")]
    change: Vec<String>,
    /// Commit message
    #[arg(short, long, value_name = "string")]
    message: Option<String>,
    /// Pause container during commit
    #[arg(short, long, default_value = "true", action = clap::ArgAction::Set, num_args = 0..=1,
          require_equals = true, default_missing_value = "true")]
    pause: bool,
    container: String,
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

/// Makes the image and prints its id.
pub(crate) fn run(args: &Args) -> Done {
    let engine = Engine::open_default()?;
    let mut spec = CommitSpec::new();
    if let Some(name) = &args.name {
        spec = spec.name(name);
    }
    if let Some(author) = &args.author {
        spec = spec.author(author);
    }
    if let Some(message) = &args.message {
        spec = spec.message(message);
    }
    if !args.pause {
        spec = spec.without_pause();
    }
    let spec = args.change.iter().fold(spec, |spec, change| spec.change(change));
    crate::out::line(container(&engine, &args.container)?.commit(spec)?.id())?;
    Ok(0)
}
