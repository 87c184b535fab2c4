//! What a container wrote, read from its log.

use std::collections::VecDeque;
use std::fs::File;
use std::io::BufReader;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, SystemTime};

use coracle_host::{Call, Follow};
use coracle_runtime::{Log, LogEntry};

use super::handle::Container;
use super::record::LOG;
use crate::Kind;
use crate::error::{Doing, Result};

/// How long is waited before looking whether a container has ended in a way that nobody tells of.
const LOOK: Duration = Duration::from_secs(1);

/// Which part of a log.
#[derive(Clone, Debug, Default)]
pub struct LogQuery {
    since: Option<String>,
    until: Option<String>,
    tail: Option<usize>,
    follow: bool,
}

impl LogQuery {
    /// All of it, as it is now.
    pub fn new() -> LogQuery {
        LogQuery::default()
    }

    /// What was read from this time on.
    #[must_use]
    pub fn since(mut self, time: SystemTime) -> LogQuery {
        self.since = Some(written(time));
        self
    }

    /// What was read up to this time.
    #[must_use]
    pub fn until(mut self, time: SystemTime) -> LogQuery {
        self.until = Some(written(time));
        self
    }

    /// So many entries at most of what is there, the last ones.
    #[must_use]
    pub fn tail(mut self, most: usize) -> LogQuery {
        self.tail = Some(most);
        self
    }

    /// And what comes, to the end of the container.
    #[must_use]
    pub fn follow(mut self) -> LogQuery {
        self.follow = true;
        self
    }

    fn wants(&self, entry: &LogEntry) -> bool {
        self.since.as_ref().is_none_or(|since| entry.time >= *since) && !self.is_past(entry)
    }

    fn is_past(&self, entry: &LogEntry) -> bool {
        self.until.as_ref().is_some_and(|until| entry.time > *until)
    }
}

/// As logs have it: all of one length, so that their order is that of the texts.
fn written(time: SystemTime) -> String {
    let time = jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::MAX);
    format!("{time:.9}")
}

/// The entries of a log, one after the other. `as_fd` is readable when there may be another one.
pub struct Logs<'a> {
    container: &'a Container,
    query: LogQuery,
    follow: Follow,
    waiting: VecDeque<LogEntry>,
    over: bool,
}

impl Container {
    /// Its log so far: what it wrote to its standard output and error, a line an entry.
    ///
    /// # Errors
    /// `NotFound` where it was removed meanwhile; as of read(2).
    pub fn logs(&self) -> Result<Vec<LogEntry>> {
        let mut logs = self.read_logs(&LogQuery::new())?;
        let mut all = Vec::new();
        while let Some(entry) = logs.next()? {
            all.push(entry);
        }
        Ok(all)
    }

    /// A part of its log.
    ///
    /// # Errors
    /// `NotFound` where it was removed meanwhile; as of open(2) and read(2).
    pub fn read_logs(&self, query: &LogQuery) -> Result<Logs<'_>> {
        let doing = || format!("read the log of container `{}`", self.name());
        self.is_there()?;
        let follow = Follow::open(&self.room, LOG).doing(doing)?;
        let mut logs =
            Logs { container: self, query: query.clone(), follow, waiting: VecDeque::new(), over: false };
        for file in Log::before(&self.room, LOG).doing(doing)? {
            // It may have made way just now.
            if !logs.follow.is_at(&file).doing(doing)? {
                logs.take_file(file).doing(doing)?;
            }
        }
        logs.read().doing(doing)?;
        if let Some(most) = query.tail {
            logs.waiting.drain(..logs.waiting.len().saturating_sub(most));
            logs.query.tail = None;
        }
        Ok(logs)
    }
}

impl Logs<'_> {
    /// The next entry; with [`LogQuery::follow`] it is waited for. `None`: there are no more.
    ///
    /// # Errors
    /// As of read(2) and poll(2).
    #[expect(clippy::should_implement_trait, reason = "it can fail at every step")]
    pub fn next(&mut self) -> Result<Option<LogEntry>> {
        while self.waiting.is_empty() && self.query.follow && !self.over {
            // The state first: what a container wrote before its end is in the log then.
            let alive = self.is_alive()?;
            self.read()?;
            if !self.waiting.is_empty() {
                break;
            }
            if !alive {
                self.over = true;
            } else {
                self.follow.wait(Some(LOOK))?;
            }
        }
        Ok(self.waiting.pop_front())
    }

    /// The next entry that is there already.
    ///
    /// # Errors
    /// As of read(2).
    pub fn next_now(&mut self) -> Result<Option<LogEntry>> {
        if self.waiting.is_empty() {
            self.read()?;
        }
        Ok(self.waiting.pop_front())
    }

    fn is_alive(&self) -> Result<bool> {
        match self.container.state() {
            Ok(state) => Ok(state.is_alive()),
            Err(error) if error.kind() == Kind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn read(&mut self) -> Result<()> {
        let (waiting, query, over) = (&mut self.waiting, &self.query, &mut self.over);
        Ok(self.follow.read(|line| keep(Log::entry(line), query, waiting, over))?)
    }

    fn take_file(&mut self, file: File) -> Result<()> {
        for entry in Log::read(BufReader::new(file)).call(|| "read(log)")? {
            keep(Some(entry), &self.query, &mut self.waiting, &mut self.over);
        }
        Ok(())
    }
}

fn keep(entry: Option<LogEntry>, query: &LogQuery, waiting: &mut VecDeque<LogEntry>, over: &mut bool) {
    let Some(entry) = entry else { return };
    *over |= query.is_past(&entry);
    if query.wants(&entry) {
        waiting.push_back(entry);
        // Of what is there already no more is remembered than is asked for.
        if query.tail.is_some_and(|most| waiting.len() > most) {
            waiting.pop_front();
        }
    }
}

impl AsFd for Logs<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.follow.as_fd()
    }
}

impl std::fmt::Debug for Logs<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logs").field("query", &self.query).finish_non_exhaustive()
    }
}
