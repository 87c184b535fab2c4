//! `coracle inspect`, and what the other `inspect`s share.

mod config;
pub(crate) mod container;
mod host;
pub(crate) mod image;
mod mounts;
pub(crate) mod network;

use coracle::{Engine, Kind};

use crate::fail::{Done, Fail};
use crate::template::{Template, Value, json, pretty};

/// The status of a template that can't be read, as docker has it.
const UNREADABLE: u8 = 64;

/// The kinds of things that docker has; those that this program has come first, in the order of looking.
const KINDS: [&str; 10] =
    ["container", "image", "network", "volume", "config", "node", "plugin", "secret", "service", "task"];

/// Return low-level information on objects
#[derive(clap::Args)]
#[command(override_usage = "coracle inspect [OPTIONS] NAME|ID [NAME|ID...]")]
pub(crate) struct Args {
    #[command(flatten)]
    format: Format,
    /// Display total file sizes if the type is container
    #[arg(short, long)]
    size: bool,
    /// Only inspect objects of the given type
    #[arg(long = "type", value_name = "TYPE", value_parser = kind)]
    kind: Option<String>,
    #[arg(required = true, value_name = "NAME|ID")]
    names: Vec<String>,
}

/// `--format` of all `inspect`s.
#[derive(clap::Args)]
pub(crate) struct Format {
    /// Format output using a custom template: 'json', 'TEMPLATE' (a Go template)
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

fn kind(text: &str) -> Result<String, String> {
    let mut known = KINDS;
    known.sort_unstable();
    let list = known.map(|kind| format!("\"{kind}\"")).join(", ");
    match KINDS.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(format!("unknown type: \"{text}\": must be one of {list}")),
    }
}

pub(crate) fn run(args: &Args) -> Done {
    let engine = Engine::open_default()?;
    let kind = args.kind.as_deref();
    if let Some(other) = kind.filter(|kind| !KINDS[..4].contains(kind)) {
        return Err(Fail::new(1, format!("inspect --type {other}: there is no such thing here")));
    }
    each(&args.names, &args.format, |name| {
        let wanted = |this: &str| kind.is_none_or(|kind| kind == this);
        if wanted("container")
            && let Some(container) = known(engine.find(name))?
        {
            return container::describe(&engine, &container, args.size);
        }
        if wanted("image")
            && let Some(image) = known(engine.image(name))?
        {
            return image::describe(&image);
        }
        if wanted("network")
            && let Some(network) = network::find(&engine, name)?
        {
            return network::describe(&network);
        }
        if wanted("volume")
            && let Some(volume) = known(engine.find_volume(name))?
        {
            return Ok(crate::volume::describe(&volume)?);
        }
        Err(Fail::missing(kind.unwrap_or("object"), name))
    })
}

/// What could be no name of such a thing is not there.
fn known<T>(found: coracle::Result<Option<T>>) -> coracle::Result<Option<T>> {
    match found {
        Err(error) if error.kind() == Kind::Invalid => Ok(None),
        found => found,
    }
}

/// Prints what was found: as one JSON array, or what the template makes of each, in a line of its own. Then what failed.
pub(crate) fn each(
    names: &[String],
    format: &Format,
    describe: impl Fn(&str) -> Result<Value, Fail>,
) -> Done {
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    let template = match format.format.as_deref().unwrap_or_default() {
        "" | "json" => None,
        text => Some(Template::parse(text).map_err(|error| unusable(UNREADABLE, &error))?),
    };
    for name in names {
        match describe(name) {
            Ok(value) => found.push(value),
            Err(fail) => failed.push(fail),
        }
    }
    match template {
        Some(template) => {
            let mut text = String::new();
            for value in &found {
                match template.execute(value) {
                    Ok(line) => text += &(line + "\n"),
                    Err(error) => failed.push(unusable(1, &error)),
                }
            }
            // An empty line where nothing was found, as docker has it.
            crate::out::text(if text.is_empty() { "\n" } else { &text })?;
        }
        None if format.format.as_deref() == Some("json") => crate::out::line(json(&Value::List(found)))?,
        None => crate::out::line(pretty(&Value::List(found)))?,
    }
    failed.iter().for_each(Fail::print);
    Ok(failed.iter().map(Fail::status).max().unwrap_or(0))
}

fn unusable(status: u8, error: &crate::template::Error) -> Fail {
    Fail::new(status, format!("template parsing error: {error}"))
}
