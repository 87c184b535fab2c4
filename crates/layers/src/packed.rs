//! Layers packed for elsewhere.

use std::io::{self, BufWriter, Seek, Write};

use coracle_host::{Call, StagedFile};
use oci_spec::image::MediaType;

use crate::digest::Hashing;
use crate::layer::missing;
use crate::{Blob, ChainId, Compression, Context, Layer, Result, Store};

const CHUNK: usize = 128 << 10;
/// As docker's default, between small and soon.
const GZIP: flate2::Compression = flate2::Compression::new(6);
const ZSTD: i32 = 3;

/// A layer as it is to be listed somewhere else, perhaps compressed. What was made for it goes with the value.
pub struct PackedLayer<'a> {
    store: &'a Store,
    layer: Layer,
    blob: Blob,
    media_type: MediaType,
    staged: Option<StagedFile>,
}

impl Store {
    /// A layer, compressed like this where it is not compressed already. The same layer makes the same bytes.
    ///
    /// # Errors
    /// As of [`Store::write_layer`]; the host's.
    pub fn pack_layer(&self, id: &ChainId, compression: Compression) -> Result<PackedLayer<'_>> {
        let layer = self.layer(id)?.ok_or_else(|| missing(id))?;
        if compression == Compression::None || layer.media_type() != &Compression::None.media_type() {
            let (blob, media_type) = (layer.blob(), layer.media_type().clone());
            return Ok(PackedLayer { store: self, layer, blob, media_type, staged: None });
        }
        let (staged, blob) =
            self.compressed(&layer, compression).context(|| format!("compress layer {id}"))?;
        let media_type = compression.media_type();
        Ok(PackedLayer { store: self, layer, blob, media_type, staged: Some(staged) })
    }

    fn compressed(&self, layer: &Layer, compression: Compression) -> Result<(StagedFile, Blob)> {
        let write = || "write(compressed layer)";
        let out = BufWriter::with_capacity(CHUNK, Hashing::new(self.staging.file()?));
        let out = match compression {
            Compression::None => {
                let mut out = out;
                self.layer_bytes(layer, &mut out)?;
                out
            }
            Compression::Gzip => {
                let mut out = flate2::write::GzEncoder::new(out, GZIP);
                self.layer_bytes(layer, &mut out)?;
                out.finish().call(write)?
            }
            Compression::Zstd => {
                let mut out = zstd::Encoder::new(out, ZSTD).call(write)?;
                self.layer_bytes(layer, &mut out)?;
                out.finish().call(write)?
            }
        };
        let hashing = out.into_inner().map_err(|error| error.into_error()).call(write)?;
        let blob = Blob { digest: hashing.digest(), size: hashing.bytes };
        Ok((hashing.inner, blob))
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
