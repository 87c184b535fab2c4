//! The solver: takes each step of the plan from the cache or from the worker, and stores the image.

mod load;
mod mounts;
mod step;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use oci_spec::image::History;

use load::Context;

use crate::cache::{Cache, StepRecord};
use crate::error::{Error, Result, Span};
use crate::event::{Built, Event, Outcome, Place, Reason, StepReport};
use crate::image::ImageConfig;
use crate::plan::{Graph, Op, Origin, Plan, Stage, Step};
use crate::spec::BuildSpec;
use crate::worker::{Base, Commit, Worker};

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
    let mut images = BTreeMap::new();
    for name in graph.images() {
        images.insert(name.clone(), base(&graph, worker, name)?);
    }
    let configs = images.iter().map(|(name, base)| (name.clone(), base.config.clone())).collect();
    let plan = graph.plan(&configs)?;
    let warnings =
        graph.unused_args().iter().map(|n| format!("no `ARG` asks for the build argument `{n}`")).collect();
    let context = match plan.first_copy_from_context() {
        None => None,
        Some(span) => Some(Context::open(spec).map_err(|e| locate(&plan, span, e, None))?),
    };
    let epoch = spec.source_date_epoch.map(timestamp_of_epoch).transpose()?;
    let mut solver = Solver {
        spec,
        worker,
        cache,
        plan: &plan,
        context,
        images,
        states: BTreeMap::new(),
        epoch,
        reports: Vec::new(),
        warnings,
        on_event,
    };
    for warning in solver.warnings.clone() {
        (solver.on_event)(&Event::Warning { message: warning });
    }
    for stage in &plan.stages {
        solver.stage(stage)?;
    }
    solver.finish()
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
struct State<S> {
    snapshot: S,
    history: Vec<History>,
    /// When the newest layer was made: metadata is dated with it, so that it changes only when a layer does.
    time: Option<String>,
    /// The line of the last step that was built.
    dirty: Option<usize>,
}

struct Solver<'a, W: Worker> {
    spec: &'a BuildSpec,
    worker: &'a W,
    cache: &'a Cache,
    plan: &'a Plan,
    context: Option<Context>,
    images: BTreeMap<String, Base<W::Snapshot>>,
    states: BTreeMap<usize, State<W::Snapshot>>,
    /// `source_date_epoch`, RFC 3339.
    epoch: Option<String>,
    reports: Vec<StepReport>,
    warnings: Vec<String>,
    on_event: &'a mut dyn FnMut(&Event),
}

impl<W: Worker> Solver<'_, W> {
    fn stage(&mut self, stage: &Stage) -> Result<()> {
        let started = Instant::now();
        let mut state = self.start(stage);
        let total = stage.steps.len() + 1;
        let place = |index: usize, line: usize, text: &str| {
            Arc::new(Place { stage: stage.title(), index, total, line, text: text.to_owned() })
        };
        self.set(place(1, stage.line, &stage.text), started.elapsed());
        for (i, step) in stage.steps.iter().enumerate() {
            let at = place(i + 2, step.line, &step.text);
            let empty = step.op == Op::Set;
            if empty {
                self.set(at, Duration::ZERO);
            } else {
                self.step(&mut state, step, at)?;
            }
            let mut history = History::default();
            history.set_created(state.time.clone());
            history.set_created_by(Some(step.created_by.clone()));
            history.set_empty_layer(empty.then_some(true));
            state.history.push(history);
        }
        self.states.insert(stage.index, state);
        Ok(())
    }

    fn start(&self, stage: &Stage) -> State<W::Snapshot> {
        let time = self.epoch.clone();
        match &stage.from {
            Origin::Stage(index) => {
                let from = &self.states[index];
                State {
                    snapshot: from.snapshot.clone(),
                    history: from.history.clone(),
                    time: from.time.clone(),
                    dirty: from.dirty,
                }
            }
            Origin::Image(name) => {
                let base = &self.images[name];
                State {
                    snapshot: base.snapshot.clone(),
                    history: base.config.history.clone(),
                    time: time.or_else(|| base.config.created.clone()),
                    dirty: None,
                }
            }
            Origin::Scratch | Origin::Context => {
                State { snapshot: self.worker.scratch(), history: Vec::new(), time, dirty: None }
            }
        }
    }

    fn set(&mut self, at: Arc<Place>, duration: Duration) {
        (self.on_event)(&Event::Set { at: at.clone() });
        self.reports.push(StepReport { at, outcome: Outcome::Set, duration, cost: Duration::ZERO });
    }

    /// One step that makes a layer: from the cache, or by the worker.
    fn step(&mut self, state: &mut State<W::Snapshot>, step: &Step, at: Arc<Place>) -> Result<()> {
        let started = Instant::now();
        let work = self.prepare(&state.snapshot, step)?;
        let reason = self.spec.no_cache.then_some(Reason::NoCache);
        let mut claim = None;
        let reason = match reason {
            Some(reason) => reason,
            None => loop {
                let record = self.cache.get::<StepRecord>(&work.key);
                if let Some(record) = &record {
                    let found = self.worker.find(&record.snapshot);
                    if let Some(snapshot) = found.map_err(|e| locate(self.plan, step.span, e, None))? {
                        drop(claim);
                        self.cached(state, snapshot, record, at, started);
                        return Ok(());
                    }
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
        (self.on_event)(&Event::Started { at: at.clone(), reason });
        let (snapshot, keep) = self.carry_out(&state.snapshot, step, &work, &at)?;
        let duration = started.elapsed();
        let created = self.now()?;
        if keep {
            let record = StepRecord {
                snapshot: crate::worker::Snapshot::id(&snapshot).to_owned(),
                created: created.clone(),
                milliseconds: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
                bytes: work.bytes,
                text: step.text.clone(),
            };
            self.cache.put(&work.key, record)?;
        }
        drop(claim);
        (self.on_event)(&Event::Built { at: at.clone(), duration });
        state.snapshot = snapshot;
        state.time = Some(created);
        state.dirty = Some(step.line);
        self.reports.push(StepReport { at, outcome: Outcome::Built(reason), duration, cost: duration });
        Ok(())
    }

    fn cached(
        &mut self,
        state: &mut State<W::Snapshot>,
        snapshot: W::Snapshot,
        record: &StepRecord,
        at: Arc<Place>,
        started: Instant,
    ) {
        (self.on_event)(&Event::Cached { at: at.clone() });
        state.snapshot = snapshot;
        state.time = Some(self.epoch.clone().unwrap_or_else(|| record.created.clone()));
        let cost = Duration::from_millis(record.milliseconds);
        let (outcome, duration) = (Outcome::Cached, started.elapsed());
        self.reports.push(StepReport { at, outcome, duration, cost });
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

    fn warn(&mut self, message: String) {
        (self.on_event)(&Event::Warning { message: message.clone() });
        self.warnings.push(message);
    }

    fn finish(mut self) -> Result<Built> {
        let last = self.plan.stages.last().and_then(|stage| Some((stage, self.states.remove(&stage.index)?)));
        let Some((stage, state)) = last else { return Err(Error::invalid("the plan has no stage")) };
        let config = ImageConfig { created: state.time, history: state.history, ..stage.config.clone() };
        let commit = Commit { snapshot: state.snapshot, config, tags: self.spec.tags.clone() };
        let id = self.worker.commit(commit).map_err(|error| error.context("store the image"))?;
        (self.on_event)(&Event::Done { id: id.clone() });
        Ok(Built { id, steps: self.reports, warnings: self.warnings })
    }
}
