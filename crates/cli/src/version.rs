//! `coracle version`.

use crate::fail::Done;

/// Show the Coracle version information
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_: &Args) -> Done {
    let (version, os, arch) = (env!("CARGO_PKG_VERSION"), std::env::consts::OS, std::env::consts::ARCH);
    crate::out::text(format!("Coracle\n Version:  {version}\n OS/Arch:  {os}/{arch}\n"))?;
    Ok(0)
}
