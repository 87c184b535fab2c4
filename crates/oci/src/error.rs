//! What went wrong, in words for whoever called.

use std::fmt;

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure. Its text goes to the log and to standard error.
pub(crate) struct Error {
    text: String,
    status: u8,
}

impl Error {
    pub(crate) fn new(text: impl Into<String>) -> Error {
        Error { text: text.into(), status: 1 }
    }

    /// What the program exits with.
    pub(crate) fn status(&self) -> u8 {
        self.status
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<coracle_host::Error> for Error {
    fn from(error: coracle_host::Error) -> Error {
        Error::new(error.to_string())
    }
}

impl From<coracle_runtime::Error> for Error {
    fn from(error: coracle_runtime::Error) -> Error {
        // Docker and podman tell 127 and 126 from other failures by these words.
        let hint = match error.command_status() {
            Some(127) => ": executable file not found in $PATH: no such file or directory",
            Some(_) => ": permission denied",
            None => "",
        };
        Error { text: format!("{error}{hint}"), status: error.command_status().unwrap_or(1) }
    }
}

/// Says what was being done.
pub(crate) trait During<T> {
    fn during(self, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: fmt::Display> During<T> for Result<T, E> {
    fn during(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error::new(format!("{}: {error}", doing())))
    }
}
