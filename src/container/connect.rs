//! Networks that a container joins and leaves.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::control::{self, Question};
use super::handle::Container;
use super::record::Record;
use crate::error::{Doing, Error, Result};
use crate::stack::{Attachment, Mode};
use crate::{Kind, Mac};

/// A place in a network, as a value: for [`ContainerSpec::connect`](crate::ContainerSpec::connect), and for one more network
/// of a container that is there ([`Container::connect`]).
#[derive(Clone, Debug)]
pub struct ConnectSpec(Attachment);

impl ConnectSpec {
    /// A place in this network (a [`Network`](crate::Network) or a name).
    pub fn new(network: impl Into<String>) -> ConnectSpec {
        ConnectSpec(Attachment::of(network))
    }

    /// A further name there.
    #[must_use]
    pub fn alias(mut self, alias: impl Into<String>) -> ConnectSpec {
        self.0.aliases.push(alias.into());
        self
    }

    /// This address.
    #[must_use]
    pub fn ip(mut self, address: Ipv4Addr) -> ConnectSpec {
        self.0.address = Some(address);
        self
    }

    /// This IPv6 address.
    #[must_use]
    pub fn ip6(mut self, address: Ipv6Addr) -> ConnectSpec {
        self.0.ipv6 = Some(address);
        self
    }

    /// This hardware address.
    #[must_use]
    pub fn mac(mut self, mac: Mac) -> ConnectSpec {
        self.0.mac = Some(mac);
        self
    }

    /// The name of its interface, 1 to 15 bytes; `eth` and a number unless it is said.
    #[must_use]
    pub fn interface(mut self, name: impl Into<String>) -> ConnectSpec {
        self.0.interface = Some(name.into());
        self
    }

    /// How much it is to be the way out when the container is started, against its other networks; 0 unless it is said.
    /// Of equals it is the first one. One that is joined later is not.
    #[must_use]
    pub fn priority(mut self, priority: i64) -> ConnectSpec {
        self.0.priority = priority;
        self
    }
}

impl From<ConnectSpec> for Attachment {
    fn from(spec: ConnectSpec) -> Attachment {
        spec.0
    }
}

impl Container {
    /// Joins one more network: at once where it runs, and for all further starts.
    ///
    /// # Errors
    /// `NotFound` for a network that is not there; `AlreadyExists` where it is in that network; `Invalid` where it has no
    /// network of its own, or for a bad alias.
    pub fn connect(&mut self, spec: &ConnectSpec) -> Result<()> {
        let attachment = spec.0.clone();
        let name = self.name().to_owned();
        let doing = || format!("connect container `{name}` to network {}", attachment.network);
        let problems = attachment.problems();
        if !problems.is_empty() {
            return Err(Error::new(Kind::Invalid, problems.join("; "))).doing(doing);
        }
        self.engine.0.network(&attachment.network).doing(doing)?;
        let mut record = Record::read(&self.room).doing(doing)?;
        let Mode::Networks(networks) = &mut record.network else {
            return Err(Error::new(
                Kind::Invalid,
                "it has no network of its own that others could be joined beside",
            ))
            .doing(doing);
        };
        if networks.iter().any(|one| one.network == attachment.network) {
            return Err(Error::new(Kind::AlreadyExists, "it is already in that network")).doing(doing);
        }
        networks.push(attachment.clone());
        self.rewire(record, Question::Connect(attachment.clone())).doing(doing)
    }

    /// Leaves a network: at once where it runs, and for all further starts.
    ///
    /// # Errors
    /// `NotFound` where it is not in that network.
    pub fn disconnect(&mut self, network: &str) -> Result<()> {
        let name = self.name().to_owned();
        let doing = || format!("disconnect container `{name}` from network {network}");
        let mut record = Record::read(&self.room).doing(doing)?;
        let missing = || Error::new(Kind::NotFound, "it is not in that network");
        let Mode::Networks(networks) = &mut record.network else { return Err(missing()).doing(doing) };
        let before = networks.len();
        networks.retain(|one| one.network != network);
        if networks.len() == before {
            return Err(missing()).doing(doing);
        }
        self.rewire(record, Question::Disconnect(network.to_owned())).doing(doing)
    }

    fn rewire(&mut self, record: Record, question: Question) -> Result<()> {
        if let Some(reached) = control::ask(&self.room, question)?
            && let Some(failure) = reached.report.failure
        {
            return Err(failure.into());
        }
        record.write(&self.room, &self.engine.0.state.staging)?;
        self.record = Arc::new(record);
        control::ask(&self.room, Question::Reload).map(drop)
    }
}
