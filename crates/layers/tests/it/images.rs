//! Images: committed, named, found, removed.

use coracle_host::Kind;
use coracle_layers::{ImportOptions, Reference, Removed, host_config};
use coracle_testhost::run;
use oci_spec::image::{ConfigBuilder, ImageIndex};

use crate::hostile::{Tar, file};
use crate::store;

fn name(text: &str) -> Reference {
    text.parse().unwrap()
}

/// An image whose id depends on `seed`.
fn image(store: &coracle_layers::Store, seed: &str) -> coracle_layers::Image {
    let tar = Tar::new().add(file("f", &[b'='; 200])).end();
    let config = ConfigBuilder::default()
        .cmd(vec![seed.to_owned()])
        .labels(std::collections::HashMap::from_iter((0..20).map(|n| (n.to_string(), seed.to_owned()))))
        .build()
        .unwrap();
    store.import(tar.as_slice(), &ImportOptions::new().config(config).comment("for a test")).unwrap()
}

#[test]
fn found_by_name_id_and_beginning() {
    run(|host| {
        let store = store(&host.dir().join("state"));
        let one = image(&store, "one");
        store.tag(&one, &name("acc-base:1")).unwrap();
        let id = one.id().to_string();
        for text in [
            "acc-base:1",
            "docker.io/library/acc-base:1",
            &id,
            &one.id().hex(),
            &one.id().hex()[..12],
            &format!("sha256:{}", &one.id().hex()[..5]),
            &format!("acc-base@{}", one.manifest()),
        ] {
            let found = store.image(text).unwrap().unwrap_or_else(|| panic!("{text} is not found"));
            assert_eq!((found.id(), found.names()), (one.id(), [name("acc-base:1")].as_slice()), "{text}");
        }
        let found = store.image("acc-base:1").unwrap().unwrap();
        assert_eq!(found.config().config().as_ref().unwrap().cmd(), &Some(vec!["one".to_owned()]));
        assert_eq!(found.config().rootfs().diff_ids(), &[found.layers()[0].to_string()]);
        assert_eq!(found.size(), 200);
        for text in ["acc-base", "acc-base:2", "0", &"0".repeat(64), &format!("other@{}", one.manifest())] {
            assert!(store.image(text).unwrap().is_none(), "{text}");
        }
        let error = store.image("Not/A Name").unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
    })
}

#[test]
fn a_beginning_of_several_ids_is_refused() {
    run(|host| {
        let store = store(&host.dir().join("state"));
        // With 17 images two ids begin with the same digit.
        let mut first = std::collections::HashMap::new();
        let (digit, ids) = (0..17)
            .find_map(|n| {
                let id = image(&store, &n.to_string()).id();
                let digit = id.hex()[..1].to_owned();
                first.insert(digit.clone(), id).map(|other| (digit, [other, id]))
            })
            .unwrap();
        let error = store.image(&format!("sha256:{digit}")).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        for id in ids {
            assert!(error.to_string().contains(&id.to_string()), "{error}");
        }
    })
}

#[test]
fn the_same_image_has_the_same_bytes() {
    run(|host| {
        let (one, two) = (store(&host.dir().join("one")), store(&host.dir().join("two")));
        let (a, b, c) = (image(&one, "x"), image(&two, "x"), image(&one, "x"));
        assert_eq!((a.id(), a.manifest()), (b.id(), b.manifest()));
        assert_eq!((a.id(), a.manifest()), (c.id(), c.manifest()));
        assert_ne!(a.id(), image(&one, "y").id());
        assert_eq!(one.list().unwrap().len(), 2);
    })
}

