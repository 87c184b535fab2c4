//! What happens in an engine, whoever does it: a line a happening, appended to a file that others follow.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use coracle_host::{Call, Dir};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::Engine;
use crate::container::json;
use crate::error::{Error, Result};

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
        let dir = self.0.state.dir.clone();
        let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).call(|| "inotify_init()")?;
        let path = dir.path();
        inotify::add_watch(&watch, path, WatchFlags::MODIFY | WatchFlags::MOVED_TO | WatchFlags::CREATE)
            .call(|| format!("inotify_add_watch({path:?})"))?;
        let mut events =
            Events { dir, watch, file: None, offset: 0, line: Vec::new(), waiting: VecDeque::new() };
        if past && let Some(before) = events.dir.read_if_there(BEFORE)? {
            take(&mut Vec::new(), &mut events.waiting, &before);
        }
        events.open()?;
        if !past && let Some(file) = &events.file {
            events.offset = file.metadata().call(|| "fstat(events)")?.len();
        }
        events.read()?;
        Ok(events)
    }
}

/// A stream of what happens. [`Events::next_within`] waits; `as_fd` is readable when there may be something new.
#[derive(Debug)]
pub struct Events {
    dir: Dir,
    watch: OwnedFd,
    file: Option<File>,
    offset: u64,
    line: Vec<u8>,
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
            self.read()?;
            if !self.waiting.is_empty() {
                continue;
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let left = left.map(|left| Timespec::try_from(left).unwrap_or_default());
            match poll(&mut [PollFd::new(&self.watch, PollFlags::IN)], left.as_ref()) {
                Ok(0) => return Ok(None),
                Ok(_) => self.calm()?,
                Err(Errno::INTR) => {}
                Err(errno) => Err(errno).call(|| "poll(inotify)")?,
            }
        }
    }

    /// Empties the queue of changes; that there were some is all that it has to say.
    fn calm(&self) -> Result<()> {
        let mut buffer = [0; 4096];
        loop {
            match rustix::io::read(&self.watch, &mut buffer) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(errno) => Err(errno).call(|| "read(inotify)")?,
            }
        }
    }

    fn open(&mut self) -> Result<()> {
        // Made if it is not there: what is written and has made way before we look is seen all the same.
        self.file = Some(self.dir.file(FILE, OFlags::RDWR | OFlags::CREATE, 0o600)?.into());
        self.offset = 0;
        self.line.clear();
        Ok(())
    }

    /// Reads on, into the next file where the old one has made way.
    fn read(&mut self) -> Result<()> {
        loop {
            if self.file.is_none() {
                self.open()?;
            }
            let Some(file) = &self.file else { return Ok(()) };
            let moved = !self.is_current(file)?;
            let mut buffer = vec![0; 64 << 10];
            loop {
                let read = file.read_at(&mut buffer, self.offset).call(|| "read(events)")?;
                if read == 0 {
                    break;
                }
                self.offset += read as u64;
                take(&mut self.line, &mut self.waiting, &buffer[..read]);
            }
            if !moved {
                return Ok(());
            }
            self.file = None;
        }
    }

    fn is_current(&self, file: &File) -> Result<bool> {
        use std::os::unix::fs::MetadataExt;
        let ours = file.metadata().call(|| "fstat(events)")?;
        match std::fs::metadata(self.dir.path_of(FILE)) {
            Ok(now) => Ok((now.dev(), now.ino()) == (ours.dev(), ours.ino())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => {
                let path = self.dir.path_of(FILE);
                Err(Error::from(coracle_host::Error::os(
                    format!("stat({path:?})"),
                    Errno::from_io_error(&error).unwrap_or(Errno::IO),
                )))
            }
        }
    }
}

/// Whole lines become events; the rest waits. What is no event was cut off by a full disk.
fn take(line: &mut Vec<u8>, events: &mut VecDeque<EngineEvent>, bytes: &[u8]) {
    for part in bytes.split_inclusive(|byte| *byte == b'\n') {
        line.extend_from_slice(part);
        if part.ends_with(b"\n") {
            events.extend(serde_json::from_slice::<EngineEvent>(line).ok());
            line.clear();
        }
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }
}
