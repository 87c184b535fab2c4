//! Stages side by side: who is done, who waits for whom, and what is heard of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coracle_host::Kind;

use super::Solver;
use crate::cache::{CachedFiles, CachedStep, FilesRecord};
use crate::error::{Error, Result};
use crate::event::{Event, Outcome, Place, StepReport, Transfer};
use crate::worker::Worker;

/// Events that may wait to be heard.
pub(super) const EVENTS: usize = 1024;
/// Stages at once. Most of a build is waiting, so it is more than there are processors.
const THREADS: usize = 16;

/// The stages that are done, and whether one has failed.
pub(super) struct Board<T> {
    inner: Mutex<Inner<T>>,
    changed: Condvar,
}

struct Inner<T> {
    done: BTreeMap<usize, T>,
    stopped: bool,
    /// All stages begin again.
    again: bool,
    /// Stages that must have their files at their end.
    wanted: BTreeSet<usize>,
    /// What happened where nobody could tell it.
    news: Vec<Event>,
    /// Of all rounds: a step that was built in one is cached in the next.
    built: Vec<StepReport>,
    fetched: Vec<Transfer>,
    files: BTreeMap<String, CachedFiles>,
}

impl<T: Clone> Board<T> {
    /// Where the stage that is built for must have its files.
    pub(super) fn new(target: Option<usize>) -> Board<T> {
        let inner = Inner {
            done: BTreeMap::new(),
            stopped: false,
            again: false,
            wanted: target.into_iter().collect(),
            news: Vec::new(),
            built: Vec::new(),
            fetched: Vec::new(),
            files: BTreeMap::new(),
        };
        Board { inner: Mutex::new(inner), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the stage has come to, when it is done.
    ///
    /// # Errors
    /// `Interrupted` where another stage has failed meanwhile.
    pub(super) fn wait(&self, stage: usize) -> Result<T> {
        let mut inner = self.lock();
        loop {
            if let Some(done) = inner.done.get(&stage) {
                return Ok(done.clone());
            }
            if inner.stopped {
                return Err(interrupted());
            }
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// # Errors
    /// `Interrupted` where another stage has failed.
    pub(super) fn go_on(&self) -> Result<()> {
        if self.lock().stopped { Err(interrupted()) } else { Ok(()) }
    }

    fn done(&self, stage: usize, result: T) {
        self.lock().done.insert(stage, result);
        self.changed.notify_all();
    }

    fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    /// Ends this round: in the next one the stage has its files. Returns what the stage that asks ends with.
    pub(super) fn begin_again(&self, stage: usize) -> Error {
        let mut inner = self.lock();
        inner.wanted.insert(stage);
        (inner.again, inner.stopped) = (true, true);
        drop(inner);
        self.changed.notify_all();
        interrupted()
    }

    pub(super) fn begins_again(&self) -> bool {
        self.lock().again
    }

    /// Whether there is another round, which begins with this.
    pub(super) fn next_round(&self) -> bool {
        let mut inner = self.lock();
        inner.done.clear();
        inner.stopped = false;
        std::mem::take(&mut inner.again)
    }

    /// Whether the stage must have its files.
    pub(super) fn wants(&self, stage: usize) -> bool {
        self.lock().wanted.contains(&stage)
    }

    pub(super) fn news(&self, event: Event) {
        self.lock().news.push(event);
    }

    /// A stage has built a step.
    pub(super) fn was_built(&self, report: &StepReport) {
        self.lock().built.push(report.clone());
    }

    /// What the files are that a step reads is known under this key.
    pub(super) fn files(&self, key: &str, record: &FilesRecord) {
        let files = CachedFiles::new(key, record);
        self.lock().files.insert(key.to_owned(), files);
    }

    pub(super) fn tell_news(&self, track: &mut Track) {
        let news = std::mem::take(&mut self.lock().news);
        for event in news {
            match &event {
                Event::Warning { message } => track.warnings.push(message.clone()),
                Event::Fetched(transfer) => self.lock().fetched.push(transfer.clone()),
                _ => {}
            }
            track.send(event);
        }
    }

    /// What was kept of all rounds.
    pub(super) fn kept(self) -> Kept {
        let inner = self.inner.into_inner().unwrap_or_else(PoisonError::into_inner);
        let files = inner.files.into_values().collect();
        Kept { built: inner.built, fetched: inner.fetched, files }
    }
}

/// What a board knows at the end.
pub(super) struct Kept {
    pub(super) built: Vec<StepReport>,
    pub(super) fetched: Vec<Transfer>,
    pub(super) files: Vec<CachedFiles>,
}

fn interrupted() -> Error {
    Error::new(Kind::Interrupted, "another stage has failed")
}

/// Stops the others where a stage panics, so that nobody waits for it.
struct Guard<'a, T: Clone>(&'a Board<T>);

impl<T: Clone> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop();
        }
    }
}

