//! `coracle rename`.

use coracle::Engine;

use crate::each::container;
use crate::fail::Done;

/// Rename a container
#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(value_name = "CONTAINER")]
    container: String,
    #[arg(value_name = "NEW_NAME")]
    name: String,
}

pub(crate) fn run(args: &Args) -> Done {
    let engine = Engine::open_default()?;
    container(&engine, &args.container)?.rename(args.name.trim_start_matches('/'))?;
    Ok(0)
}
