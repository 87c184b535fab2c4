//! Images of the engine.

use std::io::Read;

use coracle_layers::{Capture, ImportOptions, Reference};

use crate::error::{Doing, Error, Result};
use crate::{Engine, Kind};

/// An image of an engine: a chain of layers and how to run what is in them.
#[derive(Clone, Debug)]
pub struct Image(pub(crate) coracle_layers::Image);

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

    /// Makes an image of a root file system tar (plain, gzip or zstd) and tags it `name`; `None` leaves it without one.
    ///
    /// # Errors
    /// `Invalid` for a bad name, or an archive that is broken or leads out of itself.
    pub fn import<'a>(&self, tar: impl Read, name: impl Into<Option<&'a str>>) -> Result<Image> {
        let name = name.into();
        let doing = || format!("import `{}`", name.unwrap_or("<none>"));
        let name = name.map(str::parse::<Reference>).transpose().doing(doing)?;
        let image = self.0.store.import(tar, &ImportOptions::new()).doing(doing)?;
        match name {
            Some(name) => self.tagged(&image.id().to_string(), &name).doing(doing),
            None => Ok(Image(image)),
        }
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
        Ok(Image(self.0.store.image(id)?.ok_or_else(gone)?))
    }

    /// The image of that name, id or unambiguous beginning of an id, if it is there.
    ///
    /// # Errors
    /// `Invalid` for what is no name; `Corrupt` where it can't be read.
    pub fn image(&self, name: &str) -> Result<Option<Image>> {
        Ok(self.0.store.image(name)?.map(Image))
    }

    /// All images.
    ///
    /// # Errors
    /// `Corrupt` where one can't be read.
    pub fn images(&self) -> Result<Vec<Image>> {
        Ok(self.0.store.list()?.into_iter().map(Image).collect())
    }

    /// Takes a name from an image. With its last name the image is no longer listed; its layers stay until they are
    /// collected. An id stands for all names of its image.
    ///
    /// # Errors
    /// `NotFound`; `InUse` for an id whose image has names in several repositories.
    pub fn remove_image(&self, name: &str) -> Result<RemovedImage> {
        let removed = self.0.store.remove(name).doing(|| format!("remove image `{name}`"))?;
        Ok(RemovedImage {
            untagged: removed.untagged.iter().map(Reference::familiar).collect(),
            deleted: removed.deleted.map(|id| id.to_string()),
        })
    }
}

/// What [`Engine::remove_image`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemovedImage {
    /// The names that are gone, in the short form.
    pub untagged: Vec<String>,
    /// The id of the image, if that was its last name.
    pub deleted: Option<String>,
}

impl Image {
    /// Its id: the digest of its configuration, `sha256:…`.
    pub fn id(&self) -> String {
        self.0.id().to_string()
    }

    /// Its names, in the short form.
    pub fn names(&self) -> Vec<String> {
        self.0.names().iter().map(Reference::familiar).collect()
    }

    /// The size of its layers in bytes, uncompressed.
    pub fn size(&self) -> u64 {
        self.0.size()
    }

    /// When it was made, in RFC 3339, if it says so.
    pub fn created(&self) -> Option<String> {
        self.0.config().created().clone()
    }
}

/// An image is taken by its id: what it is, whatever becomes of its name.
impl From<&Image> for String {
    fn from(image: &Image) -> String {
        image.id()
    }
}
