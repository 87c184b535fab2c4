//! A network's directory as a source of names.

use std::net::IpAddr;

use super::Names;
use crate::lease::Book;
use crate::{Result, Subnet};

/// The names of one network, as they are at the moment of each question. Comes from [`crate::Network::zone`].
#[derive(Clone, Debug)]
pub struct Zone {
    network: String,
    subnets: Vec<Subnet>,
    book: Book,
}

impl Zone {
    pub(crate) fn new(network: &str, subnets: Vec<Subnet>, book: Book) -> Zone {
        Zone { network: network.into(), subnets, book }
    }
}

impl Names for Zone {
    fn network(&self) -> &str {
        &self.network
    }

    fn owns(&self, address: IpAddr) -> bool {
        self.subnets.iter().any(|subnet| subnet.contains(address))
    }

    fn addresses(&self, name: &str) -> Result<Vec<IpAddr>> {
        // What can't be a name of ours can't be a file name either.
        match crate::spec::name_problem("name", name, 253) {
            Some(_) => Ok(Vec::new()),
            None => self.book.find(name),
        }
    }

    fn name_of(&self, address: IpAddr) -> Result<Option<String>> {
        Ok(self.book.holder(address)?.and_then(|holder| holder.names.into_iter().next()))
    }
}
