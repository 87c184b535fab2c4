//! What is written of a container: everything its supervisor needs, and nothing that changes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use coracle_host::{Call, Dir, Exit, Staging};
use coracle_layers::ChainId;
use oci_spec::runtime::Spec;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::spec::MountSpec;
use crate::Kind;
use crate::error::{Error, Result};
use crate::stack::Mode;

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
    pub(crate) user: String,
    pub(crate) hostname: String,
    pub(crate) mounts: Vec<MountSpec>,
    /// Where the image declares volumes and nothing else is mounted: each gets a volume without a name.
    #[serde(default)]
    pub(crate) anonymous: Vec<PathBuf>,
    pub(crate) network: Mode,
    pub(crate) hosts: Vec<(String, IpAddr)>,
    /// In docker's `-p` form.
    #[serde(default)]
    pub(crate) publish: Vec<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) interactive: bool,
    pub(crate) attach: bool,
    /// It outlives the program that started it.
    pub(crate) keep: bool,
    /// What is left of it stays after its end, until it is removed.
    pub(crate) retain: bool,
}

impl Record {
    /// The name it goes by.
    pub(crate) fn display_name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.id[..self.id.len().min(12)])
    }

    /// Reads the record in a container's room.
    pub(crate) fn read(room: &Dir) -> Result<Record> {
        parse(room, RECORD, &room.read(RECORD)?)
    }
}

/// `containers/<id>/exit`: how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Ending {
    Code(u8),
    Signal(u8),
    Unknown,
}

#[derive(Debug, Serialize, Deserialize)]
struct Ended {
    ending: Ending,
    finished: String,
}

/// Writes how a container ended.
pub(crate) fn write_exit(room: &Dir, staging: &Staging, exit: Exit, durable: bool) -> Result<()> {
    use std::io::Write;
    let ending = match exit {
        Exit::Code(code) => Ending::Code(code),
        Exit::Signal(signal) => Ending::Signal(signal),
        _ => Ending::Unknown,
    };
    let ended = Ended { ending, finished: jiff::Timestamp::now().to_string() };
    let text = json(&ended)?;
    if durable {
        return Ok(staging.write(room, EXIT, &text)?);
    }
    let mut file =
        std::fs::File::from(room.file(EXIT, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC, 0o600)?);
    Ok(file.write_all(&text).call(|| format!("write({:?})", room.path_of(EXIT)))?)
}

/// How a container ended, and when (RFC 3339), if it has and somebody was there to see it.
pub(crate) fn read_exit(room: &Dir) -> Result<Option<(Exit, String)>> {
    // Empty: it is being written, or its disk was full.
    let Some(bytes) = room.read_if_there(EXIT)?.filter(|bytes| !bytes.is_empty()) else { return Ok(None) };
    let ended: Ended = parse(room, EXIT, &bytes)?;
    let exit = match ended.ending {
        Ending::Code(code) => Exit::Code(code),
        Ending::Signal(signal) => Exit::Signal(signal),
        Ending::Unknown => Exit::Unknown,
    };
    Ok(Some((exit, ended.finished)))
}

pub(crate) fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::new(Kind::Other, format!("write JSON: {error}")))
}

fn parse<T: for<'de> Deserialize<'de>>(room: &Dir, name: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        Error::new(Kind::Corrupt, format!("{:?} can't be read: {error}", room.path_of(name)))
    })
}
