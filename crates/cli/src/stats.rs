//! `coracle stats`.

use std::collections::BTreeMap;
use std::time::Duration;

use coracle::{Container, Engine, Stats};

use crate::each::container;
use crate::fail::Done;
use crate::list::{self, Listing};
use crate::template::Value;
use crate::units;

/// How long one looks for how much is used meanwhile.
const PAUSE: Duration = Duration::from_millis(1000);

/// Display a live stream of container(s) resource usage statistics
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json', 'TEMPLATE' (a Go template)
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Disable streaming stats and only pull the first result
    #[arg(long)]
    no_stream: bool,
    /// Do not truncate output
    #[arg(long)]
    no_trunc: bool,
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

const LISTING: Listing = Listing {
    kind: "*container.statsContext",
    headings: &[
        ("ID", "CONTAINER ID"),
        ("Container", "CONTAINER"),
        ("Name", "NAME"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
    ],
    columns: "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
    quiet: "{{.ID}}",
    raw: "",
};

/// What each uses, once or again and again.
pub(crate) fn run(args: &Args) -> Done {
    let engine = Engine::open_default()?;
    let mut before: BTreeMap<String, Stats> = BTreeMap::new();
    // The first figures only say how much was used so far.
    let mut shown = false;
    loop {
        let mut rows = Vec::new();
        for (name, container) in chosen(&engine, args)? {
            // It may just have ended.
            let now = container.stats().ok();
            let percent = now.as_ref().zip(before.get(container.id())).map(|(now, then)| cpu(now, then));
            rows.push(row(&name, &container, now.as_ref(), percent, args.no_trunc));
            match now {
                Some(now) => before.insert(container.id().to_owned(), now),
                None => before.remove(container.id()),
            };
        }
        if shown {
            let text = LISTING.render(&list::Flags::with(args.format.clone()), &rows)?;
            // On a terminal the last figures make way for the new ones.
            let clear = if args.no_stream || args.format.is_some() { "" } else { "\x1b[2J\x1b[H" };
            crate::out::text(format!("{clear}{text}"))?;
            if args.no_stream {
                return Ok(0);
            }
        }
        shown = true;
        std::thread::sleep(PAUSE);
    }
}

fn chosen(engine: &Engine, args: &Args) -> Result<Vec<(String, Container)>, crate::fail::Fail> {
    if !args.containers.is_empty() {
        return args.containers.iter().map(|name| Ok((name.clone(), container(engine, name)?))).collect();
    }
    let mut chosen = Vec::new();
    for container in engine.containers()? {
        if args.all || container.state().is_ok_and(|state| state.is_alive()) {
            chosen.push((container.id()[..12].to_owned(), container));
        }
    }
    Ok(chosen)
}

/// Percent of one processor, between two looks.
fn cpu(now: &Stats, then: &Stats) -> f64 {
    let total = |stats: &Stats| stats.cpu.as_ref().map(|cpu| cpu.total).unwrap_or_default();
    let used = total(now).saturating_sub(total(then)).as_secs_f64();
    let passed = now.time.duration_since(then.time).unwrap_or_default().as_secs_f64();
    if passed > 0.0 { used / passed * 100.0 } else { 0.0 }
}

fn row(name: &str, container: &Container, stats: Option<&Stats>, cpu: Option<f64>, whole: bool) -> Value {
    // What does not run has no limit.
    let host = if stats.is_some() { host_memory() } else { 0 };
    let memory = stats.and_then(|stats| stats.memory.as_ref());
    let limit = memory.and_then(|memory| memory.limit).map_or(host, |limit| limit.min(host));
    let used = memory.map_or(0, |memory| memory.working_set());
    let percent = if limit > 0 { used as f64 / limit as f64 * 100.0 } else { 0.0 };
    let pair = |a: u64, b: u64| format!("{} / {}", units::size(a), units::size(b));
    let network = stats.and_then(|stats| stats.network);
    let io = stats.and_then(|stats| stats.io.as_ref());
    let pids = stats.and_then(|stats| stats.pids.as_ref()).map_or(0, |pids| pids.current);
    let fields = [
        ("ID", units::id(container.id(), whole).into()),
        ("Container", name.into()),
        ("Name", container.name().into()),
        ("CPUPerc", format!("{:.2}%", cpu.unwrap_or_default()).into()),
        ("MemUsage", format!("{} / {}", binary(used), binary(limit)).into()),
        ("MemPerc", format!("{percent:.2}%").into()),
        ("NetIO", network.map_or("0B / 0B".to_owned(), |one| pair(one.received, one.sent)).into()),
        ("BlockIO", io.map_or("0B / 0B".to_owned(), |io| pair(io.read_bytes, io.write_bytes)).into()),
        ("PIDs", pids.to_string().into()),
    ];
    list::row(&LISTING, fields, None)
}

/// Bytes of memory that the host has: proc(5), `/proc/meminfo`.
pub(crate) fn host_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total =
        text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok());
    total.unwrap_or(0u64) * 1024
}

/// `12.5MiB`: four digits at most.
fn binary(bytes: u64) -> String {
    let mut number = bytes as f64;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    for next in units {
        if number < 1024.0 {
            break;
        }
        (number, unit) = (number / 1024.0, next);
    }
    let places =
        if number >= 1000.0 || number.fract() == 0.0 { 0 } else { 3 - (number.log10().max(0.0) as usize) };
    let text = format!("{number:.places$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_four_digits() {
        let table =
            [(0, "0B"), (512, "512B"), (1536, "1.5KiB"), (13_000_000, "12.4MiB"), (1023 << 20, "1023MiB")];
        for (bytes, text) in table {
            assert_eq!(binary(bytes), text, "{bytes}");
        }
    }
}
