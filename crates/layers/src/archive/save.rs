//! Writing images into an archive.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};

use coracle_host::Kind;
use oci_spec::image::{Descriptor, ImageIndexBuilder, ImageManifest, MediaType};
use serde_json::json;

use super::{INDEX, LAYOUT, Listed, MANIFEST, REPOSITORIES};
use crate::image::MOST_JSON;
use crate::names::{annotate, descriptor};
use crate::tar::{Entry, What, Writer};
use crate::{
    Blob, ChainId, CompressionOptions, Context, Digest, Error, Image, Reference, Result, Store, json,
};

impl Store {
    /// Writes images into one tar, each under these of its names (none are fine), every blob once. The tar is an OCI image
    /// layout and a docker archive at once, and the same images make the same bytes. It is written as it is made: after
    /// a failure `out` has got a part of it.
    ///
    /// # Errors
    /// What writing fails with; `NotFound` and `Corrupt` for an image whose blobs are not what they were.
    pub fn save(&self, images: &[(Image, Vec<Reference>)], out: impl Write) -> Result<()> {
        self.save_packed(images, CompressionOptions::default(), out).map(drop)
    }

    /// [`Store::save`] with layers compressed like this, which makes other manifests of the images: it returns theirs.
    ///
    /// # Errors
    /// As of [`Store::save`] and [`Store::pack_layer`].
    pub fn save_packed(
        &self,
        images: &[(Image, Vec<Reference>)],
        how: impl Into<CompressionOptions>,
        out: impl Write,
    ) -> Result<Vec<Blob>> {
        self.write_archive(images, &how.into(), out).context(|| "save images")
    }

    fn write_archive(
        &self,
        images: &[(Image, Vec<Reference>)],
        how: &CompressionOptions,
        out: impl Write,
    ) -> Result<Vec<Blob>> {
        let mut writer = Writer::new(out);
        let mut manifests: Vec<Descriptor> = Vec::new();
        let mut listed = Vec::new();
        let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        let mut written = BTreeSet::new();
        let mut blobs = Vec::new();
        for name in ["blobs/", "blobs/sha256/"] {
            writer.add(&Entry::new(name, What::Dir, 0o755), &mut io::empty())?;
        }
        for (image, names) in images {
            let manifest = self.blobs().read(&image.manifest(), MOST_JSON)?;
            let parsed: ImageManifest = json::parse(&manifest, || format!("manifest {}", image.manifest()))?;
            let (layers, blob) = match how.keeps_all() {
                true => {
                    let layers = digests(&parsed)?;
                    for (digest, id) in layers.iter().zip(image.layers()) {
                        if written.insert(*digest) {
                            self.write_layer_of(&mut writer, digest, id)?;
                        }
                    }
                    if written.insert(image.manifest()) {
                        self.write_blob(&mut writer, &image.manifest())?;
                    }
                    (layers, image.manifest_blob())
                }
                false => self.write_packed(&mut writer, image, parsed, how, &mut written)?,
            };
            if written.insert(image.id().digest()) {
                self.write_blob(&mut writer, &image.id().digest())?;
            }
            blobs.push(blob);
            let of = descriptor(MediaType::ImageManifest, blob)?;
            // The tag alone, as docker and BuildKit have it.
            let tag = |name: &Reference| name.tag().map_or_else(|| name.familiar(), str::to_owned);
            match names.as_slice() {
                [] => manifests.push(of),
                names => manifests.extend(names.iter().map(|name| annotate(of.clone(), name, tag(name)))),
            }
            let top = layers.last().map(Digest::hex).unwrap_or_default();
            for name in names {
                if let Some((repository, tag)) = name.familiar().rsplit_once(':') {
                    repositories
                        .entry(repository.to_owned())
                        .or_default()
                        .insert(tag.to_owned(), top.clone());
                }
            }
            listed.push(Listed {
                config: member(&image.id().digest()),
                repo_tags: (!names.is_empty()).then(|| names.iter().map(Reference::familiar).collect()),
                layers: Some(layers.iter().map(member).collect()),
            });
        }
        let index = ImageIndexBuilder::default()
            .schema_version(2u32)
            .media_type(MediaType::ImageIndex)
            .manifests(manifests)
            .build()
            .map_err(|error| Error::invalid(format!("{INDEX}: {error}")))?;
        let mut small = |name: &str, bytes: Vec<u8>| {
            let entry = Entry::new(name, What::File { size: bytes.len() as u64 }, 0o644);
            writer.add(&entry, &mut bytes.as_slice())
        };
        small(INDEX, json::canonical(&index)?)?;
        small(MANIFEST, json::canonical(&listed)?)?;
        small(LAYOUT, json::canonical(&json!({ "imageLayoutVersion": "1.0.0" }))?)?;
        small(REPOSITORIES, json::canonical(&repositories)?)?;
        let mut out = writer.finish()?;
        coracle_host::Call::call(out.flush(), || "write(tar)")?;
        Ok(blobs)
    }

