//! `coracle create`.

use crate::env;
use crate::fail::{Done, Fail};
use crate::run::{Flags, created};

/// Create a new container
#[derive(clap::Args)]
#[command(override_usage = "coracle create [OPTIONS] IMAGE [COMMAND] [ARG...]")]
pub(crate) struct Args {
    #[command(flatten)]
    flags: Flags,
    /// The image, and the command with its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "IMAGE [COMMAND] [ARG...]", hide = true)]
    words: Vec<String>,
}

/// Makes it and prints its id; `coracle start` starts it.
pub(crate) fn run(args: &Args) -> Done {
    let Some((image, command)) = args.words.split_first() else {
        return Err(Fail::new(1, "'coracle create' requires at least 1 argument"));
    };
    let container = created(&args.flags, image, command, &env::own)?;
    crate::out::line(container.id())?;
    Ok(0)
}
