//! Images out of registries: what others pushed, what is fetched of it, and death in the middle.

use std::process::Command;
use std::sync::{Arc, Mutex};

use coracle_host::Kind;
use coracle_layers::registry::{Credentials, PullEvent, PullOptions, Pulled, RegistryOptions, media_type};
use coracle_layers::{Compression, DiffId, Digest, Image, Platform, Reference, Result, Store};
use coracle_testhost::{DockerRegistry, Role, run, run_with};
use serde_json::{Value, json};

use crate::hostile::{Tar, dir, file};
use crate::oracle::{has, ok, prepare};
use crate::registry::there;
use crate::server::{Server, Shelf};
use crate::tree::assert_same;
use crate::{assert_nothing_left, store, tree_of};

fn options() -> PullOptions {
    PullOptions::new(RegistryOptions::new())
}

fn name(text: &str) -> Reference {
    text.parse().unwrap()
}

/// A pull, and what was told of it: `waiting`, `stored` and `exists` with the number of layers.
fn pull(to: &Store, from: &str, options: &PullOptions) -> (Result<Pulled>, [usize; 3]) {
    let mut told = [0; 3];
    let pulled = to.pull(&name(from), options, &mut |event| match event {
        PullEvent::Waiting { .. } => told[0] += 1,
        PullEvent::Stored { .. } => told[1] += 1,
        PullEvent::Exists { .. } => told[2] += 1,
        _ => {}
    });
    (pulled, told)
}

fn platform(text: &str) -> PullOptions {
    options().platform(text.parse::<Platform>().unwrap())
}

#[test]
fn what_skopeo_pushed_is_pulled() {
    run(|host| {
        if !has(host, "skopeo") || !there(host) {
            return;
        }
        let (one, image) = prepare(host);
        let from = format!("oci:{}:acc-base:1", host.dir().join("state").display());
        let all = [
            ("oci", "gzip", Compression::Gzip),
            ("v2s2", "gzip", Compression::Gzip),
            ("oci", "zstd", Compression::Zstd),
        ];
        for (number, (format, packed, compression)) in all.into_iter().enumerate() {
            // One for each: skopeo would find there what it pushed before, packed otherwise.
            let registry = DockerRegistry::start(host.dir(), 5000 + number as u16, false);
            let to = format!("{}/a/b:{number}", registry.address());
            let words = ["--insecure-policy", "copy", "-q", "--dest-tls-verify=false", "--format", format];
            let packing = ["--dest-compress", "--dest-compress-format", packed, &from];
            ok(Command::new("skopeo").args(words).args(packing).arg(format!("docker://{to}")).output());
            let raw = ["inspect", "--raw", "--tls-verify=false", &format!("docker://{to}")];
            let raw = ok(Command::new("skopeo").args(raw).output());

            let place = host.dir().join(format!("to{number}"));
            let store = store(&place);
            let (pulled, told) = pull(&store, &to, &options());
            let pulled = pulled.unwrap();
            assert_eq!(told, [2, 2, 0], "{format} {packed}");
            assert_eq!((pulled.digest, pulled.changed), (Digest::of(raw.as_bytes()), true));
            // The manifest is kept as it came, and lists what is here.
            assert_eq!(pulled.image.manifest(), pulled.digest);
            assert_eq!(pulled.image.layers(), image.layers());
            assert_eq!(pulled.image.names(), [name(&to)]);
            assert_eq!(pulled.image.digests(), [name(&to).pinned(pulled.digest)]);
            for id in image.layers() {
                let (theirs, ours) = (one.layer(id).unwrap().unwrap(), store.layer(id).unwrap().unwrap());
                assert_same(&tree_of(&host.dir().join("state"), &theirs), &tree_of(&place, &ours));
                assert_eq!(*ours.media_type(), media_type_of(compression));
            }
            assert_nothing_left(&place, 2, 2 + 2);
            if format == "oci" {
                let layout = format!("oci:{}:{to}", place.display());
                let digest =
                    ok(Command::new("skopeo").args(["inspect", "--format", "{{.Digest}}", &layout]).output());
                assert_eq!(digest.trim(), pulled.digest.to_string());
            }
        }
        let registry = DockerRegistry::start(host.dir(), 5000, false);
        let store = store(&host.dir().join("to0"));
        let (none, _) = pull(&store, &format!("{}/a/b:9", registry.address()), &options());
        let error = none.unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
        let begins =
            "pull 127.0.0.1:5000/a/b:9: GET http://127.0.0.1:5000/v2/a/b/manifests/9: the registry says 404";
        assert!(error.to_string().starts_with(begins), "{error}");
    });
}

