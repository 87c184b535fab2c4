//! `coracle export`.

use std::io::BufWriter;

use coracle::Engine;

use crate::each::container;
use crate::fail::Done;
use crate::out::{CHUNK, Target};

/// Export a container's filesystem as a tar archive
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "string")]
    output: Option<String>,
    container: String,
}

/// Writes the file system to a file or to standard output.
pub(crate) fn run(args: &Args) -> Done {
    let container = container(&Engine::open_default()?, &args.container)?;
    let target = Target::open(args.output.as_deref(), "export")?;
    container.export(BufWriter::with_capacity(CHUNK, &target))?;
    target.done()?;
    Ok(0)
}
