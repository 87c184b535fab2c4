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
        // A layer from a tree is kept as that tree only.
        assert_nothing_left(&one, 1, 0);
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
        assert_nothing_left(&host.dir().join("state"), 1, 0);
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

#[test]
fn a_layer_kept_as_a_tree_gives_the_same_tar_whenever_asked() {
    run(|host| {
        let place = host.dir().join("state");
        let store = store(&place);
        let dir = Dir::open(host.dir()).unwrap();
        fill(&make(host.dir(), "upper"));
        // More than is hashed at once, and a root that is part of the layer, with a time that is clamped.
        std::fs::write(host.dir().join("upper/large"), vec![7; 3 << 20]).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(host.dir().join("upper"), mode).unwrap();
        let options = UpperOptions::new().clamp_mtime(1_000_000_000);
        let layer = store.add_layer_from_upper(None, &dir, "upper", &options).unwrap();
        assert!(!store.blobs().has(&layer.blob().digest).unwrap());
        let bytes = blob_of(&store, &layer);
        assert_eq!((Digest::of(&bytes), bytes.len() as u64), (layer.blob().digest, layer.blob().size));

        let image = store.commit(coracle_layers::host_config().unwrap(), &[layer.chain_id()]).unwrap();
        let save = || {
            let mut archive = Vec::new();
            store.save(&[(image.clone(), Vec::new())], &mut archive).unwrap();
            archive
        };
        let before = save();
        store.complete(&image).unwrap();
        assert!(store.blobs().has(&layer.blob().digest).unwrap());
        assert!(before == save() && bytes == blob_of(&store, &layer));

        // A tree that somebody changed is not passed off as what it was.
        let other = make(host.dir(), "upper");
        std::fs::write(other.join("f"), "one").unwrap();
        let layer = store.add_layer_from_upper(None, &dir, "upper", &UpperOptions::new()).unwrap();
        std::fs::write(tree_of(&place, &layer).join("f"), "two").unwrap();
        let error = store.write_layer(&layer.chain_id(), std::io::sink()).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt);
        let image = store.commit(coracle_layers::host_config().unwrap(), &[layer.chain_id()]).unwrap();
        assert_eq!(store.save(&[(image, Vec::new())], std::io::sink()).unwrap_err().kind(), Kind::Corrupt);
    })
}

/// A tree like `like`, by further names of its files, but for those at `anew`, which are written with `salt` in them.
fn almost(place: &Path, name: &str, like: Option<&Path>, anew: &[usize], salt: u8) {
    for n in 0..60 {
        let below = format!("d{}/f{n}", n % 4);
        let path = place.join(name).join(&below);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        match like.filter(|_| !anew.contains(&n)) {
            Some(like) => std::fs::hard_link(like.join(&below), &path).unwrap(),
            None => {
                let salt = if like.is_some() { salt } else { 0 };
                std::fs::write(&path, vec![n as u8 ^ salt; 70_000 + 700 * n]).unwrap();
                // What was written anew is younger, or as old as all.
                set_time(&path, 1_000 + if salt % 2 == 1 { i64::from(salt) } else { n as i64 % 5 }, 7);
            }
        }
    }
    for n in 0..4 {
        set_time(&place.join(name).join(format!("d{n}")), 2_000, 0);
    }
}

#[test]
fn the_hash_goes_on_where_a_like_layer_s_stood() {
    run(|host| {
        let place = host.dir().join("state");
        let store = store(&place);
        let dir = Dir::open(host.dir()).unwrap();
        almost(host.dir(), "upper", None, &[], 0);
        let mut like = store.add_layer_from_upper(None, &dir, "upper", &UpperOptions::new()).unwrap();
        let marks = |layer: &coracle_layers::Layer| tree_of(&place, layer).with_file_name("marks");
        assert!(marks(&like).exists());
        let mut salt = 0;
        for anew in [&[0][..], &[59], &[20], &[20], &[], &[3, 30, 58], &[20]] {
            salt += 1;
            almost(host.dir(), "upper", Some(&tree_of(&place, &like)), anew, salt);
            let options = UpperOptions::new().like(like.chain_id());
            let layer = store.add_layer_from_upper(None, &dir, "upper", &options).unwrap();
            assert_eq!(layer == like, anew.is_empty());
            // The same bytes make the same digest, whatever of them was hashed before.
            let bytes = blob_of(&store, &layer);
            assert_eq!((Digest::of(&bytes), bytes.len() as u64), (layer.blob().digest, layer.blob().size));
            like = layer;
        }

        // What has not changed is not read, which only shows where it has.
        almost(host.dir(), "upper", Some(&tree_of(&place, &like)), &[], 0);
        let first = host.dir().join("upper/d0/f0");
        let (bytes, time) = (std::fs::read(&first).unwrap(), std::fs::metadata(&first).unwrap());
        std::fs::write(&first, vec![b'x'; bytes.len()]).unwrap();
        std::fs::File::options()
            .write(true)
            .open(&first)
            .unwrap()
            .set_modified(time.modified().unwrap())
            .unwrap();
        let options = UpperOptions::new().like(like.chain_id());
        let unread = store.add_layer_from_upper(None, &dir, "upper", &options).unwrap();
        assert_eq!(unread, like);

        // Marks that are damaged are none.
        almost(host.dir(), "upper", Some(&tree_of(&place, &like)), &[], 0);
        let mut bad = std::fs::read(marks(&like)).unwrap();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        std::fs::write(marks(&like), bad).unwrap();
        let read = store.add_layer_from_upper(None, &dir, "upper", &options).unwrap();
        assert_ne!(read, like);

        // Nor are those of a layer that is not there.
        almost(host.dir(), "upper", None, &[], 0);
        let nobody = UpperOptions::new().like(coracle_layers::ChainId::from(Digest::of(b"nobody")));
        let layer = store.add_layer_from_upper(None, &dir, "upper", &nobody).unwrap();
        assert_eq!(Digest::of(&blob_of(&store, &layer)), layer.blob().digest);
    })
}
