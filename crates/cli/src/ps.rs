//! `coracle ps`.

use coracle::{Container, Engine, Kind, State, Status};

use crate::fail::Done;
use crate::table::Table;
use crate::units;

/// List containers
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only display container IDs
    #[arg(short, long)]
    quiet: bool,
}

/// Lists them, the newest first.
pub(crate) fn run(args: &Args) -> Done {
    let engine = Engine::open_default()?;
    let mut table = Table::new(&["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]);
    let mut ids = String::new();
    for container in engine.containers()? {
        let status = match container.status() {
            Ok(status) => status,
            // Removed while we looked.
            Err(error) if error.kind() == Kind::NotFound => continue,
            Err(error) => return Err(error.into()),
        };
        if !args.all && status.state != State::Running {
            continue;
        }
        let id = units::id(container.id(), args.no_trunc);
        ids += &format!("{id}\n");
        table.row([
            id.to_owned(),
            container.image().to_owned(),
            command(container.command(), args.no_trunc),
            units::ago(Some(container.created())),
            state(&container, &status),
            ports(&container)?,
            container.name().to_owned(),
        ]);
    }
    if args.quiet {
        crate::out::text(ids)?
    } else {
        crate::out::text(table)?
    }
    Ok(0)
}

fn ports(container: &Container) -> coracle::Result<String> {
    let ports: Vec<String> = container.published()?.iter().map(ToString::to_string).collect();
    Ok(ports.join(", "))
}

/// As docker quotes it.
fn command(words: &[String], whole: bool) -> String {
    let mut quoted = words.iter().enumerate().map(|(index, word)| match index > 0 && word.contains(' ') {
        true => format!("'{word}'"),
        false => word.clone(),
    });
    let first = quoted.next().unwrap_or_default();
    let line = quoted.fold(first, |line, word| format!("{line} {word}"));
    let line = if whole { line } else { units::ellipsis(&line, 20) };
    format!("{line:?}")
}

fn state(container: &Container, status: &Status) -> String {
    match status.state {
        State::Starting => "Created".into(),
        State::Running => match units::since(container.created()) {
            Some(long) => format!("Up {long}"),
            None => "Up".into(),
        },
        State::Exited(exit) => {
            format!("Exited ({}) {}", exit.code(), units::ago(status.finished.as_deref()))
        }
        _ => "Dead".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::command;

    #[test]
    fn commands_are_quoted_and_cut_as_dockers() {
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(command(&words(&["sleep", "1000"]), false), r#""sleep 1000""#);
        assert_eq!(command(&words(&["sh", "-c", "echo \"a\""]), true), r#""sh -c 'echo \"a\"'""#);
        assert_eq!(
            command(&words(&["sh", "-c", "while true; do :; done"]), false),
            r#""sh -c 'while true; …""#
        );
        assert_eq!(command(&[], false), r#""""#);
    }
}
