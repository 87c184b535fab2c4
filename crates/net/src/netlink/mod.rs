//! Netlink (netlink(7)): requests out, answers in, the kernel's own explanation on every error.

pub(crate) mod attrs;
pub(crate) mod link;
mod read;
pub(crate) mod socket;

pub(crate) use attrs::{Attrs, attributes};
pub(crate) use socket::{News, Reply, Request, Socket};
