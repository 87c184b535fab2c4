//! `coracle logs`.

use std::io::{self, BufWriter, Write};
use std::time::SystemTime;

use coracle::{Engine, LogQuery, Stream};

use crate::each::container;
use crate::fail::Done;
use crate::time;

/// Fetch the logs of a container
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Show extra details provided to logs
    #[arg(long)]
    details: bool,
    /// Follow log output
    #[arg(short, long)]
    follow: bool,
    /// Show logs since timestamp (e.g. 2013-01-02T13:23:37Z) or relative (e.g. 42m for 42 minutes)
    #[arg(long, value_name = "TIME", value_parser = time::point)]
    since: Option<SystemTime>,
    /// Show logs before a timestamp (e.g. 2013-01-02T13:23:37Z) or relative (e.g. 42m for 42 minutes)
    #[arg(long, value_name = "TIME", value_parser = time::point)]
    until: Option<SystemTime>,
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
    let mut query = LogQuery::new();
    if let Some(since) = args.since {
        query = query.since(since);
    }
    if let Some(until) = args.until {
        query = query.until(until);
    }
    if let Some(most) = args.tail.0 {
        query = query.tail(most);
    }
    if args.follow {
        query = query.follow();
    }
    let mut logs = container.read_logs(&query)?;
    let mut out = BufWriter::new(io::stdout().lock());
    loop {
        let entry = match logs.next_now()? {
            Some(entry) => entry,
            None => {
                out.flush()?;
                let Some(entry) = logs.next()? else { return Ok(0) };
                entry
            }
        };
        let time = if args.timestamps { format!("{} ", entry.time) } else { String::new() };
        // Attributes of `--log-opt`, of which there are none.
        let details = if args.details { " " } else { "" };
        match entry.stream {
            Stream::Stdout => write!(out, "{time}{details}{}", entry.log)?,
            Stream::Stderr => {
                out.flush()?;
                write!(io::stderr().lock(), "{time}{details}{}", entry.log)?;
            }
        }
    }
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
