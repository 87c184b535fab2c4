//! What is written of a container: everything its supervisor needs, and nothing that changes.

use std::time::Duration;

use coracle_build::RunConfig;
use coracle_host::{Call, Dir, Exit, Staging};
use coracle_layers::ChainId;
use coracle_runtime::LogLimits;
use oci_spec::runtime::{LinuxDeviceCgroup, Spec};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::device::Device;
use super::filter::Seccomp;
use super::health::Health;
use super::healthcheck::HealthCheck;
use super::limits::Limits;
use super::mount::{Mount, Source};
use super::restart::Restart;
use super::spaces::Spaces;
use crate::error::{Error, Result};
use crate::resolver::{HostAddress, Resolver};
use crate::stack::Mode;
use crate::{Kind, events};

pub(crate) const RECORD: &str = "record";
pub(crate) const LOCK: &str = "lock";
pub(crate) const LOG: &str = "log";
pub(crate) const CONTROL: &str = "control";
pub(crate) const UPPER: &str = "upper";
pub(crate) const WORK: &str = "work";
const EXIT: &str = "exit";

/// `containers/<id>/record`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) name: Option<String>,
    /// RFC 3339, UTC.
    pub(crate) created: String,
    /// The image as it was asked for, and its id.
    pub(crate) image: String,
    pub(crate) image_id: String,
    pub(crate) layers: Vec<ChainId>,
    /// All but the user's ids, which are looked up in the root file system at every start.
    pub(crate) spec: Spec,
    /// How it is run, in an image's words.
    pub(crate) config: RunConfig,
    pub(crate) hostname: String,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) network: Mode,
    pub(crate) hosts: Vec<(String, HostAddress)>,
    #[serde(default)]
    pub(crate) resolver: Resolver,
    /// In docker's `-p` form.
    #[serde(default)]
    pub(crate) publish: Vec<String>,
    /// All that it says that it serves to be published.
    #[serde(default)]
    pub(crate) publish_exposed: bool,
    /// Its standard input is its starter's.
    pub(crate) interactive: bool,
    /// Its standard input is a pipe, for those who attach.
    #[serde(default)]
    pub(crate) open_stdin: bool,
    /// That pipe ends with the first one who attaches.
    #[serde(default)]
    pub(crate) stdin_once: bool,
    /// What it writes is copied to its starter's output.
    pub(crate) attach: bool,
    #[serde(default)]
    pub(crate) limits: Limits,
    /// Rules for the use of devices besides docker's.
    #[serde(default)]
    pub(crate) device_rules: Vec<LinuxDeviceCgroup>,
    /// Namespaces of others.
    #[serde(default)]
    pub(crate) spaces: Spaces,
    /// Further groups, by name or number.
    #[serde(default)]
    pub(crate) groups: Vec<String>,
    /// What was asked for in words of which the spec has only what came of them.
    #[serde(default)]
    pub(crate) asked: Asked,
    #[serde(default)]
    pub(crate) cgroup_parent: Option<String>,
    #[serde(default)]
    pub(crate) privileged: bool,
    #[serde(default)]
    pub(crate) seccomp: Seccomp,
    /// A small program is its first process.
    #[serde(default)]
    pub(crate) init: bool,
    /// How much of its output is kept; `None`: nothing.
    #[serde(default)]
    pub(crate) log: Option<LogLimits>,
    #[serde(default)]
    pub(crate) restart: Restart,
    #[serde(default)]
    pub(crate) health: Option<HealthCheck>,
    /// What `stop` sends first, and how long it waits before it kills; where the spec or the image says so.
    #[serde(default)]
    pub(crate) stop_signal: Option<u8>,
    #[serde(default)]
    pub(crate) stop_timeout: Option<Duration>,
    /// It outlives the program that started it.
    pub(crate) keep: bool,
    /// What is left of it stays after its end, until it is removed.
    pub(crate) retain: bool,
}

/// Words of a container's spec that are only told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Asked {
    #[serde(default)]
    pub(crate) cap_add: Vec<String>,
    #[serde(default)]
    pub(crate) cap_drop: Vec<String>,
    #[serde(default)]
    pub(crate) devices: Vec<Device>,
    #[serde(default)]
    pub(crate) device_rules: Vec<String>,
    #[serde(default)]
    pub(crate) apparmor: Option<String>,
    #[serde(default)]
    pub(crate) label_options: Vec<String>,
}

