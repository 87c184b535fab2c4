//! `coracle import`.

use std::io::Read;

use coracle::{Engine, ImportSpec};
use jiff::Timestamp;

use crate::env;
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
    /// Set platform if the image is not for this machine
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// A tar file, plain or compressed by gzip, bzip2, xz or zstd; - for standard input
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
    let created = match env::epoch(&env::own)? {
        Some(seconds) => Timestamp::from_second(seconds).map_err(|error| Fail::new(1, error))?,
        None => Timestamp::now(),
    };
    let spec = ImportSpec::from(args.name.as_deref()).created(created.into());
    let spec = args.platform.iter().fold(spec, ImportSpec::platform);
    let spec = args.message.iter().fold(spec, |spec, message| spec.message(message));
    let spec = args.change.iter().fold(spec, |spec, change| spec.change(change));
    crate::out::line(Engine::open_default()?.import(tar, spec)?.id())?;
    Ok(0)
}
