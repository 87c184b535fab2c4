//! Images out of registries.

use coracle_layers::Reference;
use coracle_layers::registry::{PullEvent, PullOptions};

use super::Image;
use crate::Engine;
use crate::error::{Doing, Result};

/// What came out of a registry.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PulledImage {
    /// The image, with the name that it was asked by.
    pub image: Image,
    /// The digest of what the registry has under the name, a manifest or an index: `sha256:…`.
    pub digest: String,
    /// Whether the name meant something else before, or nothing.
    pub changed: bool,
}

impl Engine {
    /// Fetches an image from its registry and gives it the name that it was asked by (docker's grammar: `redis` is
    /// `docker.io/library/redis:latest`), telling `event` what happens as it happens. Layers that are here are not fetched, and
    /// nothing is where the name means what it did. Registries on this host's loopback are spoken with by http.
    ///
    /// # Errors
    /// `Invalid` for what is no name; `NotFound` where the registry has no such image, or none for the platform; `Denied`
    /// where it lets nobody in, or not this one; `Failed` and `Timeout` for what the network comes to, naming the request;
    /// `Corrupt` where what comes is not what its digest says.
    pub fn pull(
        &self,
        name: &str,
        options: &PullOptions,
        mut event: impl FnMut(&PullEvent),
    ) -> Result<PulledImage> {
        let reference: Reference = name.parse().doing(|| format!("pull {name}"))?;
        let pulled = self.0.store.pull(&reference, options, &mut event)?;
        let (digest, changed) = (pulled.digest.to_string(), pulled.changed);
        Ok(PulledImage { image: self.of(pulled.image), digest, changed })
    }
}
