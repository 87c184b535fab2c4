//! The one error of the facade.

use std::fmt;

use coracle_host::Kind;

/// The result of engine operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed operation of the engine: what was being done, to what, and the reason down to the system call.
///
/// ```text
/// start container `db` (postgres:16): launch step 4 of 32: mount proc at ./proc: Operation not permitted (os error 1)
/// ```
///
/// `Debug` reads like `Display`: where a test unwraps, this is what people see.
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    message: String,
    command_status: Option<u8>,
}

impl Error {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Error {
        Error(Box::new(Inner { kind, message: message.into(), command_status: None }))
    }

    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Where a container's command could not be executed, what a shell answers then: 127 for a command that is not
    /// there, 126 for one that can't be executed.
    pub fn command_status(&self) -> Option<u8> {
        self.0.command_status
    }

    /// An error that another process reported in these parts.
    pub(crate) fn from_parts(kind: Kind, command_status: Option<u8>, message: String) -> Error {
        Error(Box::new(Inner { kind, message, command_status }))
    }

    /// This failure, and one that came with it.
    pub(crate) fn and(mut self, also: &Error) -> Error {
        self.0.message = format!("{}; then: {also}", self.0.message);
        self
    }

    pub(crate) fn context(mut self, doing: impl fmt::Display) -> Error {
        self.0.message = format!("{doing}: {}", self.0.message);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {}

/// The crates below each have their own error; here they become one, with their words and their kind.
macro_rules! from {
    ($($error:ty),*) => {$(
        impl From<$error> for Error {
            fn from(error: $error) -> Error {
                Error::new(error.kind(), error.to_string())
            }
        }
    )*};
}

from!(
    coracle_host::Error,
    coracle_layers::Error,
    coracle_build::Error,
    coracle_net::Error,
    coracle_volume::Error
);

impl From<coracle_runtime::Error> for Error {
    fn from(error: coracle_runtime::Error) -> Error {
        let mut outer = Error::new(error.kind(), error.to_string());
        outer.0.command_status = error.command_status();
        outer
    }
}

/// One verb phrase for what was being done.
pub(crate) trait Doing<T> {
    fn doing<S: fmt::Display>(self, doing: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<Error>> Doing<T> for std::result::Result<T, E> {
    fn doing<S: fmt::Display>(self, doing: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| error.into().context(doing()))
    }
}
