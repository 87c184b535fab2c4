//! An image of the tar of a root file system.

use std::io::Read;

use coracle_build::ImageConfig;
use coracle_layers::{Reference, host_config};
use oci_spec::image::HistoryBuilder;

use super::Image;
use crate::error::{Doing, Error, Result};
use crate::{Engine, Kind};

/// What the image is to be that is made of a tar. A name alone will do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportSpec {
    name: Option<String>,
    message: Option<String>,
    changes: Vec<String>,
}

impl ImportSpec {
    /// An image without a name that says nothing of how to run it.
    pub fn new() -> ImportSpec {
        ImportSpec::default()
    }

    /// The name that it is given.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> ImportSpec {
        self.name = Some(name.into());
        self
    }

    /// A remark for its history.
    #[must_use]
    pub fn message(mut self, message: impl Into<String>) -> ImportSpec {
        self.message = Some(message.into());
        self
    }

    /// A Dockerfile instruction for its configuration: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL,
    /// USER, VOLUME or WORKDIR. Several apply one after the other.
    #[must_use]
    pub fn change(mut self, instruction: impl Into<String>) -> ImportSpec {
        self.changes.push(instruction.into());
        self
    }
}

impl From<&str> for ImportSpec {
    fn from(name: &str) -> ImportSpec {
        ImportSpec::new().name(name)
    }
}

/// A name or none.
impl From<Option<&str>> for ImportSpec {
    fn from(name: Option<&str>) -> ImportSpec {
        name.map(ImportSpec::from).unwrap_or_default()
    }
}

impl Engine {
    /// Makes an image of a root file system tar (plain, gzip or zstd), named and configured as `spec` says: a name will do,
    /// and `None` leaves it without one. It doesn't say when it was made: the same tar gives the same image.
    ///
    /// # Errors
    /// `Invalid` for a bad name or change, or an archive that is broken or leads out of itself.
    pub fn import(&self, tar: impl Read, spec: impl Into<ImportSpec>) -> Result<Image> {
        let spec = spec.into();
        let doing = || format!("import `{}`", spec.name.as_deref().unwrap_or("<none>"));
        self.imported(tar, &spec).doing(doing)
    }

    fn imported(&self, tar: impl Read, spec: &ImportSpec) -> Result<Image> {
        let name = spec.name.as_deref().map(str::parse::<Reference>).transpose()?;
        let mut config = ImageConfig::from_oci(&host_config()?)?;
        config.config.env.clear();
        let mut config = super::apply_changes(config, &spec.changes)?;
        let comment = spec.message.clone().unwrap_or_else(|| "Imported from -".to_owned());
        let step = HistoryBuilder::default().comment(comment).build();
        let step = step.map_err(|error| Error::new(Kind::Invalid, format!("its history: {error}")))?;
        config.history = vec![step];
        let layer = self.0.store.import_layer(tar)?;
        self.commit_image(&config, &[layer.chain_id()], name.as_ref())
    }
}
