//! A software bridge on this host.

use std::os::fd::BorrowedFd;

use super::{BRIDGE, Driver, Seat};
use crate::nft::Table;
use crate::plan::{self, Plan, Target, bridge as planner};
use crate::ports::Published;
use crate::{Kind, Network, NetworkSpec, Result, act, facts};

#[derive(Debug)]
pub(crate) struct Bridge;

impl Bridge {
    /// What is missing for the network to be up, and the MTU that it has or will have.
    ///
    /// Somebody may have flushed all nf_tables of the host; the rules are then part of what is missing.
    fn bring_up(&self, network: &Network) -> Result<(Plan, u32)> {
        let (record, bridge) = (network.record(), plan::bridge_name(network.record()));
        if let Some(mtu) = act::ready(&bridge, network.gateway())? {
            let walled = match Table::open().and_then(|table| table.has(&bridge)) {
                Err(error) if record.internal && error.kind() == Kind::Unsupported => true,
                walled => walled?,
            };
            if walled {
                return Ok((Plan::default(), mtu));
            }
        }
        let host = facts::host(!record.internal, record.has_ipv6())?;
        Ok((planner::bring_up(record, &host), planner::mtu(record, &host)))
    }

    fn steps(&self, network: &Network, seat: &Seat) -> Result<Plan> {
        let (up, mtu) = self.bring_up(network)?;
        Ok(up.then(planner::join(network.record(), seat, mtu)))
    }

    fn opening(&self, network: &Network, seat: &Seat, ports: &[Published]) -> Result<Plan> {
        if ports.is_empty() {
            return Ok(Plan::default());
        }
        let target = Target { ipv4: seat.address, ipv6: seat.ipv6 };
        Ok(planner::publish(network.record(), target, ports, facts::ways_in(ports)?))
    }
}

impl Driver for Bridge {
    fn name(&self) -> &str {
        BRIDGE
    }

    fn problems(&self, spec: &NetworkSpec) -> Vec<String> {
        spec.options.bridge_problems()
    }

    fn claim(&self, network: &Network) -> Option<String> {
        Some(format!("bridge {}", plan::bridge_name(network.record())))
    }

    fn plan(&self, network: &Network, seat: &Seat) -> Result<Plan> {
        self.steps(network, seat)
    }

    /// Of many who come at once, one brings the network up: a change of the rules takes the kernel some milliseconds, and
    /// there is one at a time on a host.
    fn join(&self, network: &Network, seat: &Seat, netns: BorrowedFd<'_>) -> Result<()> {
        let (mut up, mut mtu) = self.bring_up(network)?;
        if !up.is_empty() {
            let _alone = network.bringing_up()?;
            (up, mtu) = self.bring_up(network)?;
            act::perform(&up, None)?;
        }
        act::perform(&planner::join(network.record(), seat, mtu), Some(netns))
    }

    fn publishes(&self) -> bool {
        true
    }

    fn publish(&self, network: &Network, seat: &Seat, ports: &[Published]) -> Result<()> {
        act::perform(&self.opening(network, seat, ports)?, None)
    }

    fn plan_ports(&self, network: &Network, seat: &Seat, ports: &[Published]) -> Result<Plan> {
        self.opening(network, seat, ports)
    }

    fn leave(&self, network: &Network, seat: &Seat, _netns: BorrowedFd<'_>) -> Result<()> {
        act::perform(&planner::leave(network.record(), seat), None)
    }

    fn leave_behind(&self, network: &Network, seat: &Seat, _netns: BorrowedFd<'_>) -> Result<()> {
        act::perform(&planner::leave_behind(network.record(), seat), None)
    }

    fn take_down(&self, network: &Network) -> Result<()> {
        act::perform(&planner::take_down(network.record()), None)
    }

    fn trace(&self, network: &Network) -> Option<String> {
        Some(plan::bridge_name(network.record()))
    }

    fn is_left(&self, network: &Network) -> Result<bool> {
        act::is_left(&plan::bridge_name(network.record()), network.gateway())
    }
}
