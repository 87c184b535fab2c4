//! Processor time and processors (config-linux.md, "CPU").

use oci_spec::runtime::LinuxResources;

use super::Version;
use super::settings::Settings;

pub(super) fn settings(resources: &LinuxResources, out: &mut Settings<'_>) {
    let Some(cpu) = resources.cpu() else { return };
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0)
        && let Some(home) = out.home("cpu", "cpu.shares")
    {
        match home.version {
            Version::V1 => out.write(home, "cpu.shares", shares, "cpu.shares"),
            Version::V2 => out.write(home, "cpu.weight", weight(shares), "cpu.shares"),
        }
    }
    bandwidth(cpu.quota(), cpu.period(), cpu.burst(), out);
    realtime(cpu.realtime_period(), cpu.realtime_runtime(), out);
    if let Some(idle) = cpu.idle()
        && let Some(home) = out.home("cpu", "cpu.idle")
    {
        if (0..=1).contains(&idle) {
            out.write(home, "cpu.idle", idle, "cpu.idle");
        } else {
            out.invalid("cpu.idle", "must be 0 or 1");
        }
    }
    for (list, file, setting) in
        [(cpu.cpus(), "cpuset.cpus", "cpu.cpus"), (cpu.mems(), "cpuset.mems", "cpu.mems")]
    {
        let Some(list) = list.as_deref().filter(|list| !list.is_empty()) else { continue };
        if !list.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b',' | b':' | b'/' | b' '))
        {
            out.invalid(setting, &format!("{list:?} is no list of numbers and ranges"));
        } else if let Some(home) = out.home("cpuset", setting) {
            out.write(home, file, list, setting);
        }
    }
}

/// The bandwidth of CFS: `quota` µs (negative: any) in each `period`, and `burst` more of what was not used before.
fn bandwidth(quota: Option<i64>, period: Option<u64>, burst: Option<u64>, out: &mut Settings<'_>) {
    let quota = quota.filter(|quota| *quota != 0);
    let period = period.filter(|period| *period != 0);
    let setting = if quota.is_some() { "cpu.quota" } else { "cpu.period" };
    if (quota.is_some() || period.is_some())
        && let Some(home) = out.home("cpu", setting)
    {
        match home.version {
            Version::V1 => {
                if let Some(period) = period {
                    out.write_again(home, "cpu.cfs_period_us", period, "cpu.period");
                }
                if let Some(quota) = quota {
                    out.write_again(home, "cpu.cfs_quota_us", quota.max(-1), "cpu.quota");
                }
            }
            Version::V2 => {
                let kept = out.live.and_then(|live| live.quota.clone()).unwrap_or_else(|| "max".to_owned());
                let quota = quota.map_or(kept, |quota| super::settings::limit(quota, home.version));
                let value = period.map_or_else(|| quota.clone(), |period| format!("{quota} {period}"));
                out.write_again(home, "cpu.max", value, setting);
            }
        }
    }
    if let Some(burst) = burst
        && let Some(home) = out.home("cpu", "cpu.burst")
    {
        let file = if home.version == Version::V1 { "cpu.cfs_burst_us" } else { "cpu.max.burst" };
        out.write_again(home, file, burst, "cpu.burst");
    }
}

fn realtime(period: Option<u64>, runtime: Option<i64>, out: &mut Settings<'_>) {
    let period = period.filter(|period| *period != 0).map(|period| period.to_string());
    let runtime = runtime.filter(|runtime| *runtime != 0).map(|runtime| runtime.to_string());
    for (value, file, setting) in [
        (period, "cpu.rt_period_us", "cpu.realtimePeriod"),
        (runtime, "cpu.rt_runtime_us", "cpu.realtimeRuntime"),
    ] {
        let Some(value) = value else { continue };
        match out.home("cpu", setting) {
            Some(home) if home.version == Version::V1 => out.write_again(home, file, value, setting),
            Some(_) => out.only_v1(setting),
            None => {}
        }
    }
}

/// Shares of version 1 (2 to 262144, usually 1024) as a weight of version 2 (1 to 10000, usually 100). The curve meets
/// both ends and the usual values, as that of runc since 1.4 and crun since 1.24 does; the straight line that was there
/// before made 39 of 1024.
pub(super) fn weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            (10f64.powf(exponent).ceil() as u64).clamp(1, 10_000)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::weight;

    #[test]
    fn usual_shares_are_the_usual_weight() {
        assert_eq!([0, 2, 1024, 262_144, u64::MAX].map(weight), [1, 1, 100, 10_000, 10_000]);
        let all: Vec<u64> = (2..=262_144).step_by(97).map(weight).collect();
        assert!(all.is_sorted() && all.iter().all(|weight| (1..=10_000).contains(weight)));
    }
}
