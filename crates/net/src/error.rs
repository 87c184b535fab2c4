//! What failed, in one sentence: the call and the object innermost, one verb phrase for each layer around it.

use std::fmt;

pub use coracle_host::Kind;
use rustix::io::Errno;

/// The result of network operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed network operation.
///
/// Displays as ``join network `web`: newlink(cor-1a2b3c4d, bridge): File exists (os error 17)``, with the kernel's
/// own explanation (netlink's extended acknowledgement) behind it where there is one. `Debug` reads the same.
pub struct Error(Box<Inner>);

struct Inner {
    text: String,
    kind: Kind,
    errno: Option<Errno>,
}

impl Error {
    pub(crate) fn new(kind: Kind, text: impl Into<String>) -> Error {
        Error(Box::new(Inner { text: text.into(), kind, errno: None }))
    }

    pub(crate) fn os(call: impl fmt::Display, errno: Errno) -> Error {
        let text = format!("{call}: {}", std::io::Error::from(errno));
        Error(Box::new(Inner { text, kind: kind_of(errno), errno: Some(errno) }))
    }

    /// The same failure with what the kernel said about it.
    pub(crate) fn explained(mut self, message: Option<&str>) -> Error {
        if let Some(message) = message.filter(|text| !text.is_empty()) {
            self.0.text.push_str(&format!(" ({message})"));
        }
        self
    }

    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The kernel's error number, where a call failed.
    pub fn errno(&self) -> Option<Errno> {
        self.0.errno
    }
}

/// As the host crate has it, but for what only netlink says.
fn kind_of(errno: Errno) -> Kind {
    match errno {
        Errno::ADDRNOTAVAIL | Errno::NETDOWN | Errno::NETUNREACH => Kind::Other,
        errno => errno.into(),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

impl From<coracle_host::Error> for Error {
    fn from(error: coracle_host::Error) -> Error {
        Error(Box::new(Inner { text: error.to_string(), kind: error.kind(), errno: error.errno() }))
    }
}

/// Puts one verb phrase in front of an error. The closure runs only on failure.
pub(crate) trait Doing<T> {
    fn doing<S: fmt::Display>(self, phrase: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<Error>> Doing<T> for Result<T, E> {
    fn doing<S: fmt::Display>(self, phrase: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| {
            let mut error = error.into();
            error.0.text = format!("{}: {}", phrase(), error.0.text);
            error
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_from_the_outside_in() {
        let error =
            Err::<(), _>(Error::os("newlink(cor-1, bridge)", Errno::EXIST).explained(Some("name taken")))
                .doing(|| "join network `web`")
                .unwrap_err();
        assert_eq!(
            format!("{error:?}"),
            "join network `web`: newlink(cor-1, bridge): File exists (os error 17) (name taken)"
        );
        assert_eq!(error.kind(), Kind::AlreadyExists);
    }
}
