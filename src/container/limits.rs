//! What a container may use at most.

use std::path::PathBuf;

use coracle_host::Call;
use coracle_runtime::cgroup::docker_devices;
use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxDeviceType, LinuxMemory, LinuxPids, LinuxResources,
    LinuxThrottleDevice, LinuxThrottleDeviceBuilder, LinuxWeightDeviceBuilder,
};
use rustix::fs::{FileType, major, minor, stat};
use serde::{Deserialize, Serialize};

use super::told::LimitValues;
use crate::Kind;
use crate::error::{Error, Result};

/// What a container may use at most, as a value (cgroups(7)). What is not said is not limited.
///
/// What the host can't do is an error of kind `Unsupported` when the container is started, and says how to get it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    memory: Option<i64>,
    memory_swap: Option<i64>,
    memory_reservation: Option<i64>,
    memory_swappiness: Option<u64>,
    oom_kill_disable: bool,
    cpu_shares: Option<u64>,
    cpu_quota: Option<i64>,
    cpu_period: Option<u64>,
    cpu_rt_period: Option<u64>,
    cpu_rt_runtime: Option<i64>,
    cpuset_cpus: Option<String>,
    cpuset_mems: Option<String>,
    pids: Option<i64>,
    blkio_weight: Option<u16>,
    blkio_weights: Vec<(PathBuf, u16)>,
    rates: Vec<(Throttle, PathBuf, u64)>,
    /// What quota and period come of.
    #[serde(default)]
    nano_cpus: Option<u64>,
}

/// Which use of a block device is throttled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Throttle {
    /// Bytes read in a second.
    ReadBytes,
    /// Bytes written in a second.
    WriteBytes,
    /// Read operations in a second.
    Reads,
    /// Write operations in a second.
    Writes,
}

/// Bytes of memory without which no program gets as far as its own code.
const LEAST_MEMORY: i64 = 6 << 20;
/// Microseconds that the processor's time is shared out in, unless something else is said.
const PERIOD: u64 = 100_000;

impl Limits {
    /// No limits.
    pub fn new() -> Limits {
        Limits::default()
    }

