//! Networks that go with a value, or with the process that had it.

use std::ops::Deref;

use coracle_host::Lock;

use crate::{Network, Networks};

/// Held by who made the network, as long as it shall be there.
pub(crate) const OWNER: &str = "owner";

/// A network that goes with this value, as soon as nobody is on it. When the process is killed, whoever looks for it next
/// removes it, and [`Networks::reclaim`] does.
///
/// It is a [`Network`] like others meanwhile, for all programs. Drop it on a thread of the namespace that it is in.
#[must_use = "the network goes with this value"]
#[derive(Debug)]
pub struct Ephemeral {
    network: Network,
    networks: Networks,
    owner: Option<Lock>,
}

impl Ephemeral {
    pub(crate) fn new(network: Network, networks: Networks, owner: Option<Lock>) -> Ephemeral {
        Ephemeral { network, networks, owner }
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.network
    }
}

impl Deref for Ephemeral {
    type Target = Network;

    fn deref(&self) -> &Network {
        &self.network
    }
}

impl Drop for Ephemeral {
    fn drop(&mut self) {
        // Not only dropped: a program that is being started at this moment has a copy until it executes.
        if let Some(owner) = self.owner.take() {
            owner.release();
        }
        // Who is still on it keeps it; the next one who looks removes it.
        let _ = self.networks.find(self.network.name());
    }
}
