//! A plan is performed.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use coracle_host::{Call, DeviceFilter, Kind};
use rustix::io::Errno;

use super::op::{Manner, Op, Write};
use super::systemd::{self, Holder};
use super::{Cgroup, Plan, read};
use crate::error::{Doing, Error, Problem, Result};

/// How often the parent is made again when somebody removes it in between.
const TRIES: usize = 64;

impl Plan {
    /// Makes the group. It is removed when the value is dropped and nothing is in it; see [`Cgroup::leave`].
    ///
    /// # Errors
    /// `AlreadyExists` where there is a group of this name: find it, and remove it if its owner is dead. `InUse` where a
    /// group above holds processes, which version 2 doesn't let it give controllers on. Otherwise as of the write that the
    /// kernel refused, with the setting named. Nothing is left then.
    pub fn make(&self) -> Result<Cgroup> {
        self.perform(false)
    }

    /// The group, made where it is not there. What was there before is not removed with the value.
    ///
    /// # Errors
    /// As of [`make`](Self::make), but that it may be there.
    pub fn open(&self) -> Result<Cgroup> {
        self.perform(true)
    }

    fn perform(&self, existing: bool) -> Result<Cgroup> {
        let mut made = Made::default();
        self.act(existing, &mut made)?;
        let (new, holder) = made.stay();
        Ok(Cgroup::made(self, new == self.groups.len(), holder))
    }

    /// Performs the list. `made` gets the groups that were not there before.
    pub(super) fn act(&self, existing: bool, made: &mut Made) -> Result<()> {
        let mut again: Vec<&Write> = Vec::new();
        let mut pen = Pen::default();
        let mut above: Vec<&Op> = Vec::new();
        for op in &self.ops {
            match op {
                Op::Make { parent: true, .. } | Op::Enable { .. } => above.push(op),
                Op::Inherit { dir } if !made.dirs.contains(dir) => above.push(op),
                Op::Make { parent: false, dir } => {
                    if make_last(&above, dir).doing(|| self.doing())? {
                        made.dirs.push(dir.clone());
                    } else if !existing {
                        let error = coracle_host::Error::os(format!("mkdir({dir:?})"), Errno::EXIST);
                        return Err(Error::host(self.doing(), error));
                    }
                    above.clear();
                }
                Op::Inherit { dir } => inherit(dir).doing(|| self.doing())?,
                Op::Start { unit, dir } => {
                    made.holder = match systemd::start(unit, dir) {
                        Err(error) if existing && error.kind() == Kind::AlreadyExists => {
                            systemd::set(unit).doing(|| self.doing())?;
                            None
                        }
                        other => Some(other.doing(|| self.doing())?),
                    };
                }
                Op::Set { unit } => systemd::set(unit).doing(|| self.doing())?,
                Op::Below { file, limit, setting } => below(file, *limit, setting)?,
                Op::Filter { dir, program, .. } => {
                    let bytes: Vec<[u8; 8]> = program.iter().map(|insn| insn.bytes()).collect();
                    let filter = DeviceFilter::load(&bytes);
                    filter.and_then(|filter| filter.attach(dir)).doing(|| doing("devices"))?;
                }
                Op::Write(write) => {
                    prepare(&above).doing(|| self.doing())?;
                    above.clear();
                    match set(write, &mut pen) {
                        Err((_, Some(Errno::INVAL))) if write.manner == Manner::Again => again.push(write),
                        other => other.map_err(|(error, _)| error)?,
                    }
                }
            }
        }
        prepare(&above).doing(|| self.doing())?;
        again.into_iter().try_for_each(|write| set(write, &mut pen).map_err(|(error, _)| error))
    }

    fn doing(&self) -> String {
        format!("make the control group {}", self.place)
    }
}

/// Makes a group's own directory, and what is above where that is not there. Those may go at any time,
/// as others empty them. Whether the directory is new.
fn make_last(above: &[&Op], dir: &Path) -> coracle_host::Result<bool> {
    // Where nothing is to be seen to above, the parent is most often there already.
    let mut sure = above.iter().all(|op| matches!(op, Op::Make { .. }));
    for _ in 0..TRIES {
        let done = if sure { Ok(()) } else { prepare(above) };
        match done.and_then(|()| make(dir)) {
            Err(error) if matches!(error.errno(), Some(Errno::NOENT | Errno::NODEV)) => sure = false,
            other => return other,
        }
    }
    make(dir)
}

fn prepare(above: &[&Op]) -> coracle_host::Result<()> {
    for op in above {
        match op {
            Op::Make { dir, .. } => drop(make(dir)?),
            Op::Enable { dir, controllers } => enable(dir, controllers)?,
            Op::Inherit { dir } => inherit(dir)?,
            _ => {}
        }
    }
    Ok(())
}

/// Groups that were just made, and go again where what follows fails.
#[derive(Default)]
pub(super) struct Made {
    dirs: Vec<PathBuf>,
    /// That of systemd's is one, and goes with it.
    holder: Option<Holder>,
}

impl Made {
    /// They stay. How many there are, and what keeps the one of systemd's until a process is in it.
    pub(super) fn stay(mut self) -> (usize, Option<Holder>) {
        let holder = self.holder.take();
        (std::mem::take(&mut self.dirs).len() + usize::from(holder.is_some()), holder)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for dir in &self.dirs {
            let _ = fs::remove_dir(dir);
        }
    }
}

fn doing(setting: &str) -> String {
    format!("apply linux.resources.{setting}")
}

/// Whether it is new.
fn make(dir: &Path) -> coracle_host::Result<bool> {
    match fs::create_dir(dir) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error).call(|| format!("mkdir({dir:?})")),
    }
}

