//! `coracle volume cp`.

use coracle::{CopyOptions, Engine};

use crate::fail::{Done, Fail};

/// Copy files/folders between a volume and the local filesystem
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Always follow symbol link in SRC_PATH
    #[arg(short = 'L', long)]
    follow_link: bool,
    #[arg(value_name = "VOLUME:SRC_PATH|SRC_PATH")]
    source: String,
    #[arg(value_name = "VOLUME:DEST_PATH|DEST_PATH")]
    destination: String,
}

/// A volume's name and a path in it, unless it is a path of the host, by the rule of `docker cp`.
fn in_volume(text: &str) -> Option<(&str, &str)> {
    text.split_once(':').filter(|(name, _)| !text.starts_with('/') && !name.starts_with('.'))
}

pub(super) fn run(args: &Args) -> Done {
    let refuse = |text: &str| Err(Fail::new(1, format!("volume cp: {text}")));
    if [&args.source, &args.destination].iter().any(|text| *text == "-") {
        return refuse("tars go through `volume export` and `volume import`");
    }
    let options = if args.follow_link { CopyOptions::new().follow_link() } else { CopyOptions::new() };
    let find =
        |name: &str| Engine::open_default()?.find_volume(name)?.ok_or_else(|| Fail::missing("volume", name));
    match (in_volume(&args.source), in_volume(&args.destination)) {
        (Some((name, path)), None) => find(name)?.copy_out(path, &args.destination, &options)?,
        (None, Some((name, path))) => find(name)?.copy_in(&args.source, path, &options)?,
        (Some(_), Some(_)) => return refuse("copying between volumes is not supported"),
        (None, None) => return refuse("must specify at least one volume"),
    };
    Ok(0)
}
