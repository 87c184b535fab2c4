//! The solver: takes each step of the plan from the cache or from the worker, and stores the image.

mod board;
mod first;
pub(crate) mod load;
mod mounts;
mod step;
mod telling;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant, SystemTime};

use oci_spec::image::History;

use board::{Board, EVENTS, Track, stages};
use load::Context;
use step::Work;
use telling::Telling;
pub(crate) use telling::trace_key;

use crate::cache::{Cache, CachedStep, StepRecord};
use crate::cancel::Cancel;
use crate::error::{Error, Result, Span};
use crate::event::{Built, Event, Outcome, Place, Reason, StepReport};
use crate::image::ImageConfig;
use crate::plan::{Graph, Op, Origin, Plan, Stage, Step};
use crate::remote::fetch::Fetches;
use crate::spec::{BuildSpec, Named};
use crate::trace::{Cause, StepTrace};
use crate::worker::{Base, Commit, Snapshot, Worker};

/// Builds an image: reads the Dockerfile, plans, takes from `cache` what is there, has `worker` do the rest, and
/// commits the last stage under the spec's tags. `on_event` hears of everything as it happens.
///
/// A build whose every step is cached gives the same image as before: history and creation times are those of when
/// the steps ran. Nothing is kept of a build that fails but the results of the steps before.
///
/// # Errors
/// All problems of the Dockerfile at once; else the step that failed, at its line. See [`Error::kind`] and
/// [`Error::exit_code`].
pub fn build<W: Worker>(
    spec: &BuildSpec,
    worker: &W,
    cache: &Cache,
    on_event: &mut dyn FnMut(&Event),
) -> Result<Built> {
    let file = load::dockerfile(spec)?;
    let graph = Graph::new(&file, spec)?;
    if file.check_is_error() {
        let found = file.check();
        if !found.is_empty() {
            return Err(Error::diagnosed(found.into_iter().map(|lint| lint.diagnostic).collect()));
        }
    }
    let mut images = BTreeMap::new();
    let (graph, configs) = graph.settled(|graph, name| {
        let base = base(graph, worker, name)?;
        let config = base.config.clone();
        images.insert(name.to_owned(), base);
        Ok(Some(config))
    })?;
    let plan = graph.plan(&configs)?;
    let warnings: Vec<String> =
        graph.unused_args().iter().map(|n| format!("no `ARG` asks for the build argument `{n}`")).collect();
    let context = match plan.first_copy_from_context() {
        None => None,
        Some(span) => Some(Context::open(spec, cache).map_err(|e| locate(&plan, span, e, None))?),
    };
    let mut named = BTreeMap::new();
    for (name, span) in plan.directories() {
        let Some(Named::Directory(path)) = spec.contexts.get(name) else { continue };
        let context = Context::named(name, path, cache).map_err(|e| locate(&plan, span, e, None))?;
        named.insert(name.to_owned(), context);
    }
    let epoch = spec.source_date_epoch.map(timestamp_of_epoch).transpose()?;
    let (events, heard) = sync_channel(EVENTS);
    let solver = Solver {
        spec,
        worker,
        cache,
        plan: &plan,
        context,
        named,
        images,
        board: Board::new(),
        fetches: Fetches::new(spec.proxies.clone()),
        epoch,
    };
    for warning in &warnings {
        on_event(&Event::Warning { message: warning.clone() });
    }
    let told = stages(&solver, events, heard, on_event);
    for context in solver.context.iter().chain(solver.named.values()) {
        context.remember(cache);
    }
    let told = told?;
    let id = solver.commit()?;
    on_event(&Event::Done { id: id.clone() });
    let mut built = Built { id, steps: Vec::new(), warnings, cache: Vec::new(), file: plan.file.clone() };
    for (reports, warnings, cache) in told {
        built.cache.extend(cache);
        built.steps.extend(reports);
        built.warnings.extend(warnings);
    }
    Ok(built)
}

/// The base image, or the error at the place that asks for it.
fn base<W: Worker>(graph: &Graph, worker: &W, name: &str) -> Result<Base<W::Snapshot>> {
    worker.base(name).map_err(|error| {
        let (span, near) = graph.asks_for(name);
        let help = near.map(|near| format!("did you mean the stage `{near}`?"));
        let error = error.context(format!("image `{name}`"));
        error.at(|kind, message| graph.diagnostic(span, kind, message, help))
    })
}

fn locate(plan: &Plan, span: Span, error: Error, help: Option<String>) -> Error {
    error.at(|kind, message| plan.diagnostic(span, kind, message, help))
}

fn timestamp_of_epoch(seconds: i64) -> Result<String> {
    jiff::Timestamp::from_second(seconds)
        .map(|t| t.to_string())
        .map_err(|error| Error::invalid(format!("source_date_epoch {seconds}: {error}")))
}

/// What a stage has come to.
#[derive(Clone)]
struct State<S> {
    snapshot: S,
    history: Vec<History>,
    /// When the newest layer was made: metadata is dated with it, so that it changes only when a layer does.
    time: Option<String>,
    /// The line of the last step that was built.
    dirty: Option<usize>,
}

