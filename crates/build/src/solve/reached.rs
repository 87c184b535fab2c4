//! Results that are known, and are not here: a record says which snapshot a step led to, and nobody has its files. Their id is
//! enough for the keys of what follows, so that a build goes on with it until something asks for the files.

use std::sync::Arc;
use std::time::Instant;

use super::Solver;
use crate::error::Result;
use crate::event::{Event, Place, Transfer};
use crate::worker::{Snapshot, Worker};

/// What the steps of a stage have led to.
#[derive(Clone)]
pub(super) enum Reached<S> {
    Here(S),
    /// Its files are not here; `at` is the step that led to it.
    Known {
        id: String,
        at: Arc<Place>,
    },
}

impl<S: Snapshot> Reached<S> {
    pub(super) fn id(&self) -> &str {
        match self {
            Reached::Here(snapshot) => snapshot.id(),
            Reached::Known { id, .. } => id,
        }
    }

    pub(super) fn is_here(&self) -> bool {
        matches!(self, Reached::Here(_))
    }
}

impl<W: Worker> Solver<'_, W> {
    /// The snapshot with its files, here or from where the worker can fetch them; nothing where only its steps bring it back.
    pub(super) fn with_files(&self, reached: &Reached<W::Snapshot>) -> Result<Option<W::Snapshot>> {
        match reached {
            Reached::Here(snapshot) => Ok(Some(snapshot.clone())),
            Reached::Known { id, at } => self.find_or_fetch(id, at),
        }
    }

    /// The snapshot with this id, the result of the step at `at`.
    pub(super) fn find_or_fetch(&self, id: &str, at: &Arc<Place>) -> Result<Option<W::Snapshot>> {
        if let Some(found) = self.worker.find(id)? {
            return Ok(Some(found));
        }
        let started = Instant::now();
        match self.worker.fetch(id) {
            Ok(Some(fetched)) => {
                let transfer = Transfer {
                    at: at.clone(),
                    layers: fetched.layers,
                    bytes: fetched.bytes,
                    duration: started.elapsed(),
                };
                self.board.news(Event::Fetched(transfer));
                Ok(Some(fetched.snapshot))
            }
            Ok(None) => Ok(None),
            // The steps can be done again.
            Err(error) => {
                let message = format!("{}: {}, so it is built", at.number(), error.sentence());
                self.board.news(Event::Warning { message });
                Ok(None)
            }
        }
    }

    /// What a stage came to, with its files. Waits for it.
    ///
    /// # Errors
    /// `Interrupted` where the stage has to be built for it: what others made of its known result may not fit with what it comes
    /// to now, so all begin again.
    pub(super) fn files_of(&self, stage: usize) -> Result<W::Snapshot> {
        let state = self.board.wait(stage)?;
        match self.with_files(&state.reached)? {
            Some(snapshot) => Ok(snapshot),
            None => Err(self.board.begin_again(stage)),
        }
    }
}
