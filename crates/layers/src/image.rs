//! Images: a config, a manifest and the layers that they list (OCI image-spec, config.md and manifest.md).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use coracle_host::Kind;
use oci_spec::image::{
    Descriptor, ImageConfiguration, ImageManifest, ImageManifestBuilder, MediaType, RootFsBuilder,
};
use serde::{Deserialize, Serialize};

use crate::blobs::Blob;
use crate::names::{Record, descriptor};
use crate::{
    ChainId, Context, DiffId, Digest, Error, ImageId, Layer, Platform, Reference, Result, Store, json,
};

/// Most bytes of a manifest or config, as registries have it.
pub(crate) const MOST_JSON: u64 = 4 << 20;

/// An image of the store.
#[derive(Clone, Debug)]
pub struct Image {
    id: ImageId,
    manifest: Blob,
    document: Arc<[u8]>,
    config: ImageConfiguration,
    layers: Vec<ChainId>,
    names: Vec<Reference>,
    digests: Vec<Reference>,
    named: Option<SystemTime>,
    size: u64,
}

impl Image {
    /// The digest of the config, by which docker, too, knows an image.
    pub fn id(&self) -> ImageId {
        self.id
    }

    /// The digest of the manifest, by which registries know it.
    pub fn manifest(&self) -> Digest {
        self.manifest.digest
    }

    /// How many bytes the manifest has.
    pub fn manifest_size(&self) -> u64 {
        self.manifest.size
    }

    pub(crate) fn manifest_blob(&self) -> Blob {
        self.manifest
    }

    /// How to run it, and how it was made.
    pub fn config(&self) -> &ImageConfiguration {
        &self.config
    }

    /// Whether it is for that platform, as far as the platform is said.
    pub fn is_for(&self, platform: &Platform) -> bool {
        platform.takes(&self.config)
    }

    /// The config as it is stored, with what the OCI types have no field for (docker's health check, shell and
    /// triggers). Its digest is the image's id.
    pub fn document(&self) -> &[u8] {
        &self.document
    }

    /// Its layers, the lowest first.
    pub fn layers(&self) -> &[ChainId] {
        &self.layers
    }

    /// Its names, sorted.
    pub fn names(&self) -> &[Reference] {
        &self.names
    }

    /// What registries had it under when it was pulled, `repository@digest`, sorted: the digest of its manifest there, or of the
    /// index that lists it.
    pub fn digests(&self) -> &[Reference] {
        &self.digests
    }

    /// When it was last given one of its names.
    pub fn named(&self) -> Option<SystemTime> {
        self.named
    }

    /// Bytes of the files in its layers.
    pub fn size(&self) -> u64 {
        self.size
    }
}

/// What [`Store::remove`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names that are gone.
    pub untagged: Vec<Reference>,
    /// The image, if it had no other name. Its blobs and layers wait for the store's collection.
    pub deleted: Option<ImageId>,
}

impl Store {
    /// The image that `text` means: a name, an id (`sha256:…` or its digits), or the beginning of an id that no other
    /// image has.
    ///
    /// # Errors
    /// `Invalid` for a text that is neither, or the beginning of several ids; `Corrupt` for an image whose blobs are
    /// not what they were.
    pub fn image(&self, text: &str) -> Result<Option<Image>> {
        match self.record(text)? {
            Some(record) => self.image_of(&record).context(|| format!("image {text:?}")).map(Some),
            None => Ok(None),
        }
    }

    /// All images, with and without names, by id.
    ///
    /// # Errors
    /// As of [`Store::image`].
    pub fn list(&self) -> Result<Vec<Image>> {
        let records = self.records_of_ids("")?;
        let names = self.records_of_names()?;
        let image = |record: &Record| self.read(record, &names).context(|| format!("image {}", record.image));
        records.iter().map(image).collect()
    }

    /// Makes an image of `layers` (the lowest first; see [`Store::chain`]) and stores it without a name. `config` is an
    /// [`ImageConfiguration`], or any document of that form with fields of others in it; its `rootfs` is filled in
    /// here, all else is the caller's, and equal calls make equal bytes.
    ///
    /// # Errors
    /// `NotFound`, naming the layer; `Invalid` for layers that are not each other's parents, and for a config that is
    /// none.
    pub fn commit(&self, config: impl Serialize, layers: &[ChainId]) -> Result<Image> {
        self.commit_annotated(config, layers, &BTreeMap::new())
    }

    /// [`Store::commit`], with annotations of the manifest (annotations.md). They are no part of the image's id.
    ///
    /// # Errors
    /// As of [`Store::commit`].
    pub fn commit_annotated(
        &self,
        config: impl Serialize,
        layers: &[ChainId],
        annotations: &BTreeMap<String, String>,
    ) -> Result<Image> {
        let record = self.compose(config, layers, annotations)?;
        self.put_record(&record)?;
        self.image_of(&record)
    }

