//! The part of nf_tables that walls and translation need, spoken directly (include/uapi/linux/netfilter/nf_tables.h).
//!
//! No `nft` program is run and no crate is used: none under a fitting licence knows these messages. What is
//! encoded here is compared byte by byte with what nft(8) sends for the same text; see the tests of [`expr`].

mod docker;
pub(crate) mod expr;
mod inside;
pub(crate) mod message;
mod ports;
pub(crate) mod table;

pub(crate) use inside::lead_to_resolver;
pub(crate) use table::{Removal, Table};