fn media_type_of(compression: Compression) -> oci_spec::image::MediaType {
    match compression {
        Compression::None => oci_spec::image::MediaType::ImageLayer,
        Compression::Gzip => oci_spec::image::MediaType::ImageLayerGzip,
        Compression::Zstd => oci_spec::image::MediaType::ImageLayerZstd,
    }
}

#[test]
fn a_locked_registry_gives_to_its_users_only() {
    run(|host| {
        if !has(host, "skopeo") || !there(host) {
            return;
        }
        prepare(host);
        let registry = DockerRegistry::start(host.dir(), 5001, true);
        let from = format!("oci:{}:acc-base:1", host.dir().join("state").display());
        let to = format!("{}/a:1", registry.address());
        let words =
            ["--insecure-policy", "copy", "-q", "--dest-tls-verify=false", "--dest-creds", "me:hunter2"];
        ok(Command::new("skopeo").args(words).args([&from, &format!("docker://{to}")]).output());
        let place = host.dir().join("to");
        let store = store(&place);
        let me = |password: &str| {
            PullOptions::new(RegistryOptions::new().credentials(Credentials::password("me", password)))
        };
        for stranger in [me("hunter3"), options()] {
            let error = pull(&store, &to, &stranger).0.unwrap_err();
            assert_eq!(error.kind(), Kind::Denied, "{error}");
            assert!(!error.to_string().contains("hunter"), "{error}");
            assert_nothing_left(&place, 0, 0);
        }
        pull(&store, &to, &me("hunter2")).0.unwrap();
    });
}

/// An image of these tars on a shelf, for an architecture; its manifest's digest.
pub fn shelve(shelf: &mut Shelf, tag: &str, architecture: &str, tars: &[&[u8]]) -> Digest {
    let diffs: Vec<String> = tars.iter().map(|tar| DiffId::from(Digest::of(tar)).to_string()).collect();
    let config = json!({
        "architecture": architecture, "os": "linux", "config": {}, "rootfs": { "type": "layers", "diff_ids": diffs },
    });
    shelve_as(shelf, tag, &config, tars)
}

/// An image with that config, whatever it says.
pub fn shelve_as(shelf: &mut Shelf, tag: &str, config: &Value, tars: &[&[u8]]) -> Digest {
    let manifest = manifest(shelf, config, tars);
    shelf.manifest(tag, media_type::IMAGE_MANIFEST, manifest.to_string().as_bytes())
}

pub fn manifest(shelf: &mut Shelf, config: &Value, tars: &[&[u8]]) -> Value {
    let listed = |kind: &str, blob: coracle_layers::Blob| json!({"mediaType": kind, "digest": blob.digest.to_string(), "size": blob.size});
    let config = shelf.blob(config.to_string().as_bytes());
    let layers: Vec<Value> = tars
        .iter()
        .map(|tar| {
            let packed = zstd::encode_all(*tar, 1).unwrap();
            listed("application/vnd.oci.image.layer.v1.tar+zstd", shelf.blob(&packed))
        })
        .collect();
    json!({
        "schemaVersion": 2, "mediaType": media_type::IMAGE_MANIFEST, "layers": layers,
        "config": listed("application/vnd.oci.image.config.v1+json", config),
    })
}

fn index(shelf: &mut Shelf, tag: &str, images: &[(&str, Digest)]) -> Digest {
    let listed: Vec<Value> = images
        .iter()
        .map(|(platform, digest)| {
            let words: Vec<&str> = platform.split('/').collect();
            json!({
                "mediaType": media_type::IMAGE_MANIFEST, "digest": digest.to_string(), "size": 1,
                "platform": { "os": words[0], "architecture": words[1], "variant": words.get(2) },
            })
        })
        .collect();
    let index = json!({ "schemaVersion": 2, "mediaType": media_type::IMAGE_INDEX, "manifests": listed });
    shelf.manifest(tag, media_type::IMAGE_INDEX, index.to_string().as_bytes())
}

pub fn tar(text: &str) -> Vec<u8> {
    (0..20)
        .fold(Tar::new().add(dir("d")), |tar, n| tar.add(file(&format!("d/{text}{n}"), text.as_bytes())))
        .end()
}

fn own_architecture() -> String {
    Platform::host().unwrap().architecture().unwrap().to_owned()
}

fn architecture(image: &Image) -> String {
    image.config().architecture().to_string()
}

