//! Images that are not what they say, and registries that give other things than they promise.

use std::time::{Duration, Instant};

use coracle_host::Kind;
use coracle_layers::registry::{PullOptions, RegistryOptions, media_type};
use coracle_layers::{Digest, Error, Platform, Store};
use coracle_testhost::run;
use serde_json::{Value, json};

use crate::pull::{manifest, shelve, shelve_as, tar};
use crate::registry_hostile::fails;
use crate::server::{Server, Shelf, ok};
use crate::{assert_nothing_left, store};

fn pull(to: &Store, server: &Server) -> Result<(), Error> {
    let name = format!("{}/a:1", server.address).parse().unwrap();
    to.pull(&name, &PullOptions::new(RegistryOptions::new()), &mut |_| {}).map(drop)
}

fn own() -> String {
    Platform::host().unwrap().architecture().unwrap().to_owned()
}

fn config(diffs: &[&str]) -> Value {
    json!({ "architecture": own(), "os": "linux", "rootfs": { "type": "layers", "diff_ids": diffs } })
}

/// What it says of an image's only layer is one function of the test.
fn blobs_are(body: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) -> Server {
    let mut shelf = Shelf::default();
    shelve(&mut shelf, "1", &own(), &[&tar("x")]);
    let layer = Digest::of(&zstd::encode_all(tar("x").as_slice(), 1).unwrap());
    Server::new(move |asked, _, _| match asked.line.ends_with(&layer.to_string()) {
        true => ok("200 OK", "", body(&zstd::encode_all(tar("x").as_slice(), 1).unwrap())),
        false => shelf.answer(asked),
    })
}

#[test]
fn blobs_that_are_others() {
    run(|host| {
        let place = host.dir().join("state");
        let store = store(&place);
        let other = blobs_are(|bytes| bytes.iter().map(|byte| byte ^ 1).collect());
        fails(pull(&store, &other), Kind::Corrupt, "came in its place");
        let endless = blobs_are(|bytes| bytes.repeat(1 << 12));
        fails(pull(&store, &endless), Kind::Corrupt, "bytes came");
        let short = blobs_are(|bytes| bytes[..bytes.len() - 1].to_vec());
        fails(pull(&store, &short), Kind::Failed, "bytes came: it ends there");
        assert_nothing_left(&place, 0, 0);
    });
}

#[test]
fn documents_that_do_not_fit() {
    run(|host| {
        let place = host.dir().join("state");
        let store = store(&place);
        let (one, two) = (tar("one"), tar("two"));
        let diff = |tar: &[u8]| Digest::of(tar).to_string();
        let image = |config: Value, tars: &[&[u8]]| {
            let mut shelf = Shelf::default();
            shelve_as(&mut shelf, "1", &config, tars);
            shelf.serve()
        };
        // Another tar than the config speaks of: below a good one, which may stay as long as nothing names it.
        let other = image(config(&[&diff(&two)]), &[&one]);
        fails(pull(&store, &other), Kind::Corrupt, "its diff id is");
        let fewer = image(config(&[]), &[&one]);
        fails(pull(&store, &fewer), Kind::Corrupt, "it has 1 layers, and its config speaks of 0");
        fails(pull(&store, &image(json!([1]), &[])), Kind::Corrupt, "config sha256:");
        let mut windows = config(&[&diff(&one)]);
        windows["os"] = "win\u{1b}dows".into();
        // What it says can't drive a terminal.
        fails(pull(&store, &image(windows, &[&one])), Kind::Unsupported, "it is for win\\u{1b}dows/");
        let text = b"no tar at all, and no longer than that".repeat(99);
        fails(pull(&store, &image(config(&[&diff(&text)]), &[&text])), Kind::Corrupt, "layer sha256:");
        assert_nothing_left(&place, 0, 0);

        let with = |change: &dyn Fn(&mut Value), kind: &str| {
            let mut shelf = Shelf::default();
            let mut document = manifest(&mut shelf, &config(&[&diff(&one)]), &[&one]);
            change(&mut document);
            shelf.manifest("1", kind, document.to_string().as_bytes());
            shelf.serve()
        };
        let both = with(&|document| document["manifests"] = json!([]), media_type::IMAGE_INDEX);
        fails(pull(&store, &both), Kind::Corrupt, "an index and an image at once");
        let chart = "application/vnd.cncf.helm.config.v1+json";
        let artifact =
            with(&|document| document["config"]["mediaType"] = chart.into(), media_type::IMAGE_MANIFEST);
        fails(pull(&store, &artifact), Kind::Unsupported, "helm");
        let first = with(&|document| document["schemaVersion"] = 1.into(), "application/json");
        fails(pull(&store, &first), Kind::Unsupported, "schema 1");
        let large =
            with(&|document| document["config"]["size"] = (5u64 << 20).into(), media_type::IMAGE_MANIFEST);
        fails(pull(&store, &large), Kind::Invalid, "more than 4194304");
        let mut shelf = Shelf::default();
        let mut digest = shelve(&mut shelf, "0", &own(), &[&one]);
        for _ in 0..6 {
            let listed =
                json!([{ "mediaType": media_type::IMAGE_INDEX, "digest": digest.to_string(), "size": 1 }]);
            let index = json!({ "schemaVersion": 2, "manifests": listed });
            digest = shelf.manifest("1", media_type::IMAGE_INDEX, index.to_string().as_bytes());
        }
        fails(pull(&store, &shelf.serve()), Kind::Invalid, "indexes in indexes");
        let huge = Server::new(|_, _, _| ok("200 OK", "", vec![b' '; 100 << 20]));
        fails(pull(&store, &huge), Kind::Invalid, "more than 4194304 bytes");
        assert_nothing_left(&place, 0, 0);
    });
}

#[test]
fn a_registry_that_knows_no_head() {
    run(|host| {
        let mut shelf = Shelf::default();
        shelve(&mut shelf, "1", &own(), &[&tar("x")]);
        let server = Server::new(move |asked, _, _| match asked.line.starts_with("HEAD ") {
            true => ok("405 Method Not Allowed", "", ""),
            false => shelf.answer(asked),
        });
        let store = store(&host.dir().join("state"));
        for requests in [3, 5] {
            pull(&store, &server).unwrap();
            // The second time the manifest alone.
            assert_eq!(server.lines().len(), requests, "{:?}", server.lines());
        }
    });
}

#[test]
fn a_full_disk_is_one_clear_error() {
    run(|host| {
        let place = host.small_disk(16 << 20).join("state");
        let store = store(&place);
        // Some kilobytes on the way, 64 MiB on the disk.
        let same = vec![7; 64 << 20];
        let bomb = crate::hostile::Tar::new().add(crate::hostile::file("same", &same)).end();
        let mut shelf = Shelf::default();
        shelve(&mut shelf, "1", &own(), &[&bomb]);
        fails(pull(&store, &shelf.serve()), Kind::Exhausted, "No space left on device");
        assert_nothing_left(&place, 0, 0);
    });
}

#[test]
fn who_is_not_there_is_not_waited_for() {
    run(|host| {
        let store = store(&host.dir().join("state"));
        let began = Instant::now();
        for name in ["127.0.0.1:1/a", "nowhere.example/a", "busybox"] {
            let options = PullOptions::new(RegistryOptions::new());
            let error = store.pull(&name.parse().unwrap(), &options, &mut |_| {}).unwrap_err();
            assert!(error.to_string().contains("GET http"), "{error}");
        }
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    });
}
