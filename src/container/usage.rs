//! What a container uses, who runs in it, and stopping and changing it as a whole.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use coracle_host::Call;
use coracle_runtime::cgroup::Cgroup;
pub use coracle_runtime::cgroup::{CpuStats, IoStats, MemoryStats, PidsStats, Throttling};

use super::control::{self, Question};
use super::group;
use super::handle::Container;
use super::limits::Limits;
use super::record::Record;
use super::restart::Restart;
use super::supervisor::Live;
use crate::Kind;
use crate::error::{Doing, Error, Result};

/// What a container uses at a moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// When this was.
    pub time: SystemTime,
    /// Processor time.
    pub cpu: Option<CpuStats>,
    /// Memory.
    pub memory: Option<MemoryStats>,
    /// Processes and threads.
    pub pids: Option<PidsStats>,
    /// Block devices.
    pub io: Option<IoStats>,
    /// Bytes and packets of its own network's interfaces, loopback apart, all together.
    pub network: Option<NetworkStats>,
}

/// What went over a container's network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NetworkStats {
    /// Bytes received.
    pub received: u64,
    /// Bytes sent.
    pub sent: u64,
}

/// A process in a container, as the host sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcessInfo {
    /// Its number on the host.
    pub pid: u32,
    /// That of its parent.
    pub parent: u32,
    /// The user that it runs as, as the host counts.
    pub uid: u32,
    /// The processor time that it has used.
    pub cpu: Duration,
    /// When it was started.
    pub started: SystemTime,
    /// The number of its terminal, `major << 8 | minor`; 0 where it has none.
    pub terminal: u64,
    /// Its name, 15 bytes at most (proc(5), `comm`).
    pub name: String,
    /// What it is doing, by the kernel's letter: `R`, `S`, `D`, `Z`, `T` ….
    pub state: char,
    /// Bytes of memory that it has.
    pub memory: u64,
    /// Bytes of its address space.
    pub virtual_memory: u64,
    /// Its arguments, or its name in brackets where it has none.
    pub command: String,
}

impl Container {
    /// What it uses now.
    ///
    /// # Errors
    /// `InUse` where it does not run; `Unsupported` where the host has no control groups for it.
    pub fn stats(&self) -> Result<Stats> {
        let doing = || format!("read the figures of container `{}`", self.name());
        let group = self.group().doing(doing)?;
        let stats = group.stats().doing(doing)?;
        let pid = self.status().doing(doing)?.pid;
        let network = pid.filter(|_| self.has_network()).and_then(network);
        Ok(Stats {
            time: SystemTime::now(),
            cpu: stats.cpu,
            memory: stats.memory,
            pids: stats.pids,
            io: stats.io,
            network,
        })
    }

    /// The processes in it, by number.
    ///
    /// # Errors
    /// As of [`Container::stats`].
    pub fn processes(&self) -> Result<Vec<ProcessInfo>> {
        let doing = || format!("list the processes of container `{}`", self.name());
        let mut pids = self.group().doing(doing)?.processes().doing(doing)?;
        pids.sort_unstable();
        pids.dedup();
        let boot = boot_time().doing(doing)?;
        // One that has ended meanwhile is none.
        Ok(pids.into_iter().filter_map(|pid| info(pid, boot)).collect())
    }

    /// Stops all of its processes where they are, until [`Container::unpause`] (cgroups(7), "freezer").
    ///
    /// # Errors
    /// As of [`Container::stats`]; `InUse` where it is paused already.
    pub fn pause(&self) -> Result<()> {
        let doing = || format!("pause container `{}`", self.name());
        let group = self.group().doing(doing)?;
        if group.is_frozen().doing(doing)? {
            return Err(Error::new(Kind::InUse, "it is already paused")).doing(doing);
        }
        group.freeze().doing(doing)?;
        self.tell("pause", &[]);
        Ok(())
    }

    /// Lets a paused container go on.
    ///
    /// # Errors
    /// As of [`Container::stats`]; `InUse` where it is not paused.
    pub fn unpause(&self) -> Result<()> {
        let doing = || format!("unpause container `{}`", self.name());
        let group = self.group().doing(doing)?;
        if !group.is_frozen().doing(doing)? {
            return Err(Error::new(Kind::InUse, "it is not paused")).doing(doing);
        }
        group.thaw().doing(doing)?;
        self.tell("unpause", &[]);
        Ok(())
    }

    /// Whether it is paused.
    ///
    /// # Errors
    /// As of read(2).
    pub fn is_paused(&self) -> Result<bool> {
        Ok(self.frozen()?.is_some())
    }

