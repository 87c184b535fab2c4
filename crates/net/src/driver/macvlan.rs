//! Interfaces of their own on a network of the host's (macvlan): seen on the wire by their own hardware addresses.
//!
//! The kernel lets nobody on a macvlan talk to the interface below it, so the host itself does not reach them.

use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;

use super::{Driver, MACVLAN, Seat};
use crate::options::{MACVLAN_MODE, MTU, PARENT, mtu_problem};
use crate::plan::{Plan, macvlan as planner};
use crate::{Error, Kind, Mac, Network, NetworkSpec, Result, act, spec};

#[derive(Debug)]
pub(crate) struct Macvlan;

impl Macvlan {
    fn steps(&self, network: &Network, seat: &Seat) -> Result<Plan> {
        let record = network.record();
        let below = planner::Below::of(record);
        let parent = act::link(&below.name)?;
        if parent.is_none() && below.vlan.is_none() {
            let text =
                format!("the interface {} that network `{}` is on is not there", below.name, record.name);
            return Err(Error::new(Kind::NotFound, text));
        }
        Ok(planner::join(record, &below, parent.as_ref(), seat))
    }
}

impl Driver for Macvlan {
    fn name(&self) -> &str {
        MACVLAN
    }

    fn problems(&self, spec: &NetworkSpec) -> Vec<String> {
        let mut problems: Vec<String> =
            spec.options().iter().filter_map(|(key, value)| problem(key, value)).collect();
        if spec.option_value(PARENT).is_none() {
            problems.push("a macvlan network needs option parent, the host's interface that it is on".into());
        }
        problems
    }

    fn is_of_this_host(&self) -> bool {
        false
    }

    fn claim(&self, network: &Network) -> Option<String> {
        Some(format!("parent {}", network.options().get(PARENT)?))
    }

    /// In passthru mode there is one endpoint, which is the interface below.
    fn mac(&self, network: &Network, address: Ipv4Addr) -> Result<Mac> {
        let below = planner::Below::of(network.record());
        if planner::mode(network.record()) != planner::Mode::Passthru {
            return Ok(Mac::of(address));
        }
        let link = match act::link(&below.name)? {
            None => below.vlan.as_ref().map_or(Ok(None), |(parent, _)| act::link(parent))?,
            link => link,
        };
        let missing = || Error::new(Kind::NotFound, format!("the interface {} is not there", below.name));
        link.and_then(|link| link.mac).ok_or_else(missing)
    }

    fn plan(&self, network: &Network, seat: &Seat) -> Result<Plan> {
        self.steps(network, seat)
    }

    fn join(&self, network: &Network, seat: &Seat, netns: BorrowedFd<'_>) -> Result<()> {
        act::perform(&self.steps(network, seat)?, Some(netns))
    }

    fn leave(&self, _network: &Network, seat: &Seat, netns: BorrowedFd<'_>) -> Result<()> {
        act::perform(&planner::leave(seat), Some(netns))
    }

    fn take_down(&self, network: &Network) -> Result<()> {
        act::perform(&planner::take_down(network.record()), None)
    }

    fn trace(&self, network: &Network) -> Option<String> {
        planner::Below::of(network.record()).vlan.map(|_| planner::Below::of(network.record()).name)
    }

    fn is_left(&self, network: &Network) -> Result<bool> {
        let below = planner::Below::of(network.record());
        if below.vlan.is_none() {
            return Ok(false);
        }
        let link = act::link(&below.name)?;
        Ok(link.is_some_and(|link| link.group == planner::group(network.record())))
    }
}

fn problem(key: &str, value: &str) -> Option<String> {
    let wrong = |what: &str| Some(format!("option {key}={value}: {what}"));
    match key {
        PARENT => spec::interface_problem(value).map(|problem| format!("option {key}: {problem}")),
        MACVLAN_MODE => match planner::Mode::read(value) {
            Some(_) => None,
            None => wrong("it is bridge, vepa, private or passthru"),
        },
        MTU => mtu_problem(value).and_then(wrong),
        _ => wrong("macvlan networks have no such option"),
    }
}
