//! `coracle save` and `coracle load`.

use std::fs::File;
use std::io::{BufWriter, IsTerminal, Read};

use coracle::Engine;

use crate::fail::{Done, Fail};
use crate::out::{self, Target};

/// Save one or more images to a tar archive (streamed to STDOUT by default)
#[derive(clap::Args)]
pub(crate) struct SaveArgs {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "string")]
    output: Option<String>,
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Load an image from a tar archive or STDIN
#[derive(clap::Args)]
pub(crate) struct LoadArgs {
    /// Read from tar archive file (or a directory that is an OCI image layout), instead of STDIN
    #[arg(short, long, value_name = "string")]
    input: Option<String>,
    /// Suppress the load output
    #[arg(short, long)]
    quiet: bool,
}

/// Writes images to a file or to standard output.
pub(crate) fn save(args: &SaveArgs) -> Done {
    let engine = Engine::open_default()?;
    let target = Target::open(args.output.as_deref(), "save")?;
    engine.save(&args.images, BufWriter::with_capacity(out::CHUNK, &target))?;
    target.done()?;
    Ok(0)
}

/// Reads images from a file or from standard input, and says which.
pub(crate) fn load(args: &LoadArgs) -> Done {
    let engine = Engine::open_default()?;
    let loaded = match &args.input {
        // Docker doesn't take one, and knows no other way to an image layout.
        Some(path) if std::path::Path::new(path).is_dir() => engine.load_layout(path)?,
        input => engine.load(open(input.as_deref())?)?,
    };
    // Quiet or not: what is told is only drawn on the way, and nothing is drawn here.
    let _ = args.quiet;
    for loaded in loaded {
        if loaded.names.is_empty() {
            out::line(format_args!("Loaded image ID: {}", loaded.image.id()))?;
        }
        for name in loaded.names {
            out::line(format_args!("Loaded image: {name}"))?;
        }
    }
    Ok(0)
}

fn open(path: Option<&str>) -> Result<Box<dyn Read>, Fail> {
    Ok(match path {
        Some(path) => {
            Box::new(File::open(path).map_err(|error| Fail::new(1, format!("open({path:?}): {error}")))?)
        }
        None if std::io::stdin().is_terminal() => {
            return Err(Fail::new(1, "requested load from stdin, but stdin is empty"));
        }
        None => Box::new(std::io::stdin().lock()),
    })
}
