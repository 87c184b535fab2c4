//! A COPY of files that no step like it was ever given: the cache can't have its result, so its files are read once, on their
//! way into the layer, and the key is made from what they were.

use std::sync::Arc;
use std::time::Instant;

use super::board::Track;
use super::step::{Sources, copy_key};
use super::telling::Telling;
use super::{Done, Solver, State, locate};
use crate::cache::{CachedStep, Claim, StepRecord};
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
    _claim: Option<Claim<'a>>,
}

impl<W: Worker> Solver<'_, W> {
    /// Takes the sources where it is better to read them late.
    pub(super) fn first<'a>(
        &'a self,
        on: &W::Snapshot,
        step: &Step,
        copy: &'a CopyOp,
        sources: &mut Option<Sources>,
        off: bool,
        told: &Telling,
    ) -> Result<Option<First<'a>>> {
        let Some(Sources::Picked { picked, .. }) = sources else { return Ok(None) };
        if !self.is_worth(copy, picked)? {
            return Ok(None);
        }
        let (mut claim, outline) = (None, self.outline(on, copy, picked));
        if !off {
            if self.cache.has_learned() || self.has_outline(&outline) || told.has_like(self, step) {
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
        state: &mut State<W::Snapshot>,
        step: &Step,
        first: First<'_>,
        at: Arc<Place>,
        told: &mut Telling,
        track: &mut Track,
    ) -> Result<()> {
        let started = Instant::now();
        let First { copy, picked, key, outline, off, _claim } = first;
        let reason = match (off, state.dirty) {
            (true, _) => Reason::NoCache,
            (false, Some(line)) => Reason::After(line),
            (false, None) => Reason::New,
        };
        track.tell(Event::Started { at: at.clone(), reason });
        let (snapshot, same) = self.copy(&state.snapshot, step, copy, Some(&picked), None, track)?;
        self.cache.note(&outline, true);
        // What was not read on its way is read now.
        let work = self.prepare(&state.snapshot, step, Some(Sources::Picked { picked, key }))?;
        let files = work.files.clone();
        told.step(StepTrace::new(step, state.snapshot.id(), &work.key, files, work.list.clone()));
        let causes = self.causes(state, reason, told);
        // Where it was done in another way meanwhile, all go on from one result.
        let record = self.cache.get::<StepRecord>(&work.key).filter(|_| !off);
        let theirs = match &record {
            Some(record) => self.find(step, record)?,
            None => None,
        };
        let (snapshot, created) = match (record, theirs) {
            (Some(record), Some(snapshot)) => (snapshot, record.created),
            _ => {
                let record = self.record(step, &work, &snapshot, started)?;
                if same && !work.changed {
                    track.cache.push(CachedStep::new(&work.key, record.clone()));
                    self.cache.put(&work.key, record.clone())?;
                }
                (snapshot, record.created)
            }
        };
        told.built(started.elapsed());
        self.built(state, step, Done { snapshot, created, at, reason, started, causes }, track);
        Ok(())
    }

    /// Remembers that there was such a step with files like these.
    pub(super) fn note_outline(&self, on: &W::Snapshot, copy: &CopyOp, picked: &[Picked]) {
        self.cache.note(&self.outline(on, copy, picked), true);
    }

    fn has_outline(&self, key: &str) -> bool {
        self.cache.get::<bool>(key).is_some()
    }

    fn outline(&self, on: &W::Snapshot, copy: &CopyOp, picked: &[Picked]) -> String {
        let mut key = copy_key("outline", on.id(), copy);
        key.add(outline(picked));
        key.hex()
    }
}
