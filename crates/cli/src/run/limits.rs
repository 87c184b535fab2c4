//! The flags of `run` and `create` that limit what a container uses.

use std::collections::BTreeMap;

use coracle::{ContainerSpec, Limits, Throttle};

use crate::fail::Fail;
use crate::quantity::{bytes, bytes_or_all, cpus, integer, short};

#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Flags {
    /// Block IO (relative weight), between 10 and 1000, or 0 to disable
    #[arg(long, value_name = "WEIGHT", value_parser = short)]
    blkio_weight: Option<u16>,
    /// Block IO weight (relative device weight)
    #[arg(long, value_name = "DEVICE:WEIGHT", value_parser = Weight::parse)]
    blkio_weight_device: Vec<Weight>,
    /// Limit CPU CFS (Completely Fair Scheduler) period, in microseconds
    #[arg(long, value_name = "MICROSECONDS", value_parser = integer)]
    cpu_period: Option<i64>,
    /// Limit CPU CFS (Completely Fair Scheduler) quota, in microseconds
    #[arg(long, value_name = "MICROSECONDS", value_parser = integer)]
    cpu_quota: Option<i64>,
    /// Limit CPU real-time period in microseconds
    #[arg(long, value_name = "MICROSECONDS", value_parser = integer)]
    cpu_rt_period: Option<i64>,
    /// Limit CPU real-time runtime in microseconds
    #[arg(long, value_name = "MICROSECONDS", value_parser = integer)]
    cpu_rt_runtime: Option<i64>,
    /// CPU shares (relative weight)
    #[arg(short, long, value_name = "SHARES", value_parser = integer)]
    cpu_shares: Option<i64>,
    /// Number of CPUs
    #[arg(long, value_name = "DECIMAL", value_parser = cpus)]
    cpus: Option<u64>,
    /// CPUs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// MEMs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Limit read rate (bytes per second) from a device
    #[arg(long, value_name = "DEVICE:RATE", value_parser = Rate::bytes)]
    device_read_bps: Vec<Rate>,
    /// Limit read rate (IO per second) from a device
    #[arg(long, value_name = "DEVICE:RATE", value_parser = Rate::operations)]
    device_read_iops: Vec<Rate>,
    /// Limit write rate (bytes per second) to a device
    #[arg(long, value_name = "DEVICE:RATE", value_parser = Rate::bytes)]
    device_write_bps: Vec<Rate>,
    /// Limit write rate (IO per second) to a device
    #[arg(long, value_name = "DEVICE:RATE", value_parser = Rate::operations)]
    device_write_iops: Vec<Rate>,
    /// Kernel memory limit
    #[arg(long, value_name = "BYTES", value_parser = bytes, hide = true)]
    kernel_memory: Option<u64>,
    /// Memory limit
    #[arg(short, long, value_name = "BYTES", value_parser = bytes)]
    memory: Option<u64>,
    /// Memory soft limit
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    memory_reservation: Option<u64>,
    /// Swap limit equal to memory plus swap: '-1' to enable unlimited swap
    #[arg(long, value_name = "BYTES", value_parser = bytes_or_all)]
    memory_swap: Option<i64>,
    /// Tune container memory swappiness (0 to 100)
    #[arg(long, value_name = "PERCENT", value_parser = swappiness)]
    memory_swappiness: Option<i64>,
    /// Disable OOM Killer
    #[arg(long)]
    oom_kill_disable: bool,
    /// Tune host's OOM preferences (-1000 to 1000)
    #[arg(long, value_name = "SCORE", value_parser = score)]
    oom_score_adj: Option<i64>,
    /// Tune container pids limit (set -1 for unlimited)
    #[arg(long, value_name = "NUMBER", value_parser = integer)]
    pids_limit: Option<i64>,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    shm_size: Option<u64>,
    /// Ulimit options
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = Ulimit::parse)]
    ulimit: Vec<Ulimit>,
}

/// What they make of the spec.
pub(super) fn apply(flags: &Flags, spec: ContainerSpec) -> Result<ContainerSpec, Fail> {
    if flags.kernel_memory.is_some() {
        return Err(Fail::new(125, "run --kernel-memory: kernels have no such limit any more"));
    }
    let mut spec = spec.limits(flags.limits()?);
    if let Some(bytes) = flags.shm_size {
        spec = spec.shm_size(bytes);
    }
    if let Some(score) = flags.oom_score_adj {
        spec = spec.oom_score_adj(i32::try_from(score).unwrap_or_default());
    }
    let limits = Ulimit::limits(&flags.ulimit);
    Ok(limits.into_iter().fold(spec, |spec, (name, soft, hard)| spec.rlimit(name, soft, hard)))
}

impl Flags {
    /// What a container that is there may use at most from now on.
    pub(crate) fn for_update(&self) -> Result<Limits, Fail> {
        let others = [
            ("--shm-size", self.shm_size.is_some()),
            ("--oom-score-adj", self.oom_score_adj.is_some()),
            ("--oom-kill-disable", self.oom_kill_disable),
            ("--ulimit", !self.ulimit.is_empty()),
        ];
        match others.iter().find(|(_, given)| *given) {
            Some((flag, _)) => Err(Fail::new(125, format!("unknown flag: {flag}"))),
            None => self.limits(),
        }
    }