    /// [`Store::commit_annotated`] of an image that the store doesn't list: only its value stands for it, to be written
    /// somewhere ([`Store::save`], [`Store::export`]). Nothing keeps its blobs and layers once nothing else needs them.
    ///
    /// # Errors
    /// As of [`Store::commit`].
    pub fn commit_unlisted(
        &self,
        config: impl Serialize,
        layers: &[ChainId],
        annotations: &BTreeMap<String, String>,
    ) -> Result<Image> {
        self.image_of(&self.compose(config, layers, annotations)?)
    }

    /// Stores config and manifest; the record of both is the caller's to put.
    fn compose(
        &self,
        config: impl Serialize,
        layers: &[ChainId],
        annotations: &BTreeMap<String, String>,
    ) -> Result<Record> {
        self.check_stack(layers)?;
        let stack = self.stack(layers.last())?;
        let wrong = |error: oci_spec::OciSpecError| Error::invalid(format!("commit image: {error}"));
        let rootfs = RootFsBuilder::default()
            .typ("layers")
            .diff_ids(stack.iter().map(|layer| layer.diff_id().to_string()).collect::<Vec<_>>())
            .build()
            .map_err(wrong)?;
        let document = |error: serde_json::Error| Error::invalid(format!("commit image: {error}"));
        let mut config = serde_json::to_value(config).map_err(document)?;
        config["rootfs"] = serde_json::to_value(rootfs).map_err(document)?;
        ImageConfiguration::deserialize(&config).map_err(document)?;
        let stored = self.blobs.write(&mut json::canonical(&config)?.as_slice())?;
        let mut manifest = manifest_of(stored, &stack)?;
        if !annotations.is_empty() {
            manifest.set_annotations(Some(annotations.clone().into_iter().collect()));
        }
        let manifest = self.blobs.write(&mut json::canonical(&manifest)?.as_slice())?;
        Ok(Record::new(None, stored.digest.into(), manifest))
    }

    /// Stores an image of a stored config without a name. `manifest` is taken as it is where it lists just these blobs; else
    /// one is made.
    pub(crate) fn put_image(&self, config: Blob, stack: &[Layer], manifest: Option<&[u8]>) -> Result<Image> {
        let given = manifest.filter(|bytes| {
            let listed = serde_json::from_slice::<ImageManifest>(bytes).ok();
            listed.is_some_and(|listed| {
                let own = |of: Blob| (of.digest.to_string(), of.size);
                let theirs = |of: &Descriptor| (of.digest().to_string(), of.size());
                theirs(listed.config()) == own(config)
                    && listed.layers().iter().map(theirs).eq(stack.iter().map(|layer| own(layer.blob())))
            })
        });
        let bytes = match given {
            Some(bytes) => bytes.to_vec(),
            None => json::canonical(&manifest_of(config, stack)?)?,
        };
        let manifest = self.blobs.write(&mut bytes.as_slice())?;
        let record = Record::new(None, config.digest.into(), manifest);
        self.put_record(&record)?;
        self.image_of(&record)
    }

    /// Gives an image a name, taking it from the image that had it.
    ///
    /// # Errors
    /// `Invalid` for a name with a digest, which can't be given away.
    pub fn tag(&self, image: &Image, name: &Reference) -> Result<()> {
        if name.digest().is_some() {
            return Err(Error::invalid(format!("image name {name}: a name with a digest can't be given")));
        }
        let _lock = self.names_lock()?;
        // An image removed since comes back with its name.
        self.put_record(&Record::new(None, image.id, image.manifest))?;
        if self.put_record(&Record::new(Some(name), image.id, image.manifest))? {
            self.reindex_locked()?;
        }
        Ok(())
    }

    /// Takes a name away. The image stays, even without any name.
    ///
    /// # Errors
    /// `NotFound` where no image has the name.
    pub fn untag(&self, name: &Reference) -> Result<()> {
        let _lock = self.names_lock()?;
        let record = self.record_of_name(name)?.ok_or_else(|| no_image(&name.familiar()))?;
        self.remove_record(&record)?;
        self.reindex_locked()
    }

