//! Figures of a container, as JSON in runc's shape: what is not counted is left out.

use std::time::Duration;

use coracle_runtime::cgroup::{Cgroup, CpuStats, IoStats, MemoryStats};
use serde_json::{Map, Value, json};

use crate::error::Result;

/// All that is known of its control group.
pub(crate) fn figures(group: &Cgroup) -> Result<Value> {
    let stats = group.stats()?;
    let mut data = json!({});
    if let Some(all) = stats.cpu {
        data["cpu"] = cpu(&all);
    }
    if let Some(all) = stats.memory {
        data["memory"] = memory(&all);
        data["memory"]["raw"] = json!(group.memory_details()?);
    }
    if let Some(pids) = stats.pids {
        data["pids"] = json!({ "current": pids.current, "limit": pids.limit.unwrap_or_default() });
    }
    let devices = group.io_by_device()?;
    let entries = |read: fn(&IoStats) -> u64, write: fn(&IoStats) -> u64| {
        let entry = |(device, io): (&(u32, u32), &IoStats)| {
            let entry = |op, value| json!({ "major": device.0, "minor": device.1, "op": op, "value": value });
            [entry("Read", read(io)), entry("Write", write(io))]
        };
        devices.iter().flat_map(entry).collect::<Vec<Value>>()
    };
    data["blkio"] = json!({});
    if !devices.is_empty() {
        data["blkio"]["ioServiceBytesRecursive"] = entries(|io| io.read_bytes, |io| io.write_bytes).into();
        data["blkio"]["ioServicedRecursive"] = entries(|io| io.reads, |io| io.writes).into();
    }
    let pages = group.huge_pages()?.into_iter().map(|(size, pages)| {
        let usage = json!({ "usage": pages.usage, "max": pages.max_usage.unwrap_or_default(), "failcnt": pages.limit_hits });
        (size, usage)
    });
    data["hugetlb"] = pages.collect::<Map<_, _>>().into();
    Ok(data)
}

fn cpu(cpu: &CpuStats) -> Value {
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let usage = json!({
        "total": nanoseconds(cpu.total), "user": nanoseconds(cpu.user), "kernel": nanoseconds(cpu.system),
    });
    let throttling = cpu.throttling.as_ref().map(|throttling| {
        json!({
            "periods": throttling.periods, "throttledPeriods": throttling.throttled,
            "throttledTime": nanoseconds(throttling.time),
        })
    });
    json!({ "usage": usage, "throttling": throttling.unwrap_or_else(|| json!({})) })
}

/// No limit is the largest number there is, as runc has it for version 2.
fn memory(memory: &MemoryStats) -> Value {
    let limit = memory.limit.unwrap_or(u64::MAX);
    let mut all = json!({ "cache": memory.cache, "usage": {
        "usage": memory.usage, "max": memory.max_usage.unwrap_or_default(), "limit": limit,
        "failcnt": memory.limit_hits,
    } });
    // Both together, as runc has it.
    if let Some(swap) = memory.swap {
        all["swap"] = json!({ "usage": memory.usage + swap });
    }
    all
}
