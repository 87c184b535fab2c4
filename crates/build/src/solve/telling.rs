//! Keeping track, for a stage, of what its steps depended on, and telling why one was not cached.

use std::time::Duration;

use super::Solver;
use crate::cache::{self, StepRecord};
use crate::plan::{Op, Origin, Plan, Stage, Step};
use crate::spec::BuildSpec;
use crate::trace::{Cause, StageTrace, StepTrace};
use crate::worker::Worker;

/// One stage as it is built, and as it was.
pub(super) struct Telling {
    key: String,
    now: StageTrace,
    from: Option<Cause>,
    /// The first step that was not cached, and what the stage depended on the last time.
    missed: Option<(usize, StageTrace)>,
    /// It was not asked for.
    off: bool,
}

/// Under which key it is known what a stage depended on: the file's name, the stage's, and where the context is.
pub(crate) fn trace_key(plan: &Plan, spec: &BuildSpec, stage: &Stage) -> String {
    let mut key = cache::key("stage", &stage.title());
    key.add(plan.file.name());
    if let Some(path) = &spec.context {
        key.add(path.canonicalize().unwrap_or_else(|_| path.clone()).as_os_str().as_encoded_bytes());
    }
    key.hex()
}

impl Telling {
    pub(super) fn new<W: Worker>(solver: &Solver<'_, W>, stage: &Stage, on: &str) -> Telling {
        let key = trace_key(solver.plan, solver.spec, stage);
        let from = match &stage.from {
            Origin::Image(image) => Some(Cause::Base { image: image.clone() }),
            Origin::Stage(index) => {
                let title = solver.plan.stages.iter().find(|s| s.index == *index).map(Stage::title);
                title.map(|stage| Cause::Stage { stage })
            }
            Origin::Scratch | Origin::Context | Origin::Directory(_) => None,
        };
        let now = StageTrace { base: on.to_owned(), ..StageTrace::default() };
        Telling { key, now, from, missed: None, off: false }
    }

    /// The next step, before it is known what becomes of it.
    pub(super) fn step(&mut self, step: StepTrace) {
        self.now.steps.push(step);
    }

    /// Only so many steps were told of.
    pub(super) fn go_back(&mut self, steps: usize) {
        self.now.steps.truncate(steps);
    }

    pub(super) fn cached(&mut self, milliseconds: u64) {
        if let Some(step) = self.now.steps.last_mut() {
            step.milliseconds = milliseconds;
        }
    }

    /// The step at hand is the first that the cache does not have: why?
    pub(super) fn missed<W: Worker>(&mut self, solver: &Solver<'_, W>, gone: Option<Cause>) -> Vec<Cause> {
        let before = solver.cache.get::<StageTrace>(&self.key).unwrap_or_default();
        let nth = self.now.steps.len().saturating_sub(1);
        let changes = before.explain(&self.now, nth, gone, self.from.clone());
        self.missed = Some((nth, before));
        changes
    }

    /// The step at hand is built because the cache is off, or a step before it was built: that is no miss of its own, but
    /// what it depended on is kept.
    pub(super) fn uncached<W: Worker>(&mut self, solver: &Solver<'_, W>) {
        if self.missed.is_none() {
            self.missed = Some((0, solver.cache.get::<StageTrace>(&self.key).unwrap_or_default()));
            self.off = true;
        }
    }

    /// The snapshot that a COPY step like this one led to the last time, whose files may be the same. Who wants nothing of the
    /// cache gets nothing of it.
    pub(super) fn like<W: Worker>(&self, solver: &Solver<'_, W>, step: &Step) -> Option<String> {
        if solver.spec.no_cache || self.off || !matches!(step.op, Op::Copy(_)) {
            return None;
        }
        let (_, before) = self.missed.as_ref()?;
        earlier(solver, before, self.now.steps.len().saturating_sub(1), step)
    }

    /// Whether there will be such a snapshot, before the step is told of.
    pub(super) fn has_like<W: Worker>(&self, solver: &Solver<'_, W>, step: &Step) -> bool {
        let nth = self.now.steps.len();
        let before = match &self.missed {
            Some((_, before)) => earlier(solver, before, nth, step),
            None => earlier(solver, &solver.cache.get(&self.key).unwrap_or_default(), nth, step),
        };
        !self.off && before.is_some()
    }

    pub(super) fn built(&mut self, duration: Duration) {
        if let Some(step) = self.now.steps.last_mut() {
            step.milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        }
    }

    /// Keeps it for the next time, where anything was built.
    pub(super) fn finish<W: Worker>(&mut self, solver: &Solver<'_, W>) {
        let Some((nth, before)) = self.missed.take() else { return };
        self.now.count(&before, (!self.off).then_some(nth));
        // Steps after one that failed: what is known of them is still of use.
        let rest = before.steps.iter().skip(self.now.steps.len()).cloned();
        self.now.steps.extend(rest);
        solver.cache.note(&self.key, &self.now);
    }
}

/// What a step like this one, the `nth` of its stage or another, led to before.
fn earlier<W: Worker>(
    solver: &Solver<'_, W>,
    before: &StageTrace,
    nth: usize,
    step: &Step,
) -> Option<String> {
    let nth = before.steps.get(nth).filter(|old| old.text == step.text);
    let old = nth.or_else(|| before.steps.iter().find(|old| old.text == step.text))?;
    solver.cache.get::<StepRecord>(&old.key).map(|record| record.snapshot)
}