    /// The image's layers, packed, and a manifest that lists them so.
    fn write_packed<W: Write>(
        &self,
        writer: &mut Writer<W>,
        image: &Image,
        mut manifest: ImageManifest,
        how: &CompressionOptions,
        written: &mut BTreeSet<Digest>,
    ) -> Result<(Vec<Digest>, Blob)> {
        let (mut layers, mut listed) = (Vec::new(), Vec::new());
        for id in image.layers() {
            let packed = self.pack_layer(id, *how)?;
            let Blob { digest, size } = packed.blob();
            if written.insert(digest) {
                let entry = Entry::new(member(&digest), What::File { size }, 0o644);
                writer.add_written(&entry, size, |out| packed.write_to(out))?;
            }
            listed.push(descriptor(packed.media_type().clone(), packed.blob())?);
            layers.push(digest);
        }
        manifest.set_layers(listed);
        let bytes = json::canonical(&manifest)?;
        let blob = Blob { digest: Digest::of(&bytes), size: bytes.len() as u64 };
        if written.insert(blob.digest) {
            let entry = Entry::new(member(&blob.digest), What::File { size: blob.size }, 0o644);
            writer.add(&entry, &mut bytes.as_slice())?;
        }
        Ok((layers, blob))
    }

    /// A layer's blob, or what it would be where the store has only the layer's tree.
    fn write_layer_of<W: Write>(&self, writer: &mut Writer<W>, digest: &Digest, id: &ChainId) -> Result<()> {
        if self.blobs().has(digest)? {
            return self.write_blob(writer, digest);
        }
        let layer = self.layer(id)?.filter(|layer| layer.blob().digest == *digest);
        let layer = layer.ok_or_else(|| Error::new(Kind::NotFound, format!("there is no blob {digest}")))?;
        let size = layer.blob().size;
        let entry = Entry::new(member(digest), What::File { size }, 0o644);
        writer.add_written(&entry, size, |out| self.layer_bytes(&layer, out))
    }

    /// The reader verifies: a damaged blob fails here, and doesn't travel.
    fn write_blob<W: Write>(&self, writer: &mut Writer<W>, digest: &Digest) -> Result<()> {
        let mut reader = self.blobs().open(digest)?;
        let size = reader.blob().size;
        writer.add(&Entry::new(member(digest), What::File { size }, 0o644), &mut reader)?;
        // Only the read that finds the end compares the digests.
        match reader.read(&mut [0]).map_err(|error| Error::reading(&format!("blob {digest}"), &error))? {
            0 => Ok(()),
            _ => Err(Error::new(Kind::InUse, format!("blob {digest} grew while it was read"))),
        }
    }
}

/// Where a blob is in the archive.
fn member(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn digests(manifest: &ImageManifest) -> Result<Vec<Digest>> {
    manifest.layers().iter().map(|layer| layer.digest().to_string().parse()).collect()
}
