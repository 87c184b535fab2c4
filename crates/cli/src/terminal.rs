//! This program's own terminal, and the size of others.

use std::fs::File;
use std::io::{IsTerminal, Stdin};

use crate::fail::Fail;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

/// A terminal that passes every key on as it is typed, until this is dropped.
pub(crate) struct Raw {
    stdin: Stdin,
    before: Termios,
}

impl Raw {
    /// `None`: standard input is no terminal.
    pub(crate) fn begin() -> Option<Raw> {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return None;
        }
        let before = tcgetattr(&stdin).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &raw).ok()?;
        Some(Raw { stdin, before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // It can only fail where the terminal is gone.
        let _ = tcsetattr(&self.stdin, OptionalActions::Now, &self.before);
    }
}

/// Refuses standard input that is no terminal, where the keys typed are to reach one.
pub(crate) fn required() -> Result<(), Fail> {
    match std::io::stdin().is_terminal() {
        true => Ok(()),
        false => Err(Fail::new(1, "the input device is not a TTY")),
    }
}

/// Makes a terminal as large as ours. Where we have none it stays as it is.
pub(crate) fn resize(terminal: &File) {
    if let Ok(size) = tcgetwinsize(std::io::stdout()).or_else(|_| tcgetwinsize(std::io::stdin())) {
        let _ = tcsetwinsize(terminal, size);
    }
}