    /// Changes its limits (those that `limits` has) and, where given, its policy; at once where it runs, and for all
    /// further starts.
    ///
    /// # Errors
    /// `Unsupported` for a limit that the host doesn't have; `Invalid` for one that the kernel refuses.
    pub fn update(&mut self, limits: &Limits, restart: Option<Restart>) -> Result<()> {
        let name = self.name().to_owned();
        let doing = || format!("update container `{name}`");
        let mut record = Record::read(&self.room).doing(doing)?;
        record.limits = record.limits.with(limits);
        if let Some(problem) = record.limits.problems().next() {
            return Err(Error::new(Kind::Invalid, problem)).doing(doing);
        }
        record.restart = restart.unwrap_or(record.restart);
        if let Some(mut group) = group::find(&self.engine.0, &record).doing(doing)? {
            let host = self.engine.0.hierarchies().doing(doing)?;
            group.update(&record.limits.to_oci().doing(doing)?, host).doing(doing)?;
        }
        record.write(&self.room, &self.engine.0.state.staging).doing(doing)?;
        self.record = Arc::new(record);
        control::ask(&self.room, Question::Reload).doing(doing)?;
        self.tell("update", &[]);
        Ok(())
    }

    /// Lets it go on where it is paused: nothing ends while it is.
    pub(super) fn thaw(&self) -> Result<()> {
        self.frozen()?.map_or(Ok(()), |group| Ok(group.thaw()?))
    }

    /// Its control group, where that is frozen.
    fn frozen(&self) -> Result<Option<Cgroup>> {
        let Some(group) = group::find(&self.engine.0, &self.record)? else { return Ok(None) };
        match group.is_frozen() {
            Ok(frozen) => Ok(frozen.then_some(group)),
            // It has ended meanwhile, and its supervisor takes the group down.
            Err(_) if self.has_ended()? => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn has_ended(&self) -> Result<bool> {
        let over = |live: &Live| live.pidfd.ended_within(Some(Duration::ZERO));
        Ok(self.live()?.map(|live| over(&live)).transpose()?.unwrap_or(true))
    }

    fn group(&self) -> Result<Cgroup> {
        if self.has_ended()? {
            return Err(Error::new(Kind::InUse, "it is not running"));
        }
        let missing = "this host has no control groups that it could be in (`/sys/fs/cgroup` has none, or is read-only)";
        group::find(&self.engine.0, &self.record)?.ok_or_else(|| Error::new(Kind::Unsupported, missing))
    }
}

/// proc(5), `/proc/[pid]/net/dev`.
fn network(pid: u32) -> Option<NetworkStats> {
    let text = fs::read_to_string(format!("/proc/{pid}/net/dev")).ok()?;
    let mut all = NetworkStats::default();
    for line in text.lines().skip(2) {
        let (name, figures) = line.split_once(':')?;
        let figures: Vec<u64> = figures.split_whitespace().filter_map(|figure| figure.parse().ok()).collect();
        if name.trim() != "lo" {
            all.received += figures.first()?;
            all.sent += figures.get(8)?;
        }
    }
    Some(all)
}

/// When the host was started: proc(5), `/proc/stat`, `btime`.
fn boot_time() -> Result<SystemTime> {
    let text = fs::read_to_string("/proc/stat").call(|| "read(\"/proc/stat\")")?;
    let seconds = text.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok());
    let seconds = seconds.ok_or_else(|| Error::new(Kind::Corrupt, "/proc/stat has no btime"))?;
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// proc(5), `/proc/[pid]/stat`.
fn info(pid: u32, boot: SystemTime) -> Option<ProcessInfo> {
    use std::os::unix::fs::MetadataExt;
    let dir = format!("/proc/{pid}");
    let stat = fs::read_to_string(format!("{dir}/stat")).ok()?;
    // The name may have blanks and brackets in it.
    let (left, right) = stat.rsplit_once(')')?;
    let name = left.split_once('(')?.1;
    let fields: Vec<&str> = right.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let tick = rustix::param::clock_ticks_per_second().max(1);
    let time = |ticks: u64| Duration::from_millis(ticks.saturating_mul(1000) / tick);
    let arguments = fs::read(format!("{dir}/cmdline")).ok()?;
    let arguments = String::from_utf8_lossy(&arguments).trim_end_matches('\0').replace('\0', " ");
    Some(ProcessInfo {
        pid,
        parent: u32::try_from(number(1)?).ok()?,
        uid: fs::metadata(&dir).ok()?.uid(),
        cpu: time(number(11)? + number(12)?),
        started: boot + time(number(19)?),
        terminal: number(4)?,
        name: name.to_owned(),
        state: fields.first()?.chars().next()?,
        memory: number(21)?.saturating_mul(rustix::param::page_size() as u64),
        virtual_memory: number(20)?,
        command: if arguments.is_empty() { format!("[{name}]") } else { arguments },
    })
}
