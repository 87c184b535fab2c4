//! Manifests (distribution-spec, "Pulling manifests" and "Pushing manifests").

use std::io::Read;

use coracle_host::Kind;
use coracle_http::{Request, Response};

use super::Repository;
use super::call::shown;
use crate::image::MOST_JSON;
use crate::{Digest, Error, Result};

/// A manifest as the registry has it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Manifest {
    /// What kind of document it is.
    pub media_type: String,
    /// Of its bytes.
    pub digest: Digest,
    /// The document.
    pub bytes: Vec<u8>,
}

/// What a registry says of a manifest; nothing of it is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ManifestHead {
    /// What kind of document it is.
    pub media_type: String,
    /// Of its bytes, where the registry tells.
    pub digest: Option<Digest>,
    /// In bytes, where the registry tells.
    pub size: Option<u64>,
}

const DIGEST: &str = "docker-content-digest";

impl Repository {
    /// A manifest by its tag or its digest (`sha256:…`), of one of these media types.
    ///
    /// # Errors
    /// `NotFound`; `Denied`; `Corrupt` where the bytes are not those of the digest; `Invalid` for more than 4 MiB.
    pub fn manifest(&self, which: &str, accept: &[&str]) -> Result<Manifest> {
        let (url, accept) = (self.url(&format!("manifests/{which}")), accept.join(", "));
        let headers = [("Accept", accept.as_str())];
        let request = Request::new("GET", &url).headers(&headers);
        let response = self.registry.call(&request, &self.to_read(), &[200])?;
        let said = of_header(&response);
        let wanted = which.contains(':').then(|| which.parse::<Digest>()).transpose()?.or(said);
        let media_type = media_type(&response);
        let mut bytes = Vec::new();
        let read = response.into_reader().take(MOST_JSON + 1).read_to_end(&mut bytes);
        read.map_err(|error| Error::reading(&shown(&request), &error))?;
        if bytes.len() as u64 > MOST_JSON {
            let what = format!("{}: it has more than {MOST_JSON} bytes", shown(&request));
            return Err(Error::invalid(what));
        }
        let digest = Digest::of(&bytes);
        if let Some(wanted) = wanted.filter(|wanted| *wanted != digest) {
            return Err(Error::corrupt(format!("{}: {digest} came, not {wanted}", shown(&request))));
        }
        Ok(Manifest { media_type, digest, bytes })
    }

    /// What the registry says of a manifest, without its bytes.
    ///
    /// # Errors
    /// `Denied`; what the network comes to. That there is none is `None`.
    pub fn head_manifest(&self, which: &str, accept: &[&str]) -> Result<Option<ManifestHead>> {
        let (url, accept) = (self.url(&format!("manifests/{which}")), accept.join(", "));
        let headers = [("Accept", accept.as_str())];
        let found = self.registry.find(&Request::new("HEAD", &url).headers(&headers), &self.to_read())?;
        Ok(found.map(|response| ManifestHead {
            media_type: media_type(&response),
            digest: of_header(&response),
            size: response.header("content-length").and_then(|text| text.parse().ok()),
        }))
    }

    /// Stores a manifest under a tag, in the place of what had it, or under its own digest. The blobs that it lists have to
    /// be there.
    ///
    /// # Errors
    /// `Denied`; `Invalid` where the registry refuses it; `Corrupt` where the registry took it for another.
    pub fn put_manifest(&self, which: &str, media_type: &str, bytes: &[u8]) -> Result<Digest> {
        let url = self.url(&format!("manifests/{which}"));
        let headers = [("Content-Type", media_type)];
        let request = Request::new("PUT", &url).headers(&headers).body(bytes);
        let response = self.registry.call(&request, &self.to_write(), &[200, 201, 202])?;
        let digest = Digest::of(bytes);
        match of_header(&response).filter(|said| *said != digest) {
            Some(said) => {
                let what = format!("{}: the registry has {said}, not {digest}", shown(&request));
                Err(Error::new(Kind::Corrupt, what))
            }
            None => Ok(digest),
        }
    }
}

fn of_header(response: &Response) -> Option<Digest> {
    response.header(DIGEST)?.parse().ok()
}

fn media_type(response: &Response) -> String {
    let whole = response.header("content-type").unwrap_or("");
    whole.split(';').next().unwrap_or("").trim().to_owned()
}
