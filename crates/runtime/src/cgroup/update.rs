//! New resources for a group that is there.

use std::fs;

use oci_spec::runtime::LinuxResources;

use super::act::Made;
use super::settings::Live;
use super::{Cgroup, Hierarchies, Plan, Version, read};
use crate::error::{Doing, Result};

impl Cgroup {
    /// What an update would do. In version 1 that can be to make it in further hierarchies.
    ///
    /// # Errors
    /// As of [`Plan::new`], and of reading what is set now.
    pub fn plan_update(&self, resources: &LinuxResources, host: &Hierarchies) -> Result<Plan> {
        let live = self.live().doing(|| self.updating())?;
        Plan::update(&self.place, resources, host, &self.groups, &live)
    }

    /// Applies resources to the living group. What they don't mention stays as it is; `devices` replaces the whole list.
    ///
    /// # Errors
    /// As of [`plan_update`](Self::plan_update), `InUse` where memory was to be checked and is not enough, and as of
    /// the write that the kernel refused. What was written before that stays: an update is no transaction.
    pub fn update(&mut self, resources: &LinuxResources, host: &Hierarchies) -> Result<()> {
        let plan = self.plan_update(resources, host)?;
        let mut made = Made::default();
        plan.act(true, &mut made)?;
        if !plan.groups.is_empty() {
            self.move_into(&plan)?;
        }
        made.stay();
        self.groups.extend(plan.groups);
        Ok(())
    }

    /// Moves all processes into further hierarchies; they are stopped meanwhile, so that none is created that stays behind.
    fn move_into(&self, plan: &Plan) -> Result<()> {
        let stop = self.at("freezer").is_some() && !self.is_frozen()?;
        if stop {
            self.freeze()?;
        }
        let moved = self.processes().and_then(|pids| {
            for (pid, group) in pids.iter().flat_map(|pid| plan.groups.iter().map(move |group| (pid, group)))
            {
                let path = group.dir.join("cgroup.procs");
                match super::act::write(&path, &pid.to_string()) {
                    // It has ended: in version 1 a stopped one can't, but where there is no freezer it may.
                    Err(error) if error.errno() == Some(rustix::io::Errno::SRCH) => {}
                    other => other.doing(|| self.updating())?,
                }
            }
            Ok(())
        });
        let thawed = if stop { self.thaw() } else { Ok(()) };
        moved.and(thawed)
    }

    fn updating(&self) -> String {
        format!("update the control group {}", self.place)
    }

    /// What new values are computed from.
    fn live(&self) -> coracle_host::Result<Live> {
        let mut live = Live::default();
        if let Some((dir, Version::V2)) = self.at("memory") {
            let limit = read::number(&dir.join("memory.max"))?;
            live.memory_limit = Some(limit.and_then(|limit| i64::try_from(limit).ok()).unwrap_or(-1));
        }
        if let Some((dir, Version::V2)) = self.at("cpu") {
            let max = read::optional(&dir.join("cpu.max"))?.unwrap_or_default();
            live.quota = max.split_whitespace().next().map(str::to_owned);
        }
        if let Some((dir, Version::V1)) = self.at("devices") {
            live.devices = fs::read_to_string(dir.join("devices.list")).ok();
        }
        Ok(live)
    }
}
