//! `coracle import`.

use std::io::Read;

use coracle::{Engine, ImportSpec};

use crate::fail::{Done, Fail};

/// Import the contents from a tarball to create a filesystem image
#[derive(clap::Args)]
pub(crate) struct ImportArgs {
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "list")]
    change: Vec<String>,
    /// Set commit message for imported image
    #[arg(short, long, value_name = "string")]
    message: Option<String>,
    /// A tar file, plain or compressed by gzip or zstd; - for standard input
    #[arg(value_name = "file|-")]
    file: String,
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

/// Makes an image of a root file system and prints its id.
pub(crate) fn import(args: &ImportArgs) -> Done {
    let tar: Box<dyn Read> = match args.file.as_str() {
        "-" => Box::new(std::io::stdin().lock()),
        url if url.contains("://") => {
            return Err(Fail::new(1, format!("import {url}: only files and - are supported yet")));
        }
        path => {
            let file = std::fs::File::open(path);
            Box::new(file.map_err(|error| Fail::new(1, format!("open({path:?}): {error}")))?)
        }
    };
    let spec = ImportSpec::from(args.name.as_deref());
    let spec = args.message.iter().fold(spec, |spec, message| spec.message(message));
    let spec = args.change.iter().fold(spec, |spec, change| spec.change(change));
    crate::out::line(Engine::open_default()?.import(tar, spec)?.id())?;
    Ok(0)
}
