//! Builds of the engine.

use coracle_build::{BuildSpec, Event, StepReport};

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
}

impl Engine {
    /// Builds an image as a Dockerfile says, telling `event` what happens as it happens. Steps whose inputs are the
    /// same as in an earlier build, by content, are taken from there.
    ///
    /// # Errors
    /// `Invalid` with everything that is wrong in the Dockerfile, each at its file and line; `Failed` where a command
    /// of a RUN line did; `NotFound` for a source or an image.
    pub fn build(&self, spec: &BuildSpec, mut event: impl FnMut(&Event)) -> Result<Built> {
        let builder = Builder::new(&self.0, spec.epoch());
        let cache = coracle_build::Cache::new(self.0.state.cache.clone(), self.0.state.staging.clone());
        let built = coracle_build::build(spec, &builder, &cache, &mut event)?;
        let image = self.image(&built.id).doing(|| "find the image just built")?;
        let image = image.ok_or_else(|| {
            Error::new(Kind::NotFound, format!("the image {} was removed while it was built", built.id))
        })?;
        Ok(Built { image, steps: built.steps })
    }
}
