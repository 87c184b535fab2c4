//! Layers packed for elsewhere.

use std::io::{self, BufWriter, Seek, Write};

use coracle_host::{Call, StagedFile};
use oci_spec::image::MediaType;

use crate::compression::Incoming;
use crate::digest::Hashing;
use crate::layer::missing;
use crate::{Blob, ChainId, Compression, Context, Error, Layer, Result, Store};

const CHUNK: usize = 128 << 10;
/// As docker's default, between small and soon.
const GZIP: u32 = 6;
const ZSTD: u32 = 3;

/// How layers are compressed on their way elsewhere. A [`Compression`] alone is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompressionOptions {
    compression: Compression,
    level: Option<u32>,
    force: bool,
}

impl CompressionOptions {
    /// Layers that are not compressed are compressed like this; others stay as they are.
    pub fn new(compression: Compression) -> CompressionOptions {
        CompressionOptions { compression, level: None, force: false }
    }

    /// How hard to try: 0 to 9 for gzip, 0 (its own choice) to 22 for zstd.
    #[must_use]
    pub fn level(mut self, level: u32) -> CompressionOptions {
        self.level = Some(level);
        self
    }

    /// Layers that are compressed otherwise are compressed anew, or not at all any more.
    #[must_use]
    pub fn force(mut self, force: bool) -> CompressionOptions {
        self.force = force;
        self
    }

    /// Whether every layer stays as it is.
    pub(crate) fn keeps_all(&self) -> bool {
        self.compression == Compression::None && !self.force
    }

    fn level_of(&self, usual: u32, most: u32) -> Result<u32> {
        let level = self.level.unwrap_or(usual);
        let wrong = || Error::invalid(format!("the level of compression {level} is none of 0 to {most}"));
        if level <= most { Ok(level) } else { Err(wrong()) }
    }
}

impl From<Compression> for CompressionOptions {
    fn from(compression: Compression) -> CompressionOptions {
        CompressionOptions::new(compression)
    }
}

/// A layer as it is to be listed somewhere else, perhaps compressed. What was made for it goes with the value.
pub struct PackedLayer<'a> {
    store: &'a Store,
    layer: Layer,
    blob: Blob,
    media_type: MediaType,
    staged: Option<StagedFile>,
}

impl Store {
    /// A layer, compressed like this. The same layer makes the same bytes.
    ///
    /// # Errors
    /// As of [`Store::write_layer`]; `Invalid` for a level that there is not; the host's.
    pub fn pack_layer(&self, id: &ChainId, how: impl Into<CompressionOptions>) -> Result<PackedLayer<'_>> {
        let how = how.into();
        let layer = self.layer(id)?.ok_or_else(|| missing(id))?;
        let is_plain = *layer.media_type() == Compression::None.media_type();
        let media_type = how.compression.media_type();
        if *layer.media_type() == media_type || !(is_plain || how.force) {
            let (blob, media_type) = (layer.blob(), layer.media_type().clone());
            return Ok(PackedLayer { store: self, layer, blob, media_type, staged: None });
        }
        let (staged, blob) = self.compressed(&layer, &how).context(|| format!("compress layer {id}"))?;
        Ok(PackedLayer { store: self, layer, blob, media_type, staged: Some(staged) })
    }

    fn compressed(&self, layer: &Layer, how: &CompressionOptions) -> Result<(StagedFile, Blob)> {
        let write = || "write(compressed layer)";
        let mut out = BufWriter::with_capacity(CHUNK, Hashing::new(self.staging.file()?));
        let out = match how.compression {
            Compression::None => {
                self.plain_bytes(layer, &mut out)?;
                out
            }
            Compression::Gzip => {
                let level = flate2::Compression::new(how.level_of(GZIP, 9)?);
                let mut out = flate2::write::GzEncoder::new(out, level);
                self.plain_bytes(layer, &mut out)?;
                out.finish().call(write)?
            }
            Compression::Zstd => {
                let level = i32::try_from(how.level_of(ZSTD, 22)?).unwrap_or(0);
                let mut out = zstd::Encoder::new(out, level).call(write)?;
                self.plain_bytes(layer, &mut out)?;
                out.finish().call(write)?
            }
        };
        let hashing = out.into_inner().map_err(|error| error.into_error()).call(write)?;
        let blob = Blob { digest: hashing.digest(), size: hashing.bytes };
        Ok((hashing.inner, blob))
    }

    /// The layer's tar, decompressed where it is kept otherwise.
    fn plain_bytes(&self, layer: &Layer, out: &mut impl Write) -> Result<()> {
        if *layer.media_type() == Compression::None.media_type() {
            return self.layer_bytes(layer, out);
        }
        let mut tar = Incoming::new(self.blobs().open(&layer.blob().digest)?, None)?;
        io::copy(&mut tar, out).map_err(|error| Error::reading("layer", &error))?;
        tar.finish().map(drop)
    }
}

impl PackedLayer<'_> {
    /// What it is to be listed as.
    pub fn blob(&self) -> Blob {
        self.blob
    }

    /// What it is to be listed as.
    pub fn media_type(&self) -> &MediaType {
        &self.media_type
    }

    /// The layer itself.
    pub fn layer(&self) -> &Layer {
        &self.layer
    }

    /// Writes its bytes.
    ///
    /// # Errors
    /// As of [`Store::write_layer`].
    pub fn write_to(&self, mut out: impl Write) -> Result<()> {
        let Some(staged) = &self.staged else {
            return self.store.write_layer(&self.layer.chain_id(), out);
        };
        let mut from = staged.file();
        from.rewind().call(|| "lseek(compressed layer)")?;
        io::copy(&mut from, &mut out).call(|| "copy(compressed layer)")?;
        Ok(())
    }
}
