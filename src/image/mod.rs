//! Images of the engine.

mod archive;
mod change;
mod import;
mod packed;
#[cfg(feature = "registry")]
mod pull;
mod remove;

use std::path::PathBuf;
use std::time::SystemTime;

use coracle_build::ImageConfig;
use coracle_layers::{Capture, Platform, Reference};

pub use archive::LoadedImage;
pub(crate) use change::apply as apply_changes;
pub use import::ImportSpec;
#[cfg(feature = "registry")]
pub use pull::PulledImage;
pub use remove::RemovedImage;

use crate::error::{Doing, Error, Result};
use crate::{Engine, Kind};

/// An image of an engine: a chain of layers and how to run what is in them.
#[derive(Clone, Debug)]
pub struct Image {
    engine: Engine,
    stored: coracle_layers::Image,
}

/// A step of how an image was made (OCI image specification, config.md, `history`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HistoryEntry {
    /// When, in RFC 3339, if it says so.
    pub created: Option<String>,
    /// The command that made it.
    pub created_by: String,
    /// Who made it.
    pub author: String,
    /// A remark.
    pub comment: String,
    /// The diff id of the layer that it added; `None` for what only changed the configuration.
    pub layer: Option<String>,
    /// Bytes of the files in that layer.
    pub size: u64,
}

impl Engine {
    /// Makes an image of programs of this host, with their interpreters, libraries and what names need to be
    /// looked up, and tags it `name`. The same programs give the same image.
    ///
    /// # Errors
    /// `NotFound` naming the program or library; `Invalid` for a bad name.
    pub fn capture(&self, programs: &Capture, name: &str) -> Result<Image> {
        let doing = || format!("capture `{name}`");
        let name: Reference = name.parse().doing(doing)?;
        let plan = programs.plan().doing(doing)?;
        let image = self.0.store.capture(&plan).doing(doing)?;
        self.tagged(&image.id().to_string(), &name).doing(doing)
    }

    /// Gives an image one more name, taking it from the image that had it.
    ///
    /// # Errors
    /// `Invalid` for a bad name, or one with a digest; `NotFound` where the image was removed.
    pub fn tag(&self, image: &Image, name: &str) -> Result<Image> {
        let doing = || format!("tag `{name}`");
        let reference: Reference = name.parse().doing(doing)?;
        self.tagged(&image.id(), &reference).doing(doing)
    }

    /// Gives a stored image one more name.
    fn tagged(&self, id: &str, name: &Reference) -> Result<Image> {
        let gone = || Error::new(Kind::NotFound, format!("no such image: {id}"));
        let image = self.0.store.image(id)?.ok_or_else(gone)?;
        self.0.store.tag(&image, name)?;
        Ok(self.of(self.0.store.image(id)?.ok_or_else(gone)?))
    }

    /// The image of that name, id or unambiguous beginning of an id, if it is there.
    ///
    /// # Errors
    /// `Invalid` for what is no name; `Corrupt` where it can't be read.
    pub fn image(&self, name: &str) -> Result<Option<Image>> {
        Ok(self.0.store.image(name)?.map(|stored| self.of(stored)))
    }

    /// All images.
    ///
    /// # Errors
    /// `Corrupt` where one can't be read.
    pub fn images(&self) -> Result<Vec<Image>> {
        Ok(self.0.store.list()?.into_iter().map(|stored| self.of(stored)).collect())
    }

    /// The handle of an image of the store.
    pub(crate) fn of(&self, stored: coracle_layers::Image) -> Image {
        Image { engine: self.clone(), stored }
    }

    /// Makes an image of a config and layers, with this name or none.
    pub(crate) fn commit_image(
        &self,
        config: &ImageConfig,
        layers: &[coracle_layers::ChainId],
        name: Option<&Reference>,
    ) -> Result<Image> {
        let image = self.0.store.commit(config, layers)?;
        match name {
            Some(name) => self.tagged(&image.id().to_string(), name),
            None => Ok(self.of(image)),
        }
    }
}

impl Image {
    pub(crate) fn stored(&self) -> &coracle_layers::Image {
        &self.stored
    }

    /// Its id: the digest of its configuration, `sha256:…`.
    pub fn id(&self) -> String {
        self.stored.id().to_string()
    }

    /// Its names, in the short form.
    pub fn names(&self) -> Vec<String> {
        self.stored.names().iter().map(Reference::familiar).collect()
    }