/// The file that was written to last: the rules of devices all go to the same one.
#[derive(Default)]
struct Pen(Option<(PathBuf, File)>);

impl Pen {
    /// Writes to a file that must be there: one write(2), as the kernel parses each by itself.
    fn write(&mut self, path: &Path, value: &str) -> coracle_host::Result<()> {
        let call = || format!("write({path:?}, {value:?})");
        let file = match self.0.take() {
            Some((same, file)) if same == path => file,
            _ => File::options().write(true).open(path).call(call)?,
        };
        let (_, file) = self.0.insert((path.to_owned(), file));
        file.write_all(value.as_bytes()).call(call)
    }
}

/// Writes one value to a file that must be there.
pub(super) fn write(path: &Path, value: &str) -> coracle_host::Result<()> {
    Pen::default().write(path, value)
}

fn enable(dir: &Path, controllers: &[String]) -> coracle_host::Result<()> {
    let file = dir.join("cgroup.subtree_control");
    let given = read::text(&file)?;
    let missing = controllers.iter().filter(|name| !given.split_whitespace().any(|given| given == *name));
    let value: Vec<String> = missing.map(|name| format!("+{name}")).collect();
    if value.is_empty() {
        return Ok(());
    }
    let Err(error) = write(&file, &value.join(" ")) else { return Ok(()) };
    let (kind, why) = match error.errno() {
        Some(Errno::ACCESS | Errno::PERM) => {
            let missing = format!("`{}`", value.join(" ").replace('+', ""));
            (
                Kind::Denied,
                format!("{error}: {missing} is not delegated: whoever owns {} gives it on", dir.display()),
            )
        }
        Some(Errno::BUSY) => {
            let there = read::optional(&dir.join("cgroup.procs"))?.unwrap_or_default();
            let there: Vec<&str> = there.lines().take(8).collect();
            let why = format!(
                "{error}: cgroup v2 gives controllers on only below a group without processes; {} holds {} ({}): move \
                 them to a group of their own below it",
                dir.display(),
                if there.len() == 8 { "many" } else { "some" },
                there.join(", ")
            );
            (Kind::InUse, why)
        }
        _ => return Err(error),
    };
    Err(coracle_host::Error::new(kind, why))
}

/// The two that a process needs to be taken in.
fn inherit(dir: &Path) -> coracle_host::Result<()> {
    let Some(above) = dir.parent() else { return Ok(()) };
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if read::text(&dir.join(file))?.trim().is_empty() {
            write(&dir.join(file), read::text(&above.join(file))?.trim())?;
        }
    }
    Ok(())
}

fn below(file: &Path, limit: u64, setting: &str) -> Result<()> {
    let used = read::number(file).doing(|| doing(setting))?.unwrap_or(u64::MAX);
    if used < limit {
        return Ok(());
    }
    let text =
        format!("linux.resources.{setting}: {used} bytes are in use, not less than the new limit of {limit}");
    Err(Error::problems(vec![Problem { kind: Kind::InUse, text }]))
}

/// Also the number of the error, for who may try again.
fn set(write: &Write, pen: &mut Pen) -> Result<(), (Error, Option<Errno>)> {
    for (file, value) in &write.choices {
        let path = write.dir.join(file);
        match pen.write(&path, value) {
            Ok(()) => return Ok(()),
            Err(error) if error.errno() == Some(Errno::NOENT) && !path.exists() => {}
            Err(error) => {
                let errno = error.errno();
                let error =
                    match hint(file).filter(|_| matches!(errno, Some(Errno::OPNOTSUPP | Errno::INVAL))) {
                        Some(hint) => coracle_host::Error::new(error.kind(), format!("{error} ({hint})")),
                        None => error,
                    };
                return Err((Error::host(doing(&write.setting), error), errno));
            }
        }
    }
    if write.manner == Manner::IfThere {
        return Ok(());
    }
    let files: Vec<&str> = write.choices.iter().map(|(file, _)| &**file).collect();
    let how =
        files.iter().find_map(|file| hint(file)).unwrap_or("the kernel is too old, or built without it");
    let text = format!(
        "linux.resources.{}: the controller `{}` of this host has no {}: {how}",
        write.setting,
        write.controller,
        files.join(" or ")
    );
    Err((Error::problems(vec![Problem { kind: Kind::Unsupported, text }]), None))
}

/// How to get a file, or have its values taken.
fn hint(file: &str) -> Option<&'static str> {
    Some(match file {
        "memory.memsw.limit_in_bytes" | "memory.swap.max" => {
            "swap is not accounted: boot with `swapaccount=1`"
        }
        "memory.kmem.limit_in_bytes" => "the kernel has no such limit since 5.16",
        "io.weight" | "io.bfq.weight" => {
            "weights need the iocost controller (CONFIG_BLK_CGROUP_IOCOST) or the scheduler BFQ on the disk"
        }
        "blkio.weight" | "blkio.bfq.weight" | "blkio.weight_device" | "blkio.bfq.weight_device" => {
            "weights need the scheduler BFQ on the disk"
        }
        "blkio.leaf_weight" | "blkio.leaf_weight_device" => {
            "leaf weights went with the scheduler CFQ in Linux 5.0"
        }
        "cpu.rt_runtime_us" | "cpu.rt_period_us" => {
            "the kernel needs CONFIG_RT_GROUP_SCHED, and the groups above must have realtime to give"
        }
        "cpu.idle" => "since Linux 5.15",
        "cpu.cfs_burst_us" | "cpu.max.burst" => "since Linux 5.14; a burst can't be more than the quota",
        "cpu.max" | "cpu.cfs_quota_us" => "the kernel needs CONFIG_CFS_BANDWIDTH",
        _ => return None,
    })
}
