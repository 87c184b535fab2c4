//! What the runtime could not do.

use std::fmt;

use coracle_host::Kind;

/// The result of runtime operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed runtime operation. `Debug` reads like `Display`.
pub struct Error(Box<Inner>);

enum Inner {
    Problems(Vec<Problem>),
    Host { doing: String, source: coracle_host::Error },
    Step { index: usize, total: usize, exec: bool, source: coracle_host::Error },
}

/// One thing that is wrong with a spec.
pub(crate) struct Problem {
    pub(crate) kind: Kind,
    pub(crate) text: String,
}

impl Problem {
    pub(crate) fn invalid(text: impl Into<String>) -> Problem {
        Problem { kind: Kind::Invalid, text: text.into() }
    }

    pub(crate) fn unsupported(text: impl Into<String>) -> Problem {
        Problem { kind: Kind::Unsupported, text: text.into() }
    }
}

impl Error {
    /// Everything that is wrong with a spec, at once.
    pub(crate) fn problems(problems: Vec<Problem>) -> Error {
        Error(Box::new(Inner::Problems(problems)))
    }

    pub(crate) fn invalid(text: impl Into<String>) -> Error {
        Error::problems(vec![Problem { kind: Kind::Invalid, text: text.into() }])
    }

    pub(crate) fn host(doing: impl Into<String>, source: coracle_host::Error) -> Error {
        Error(Box::new(Inner::Host { doing: doing.into(), source }))
    }

    /// `source` has the step's words as its call.
    pub(crate) fn step(index: usize, total: usize, exec: bool, source: coracle_host::Error) -> Error {
        Error(Box::new(Inner::Step { index, total, exec, source }))
    }

    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        match &*self.0 {
            Inner::Problems(problems) => problems.first().map_or(Kind::Invalid, |problem| problem.kind),
            Inner::Host { source, .. } | Inner::Step { source, .. } => source.kind(),
        }
    }

    /// Where everything was ready but the command could not be executed: what a shell answers then. 127 for one
    /// that is not there, 126 for one that can't be executed.
    pub fn command_status(&self) -> Option<u8> {
        match &*self.0 {
            Inner::Step { exec: true, source, .. } => match source.kind() {
                Kind::NotFound => Some(127),
                _ => Some(126),
            },
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Inner::Problems(problems) => {
                for (index, problem) in problems.iter().enumerate() {
                    write!(f, "{}{}", if index == 0 { "" } else { "; " }, problem.text)?;
                }
                Ok(())
            }
            Inner::Host { doing, source } => write!(f, "{doing}: {source}"),
            Inner::Step { index, total, source, .. } => write!(f, "launch step {index} of {total}: {source}"),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

/// Says what was being done when a host operation failed.
pub(crate) trait Doing<T> {
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T>;
}

impl<T> Doing<T> for coracle_host::Result<T> {
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|source| Error::host(doing(), source))
    }
}