#[test]
fn an_index_has_an_image_for_each_machine() {
    run(|host| {
        let (own, mut shelf) = (own_architecture(), Shelf::default());
        let other = shelve(&mut shelf, "other", "s390x", &[&tar("other")]);
        let mine = shelve(&mut shelf, "mine", &own, &[&tar("mine")]);
        let both = index(
            &mut shelf,
            "1",
            &[("unknown/unknown", other), ("linux/s390x", other), (&format!("linux/{own}"), mine)],
        );
        let nested = index(&mut shelf, "nested", &[(&format!("linux/{own}"), both)]);
        let server = shelf.serve();
        let at = |tag: &str| format!("{}/a:{tag}", server.address);
        let place = host.dir().join("state");
        let store = store(&place);
        let pulled = pull(&store, &at("1"), &options()).0.unwrap();
        assert_eq!(
            (architecture(&pulled.image), pulled.digest, pulled.image.manifest()),
            (own.clone(), both, mine)
        );
        // A name has one image, and the index is no reason to take it for another machine's.
        let foreign = pull(&store, &at("1"), &platform("linux/s390x")).0.unwrap();
        assert_eq!((architecture(&foreign.image), foreign.changed), ("s390x".into(), true));
        assert_eq!(store.image(&at("1")).unwrap().unwrap().id(), foreign.image.id());
        assert!(pull(&store, &at("1"), &options()).0.unwrap().changed);
        let error = pull(&store, &at("1"), &platform("linux/mips")).0.unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
        assert!(error.to_string().contains(&format!("it has no image for linux/mips: {both}")), "{error}");
        let error = pull(&store, &at("other"), &platform(&format!("linux/{own}"))).0.unwrap_err();
        assert!(
            error.to_string().contains(&format!("it is for linux/s390x, not for linux/{own}")),
            "{error}"
        );
        assert_eq!(pull(&store, &at("nested"), &options()).0.unwrap().digest, nested);

        // By the index's digest, and by the manifest's: never asked for again.
        let before = server.lines().len();
        for digest in [both, mine] {
            let pinned = format!("{}/a@{digest}", server.address);
            assert!(!pull(&store, &pinned, &options()).0.unwrap().changed);
            assert_eq!(store.image(&pinned).unwrap().unwrap().id(), pulled.image.id());
        }
        assert_eq!(server.lines().len(), before);
    });
}

#[test]
fn only_what_is_new_is_fetched() {
    run(|host| {
        let own = own_architecture();
        let (base, one, two) = (tar("base"), tar("one"), tar("two"));
        let shelf: Arc<Mutex<Shelf>> = Arc::default();
        // A layer twice, as docker's empty ones.
        let first = shelve(&mut shelf.lock().unwrap(), "1", &own, &[&base, &one, &base]);
        let served = shelf.clone();
        let server = Server::new(move |asked, _, _| served.lock().unwrap().answer(asked));
        let at = format!("{}/a:1", server.address);
        let place = host.dir().join("state");
        let store = store(&place);
        let lines = |from: usize| -> Vec<String> {
            let lines = server.lines().split_off(from);
            lines.into_iter().map(|line| line.split('/').take(4).collect::<Vec<_>>().join("/")).collect()
        };
        let (pulled, told) = pull(&store, &at, &options());
        assert_eq!((pulled.unwrap().digest, told), (first, [2, 3, 0]));
        assert_eq!(
            lines(0),
            ["GET /v2/a/manifests", "GET /v2/a/blobs", "GET /v2/a/blobs", "GET /v2/a/blobs"]
        );
        // The same once more: it is asked whether it is.
        let (pulled, told) = pull(&store, &at, &options());
        let pulled = pulled.unwrap();
        assert_eq!((pulled.digest, pulled.changed, told), (first, false, [0, 0, 0]));
        assert_eq!(lines(4), ["HEAD /v2/a/manifests"]);
        // The tag means another image, upon the same base.
        let second = shelve(&mut shelf.lock().unwrap(), "1", &own, &[&base, &two]);
        let (pulled, told) = pull(&store, &at, &options());
        let pulled = pulled.unwrap();
        assert_eq!((pulled.digest, pulled.changed, told), (second, true, [1, 1, 1]));
        assert_eq!(
            lines(5),
            ["HEAD /v2/a/manifests", "GET /v2/a/manifests", "GET /v2/a/blobs", "GET /v2/a/blobs"]
        );
        // The first one has no name any more, but is there.
        let all = store.list().unwrap();
        assert_eq!(all.iter().map(|image| image.names().len()).sum::<usize>(), 1);
        assert_eq!(all.len(), 2);

        // One that only its digest names goes with it, or by its id.
        let pinned = format!("{}/a@{first}", server.address);
        let image = pull(&store, &pinned, &options()).0.unwrap().image;
        assert_eq!((image.names(), image.digests()), (&[][..], &[name(&pinned)][..]));
        let removed = store.remove(&pinned, false).unwrap();
        assert_eq!((removed.untagged, removed.deleted), (vec![name(&pinned)], Some(image.id())));
    });
}