    /// Bytes of memory. With nothing said about swap it may use as much of that again.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Limits {
        self.memory = Some(i64::try_from(bytes).unwrap_or(i64::MAX));
        self
    }

    /// Bytes of memory and swap together; `None` for no limit of swap.
    #[must_use]
    pub fn memory_swap(mut self, bytes: impl Into<Option<u64>>) -> Limits {
        self.memory_swap = Some(bytes.into().map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)));
        self
    }

    /// Bytes of memory that it is brought back to when the host runs short.
    #[must_use]
    pub fn memory_reservation(mut self, bytes: u64) -> Limits {
        self.memory_reservation = Some(i64::try_from(bytes).unwrap_or(i64::MAX));
        self
    }

    /// How readily its memory is swapped out, 0 to 100 (control groups of version 1).
    #[must_use]
    pub fn memory_swappiness(mut self, percent: u64) -> Limits {
        self.memory_swappiness = Some(percent);
        self
    }

    /// Its processes wait for memory instead of being killed (control groups of version 1).
    #[must_use]
    pub fn oom_kill_disable(mut self) -> Limits {
        self.oom_kill_disable = true;
        self
    }

    /// So many processors' time: `0.5` is half of one.
    #[must_use]
    pub fn cpus(mut self, cpus: f64) -> Limits {
        self.nano_cpus = Some((cpus * 1e9).round() as u64);
        self.cpu_period = Some(PERIOD);
        // Of a number that is none, or too large, nothing sensible comes: the kernel refuses it.
        self.cpu_quota = Some((cpus * PERIOD as f64) as i64);
        self
    }

    /// Its weight when processors are short, 2 to 262,144, where 1,024 is usual.
    #[must_use]
    pub fn cpu_shares(mut self, shares: u64) -> Limits {
        self.cpu_shares = Some(shares);
        self
    }

    /// Microseconds of processor time in every period; -1 for no limit.
    #[must_use]
    pub fn cpu_quota(mut self, microseconds: i64) -> Limits {
        self.nano_cpus = None;
        self.cpu_quota = Some(microseconds);
        self
    }

    /// Microseconds of a period, 1,000 to 1,000,000.
    #[must_use]
    pub fn cpu_period(mut self, microseconds: u64) -> Limits {
        self.nano_cpus = None;
        self.cpu_period = Some(microseconds);
        self
    }

    /// Microseconds of real-time scheduling in every period of so many (control groups of version 1).
    #[must_use]
    pub fn cpu_realtime(mut self, runtime: Option<i64>, period: Option<u64>) -> Limits {
        (self.cpu_rt_runtime, self.cpu_rt_period) = (runtime, period);
        self
    }

    /// The processors that it may run on, as `0-2,4` (cpuset(7), "List format").
    #[must_use]
    pub fn cpuset_cpus(mut self, list: impl Into<String>) -> Limits {
        self.cpuset_cpus = Some(list.into());
        self
    }

    /// The memory nodes that it may use, as `0,1`.
    #[must_use]
    pub fn cpuset_mems(mut self, list: impl Into<String>) -> Limits {
        self.cpuset_mems = Some(list.into());
        self
    }

    /// Processes and threads; -1 for no limit.
    #[must_use]
    pub fn pids(mut self, most: i64) -> Limits {
        self.pids = Some(most);
        self
    }

    /// Its weight when block devices are busy, 10 to 1,000.
    #[must_use]
    pub fn blkio_weight(mut self, weight: u16) -> Limits {
        self.blkio_weight = Some(weight);
        self
    }

    /// Its weight when this block device is busy, 10 to 1,000.
    #[must_use]
    pub fn blkio_weight_of(mut self, device: impl Into<PathBuf>, weight: u16) -> Limits {
        self.blkio_weights.push((device.into(), weight));
        self
    }

    /// How much it may use this block device in a second.
    #[must_use]
    pub fn throttle(mut self, what: Throttle, device: impl Into<PathBuf>, most: u64) -> Limits {
        self.rates.push((what, device.into(), most));
        self
    }

    /// These limits, and of `other` those that it has, too.
    pub(crate) fn with(&self, other: &Limits) -> Limits {
        let mut all = self.clone();
        macro_rules! take {
            ($($field:ident),*) => {$(
                if other.$field.is_some() {
                    all.$field.clone_from(&other.$field);
                }
            )*};
        }
        take!(
            memory,
            memory_swap,
            memory_reservation,
            memory_swappiness,
            cpu_shares,
            cpu_quota,
            cpu_period,
            cpu_rt_period,
            cpu_rt_runtime,
            cpuset_cpus,
            cpuset_mems,
            pids,
            blkio_weight
        );
        if other.cpu_quota.is_some() || other.cpu_period.is_some() {
            all.nano_cpus = other.nano_cpus;
        }
        all.oom_kill_disable |= other.oom_kill_disable;
        all.blkio_weights.extend(other.blkio_weights.iter().cloned());
        all.rates.extend(other.rates.iter().cloned());
        all
    }

    /// Bytes of memory, where that is limited.
    pub fn memory_limit(&self) -> Option<u64> {
        self.memory.and_then(|bytes| u64::try_from(bytes).ok()).filter(|bytes| *bytes != 0)
    }

    /// All its figures.
    pub fn values(&self) -> LimitValues {
        let said = self.clone();
        LimitValues {
            memory: said.memory,
            memory_swap: self.swap(),
            memory_reservation: said.memory_reservation,
            memory_swappiness: said.memory_swappiness,
            oom_kill_disable: said.oom_kill_disable,
            nano_cpus: said.nano_cpus,
            cpu_shares: said.cpu_shares,
            cpu_quota: said.cpu_quota,
            cpu_period: said.cpu_period,
            cpu_realtime_period: said.cpu_rt_period,
            cpu_realtime_runtime: said.cpu_rt_runtime,
            cpuset_cpus: said.cpuset_cpus,
            cpuset_mems: said.cpuset_mems,
            pids: said.pids,
            blkio_weight: said.blkio_weight,
            blkio_weights: said.blkio_weights,
            rates: said.rates,
        }
    }

    /// Memory and swap together: where nothing is said, as much swap as memory.
    fn swap(&self) -> Option<i64> {
        self.memory_swap.or(self.memory.filter(|bytes| *bytes > 0).map(|bytes| bytes.saturating_mul(2)))
    }

    /// What is wrong with them, whatever the host.
    pub(crate) fn problems(&self) -> impl Iterator<Item = String> {
        let memory = self.memory.filter(|bytes| *bytes > 0);
        let swap = self.memory_swap.filter(|bytes| *bytes > 0);
        let weights = self.blkio_weights.iter().map(|(_, weight)| *weight).chain(self.blkio_weight);
        [
            memory
                .filter(|bytes| *bytes < LEAST_MEMORY)
                .map(|bytes| format!("memory limit of {bytes} bytes: minimum memory limit allowed is 6MB")),
            (swap.is_some() && memory.is_none())
                .then(|| "a limit of memory and swap together needs a memory limit".to_owned()),
            swap.zip(memory).filter(|(both, memory)| both < memory).map(|(both, memory)| {
                format!("limit of memory and swap together: {both} is less than the memory limit, {memory}")
            }),
            self.memory_reservation.zip(memory).filter(|(reserved, memory)| reserved > memory).map(
                |(reserved, memory)| {
                    format!("memory reservation: {reserved} is more than the memory limit, {memory}")
                },
            ),
        ]
        .into_iter()
        .flatten()
        .chain(
            weights
                .filter(|weight| !(10..=1000).contains(weight))
                .map(|weight| format!("block IO weight {weight}: not from 10 to 1000"))
                .collect::<Vec<_>>(),
        )
    }

    /// As the OCI runtime specification has them, without devices.
    pub(crate) fn to_oci(&self) -> Result<LinuxResources> {
        let mut resources = LinuxResources::default();
        resources.set_devices(None);
        let memory = [self.memory, self.memory_swap, self.memory_reservation];
        if memory.iter().any(Option::is_some) || self.memory_swappiness.is_some() || self.oom_kill_disable {
            let mut memory = LinuxMemory::default();
            memory
                .set_limit(self.memory)
                .set_swap(self.swap())
                .set_reservation(self.memory_reservation)
                .set_swappiness(self.memory_swappiness)
                .set_disable_oom_killer(self.oom_kill_disable.then_some(true));
            resources.set_memory(Some(memory));
        }
        let mut cpu = LinuxCpu::default();
        cpu.set_shares(self.cpu_shares)
            .set_quota(self.cpu_quota)
            .set_period(self.cpu_period)
            .set_realtime_period(self.cpu_rt_period)
            .set_realtime_runtime(self.cpu_rt_runtime)
            .set_cpus(self.cpuset_cpus.clone())
            .set_mems(self.cpuset_mems.clone());
        resources.set_cpu((cpu != LinuxCpu::default()).then_some(cpu));
        if let Some(most) = self.pids {
            let mut pids = LinuxPids::default();
            pids.set_limit(most);
            resources.set_pids(Some(pids));
        }
        if self.blkio_weight.is_some() || !self.blkio_weights.is_empty() || !self.rates.is_empty() {
            resources.set_block_io(Some(self.block_io()?));
        }
        Ok(resources)
    }

    fn block_io(&self) -> Result<LinuxBlockIo> {
        let mut io = LinuxBlockIo::default();
        io.set_weight(self.blkio_weight);
        let mut weights = Vec::new();
        for (path, weight) in &self.blkio_weights {
            let (major, minor) = device(path)?;
            let one = LinuxWeightDeviceBuilder::default().major(major).minor(minor).weight(*weight);
            weights.push(one.build().map_err(incomplete)?);
        }
        io.set_weight_device((!weights.is_empty()).then_some(weights));
        let rates = |wanted: Throttle| -> Result<Option<Vec<LinuxThrottleDevice>>> {
            let mut rates = Vec::new();
            for (_, path, rate) in self.rates.iter().filter(|(what, ..)| *what == wanted) {
                let (major, minor) = device(path)?;
                let one = LinuxThrottleDeviceBuilder::default().major(major).minor(minor).rate(*rate);
                rates.push(one.build().map_err(incomplete)?);
            }
            Ok((!rates.is_empty()).then_some(rates))
        };
        io.set_throttle_read_bps_device(rates(Throttle::ReadBytes)?)
            .set_throttle_write_bps_device(rates(Throttle::WriteBytes)?)
            .set_throttle_read_iops_device(rates(Throttle::Reads)?)
            .set_throttle_write_iops_device(rates(Throttle::Writes)?);
        Ok(io)
    }
}

