//! Stages side by side: who is done, who waits for whom, and what is heard of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coracle_host::Kind;

use super::Solver;
use crate::cache::CachedStep;
use crate::error::{Error, Result};
use crate::event::{Event, Outcome, Place, StepReport};
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
}

impl<T: Clone> Board<T> {
    pub(super) fn new() -> Board<T> {
        let inner = Inner { done: BTreeMap::new(), stopped: false };
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

/// The reports, warnings and cached steps of a stage that is done.
pub(super) type Told = (Vec<StepReport>, Vec<String>, Vec<CachedStep>);

/// What is told and reported of one stage.
pub(super) struct Track {
    pub(super) reports: Vec<StepReport>,
    pub(super) warnings: Vec<String>,
    pub(super) cache: Vec<CachedStep>,
    events: SyncSender<Event>,
}

impl Track {
    pub(super) fn tell(&self, event: Event) {
        // Nobody hears it any more where the listener has panicked.
        let _ = self.events.send(event);
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
            let mut track = Track {
                reports: Vec::new(),
                warnings: Vec::new(),
                cache: Vec::new(),
                events: events.clone(),
            };
            let result = solver.stage(stage, &mut track).map(|state| solver.board.done(stage.index, state));
            if result.is_err() {
                solver.board.stop();
            }
            let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
            // Without its end of the channel, which closes with the last of them.
            results.insert(at, result.map(|()| (track.reports, track.warnings, track.cache)));
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
