//! A cache in a registry, under a name of its own.

use std::io::Write;

use coracle_layers::registry::{Registry, RegistryOptions, Repository, media_type};
use coracle_layers::{Blob, Reference};

use super::import::Origin;
use super::{CacheExport, CacheOptions, ImportedCache, MANIFEST, Target};
use crate::error::{Doing, Result};
use crate::{Built, Engine};

/// A repository, and the tag or digest that is meant in it.
struct Place {
    repository: Repository,
    which: String,
}

impl Place {
    fn of(name: &str, options: &RegistryOptions) -> Result<Place> {
        let name: Reference = name.parse()?;
        let digest = name.digest().map(|digest| digest.to_string());
        let which = digest.or_else(|| name.tag().map(str::to_owned)).unwrap_or_default();
        Ok(Place { repository: Registry::of(&name, options).repository(name.path()), which })
    }
}

impl Target for Place {
    fn put(
        &mut self,
        blob: Blob,
        write: &mut dyn FnMut(&mut dyn Write) -> coracle_layers::Result<()>,
    ) -> Result<()> {
        Ok(self.repository.push_blob(blob, write).map(drop)?)
    }

    fn name(&mut self, manifest: &[u8]) -> Result<()> {
        Ok(self.repository.put_manifest(&self.which, MANIFEST, manifest).map(drop)?)
    }
}

impl Origin for Place {
    fn manifest(&self) -> Result<Vec<u8>> {
        // An index is none of ours, and said to be so rather than to be missing.
        let accept =
            [MANIFEST, media_type::IMAGE_INDEX, media_type::DOCKER_MANIFEST, media_type::DOCKER_LIST];
        Ok(self.repository.manifest(&self.which, &accept)?.bytes)
    }

    fn copy(&self, blob: Blob, into: &mut dyn Write) -> Result<()> {
        Ok(self.repository.fetch_blob(blob, into)?)
    }
}

impl Engine {
    /// [`Engine::export_build_cache`] to a registry, under this name: what `docker build --cache-to type=registry` does. Layers
    /// that are there already are not sent.
    ///
    /// # Errors
    /// `Invalid` for what is no name; `Denied` where the registry lets nobody in, or not this one; what the network comes to.
    pub fn push_build_cache(
        &self,
        built: &Built,
        name: &str,
        how: impl Into<CacheOptions>,
        options: &RegistryOptions,
    ) -> Result<CacheExport> {
        let pushed =
            Place::of(name, options).and_then(|mut place| self.exported(built, &mut place, how.into()));
        pushed.doing(|| format!("push the build cache to {name}"))
    }

    /// [`Engine::import_build_cache`] from a registry: what `docker build --cache-from type=registry` does.
    ///
    /// # Errors
    /// As of [`Engine::push_build_cache`] and [`Engine::import_build_cache`].
    pub fn pull_build_cache(&self, name: &str, options: &RegistryOptions) -> Result<ImportedCache> {
        let place = Place::of(name, options);
        let pulled = place.and_then(|place| self.imported_cache(Box::new(place), name));
        pulled.doing(|| format!("pull the build cache {name}"))
    }
}