fn incomplete(error: oci_spec::OciSpecError) -> Error {
    Error::new(Kind::Other, error.to_string())
}

/// The numbers of a block device of the host.
fn device(path: &PathBuf) -> Result<(i64, i64)> {
    let found = stat(path).call(|| format!("stat({path:?})"))?;
    if FileType::from_raw_mode(found.st_mode) != FileType::BlockDevice {
        return Err(Error::new(Kind::Invalid, format!("{path:?} is not a block device")));
    }
    Ok((i64::from(major(found.st_rdev)), i64::from(minor(found.st_rdev))))
}

/// That every device may be used.
pub(crate) fn all_devices() -> LinuxDeviceCgroup {
    let mut all = LinuxDeviceCgroup::default();
    all.set_allow(true).set_typ(Some(LinuxDeviceType::A)).set_access(Some("rwm".into()));
    all
}

/// docker's rules for the use of devices, and these.
pub(crate) fn device_rules(more: &[LinuxDeviceCgroup]) -> Vec<LinuxDeviceCgroup> {
    docker_devices().into_iter().chain(more.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_what_the_specification_calls_resources() {
        let oci = Limits::new().memory(32 << 20).cpus(0.5).pids(20).to_oci().unwrap();
        let memory = oci.memory().as_ref().unwrap();
        assert_eq!((memory.limit(), memory.swap()), (Some(32 << 20), Some(64 << 20)));
        let cpu = oci.cpu().as_ref().unwrap();
        assert_eq!((cpu.quota(), cpu.period()), (Some(50_000), Some(100_000)));
        assert_eq!(oci.pids().as_ref().unwrap().limit(), 20);
        let none = Limits::new().to_oci().unwrap();
        assert!(
            none.memory().is_none()
                && none.cpu().is_none()
                && none.pids().is_none()
                && none.devices().is_none()
        );
        assert_eq!(
            Limits::new().memory(1).memory_swap(None).to_oci().unwrap().memory().as_ref().unwrap().swap(),
            Some(-1)
        );
        let error = Limits::new().blkio_weight_of("/dev/null", 100).to_oci().unwrap_err();
        assert!(error.to_string().contains("\"/dev/null\" is not a block device"), "{error}");
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        let told = |limits: Limits| limits.problems().collect::<Vec<_>>().join("; ");
        let whole = || Limits::new().memory(8 << 20);
        for (limits, problem) in [
            (Limits::new().memory(1024), "minimum memory limit"),
            (Limits::new().memory_swap(8 << 20), "needs a memory limit"),
            (whole().memory_swap(7 << 20), "is less than the memory limit"),
            (whole().memory_reservation(9 << 20), "is more than the memory limit"),
            (Limits::new().blkio_weight(5), "not from 10 to 1000"),
            (Limits::new().blkio_weight_of("/dev/null", 2000), "not from 10 to 1000"),
        ] {
            assert!(told(limits).contains(problem), "{problem}");
        }
        assert_eq!(told(whole().memory_swap(None).memory_reservation(1).blkio_weight(10)), "");
        assert_eq!(told(whole().memory_swap(8 << 20)), "");
    }

    #[test]
    fn the_later_word_counts() {
        let all = Limits::new().memory(1).pids(3).with(&Limits::new().memory(2).cpu_shares(7));
        assert_eq!(all, Limits::new().memory(2).pids(3).cpu_shares(7));
    }
}
