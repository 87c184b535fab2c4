//! Stopping, going on, and killing all at once.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use coracle_host::{Call, Kind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use super::act::write;
use super::{Cgroup, Version, read};
use crate::error::{Doing, Error, Result};

/// How long a group may take to stop. A process in the middle of a system call that can't be interrupted keeps all up.
const PATIENCE: Duration = Duration::from_secs(5);

/// Every so often version 1 is told again: a process that was just created, or traced, may have slipped through.
const NUDGE: u32 = 16;

impl Cgroup {
    /// Stops all processes in it, and those that they create. Returns when all have stopped.
    ///
    /// # Errors
    /// `Timeout` where one doesn't for five seconds (all go on, then); `Unsupported` where the group is in no hierarchy
    /// with a freezer ([`super::Extent::Asked`]).
    pub fn freeze(&self) -> Result<()> {
        let (dir, version) = self.freezer()?;
        let frozen = match version {
            Version::V1 => freeze_v1(dir),
            Version::V2 => freeze_v2(dir),
        };
        if frozen.is_err() {
            let _ = set(dir, version, false); // what failed half is not left half
        }
        frozen.doing(|| format!("freeze the control group {}", self.place))
    }

    /// Lets all go on.
    ///
    /// # Errors
    /// As of write(2).
    pub fn thaw(&self) -> Result<()> {
        let (dir, version) = self.freezer()?;
        set(dir, version, false).doing(|| format!("thaw the control group {}", self.place))
    }

    /// Whether it is, or is about to be, stopped: by its own [`freeze`](Self::freeze) or that of a group above.
    ///
    /// # Errors
    /// As of read(2), `Unsupported` as of [`freeze`](Self::freeze).
    pub fn is_frozen(&self) -> Result<bool> {
        let (dir, version) = self.freezer()?;
        let frozen = match version {
            Version::V1 => read::text(&dir.join("freezer.state")).map(|state| state.trim() != "THAWED"),
            Version::V2 => events_say_frozen(&dir.join("cgroup.events")),
        };
        frozen.doing(|| format!("look at the control group {}", self.place))
    }

    /// Sends SIGKILL to all in it and in groups below, none of which can escape by creating another process meanwhile. They
    /// end some moments later. Stopped ones, too.
    ///
    /// # Errors
    /// As of kill(2) and write(2); `Unsupported` where a process has no number in this pid namespace.
    pub fn kill(&self) -> Result<()> {
        self.kill_all().doing(|| format!("kill the control group {}", self.place))
    }

    fn kill_all(&self) -> coracle_host::Result<()> {
        if let Some(group) = self.main().filter(|group| group.hierarchy.version == Version::V2) {
            match write(&group.dir.join("cgroup.kill"), "1") {
                // systemd removes a scope that nobody is in any more.
                Err(error) if error.errno() == Some(Errno::NOENT) && !group.dir.exists() => return Ok(()),
                Err(error) if error.errno() == Some(Errno::NOENT) => {} // before Linux 5.14
                Err(error) if error.errno() == Some(Errno::NODEV) => return Ok(()),
                other => return other,
            }
        }
        let Ok((dir, version)) = self.freezer() else { return self.kill_until_empty() };
        // What is stopped neither creates processes nor ends, so that no number comes to mean another process.
        let stopped = match version {
            Version::V1 => freeze_v1(dir),
            Version::V2 => freeze_v2(dir),
        };
        let killed = match &stopped {
            Ok(()) => self.kill_each().map(drop),
            Err(_) => Ok(()),
        };
        let thawed = set(dir, version, false);
        killed?;
        thawed?;
        match stopped {
            Ok(()) => Ok(()),
            Err(_) => self.kill_until_empty(), // one that can't be stopped can be killed
        }
    }

    /// Rounds of signals: whoever is created while one goes round is met by the next.
    fn kill_until_empty(&self) -> coracle_host::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.kill_each()? > 0 {
            if Instant::now() >= deadline {
                return Err(coracle_host::Error::new(
                    Kind::Timeout,
                    "processes are still created after 5 s of killing",
                ));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    /// How many there were.
    fn kill_each(&self) -> coracle_host::Result<usize> {
        let Some(group) = self.main() else { return Ok(0) };
        let pids = self.processes_of(group)?;
        for pid in &pids {
            let raw = i32::try_from(*pid).ok().and_then(Pid::from_raw);
            let Some(raw) = raw else { continue };
            match kill_process(raw, Signal::KILL) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(errno) => return Err(errno).call(|| format!("kill({pid}, SIGKILL)")),
            }
        }
        Ok(pids.len())
    }

    fn freezer(&self) -> Result<(&Path, Version)> {
        self.at("freezer").ok_or_else(|| {
            let text =
                format!("the control group {} has no freezer: it is in no hierarchy with one", self.place);
            Error::host("stop a container", coracle_host::Error::new(Kind::Unsupported, text))
        })
    }
}

fn set(dir: &Path, version: Version, frozen: bool) -> coracle_host::Result<()> {
    match (version, frozen) {
        (Version::V1, true) => write(&dir.join("freezer.state"), "FROZEN"),
        (Version::V1, false) => write(&dir.join("freezer.state"), "THAWED"),
        (Version::V2, frozen) => write(&dir.join("cgroup.freeze"), if frozen { "1" } else { "0" }),
    }
}

/// Version 1 is asked until it says FROZEN; each question also makes it look again. Between FREEZING and that there is
/// nothing to wait for.
fn freeze_v1(dir: &Path) -> coracle_host::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let state = dir.join("freezer.state");
    let mut pause = Duration::from_micros(20);
    for round in 0.. {
        if round % NUDGE == 0 {
            if round > 0 {
                set(dir, Version::V1, false)?;
            }
            set(dir, Version::V1, true)?;
        }
        if read::text(&state)?.trim() == "FROZEN" {
            return Ok(());
        }
        if Instant::now() >= deadline {
            break;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
    }
    Err(coracle_host::Error::new(
        Kind::Timeout,
        format!("{state:?} does not become FROZEN within {PATIENCE:?}"),
    ))
}

/// Version 2 tells: `cgroup.events` is readable out of band when it has changed.
fn freeze_v2(dir: &Path) -> coracle_host::Result<()> {
    let events = dir.join("cgroup.events");
    let file = File::open(&events).call(|| format!("open({events:?})"))?;
    set(dir, Version::V2, true)?;
    let deadline = Instant::now() + PATIENCE;
    while !frozen(&file, &events)? {
        let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now())).unwrap_or_default();
        let mut fds = [PollFd::from_borrowed_fd(file.as_fd(), PollFlags::PRI)];
        match poll(&mut fds, Some(&left)) {
            Ok(0) => {
                let text = format!("{events:?} does not say `frozen 1` within {PATIENCE:?}");
                return Err(coracle_host::Error::new(Kind::Timeout, text));
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).call(|| format!("poll({events:?})")),
        }
    }
    Ok(())
}

/// Read from the descriptor that is polled: that is what makes it wait for the next change.
fn frozen(file: &File, events: &Path) -> coracle_host::Result<bool> {
    let mut buffer = [0; 256];
    let read = rustix::io::pread(file, &mut buffer, 0).call(|| format!("pread({events:?})"))?;
    let text = String::from_utf8_lossy(&buffer[..read]);
    Ok(text.lines().any(|line| line == "frozen 1"))
}

fn events_say_frozen(events: &Path) -> coracle_host::Result<bool> {
    Ok(read::table(events)?.get("frozen") == Some(&1))
}
