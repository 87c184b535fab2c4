//! A registry's client (OCI distribution specification 1.1): manifests and blobs, fetched and pushed.
//!
//! ```no_run
//! use coracle_layers::Reference;
//! use coracle_layers::registry::{Credentials, Registry, RegistryOptions, media_type};
//!
//! # fn main() -> coracle_layers::Result<()> {
//! let name: Reference = "registry.example:5000/tools/cc:14".parse()?;
//! let options = RegistryOptions::new().credentials(Credentials::password("me", "secret"));
//! let repository = Registry::of(&name, &options).repository(name.path());
//! let manifest = repository.manifest("14", &[media_type::IMAGE_INDEX, media_type::IMAGE_MANIFEST])?;
//! println!("{} {}", manifest.digest, manifest.media_type);
//! # Ok(())
//! # }
//! ```
//!
//! Nothing that a registry says is believed: bytes are hashed as they come and count only where they are what their digest
//! says, and no answer is read further than is expected of it. Requests that fail by the network's or the server's fault are
//! repeated with growing pauses, downloads and uploads going on where they were cut. Credentials go to the registry that
//! they are of and to whom it names for tokens, and to no server that it redirects to.

mod auth;
mod call;
mod challenge;
mod fetch;
mod layers;
mod manifest;
mod pull;
mod push;

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use coracle_http::Client;
pub use coracle_http::Proxies;

use crate::Reference;
use auth::Tokens;
pub use manifest::{Manifest, ManifestHead};
pub use pull::{PullEvent, PullOptions, Pulled};

/// Media types of manifests (image-spec, media-types.md; docker's are those of "Image Manifest V 2, Schema 2").
pub mod media_type {
    /// An image.
    pub const IMAGE_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// Images for several platforms.
    pub const IMAGE_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// Docker's for an image.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker's for images for several platforms.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
}

/// Who asks. `Debug` shows no secret.
#[derive(Clone)]
pub enum Credentials {
    /// A user with a password, or what a registry gave in its place.
    Password {
        /// The user's name.
        user: String,
        /// The password.
        password: String,
    },
    /// A token that is exchanged for others (OAuth 2's refresh token; docker's `identitytoken`).
    Identity(String),
}

impl Credentials {
    /// A user with a password.
    pub fn password(user: impl Into<String>, password: impl Into<String>) -> Credentials {
        Credentials::Password { user: user.into(), password: password.into() }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credentials::Password { user, .. } => write!(f, "Password({user:?})"),
            Credentials::Identity(_) => f.write_str("Identity"),
        }
    }
}

/// How a registry is spoken with.
#[derive(Clone, Debug, Default)]
pub struct RegistryOptions {
    credentials: Option<Credentials>,
    proxies: Proxies,
    plain: bool,
}

impl RegistryOptions {
    /// As nobody in particular, by https; by http where the registry is on this host's loopback.
    pub fn new() -> RegistryOptions {
        RegistryOptions::default()
    }

    /// As somebody.
    #[must_use]
    pub fn credentials(mut self, credentials: Credentials) -> RegistryOptions {
        self.credentials = Some(credentials);
        self
    }

    /// By way of proxies.
    #[must_use]
    pub fn proxies(mut self, proxies: Proxies) -> RegistryOptions {
        self.proxies = proxies;
        self
    }

    /// By http, wherever the registry is: everybody on the way reads along.
    #[must_use]
    pub fn plain_http(mut self, yes: bool) -> RegistryOptions {
        self.plain = yes;
        self
    }
}

/// One registry. Cheap to clone, and to be shared between threads; making one asks nobody.
#[derive(Clone, Debug)]
pub struct Registry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Client,
    /// `https://registry.example:5000`
    base: String,
    credentials: Option<Credentials>,
    tokens: Mutex<Tokens>,
    /// It has answered before.
    reached: AtomicBool,
}

impl Registry {
    /// The registry that a name is in.
    pub fn of(name: &Reference, options: &RegistryOptions) -> Registry {
        // Docker Hub is not where its name leads.
        let domain = match name.domain() {
            "docker.io" => "registry-1.docker.io",
            other => other,
        };
        let scheme = if options.plain || is_loopback(domain) { "http" } else { "https" };
        Registry(Arc::new(Inner {
            client: Client::new(options.proxies.clone()),
            base: format!("{scheme}://{domain}"),
            credentials: options.credentials.clone(),
            tokens: Mutex::default(),
            reached: AtomicBool::new(false),
        }))
    }

    /// A repository in it, by its path ([`Reference::path`]).
    pub fn repository(&self, path: impl Into<String>) -> Repository {
        Repository { registry: self.clone(), path: path.into() }
    }
}

/// What belongs together in a registry: manifests, some of them with tags, and the blobs that they list.
#[derive(Clone, Debug)]
pub struct Repository {
    registry: Registry,
    path: String,
}

impl Repository {
    /// `https://registry.example/v2/tools/cc/` and `rest`.
    fn url(&self, rest: &str) -> String {
        format!("{}/v2/{}/{rest}", self.registry.0.base, self.path)
    }

    fn may(&self, actions: &str) -> Vec<String> {
        vec![format!("repository:{}:{actions}", self.path)]
    }

    fn to_read(&self) -> Vec<String> {
        self.may("pull")
    }

    fn to_write(&self) -> Vec<String> {
        self.may("pull,push")
    }
}

/// Whether a domain of a name is this host, as docker, BuildKit and containerd see it: that is spoken with by http.
fn is_loopback(domain: &str) -> bool {
    let host = match domain.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => host,
        _ => domain,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_name_leads() {
        for (name, base) in [
            ("a", "https://registry-1.docker.io"),
            ("registry.example/a", "https://registry.example"),
            ("localhost/a", "http://localhost"),
            ("localhost:5000/a", "http://localhost:5000"),
            ("127.0.0.9:5000/a", "http://127.0.0.9:5000"),
            ("[::1]:5000/a", "http://[::1]:5000"),
            ("10.0.0.1:5000/a", "https://10.0.0.1:5000"),
            ("localhost.example/a", "https://localhost.example"),
        ] {
            let name: Reference = name.parse().unwrap();
            assert_eq!(Registry::of(&name, &RegistryOptions::new()).0.base, base);
        }
        let name: Reference = "registry.example/a/b:c".parse().unwrap();
        let plain = Registry::of(&name, &RegistryOptions::new().plain_http(true));
        assert_eq!(plain.repository(name.path()).url("x"), "http://registry.example/v2/a/b/x");
    }

    #[test]
    fn no_secret_is_shown() {
        let options = RegistryOptions::new().credentials(Credentials::password("me", "hunter2"));
        let shown = format!("{:?} {:?}", options, Registry::of(&"a".parse::<Reference>().unwrap(), &options));
        assert!(shown.contains("Password(\"me\")") && !shown.contains("hunter2"), "{shown}");
    }
}
