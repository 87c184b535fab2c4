//! What builds keep: results of steps, and the directories of `RUN --mount=type=cache`.

use std::collections::BTreeSet;
use std::time::SystemTime;

use crate::Engine;
use crate::error::{Doing, Result};

/// One thing that builds keep.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BuildCacheEntry {
    /// Its name in the cache.
    pub id: String,
    /// What it is.
    pub kind: BuildCacheKind,
    /// The instruction, or the id of the cache directory.
    pub description: String,
    /// When it was made.
    pub created: SystemTime,
    /// When it was last used, as far as that is known.
    pub used: Option<SystemTime>,
    /// Bytes: of the layer that a step made, or of a directory.
    pub size: u64,
    /// An image has the layer, so that it stays; or a step has the directory just now.
    pub in_use: bool,
}

/// What a [`BuildCacheEntry`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildCacheKind {
    /// The result of a step.
    Step,
    /// The directory of a `RUN --mount=type=cache`.
    Mount,
}

impl BuildCacheKind {
    /// In BuildKit's words: `regular`, `exec.cachemount`.
    pub fn as_str(self) -> &'static str {
        match self {
            BuildCacheKind::Step => "regular",
            BuildCacheKind::Mount => "exec.cachemount",
        }
    }
}

impl Engine {
    /// All that builds keep: steps first, the oldest first.
    ///
    /// # Errors
    /// `Corrupt` where an image can't be read; the host's.
    pub fn build_cache(&self) -> Result<Vec<BuildCacheEntry>> {
        let doing = || "look at the build cache";
        let images = self.0.store.list().doing(doing)?;
        let held: BTreeSet<String> =
            images.iter().flat_map(|image| image.layers()).map(ToString::to_string).collect();
        let mut all = Vec::new();
        for step in self.0.build_steps().steps().doing(doing)? {
            let layer = step.snapshot.parse().ok().and_then(|id| self.0.store.layer(&id).ok().flatten());
            all.push(BuildCacheEntry {
                in_use: held.contains(&step.snapshot),
                id: step.key,
                kind: BuildCacheKind::Step,
                description: step.text,
                created: step.created,
                used: None,
                size: layer.map_or(0, |layer| layer.size()),
            });
        }
        all.sort_by_key(|entry| entry.created);
        all.extend(self.0.cache_mounts().list().doing(doing)?.into_iter().map(|mount| BuildCacheEntry {
            id: mount.key,
            kind: BuildCacheKind::Mount,
            description: mount.id,
            created: mount.created,
            used: Some(mount.used),
            size: mount.size,
            in_use: mount.in_use,
        }));
        Ok(all)
    }

    /// Forgets those for which `wanted` is true, but no directory that a step has just now. Returns them, and how many
    /// bytes are free for it. Layers of forgotten steps stay until the store collects them: they are not counted.
    ///
    /// # Errors
    /// As of [`Engine::build_cache`]. What came before a failure is gone.
    pub fn prune_build_cache(
        &self,
        mut wanted: impl FnMut(&BuildCacheEntry) -> bool,
    ) -> Result<(Vec<BuildCacheEntry>, u64)> {
        let (mut removed, mut freed) = (Vec::new(), 0);
        for entry in self.build_cache()? {
            if !wanted(&entry) {
                continue;
            }
            let doing = || format!("forget `{}`", entry.description);
            let gone = match entry.kind {
                BuildCacheKind::Step => self.0.build_steps().forget(&entry.id).map(|()| true).doing(doing)?,
                BuildCacheKind::Mount => self.0.cache_mounts().remove(&entry.id).doing(doing)?,
            };
            if gone {
                freed += if entry.kind == BuildCacheKind::Mount { entry.size } else { 0 };
                removed.push(entry);
            }
        }
        Ok((removed, freed))
    }
}
