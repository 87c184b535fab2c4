//! Images out of registries (distribution-spec, "Pulling manifests" and "Pulling blobs").

use std::fmt;
use std::sync::Arc;

use coracle_host::Kind;
use oci_spec::image::{Descriptor, ImageConfiguration, ImageManifest, Os};

use super::layers::{Listed, Watch};
use super::{Registry, RegistryOptions, Repository, media_type};
use crate::document::{DEEPEST, Document};
use crate::image::MOST_JSON;
use crate::names::Record;
use crate::{Blob, Context, DiffId, Digest, Error, Image, Platform, Reference, Result, Store, json};

const ACCEPT: [&str; 4] = [
    media_type::IMAGE_INDEX,
    media_type::IMAGE_MANIFEST,
    media_type::DOCKER_LIST,
    media_type::DOCKER_MANIFEST,
];

/// How an image is pulled.
#[derive(Clone, Default)]
pub struct PullOptions {
    pub(super) registry: RegistryOptions,
    platform: Option<Platform>,
    pub(super) cancelled: Option<Arc<dyn Fn() -> bool + Send + Sync>>,
}

impl PullOptions {
    /// For this host's platform.
    pub fn new(registry: RegistryOptions) -> PullOptions {
        PullOptions { registry, ..PullOptions::default() }
    }

    /// For this platform; what it doesn't say is as this host has it.
    #[must_use]
    pub fn platform(mut self, platform: Platform) -> PullOptions {
        self.platform = Some(platform);
        self
    }

    /// Asked now and then, from any thread: once it is true the pull ends with `Interrupted`.
    #[must_use]
    pub fn cancelled_by(mut self, cancelled: impl Fn() -> bool + Send + Sync + 'static) -> PullOptions {
        self.cancelled = Some(Arc::new(cancelled));
        self
    }
}

impl fmt::Debug for PullOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = (&self.registry, &self.platform, self.cancelled.is_some());
        f.debug_tuple("PullOptions").field(&all).finish()
    }
}

/// What a pull came to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Pulled {
    /// The image as the store has it now.
    pub image: Image,
    /// What the registry has under the name: its manifest, or the index that lists it.
    pub digest: Digest,
    /// Whether the name meant something else before, or nothing.
    pub changed: bool,
}

/// Progress of a pull. Layers are named by their blobs, as manifests list them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PullEvent {
    /// What the registry has under the name.
    Resolved {
        /// Of the manifest or index.
        digest: Digest,
    },
    /// A layer that the store has.
    Exists {
        /// The layer.
        layer: Digest,
    },
    /// A layer that is to be fetched.
    Waiting {
        /// The layer.
        layer: Digest,
    },
    /// So much of a layer has come; the last time all of it.
    Fetching {
        /// The layer.
        layer: Digest,
        /// How much, in bytes.
        bytes: u64,
        /// Of how much.
        of: u64,
    },
    /// A layer is unpacked and stored.
    Stored {
        /// The layer.
        layer: Digest,
    },
}

/// An image as its registry has it.
struct Found {
    manifest: Box<ImageManifest>,
    bytes: Vec<u8>,
}

impl Store {
    /// Fetches an image and gives it the name that it was asked by. Layers that the store has are not fetched; where the
    /// registry says that the name still means what it did when it was last pulled, nothing is. Of an index the image for the
    /// platform is taken. A name with a digest never changes its meaning: the registry is asked only where the store lacks it.
    ///
    /// All digests are verified: of what was asked for, of each blob, and of each layer's plain tar. Several layers come at
    /// once, and are unpacked on top of each other as they come; who pulls the same image, or another one upon the same
    /// layers, at the same time, in this process or another, waits, and finds them here. Of a pull that fails only whole
    /// layers stay, and the name means what it did.
    ///
    /// # Errors
    /// `NotFound` where the registry has no such image, or none for the platform; `Denied`; `Failed` and `Timeout` for what
    /// the network comes to; `Corrupt` and `Invalid` for what is not what it says; `Unsupported` for what is no image.
    pub fn pull(
        &self,
        name: &Reference,
        options: &PullOptions,
        event: &mut dyn FnMut(&PullEvent),
    ) -> Result<Pulled> {
        self.pull_named(name, options, event).context(|| format!("pull {}", name.familiar()))
    }

    fn pull_named(
        &self,
        name: &Reference,
        options: &PullOptions,
        event: &mut dyn FnMut(&PullEvent),
    ) -> Result<Pulled> {
        let platform = options.platform.clone().unwrap_or_default().completed()?;
        let from = Registry::of(name, &options.registry).repository(name.path());
        let which = match (name.digest(), name.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or("latest").to_owned(),
        };
        let known = self.record_of_reference(name)?;
        let digest = match (&known, name.digest()) {
            (Some(_), None) => now(&from, &which)?,
            (_, digest) => digest,
        };
        if let (Some(known), Some(digest)) = (known, digest)
            && let Some(image) = self.pulled(&name.pinned(digest), &platform)?
            && image.id() == known.image
        {
            event(&PullEvent::Resolved { digest });
            return Ok(Pulled { image, digest, changed: false });
        }
        let top = from.manifest(&which, &ACCEPT)?;
        let digest = top.digest;
        event(&PullEvent::Resolved { digest });
        let found = found(&from, &platform, top.bytes, digest, DEEPEST)?;
        let found = found
            .ok_or_else(|| Error::new(Kind::NotFound, format!("it has no image for {platform}: {digest}")))?;
        let image = self.bring(&from, found, options, event)?;
        let changed = self.name_pulled(&image, name, digest)?;
        let image = self.image(&image.id().to_string())?;
        let image = image.ok_or_else(|| Error::new(Kind::NotFound, "it was removed while it was pulled"))?;
        Ok(Pulled { image, digest, changed })
    }

