//! `coracle cp`.

use std::io::{BufWriter, IsTerminal};

use coracle::{CopyOptions, Engine};

use crate::each::container;
use crate::fail::{Done, Fail};
use crate::out::{self, CHUNK, Target};
use crate::units;

/// Copy files/folders between a container and the local filesystem
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Archive mode (copy all uid/gid information)
    #[arg(short, long)]
    archive: bool,
    /// Always follow symbol link in SRC_PATH
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Suppress progress output during copy. Progress output is automatically suppressed if no terminal is attached
    #[arg(short, long)]
    quiet: bool,
    #[arg(value_name = "CONTAINER:SRC_PATH|SRC_PATH|-", allow_hyphen_values = true)]
    source: String,
    #[arg(value_name = "CONTAINER:DEST_PATH|DEST_PATH|-", allow_hyphen_values = true)]
    destination: String,
}

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Side<'a> {
    /// A container's name and a path in it.
    Container(&'a str, &'a str),
    Host(&'a str),
    /// A tar on standard input or output.
    Stream,
}

fn side(text: &str) -> Side<'_> {
    match text.split_once(':') {
        _ if text == "-" => Side::Stream,
        Some((name, path)) if !text.starts_with('/') && !name.starts_with('.') => Side::Container(name, path),
        _ => Side::Host(text),
    }
}

/// Copies in or out.
pub(crate) fn run(args: &Args) -> Done {
    let refuse = |text: &str| Err(Fail::new(1, text));
    let options = if args.follow_link { CopyOptions::new().follow_link() } else { CopyOptions::new() };
    let options = if args.archive { options.as_user() } else { options };
    for (text, what) in [(&args.source, "source"), (&args.destination, "destination")] {
        if text.is_empty() || matches!(side(text), Side::Container(_, "")) {
            return refuse(&format!("{what} can not be empty"));
        }
    }
    let find = |name: &str| container(&Engine::open_default()?, name);
    let bytes = match (side(&args.source), side(&args.destination)) {
        (Side::Container(..), Side::Container(..)) => {
            return refuse("copying between containers is not supported");
        }
        (Side::Container(name, path), Side::Host(host)) => find(name)?.copy_out(path, host, &options)?,
        (Side::Host(host), Side::Container(name, path)) => find(name)?.copy_in(host, path, &options)?,
        (Side::Container(name, path), Side::Stream) => {
            let container = find(name)?;
            let target = Target::open(None, "copy")?;
            container.pack(path, BufWriter::with_capacity(CHUNK, &target), &options)?;
            target.done()?;
            return Ok(0);
        }
        (Side::Stream, Side::Container(name, path)) => {
            find(name)?.unpack(std::io::stdin().lock(), path, &options)?;
            return Ok(0);
        }
        _ => return refuse("must specify at least one container source"),
    };
    if !args.quiet && std::io::stdout().is_terminal() {
        out::say(format_args!("Successfully copied {} to {}", units::size(bytes), args.destination));
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_dockers() {
        for (text, expected) in [
            ("c:/x", Side::Container("c", "/x")),
            ("c:x:y", Side::Container("c", "x:y")),
            ("c:", Side::Container("c", "")),
            ("/a:b", Side::Host("/a:b")),
            ("./a:b", Side::Host("./a:b")),
            (".:b", Side::Host(".:b")),
            ("a/b", Side::Host("a/b")),
            ("-", Side::Stream),
        ] {
            assert_eq!(side(text), expected, "{text}");
        }
    }
}
