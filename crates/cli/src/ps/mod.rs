//! `coracle ps`.

mod keep;
mod ports;
mod status;

use coracle::{Container, Engine, Kind, Mount, Source, State, Status};

use crate::fail::{Done, Fail};
use crate::filter::{self, Filters};
use crate::list::{self, Listing};
use crate::template::Value;
use crate::{inspect, units};

pub(crate) use status::{command, words};

const LISTING: Listing = Listing {
    kind: "*formatter.ContainerContext",
    headings: &[
        ("ID", "CONTAINER ID"),
        ("Names", "NAMES"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("RunningFor", "CREATED"),
        ("Ports", "PORTS"),
        ("State", "STATE"),
        ("Status", "STATUS"),
        ("Size", "SIZE"),
        ("Labels", "LABELS"),
        ("Mounts", "MOUNTS"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Networks", "NETWORKS"),
        ("Platform", "PLATFORM"),
    ],
    columns: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}",
    quiet: "{{.ID}}",
    raw: "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\n\
          state: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\nnames: {{.Names}}\nlabels: {{- pad .Labels 1 0}}\n\
          ports: {{- pad .Ports 1 0}}\n",
};

/// List containers
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = filter::pair)]
    filter: Vec<(String, String)>,
    #[command(flatten)]
    flags: list::Flags,
    /// Show n last created containers (includes all states)
    #[arg(short = 'n', long, value_name = "int", default_value_t = -1)]
    last: i64,
    /// Show the latest created container (includes all states)
    #[arg(short, long)]
    latest: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Display total file sizes
    #[arg(short, long)]
    size: bool,
}

/// Lists them, the newest first.
pub(crate) fn run(args: &Args) -> Done {
    let filters = Filters::new(&args.filter, &keep::KEYS)?;
    let engine = Engine::open_default()?;
    let most = if args.latest && args.last < 1 { 1 } else { args.last };
    let most = usize::try_from(most).ok().filter(|most| *most > 0);
    let keep = keep::Keep::new(&engine, filters, args.all || most.is_some())?;
    let sizes = args.size || args.flags.mentions(".Size") || args.flags.mentions("json");
    let mut rows = Vec::new();
    for container in engine.containers()? {
        if most.is_some_and(|most| rows.len() == most) {
            break;
        }
        match row(&engine, &container, &keep, args.no_trunc, sizes) {
            Ok(row) => rows.extend(row),
            // Removed while we looked.
            Err(Skip::Gone) => {}
            Err(Skip::Fail(fail)) => return Err(fail),
        }
    }
    let more = if args.size { "\t{{.Size}}" } else { "" };
    crate::out::text(LISTING.render_with(&args.flags, &rows, more)?)?;
    Ok(0)
}

/// Why there is no row of a container.
enum Skip {
    Gone,
    Fail(Fail),
}

impl From<coracle::Error> for Skip {
    fn from(error: coracle::Error) -> Skip {
        match error.kind() {
            Kind::NotFound => Skip::Gone,
            _ => Skip::Fail(error.into()),
        }
    }
}

impl From<Fail> for Skip {
    fn from(fail: Fail) -> Skip {
        Skip::Fail(fail)
    }
}

fn row(
    engine: &Engine,
    container: &Container,
    keep: &keep::Keep,
    whole: bool,
    sizes: bool,
) -> Result<Option<Value>, Skip> {
    let status = container.status()?;
    if !keep.wants(container, &status)? {
        return Ok(None);
    }
    let created: Option<jiff::Timestamp> = container.created().parse().ok();
    let created_at = created.and_then(|time| jiff::Timestamp::from_second(time.as_second()).ok());
    let size = if sizes { size(engine, container)? } else { String::new() };
    let ports = match status.state {
        State::Running => ports::shown(&container.published()?, &exposed(container)),
        _ => String::new(),
    };
    let fields = [
        ("ID", units::id(container.id(), whole).into()),
        ("Names", container.name().into()),
        ("Image", image(container, whole).into()),
        ("Command", command(container.command(), whole).into()),
        ("CreatedAt", created_at.map_or_else(String::new, units::date).into()),
        ("RunningFor", units::ago(Some(container.created())).into()),
        ("Ports", ports.into()),
        ("State", state(&status).into()),
        ("Status", words(&status).into()),
        ("Size", size.into()),
        ("Mounts", mounts(container, whole).into()),
        ("LocalVolumes", volumes(container).count().to_string().into()),
        ("Networks", container.network_names().join(",").into()),
        ("Platform", Value::Nil),
    ];
    Ok(Some(list::row(&LISTING, fields, Some(container.labels()))))
}

fn state(status: &Status) -> &'static str {
    inspect::container::state_name(status.state)
}

fn volumes(container: &Container) -> impl Iterator<Item = &Mount> {
    container.mounts().iter().filter(|mount| matches!(mount.source(), Source::Volume(_)))
}

/// The volumes' names and the host's paths, cut as docker cuts them.
fn mounts(container: &Container, whole: bool) -> String {
    let source = |mount: &Mount| {
        let text = match mount.source() {
            Source::Volume(name) => name.clone(),
            Source::Bind(path) => path.display().to_string(),
            Source::Image(name) => name.clone(),
            _ => return None,
        };
        Some(if whole { text } else { units::ellipsis(&text, MOUNT) })
    };
    container.mounts().iter().filter_map(source).collect::<Vec<_>>().join(",")
}

/// What it says that it serves, where that is on networks of its own.
fn exposed(container: &Container) -> Vec<coracle::Port> {
    let own = !matches!(container.network_names()[..], [] | ["host" | "none"]);
    if own { container.exposed() } else { Vec::new() }
}

/// So many characters of a mount's source are shown.
const MOUNT: usize = 15;

/// As it was asked for; an id is cut like other ids.
fn image(container: &Container, whole: bool) -> String {
    let (asked, id) = (container.image(), container.image_id());
    let short = units::id(id, false);
    match !whole && units::id(asked, false) == short {
        true => short.to_owned(),
        false => asked.to_owned(),
    }
}

/// What it has written, and with its image's size.
fn size(engine: &Engine, container: &Container) -> coracle::Result<String> {
    let written = container.written()?;
    let image = engine.image(container.image_id())?.map_or(0, |image| image.size());
    let size = units::size(written);
    Ok(match image {
        0 => size,
        image => format!("{size} (virtual {})", units::size(image.saturating_add(written))),
    })
}