    /// What it may use at most.
    fn limits(&self) -> Result<Limits, Fail> {
        let mut limits = Limits::new();
        let set = |limits: Limits, number: Option<u64>, set: fn(Limits, u64) -> Limits| match number {
            Some(number) if number != 0 => set(limits, number),
            _ => limits,
        };
        limits = set(limits, self.memory, Limits::memory);
        limits = set(limits, self.memory_reservation, Limits::memory_reservation);
        match self.memory_swap {
            None | Some(0) => {}
            Some(bytes) => {
                limits = limits.memory_swap(u64::try_from(bytes).ok());
            }
        }
        if let Some(percent) = self.memory_swappiness.and_then(|percent| u64::try_from(percent).ok()) {
            limits = limits.memory_swappiness(percent);
        }
        if self.oom_kill_disable {
            limits = limits.oom_kill_disable();
        }
        if let Some(nano) = self.cpus.filter(|nano| *nano != 0) {
            if self.cpu_quota.is_some() || self.cpu_period.is_some() {
                let flag = if self.cpu_quota.is_some() { "CPU CFS quota" } else { "CPU CFS period" };
                let text = format!("Conflicting options: Nano CPUs and {flag} cannot both be set");
                return Err(Fail::new(125, text));
            }
            let most = std::thread::available_parallelism().map_or(1, usize::from);
            if nano > most as u64 * 1_000_000_000 {
                let text = format!(
                    "Range of CPUs is from 0.01 to {most}.00, as there are only {most} CPUs available"
                );
                return Err(Fail::new(125, text));
            }
            limits = limits.cpus(nano as f64 / 1e9);
        }
        let number = |number: Option<i64>| number.filter(|number| *number != 0);
        let unsigned = |given| number(given).map(|number| u64::try_from(number).unwrap_or_default());
        limits = set(limits, unsigned(self.cpu_shares), Limits::cpu_shares);
        limits = set(limits, unsigned(self.cpu_period), Limits::cpu_period);
        if let Some(quota) = number(self.cpu_quota) {
            limits = limits.cpu_quota(quota);
        }
        limits = limits.cpu_realtime(number(self.cpu_rt_runtime), unsigned(self.cpu_rt_period));
        if let Some(list) = self.cpuset_cpus.as_ref().filter(|list| !list.is_empty()) {
            limits = limits.cpuset_cpus(list);
        }
        if let Some(list) = self.cpuset_mems.as_ref().filter(|list| !list.is_empty()) {
            limits = limits.cpuset_mems(list);
        }
        if let Some(most) = number(self.pids_limit) {
            limits = limits.pids(most);
        }
        if let Some(weight) = self.blkio_weight.filter(|weight| *weight != 0) {
            limits = limits.blkio_weight(weight);
        }
        for one in &self.blkio_weight_device {
            limits = limits.blkio_weight_of(&one.device, one.weight);
        }
        let rates = [
            (Throttle::ReadBytes, &self.device_read_bps),
            (Throttle::WriteBytes, &self.device_write_bps),
            (Throttle::Reads, &self.device_read_iops),
            (Throttle::Writes, &self.device_write_iops),
        ];
        for (what, rates) in rates {
            limits = rates.iter().fold(limits, |limits, one| limits.throttle(what, &one.device, one.rate));
        }
        Ok(limits)
    }
}

fn swappiness(text: &str) -> Result<i64, String> {
    match integer(text)? {
        percent @ -1..=100 => Ok(percent),
        percent => Err(format!("invalid value: {percent}. Valid memory swappiness range is 0-100")),
    }
}

fn score(text: &str) -> Result<i64, String> {
    match integer(text)? {
        score @ -1000..=1000 => Ok(score),
        score => Err(format!("invalid value {score}, range for oom score adj is [-1000, 1000]")),
    }
}

/// How much of a block device's time it gets.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Weight {
    pub(crate) device: String,
    /// 10 to 1000, or 0.
    pub(crate) weight: u16,
}

impl Weight {
    fn parse(text: &str) -> Result<Weight, String> {
        let (device, weight) = device(text)?;
        match weight.parse() {
            Ok(weight @ (0 | 10..=1000)) => Ok(Weight { device: device.into(), weight }),
            _ => Err(format!("invalid weight for device: {text}")),
        }
    }
}

/// How fast it may read from a block device, or write to it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rate {
    pub(crate) device: String,
    /// Bytes or operations a second.
    pub(crate) rate: u64,
}

impl Rate {
    fn bytes(text: &str) -> Result<Rate, String> {
        let (device, rate) = device(text)?;
        let rate = bytes(rate).map_err(|_| {
            format!(
                "invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. Number must be \
                 a positive integer. Unit is optional and can be kb, mb, or gb"
            )
        })?;
        Ok(Rate { device: device.into(), rate })
    }

