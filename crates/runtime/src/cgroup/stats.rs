//! What a group uses.

use std::path::Path;
use std::time::Duration;

use super::{Cgroup, Version, details, read};
use crate::error::{Doing, Result};

/// Figures of a group and those below it, as `docker stats` shows. What the group's hierarchies don't count is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Processor time.
    pub cpu: Option<CpuStats>,
    /// Memory.
    pub memory: Option<MemoryStats>,
    /// Processes and threads.
    pub pids: Option<PidsStats>,
    /// Block devices.
    pub io: Option<IoStats>,
}

/// Processor time since the group was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CpuStats {
    /// All of it, of all processors together.
    pub total: Duration,
    /// In user space. Most kernels count this and [`system`](Self::system) by ticks of some milliseconds, so that the two
    /// need not make the total.
    pub user: Duration,
    /// In the kernel.
    pub system: Duration,
    /// What the limit did, where the group is in the `cpu` controller.
    pub throttling: Option<Throttling>,
}

/// What a limit of processor time did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Throttling {
    /// Periods in which the group could run.
    pub periods: u64,
    /// Periods in which it used up its quota.
    pub throttled: u64,
    /// How long it was held up, all processors together.
    pub time: Duration,
}

/// Memory, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryStats {
    /// All of it, the page cache included.
    pub usage: u64,
    /// The most that it was; `None` before Linux 5.19 in version 2.
    pub max_usage: Option<u64>,
    /// What it may be; `None` for no limit.
    pub limit: Option<u64>,
    /// The page cache's part.
    pub cache: u64,
    /// The part of the cache that was not used lately.
    pub inactive_file: u64,
    /// Swap; `None` where it is not accounted.
    pub swap: Option<u64>,
    /// How often the limit, or that of memory and swap together, was met. Linux 6.18 doesn't count that in version 1.
    pub limit_hits: u64,
    /// How many processes were killed for want of memory.
    pub oom_kills: u64,
}

impl MemoryStats {
    /// What `docker stats` shows as usage: without the cache that can be given back at once.
    pub fn working_set(&self) -> u64 {
        self.usage.saturating_sub(self.inactive_file)
    }
}

/// Processes and threads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PidsStats {
    /// How many there are.
    pub current: u64,
    /// How many there may be; `None` for no limit.
    pub limit: Option<u64>,
}

/// What was read from and written to block devices, by number of operations and bytes, all devices together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the names say it")]
pub struct IoStats {
    pub read_bytes: u64,
    pub write_bytes: u64,
    pub reads: u64,
    pub writes: u64,
}

impl Cgroup {
    /// The figures of this moment.
    ///
    /// # Errors
    /// As of read(2).
    pub fn stats(&self) -> Result<Stats> {
        self.figures().doing(|| format!("read the figures of the control group {}", self.place))
    }

    /// How many of its processes were killed for want of memory, since it was made.
    ///
    /// # Errors
    /// As of read(2). Without the `memory` controller it is 0.
    pub fn oom_kills(&self) -> Result<u64> {
        let count = self.at("memory").map_or(Ok(0), |(dir, version)| oom_kills(dir, version));
        count.doing(|| format!("read the events of the control group {}", self.place))
    }

    fn figures(&self) -> coracle_host::Result<Stats> {
        let mut stats = Stats::default();
        let unified = self.main().filter(|group| group.hierarchy.version == Version::V2);
        stats.cpu = match (self.at("cpuacct"), unified) {
            (Some((dir, _)), _) => Some(cpu_v1(dir, self.at("cpu").map(|(dir, _)| dir))?),
            // Also without the `cpu` controller.
            (None, Some(group)) => cpu_v2(&group.dir)?,
            (None, None) => None,
        };
        stats.memory = match self.at("memory") {
            Some((dir, Version::V1)) => Some(memory_v1(dir)?),
            Some((dir, Version::V2)) => memory_v2(dir)?,
            None => None,
        };
        if let Some((dir, _)) = self.at("pids") {
            let limit = read::number(&dir.join("pids.max"))?;
            stats.pids = read::number(&dir.join("pids.current"))?.map(|current| PidsStats { current, limit });
        }
        stats.io = self.block_devices()?.as_ref().map(details::total);
        Ok(stats)
    }
}

