//! The driver of a network that another program made.

use std::os::fd::BorrowedFd;

use super::{Driver, Seat};
use crate::{Error, Kind, Network, NetworkSpec, Result};

/// A driver that isn't here. Its networks can be looked at, and removed.
#[derive(Debug)]
pub(crate) struct Unknown(pub(crate) String);

impl Unknown {
    fn refusal(&self) -> Error {
        Error::new(Kind::Unsupported, format!("network driver `{}` is unknown here", self.0))
    }
}

impl Driver for Unknown {
    fn name(&self) -> &str {
        &self.0
    }

    fn problems(&self, _spec: &NetworkSpec) -> Vec<String> {
        vec![format!("network driver `{}` is unknown here", self.0)]
    }

    fn join(&self, _: &Network, _: &Seat, _: BorrowedFd<'_>) -> Result<()> {
        Err(self.refusal())
    }

    fn leave(&self, _: &Network, _: &Seat, _: BorrowedFd<'_>) -> Result<()> {
        Ok(())
    }

    fn take_down(&self, _: &Network) -> Result<()> {
        Ok(())
    }

    fn is_left(&self, _: &Network) -> Result<bool> {
        Ok(false)
    }
}