    fn operations(text: &str) -> Result<Rate, String> {
        let (device, rate) = device(text)?;
        let rate = rate.parse().map_err(|_| {
            format!(
                "invalid rate for device: {text}. The correct format is <device-path>:<number>. Number must be a \
                 positive integer"
            )
        })?;
        Ok(Rate { device: device.into(), rate })
    }
}

fn device(text: &str) -> Result<(&str, &str), String> {
    let (device, rest) = text
        .split_once(':')
        .filter(|(device, _)| !device.is_empty())
        .ok_or_else(|| format!("bad format: {text}"))?;
    match device.starts_with("/dev/") {
        true => Ok((device, rest)),
        false => Err(format!("bad format for device path: {text}")),
    }
}

/// A limit of setrlimit(2); -1 is none.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ulimit {
    /// As in `RLIMIT_NOFILE`, in small letters.
    pub(crate) name: String,
    pub(crate) soft: i64,
    pub(crate) hard: i64,
}

const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

impl Ulimit {
    /// Names, soft and hard. Of one name the last one counts.
    pub(crate) fn limits(given: &[Ulimit]) -> Vec<(&str, u64, u64)> {
        let last: BTreeMap<&str, &Ulimit> = given.iter().map(|limit| (&*limit.name, limit)).collect();
        let none = |number: i64| u64::try_from(number).unwrap_or(u64::MAX);
        last.into_iter().map(|(name, limit)| (name, none(limit.soft), none(limit.hard))).collect()
    }

    pub(crate) fn parse(text: &str) -> Result<Ulimit, String> {
        let (name, limits) =
            text.split_once('=').ok_or_else(|| format!("invalid ulimit argument: {text}"))?;
        if !ULIMITS.contains(&name) {
            return Err(format!("invalid ulimit type: {name}"));
        }
        let numbers: Vec<&str> = limits.split(':').collect();
        let number = |text: &str| {
            text.parse::<i64>().map_err(|_| format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))
        };
        let (soft, hard) = match numbers[..] {
            [both] => (number(both)?, number(both)?),
            [soft, hard] => (number(soft)?, number(hard)?),
            _ => {
                return Err(format!(
                    "too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`"
                ));
            }
        };
        if hard != -1 && (soft == -1 || soft > hard) {
            let soft = if soft == -1 { "soft: -1 (unlimited)".to_owned() } else { soft.to_string() };
            return Err(format!(
                "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
            ));
        }
        Ok(Ulimit { name: name.into(), soft, hard })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulimits_are_dockers() {
        let limit = |soft, hard| Ok(Ulimit { name: "nofile".into(), soft, hard });
        assert_eq!(Ulimit::parse("nofile=100:200"), limit(100, 200));
        assert_eq!(Ulimit::parse("nofile=100"), limit(100, 100));
        assert_eq!(Ulimit::parse("nofile=-1"), limit(-1, -1));
        assert_eq!(Ulimit::parse("nofile=100:-1"), limit(100, -1));
        for (text, problem) in [
            ("nofile=200:100", "ulimit soft limit must be less than or equal to hard limit: 200 > 100"),
            ("foo=1", "invalid ulimit type: foo"),
            ("nofile", "invalid ulimit argument: nofile"),
            ("nofile=x", "strconv.ParseInt: parsing \"x\": invalid syntax"),
            (
                "nofile=1:2:3",
                "too many limit value arguments - 1:2:3, can only have up to two, `soft[:hard]`",
            ),
        ] {
            assert_eq!(Ulimit::parse(text).unwrap_err(), problem);
        }
    }

    #[test]
    fn rates_and_weights_are_dockers() {
        let rate = |rate| Ok(Rate { device: "/dev/sda".into(), rate });
        assert_eq!(Rate::bytes("/dev/sda:1mb"), rate(1 << 20));
        assert_eq!(Rate::operations("/dev/sda:100"), rate(100));
        assert_eq!(Weight::parse("/dev/sda:200"), Ok(Weight { device: "/dev/sda".into(), weight: 200 }));
        for (text, problem) in [
            ("sda:200", "bad format for device path: sda:200"),
            ("/dev/sda:9", "invalid weight for device: /dev/sda:9"),
            ("/dev/sda", "bad format: /dev/sda"),
        ] {
            assert_eq!(Weight::parse(text).unwrap_err(), problem);
        }
        assert!(
            Rate::bytes("/dev/sda:-1")
                .unwrap_err()
                .starts_with("invalid rate for device: /dev/sda:-1. The correct")
        );
        assert!(
            Rate::operations("/dev/sda:1k")
                .unwrap_err()
                .ends_with("<device-path>:<number>. Number must be a positive integer")
        );
    }

    #[test]
    fn ranges() {
        assert_eq!(swappiness("10"), Ok(10));
        assert!(swappiness("101").unwrap_err().contains("range is 0-100"));
        assert_eq!(score("-500"), Ok(-500));
        assert!(score("2000").is_err());
    }
}