pub(super) fn oom_kills(dir: &Path, version: Version) -> coracle_host::Result<u64> {
    let file = if version == Version::V1 { "memory.oom_control" } else { "memory.events" };
    Ok(read::table(&dir.join(file))?.get("oom_kill").copied().unwrap_or(0))
}

fn cpu_v1(dir: &Path, cpu: Option<&Path>) -> coracle_host::Result<CpuStats> {
    let time = |file: &str| Ok(Duration::from_nanos(read::number(&dir.join(file))?.unwrap_or(0)));
    let throttling = cpu.map(|cpu| read::table(&cpu.join("cpu.stat"))).transpose()?;
    let throttling = throttling.map(|table| {
        let of = |key: &str| table.get(key).copied().unwrap_or(0);
        let time = Duration::from_nanos(of("throttled_time"));
        Throttling { periods: of("nr_periods"), throttled: of("nr_throttled"), time }
    });
    let (user, system) = (time("cpuacct.usage_user")?, time("cpuacct.usage_sys")?);
    Ok(CpuStats { total: time("cpuacct.usage")?, user, system, throttling })
}

fn cpu_v2(dir: &Path) -> coracle_host::Result<Option<CpuStats>> {
    let table = read::table(&dir.join("cpu.stat"))?;
    let time = |key: &str| Duration::from_micros(table.get(key).copied().unwrap_or(0));
    let throttling = table.get("nr_periods").map(|periods| Throttling {
        periods: *periods,
        throttled: table.get("nr_throttled").copied().unwrap_or(0),
        time: time("throttled_usec"),
    });
    let found = CpuStats {
        total: time("usage_usec"),
        user: time("user_usec"),
        system: time("system_usec"),
        throttling,
    };
    Ok(table.contains_key("usage_usec").then_some(found))
}

fn memory_v1(dir: &Path) -> coracle_host::Result<MemoryStats> {
    let number = |file: &str| read::number(&dir.join(file));
    let table = read::table(&dir.join("memory.stat"))?;
    let of = |key: &str| table.get(key).copied().unwrap_or(0);
    let usage = number("memory.usage_in_bytes")?.unwrap_or(0);
    let both = number("memory.memsw.usage_in_bytes")?;
    let hits = [number("memory.failcnt")?, number("memory.memsw.failcnt")?];
    Ok(MemoryStats {
        usage,
        max_usage: number("memory.max_usage_in_bytes")?,
        limit: number("memory.limit_in_bytes")?,
        cache: of("total_cache"),
        inactive_file: of("total_inactive_file"),
        swap: both.map(|both| both.saturating_sub(usage)),
        limit_hits: hits.iter().flatten().sum(),
        oom_kills: oom_kills(dir, Version::V1)?,
    })
}

fn memory_v2(dir: &Path) -> coracle_host::Result<Option<MemoryStats>> {
    let number = |file: &str| read::number(&dir.join(file));
    let Some(usage) = number("memory.current")? else { return Ok(None) };
    let (table, events) = (read::table(&dir.join("memory.stat"))?, read::table(&dir.join("memory.events"))?);
    let of = |key: &str| table.get(key).copied().unwrap_or(0);
    Ok(Some(MemoryStats {
        usage,
        max_usage: number("memory.peak")?,
        limit: number("memory.max")?,
        cache: of("file"),
        inactive_file: of("inactive_file"),
        swap: number("memory.swap.current")?,
        limit_hits: events.get("max").copied().unwrap_or(0),
        oom_kills: events.get("oom_kill").copied().unwrap_or(0),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_working_set_is_without_cold_cache() {
        let memory = MemoryStats { usage: 10, inactive_file: 4, ..MemoryStats::default() };
        assert_eq!(memory.working_set(), 6);
        assert_eq!(MemoryStats { inactive_file: 1, ..MemoryStats::default() }.working_set(), 0);
    }
}
