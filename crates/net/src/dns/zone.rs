//! A network's directory as a source of names.

use std::net::Ipv4Addr;

use super::Names;
use crate::lease::Book;
use crate::{Result, Subnet};

/// The names of one network, as they are at the moment of each question. Comes from [`crate::Network::zone`].
#[derive(Clone, Debug)]
pub struct Zone {
    network: String,
    subnet: Subnet,
    book: Book,
}

impl Zone {
    pub(crate) fn new(network: &str, subnet: Subnet, book: Book) -> Zone {
        Zone { network: network.into(), subnet, book }
    }
}

impl Names for Zone {
    fn network(&self) -> &str {
        &self.network
    }

    fn owns(&self, address: Ipv4Addr) -> bool {
        self.subnet.contains(address)
    }

    fn addresses(&self, name: &str) -> Result<Vec<Ipv4Addr>> {
        // What can't be a name of ours can't be a file name either.
        match crate::spec::name_problem("name", name, 253) {
            Some(_) => Ok(Vec::new()),
            None => self.book.find(name),
        }
    }

    fn name_of(&self, address: Ipv4Addr) -> Result<Option<String>> {
        Ok(self.book.holder(address)?.and_then(|holder| holder.names.into_iter().next()))
    }
}
