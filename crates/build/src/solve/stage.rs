//! A stage, step by step: from the cache, or by the worker. Where the cache knows what a step led to, and nobody has its files,
//! the stage goes on with that; if they turn out to be needed, it goes back to where that began.

use std::sync::Arc;
use std::time::{Duration, Instant};

use oci_spec::image::History;

use super::board::{Mark, Track};
use super::reached::Reached;
use super::step::Work;
use super::telling::Telling;
use super::{Solver, locate};
use crate::cache::{CachedStep, StepRecord};
use crate::cancel::Cancel;
use crate::error::Result;
use crate::event::{Event, Outcome, Place, Reason, StepReport};
use crate::plan::{Op, Origin, Stage, Step};
use crate::trace::{Cause, StepTrace};
use crate::worker::{Snapshot, Worker};

/// What a stage has come to.
#[derive(Clone)]
pub(super) struct State<S> {
    pub(super) reached: Reached<S>,
    pub(super) history: Vec<History>,
    /// When the newest layer was made: metadata is dated with it, so that it changes only when a layer does.
    pub(super) time: Option<String>,
    /// The line of the last step that was built.
    pub(super) dirty: Option<usize>,
}

/// A stage on its way.
pub(super) struct Walk<'t, S> {
    pub(super) state: State<S>,
    pub(super) told: Telling,
    pub(super) track: &'t mut Track,
    /// The next step, and what it is numbered.
    nth: usize,
    index: usize,
    /// The cache is not asked.
    pub(super) off: bool,
    /// Known results are not enough.
    strict: bool,
    back: Option<Back<S>>,
}

/// Where a stage was before it went on without files.
struct Back<S> {
    state: State<S>,
    nth: usize,
    index: usize,
    mark: Mark,
}

/// What became of a step.
pub(super) enum Went {
    On,
    /// It needs files that are not here.
    Short,
}

/// A step that was carried out.
pub(super) struct Done<S> {
    pub(super) snapshot: S,
    pub(super) created: String,
    pub(super) at: Arc<Place>,
    pub(super) reason: Reason,
    pub(super) started: Instant,
    pub(super) causes: Vec<Cause>,
}

