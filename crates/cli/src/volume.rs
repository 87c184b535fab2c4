//! `coracle volume`.

use std::time::SystemTime;

use coracle::{Engine, Volume, VolumeSpec};
use serde_json::{Value, json};

use crate::each::each;
use crate::env;
use crate::fail::{Done, Fail};
use crate::table::Table;
use crate::units;

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    Create(CreateArgs),
    #[command(visible_alias = "list")]
    Ls(ListArgs),
    #[command(visible_alias = "remove")]
    Rm(RemoveArgs),
    Inspect(InspectArgs),
    Prune(PruneArgs),
}

/// Create a volume
#[derive(clap::Args)]
pub(crate) struct CreateArgs {
    /// Specify volume driver name
    #[arg(short, long, default_value = "local")]
    driver: String,
    /// Set metadata for a volume
    #[arg(long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// Specify volume name
    #[arg(long, hide = true)]
    name: Option<String>,
    volume: Option<String>,
}

/// List volumes
#[derive(clap::Args)]
pub(crate) struct ListArgs {
    /// Only display volume names
    #[arg(short, long)]
    quiet: bool,
}

/// Remove one or more volumes
#[derive(clap::Args)]
pub(crate) struct RemoveArgs {
    /// Force the removal of one or more volumes
    #[arg(short, long)]
    force: bool,
    #[arg(required = true, value_name = "VOLUME")]
    volumes: Vec<String>,
}

/// Display detailed information on one or more volumes
#[derive(clap::Args)]
pub(crate) struct InspectArgs {
    #[arg(required = true, value_name = "VOLUME")]
    volumes: Vec<String>,
}

/// Remove unused local volumes
#[derive(clap::Args)]
pub(crate) struct PruneArgs {
    /// Remove all unused volumes, not just anonymous ones
    #[arg(short, long)]
    all: bool,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

pub(crate) fn run(command: &Command) -> Done {
    match command {
        Command::Create(args) => create(args),
        Command::Ls(args) => list(args),
        Command::Rm(args) => remove(args),
        Command::Inspect(args) => inspect(args),
        Command::Prune(args) => prune(args),
    }
}

/// As docker has it: to create one that is there is no failure.
fn create(args: &CreateArgs) -> Done {
    if args.driver != "local" {
        let text = format!("volume create --driver {}: only local is supported yet", args.driver);
        return Err(Fail::new(1, text));
    }
    let name = match (&args.volume, &args.name) {
        (Some(_), Some(_)) => {
            return Err(Fail::new(1, "volume create: conflicting options: either --name or a name"));
        }
        (Some(name), None) | (None, Some(name)) => Some(name),
        (None, None) => None,
    };
    let spec = name.map_or_else(VolumeSpec::anonymous, VolumeSpec::new);
    let labels = args.label.iter().map(|text| env::label(text));
    let spec = labels.fold(spec, |spec, (key, value)| spec.label(key, value));
    let volume = Engine::open_default()?.volume(&spec)?;
    crate::out::line(volume.name())?;
    Ok(0)
}

fn list(args: &ListArgs) -> Done {
    let mut table = Table::new(&["DRIVER", "VOLUME NAME"]);
    let mut names = String::new();
    for volume in Engine::open_default()?.volumes()? {
        names += &format!("{}\n", volume.name());
        table.row([volume.driver().to_owned(), volume.name().to_owned()]);
    }
    if args.quiet {
        crate::out::text(names)?
    } else {
        crate::out::text(table)?
    }
    Ok(0)
}

fn remove(args: &RemoveArgs) -> Done {
    let engine = Engine::open_default()?;
    each(&args.volumes, |name| match engine.find_volume(name)? {
        Some(_) => Ok(engine.remove_volume(name)?),
        None if args.force => Ok(()),
        None => Err(Fail::missing("volume", name)),
    })
}

fn prune(args: &PruneArgs) -> Done {
    if !args.force && !agreed(args.all)? {
        return Ok(0);
    }
    let (removed, freed) = Engine::open_default()?.prune_volumes(args.all)?;
    if !removed.is_empty() {
        crate::out::line(format_args!("Deleted Volumes:\n{}\n", removed.join("\n")))?;
    }
    crate::out::line(format_args!("Total reclaimed space: {}", units::size(freed)))?;
    Ok(0)
}

/// Asks first, as docker does; no answer is a no.
fn agreed(all: bool) -> std::io::Result<bool> {
    let which = if all { "all volumes" } else { "anonymous local volumes" };
    crate::out::line(format_args!(
        "WARNING! This will remove {which} not used by at least one container.\n\
         Are you sure you want to continue? [y/N] "
    ))?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn inspect(args: &InspectArgs) -> Done {
    let engine = Engine::open_default()?;
    inspect_each(&args.volumes, |name| {
        let volume = engine.find_volume(name)?.ok_or_else(|| Fail::missing("volume", name))?;
        Ok(describe(&volume))
    })
}

pub(crate) fn describe(volume: &Volume) -> Value {
    json!({
        "CreatedAt": rfc3339(volume.created()),
        "Driver": volume.driver(),
        "Labels": volume.labels(),
        "Mountpoint": volume.path(),
        "Name": volume.name(),
        "Options": {},
        "Scope": "local",
    })
}

/// Prints what was found as one JSON array, then what failed.
fn inspect_each(names: &[String], describe: impl Fn(&str) -> Result<Value, Fail>) -> Done {
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    for name in names {
        match describe(name) {
            Ok(value) => found.push(value),
            Err(fail) => failed.push(fail),
        }
    }
    crate::out::line(format!("{:#}", Value::Array(found)))?;
    failed.iter().for_each(Fail::print);
    Ok(failed.iter().map(Fail::status).max().unwrap_or(0))
}

/// A time as JSON has it here, to the second.
fn rfc3339(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map(|time| time.to_string()).unwrap_or_default()
}
