//! An image of the tar of a root file system.

use std::io::Read;
use std::time::SystemTime;

use coracle_build::ImageConfig;
use coracle_layers::{Platform, Reference, host_config};
use jiff::Timestamp;
use oci_spec::image::{Arch, HistoryBuilder};

use super::Image;
use super::packed::storable;
use crate::error::{Doing, Error, Result};
use crate::{Engine, Kind};

/// What the image is to be that is made of a tar. A name alone will do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportSpec {
    name: Option<String>,
    message: Option<String>,
    changes: Vec<String>,
    created: Option<SystemTime>,
    platform: Option<String>,
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

    /// When it is said to be made. Unless that is said, the same tar gives the same image.
    #[must_use]
    pub fn created(mut self, time: SystemTime) -> ImportSpec {
        self.created = Some(time);
        self
    }

    /// What machine its programs are for, `linux/architecture[/variant]` in Go's words (`linux/arm64`); this one's unless it is
    /// said.
    #[must_use]
    pub fn platform(mut self, platform: impl Into<String>) -> ImportSpec {
        self.platform = Some(platform.into());
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
    /// Makes an image of a root file system tar (plain, or compressed with gzip, bzip2, xz or zstd), named and configured as
    /// `spec` says: a name will do, and `None` leaves it without one.
    ///
    /// # Errors
    /// `Invalid` for a bad name, change or platform, or an archive that is broken or leads out of itself; `Unsupported` for
    /// another system than Linux.
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
        let mut step = HistoryBuilder::default().comment(comment);
        if let Some(created) = spec.created {
            let created = Timestamp::try_from(created).map(|time| time.to_string()).map_err(|error| {
                Error::new(Kind::Invalid, format!("the time {created:?} can't be written: {error}"))
            })?;
            step = step.created(created.clone());
            config.created = Some(created);
        }
        if let Some(platform) = &spec.platform {
            (config.architecture, config.variant) = machine(platform)?;
        }
        let step = step.build();
        let step = step.map_err(|error| Error::new(Kind::Invalid, format!("its history: {error}")))?;
        config.history = vec![step];
        let layer = self.0.store.import_layer(storable(tar)?)?;
        self.commit_image(&config, &[layer.chain_id()], name.as_ref())
    }
}

/// Architecture and variant of `linux/architecture[/variant]`.
fn machine(text: &str) -> Result<(Arch, Option<String>)> {
    let platform: Platform = text.parse()?;
    if let Some(other) = platform.os().filter(|os| *os != "linux") {
        let text = format!("platform {text:?}: the operating system {other} is not supported");
        return Err(Error::new(Kind::Unsupported, text));
    }
    match platform.architecture().map(Arch::from) {
        None | Some(Arch::Other(_)) => {
            Err(Error::new(Kind::Invalid, format!("platform {text:?}: want linux/architecture")))
        }
        Some(known) => Ok((known, platform.variant().map(str::to_owned))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines() {
        assert_eq!(machine("linux/arm64").unwrap(), (Arch::ARM64, None));
        assert_eq!(machine("linux/arm/v7").unwrap(), (Arch::ARM, Some("v7".to_owned())));
        for bad in ["", "linux", "linux/", "linux/toaster", "linux/arm/", "linux/arm/v7/x"] {
            assert_eq!(machine(bad).unwrap_err().kind(), Kind::Invalid, "{bad}");
        }
        assert_eq!(machine("windows/amd64").unwrap_err().kind(), Kind::Unsupported);
    }
}
