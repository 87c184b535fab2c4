//! What is kept of a container between calls, and what the kernel says of it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use coracle_host::{Dir, Kind, Lock, PidFd};
use oci_spec::runtime::Spec;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::error::{During, Error, Result};

/// The directory of all containers.
pub(crate) struct Home(PathBuf);

/// Written when the container is made, and not changed.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    pub(crate) oci_version: String,
    pub(crate) id: String,
    /// The first process, as this host counts.
    pub(crate) pid: u32,
    /// When the kernel made that process (proc_pid_stat(5), `starttime`): another one with its number has another.
    pub(crate) born: u64,
    pub(crate) bundle: PathBuf,
    pub(crate) rootfs: PathBuf,
    /// RFC 3339.
    pub(crate) created: String,
    /// Its control group, as `linux.cgroupsPath` has it. Absent: it has none.
    pub(crate) cgroup: Option<PathBuf>,
    #[serde(default)]
    pub(crate) annotations: HashMap<String, String>,
}

/// runtime.md, "State".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

/// A container that is there.
pub(crate) struct Found {
    pub(crate) dir: Dir,
    /// Absent while it is being made, and where that was broken off.
    pub(crate) record: Option<Record>,
}

const RECORD: &str = "state.json";
const CONFIG: &str = "config.json";
/// A FIFO that the first process reads one byte from before its program.
pub(crate) const GO: &str = "go";
const LOCK: &str = "lock";

impl Home {
    pub(crate) fn new(path: &Path) -> Home {
        Home(path.to_owned())
    }

    pub(crate) fn open(&self) -> Result<Dir> {
        Dir::create(&self.0, 0o700).during(|| "open the state directory".to_owned())
    }

    /// Claims an id for a new container.
    pub(crate) fn claim(&self, id: &str) -> Result<(Dir, Lock)> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
        if id.is_empty() || id.len() > 255 || id.starts_with('.') || !id.bytes().all(plain) {
            return Err(Error::new(format!(
                "container id {id:?}: 1 to 255 letters, digits, and `_+-.` are allowed, and no `.` first"
            )));
        }
        let dir = self.open()?.make_new(id, 0o700).map_err(|error| match error.kind() {
            Kind::AlreadyExists => Error::new(format!("container `{id}` already exists")),
            _ => error.into(),
        })?;
        let lock = Lock::exclusive(&dir, LOCK)?;
        Ok((dir, lock))
    }

    pub(crate) fn find(&self, id: &str) -> Result<Found> {
        let missing = || Error::new(format!("container `{id}` does not exist"));
        if id.is_empty() || id.contains('/') || id.starts_with('.') {
            return Err(missing());
        }
        let home = Dir::open(&self.0).map_err(|_| missing())?;
        let dir = home.dir_if_there(id)?.ok_or_else(missing)?;
        Found::read(dir)
    }

    pub(crate) fn ids(&self) -> Result<Vec<String>> {
        let Ok(dir) = Dir::open(&self.0) else { return Ok(Vec::new()) };
        let mut ids: Vec<String> =
            dir.names()?.into_iter().filter_map(|name| name.into_string().ok()).collect();
        ids.sort();
        Ok(ids)
    }
}

impl Found {
    fn read(dir: Dir) -> Result<Found> {
        let record = match dir.read_if_there(RECORD)? {
            None => None,
            Some(bytes) => {
                Some(serde_json::from_slice(&bytes).during(|| format!("read {:?}", dir.path_of(RECORD)))?)
            }
        };
        Ok(Found { dir, record })
    }

    /// The record of a container that is made.
    pub(crate) fn record(&self) -> Result<&Record> {
        let name = || self.dir.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.record.as_ref().ok_or_else(|| Error::new(format!("container `{}` is still being made", name())))
    }

    /// What others do to it waits.
    pub(crate) fn lock(&self) -> Result<Lock> {
        Ok(Lock::exclusive(&self.dir, LOCK)?)
    }

    /// Its first process, while that has not ended.
    pub(crate) fn process(&self) -> Result<Option<PidFd>> {
        let Some(record) = &self.record else { return Ok(None) };
        let pidfd = match PidFd::open(record.pid) {
            Err(error) if error.kind() == Kind::NotFound => return Ok(None),
            other => other?,
        };
        // The descriptor first: what is read now is of the process that it refers to, or of none.
        let same = crate::process::born(record.pid) == Some(record.born);
        let ended = pidfd.ended_within(Some(std::time::Duration::ZERO))?;
        Ok((same && !ended).then_some(pidfd))
    }

    pub(crate) fn status(&self) -> Result<Status> {
        if self.record.is_none() {
            return Ok(Status::Creating);
        }
        if self.process()?.is_none() {
            return Ok(Status::Stopped);
        }
        if self.gate()?.is_some() {
            return Ok(Status::Created);
        }
        match crate::cgroup::find(self.record()?)? {
            Some(group) if group.is_frozen().unwrap_or(false) => Ok(Status::Paused),
            _ => Ok(Status::Running),
        }
    }

    /// The end to write the word to go to. `None`: nobody waits for it.
    pub(crate) fn gate(&self) -> Result<Option<std::os::fd::OwnedFd>> {
        match self.dir.file(GO, OFlags::WRONLY | OFlags::NONBLOCK, 0) {
            Ok(fd) => Ok(Some(fd)),
            Err(error) if error.errno() == Some(rustix::io::Errno::NXIO) => Ok(None),
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The configuration as it was when the container was made (runtime.md, "Lifecycle": later changes have no effect).
    pub(crate) fn config(&self) -> Result<Spec> {
        let bytes = self.dir.read(CONFIG)?;
        serde_json::from_slice(&bytes).during(|| format!("read {:?}", self.dir.path_of(CONFIG)))
    }
}

impl Record {
    pub(crate) fn write(&self, dir: &Dir) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).during(|| "write the record".to_owned())?;
        replace(&dir.path_of(RECORD), &text)
    }
}

pub(crate) fn keep_config(dir: &Dir, text: &[u8]) -> Result<()> {
    replace(&dir.path_of(CONFIG), text)
}

/// A file under its name is always whole.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut staged = path.as_os_str().to_owned();
    staged.push(".new");
    let written = std::fs::write(&staged, bytes).and_then(|()| std::fs::rename(&staged, path));
    written.during(|| format!("write {path:?}"))
}

/// Makes the FIFO, and opens it for both, so that it never ends.
pub(crate) fn make_gate(dir: &Dir) -> Result<std::os::fd::OwnedFd> {
    let mode = Mode::RUSR | Mode::WUSR;
    rustix::fs::mknodat(dir, GO, rustix::fs::FileType::Fifo, mode, 0)
        .during(|| format!("mknod({:?})", dir.path_of(GO)))?;
    Ok(dir.file(GO, OFlags::RDWR, 0)?)
}