impl Record {
    /// The name it goes by.
    pub(crate) fn display_name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.id[..self.id.len().min(12)])
    }

    /// Tells those who listen that this happened to it.
    pub(crate) fn tell(&self, state: &Dir, action: &str, more: &[(&str, &str)]) {
        let mut attributes = self.config.labels.clone();
        attributes.insert("name".into(), self.display_name().into());
        attributes.insert("image".into(), self.image.clone());
        attributes.extend(more.iter().map(|(key, value)| (String::from(*key), String::from(*value))));
        events::tell(state, "container", action, &self.id, attributes);
    }

    /// The context of SELinux's that its files have.
    pub(crate) fn mount_label(&self) -> Option<&str> {
        self.spec.linux().as_ref()?.mount_label().as_deref()
    }

    /// Whether its streams are a terminal.
    pub(crate) fn terminal(&self) -> bool {
        self.spec.process().as_ref().is_some_and(|process| process.terminal() == Some(true))
    }

    /// The volumes without a name of its own that it brought.
    pub(crate) fn drawn_volumes(&self) -> impl Iterator<Item = &str> {
        self.mounts.iter().filter(|mount| mount.drawn).filter_map(|mount| match &mount.source {
            Source::Volume(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Replaces the record in a container's room.
    pub(crate) fn write(&self, room: &Dir, staging: &Staging) -> Result<()> {
        Ok(staging.write(room, RECORD, &json(self)?)?)
    }

    /// Reads the record in a container's room.
    pub(crate) fn read(room: &Dir) -> Result<Record> {
        parse(room, RECORD, &room.read(RECORD)?)
    }
}

/// How it ended, in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ending {
    Code(u8),
    Signal(u8),
    Unknown,
}

impl From<Exit> for Ending {
    fn from(exit: Exit) -> Ending {
        match exit {
            Exit::Code(code) => Ending::Code(code),
            Exit::Signal(signal) => Ending::Signal(signal),
            _ => Ending::Unknown,
        }
    }
}

impl From<Ending> for Exit {
    fn from(ending: Ending) -> Exit {
        match ending {
            Ending::Code(code) => Exit::Code(code),
            Ending::Signal(signal) => Exit::Signal(signal),
            Ending::Unknown => Exit::Unknown,
        }
    }
}

/// `containers/<id>/exit`: how its last run ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) ending: Ending,
    /// RFC 3339, UTC; empty where it never ran.
    #[serde(default)]
    pub(crate) started: String,
    pub(crate) finished: String,
    /// How often it was started again by its policy.
    #[serde(default)]
    pub(crate) restarts: u32,
    /// Why it could not be started.
    #[serde(default)]
    pub(crate) error: String,
    #[serde(default)]
    pub(crate) health: Option<Health>,
    /// A process of it was killed for want of memory.
    #[serde(default)]
    pub(crate) oom_killed: bool,
}

impl Ended {
    /// Writes how a container ended.
    pub(crate) fn write(&self, room: &Dir, staging: &Staging, durable: bool) -> Result<()> {
        use std::io::Write;
        let text = json(self)?;
        if durable {
            return Ok(staging.write(room, EXIT, &text)?);
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
        let mut file = std::fs::File::from(room.file(EXIT, flags, 0o600)?);
        Ok(file.write_all(&text).call(|| format!("write({:?})", room.path_of(EXIT)))?)
    }

    /// How a container ended, if it has and somebody was there to see it.
    pub(crate) fn read(room: &Dir) -> Result<Option<Ended>> {
        // Empty: it is being written, or its disk was full.
        let Some(bytes) = room.read_if_there(EXIT)?.filter(|bytes| !bytes.is_empty()) else {
            return Ok(None);
        };
        parse(room, EXIT, &bytes).map(Some)
    }
}

/// It is about to run again.
pub(crate) fn forget_exit(room: &Dir) -> Result<()> {
    match room.remove_file(EXIT) {
        Err(error) if error.kind() != Kind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

pub(crate) fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::new(Kind::Other, format!("write JSON: {error}")))
}

fn parse<T: for<'de> Deserialize<'de>>(room: &Dir, name: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        Error::new(Kind::Corrupt, format!("{:?} can't be read: {error}", room.path_of(name)))
    })
}
