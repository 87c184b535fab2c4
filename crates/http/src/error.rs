//! What went wrong between here and a server.

use std::fmt;
use std::io;

use coracle_host::Kind;

/// The result of a request.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A request that came to no answer. It displays as what happened, `connection refused`, without the request: the caller
/// knows which it was, and which part of its URL is nobody's business.
///
/// `Debug` reads like `Display`.
pub struct Error {
    kind: Kind,
    text: String,
    passing: bool,
}

impl Error {
    pub(crate) fn new(kind: Kind, text: impl Into<String>) -> Error {
        Error { kind, text: text.into(), passing: false }
    }

    /// Reading an answer failed.
    pub fn reading(error: &io::Error) -> Error {
        let kind = match error.kind() {
            io::ErrorKind::TimedOut => Kind::Timeout,
            _ => Kind::Failed,
        };
        Error { kind, text: error.to_string(), passing: true }
    }

    /// The class of the failure: `Timeout`, `Invalid` for a URL that is none, `Failed` for what the network comes to.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether asking again may help: the connection was refused, lost or too slow.
    pub fn is_passing(&self) -> bool {
        self.passing
    }
}

impl From<ureq::Error> for Error {
    fn from(error: ureq::Error) -> Error {
        let (kind, passing) = match &error {
            ureq::Error::Timeout(_) => (Kind::Timeout, true),
            // What TLS doesn't like comes as data that are invalid: a certificate won't be better the next time.
            ureq::Error::Io(error) => (Kind::Failed, error.kind() != io::ErrorKind::InvalidData),
            ureq::Error::ConnectionFailed => (Kind::Failed, true),
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => (Kind::Invalid, false),
            _ => (Kind::Failed, false),
        };
        let text = match &error {
            // Without the name of the library's case before it.
            ureq::Error::Io(error) => error.to_string(),
            other => other.to_string(),
        };
        Error { kind, text, passing }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_the_system_said() {
        let refused = Error::from(ureq::Error::Io(io::Error::from_raw_os_error(111)));
        assert_eq!(refused.to_string(), "Connection refused (os error 111)");
        assert!(refused.is_passing() && refused.kind() == Kind::Failed);
        let untrusted = io::Error::new(io::ErrorKind::InvalidData, "invalid peer certificate");
        assert!(!Error::from(ureq::Error::Io(untrusted)).is_passing());
    }
}
