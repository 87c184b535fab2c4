//! `coracle volume`.

mod cp;
mod describe;

use std::fs::File;
use std::io::{BufReader, BufWriter, IsTerminal};
use std::path::{Path, PathBuf};

use coracle::{Engine, VolumeFilter, VolumeSpec};

pub(crate) use describe::describe;

use crate::each::each;
use crate::fail::{Done, Fail};
use crate::filter::{self, Filters};
use crate::prune::agreed;
use crate::{env, inspect, list, units};

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    Create(CreateArgs),
    #[command(visible_alias = "list")]
    Ls(ListArgs),
    #[command(visible_alias = "remove")]
    Rm(RemoveArgs),
    Inspect(InspectArgs),
    Prune(PruneArgs),
    Clone(CloneArgs),
    Snapshot(CloneArgs),
    Freeze(FreezeArgs),
    Export(ExportArgs),
    Import(ImportArgs),
    Cp(cp::Args),
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
    /// Set driver specific options
    #[arg(short, long, value_name = "KEY=VALUE")]
    opt: Vec<String>,
    /// Specify volume name
    #[arg(long, hide = true)]
    name: Option<String>,
    volume: Option<String>,
}

/// List volumes
#[derive(clap::Args)]
pub(crate) struct ListArgs {
    /// Provide filter values (e.g. "dangling=true")
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = filter::pair)]
    filter: Vec<(String, String)>,
    #[command(flatten)]
    flags: list::Flags,
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
    #[command(flatten)]
    format: inspect::Format,
    #[arg(required = true, value_name = "VOLUME")]
    volumes: Vec<String>,
}

/// Remove unused local volumes
#[derive(clap::Args)]
pub(crate) struct PruneArgs {
    /// Remove all unused volumes, not just anonymous ones
    #[arg(short, long)]
    all: bool,
    /// Provide filter values (e.g. "label=<label>")
    #[arg(long, value_name = "KEY=VALUE", value_parser = filter::pair)]
    filter: Vec<(String, String)>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

/// Create a volume with the content of another one
#[derive(clap::Args)]
pub(crate) struct CloneArgs {
    /// Set metadata for the new volume
    #[arg(long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    source: String,
    volume: Option<String>,
}

/// Keep one or more volumes from ever changing again, so that clones of them are made at once
#[derive(clap::Args)]
pub(crate) struct FreezeArgs {
    #[arg(required = true, value_name = "VOLUME")]
    volumes: Vec<String>,
}

/// Export a volume's contents as a tar archive
#[derive(clap::Args)]
pub(crate) struct ExportArgs {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    volume: String,
}

/// Create a volume from a tar archive, from STDIN unless a file is named
#[derive(clap::Args)]
pub(crate) struct ImportArgs {
    /// Set metadata for the new volume
    #[arg(long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    volume: String,
    file: Option<PathBuf>,
}

pub(crate) fn run(command: &Command) -> Done {
    match command {
        Command::Create(args) => create(args),
        Command::Ls(args) => list(args),
        Command::Rm(args) => remove(args),
        Command::Inspect(args) => inspect(args),
        Command::Prune(args) => prune(args),
        Command::Clone(args) => copy(args, Engine::clone_volume),
        Command::Snapshot(args) => copy(args, Engine::snapshot_volume),
        Command::Export(args) => export(args),
        Command::Import(args) => import(args),
        Command::Cp(args) => cp::run(args),
        Command::Freeze(args) => {
            let engine = Engine::open_default()?;
            each(&args.volumes, |name| Ok(engine.freeze_volume(name)?))
        }
    }
}

/// As docker has it: to create one that is there is no failure.
fn create(args: &CreateArgs) -> Done {
    let name = match (&args.volume, &args.name) {
        (Some(_), Some(_)) => {
            return Err(Fail::new(1, "volume create: conflicting options: either --name or a name"));
        }
        (Some(name), None) | (None, Some(name)) => Some(name),
        (None, None) => None,
    };
    let spec = labelled(name, &args.label).driver(&args.driver);
    let spec = args.opt.iter().fold(spec, |spec, text| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        spec.option(key, value)
    });
    let volume = Engine::open_default()?.volume(&spec)?;
    crate::out::line(volume.name())?;
    Ok(0)
}

