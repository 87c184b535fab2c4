//! Manifests and blobs, to Debian's docker-registry and back.

use coracle_host::Kind;
use coracle_layers::registry::{Credentials, Registry, RegistryOptions, Repository, media_type};
use coracle_layers::{Blob, Digest, Reference, Result};
use coracle_testhost::{DockerRegistry, Host, run as host, skip};

/// Whether there is one to speak with.
pub fn there(host: &Host) -> bool {
    let there = DockerRegistry::is_there();
    if !there {
        skip(host.test(), "docker-registry is not installed");
    }
    there
}

fn repository(registry: &DockerRegistry, path: &str, options: &RegistryOptions) -> Repository {
    let name: Reference = format!("{}/{path}", registry.address()).parse().unwrap();
    Registry::of(&name, options).repository(name.path())
}

fn blob(bytes: &[u8]) -> Blob {
    Blob { digest: Digest::of(bytes), size: bytes.len() as u64 }
}

fn push(to: &Repository, bytes: &[u8]) -> Result<bool> {
    to.push_blob(blob(bytes), |out| {
        // In pieces that end nowhere in particular.
        for piece in bytes.chunks(100_003) {
            out.write_all(piece).unwrap();
        }
        Ok(())
    })
}

fn fetch(from: &Repository, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut came = Vec::new();
    from.fetch_blob(blob(bytes), &mut came).map(|()| came)
}

#[test]
fn what_is_pushed_is_fetched() {
    host(|host| {
        if !there(host) {
            return;
        }
        let registry = DockerRegistry::start(host.dir(), 5000, false);
        let here = repository(&registry, "a/b", &RegistryOptions::new());
        // Nothing, a little, exactly one piece, and two and a half.
        for size in [0, 1, 8 << 20, 20 << 20] {
            let bytes: Vec<u8> = (0..size).map(|at: u32| (at / 7) as u8).collect();
            assert_eq!(here.has_blob(&Digest::of(&bytes)).unwrap(), None);
            assert!(push(&here, &bytes).unwrap(), "{size}");
            assert!(!push(&here, &bytes).unwrap(), "it is there already");
            assert_eq!(here.has_blob(&Digest::of(&bytes)).unwrap(), Some(size.into()));
            assert!(fetch(&here, &bytes).unwrap() == bytes, "{size}");
        }
        let there = repository(&registry, "c", &RegistryOptions::new());
        assert!(there.mount_blob(&Digest::of(&[0]), "a/b").unwrap());
        assert_eq!(fetch(&there, &[0]).unwrap(), [0]);
        assert!(!there.mount_blob(&Digest::of(b"nowhere"), "a/b").unwrap());
    });
}

#[test]
fn manifests_have_tags_and_digests() {
    host(|host| {
        if !there(host) {
            return;
        }
        let registry = DockerRegistry::start(host.dir(), 5000, false);
        let here = repository(&registry, "a", &RegistryOptions::new());
        let accept = [media_type::IMAGE_MANIFEST];
        let config = b"{}";
        push(&here, config).unwrap();
        let manifest = format!(
            "{{\"schemaVersion\":2,\"mediaType\":\"{}\",\"layers\":[],\"config\":{{\"mediaType\":\"x/y\",\"digest\":\"{}\",\"size\":2}}}}",
            media_type::IMAGE_MANIFEST,
            Digest::of(config)
        );
        let digest = here.put_manifest("1", media_type::IMAGE_MANIFEST, manifest.as_bytes()).unwrap();
        assert_eq!(digest, Digest::of(manifest.as_bytes()));
        for which in ["1".to_owned(), digest.to_string()] {
            let came = here.manifest(&which, &accept).unwrap();
            assert_eq!((came.digest, came.media_type.as_str()), (digest, media_type::IMAGE_MANIFEST));
            assert_eq!(came.bytes, manifest.as_bytes());
            let head = here.head_manifest(&which, &accept).unwrap().unwrap();
            assert_eq!((head.digest, head.size), (Some(digest), Some(manifest.len() as u64)));
        }
        assert_eq!(here.head_manifest("2", &accept).unwrap(), None);
        let error = here.manifest("2", &accept).unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
        let url =
            "GET http://127.0.0.1:5000/v2/a/manifests/2: the registry says 404 Not Found: manifest unknown";
        assert!(error.to_string().starts_with(url), "{error}");
        // What lists blobs that are not there is refused by the registry.
        let lacking = manifest.replace(&Digest::of(config).hex(), &Digest::of(b"x").hex());
        let error = here.put_manifest("2", media_type::IMAGE_MANIFEST, lacking.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("blob unknown"), "{error}");
    });
}

#[test]
fn a_locked_registry_opens_to_its_users_only() {
    host(|host| {
        if !there(host) {
            return;
        }
        let registry = DockerRegistry::start(host.dir(), 5001, true);
        let with = |password: &str| {
            let me = Credentials::password("me", password);
            repository(&registry, "a", &RegistryOptions::new().credentials(me))
        };
        assert!(push(&with("hunter2"), b"mine").unwrap());
        assert_eq!(fetch(&with("hunter2"), b"mine").unwrap(), b"mine");
        for stranger in [with("hunter3"), repository(&registry, "a", &RegistryOptions::new())] {
            let error = fetch(&stranger, b"mine").unwrap_err();
            assert_eq!(error.kind(), Kind::Denied, "{error}");
            assert!(error.to_string().contains("401 Unauthorized: authentication required"), "{error}");
            assert!(!error.to_string().contains("hunter"), "{error}");
        }
    });
}
