//! A COPY of files that no step like it was ever given: the cache can't have its result, so its files are read once, on their
//! way into the layer, and the key is made from what they were.

use std::sync::Arc;
use std::time::Instant;

use coracle_host::Claim;

use super::stage::{Done, Walk};
use super::step::{Sources, copy_key};
use super::{Solver, locate};
use crate::cache::{CachedStep, StepRecord};
use crate::error::Result;
use crate::event::{Event, Place, Reason};
use crate::files::Picked;
use crate::files::digest::{FEW, outline, unread};
use crate::plan::{CopyOp, Step};
use crate::trace::StepTrace;
use crate::worker::{Snapshot, Worker};

/// Such a step.
pub(super) struct First<'a> {
    copy: &'a CopyOp,
    picked: Vec<Picked>,
    key: Option<String>,
    outline: String,
    /// The cache is not asked.
    off: bool,
    _claim: Option<Claim>,
}

impl<W: Worker> Solver<'_, W> {
    /// Takes the sources where it is better to read them late.
    pub(super) fn first<'a>(
        &'a self,
        walk: &Walk<'_, W::Snapshot>,
        step: &Step,
        copy: &'a CopyOp,
        sources: &mut Option<Sources>,
    ) -> Result<Option<First<'a>>> {
        let Some(Sources::Picked { picked, .. }) = sources else { return Ok(None) };
        if !self.is_worth(copy, picked)? {
            return Ok(None);
        }
        let (on, off) = (walk.state.reached.id(), walk.off);
        let (mut claim, outline) = (None, self.outline(on, copy, picked));
        if !off {
            if self.cache.has_learned() || self.has_outline(&outline) || walk.told.has_like(self, step) {
                return Ok(None);
            }
            // Another build may be at the same.
            let claimed = self.cache.claim(&outline);
            claim = Some(claimed.map_err(|error| locate(self.plan, step.span, error, None))?);
            if self.has_outline(&outline) {
                return Ok(None);
            }
        }
        Ok(match sources.take() {
            Some(Sources::Picked { picked, key }) => {
                Some(First { copy, picked, key, outline, off, _claim: claim })
            }
            other => {
                *sources = other;
                None
            }
        })
    }

    /// Whether there are many files to read.
    fn is_worth(&self, copy: &CopyOp, picked: &[Picked]) -> Result<bool> {
        let lent = self.lend(copy)?;
        let tree = self.tree(copy, lent.as_ref());
        let unread = |one: &Picked| one.tree(tree).map_or(0, |tree| unread(tree, &one.entries).len());
        Ok(picked.iter().map(unread).sum::<usize>() >= FEW)
    }

    pub(super) fn lay_first(
        &self,
        walk: &mut Walk<'_, W::Snapshot>,
        on: &W::Snapshot,
        step: &Step,
        first: First<'_>,
        at: Arc<Place>,
    ) -> Result<()> {
        let started = Instant::now();
        let First { copy, picked, key, outline, off, _claim } = first;
        let reason = match (off, walk.state.dirty) {
            (true, _) => Reason::NoCache,
            (false, Some(line)) => Reason::After(line),
            (false, None) => Reason::New,
        };
        walk.track.tell(Event::Started { at: at.clone(), reason });
        let (snapshot, same) = self.copy(on, step, copy, Some(&picked), None, walk.track)?;
        // What was not read on its way is read now.
        let work = self.prepare(on.id(), step, Some(Sources::Picked { picked, key }))?;
        let files = work.files.clone();
        walk.told.step(StepTrace::new(step, on.id(), &work.key, files, work.list.clone()));
        let causes = self.causes(walk, reason, false);
        // Where it was done in another way meanwhile, all go on from one result.
        let record = self.cache.get::<StepRecord>(&work.key).filter(|_| !off);
        let theirs = match &record {
            Some(record) => {
                let found = self.worker.find(&record.snapshot);
                found.map_err(|error| locate(self.plan, step.span, error, None))?
            }
            None => None,
        };
        let (snapshot, created) = match (record, theirs) {
            (Some(record), Some(snapshot)) => (snapshot, record.created),
            _ => {
                let record = self.record(step, &work, &snapshot, started)?;
                if same && !work.changed {
                    walk.track.cache.push(CachedStep::new(&work.key, record.clone()));
                    self.cache.put(&work.key, record.clone())?;
                }
                (snapshot, record.created)
            }
        };
        // Whoever sees this finds the result, too.
        self.cache.note(&outline, true);
        walk.told.built(started.elapsed());
        self.built(walk, step, Done { snapshot, created, at, reason, started, causes });
        Ok(())
    }

    /// Remembers that there was such a step with files like these.
    pub(super) fn note_outline(&self, on: &str, copy: &CopyOp, picked: &[Picked]) {
        self.cache.note(&self.outline(on, copy, picked), true);
    }

    fn has_outline(&self, key: &str) -> bool {
        self.cache.get::<bool>(key).is_some()
    }

    fn outline(&self, on: &str, copy: &CopyOp, picked: &[Picked]) -> String {
        let mut key = copy_key("outline", on, copy);
        key.add(outline(picked));
        key.hex()
    }
}