/// A step that was carried out.
struct Done<S> {
    snapshot: S,
    created: String,
    at: Arc<Place>,
    reason: Reason,
    started: Instant,
    causes: Vec<Cause>,
}

struct Solver<'a, W: Worker> {
    spec: &'a BuildSpec,
    worker: &'a W,
    cache: &'a Cache,
    plan: &'a Plan,
    context: Option<Context>,
    named: BTreeMap<String, Context>,
    images: BTreeMap<String, Base<W::Snapshot>>,
    board: Board<State<W::Snapshot>>,
    fetches: Fetches,
    /// `source_date_epoch`, RFC 3339.
    epoch: Option<String>,
}

impl<W: Worker> Solver<'_, W> {
    fn stage(&self, stage: &Stage, track: &mut Track) -> Result<State<W::Snapshot>> {
        let started = Instant::now();
        let mut state = self.start(stage)?;
        let mut told = Telling::new(self, stage, &state.snapshot);
        let from = usize::from(matches!(stage.from, Origin::Image(_)));
        let total = from + stage.steps.iter().filter(|step| step.op != Op::Set).count();
        let alone = stage.name.is_none() && self.plan.file.stages.len() == 1;
        let without = &self.spec.no_cache_stages;
        let by_name = stage.name.as_ref().is_some_and(|name| without.contains(name));
        let uncached = by_name || without.contains(&stage.index.to_string());
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
        let mut index = from;
        for step in &stage.steps {
            let empty = step.op == Op::Set;
            index += usize::from(!empty);
            let at = place(index, step.line, &step.text);
            if empty {
                track.tell(Event::Set { at: at.clone() });
                track.set(at, Duration::ZERO);
            } else {
                self.board.go_on()?;
                Cancel::go_on(self.spec.cancel())?;
                let done = self.step(&mut state, step, at.clone(), uncached, &mut told, track);
                if let Err(error) = &done {
                    told.finish(self);
                    track.tell(Event::Failed { at, message: error.sentence() });
                }
                done?;
            }
            let mut history = History::default();
            history.set_created(if empty { self.epoch.clone() } else { state.time.clone() });
            history.set_created_by(Some(step.created_by.clone()));
            history.set_empty_layer(empty.then_some(true));
            state.history.push(history);
        }
        told.finish(self);
        Ok(state)
    }

    fn start(&self, stage: &Stage) -> Result<State<W::Snapshot>> {
        let time = self.epoch.clone();
        Ok(match &stage.from {
            Origin::Stage(index) => self.board.wait(*index)?,
            Origin::Image(name) => {
                let base = &self.images[name];
                State {
                    snapshot: base.snapshot.clone(),
                    history: base.config.history.clone(),
                    time: time.or_else(|| base.config.created.clone()),
                    dirty: None,
                }
            }
            Origin::Scratch | Origin::Context | Origin::Directory(_) => {
                State { snapshot: self.worker.scratch(), history: Vec::new(), time, dirty: None }
            }
        })
    }

    /// One step that makes a layer: from the cache, or by the worker.
    fn step(
        &self,
        state: &mut State<W::Snapshot>,
        step: &Step,
        at: Arc<Place>,
        uncached: bool,
        told: &mut Telling,
        track: &mut Track,
    ) -> Result<()> {
        let started = Instant::now();
        let off = self.spec.no_cache || uncached;
        let mut sources = match &step.op {
            Op::Copy(copy) => Some(self.sources(step, copy)?),
            _ => None,
        };
        if let Op::Copy(copy) = &step.op
            && let Some(first) = self.first(&state.snapshot, step, copy, &mut sources, off, told)?
        {
            return self.lay_first(state, step, first, at, told, track);
        }
        let mut work = self.prepare(&state.snapshot, step, sources)?;
        let (files, list) = (std::mem::take(&mut work.files), work.list.take());
        told.step(StepTrace::new(step, state.snapshot.id(), &work.key, files, list));
        let reason = off.then_some(Reason::NoCache);
        let mut claim = None;
        let reason = match reason {
            Some(reason) => reason,
            None => loop {
                let record = self.cache.get::<StepRecord>(&work.key);
                if let Some(record) = &record
                    && let Some(snapshot) = self.find(step, record)?
                {
                    drop(claim);
                    told.cached(record.milliseconds);
                    track.cache.push(CachedStep::new(&work.key, record.clone()));
                    self.cached(state, snapshot, record, at, started, track);
                    return Ok(());
                }
                // Another build may be doing the same. Its record is there when the claim is ours.
                if claim.is_none() {
                    let claimed = self.cache.claim(&work.key);
                    claim = Some(claimed.map_err(|e| locate(self.plan, step.span, e, None))?);
                    continue;
                }
                let new = state.dirty.map_or(Reason::New, Reason::After);
                break if record.is_some() { Reason::Gone } else { new };
            },
        };
        let causes = self.causes(state, reason, told);
        track.tell(Event::Started { at: at.clone(), reason });
        let like = told.like(self, step);
        work.uncached = reason == Reason::NoCache;
        let (snapshot, keep) = self.carry_out(&state.snapshot, step, &work, like.as_deref(), &at, track)?;
        if let (Op::Copy(copy), Some(picked)) = (&step.op, &work.picked) {
            self.note_outline(&state.snapshot, copy, picked);
        }
        let record = self.record(step, &work, &snapshot, started)?;
        if keep {
            track.cache.push(CachedStep::new(&work.key, record.clone()));
            self.cache.put(&work.key, record.clone())?;
        }
        drop(claim);
        told.built(started.elapsed());
        let created = record.created;
        self.built(state, step, Done { snapshot, created, at, reason, started, causes }, track);
        Ok(())
    }

    /// Why the cache does not have it, as far as that can be told.
    fn causes(&self, state: &State<W::Snapshot>, reason: Reason, told: &mut Telling) -> Vec<Cause> {
        match (reason, state.dirty) {
            (Reason::New | Reason::Gone, None) => told.missed(self, reason == Reason::Gone),
            // It follows from another step, or was not asked for.
            _ => {
                told.uncached(self);
                Vec::new()
            }
        }
    }

    /// The snapshot that the step led to, if it is still there.
    fn find(&self, step: &Step, record: &StepRecord) -> Result<Option<W::Snapshot>> {
        self.worker.find(&record.snapshot).map_err(|error| locate(self.plan, step.span, error, None))
    }

    fn record(
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
        })
    }

    fn built(&self, state: &mut State<W::Snapshot>, step: &Step, done: Done<W::Snapshot>, track: &mut Track) {
        let Done { snapshot, created, at, reason, started, causes } = done;
        let duration = started.elapsed();
        track.tell(Event::Built { at: at.clone(), duration });
        let bytes = snapshot.layer_size();
        state.snapshot = snapshot;
        state.time = Some(created);
        state.dirty = Some(step.line);
        let outcome = Outcome::Built(reason);
        track.reports.push(StepReport { at, outcome, duration, cost: duration, bytes, causes });
    }

    fn cached(
        &self,
        state: &mut State<W::Snapshot>,
        snapshot: W::Snapshot,
        record: &StepRecord,
        at: Arc<Place>,
        started: Instant,
        track: &mut Track,
    ) {
        track.tell(Event::Cached { at: at.clone() });
        let bytes = snapshot.layer_size();
        state.snapshot = snapshot;
        state.time = Some(self.epoch.clone().unwrap_or_else(|| record.created.clone()));
        let cost = Duration::from_millis(record.milliseconds);
        let (outcome, duration) = (Outcome::Cached, started.elapsed());
        track.reports.push(StepReport { at, outcome, duration, cost, bytes, causes: Vec::new() });
    }

    fn now(&self) -> Result<String> {
        if let Some(epoch) = &self.epoch {
            return Ok(epoch.clone());
        }
        let now = self.spec.now.unwrap_or_else(SystemTime::now);
        jiff::Timestamp::try_from(now)
            .map(|t| t.to_string())
            .map_err(|error| Error::invalid(format!("the time {now:?} can't be written: {error}")))
    }

    fn commit(&self) -> Result<String> {
        let Some(stage) = self.plan.stages.last() else {
            return Err(Error::invalid("the plan has no stage"));
        };
        let mut state = self.board.wait(stage.index)?;
        date(&mut state.history);
        let config = ImageConfig { created: state.time, history: state.history, ..stage.config.clone() };
        let commit = Commit {
            snapshot: state.snapshot,
            config,
            tags: self.spec.tags.clone(),
            annotations: self.spec.annotations.clone(),
        };
        self.worker.commit(commit).map_err(|error| error.context("store the image"))
    }
}

