//! What happens in an engine, whoever does it: a line a happening, appended to a file that others follow.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use coracle_host::{Dir, Follow};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::Engine;
use crate::container::json;
use crate::error::Result;

/// The file of the state directory, and the one before it.
const FILE: &str = "events";
const BEFORE: &str = "events.1";
/// A file of this size, in bytes, makes way for a new one.
const FULL: u64 = 1 << 20;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EngineEvent {
    /// When: RFC 3339 with nanoseconds, UTC.
    pub time: String,
    /// To what: `container`, `image`, `network`, `volume`.
    pub kind: String,
    /// What: docker's words, `create`, `start`, `die`, `destroy`, `health_status: healthy`.
    pub action: String,
    /// Its id, or its name where that is what it is known by.
    pub id: String,
    /// What else there is to say: `name`, `image`, `exitCode`, `signal`, and labels.
    pub attributes: BTreeMap<String, String>,
}

/// Tells all who listen. What can't be written, on a full disk, is not told: nothing waits for listeners, and nothing
/// fails because of them.
pub(crate) fn tell(state: &Dir, kind: &str, action: &str, id: &str, attributes: BTreeMap<String, String>) {
    let event = EngineEvent {
        time: format!("{:.9}", jiff::Timestamp::now()),
        kind: kind.to_owned(),
        action: action.to_owned(),
        id: id.to_owned(),
        attributes,
    };
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND;
    if let (Ok(mut line), Ok(file)) = (json(&event), state.file(FILE, flags, 0o600)) {
        line.push(b'\n');
        let mut file = File::from(file);
        // One write: lines of several writers don't mix.
        let _ = file.write_all(&line);
        if file.metadata().is_ok_and(|file| file.len() >= FULL) {
            let _ = state.rename(FILE, state, BEFORE);
        }
    }
}

impl Engine {
    /// What happens from now on, and what is still known of what happened before if `past` is set: the last mebibyte of
    /// it, at least. It sees what all programs do with this state directory.
    ///
    /// # Errors
    /// As of inotify_init(2) and open(2).
    pub fn events(&self, past: bool) -> Result<Events> {
        let dir = &self.0.state.dir;
        // Made if it is not there: what is written and has made way before we look is seen all the same.
        dir.file(FILE, OFlags::WRONLY | OFlags::CREATE, 0o600)?;
        let mut events =
            Events { follow: Follow::open(dir, FILE)?, dir: dir.clone(), waiting: VecDeque::new() };
        if !past {
            events.follow.skip()?;
        } else if let Some(before) = dir.read_if_there(BEFORE)? {
            events.waiting.extend(before.split(|byte| *byte == b'\n').filter_map(event));
        }
        Ok(events)
    }
}

/// What a line says. What is no event was cut off by a full disk.
fn event(line: &[u8]) -> Option<EngineEvent> {
    serde_json::from_slice(line).ok()
}

/// A stream of what happens. [`Events::next_within`] waits; `as_fd` is readable when there may be something new.
#[derive(Debug)]
pub struct Events {
    follow: Follow,
    dir: Dir,
    waiting: VecDeque<EngineEvent>,
}

impl Events {
    /// The next one; waits for it for `patience` at most, or for ever. `None`: nothing happened.
    ///
    /// # Errors
    /// As of poll(2) and read(2).
    pub fn next_within(&mut self, patience: Option<Duration>) -> Result<Option<EngineEvent>> {
        let deadline = patience.map(|patience| Instant::now() + patience);
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Ok(Some(event));
            }
            let waiting = &mut self.waiting;
            self.follow.read(|line| waiting.extend(event(line)))?;
            // As above: the next file is there before anybody writes to it.
            self.dir.file(FILE, OFlags::WRONLY | OFlags::CREATE, 0o600)?;
            if !self.waiting.is_empty() {
                continue;
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if !self.follow.wait(left)? {
                return Ok(None);
            }
        }
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.follow.as_fd()
    }
}
