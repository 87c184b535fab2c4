//! `coracle builder` and `coracle buildx`: builds, and what they keep.

use std::time::SystemTime;

use coracle::{BuildCacheEntry, BuildCacheKind, Engine};

use crate::fail::{Done, Fail};
use crate::{build, filter, table, time, units};

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    Build(Box<build::Args>),
    Du(DuArgs),
    Prune(PruneArgs),
}

/// Disk usage
#[derive(clap::Args)]
pub(crate) struct DuArgs {
    /// Provide filter values
    #[arg(long, value_name = "KEY=VALUE", value_parser = filter::pair)]
    filter: Vec<(String, String)>,
}

/// Remove build cache
#[derive(clap::Args)]
pub(crate) struct PruneArgs {
    /// Remove all unused build cache, not just dangling ones
    #[arg(short, long)]
    all: bool,
    /// Provide filter values (e.g., "until=24h")
    #[arg(long, value_name = "KEY=VALUE", value_parser = filter::pair)]
    filter: Vec<(String, String)>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

pub(crate) fn run(command: &Command) -> Done {
    match command {
        Command::Build(args) => build::run(args),
        Command::Du(args) => du(args),
        Command::Prune(args) => prune(args),
    }
}

/// `until=24h`, `type=…`, `id=…`; of several with one key any, of several keys all.
struct Wanted {
    until: Vec<SystemTime>,
    types: Vec<String>,
    ids: Vec<String>,
}

impl Wanted {
    fn new(filters: &[(String, String)], now: SystemTime) -> Result<Wanted, Fail> {
        let mut wanted = Wanted { until: Vec::new(), types: Vec::new(), ids: Vec::new() };
        for (key, value) in filters {
            match key.as_str() {
                "until" => {
                    let bad = |why: String| Fail::new(1, format!("filter until={value}: {why}"));
                    let ago = time::duration(value)
                        .map(|ago| now.checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH));
                    wanted.until.push(ago.or_else(|_| time::point(value)).map_err(bad)?);
                }
                "type" => wanted.types.push(value.clone()),
                "id" => wanted.ids.push(value.clone()),
                _ => return Err(Fail::new(1, format!("invalid filter '{key}'"))),
            }
        }
        Ok(wanted)
    }

    fn takes(&self, entry: &BuildCacheEntry) -> bool {
        let last = entry.used.unwrap_or(entry.created);
        let any =
            |list: &[String], is: &dyn Fn(&str) -> bool| list.is_empty() || list.iter().any(|one| is(one));
        (self.until.is_empty() || self.until.iter().any(|until| last < *until))
            && any(&self.types, &|kind| entry.kind.as_str() == kind)
            && any(&self.ids, &|id| entry.id.starts_with(id))
    }
}

fn du(args: &DuArgs) -> Done {
    let wanted = Wanted::new(&args.filter, SystemTime::now())?;
    let entries = Engine::open_default()?.build_cache()?;
    let mut text = "ID\tTYPE\tRECLAIMABLE\tSIZE\tLAST ACCESSED\tDESCRIPTION\n".to_owned();
    let (mut total, mut reclaimable) = (0, 0);
    for entry in entries.iter().filter(|entry| wanted.takes(entry)) {
        total += entry.size;
        if !entry.in_use {
            reclaimable += entry.size;
        }
        let used =
            jiff::Timestamp::try_from(entry.used.unwrap_or(entry.created)).map(|time| time.to_string());
        let id: String = entry.id.chars().take(12).collect();
        text += &format!(
            "{id}\t{}\t{}\t{}\t{}\t{}\n",
            entry.kind.as_str(),
            !entry.in_use,
            units::size(entry.size),
            units::ago(used.ok().as_deref()),
            units::ellipsis(&entry.description, 45),
        );
    }
    crate::out::text(table::align(&text))?;
    crate::out::line(format_args!(
        "Reclaimable:\t{}\nTotal:\t\t{}",
        units::size(reclaimable),
        units::size(total)
    ))?;
    Ok(0)
}

fn prune(args: &PruneArgs) -> Done {
    let wanted = Wanted::new(&args.filter, SystemTime::now())?;
    if !args.force && !agreed(args.all)? {
        return Ok(0);
    }
    // What an image is made of is cached for as long as it is there, unless all is to go.
    let unused = |entry: &BuildCacheEntry| args.all || !entry.in_use || entry.kind == BuildCacheKind::Mount;
    let (removed, freed) =
        Engine::open_default()?.prune_build_cache(|entry| unused(entry) && wanted.takes(entry))?;
    if !removed.is_empty() {
        let ids: Vec<&str> = removed.iter().map(|entry| entry.id.as_str()).collect();
        crate::out::line(format_args!("Deleted build cache objects:\n{}\n", ids.join("\n")))?;
    }
    crate::out::line(format_args!("Total reclaimed space: {}", units::size(freed)))?;
    Ok(0)
}

/// Asks first, as docker does; no answer is a no.
fn agreed(all: bool) -> std::io::Result<bool> {
    let which = if all { "all build cache" } else { "all dangling build cache" };
    crate::out::line(format_args!(
        "WARNING! This will remove {which}.\nAre you sure you want to continue? [y/N] "
    ))?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