/// Gives steps that made no layer, and say no time, that of the layer that follows the first of them, and of the last layer
/// before from there on: of times that the cache has, too, so that a build with everything cached makes the same image.
fn date(history: &mut [History]) {
    let undated = history.iter().position(|step| step.created().is_none()).unwrap_or(history.len());
    let after = history[undated..].iter().find_map(|step| step.created().clone());
    let before = history[..undated].iter().rev().find_map(|step| step.created().clone());
    let mut time = after.or(before);
    for step in &mut history[undated..] {
        match step.created() {
            Some(own) => time = Some(own.clone()),
            None => _ = step.set_created(time.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_a_time() {
        for (given, expected) in
            [("1 - 2 - -", "1 2 2 2 2"), ("- - 3", "3 3 3"), ("1 2 - -", "1 2 2 2"), ("- -", "- -"), ("", "")]
        {
            let step = |time: &str| {
                let mut step = History::default();
                step.set_created((time != "-").then(|| time.to_owned()));
                step
            };
            let mut history: Vec<History> = given.split_whitespace().map(step).collect();
            date(&mut history);
            let times: Vec<&str> =
                history.iter().map(|step| step.created().as_deref().unwrap_or("-")).collect();
            assert_eq!(times.join(" "), expected, "{given}");
        }
    }
}