    /// The image that was pulled under that digest, if it is all here and for that platform.
    fn pulled(&self, pinned: &Reference, platform: &Platform) -> Result<Option<Image>> {
        let Some(record) = self.record_of_reference(pinned)? else { return Ok(None) };
        let image = self.image_of(&record)?;
        Ok((image.is_for(platform) && self.has_layers(&image)?).then_some(image))
    }

    fn has_layers(&self, image: &Image) -> Result<bool> {
        image.layers().last().map_or(Ok(true), |top| Ok(self.layer(top)?.is_some()))
    }

    /// Fetches what an image is made of, and stores it without a name.
    fn bring(
        &self,
        from: &Repository,
        found: Found,
        options: &PullOptions,
        event: &mut dyn FnMut(&PullEvent),
    ) -> Result<Image> {
        let watch = Watch::new(options.cancelled.clone());
        let listed = blob(found.manifest.config())?;
        let document = self.config(from, listed)?;
        let config: ImageConfiguration = json::parse(&document, || format!("config {}", listed.digest))?;
        if *config.os() != Os::Linux {
            return Err(Error::unsupported(format!("it is for {}, and not for Linux", of(&config))));
        }
        if let Some(wanted) = options.platform.as_ref().filter(|wanted| !wanted.takes(&config)) {
            return Err(Error::new(Kind::NotFound, format!("it is for {}, not for {wanted}", of(&config))));
        }
        if let Some(image) = self.image(&listed.digest.to_string())?
            && self.has_layers(&image)?
        {
            return Ok(image);
        }
        let diffs = config.rootfs().diff_ids();
        if diffs.len() != found.manifest.layers().len() {
            let of = found.manifest.layers().len();
            let what = format!("it has {of} layers, and its config speaks of {}", diffs.len());
            return Err(Error::corrupt(what));
        }
        let layer = |(listed, diff): (&Descriptor, &String)| -> Result<Listed> {
            Ok(Listed { blob: blob(listed)?, diff: diff.parse::<DiffId>()? })
        };
        let layers: Vec<Listed> =
            found.manifest.layers().iter().zip(diffs).map(layer).collect::<Result<_>>()?;
        let stack = self.bring_layers(from, &layers, &watch, event)?;
        let stored = self.blobs.write(&mut document.as_slice())?;
        self.put_image(stored, &stack, Some(&found.bytes))
    }

    /// An image's config, verified.
    fn config(&self, from: &Repository, listed: Blob) -> Result<Vec<u8>> {
        if self.blobs.has(&listed.digest)? {
            return self.blobs.read(&listed.digest, MOST_JSON);
        }
        if listed.size > MOST_JSON {
            let what =
                format!("config {}: it has {} bytes, more than {MOST_JSON}", listed.digest, listed.size);
            return Err(Error::invalid(what));
        }
        let mut bytes = Vec::new();
        from.fetch_blob(listed, &mut bytes)?;
        Ok(bytes)
    }

    /// Gives an image the name that it was pulled by, and the one that pins it. Whether the former meant anything else.
    fn name_pulled(&self, image: &Image, name: &Reference, digest: Digest) -> Result<bool> {
        let pinned = name.pinned(digest);
        let name = if name.digest().is_some() { &pinned } else { name };
        let _lock = self.names_lock()?;
        let before = self.record_of_name(name)?;
        // An image removed since comes back with its name.
        let mut changed = self.put_record(&Record::new(None, image.id(), image.manifest_blob()))?;
        for name in [&pinned, name] {
            changed |= self.put_record(&Record::new(Some(name), image.id(), image.manifest_blob()))?;
        }
        if changed {
            self.reindex_locked()?;
        }
        Ok(before.is_none_or(|before| before.image != image.id()))
    }
}

/// What a registry has under a tag, if it tells: to ask for that costs nothing that registries count.
fn now(from: &Repository, which: &str) -> Result<Option<Digest>> {
    match from.head_manifest(which, &ACCEPT) {
        Ok(head) => Ok(head.and_then(|head| head.digest)),
        // Not all know HEAD.
        Err(error) if error.kind() == Kind::Unsupported => Ok(None),
        Err(error) => Err(error),
    }
}

/// The image for a platform that a manifest's bytes are, or lead to.
fn found(
    from: &Repository,
    platform: &Platform,
    bytes: Vec<u8>,
    digest: Digest,
    deepest: usize,
) -> Result<Option<Found>> {
    let listed = match Document::parse(&bytes, &digest)? {
        Document::Image(manifest) => return Ok(Some(Found { manifest, bytes })),
        Document::Index(listed) => listed,
    };
    let deeper = deepest.checked_sub(1).ok_or_else(|| Error::invalid("indexes in indexes in indexes"))?;
    for one in platform.choose(&listed) {
        let digest = blob(one)?.digest;
        let bytes = from.manifest(&digest.to_string(), &ACCEPT)?.bytes;
        if let Some(found) = found(from, platform, bytes, digest, deeper)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// What an image says that it is for, as it can be shown.
fn of(config: &ImageConfiguration) -> String {
    format!("{}/{}", config.os(), config.architecture()).escape_debug().to_string()
}

fn blob(listed: &Descriptor) -> Result<Blob> {
    Ok(Blob { digest: listed.digest().to_string().parse()?, size: listed.size() })
}
