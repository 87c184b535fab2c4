//! An image from nothing but a root file system.

use std::io::Read;

use oci_spec::image::{Arch, Config, HistoryBuilder, ImageConfiguration, ImageConfigurationBuilder, Os};

use crate::apply::Trust;
use crate::layer::{Keep, Taken};
use crate::{ChainId, Context, Error, Image, Layer, Result, Store};

/// What an imported image's config says.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    config: Config,
    created: Option<String>,
    comment: Option<String>,
}

impl ImportOptions {
    /// An empty config.
    pub fn new() -> ImportOptions {
        ImportOptions::default()
    }

    /// How to run the image: command, environment, user and so on.
    #[must_use]
    pub fn config(mut self, config: Config) -> ImportOptions {
        self.config = config;
        self
    }

    /// When the image was made, as RFC 3339 has it (`2026-11-21T19:00:00Z`). Not said unless set: the same input then
    /// gives the same image.
    #[must_use]
    pub fn created(mut self, time: impl Into<String>) -> ImportOptions {
        self.created = Some(time.into());
        self
    }

    /// A remark for the image's history.
    #[must_use]
    pub fn comment(mut self, comment: impl Into<String>) -> ImportOptions {
        self.comment = Some(comment.into());
        self
    }
}

impl Store {
    /// An image of one layer from the tar (plain, gzip or zstd) of a root file system, for this host's architecture.
    /// It gets no name; see [`Store::tag`].
    ///
    /// Stricter than [`Store::add_layer_from_tar`], as a tar of a tree can be: absolute names, `..`, and directories
    /// that are links leading out of the root are refused, and the archive must have its end mark.
    ///
    /// # Errors
    /// `Invalid` and `Corrupt`, naming the entry; `Exhausted` when the disk is full. Nothing is left then.
    pub fn import(&self, tar: impl Read, options: &ImportOptions) -> Result<Image> {
        let layer = self.import_layer(tar).context(|| "import image")?;
        self.commit_one(layer.chain_id(), options, "import")
    }

    /// The layer of [`Store::import`], for a config of the caller's own; see [`Store::commit`].
    ///
    /// # Errors
    /// As of [`Store::import`].
    pub fn import_layer(&self, tar: impl Read) -> Result<Layer> {
        let keep = Keep::Copy(self.staging.file()?);
        let taken = Taken { tar, keep, trust: Trust::Import, expect: None, expect_blob: None };
        self.take_in(None, taken)
    }

    pub(crate) fn commit_one(&self, layer: ChainId, options: &ImportOptions, how: &str) -> Result<Image> {
        let wrong = |error: oci_spec::OciSpecError| Error::invalid(format!("{how} image: {error}"));
        let mut history = HistoryBuilder::default().created_by(how);
        if let Some(created) = &options.created {
            history = history.created(created.clone());
        }
        if let Some(comment) = &options.comment {
            history = history.comment(comment.clone());
        }
        let mut config = host_config()?;
        config.set_config(Some(options.config.clone()));
        config.set_created(options.created.clone());
        config.set_history(Some(vec![history.build().map_err(wrong)?]));
        self.commit(config, &[layer])
    }
}

/// A config that says only for which machine it is: this one.
///
/// # Errors
/// `Unsupported` on an architecture that the OCI types have no word for.
pub fn host_config() -> Result<ImageConfiguration> {
    let wrong = |error: oci_spec::OciSpecError| Error::invalid(format!("image config: {error}"));
    ImageConfigurationBuilder::default()
        .architecture(host_architecture()?)
        .os(Os::Linux)
        .build()
        .map_err(wrong)
}

/// This host's architecture in Go's words, as image configs have it.
pub(crate) fn host_architecture() -> Result<Arch> {
    Ok(match std::env::consts::ARCH {
        "x86_64" => Arch::Amd64,
        "aarch64" => Arch::ARM64,
        "x86" => Arch::i386,
        "arm" => Arch::ARM,
        "riscv64" => Arch::RISCV64,
        "s390x" => Arch::s390x,
        "powerpc64" if cfg!(target_endian = "little") => Arch::PowerPC64le,
        "powerpc64" => Arch::PowerPC64,
        "loongarch64" => Arch::LoongArch64,
        other => return Err(Error::unsupported(format!("images of the architecture {other}"))),
    })
}
