//! Containers that have ended, removed together.

use super::handle::Container;
use crate::error::{Doing, Result};
use crate::{Engine, Kind};

impl Engine {
    /// Removes the containers that don't run, nor are about to, and that `wanted` says yes to. Says which, by their ids, and
    /// how many bytes that freed.
    ///
    /// # Errors
    /// The first failure, after all were tried.
    pub fn prune_containers(&self, mut wanted: impl FnMut(&Container) -> bool) -> Result<(Vec<String>, u64)> {
        let (mut removed, mut freed) = (Vec::new(), 0);
        let mut failure = None;
        for container in self.containers()? {
            let id = container.id().to_owned();
            let pruned = container.state().and_then(|state| {
                if state.is_alive() || !wanted(&container) {
                    return Ok(None);
                }
                let bytes = container.written()?;
                container.remove().map(|()| Some(bytes))
            });
            match pruned {
                Ok(None) => {}
                Ok(Some(bytes)) => {
                    removed.push(id);
                    freed += bytes;
                }
                // Somebody has started or removed it meanwhile.
                Err(error) if matches!(error.kind(), Kind::InUse | Kind::NotFound) => {}
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok((removed, freed)), |error| Err(error).doing(|| "prune containers"))
    }
}
