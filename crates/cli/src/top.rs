//! `coracle top`.

use std::time::{Duration, SystemTime};

use coracle::{Engine, ProcessInfo};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::each::container;
use crate::fail::{Done, Fail};
use crate::stats::host_memory;
use crate::table;

/// Display the running processes of a container
#[derive(clap::Args)]
#[command(override_usage = "coracle top CONTAINER [ps OPTIONS]")]
pub(crate) struct Args {
    /// The container, and options of ps
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CONTAINER [ps OPTIONS]",
        hide = true
    )]
    words: Vec<String>,
}

/// What `ps` would say of each.
pub(crate) fn run(args: &Args) -> Done {
    let Some((name, options)) = args.words.split_first() else { return Ok(1) };
    let columns = columns(options).map_err(|problem| Fail::new(1, problem))?;
    let engine = Engine::open_default()?;
    let container = container(&engine, name)?;
    if !container.state()?.is_alive() {
        return Err(Fail::new(1, format!("container {name} is not running")));
    }
    let now = SystemTime::now();
    let row = |cell: &dyn Fn(&Column) -> String| {
        columns.iter().map(|column| cell(column)).collect::<Vec<_>>().join("\t") + "\n"
    };
    let mut text = row(&|column| column.heading.to_owned());
    for process in container.processes()? {
        text += &row(&|column| (column.cell)(&process, now));
    }
    crate::out::text(table::align(&text))?;
    Ok(0)
}

/// A column of ps(1).
struct Column {
    /// What `-o` calls it.
    names: &'static [&'static str],
    heading: &'static str,
    cell: fn(&ProcessInfo, SystemTime) -> String,
}

/// What `-ef` has first.
const OWNER: Column = Column { names: &[], heading: "UID", cell: |process, _| user(process.uid) };

/// Those that `-o` can ask for.
const COLUMNS: [Column; 17] = [
    Column { names: &["uid"], heading: "UID", cell: |process, _| process.uid.to_string() },
    Column { names: &["user", "euser", "ruser"], heading: "USER", cell: |process, _| user(process.uid) },
    Column { names: &["pid"], heading: "PID", cell: |process, _| process.pid.to_string() },
    Column { names: &["ppid"], heading: "PPID", cell: |process, _| process.parent.to_string() },
    Column { names: &["c"], heading: "C", cell: |process, now| format!("{:.0}", percent(process, now)) },
    Column {
        names: &["pcpu", "%cpu"],
        heading: "%CPU",
        cell: |process, now| format!("{:.1}", percent(process, now)),
    },
    Column { names: &["pmem", "%mem"], heading: "%MEM", cell: |process, _| share(process.memory) },
    Column {
        names: &["vsz", "vsize"],
        heading: "VSZ",
        cell: |process, _| (process.virtual_memory / 1024).to_string(),
    },
    Column {
        names: &["rss", "rssize"],
        heading: "RSS",
        cell: |process, _| (process.memory / 1024).to_string(),
    },
    Column { names: &["stat", "state", "s"], heading: "STAT", cell: |process, _| process.state.to_string() },
    Column { names: &["stime"], heading: "STIME", cell: |process, now| started(process.started, now) },
    Column { names: &["start"], heading: "START", cell: |process, now| started(process.started, now) },
    Column { names: &["tty", "tt", "tname"], heading: "TTY", cell: |process, _| terminal(process.terminal) },
    Column { names: &["time", "cputime"], heading: "TIME", cell: |process, _| used(process.cpu) },
    Column { names: &["comm", "ucomm"], heading: "COMMAND", cell: |process, _| process.name.clone() },
    Column { names: &["args", "command"], heading: "COMMAND", cell: |process, _| process.command.clone() },
    Column { names: &["cmd"], heading: "CMD", cell: |process, _| process.command.clone() },
];