/// What is told and reported of one stage.
pub(super) struct Track {
    pub(super) reports: Vec<StepReport>,
    pub(super) warnings: Vec<String>,
    pub(super) cache: Vec<CachedStep>,
    /// Reports of known results whose files were not here, and the snapshots' ids.
    known: Vec<(usize, String)>,
    /// What is told when it turns out to be so.
    held: Option<Vec<Event>>,
    events: SyncSender<Event>,
}

/// How much was reported of a stage at some point.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    reports: usize,
    cache: usize,
    known: usize,
}

impl Track {
    fn new(events: SyncSender<Event>) -> Track {
        let (reports, warnings, cache, known) = Default::default();
        Track { reports, warnings, cache, known, held: None, events }
    }

    pub(super) fn tell(&mut self, event: Event) {
        match &mut self.held {
            Some(held) => held.push(event),
            None => self.send(event),
        }
    }

    fn send(&self, event: Event) {
        // Nobody hears it any more where the listener has panicked.
        let _ = self.events.send(event);
    }

    /// From here on things may turn out otherwise.
    pub(super) fn hold(&mut self) -> Mark {
        self.held.get_or_insert_default();
        Mark { reports: self.reports.len(), cache: self.cache.len(), known: self.known.len() }
    }

    /// It was so.
    pub(super) fn release(&mut self) {
        for event in self.held.take().unwrap_or_default() {
            self.send(event);
        }
    }

    /// It was otherwise.
    pub(super) fn go_back(&mut self, to: Mark) {
        self.held = None;
        self.reports.truncate(to.reports);
        self.cache.truncate(to.cache);
        self.known.truncate(to.known);
    }

    /// The next report is of a result that is known to be this snapshot, and nobody has its files.
    pub(super) fn is_known(&mut self, snapshot: &str) {
        self.known.push((self.reports.len(), snapshot.to_owned()));
    }

    pub(super) fn warn(&mut self, message: String) {
        self.tell(Event::Warning { message: message.clone() });
        self.warnings.push(message);
    }

    pub(super) fn set(&mut self, at: Arc<Place>, duration: Duration) {
        self.reports.push(StepReport {
            at,
            outcome: Outcome::Set,
            duration,
            cost: Duration::ZERO,
            bytes: 0,
            causes: Vec::new(),
        });
    }

    /// The stage is done.
    fn end(self) -> Told {
        let Track { reports, warnings, cache, known, held, events: _ } = self;
        Told { reports, warnings, cache, known, held: held.unwrap_or_default() }
    }
}

/// What was told and reported of a stage that is done.
pub(super) struct Told {
    pub(super) reports: Vec<StepReport>,
    pub(super) warnings: Vec<String>,
    pub(super) cache: Vec<CachedStep>,
    pub(super) known: Vec<(usize, String)>,
    /// What nobody has heard yet.
    pub(super) held: Vec<Event>,
}

/// All stages, each as soon as those it needs are done; `on_event` is called on this thread only.
///
/// Threads take stages in the order of the file and wait for earlier ones only, so that there is always one that can
/// go on, however few threads there are.
///
/// # Errors
/// That of the first stage in the file that failed by itself. The others end after the step that they are at.
pub(super) fn stages<W: Worker>(
    solver: &Solver<'_, W>,
    events: SyncSender<Event>,
    heard: Receiver<Event>,
    on_event: &mut dyn FnMut(&Event),
) -> Result<Vec<Told>> {
    let plan = solver.plan;
    let next = AtomicUsize::new(0);
    let results: Mutex<BTreeMap<usize, Result<Told>>> = Mutex::new(BTreeMap::new());
    let work = |events: SyncSender<Event>| {
        let _guard = Guard(&solver.board);
        while let Some((at, stage)) = {
            let at = next.fetch_add(1, Ordering::Relaxed);
            plan.stages.get(at).map(|stage| (at, stage))
        } {
            let mut track = Track::new(events.clone());
            let result = solver.stage(stage, &mut track).map(|state| solver.board.done(stage.index, state));
            if result.is_err() {
                solver.board.stop();
            }
            let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
            // Without its end of the channel, which closes with the last of them.
            results.insert(at, result.map(|()| track.end()));
        }
    };
    std::thread::scope(|scope| {
        // Dropped before the threads are waited for, also where the listener panics.
        let heard = heard;
        let mut threads = 0;
        for _ in 0..plan.stages.len().min(THREADS) {
            let (events, work) = (events.clone(), &work);
            let name = std::thread::Builder::new().name("coracle-build".to_owned());
            match name.spawn_scoped(scope, move || work(events)) {
                Ok(_) => threads += 1,
                Err(_) if threads > 0 => break,
                Err(error) => return Err(Error::new(Kind::Exhausted, format!("clone(thread): {error}"))),
            }
        }
        drop(events);
        for event in heard {
            on_event(&event);
        }
        Ok(())
    })?;
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut tracks = Vec::new();
    let mut failed: Option<Error> = None;
    for result in results.into_values() {
        match result {
            Ok(track) => tracks.push(track),
            Err(error) if failed.as_ref().is_none_or(|e| e.kind() == Kind::Interrupted) => {
                failed = Some(error)
            }
            Err(_) => {}
        }
    }
    failed.map_or(Ok(tracks), Err)
}
