//! `coracle top`.

use std::time::{Duration, SystemTime};

use coracle::{Engine, ProcessInfo};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::each::container;
use crate::fail::{Done, Fail};
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

/// What `ps -ef` says of each.
pub(crate) fn run(args: &Args) -> Done {
    let Some((name, options)) = args.words.split_first() else { return Ok(1) };
    if !matches!(options, [] | [_])
        || options.first().is_some_and(|option| !matches!(&**option, "-ef" | "ef" | "-e" | "-f"))
    {
        let text =
            format!("top {}: no other options of ps than -ef are supported; no ps is run", options.join(" "));
        return Err(Fail::new(1, text));
    }
    let engine = Engine::open_default()?;
    let container = container(&engine, name)?;
    if !container.state()?.is_alive() {
        return Err(Fail::new(1, format!("container {name} is not running")));
    }
    let now = SystemTime::now();
    let mut text = "UID\tPID\tPPID\tC\tSTIME\tTTY\tTIME\tCMD\n".to_owned();
    for process in container.processes()? {
        text += &line(&process, now);
    }
    crate::out::text(table::align(&text))?;
    Ok(0)
}

fn line(process: &ProcessInfo, now: SystemTime) -> String {
    let age = now.duration_since(process.started).unwrap_or(Duration::from_secs(1));
    // As ps has it: the part of its life that it was running, in percent, 99 at most.
    let percent = (process.cpu.as_secs_f64() * 100.0 / age.as_secs_f64().max(1e-3)).min(99.0);
    let seconds = process.cpu.as_secs();
    let time = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!(
        "{}\t{}\t{}\t{percent:.0}\t{}\t{}\t{time}\t{}\n",
        user(process.uid),
        process.pid,
        process.parent,
        started(process.started, age),
        terminal(process.terminal),
        process.command,
    )
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

fn started(time: SystemTime, age: Duration) -> String {
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
    fn terminals_have_names() {
        assert_eq!(terminal(0), "?");
        assert_eq!(terminal(136 << 8 | 3), "pts/3");
        assert_eq!(terminal(4 << 8 | 1), "tty1");
    }
}
