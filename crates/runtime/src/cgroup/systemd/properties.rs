//! What is written to files of version 2 becomes properties of a unit (systemd.resource-control(5)): systemd has to know it,
//! or would write its own values over it whenever it reads its configuration again.

use super::value::{Property, Value};

/// No limit.
const INFINITY: u64 = u64::MAX;
/// The kernel's own, where `cpu.max` names none: microseconds.
const PERIOD: u64 = 100_000;

/// What systemd calls it. Nothing for a file that it knows nothing of, and so leaves alone.
pub(super) fn of(file: &str, value: &str) -> Vec<Property> {
    let number = || if value == "max" { Some(INFINITY) } else { value.parse().ok() };
    let (name, value) = match file {
        "cpu.max" => return quota(value),
        "cpu.weight" => ("CPUWeight", number().map(Value::U64)),
        "cpuset.cpus" => ("AllowedCPUs", set(value).map(Value::Bytes)),
        "cpuset.mems" => ("AllowedMemoryNodes", set(value).map(Value::Bytes)),
        "io.weight" => ("IOWeight", number().map(Value::U64)),
        "memory.max" => ("MemoryMax", number().map(Value::U64)),
        "memory.high" => ("MemoryHigh", number().map(Value::U64)),
        "memory.low" => ("MemoryLow", number().map(Value::U64)),
        "memory.min" => ("MemoryMin", number().map(Value::U64)),
        "memory.swap.max" => ("MemorySwapMax", number().map(Value::U64)),
        "pids.max" => ("TasksMax", number().map(Value::U64)),
        _ => return Vec::new(),
    };
    value.map(|value| (name.to_owned(), value)).into_iter().collect()
}

/// `cpu.max`: microseconds in a period, which systemd counts by the second, in steps of 10 ms.
fn quota(value: &str) -> Vec<Property> {
    const STEP: u64 = 10_000;
    let mut words = value.split_whitespace();
    let quota = words.next().unwrap_or_default();
    let period = words.next().and_then(|period| period.parse().ok()).filter(|period| *period != 0);
    let per_second = match quota.parse::<u64>() {
        Ok(quota) => {
            let exact = u128::from(quota) * 1_000_000 / u128::from(period.unwrap_or(PERIOD));
            u64::try_from(exact).unwrap_or(INFINITY - STEP).next_multiple_of(STEP)
        }
        Err(_) => INFINITY,
    };
    [("CPUQuotaPerSecUSec", Some(per_second)), ("CPUQuotaPeriodUSec", period)]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), Value::U64(value?))))
        .collect()
}

/// A list such as `0-2,7` as bits, the lowest first. Where it is none the kernel says so.
fn set(list: &str) -> Option<Vec<u8>> {
    let mut bits = Vec::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u16, u16) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        for bit in first..=last {
            let at = usize::from(bit / 8);
            if bits.len() <= at {
                bits.resize(at + 1, 0);
            }
            bits[at] |= 1 << (bit % 8);
        }
    }
    Some(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(file: &str, value: &str) -> String {
        let all = of(file, value);
        all.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn files_and_properties() {
        for (file, value, property) in [
            ("memory.max", "67108864", "MemoryMax=67108864"),
            ("memory.swap.max", "max", "MemorySwapMax=infinity"),
            ("pids.max", "64", "TasksMax=64"),
            ("cpu.weight", "59", "CPUWeight=59"),
            ("cpu.max", "50000 100000", "CPUQuotaPerSecUSec=500000 CPUQuotaPeriodUSec=100000"),
            ("cpu.max", "12345", "CPUQuotaPerSecUSec=130000"),
            ("cpu.max", "max 20000", "CPUQuotaPerSecUSec=infinity CPUQuotaPeriodUSec=20000"),
            ("cpuset.cpus", "0-1,9", "AllowedCPUs=0x0203"),
            ("cpuset.mems", "0", "AllowedMemoryNodes=0x01"),
            ("cpuset.cpus", "0-9999999", ""),
            ("io.weight", "8:0 100", ""),
            ("hugetlb.2MB.max", "0", ""),
        ] {
            assert_eq!(printed(file, value), property, "{file} {value}");
        }
    }
}