impl<W: Worker> Solver<'_, W> {
    pub(super) fn stage(&self, stage: &Stage, track: &mut Track) -> Result<State<W::Snapshot>> {
        let started = Instant::now();
        let state = self.start(stage)?;
        let told = Telling::new(self, stage, state.reached.id());
        let from = usize::from(matches!(stage.from, Origin::Image(_)));
        let total = from + stage.steps.iter().filter(|step| step.op != Op::Set).count();
        let alone = stage.name.is_none() && self.plan.file.stages.len() == 1;
        let without = &self.spec.no_cache_stages;
        let by_name = stage.name.as_ref().is_some_and(|name| without.contains(name));
        let off = self.spec.no_cache || by_name || without.contains(&stage.index.to_string());
        let place = |index: usize, line: usize, text: &str| {
            Arc::new(Place { stage: stage.title(), alone, index, total, line, text: text.to_owned() })
        };
        let at = place(from, stage.line, &stage.text);
        if from > 0 {
            track.tell(Event::From { at: at.clone() });
        } else {
            track.tell(Event::Set { at: at.clone() });
        }
        track.set(at, started.elapsed());
        if !state.reached.is_here() {
            track.hold();
        }
        let mut walk = Walk { state, told, track, nth: 0, index: from, off, strict: false, back: None };
        loop {
            let Some(step) = stage.steps.get(walk.nth) else {
                if self.ends(stage, &mut walk)? {
                    break;
                }
                continue;
            };
            let empty = step.op == Op::Set;
            let index = walk.index + usize::from(!empty);
            let at = place(index, step.line, &step.text);
            if empty {
                walk.track.tell(Event::Set { at: at.clone() });
                walk.track.set(at, Duration::ZERO);
            } else {
                self.board.go_on()?;
                Cancel::go_on(self.spec.cancel())?;
                let went = self.step(&mut walk, step, at.clone());
                self.board.tell_news(walk.track);
                match went {
                    Ok(Went::On) => {}
                    Ok(Went::Short) => {
                        self.go_back(stage, &mut walk)?;
                        continue;
                    }
                    Err(error) => {
                        walk.told.finish(self);
                        if !self.board.begins_again() {
                            walk.track.release();
                            walk.track.tell(Event::Failed { at, message: error.sentence() });
                        }
                        return Err(error);
                    }
                }
            }
            let time = if empty { self.epoch.clone() } else { walk.state.time.clone() };
            walk.state.history.extend(history(step, time));
            (walk.nth, walk.index) = (walk.nth + 1, index);
        }
        walk.told.finish(self);
        Ok(walk.state)
    }

    fn start(&self, stage: &Stage) -> Result<State<W::Snapshot>> {
        let time = self.epoch.clone();
        Ok(match &stage.from {
            Origin::Stage(index) => self.board.wait(*index)?,
            Origin::Image(name) => {
                let base = &self.images[name];
                State {
                    reached: Reached::Here(base.snapshot.clone()),
                    history: base.config.history.clone(),
                    time: time.or_else(|| base.config.created.clone()),
                    dirty: None,
                }
            }
            Origin::Scratch | Origin::Context | Origin::Directory(_) => {
                let reached = Reached::Here(self.worker.scratch());
                State { reached, history: Vec::new(), time, dirty: None }
            }
        })
    }

    /// All steps are done: whether that is the end. What the stage came to must have its files where they are asked for.
    fn ends(&self, stage: &Stage, walk: &mut Walk<'_, W::Snapshot>) -> Result<bool> {
        if !self.board.wants(stage.index) || self.on(walk)?.is_some() {
            return Ok(true);
        }
        self.go_back(stage, walk)?;
        Ok(false)
    }

    /// What the stage has come to, with its files; nothing where it has to go back for them.
    fn on(&self, walk: &mut Walk<'_, W::Snapshot>) -> Result<Option<W::Snapshot>> {
        if let Reached::Here(snapshot) = &walk.state.reached {
            return Ok(Some(snapshot.clone()));
        }
        let found = self.with_files(&walk.state.reached)?;
        self.board.tell_news(walk.track);
        if let Some(found) = &found {
            self.reach(walk, found.clone());
        }
        Ok(found)
    }

    /// The stage has come to files that are here.
    fn reach(&self, walk: &mut Walk<'_, W::Snapshot>, snapshot: W::Snapshot) {
        walk.state.reached = Reached::Here(snapshot);
        walk.back = None;
        walk.track.release();
    }

    /// To before the first step whose files are not here; from there on they are seen to.
    ///
    /// # Errors
    /// `Interrupted` where that is before the stage.
    fn go_back(&self, stage: &Stage, walk: &mut Walk<'_, W::Snapshot>) -> Result<()> {
        match (walk.back.take(), &stage.from) {
            (Some(Back { state, nth, index, mark }), _) => {
                walk.track.go_back(mark);
                let steps = &stage.steps[..nth];
                walk.told.go_back(steps.iter().filter(|step| step.op != Op::Set).count());
                (walk.state, walk.nth, walk.index) = (state, nth, index);
                walk.strict = true;
                Ok(())
            }
            (None, Origin::Stage(index)) => Err(self.board.begin_again(*index)),
            (None, _) => Err(crate::Error::invalid("a stage that begins with files has them")),
        }
    }

    /// One step that makes a layer.
    fn step(&self, walk: &mut Walk<'_, W::Snapshot>, step: &Step, at: Arc<Place>) -> Result<Went> {
        let started = Instant::now();
        let mut sources = match &step.op {
            Op::Copy(copy) => Some(self.sources(step, copy)?),
            _ => None,
        };
        if let Op::Copy(copy) = &step.op
            && let Some(first) = self.first(walk, step, copy, &mut sources)?
        {
            let Some(on) = self.on(walk)? else { return Ok(Went::Short) };
            return self.lay_first(walk, &on, step, first, at).map(|()| Went::On);
        }
        let mut work = self.prepare(walk.state.reached.id(), step, sources)?;
        let (files, list) = (std::mem::take(&mut work.files), work.list.take());
        walk.told.step(StepTrace::new(step, walk.state.reached.id(), &work.key, files, list));
        let mut claim = None;
        let (reason, learned) = match walk.off {
            true => (Reason::NoCache, false),
            false => loop {
                let record = self.cache.get::<StepRecord>(&work.key);
                if let Some(record) = &record
                    && let Some(reached) = self.reached(walk, step, record, &at)?
                {
                    drop(claim);
                    walk.track.cache.push(CachedStep::new(&work.key, record.clone()));
                    self.cached(walk, reached, record, at, started);
                    return Ok(Went::On);
                }
                // Another build may be doing the same. Its record is there when the claim is ours.
                if claim.is_none() {
                    let claimed = self.cache.claim(&work.key);
                    claim = Some(claimed.map_err(|e| locate(self.plan, step.span, e, None))?);
                    continue;
                }
                let new = walk.state.dirty.map_or(Reason::New, Reason::After);
                break match record {
                    Some(record) => (Reason::Gone, record.learned),
                    None => (new, false),
                };
            },
        };
        let Some(on) = self.on(walk)? else { return Ok(Went::Short) };
        // Before it is told to be done.
        for origin in step.op.origins() {
            if let Origin::Stage(index) = origin {
                self.files_of(*index).map_err(|error| locate(self.plan, step.span, error, None))?;
            }
        }
        let causes = self.causes(walk, reason, learned);
        walk.track.tell(Event::Started { at: at.clone(), reason });
        let like = walk.told.like(self, step);
        work.uncached = reason == Reason::NoCache;
        let (snapshot, keep) = self.carry_out(&on, step, &work, like.as_deref(), &at, walk.track)?;
        if let (Op::Copy(copy), Some(picked)) = (&step.op, &work.picked) {
            self.note_outline(on.id(), copy, picked);
        }
        let record = self.record(step, &work, &snapshot, started)?;
        if keep {
            walk.track.cache.push(CachedStep::new(&work.key, record.clone()));
            self.cache.put(&work.key, record.clone())?;
        }
        drop(claim);
        walk.told.built(started.elapsed());
        let created = record.created;
        self.built(walk, step, Done { snapshot, created, at, reason, started, causes });
        Ok(Went::On)
    }

    /// Why the cache does not have it, as far as that can be told.
    pub(super) fn causes(
        &self,
        walk: &mut Walk<'_, W::Snapshot>,
        reason: Reason,
        learned: bool,
    ) -> Vec<Cause> {
        let gone =
            (reason == Reason::Gone).then_some(if learned { Cause::NotCarried } else { Cause::Evicted });
        match (reason, walk.state.dirty) {
            (Reason::New | Reason::Gone, None) => walk.told.missed(self, gone),
            // It follows from another step, or was not asked for.
            _ => {
                walk.told.uncached(self);
                Vec::new()
            }
        }
    }

    /// What a record says that the step led to, if that is of use.
    fn reached(
        &self,
        walk: &Walk<'_, W::Snapshot>,
        step: &Step,
        record: &StepRecord,
        at: &Arc<Place>,
    ) -> Result<Option<Reached<W::Snapshot>>> {
        let found = match walk.strict {
            true => self.find_or_fetch(&record.snapshot, at),
            false => self.worker.find(&record.snapshot),
        };
        let found = found.map_err(|error| locate(self.plan, step.span, error, None))?;
        Ok(match found {
            Some(snapshot) => Some(Reached::Here(snapshot)),
            None if walk.strict => None,
            None => Some(Reached::Known { id: record.snapshot.clone(), at: at.clone() }),
        })
    }

    pub(super) fn record(
        &self,
        step: &Step,
        work: &Work,
        snapshot: &W::Snapshot,
        started: Instant,
    ) -> Result<StepRecord> {
        let duration = started.elapsed();
        Ok(StepRecord {
            snapshot: snapshot.id().to_owned(),
            created: self.now()?,
            milliseconds: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            bytes: work.bytes,
            text: step.text.clone(),
            learned: false,
        })
    }

    pub(super) fn built(&self, walk: &mut Walk<'_, W::Snapshot>, step: &Step, done: Done<W::Snapshot>) {
        let Done { snapshot, created, at, reason, started, causes } = done;
        let duration = started.elapsed();
        let bytes = snapshot.layer_size();
        self.reach(walk, snapshot);
        walk.track.tell(Event::Built { at: at.clone(), duration });
        walk.state.time = Some(created);
        walk.state.dirty = Some(step.line);
        let outcome = Outcome::Built(reason);
        let report = StepReport { at, outcome, duration, cost: duration, bytes, causes };
        self.board.was_built(&report);
        walk.track.reports.push(report);
    }

    fn cached(
        &self,
        walk: &mut Walk<'_, W::Snapshot>,
        reached: Reached<W::Snapshot>,
        record: &StepRecord,
        at: Arc<Place>,
        started: Instant,
    ) {
        walk.told.cached(record.milliseconds);
        let (outcome, bytes) = match reached {
            Reached::Here(snapshot) => {
                let bytes = snapshot.layer_size();
                self.reach(walk, snapshot);
                (Outcome::Cached, bytes)
            }
            known => {
                if walk.state.reached.is_here() {
                    let (state, mark) = (walk.state.clone(), walk.track.hold());
                    walk.back = Some(Back { state, nth: walk.nth, index: walk.index, mark });
                }
                walk.state.reached = known;
                walk.track.is_known(&record.snapshot);
                (Outcome::Known, 0)
            }
        };
        walk.track.tell(Event::Cached { at: at.clone() });
        walk.state.time = Some(self.epoch.clone().unwrap_or_else(|| record.created.clone()));
        let cost = Duration::from_millis(record.milliseconds);
        let duration = started.elapsed();
        walk.track.reports.push(StepReport { at, outcome, duration, cost, bytes, causes: Vec::new() });
    }
}

/// What the image's history has of a step, in the words of BuildKit, by which others tell how an image came to be.
fn history(step: &Step, time: Option<String>) -> Option<History> {
    let mark = if matches!(step.op, Op::Run(_) | Op::Copy(_)) { " # buildkit" } else { "" };
    let mut history = History::default();
    history.set_created_by(Some(format!("{}{mark}", step.created_by.as_ref()?)));
    history.set_comment(Some("buildkit.dockerfile.v0".to_owned()));
    history.set_empty_layer((step.op == Op::Set).then_some(true));
    history.set_created(time);
    Some(history)
}
