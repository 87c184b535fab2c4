//! Images out of an archive or a layout directory.

use std::io::Read;

use coracle_host::Dir;
use oci_spec::image::ImageConfiguration;

use super::document::{self, Pending};
use super::members::{Members, absent};
use crate::apply::Trust;
use crate::blobs::Blob;
use crate::layer::Taken;
use crate::{ChainId, Context, DiffId, Digest, Error, Image, Layer, Reference, Result, Store, json};

/// An image that came out of an archive.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The image as the store has it now.
    pub image: Image,
    /// The names that the archive has for it, which it has been given.
    pub names: Vec<Reference>,
}

impl Store {
    /// Stores the images of an archive (plain, gzip or zstd): a docker archive, as `docker save` makes it, or an image layout
    /// (image-layout.md), as `skopeo copy oci-archive:…` does. The archive is read once, to its end. Names in it are taken
    /// from the images that had them. Of an image for several platforms this machine's is taken.
    ///
    /// Every digest that the archive speaks of is verified, and nothing of it is stored before all blobs are. Where a
    /// layer turns out not to be a tar, or not the one that its image means, layers below it may have been stored;
    /// images and names are not.
    ///
    /// # Errors
    /// `Invalid` and `Corrupt`, naming the member; `Unsupported` for what is no image or made for something else;
    /// `Exhausted` when the disk is full.
    pub fn load(&self, archive: impl Read) -> Result<Vec<Loaded>> {
        let load = || self.load_from(&Members::receive(&self.staging, archive)?);
        load().context(|| "load images")
    }

    /// [`Store::load`] of an image layout that is a directory.
    ///
    /// # Errors
    /// As of [`Store::load`].
    pub fn load_layout(&self, dir: &Dir) -> Result<Vec<Loaded>> {
        let load = || self.load_from(&Members::layout(dir)?);
        load().context(|| format!("load images of {:?}", dir.path()))
    }

    /// Stores one image of an image layout, without any of its names: that which has `wanted` for its tag
    /// (`org.opencontainers.image.ref.name`) or its manifest's digest. Without `wanted` it is `latest`, or the only one.
    ///
    /// # Errors
    /// `NotFound` where there is none, or several and none was asked for; else as of [`Store::load`].
    pub fn load_chosen(&self, dir: &Dir, wanted: Option<&str>) -> Result<Image> {
        let load = || self.chosen_from(&Members::layout(dir)?, wanted);
        load().context(|| format!("load an image of {:?}", dir.path()))
    }

    /// [`Store::load_chosen`] of an archive.
    ///
    /// # Errors
    /// As of [`Store::load_chosen`].
    pub fn load_chosen_from(&self, archive: impl Read, wanted: Option<&str>) -> Result<Image> {
        let load = || self.chosen_from(&Members::receive(&self.staging, archive)?, wanted);
        load().context(|| "load an image")
    }

    fn chosen_from(&self, members: &Members, wanted: Option<&str>) -> Result<Image> {
        self.load_one(members, &document::chosen(members, wanted)?)
    }

    fn load_from(&self, members: &Members) -> Result<Vec<Loaded>> {
        let mut images = Vec::new();
        for pending in document::images(members)? {
            let id = Digest::of(&pending.config);
            let image = self.load_one(members, &pending).context(|| format!("image {id}"))?;
            images.push((image, pending.names));
        }
        // Names last: they are what makes an image wanted.
        let mut loaded = Vec::new();
        for (image, names) in images {
            for name in &names {
                self.tag(&image, name)?;
            }
            let id = image.id().to_string();
            let image = self.image(&id)?.ok_or_else(|| Error::corrupt(format!("image {id} was removed")))?;
            loaded.push(Loaded { image, names });
        }
        Ok(loaded)
    }

    fn load_one(&self, members: &Members, pending: &Pending) -> Result<Image> {
        let config: ImageConfiguration = json::parse(&pending.config, || "config".into())?;
        let diffs = config.rootfs().diff_ids().iter().map(|id| id.parse());
        let diffs: Vec<DiffId> = diffs.collect::<Result<_>>()?;
        if diffs.len() != pending.layers.len() {
            let text =
                format!("it has {} layers, and its config speaks of {}", pending.layers.len(), diffs.len());
            return Err(Error::corrupt(text));
        }
        let mut stack: Vec<Layer> = Vec::new();
        for (diff, path) in diffs.into_iter().zip(&pending.layers) {
            let parent = stack.last().map(Layer::chain_id);
            let layer = match self.layer(&ChainId::next(parent.as_ref(), &diff))? {
                Some(known) => known,
                None => self
                    .load_layer(members, parent.as_ref(), diff, path)
                    .context(|| format!("layer {} ({path})", stack.len() + 1))?,
            };
            stack.push(layer);
        }
        let Blob { digest, size } = self.blobs.write(&mut pending.config.as_slice())?;
        self.put_image(Blob { digest, size }, &stack, pending.manifest.as_deref())
    }

    fn load_layer(
        &self,
        members: &Members,
        parent: Option<&ChainId>,
        expect: DiffId,
        path: &str,
    ) -> Result<Layer> {
        let opened = members.open(path)?.ok_or_else(|| absent(path))?;
        let keep = members.keep(path, &self.staging)?;
        let named = path.strip_prefix("blobs/sha256/").and_then(Digest::from_hex);
        let expect_blob = named.filter(|_| opened.digest.is_none());
        let taken = Taken { tar: opened.file, keep, trust: Trust::Layer, expect: Some(expect), expect_blob };
        self.take_in(parent, taken)
    }
}
