//! What went wrong with which volume.

use std::fmt;
use std::path::PathBuf;

use coracle_host::Kind;

/// The result of volume operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed volume operation. `Debug` reads like `Display`.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The spec can't be met by any volume; all of its problems are here.
    #[error("volume {name:?}: {}", problems.join("; "))]
    Invalid {
        /// The name as it was given; empty for an anonymous volume.
        name: String,
        /// One sentence part for each problem.
        problems: Vec<String>,
    },
    /// It is well said, and not done here.
    #[error("volume {name:?}: {what}")]
    Unsupported {
        /// The name as it was given; empty for an anonymous volume.
        name: String,
        /// What is not done.
        what: String,
    },
    /// There is no volume of that name.
    #[error("{act} volume `{name}`: there is none of that name")]
    NotFound {
        /// What was to be done: `lend`, `remove`.
        act: &'static str,
        /// The volume.
        name: String,
    },
    /// The name is taken.
    #[error("create volume `{name}`: there is one of that name")]
    AlreadyExists {
        /// The volume.
        name: String,
    },
    /// Somebody borrows it, and what was asked for wants it alone.
    #[error("{act} volume `{name}`: in use by {}", users.join(", "))]
    InUse {
        /// What was to be done: `remove`, `clone`, `lend`.
        act: &'static str,
        /// The volume.
        name: String,
        /// The living borrowers, as they named themselves.
        users: Vec<String>,
    },
    /// It never changes again, and was to be written in.
    #[error("volume `{name}`: {what}")]
    Frozen {
        /// The volume.
        name: String,
        /// What can be done instead.
        what: String,
    },
    /// What is stored is not what was written.
    #[error("volume `{name}`: {path:?}: {why}")]
    Corrupt {
        /// The volume.
        name: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The host refused.
    #[error("{act}: {cause}")]
    Host {
        /// What was to be done to what: ``lend volume `db` ``.
        act: String,
        /// The failed call.
        cause: coracle_host::Error,
    },
}

impl Error {
    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Invalid { .. } => Kind::Invalid,
            Error::Unsupported { .. } => Kind::Unsupported,
            Error::NotFound { .. } => Kind::NotFound,
            Error::AlreadyExists { .. } => Kind::AlreadyExists,
            Error::InUse { .. } => Kind::InUse,
            Error::Frozen { .. } => Kind::Denied,
            Error::Corrupt { .. } => Kind::Corrupt,
            Error::Host { cause, .. } => cause.kind(),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Puts the act and the volume before a failed host operation.
pub(crate) trait During<T> {
    fn during(self, act: &str, name: &str) -> Result<T>;
}

impl<T> During<T> for coracle_host::Result<T> {
    fn during(self, act: &str, name: &str) -> Result<T> {
        self.map_err(|cause| Error::Host { act: format!("{act} volume `{name}`"), cause })
    }
}