#[test]
fn names_come_and_go() {
    run(|host| {
        let place = host.dir().join("state");
        let store = store(&place);
        let (one, two) = (image(&store, "one"), image(&store, "two"));
        let index = || ImageIndex::from_file(place.join("index.json")).unwrap();
        let listed = || -> Vec<(String, String)> {
            let of = |d: &oci_spec::image::Descriptor| {
                let notes = d.annotations().as_ref().unwrap();
                (notes["org.opencontainers.image.ref.name"].clone(), d.digest().to_string())
            };
            index().manifests().iter().map(of).collect()
        };
        assert!(listed().is_empty());
        store.tag(&one, &name("a:1")).unwrap();
        store.tag(&one, &name("a:2")).unwrap();
        store.tag(&one, &name("example.org/b")).unwrap();
        let (first, second) = (one.manifest().to_string(), two.manifest().to_string());
        let all = [("a:1", &first), ("a:2", &first), ("example.org/b:latest", &first)];
        assert_eq!(listed(), all.map(|(name, digest)| (name.to_owned(), digest.clone())));
        let note = index().manifests()[0].annotations().as_ref().unwrap()["io.containerd.image.name"].clone();
        assert_eq!(note, "docker.io/library/a:1");

        // A name moves to another image.
        store.tag(&two, &name("a:2")).unwrap();
        assert_eq!(listed()[1], ("a:2".to_owned(), second));
        assert_eq!(store.image("a:2").unwrap().unwrap().id(), two.id());

        let error = store.remove(&one.id().to_string(), false).unwrap_err();
        assert_eq!(error.kind(), Kind::InUse);
        assert!(error.to_string().contains("a:1, example.org/b:latest"), "{error}");
        let removed = store.remove("example.org/b", false).unwrap();
        assert_eq!(removed, Removed { untagged: vec![name("example.org/b")], deleted: None });
        let removed = store.remove(&one.id().hex()[..12], false).unwrap();
        assert_eq!(removed, Removed { untagged: vec![name("a:1")], deleted: Some(one.id()) });
        assert!(store.image(&one.id().to_string()).unwrap().is_none());
        store.untag(&name("a:2")).unwrap();
        assert_eq!(store.list().unwrap().len(), 1);
        assert!(store.list().unwrap()[0].names().is_empty() && listed().is_empty());
        for error in [store.untag(&name("a:2")).unwrap_err(), store.remove("a:2", false).unwrap_err()] {
            assert_eq!(error.kind(), Kind::NotFound);
            assert!(error.to_string().contains("a:2"), "{error}");
        }
    })
}

#[test]
fn commit_refuses_what_is_no_stack() {
    run(|host| {
        let store = store(&host.dir().join("state"));
        let layer = |parent, text: &str| {
            let tar = Tar::new().add(file(text, b"")).end();
            store.add_layer_from_tar(parent, tar.as_slice()).unwrap().chain_id()
        };
        let a = layer(None, "a");
        let b = layer(Some(&a), "b");
        let alone = layer(None, "c");
        let image = store.commit(host_config().unwrap(), &[a, b]).unwrap();
        assert_eq!((image.layers(), store.chain(&b).unwrap()), ([a, b].as_slice(), vec![a, b]));
        for wrong in [vec![b], vec![b, a], vec![a, alone], vec![a, a, b]] {
            assert_eq!(store.commit(host_config().unwrap(), &wrong).unwrap_err().kind(), Kind::Invalid);
        }
        let empty = store.commit(host_config().unwrap(), &[]).unwrap();
        assert!(empty.layers().is_empty());
        let nobody = coracle_layers::ChainId::from(coracle_layers::Digest::of(b"nobody"));
        let error = store.commit(host_config().unwrap(), &[a, nobody]).unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
    })
}

#[test]
fn damage_is_named() {
    run(|host| {
        let place = host.dir().join("state");
        let store = store(&place);
        let image = image(&store, "one");
        store.tag(&image, &name("a")).unwrap();
        let config = place.join("blobs/sha256").join(image.id().hex());
        std::fs::write(&config, "{}").unwrap();
        let error = store.image("a").unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt);
        assert!(error.to_string().contains(&image.id().to_string()), "{error}");
        std::fs::remove_file(config).unwrap();
        assert_eq!(store.image("a").unwrap_err().kind(), Kind::NotFound);
        let layer = store.layer(&image.layers()[0]).unwrap().unwrap();
        store.blobs().write(&mut crate::blob_of(&store, &layer).as_slice()).unwrap();
        let tar = place.join("blobs/sha256").join(layer.blob().digest.hex());
        let mut bytes = std::fs::read(&tar).unwrap();
        bytes[600] ^= 1; // in a file's data: the archive itself is still in order
        std::fs::write(&tar, bytes).unwrap();
        let error = store.add_layer_from_blob(None, &layer.blob().digest).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt);
        assert!(error.to_string().contains("other bytes than its digest says"), "{error}");
        std::fs::write(place.join("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
        let state = coracle_host::Dir::open(&place).unwrap();
        let staging = coracle_host::Staging::open(&state.dir("tmp").unwrap()).unwrap();
        let error = coracle_layers::Store::open(&state, &staging).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported);
        assert!(error.to_string().contains("2.0.0"), "{error}");
    })
}