/// The columns that options of ps(1) mean: all of `-ef`, of `aux`, or those that `-o` names. No ps is run.
fn columns(options: &[String]) -> Result<Vec<&'static Column>, String> {
    let words: Vec<&str> = options.iter().map(String::as_str).collect();
    let list = match words[..] {
        [] | ["-ef" | "ef" | "-e" | "-f" | "-fe"] => {
            let rest = named("pid,ppid,c,stime,tty,time,cmd")?;
            return Ok([&OWNER].into_iter().chain(rest).collect());
        }
        ["aux" | "-aux" | "axu"] => return named("user,pid,pcpu,pmem,vsz,rss,tty,stat,start,time,command"),
        ["-o" | "-eo" | "o", list] => list,
        [word] if word.starts_with("-o") || word.starts_with("-eo") => {
            word.trim_start_matches("-e").trim_start_matches("-o").trim_start_matches('o')
        }
        _ => {
            let text = "only -ef, aux, and -o with columns are supported; no ps is run";
            return Err(format!("top {}: {text}", words.join(" ")));
        }
    };
    let columns = named(list)?;
    if !columns.iter().any(|column| column.heading == "PID") {
        return Err("couldn't find PID field in ps output".into());
    }
    Ok(columns)
}
/// `pid,comm`; docker has no other headings than ps's own.
fn named(list: &str) -> Result<Vec<&'static Column>, String> {
    let find = |name: &str| {
        let known = COLUMNS.iter().find(|column| column.names.contains(&name.to_ascii_lowercase().as_str()));
        known.ok_or_else(|| format!("top -o {name}: no such column is supported"))
    };
    list.split(',').map(str::trim).map(find).collect()
}

/// How much of its life it was running, in percent, 99 at most, as ps has it.
fn percent(process: &ProcessInfo, now: SystemTime) -> f64 {
    let age = now.duration_since(process.started).unwrap_or(Duration::from_secs(1));
    (process.cpu.as_secs_f64() * 100.0 / age.as_secs_f64().max(1e-3)).min(99.0)
}

/// How much of the host's memory that is, in percent.
fn share(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 * 100.0 / host_memory().max(1) as f64)
}

fn used(cpu: Duration) -> String {
    let seconds = cpu.as_secs();
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// The host's name of a user, or the number.
fn user(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| uid.to_string())
}

fn started(time: SystemTime, now: SystemTime) -> String {
    let age = now.duration_since(time).unwrap_or_default();
    let Ok(time) = Timestamp::try_from(time) else { return "?".into() };
    let format = if age < Duration::from_secs(24 * 3600) { "%H:%M" } else { "%b%d" };
    time.to_zoned(TimeZone::system()).strftime(format).to_string()
}

/// proc(5): the number of a device, `major << 8 | minor` with the high part of minor above.
fn terminal(number: u64) -> String {
    let (major, minor) = ((number >> 8) & 0xfff, (number & 0xff) | ((number >> 12) & 0xfff00));
    match major {
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        4 => format!("tty{minor}"),
        _ => "?".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_those_of_ps() {
        let headings = |options: &str| {
            let words: Vec<String> = options.split_whitespace().map(ToOwned::to_owned).collect();
            columns(&words)
                .map(|columns| columns.iter().map(|column| column.heading).collect::<Vec<_>>().join(" "))
        };
        let full = "UID PID PPID C STIME TTY TIME CMD";
        for (options, expected) in [
            ("", full),
            ("-ef", full),
            ("aux", "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND"),
            ("-o pid,comm", "PID COMMAND"),
            ("-eo pid,%cpu,args", "PID %CPU COMMAND"),
            ("-opid", "PID"),
        ] {
            assert_eq!(headings(options).unwrap(), expected, "{options}");
        }
        for (options, problem) in
            [("-o comm", "couldn't find PID"), ("-o pid,x", "no such column"), ("-T", "no ps is run")]
        {
            assert!(headings(options).unwrap_err().contains(problem), "{options}");
        }
    }

    #[test]
    fn terminals_have_names() {
        assert_eq!(terminal(0), "?");
        assert_eq!(terminal(136 << 8 | 3), "pts/3");
        assert_eq!(terminal(4 << 8 | 1), "tty1");
    }
}
