//! Builds of the engine.

mod cache;
mod output;
mod transfer;

pub use cache::{BuildCacheEntry, BuildCacheKind};
pub(crate) use transfer::Came;
pub use transfer::{CacheExport, CacheMode, CacheOptions, ImportedCache};

use std::io::Read;

use coracle_build::{
    BuildSpec, Cache, CacheMounts, CachedFiles, CachedStep, Checked, Event, Explanation, Fetch, Remote,
    RemoteContext, StepReport, Unpacked,
};

use coracle_layers::Reference;

use crate::container::{place_below, rlimit_problem};
use crate::engine::Inner;
use crate::error::{Doing, Error, Result};
use crate::worker::Builder;
use crate::{Engine, Image, Kind};

/// A finished build.
#[derive(Clone, Debug)]
pub struct Built {
    /// The image.
    pub image: Image,
    /// What became of each step, in the order of the Dockerfile's lines.
    pub steps: Vec<StepReport>,
    /// The Dockerfile, line by line: what was cached, what was built and why, and what it cost. `Display` prints it.
    pub explanation: Explanation,
    /// The steps as the cache has them: see [`Engine::export_build_cache`].
    cache: Vec<CachedStep>,
    files: Vec<CachedFiles>,
}

impl Engine {
    /// Builds an image as a Dockerfile says, telling `event` what happens as it happens. Steps whose inputs are the
    /// same as in an earlier build, by content, are taken from there.
    ///
    /// # Errors
    /// `Invalid` with everything that is wrong in the Dockerfile, each at its file and line; `Failed` where a command
    /// of a RUN line did; `NotFound` for a source or an image.
    pub fn build(&self, spec: &BuildSpec, event: impl FnMut(&Event)) -> Result<Built> {
        self.build_from(spec, &[], event)
    }

    /// [`Engine::build`] with caches that were imported: where files of a step's result are needed and are not here, they are
    /// fetched from the first of them that has them. What can't be fetched is built, with a warning.
    ///
    /// # Errors
    /// As of [`Engine::build`].
    pub fn build_from(
        &self,
        spec: &BuildSpec,
        caches: &[ImportedCache],
        mut event: impl FnMut(&Event),
    ) -> Result<Built> {
        // Not after an hour of building.
        for tag in spec.tags() {
            tag.parse::<Reference>().doing(|| format!("invalid tag `{tag}`"))?;
        }
        let mut limits = spec.rlimits();
        if let Some(what) = limits.find_map(|(name, soft, hard)| rlimit_problem(name, soft, hard)) {
            return Err(Error::new(Kind::Invalid, what));
        }
        if let Some(parent) = spec.control_group() {
            place_below(parent, "build")?;
        }
        let builder = Builder::new(&self.0, spec).fetching(caches);
        let cache = self.0.build_steps();
        let built = coracle_build::build(spec, &builder, &cache, &mut event)?;
        let image = match builder.made() {
            Some(unlisted) => Some(self.of(unlisted)),
            None => self.image(&built.id).doing(|| "find the image just built")?,
        };
        let image = image.ok_or_else(|| {
            Error::new(Kind::NotFound, format!("the image {} was removed while it was built", built.id))
        })?;
        let explanation = built.explain();
        Ok(Built { image, steps: built.steps, explanation, cache: built.cache, files: built.files })
    }
}

impl Engine {
    /// Reads what a build would read and says what could be better; nothing is built. The rules are those of BuildKit's
    /// linter by their names, and advice from what builds before have cost.
    ///
    /// # Errors
    /// `Invalid` with everything that is wrong in the Dockerfile, which is more than advice.
    pub fn check(&self, spec: &BuildSpec) -> Result<Checked> {
        let builder = Builder::new(&self.0, spec);
        Ok(coracle_build::check(spec, &builder, &self.0.build_steps())?)
    }

    /// Unpacks a context that comes as a tar (plain, gzip or zstd) into a directory of its own, which is there as long
    /// as the value: build with its [`Unpacked::path`].
    ///
    /// # Errors
    /// `Invalid` for what is no such archive, or leads out of itself; `Unsupported` for devices in it.
    pub fn unpack_context(&self, archive: impl Read + 'static) -> Result<Unpacked> {
        Ok(Unpacked::from_tar(archive, &self.0.state.staging)?)
    }
}

impl Engine {
    /// Fetches a context: of a repository what is meant of it ([`Fetch::git`], since no library runs programs), of a URL an
    /// archive unpacked, or else the text of a Dockerfile.
    ///
    /// # Errors
    /// What fetching fails with; `Unsupported` for a URL where the feature `http` is off, and for a repository without [`Fetch::git`].
    pub fn fetch_context(&self, remote: &Remote, how: &Fetch<'_>) -> Result<RemoteContext> {
        Ok(coracle_build::fetch_context(remote, how, &self.0.state.staging)?)
    }
}

impl Inner {
    /// The results of build steps.
    pub(crate) fn build_steps(&self) -> Cache {
        Cache::new(self.state.cache.clone(), self.state.staging.clone())
    }

    /// The directories of `RUN --mount=type=cache`.
    pub(crate) fn cache_mounts(&self) -> CacheMounts {
        CacheMounts::new(self.state.mounts.clone(), self.state.staging.clone())
    }
}
