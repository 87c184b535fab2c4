//! Images in archives.

use std::io::{Read, Write};
use std::path::Path;

use coracle_host::{Call, Dir};
use coracle_layers::{CompressionOptions, Loaded, Reference};

use super::Image;
use super::packed::storable;
use crate::error::{Doing, Error, Result};
use crate::{Engine, Kind};

/// What came out of an archive.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LoadedImage {
    /// The image.
    pub image: Image,
    /// The names that the archive has for it, in the short form. It has them now.
    pub names: Vec<String>,
}

impl Engine {
    /// Writes images into one tar that docker, podman, skopeo and the like read: an OCI image layout and a docker archive at
    /// once. A name with a tag stands for the image under that name, one without for all tags of the repository, an id for the
    /// image without a name. The same images make the same bytes.
    ///
    /// # Errors
    /// `NotFound`, before anything is written; what writing to `out` fails with.
    pub fn save(&self, images: &[impl AsRef<str>], out: impl Write) -> Result<()> {
        let mut chosen: Vec<(coracle_layers::Image, Vec<Reference>)> = Vec::new();
        for text in images {
            for (image, name) in self.meant(text.as_ref())? {
                let at = chosen.iter().position(|(known, _)| known.id() == image.id());
                let at = at.unwrap_or_else(|| {
                    chosen.push((image, Vec::new()));
                    chosen.len() - 1
                });
                let names = &mut chosen[at].1;
                names.extend(name.filter(|name| !names.contains(name)));
            }
        }
        Ok(self.0.store.save(&chosen, out)?)
    }

    /// Writes one image into an archive like [`Engine::save`]'s, under these names, which it need not have here, and with its
    /// layers compressed like this. Returns the digest and the size of its manifest there, which lists them so.
    ///
    /// # Errors
    /// `Invalid` for what is no name; as of [`Engine::save`].
    pub fn save_image(
        &self,
        image: &Image,
        names: &[impl AsRef<str>],
        how: impl Into<CompressionOptions>,
        out: impl Write,
    ) -> Result<(String, u64)> {
        let names: coracle_layers::Result<Vec<Reference>> =
            names.iter().map(|name| name.as_ref().parse()).collect();
        let names = names.doing(|| "save images")?;
        let blobs = self.0.store.save_packed(&[(image.stored.clone(), names)], how, out)?;
        match blobs.as_slice() {
            [blob] => Ok((blob.digest.to_string(), blob.size)),
            _ => Err(Error::new(Kind::Other, "an archive of one image has one manifest")),
        }
    }

    /// The images that a text means when they are saved, each with the name that it goes by.
    fn meant(&self, text: &str) -> Result<Vec<(coracle_layers::Image, Option<Reference>)>> {
        let reference: Option<Reference> =
            text.parse().ok().filter(|name: &Reference| name.digest().is_none());
        if let Some(name) = reference.filter(|_| !has_tag(text)) {
            let repository = name.repository();
            let all = self.0.store.list()?;
            let tagged: Vec<_> = all
                .iter()
                .flat_map(|image| image.names().iter().map(move |name| (image, name)))
                .filter(|(_, name)| name.repository() == repository)
                .map(|(image, name)| (image.clone(), Some(name.clone())))
                .collect();
            if !tagged.is_empty() {
                return Ok(tagged);
            }
        }
        let image = self.0.store.image(text).doing(|| "save images")?;
        let image =
            image.ok_or_else(|| Error::new(Kind::NotFound, format!("save images: no such image: {text}")))?;
        // An id may look like a name; then it is none of this image's.
        let name = text.parse().ok().filter(|name| image.names().contains(name));
        Ok(vec![(image, name)])
    }

    /// Stores the images of an archive (plain, or compressed with gzip, bzip2, xz or zstd): what [`Engine::save`] and `docker save` write, or an OCI image
    /// layout in a tar. Names in it are taken from the images that had them.
    ///
    /// # Errors
    /// `Invalid` and `Corrupt` for an archive that is none or holds not what it says, naming the member; no image is
    /// stored then.
    pub fn load(&self, archive: impl Read) -> Result<Vec<LoadedImage>> {
        Ok(self.loaded(self.0.store.load(storable(archive).doing(|| "load images")?)?))
    }

    /// [`Engine::load`] of a directory that is an OCI image layout.
    ///
    /// # Errors
    /// As of [`Engine::load`].
    pub fn load_layout(&self, path: impl AsRef<Path>) -> Result<Vec<LoadedImage>> {
        let dir = Dir::open(path.as_ref()).doing(|| "load images")?;
        Ok(self.loaded(self.0.store.load_layout(&dir)?))
    }

    /// Stores one image of an OCI image layout, in a directory or a tar, without any of its names: that which has `wanted`
    /// for its tag or its manifest's digest; without `wanted` it is `latest`, or the only one. It is kept as long as
    /// an image without a name is.
    ///
    /// # Errors
    /// `NotFound` where there is none, or several and none was asked for; else as of [`Engine::load`].
    pub fn load_one(&self, path: impl AsRef<Path>, wanted: Option<&str>) -> Result<Image> {
        let path = path.as_ref();
        let image = match path.is_dir() {
            true => self.0.store.load_chosen(&Dir::open(path)?, wanted)?,
            false => {
                let file = std::fs::File::open(path).call(|| format!("open({path:?})"))?;
                self.0.store.load_chosen_from(file, wanted)?
            }
        };
        Ok(self.of(image))
    }

    fn loaded(&self, all: Vec<Loaded>) -> Vec<LoadedImage> {
        let names = |loaded: &Loaded| loaded.names.iter().map(Reference::familiar).collect();
        all.into_iter().map(|one| LoadedImage { names: names(&one), image: self.of(one.image) }).collect()
    }
}

/// Whether a name says its tag.
fn has_tag(text: &str) -> bool {
    text.rsplit('/').next().is_some_and(|last| last.contains(':'))
}
