//! Memory (config-linux.md, "Memory").

use oci_spec::runtime::{LinuxMemory, LinuxResources};

use super::Version;
use super::settings::{Home, Settings, Want, limit};

pub(super) fn settings(resources: &LinuxResources, out: &mut Settings<'_>) {
    let Some(memory) = resources.memory() else { return };
    let number = |value: Option<i64>| value.filter(|value| *value != 0);
    limits(number(memory.limit()), number(memory.swap()), memory.check_before_update(), out);
    if let Some(bytes) = number(memory.reservation())
        && let Some(home) = out.home("memory", "memory.reservation")
    {
        let file = if home.version == Version::V1 { "memory.soft_limit_in_bytes" } else { "memory.low" };
        out.write(home, file, limit(bytes, home.version), "memory.reservation");
    }
    old(memory, out);
    if let Some(swappiness) = memory.swappiness() {
        if swappiness > 100 {
            out.invalid("memory.swappiness", "must be from 0 to 100");
        } else if let Some(home) = v1("memory.swappiness", out) {
            out.write(home, "memory.swappiness", swappiness, "memory.swappiness");
        }
    }
    if let Some(disable) = memory.disable_oom_killer() {
        let setting = "memory.disableOOMKiller";
        match out.home("memory", setting) {
            Some(home) if home.version == Version::V1 => {
                out.write(home, "memory.oom_control", u8::from(disable), setting);
            }
            Some(_) if disable => out.only_v1(setting),
            _ => {}
        }
    }
    if let Some(hierarchy) = memory.use_hierarchy() {
        let setting = "memory.useHierarchy";
        match out.home("memory", setting) {
            Some(home) if home.version == Version::V1 => {
                out.write(home, "memory.use_hierarchy", u8::from(hierarchy), setting);
            }
            Some(_) if !hierarchy => out.unsupported(setting, "cgroup v2 always accounts hierarchically"),
            _ => {}
        }
    }
}

/// `limit` is memory, `swap` memory and swap together, as version 1 counts; version 2 counts swap alone.
fn limits(memory: Option<i64>, swap: Option<i64>, check: Option<bool>, out: &mut Settings<'_>) {
    if let (Some(memory @ 0..), Some(swap @ 0..)) = (memory, swap)
        && swap < memory
    {
        out.invalid("memory.swap", "is memory and swap together, and so can't be less than memory.limit");
        return;
    }
    // Without a limit of memory, none of both together is left from before.
    let swap = if memory == Some(-1) { swap.or(Some(-1)) } else { swap };
    if let Some(bytes) = memory
        && let Some(home) = out.home("memory", "memory.limit")
    {
        if let (Some(true), Some(_), Ok(bytes)) = (check, out.live, u64::try_from(bytes)) {
            let file = if home.version == Version::V1 { "memory.usage_in_bytes" } else { "memory.current" };
            let setting = "memory.checkBeforeUpdate".to_owned();
            out.wants.push(Want::Below { home: home.index, file, limit: bytes, setting });
        }
        let file = if home.version == Version::V1 { "memory.limit_in_bytes" } else { "memory.max" };
        out.write_again(home, file, limit(bytes, home.version), "memory.limit");
    }
    let Some(both) = swap else { return };
    let Some(home) = out.home("memory", "memory.swap") else { return };
    if home.version == Version::V1 {
        out.write_again(home, "memory.memsw.limit_in_bytes", limit(both, home.version), "memory.swap");
        return;
    }
    let memory = memory.or_else(|| out.live.and_then(|live| live.memory_limit));
    match (both, memory) {
        (..0, _) => out.write(home, "memory.swap.max", "max", "memory.swap"),
        (both, Some(memory @ 0..)) if both >= memory => {
            out.write(home, "memory.swap.max", both - memory, "memory.swap");
        }
        (_, Some(0..)) => {
            out.invalid("memory.swap", "is memory and swap together, and so can't be less than memory.limit");
        }
        _ => out.invalid("memory.swap", "is memory and swap together, and so needs a memory.limit"),
    }
}

/// Limits that the kernel has given up.
fn old(memory: &LinuxMemory, out: &mut Settings<'_>) {
    for (bytes, file, setting) in [
        (memory.kernel(), "memory.kmem.limit_in_bytes", "memory.kernel"),
        (memory.kernel_tcp(), "memory.kmem.tcp.limit_in_bytes", "memory.kernelTCP"),
    ] {
        if let Some(bytes) = bytes.filter(|bytes| *bytes != 0)
            && let Some(home) = v1(setting, out)
        {
            out.write(home, file, limit(bytes, home.version), setting);
        }
    }
}

/// The home of a setting that only version 1 has.
fn v1(setting: &str, out: &mut Settings<'_>) -> Option<Home<'static>> {
    let home = out.home("memory", setting)?;
    if home.version == Version::V2 {
        out.only_v1(setting);
        return None;
    }
    Some(home)
}
