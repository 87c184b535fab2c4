//! What failed, in one sentence from the outermost verb to the innermost call.

use std::fmt;
use std::io;

use coracle_host::Kind;

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of the store, a layer, an image or a capture. It displays as one line, the phrase of each part that
/// it passed on the way out first: ``import image: entry `../x`: leads out of the image``.
///
/// `Debug` reads like `Display`: where a test unwraps, this is what people see.
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    text: String,
}

impl Error {
    /// A failure whose whole sentence is `text`.
    pub(crate) fn new(kind: Kind, text: impl Into<String>) -> Error {
        Error(Box::new(Inner { kind, text: text.into() }))
    }

    pub(crate) fn invalid(text: impl Into<String>) -> Error {
        Error::new(Kind::Invalid, text)
    }

    pub(crate) fn corrupt(text: impl Into<String>) -> Error {
        Error::new(Kind::Corrupt, text)
    }

    pub(crate) fn unsupported(text: impl Into<String>) -> Error {
        Error::new(Kind::Unsupported, text)
    }

    /// Reading `what` failed. Decompressors report broken data in many kinds; without a number of the kernel's it
    /// is the data.
    pub(crate) fn reading(what: &str, error: &io::Error) -> Error {
        if let Some(errno) = rustix::io::Errno::from_io_error(error) {
            return coracle_host::Error::os(format!("read({what})"), errno).into();
        }
        let kind = match error.kind() {
            io::ErrorKind::TimedOut => Kind::Timeout,
            io::ErrorKind::Interrupted | io::ErrorKind::ConnectionReset => Kind::Interrupted,
            _ => Kind::Corrupt,
        };
        Error::new(kind, format!("read({what}): {error}"))
    }

    /// The same failure, seen from one part further out.
    #[must_use]
    pub fn context(mut self, phrase: impl fmt::Display) -> Error {
        self.0.text = format!("{phrase}: {}", self.0.text);
        self
    }

    /// The class of the failure, for callers that act on it.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }
}

/// `result.context(|| "verb phrase")`, as lazily as it should be.
pub(crate) trait Context<T> {
    fn context<P: fmt::Display>(self, phrase: impl FnOnce() -> P) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for std::result::Result<T, E> {
    fn context<P: fmt::Display>(self, phrase: impl FnOnce() -> P) -> Result<T> {
        self.map_err(|error| error.into().context(phrase()))
    }
}

impl From<coracle_host::Error> for Error {
    fn from(error: coracle_host::Error) -> Error {
        Error::new(error.kind(), error.to_string())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl std::error::Error for Error {}
