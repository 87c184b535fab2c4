//! What failed: the call, the object, and the kernel's reason.

use std::fmt;

use rustix::io::Errno;

/// The result of host operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The class of a failure, for callers that act on it. Every error type of Coracle has a `kind()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The request itself is wrong; asking again won't help.
    Invalid,
    /// What was named is not there.
    NotFound,
    /// The name is taken.
    AlreadyExists,
    /// Somebody is using it.
    InUse,
    /// The caller may not do this.
    Denied,
    /// This host, kernel or version can't do it.
    Unsupported,
    /// A limit is reached: space, addresses, descriptors, processes.
    Exhausted,
    /// Stored data is not what was written.
    Corrupt,
    /// It took longer than allowed.
    Timeout,
    /// It was cancelled or its owner is gone.
    Interrupted,
    /// A command ran and failed.
    Failed,
    /// Anything else; the message says what.
    Other,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Invalid => "invalid",
            Kind::NotFound => "not found",
            Kind::AlreadyExists => "already exists",
            Kind::InUse => "in use",
            Kind::Denied => "denied",
            Kind::Unsupported => "unsupported",
            Kind::Exhausted => "exhausted",
            Kind::Corrupt => "corrupt",
            Kind::Timeout => "timed out",
            Kind::Interrupted => "interrupted",
            Kind::Failed => "failed",
            Kind::Other => "failed otherwise",
        })
    }
}

impl From<Errno> for Kind {
    fn from(errno: Errno) -> Kind {
        match errno {
            Errno::NOENT | Errno::SRCH | Errno::NODEV | Errno::NXIO => Kind::NotFound,
            Errno::EXIST | Errno::ADDRINUSE => Kind::AlreadyExists,
            Errno::BUSY | Errno::TXTBSY | Errno::NOTEMPTY => Kind::InUse,
            Errno::PERM | Errno::ACCESS | Errno::ROFS => Kind::Denied,
            Errno::NOSYS | Errno::OPNOTSUPP | Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT => Kind::Unsupported,
            Errno::NOSPC | Errno::DQUOT | Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::AGAIN => {
                Kind::Exhausted
            }
            Errno::TIMEDOUT => Kind::Timeout,
            Errno::INTR | Errno::CANCELED => Kind::Interrupted,
            Errno::INVAL | Errno::NOTDIR | Errno::ISDIR | Errno::LOOP | Errno::NAMETOOLONG | Errno::XDEV => {
                Kind::Invalid
            }
            _ => Kind::Other,
        }
    }
}

/// A failed host operation. Displays as `mkdir("/x/y"): Permission denied (os error 13)`.
///
/// `Debug` reads like `Display`: where a test unwraps, this is what people see.
pub struct Error(Box<Inner>);

struct Inner {
    what: String,
    errno: Option<Errno>,
    kind: Kind,
}

impl Error {
    /// A failed system call. `call` names it and its object in strace's manner: `openat("/x", O_RDONLY)`.
    pub fn os(call: impl Into<String>, errno: Errno) -> Error {
        Error(Box::new(Inner { what: call.into(), errno: Some(errno), kind: errno.into() }))
    }

    /// A failure that no system call reported. `what` is the whole sentence.
    pub fn new(kind: Kind, what: impl Into<String>) -> Error {
        Error(Box::new(Inner { what: what.into(), errno: None, kind }))
    }

    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The kernel's error number, where a system call failed.
    pub fn errno(&self) -> Option<Errno> {
        self.0.errno
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.errno {
            Some(errno) => write!(f, "{}: {}", self.0.what, std::io::Error::from(errno)),
            None => f.write_str(&self.0.what),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

/// Puts the name of a call on its error. The closure runs only on failure.
pub trait Call<T> {
    /// `result.call(|| format!("mkdir({path:?})"))`
    ///
    /// # Errors
    /// The error of `self`, with the call named.
    fn call<S: Into<String>>(self, call: impl FnOnce() -> S) -> Result<T>;
}

impl<T> Call<T> for std::result::Result<T, Errno> {
    fn call<S: Into<String>>(self, call: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|errno| Error::os(call(), errno))
    }
}

impl<T> Call<T> for std::io::Result<T> {
    fn call<S: Into<String>>(self, call: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| match Errno::from_io_error(&error) {
            Some(errno) => Error::os(call(), errno),
            None => Error::new(kind_of(&error), format!("{}: {error}", call().into())),
        })
    }
}

fn kind_of(error: &std::io::Error) -> Kind {
    use std::io::ErrorKind as Io;
    match error.kind() {
        Io::NotFound => Kind::NotFound,
        Io::AlreadyExists => Kind::AlreadyExists,
        Io::PermissionDenied => Kind::Denied,
        Io::InvalidData | Io::UnexpectedEof => Kind::Corrupt,
        Io::InvalidInput => Kind::Invalid,
        Io::StorageFull | Io::OutOfMemory => Kind::Exhausted,
        Io::TimedOut => Kind::Timeout,
        Io::Interrupted => Kind::Interrupted,
        Io::Unsupported => Kind::Unsupported,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_like_strace() {
        let error = Error::os("mkdir(\"/x/y\")", Errno::ACCESS);
        assert_eq!(error.to_string(), "mkdir(\"/x/y\"): Permission denied (os error 13)");
        assert_eq!(format!("{error:?}"), error.to_string());
        assert_eq!(error.kind(), Kind::Denied);
    }

    #[test]
    fn io_errors_keep_their_number() {
        let result = std::fs::read("/nonexistent/file").call(|| "read(\"/nonexistent/file\")");
        assert_eq!(result.unwrap_err().errno(), Some(Errno::NOENT));
    }
}