fn puller(role: &mut Role) {
    let store = store(&role.dir().join("state"));
    role.say("open");
    let from = role.hear().unwrap();
    let pulled = store.pull(&name(&from), &options(), &mut |_| {});
    role.say(&pulled.map_or_else(|error| error.to_string(), |pulled| pulled.image.id().to_string()));
}

/// Several processes, two of them after another image upon the same base.
#[test]
fn many_at_once_fetch_once() {
    run_with(&[("puller", puller)], |host| {
        let (own, mut shelf) = (own_architecture(), Shelf::default());
        let layers: Vec<Vec<u8>> = ["a", "b", "c", "d", "e"].iter().map(|text| tar(text)).collect();
        let all: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
        shelve(&mut shelf, "1", &own, &all);
        shelve(&mut shelf, "2", &own, &all[..3]);
        let server = shelf.serve();
        let mut players: Vec<_> = (0..6).map(|_| host.play("puller")).collect();
        for player in &mut players {
            assert_eq!(player.hear().as_deref(), Some("open"));
        }
        for (n, player) in players.iter_mut().enumerate() {
            player.say(&format!("{}/a:{}", server.address, 1 + n / 4));
        }
        for mut player in players {
            let said = player.hear().unwrap();
            assert!(said.starts_with("sha256:"), "{said}");
            player.join();
        }
        let mut fetched: Vec<String> =
            server.lines().into_iter().filter(|line| line.contains("/blobs/")).collect();
        let configs: Vec<String> = store(&host.dir().join("state"))
            .list()
            .unwrap()
            .iter()
            .map(|image| image.id().to_string())
            .collect();
        fetched.retain(|line| !configs.iter().any(|id| line.ends_with(id)));
        fetched.sort();
        let count = fetched.len();
        fetched.dedup();
        assert_eq!((count, fetched.len()), (5, 5), "each layer once: {fetched:?}");
        assert_nothing_left(&host.dir().join("state"), 5, 5 + 2 + 2);
    });
}

/// Killed wherever it may be: the next one finds whole layers or none, and comes to the same.
#[test]
fn death_in_the_middle_leaves_nothing_half() {
    run_with(&[("puller", puller)], |host| {
        let (own, mut shelf) = (own_architecture(), Shelf::default());
        let layers: Vec<Vec<u8>> = ["a", "b", "c"].iter().map(|text| tar(text)).collect();
        let all: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
        shelve(&mut shelf, "1", &own, &all);
        let server = shelf.serve();
        let at = format!("{}/a:1", server.address);
        let place = host.dir().join("state");
        let mut calls = 0;
        loop {
            let mut player = host.play("puller");
            assert_eq!(player.hear().as_deref(), Some("open"));
            if !player.kill_after(calls, &at) {
                break;
            }
            let store = store(&place);
            for image in store.list().unwrap() {
                assert_eq!(store.chain(image.layers().last().unwrap()).unwrap().len(), 3);
            }
            coracle_host::Staging::reclaim(&coracle_host::Dir::open(place.join("tmp")).unwrap()).unwrap();
            let tmp = std::fs::read_dir(place.join("tmp")).unwrap().count();
            assert_eq!(tmp, 1, "only this store's own corner");
            let image = store.pull(&name(&at), &options(), &mut |_| {}).unwrap().image;
            assert_eq!(store.chain(image.layers().last().unwrap()).unwrap().len(), 3);
            drop(store);
            std::fs::remove_dir_all(&place).unwrap();
            calls += 5;
        }
        assert!(calls > 50, "it was killed {} times", calls / 5);
    });
}

#[test]
fn a_pull_can_be_given_up() {
    run(|host| {
        let (own, mut shelf) = (own_architecture(), Shelf::default());
        shelve(&mut shelf, "1", &own, &[&tar("x")]);
        let server = shelf.serve();
        let place = host.dir().join("state");
        let store = store(&place);
        let error = pull(&store, &format!("{}/a:1", server.address), &options().cancelled_by(|| true)).0;
        assert_eq!(error.unwrap_err().kind(), Kind::Interrupted);
        assert_nothing_left(&place, 0, 0);
    });
}