    /// The digest of its manifest, `sha256:…`: after a name and `@` it stands for the image, whatever becomes of the name's
    /// tag.
    pub fn digest(&self) -> String {
        self.stored.manifest().to_string()
    }

    /// What registries had it under when it was pulled, `repository@sha256:…` in the short form: the digest of its manifest
    /// there, or of the index that lists it.
    pub fn registry_digests(&self) -> Vec<String> {
        self.stored.digests().iter().map(Reference::familiar).collect()
    }

    /// Whether it is for that platform, as far as the platform is said.
    pub fn is_for(&self, platform: &Platform) -> bool {
        self.stored.is_for(platform)
    }

    /// How many bytes its manifest has.
    pub fn manifest_size(&self) -> u64 {
        self.stored.manifest_size()
    }

    /// Bytes of the files in its layers, which is what docker takes for an image's size.
    pub fn size(&self) -> u64 {
        self.stored.size()
    }

    /// When it was made, in RFC 3339, if it says so.
    pub fn created(&self) -> Option<String> {
        self.stored.config().created().clone()
    }

    /// When it was last given one of its names.
    pub fn named(&self) -> Option<SystemTime> {
        self.stored.named()
    }

    /// How to run it, what machine it is for, and all else that its configuration says.
    ///
    /// # Errors
    /// `Corrupt` where the configuration is none that docker could have written.
    pub fn config(&self) -> Result<ImageConfig> {
        ImageConfig::from_json(self.stored.document()).doing(|| format!("image {}", self.id()))
    }

    /// The configuration's document as it is stored. Its digest is the image's id.
    pub fn document(&self) -> &[u8] {
        self.stored.document()
    }

    /// The diff ids of its layers, the lowest first.
    pub fn layers(&self) -> Vec<String> {
        self.stored.config().rootfs().diff_ids().clone()
    }

    /// Where the trees of its layers are on this host, the lowest first: to look at, never to change.
    pub fn trees(&self) -> Vec<PathBuf> {
        let layers = self.engine.path().join("layers");
        self.stored.layers().iter().map(|id| layers.join(id.hex()).join("fs")).collect()
    }

    /// How it was made, the first step first.
    ///
    /// # Errors
    /// `NotFound` where a layer is missing; `Corrupt` where its record can't be read.
    pub fn history(&self) -> Result<Vec<HistoryEntry>> {
        let mut layers = self.stored.layers().iter();
        let mut entries = Vec::new();
        for step in self.stored.config().history().iter().flatten() {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            let mut entry = HistoryEntry {
                created: step.created().clone(),
                created_by: text(step.created_by()),
                author: text(step.author()),
                comment: text(step.comment()),
                ..HistoryEntry::default()
            };
            if step.empty_layer() != Some(true)
                && let Some(id) = layers.next()
            {
                self.add_layer(&mut entry, id)?;
            }
            entries.push(entry);
        }
        // Layers that the history doesn't speak of.
        for id in layers {
            let mut entry = HistoryEntry::default();
            self.add_layer(&mut entry, id)?;
            entries.push(entry);
        }
        Ok(entries)
    }

    fn add_layer(&self, entry: &mut HistoryEntry, id: &coracle_layers::ChainId) -> Result<()> {
        let layer = self.engine.0.store.layer(id)?;
        let layer = layer.ok_or_else(|| Error::new(Kind::NotFound, format!("there is no layer {id}")))?;
        entry.layer = Some(layer.diff_id().to_string());
        entry.size = layer.content_size();
        Ok(())
    }

    /// Stores all blobs that its manifest lists, for programs that read the state directory as an OCI image layout (`skopeo copy
    /// oci:<state>:<name> …`). Layers that were built are else kept as trees only, and their tars made when [`Engine::save`]
    /// asks for them.
    ///
    /// # Errors
    /// `NotFound` where a layer is missing; `Corrupt` where somebody changed its tree; `Exhausted` when the disk is full.
    pub fn complete(&self) -> Result<()> {
        self.engine.0.store.complete(&self.stored).doing(|| format!("complete image {}", self.id()))
    }

    /// Gives it one more name, taking it from the image that had it. The handle returned knows the name.
    ///
    /// # Errors
    /// As of [`Engine::tag`].
    pub fn tag(&self, name: &str) -> Result<Image> {
        self.engine.tag(self, name)
    }
}

/// An image is taken by its id: what it is, whatever becomes of its name.
impl From<&Image> for String {
    fn from(image: &Image) -> String {
        image.id()
    }
}