    /// Removes a name and, with its last name, the image; or an image by id with its names, as `docker rmi` does.
    ///
    /// An id stands for all names of its image; of several they are only taken with `force`.
    ///
    /// # Errors
    /// `NotFound`; `InUse` for an id whose image has several names.
    pub fn remove(&self, text: &str, force: bool) -> Result<Removed> {
        let _lock = self.names_lock()?;
        let record = self.record(text)?.ok_or_else(|| no_image(text))?;
        let named: Vec<Record> =
            self.records_of_names()?.into_iter().filter(|other| other.image == record.image).collect();
        let (gone, rest): (Vec<&Record>, Vec<&Record>) = match &record.name {
            Some(name) => named.iter().partition(|other| other.goes_with(name, &named)),
            None => (named.iter().collect(), Vec::new()),
        };
        let names = parse_names(gone.iter().copied())?;
        let tags: Vec<&Reference> = names.iter().filter(|name| name.digest().is_none()).collect();
        if record.name.is_none() && tags.len() > 1 && !force {
            let names: Vec<String> = tags.into_iter().map(Reference::familiar).collect();
            let text = format!("image {text:?} has several names: {}", names.join(", "));
            return Err(Error::new(Kind::InUse, text));
        }
        for record in &gone {
            self.remove_record(record)?;
        }
        let mut removed = Removed { untagged: names, deleted: None };
        if rest.is_empty() {
            for record in self.records_of_ids(&record.image.hex())? {
                self.remove_record(&record)?;
            }
            removed.deleted = Some(record.image);
        }
        self.reindex_locked()?;
        Ok(removed)
    }

    /// The record that `text` means. A whole id comes first, then names, then beginnings of ids, as docker has it.
    fn record(&self, text: &str) -> Result<Option<Record>> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        if Digest::from_hex(digits).is_some() {
            return Ok(self.records_of_ids(digits)?.pop());
        }
        let name = text.parse::<Reference>();
        if let Ok(name) = &name
            && let Some(record) = self.record_of_reference(name)?
        {
            return Ok(Some(record));
        }
        let is_id = !digits.is_empty() && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !is_id {
            return name.map(|_| None);
        }
        let mut records = self.records_of_ids(digits)?;
        if records.len() > 1 {
            let ids: Vec<String> = records.iter().map(|record| record.image.to_string()).collect();
            let text = format!("image id {text:?} is the beginning of several: {}", ids.join(", "));
            return Err(Error::invalid(text));
        }
        Ok(records.pop())
    }

    pub(crate) fn record_of_reference(&self, name: &Reference) -> Result<Option<Record>> {
        let Some(digest) = name.digest() else {
            return self.record_of_name(name);
        };
        if let Some(pulled) = self.record_of_name(&name.pinned(digest))? {
            return Ok(Some(pulled));
        }
        let matches = |record: &Record| {
            let of = record.name.as_deref().and_then(|name| name.parse::<Reference>().ok());
            record.manifest == digest && of.is_some_and(|of| of.repository() == name.repository())
        };
        Ok(self.records_of_names()?.into_iter().find(matches))
    }

    pub(crate) fn image_of(&self, record: &Record) -> Result<Image> {
        self.read(record, &self.records_of_names()?)
    }

    fn read(&self, record: &Record, names: &[Record]) -> Result<Image> {
        let manifest: ImageManifest = json::parse(&self.blobs.read(&record.manifest, MOST_JSON)?, || {
            format!("manifest {}", record.manifest)
        })?;
        let document = self.blobs.read(&record.image.digest(), MOST_JSON)?;
        let config: ImageConfiguration = json::parse(&document, || format!("config {}", record.image))?;
        let diffs: Vec<DiffId> =
            config.rootfs().diff_ids().iter().map(|id| id.parse()).collect::<Result<_>>()?;
        let layers = ChainId::chain(&diffs);
        let mut size = 0;
        for (id, listed) in layers.iter().zip(manifest.layers()) {
            size += self.layer(id)?.map_or(listed.size(), |layer| layer.content_size());
        }
        let named: Vec<&Record> = names.iter().filter(|other| other.image == record.image).collect();
        let at = named.iter().map(|record| record.updated).max();
        Ok(Image {
            id: record.image,
            manifest: Blob { digest: record.manifest, size: record.manifest_size },
            document: document.into(),
            config,
            layers,
            names: parse_names(named.iter().copied().filter(|record| !record.has_digest()))?,
            digests: parse_names(named.iter().copied().filter(|record| record.has_digest()))?,
            named: at.map(|secs| SystemTime::UNIX_EPOCH + Duration::from_secs(secs)),
            size,
        })
    }
}

/// The manifest of a config and the layers under it (manifest.md).
fn manifest_of(config: Blob, stack: &[Layer]) -> Result<ImageManifest> {
    let mut listed = Vec::with_capacity(stack.len());
    for layer in stack {
        listed.push(descriptor(layer.media_type().clone(), layer.blob())?);
    }
    ImageManifestBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageManifest)
        .config(descriptor(MediaType::ImageConfig, config)?)
        .layers(listed)
        .build()
        .map_err(|error| Error::invalid(format!("commit image: {error}")))
}

fn parse_names<'r>(records: impl IntoIterator<Item = &'r Record>) -> Result<Vec<Reference>> {
    records.into_iter().filter_map(|record| record.name.as_ref()).map(|name| name.parse()).collect()
}

fn no_image(text: &str) -> Error {
    Error::new(Kind::NotFound, format!("there is no image {text:?}"))
}
