//! What is asked of a container's supervisor, at the socket in its room, and what it answers.

use std::os::fd::OwnedFd;

use coracle_host::{Answer, Dir, Handoff, PidFd};
use serde::{Deserialize, Serialize};

use super::exec::ExecSpec;
use super::health::Health;
use super::record::{CONTROL, json};
use crate::Kind;
use crate::error::{Error, Result};
use crate::stack::Attachment;

/// A question.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Question {
    /// How are things, and may I have the pidfd and the root directory?
    Reach,
    /// What it writes from now on, and the end that it reads from.
    Attach {
        /// Pipes with what it writes.
        output: bool,
        /// Where to write what it reads: the other end of a pipe, or its terminal.
        input: bool,
    },
    /// It is to be ended: don't start it again.
    Hold,
    /// Join this network.
    Connect(Attachment),
    /// Leave the network of this name.
    Disconnect(String),
    /// Run this in it, and wait for it.
    Exec(Box<ExecSpec>),
    /// Its record has changed: its name counts at once, the rest from the next start on.
    Reload,
}

/// An answer. The descriptors come in the order of the fields that tell of them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// There is a process; with [`Question::Reach`] come its pidfd and its root directory.
    pub(crate) running: bool,
    /// It has ended and is about to be started again.
    pub(crate) restarting: bool,
    /// Its number, for people.
    pub(crate) pid: u32,
    /// When it was started last (RFC 3339).
    pub(crate) started: String,
    /// How often it was started again.
    pub(crate) restarts: u32,
    pub(crate) health: Option<Health>,
    /// Why what was asked for could not be done.
    pub(crate) failure: Option<Failure>,
    /// What came with the answer to [`Question::Attach`].
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    pub(crate) stdin: bool,
}

/// What a supervisor said.
pub(crate) struct Reached {
    pub(crate) report: Report,
    fds: std::vec::IntoIter<OwnedFd>,
}

impl Reached {
    /// The next descriptor, if `is_there`.
    pub(crate) fn take(&mut self, is_there: bool) -> Option<OwnedFd> {
        if is_there { self.fds.next() } else { None }
    }

    /// The process and its root directory, of an answer to [`Question::Reach`].
    pub(crate) fn process(mut self) -> Option<(PidFd, OwnedFd)> {
        let running = self.report.running;
        self.take(running).map(PidFd::from_fd).zip(self.take(running))
    }
}

/// Asks the supervisor of the container in this room. `None`: it has none (any more).
pub(crate) fn ask(room: &Dir, question: Question) -> Result<Option<Reached>> {
    let Some(Answer { text, fds }) = Handoff::ask(room, CONTROL, &json(&question)?)? else { return Ok(None) };
    let report = serde_json::from_slice(&text).map_err(|error| {
        let path = room.path_of(CONTROL);
        Error::new(Kind::Corrupt, format!("the answer of the supervisor at {path:?} can't be read: {error}"))
    })?;
    Ok(Some(Reached { report, fds: fds.into_iter() }))
}

/// An error on its way from one process to another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    kind: u8,
    command_status: Option<u8>,
    message: String,
}

/// All kinds, in an order that both sides have: they are the same program.
const KINDS: [Kind; 12] = [
    Kind::Other,
    Kind::Invalid,
    Kind::NotFound,
    Kind::AlreadyExists,
    Kind::InUse,
    Kind::Denied,
    Kind::Unsupported,
    Kind::Exhausted,
    Kind::Corrupt,
    Kind::Timeout,
    Kind::Interrupted,
    Kind::Failed,
];

impl From<&Error> for Failure {
    fn from(error: &Error) -> Failure {
        let kind = KINDS.iter().position(|kind| *kind == error.kind()).unwrap_or_default();
        Failure {
            kind: u8::try_from(kind).unwrap_or_default(),
            command_status: error.command_status(),
            message: error.to_string(),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        let kind = KINDS.get(usize::from(failure.kind)).copied().unwrap_or(Kind::Other);
        Error::from_parts(kind, failure.command_status, failure.message)
    }
}
