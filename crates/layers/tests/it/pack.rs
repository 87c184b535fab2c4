//! Trees become layers, and layers trees again.

use std::path::Path;

use coracle_host::{Dir, Kind};
use coracle_layers::{Digest, UpperOptions};
use coracle_testhost::run;

use crate::tree::{assert_same, describe, fill, set_time};
use crate::{assert_nothing_left, blob_of, store, tree_of};

fn make(place: &Path, name: &str) -> std::path::PathBuf {
    let path = place.join(name);
    std::fs::create_dir_all(&path).unwrap();
    path
}

#[test]
fn everything_survives_the_way_there_and_back() {
    run(|host| {
        let (one, two) = (host.dir().join("one"), host.dir().join("two"));
        let (first, second) = (store(&one), store(&two));
        fill(&make(host.dir(), "upper"));
        fill(&make(host.dir(), "same"));
        let before = describe(&host.dir().join("same"));
        assert!(before.len() > 20);

        let dir = Dir::open(host.dir()).unwrap();
        let layer = first.add_layer_from_upper(None, &dir, "upper", &UpperOptions::new()).unwrap();
        assert!(!dir.has("upper").unwrap());
        assert_eq!(describe(&tree_of(&one, &layer)), before);

        let again = second.add_layer_from_tar(None, blob_of(&first, &layer).as_slice()).unwrap();
        assert_eq!(again, layer);
        assert_same(&host.dir().join("same"), &tree_of(&two, &again));

        // The holes are still there.
        use std::os::unix::fs::MetadataExt;
        assert!(std::fs::metadata(tree_of(&two, &again).join("sparse")).unwrap().blocks() < 2048);
        assert_nothing_left(&one, 1, 1);
        assert_nothing_left(&two, 1, 1);
    })
}

#[test]
fn the_same_tree_gives_the_same_bytes() {
    run(|host| {
        let store = store(&host.dir().join("state"));
        let dir = Dir::open(host.dir()).unwrap();
        for name in ["a", "b"] {
            fill(&make(host.dir(), name));
            // Entries made since by fill() in directories without a fixed time.
            for path in describe(&host.dir().join(name)).keys() {
                set_time(&host.dir().join(name).join(path), 77, 5);
            }
        }
        let a = store.add_layer_from_upper(None, &dir, "a", &UpperOptions::new()).unwrap();
        let b = store.add_layer_from_upper(None, &dir, "b", &UpperOptions::new()).unwrap();
        assert_eq!(a, b);
        assert_eq!(dir.names().unwrap(), ["state"]);
        assert_nothing_left(&host.dir().join("state"), 1, 1);
    })
}

#[test]
fn an_empty_upper_is_the_empty_layer() {
    run(|host| {
        let place = host.dir().join("state");
        let store = store(&place);
        let dir = Dir::open(host.dir()).unwrap();
        make(host.dir(), "upper");
        let layer = store.add_layer_from_upper(None, &dir, "upper", &UpperOptions::new()).unwrap();
        // The well-known digest of an archive that is only its end mark.
        assert_eq!(
            layer.diff_id().to_string(),
            "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
        );
        assert_eq!(blob_of(&store, &layer), [0; 1024]);
        let on_top = store.add_layer_from_tar(Some(&layer.chain_id()), [0u8; 1024].as_slice()).unwrap();
        assert_eq!((on_top.diff_id(), on_top.parent()), (layer.diff_id(), Some(layer.chain_id())));
        assert_nothing_left(&place, 2, 1);
    })
}

#[test]
fn times_are_clamped_in_tar_and_tree() {
    run(|host| {
        let place = host.dir().join("state");
        let store = store(&place);
        let dir = Dir::open(host.dir()).unwrap();
        let mut digests: Vec<Digest> = Vec::new();
        for (name, secs) in [("a", 2_000), ("b", 3_000)] {
            let upper = make(host.dir(), name);
            std::fs::create_dir(upper.join("dir")).unwrap();
            std::fs::write(upper.join("dir/new"), "x").unwrap();
            std::fs::write(upper.join("dir/old"), "x").unwrap();
            std::os::unix::fs::symlink("x", upper.join("dir/link")).unwrap();
            set_time(&upper.join("dir/new"), secs, 5);
            set_time(&upper.join("dir/old"), 999, 7);
            let options = UpperOptions::new().clamp_mtime(1_000);
            let layer = store.add_layer_from_upper(None, &dir, name, &options).unwrap();
            digests.push(layer.blob().digest);
            let tree = describe(&tree_of(&place, &layer));
            for (name, time) in [
                ("dir", "1000.000000000"),
                ("dir/new", "1000.000000000"),
                ("dir/link", "1000.0"),
                ("dir/old", "999.000000007"),
            ] {
                assert!(
                    tree[Path::new(name)].contains(&format!(" {time}")),
                    "{name}: {}",
                    tree[Path::new(name)]
                );
            }
        }
        assert_eq!(digests[0], digests[1]);
    })
}

#[test]
fn what_a_layer_cannot_hold() {
    run(|host| {
        let place = host.dir().join("state");
        let store = store(&place);
        let dir = Dir::open(host.dir()).unwrap();
        let upper = make(host.dir(), "upper");
        std::fs::create_dir(upper.join("d")).unwrap();
        std::fs::write(upper.join("d/.wh.x"), "").unwrap();
        let error = store.add_layer_from_upper(None, &dir, "upper", &UpperOptions::new()).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.to_string().contains("`d/.wh.x`"), "{error}");
        // The directory stays with its owner.
        assert!(upper.join("d/.wh.x").exists());
        assert_nothing_left(&place, 0, 0);

        std::fs::remove_file(upper.join("d/.wh.x")).unwrap();
        let socket = std::os::unix::net::UnixListener::bind(upper.join("d/socket")).unwrap();
        drop(socket);
        set_time(&upper.join("d"), 50, 0);
        let layer = store.add_layer_from_upper(None, &dir, "upper", &UpperOptions::new()).unwrap();
        let tree = describe(&tree_of(&place, &layer));
        assert_eq!(tree.keys().collect::<Vec<_>>(), [Path::new(""), Path::new("d")]);
        assert!(tree[Path::new("d")].contains(" 50.000000000"));

        let nobody = coracle_layers::ChainId::from(Digest::of(b"nobody"));
        make(host.dir(), "upper");
        let error =
            store.add_layer_from_upper(Some(&nobody), &dir, "upper", &UpperOptions::new()).unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
        assert!(error.to_string().contains(&nobody.to_string()), "{error}");
    })
}