fn labelled(name: Option<&String>, labels: &[String]) -> VolumeSpec {
    let spec = name.map_or_else(VolumeSpec::anonymous, VolumeSpec::new);
    let labels = labels.iter().map(|text| env::label(text));
    labels.fold(spec, |spec, (key, value)| spec.label(key, value))
}

fn list(args: &ListArgs) -> Done {
    let filters = Filters::new(&args.filter, &["dangling", "driver", "label", "name"])?;
    let engine = Engine::open_default()?;
    let mut rows = Vec::new();
    for volume in engine.volumes()? {
        let kept = filters.names("name", volume.name())?
            && filters.exactly("driver", volume.driver())
            && filters.labels(volume.labels())
            && filters.flag("dangling", || Ok(engine.volume_users(volume.name())?.is_empty()))?;
        if kept {
            rows.push(describe::row(&volume));
        }
    }
    crate::out::text(describe::LISTING.render(&args.flags, &rows)?)?;
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
    let mut all = args.all;
    let mut filters = Vec::new();
    for (key, value) in &args.filter {
        match (key.as_str(), value.as_str()) {
            ("all", "1" | "true") => all = true,
            ("all", "0" | "false") => {}
            ("label" | "label!", _) => {
                let filter: Result<VolumeFilter, _> = format!("{key}={value}").parse();
                filters.push(filter.map_err(|error| Fail::new(1, format!("volume prune: {error}")))?);
            }
            _ => return Err(Fail::new(1, format!("invalid filter '{key}'"))),
        }
    }
    let which = if all { "all volumes" } else { "anonymous local volumes" };
    if !args.force && !agreed(&format!("{which} not used by at least one container"))? {
        return Ok(0);
    }
    let (removed, freed) = Engine::open_default()?.prune_volumes_where(all, &filters)?;
    if !removed.is_empty() {
        crate::out::line(format_args!("Deleted Volumes:\n{}\n", removed.join("\n")))?;
    }
    crate::out::line(format_args!("Total reclaimed space: {}", units::size(freed)))?;
    Ok(0)
}

fn inspect(args: &InspectArgs) -> Done {
    let engine = Engine::open_default()?;
    inspect::each(&args.volumes, &args.format, |name| {
        let volume = engine.find_volume(name)?.ok_or_else(|| Fail::missing("volume", name))?;
        Ok(describe(&volume)?)
    })
}

fn export(args: &ExportArgs) -> Done {
    let engine = Engine::open_default()?;
    let volume = engine.find_volume(&args.volume)?.ok_or_else(|| Fail::missing("volume", &args.volume))?;
    match &args.output {
        Some(path) => {
            let file = File::create(path).map_err(|error| file_fail("export", path, &error))?;
            volume.export(BufWriter::new(file))?;
        }
        None if std::io::stdout().is_terminal() => {
            return Err(Fail::new(1, "cowardly refusing to save to a terminal. Use the -o flag or redirect"));
        }
        None => volume.export(BufWriter::new(std::io::stdout().lock()))?,
    }
    Ok(0)
}

fn import(args: &ImportArgs) -> Done {
    let engine = Engine::open_default()?;
    let spec = labelled(Some(&args.volume), &args.label);
    let volume = match args.file.as_deref().filter(|path| *path != Path::new("-")) {
        Some(path) => {
            let file = File::open(path).map_err(|error| file_fail("import", path, &error))?;
            engine.import_volume(&spec, BufReader::new(file))?
        }
        None => engine.import_volume(&spec, std::io::stdin().lock())?,
    };
    crate::out::line(volume.name())?;
    Ok(0)
}

fn file_fail(verb: &str, path: &Path, error: &std::io::Error) -> Fail {
    Fail::new(1, format!("volume {verb}: open({path:?}): {error}"))
}

fn copy(args: &CloneArgs, act: fn(&Engine, &str, &VolumeSpec) -> coracle::Result<coracle::Volume>) -> Done {
    let spec = labelled(args.volume.as_ref(), &args.label);
    let volume = act(&Engine::open_default()?, &args.source, &spec)?;
    crate::out::line(volume.name())?;
    Ok(0)
}
