//! A command that did not succeed: what is printed, and the status that the program ends with.

use std::fmt;

use coracle::Error;

/// What a command comes to: the status to end with.
pub(crate) type Done = Result<u8, Fail>;

/// The status of a program that wrote into a closed pipe, had it been killed by the signal.
const PIPE: u8 = 128 + 13;

/// Why a command failed.
pub(crate) struct Fail {
    status: u8,
    text: String,
}

impl Fail {
    /// A failure of this program's or the user's. It is printed after the program's name.
    pub(crate) fn new(status: u8, text: impl fmt::Display) -> Fail {
        Fail { status, text: format!("coracle: {text}") }
    }

    /// There is no such thing, in the words that people look for: `Error: No such container: x`.
    pub(crate) fn missing(what: &str, name: &str) -> Fail {
        Fail { status: 1, text: format!("Error: No such {what}: {name}") }
    }

    /// What has to be said is said already.
    pub(crate) fn silent(status: u8) -> Fail {
        Fail { status, text: String::new() }
    }

    /// The failure of starting a process in a container: the status that a shell would have for it, or 125.
    pub(crate) fn starting(error: &Error) -> Fail {
        Fail::new(error.command_status().unwrap_or(125), error)
    }

    /// The same failure with another status.
    pub(crate) fn with(mut self, status: u8) -> Fail {
        self.status = status;
        self
    }

    pub(crate) fn status(&self) -> u8 {
        self.status
    }

    /// Prints it on standard error.
    pub(crate) fn print(&self) {
        if !self.text.is_empty() {
            crate::out::say(self);
        }
    }
}

impl fmt::Display for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} (status {})", self.status)
    }
}

impl From<Error> for Fail {
    fn from(error: Error) -> Fail {
        Fail::new(1, error)
    }
}

/// Of writing to standard output; reading has its own words where it happens.
impl From<std::io::Error> for Fail {
    fn from(error: std::io::Error) -> Fail {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Fail::silent(PIPE),
            _ => Fail::new(1, format!("write to standard output: {error}")),
        }
    }
}
