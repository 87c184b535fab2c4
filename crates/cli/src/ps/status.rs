//! What docker says of a container in a few words.

use coracle::{HealthStatus, State, Status};

use crate::units;

/// `Up 3 minutes (healthy)`, `Exited (0) 2 hours ago`.
pub(crate) fn words(status: &Status) -> String {
    let since = |time: &Option<String>| time.as_deref().and_then(units::since);
    let ago = |time: &Option<String>| since(time).map_or_else(String::new, |long| format!(" {long} ago"));
    match status.state {
        State::Created | State::Starting => "Created".into(),
        State::Running | State::Paused => {
            let up = since(&status.started).map_or_else(|| "Up".to_owned(), |long| format!("Up {long}"));
            if status.state == State::Paused {
                return format!("{up} (Paused)");
            }
            match status.health.as_ref().map(|health| health.status) {
                None => up,
                Some(HealthStatus::Starting) => format!("{up} (health: starting)"),
                Some(health) => format!("{up} ({health})"),
            }
        }
        State::Restarting => format!("Restarting{}", ago(&status.finished)),
        State::Exited(exit) => format!("Exited ({}){}", exit.code(), ago(&status.finished)),
        _ => "Dead".into(),
    }
}

/// A command as docker quotes it.
pub(crate) fn command(words: &[String], whole: bool) -> String {
    let mut quoted = words.iter().enumerate().map(|(index, word)| match index > 0 && word.contains(' ') {
        true => format!("'{word}'"),
        false => word.clone(),
    });
    let first = quoted.next().unwrap_or_default();
    let line = quoted.fold(first, |line, word| format!("{line} {word}"));
    let line = if whole { line } else { units::ellipsis(&line, 20) };
    format!("{line:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

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
