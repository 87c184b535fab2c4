//! `coracle logs`.

use std::io::{self, Write};
use std::time::Duration;

use coracle::{Engine, Kind, LogEntry, State, Stream};

use crate::each::container;
use crate::fail::Done;

/// How often is looked for more.
const PAUSE: Duration = Duration::from_millis(50);

/// Fetch the logs of a container
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Follow log output
    #[arg(short, long)]
    follow: bool,
    /// Number of lines to show from the end of the logs
    #[arg(short = 'n', long, value_name = "NUMBER", default_value = "all", value_parser = tail)]
    tail: Tail,
    /// Show timestamps
    #[arg(short, long)]
    timestamps: bool,
    container: String,
}

/// At most how many lines; `None`: all.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Tail(Option<usize>);

/// A number, or `all`, which is also what a negative number means.
fn tail(text: &str) -> Result<Tail, String> {
    match text.parse::<i64>() {
        Ok(number) => Ok(Tail(usize::try_from(number).ok())),
        Err(_) if text == "all" => Ok(Tail(None)),
        Err(_) => Err("want a number or `all`".into()),
    }
}

/// Prints the log: what was written to standard output there to ours, and the rest to standard error.
pub(crate) fn run(args: &Args) -> Done {
    let engine = Engine::open_default()?;
    let container = container(&engine, &args.container)?;
    let mut shown = None;
    loop {
        // The state first: what a container wrote before its end is in the log then.
        let over = match container.state() {
            Ok(state) => !matches!(state, State::Starting | State::Running),
            Err(error) if error.kind() == Kind::NotFound && shown.is_some() => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        let entries = match container.logs() {
            Ok(entries) => entries,
            Err(error) if error.kind() == Kind::NotFound && shown.is_some() => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        let first = args.tail.0.map_or(0, |most| entries.len().saturating_sub(most));
        print(entries.get(shown.unwrap_or(first)..).unwrap_or_default(), args.timestamps)?;
        shown = Some(entries.len());
        if over || !args.follow {
            return Ok(0);
        }
        std::thread::sleep(PAUSE);
    }
}

fn print(entries: &[LogEntry], timestamps: bool) -> io::Result<()> {
    for entry in entries {
        let time = if timestamps { format!("{} ", entry.time) } else { String::new() };
        match entry.stream {
            Stream::Stdout => write!(io::stdout().lock(), "{time}{}", entry.log)?,
            Stream::Stderr => {
                io::stdout().lock().flush()?;
                write!(io::stderr().lock(), "{time}{}", entry.log)?;
            }
        }
    }
    io::stdout().lock().flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails() {
        assert_eq!(tail("all"), Ok(Tail(None)));
        assert_eq!(tail("-1"), Ok(Tail(None)));
        assert_eq!(tail("0"), Ok(Tail(Some(0))));
        assert_eq!(tail("12"), Ok(Tail(Some(12))));
        assert!(tail("some").is_err());
    }
}
