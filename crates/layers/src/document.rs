//! What a manifest's bytes are: an image, or images for several platforms (OCI image-spec, manifest.md and image-index.md; docker's
//! "Image Manifest V 2, Schema 2").

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};

use crate::{Digest, Error, Result, json};

/// Indexes in indexes.
pub(crate) const DEEPEST: usize = 4;

/// A parsed manifest.
pub(crate) enum Document {
    /// What it lists.
    Index(Vec<Descriptor>),
    Image(Box<ImageManifest>),
}

impl Document {
    /// By what it holds: writers are careless with the media types of nested documents. What could be read as both is
    /// refused, since others may have read, and signed, the other one (CVE-2021-41190).
    ///
    /// # Errors
    /// `Corrupt` for what is neither; `Unsupported` for what lists no image, and for docker's first schema.
    pub fn parse(bytes: &[u8], digest: &Digest) -> Result<Document> {
        let document: serde_json::Value = json::parse(bytes, || digest.to_string())?;
        let has = |name: &str| document.get(name).is_some_and(|value| !value.is_null());
        if document.get("schemaVersion").and_then(serde_json::Value::as_u64) == Some(1) {
            let what = format!("manifest {digest}: is of docker's schema 1, which is no longer supported");
            return Err(Error::unsupported(what));
        }
        if has("manifests") {
            if has("layers") || has("config") {
                let what = format!("manifest {digest}: it is an index and an image at once");
                return Err(Error::corrupt(what));
            }
            let index: ImageIndex = json::parse(bytes, || format!("index {digest}"))?;
            return Ok(Document::Index(index.manifests().clone()));
        }
        let image: ImageManifest = json::parse(bytes, || format!("manifest {digest}"))?;
        if let MediaType::Other(kind) = image.config().media_type()
            && kind != "application/vnd.docker.container.image.v1+json"
        {
            return Err(Error::unsupported(format!("manifest {digest}: is of {kind:?}, not of an image")));
        }
        Ok(Document::Image(Box::new(image)))
    }
}

#[cfg(test)]
mod tests {
    use coracle_host::Kind;

    use super::*;

    #[test]
    fn one_or_the_other() {
        let zero = format!("sha256:{}", "0".repeat(64));
        let config = |kind: &str| format!(r#""config":{{"mediaType":"{kind}","digest":"{zero}","size":2}}"#);
        let oci = config("application/vnd.oci.image.config.v1+json");
        let docker = config("application/vnd.docker.container.image.v1+json");
        let other = config("application/vnd.example+json");
        for (body, kind, says) in [
            (format!(r#""schemaVersion":2,{oci},"layers":[]"#), None, "image"),
            (format!(r#""schemaVersion":2,{docker},"layers":[]"#), None, "image"),
            (r#""schemaVersion":2,"manifests":[]"#.to_owned(), None, "index"),
            (
                format!(r#""schemaVersion":2,"manifests":[],{oci},"layers":[]"#),
                Some(Kind::Corrupt),
                "at once",
            ),
            (format!(r#""schemaVersion":2,{other},"layers":[]"#), Some(Kind::Unsupported), "vnd.example"),
            (r#""schemaVersion":1,"fsLayers":[]"#.to_owned(), Some(Kind::Unsupported), "schema 1"),
            (r#""schemaVersion":2"#.to_owned(), Some(Kind::Corrupt), "manifest sha256:"),
        ] {
            match Document::parse(format!("{{{body}}}").as_bytes(), &Digest::of(b"")) {
                Ok(Document::Index(_)) => assert_eq!((kind, says), (None, "index"), "{body}"),
                Ok(Document::Image(_)) => assert_eq!((kind, says), (None, "image"), "{body}"),
                Err(error) => {
                    assert_eq!(Some(error.kind()), kind, "{body}: {error}");
                    assert!(error.to_string().contains(says), "{error}");
                }
            }
        }
    }
}
