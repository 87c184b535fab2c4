//! What honest but odd archives mean.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use coracle_testhost::run;

use crate::hostile::{Tar, dir, file, hard_link, symlink};
use crate::tree::describe;
use crate::{store, tree_of};

fn is_whiteout(path: &Path) -> bool {
    let meta = std::fs::symlink_metadata(path).unwrap();
    meta.file_type().is_char_device() && meta.rdev() == 0
}

fn is_opaque(root: &Path, name: &str) -> bool {
    describe(root)[Path::new(name)].contains("trusted.overlay.opaque=[121]")
}

#[test]
fn later_members_win() {
    run(|host| {
        let place = host.dir().join("state");
        let store = store(&place);
        let tar = Tar::new()
            .add(file("twice", b"first"))
            .add(file("twice", b"second"))
            .add(dir("was dir"))
            .add(file("was dir/below", b"x"))
            .add(file("was dir", b"now a file"))
            .add(file("was file", b"x"))
            .add(dir("was file"))
            .add(file("was file/below", b"x"))
            .add(dir("again"))
            .add(file("again/kept", b"x"))
            .add(dir("again"))
            .add(symlink("to dir", "again"))
            .add(dir("to dir"))
            .add(file("to dir/own", b"x"))
            .add(file("source", b"linked"))
            .add(hard_link("./target", "/source"))
            .add(file("source", b"another"))
            .add(file("implied/by/this", b"x"))
            .end();
        let layer = store.add_layer_from_tar(None, tar.as_slice()).unwrap();
        let root = tree_of(&place, &layer);
        let text = |name: &str| std::fs::read_to_string(root.join(name)).unwrap();
        assert_eq!(text("twice"), "second");
        assert_eq!(text("was dir"), "now a file");
        assert_eq!(
            (text("was file/below"), text("again/kept"), text("to dir/own")),
            ("x".into(), "x".into(), "x".into())
        );
        assert!(!root.join("again/own").exists());
        assert_eq!((text("target"), text("source")), ("linked".into(), "another".into()));
        assert!(describe(&root)[Path::new("implied/by")].starts_with("40755 0:0 0.0"));
    })
}

#[test]
fn links_on_the_way_stay_inside() {
    run(|host| {
        let place = host.dir().join("state");
        let store = store(&place);
        std::fs::create_dir(host.dir().join("outside")).unwrap();
        let outside = host.dir().join("outside");
        let tar = Tar::new()
            .add(symlink("abs", outside.to_str().unwrap()))
            .add(symlink("up", "../../../../../../../../etc"))
            .add(symlink("lib", "usr/lib"))
            .add(file("abs/x", b"inside"))
            .add(file("up/x", b"inside"))
            .add(file("lib/x", b"inside"))
            .end();
        let layer = store.add_layer_from_tar(None, tar.as_slice()).unwrap();
        let root = tree_of(&place, &layer);
        let inside = root.join(outside.strip_prefix("/").unwrap()).join("x");
        for path in [inside, root.join("etc/x"), root.join("usr/lib/x")] {
            assert_eq!(std::fs::read(&path).unwrap(), b"inside", "{path:?}");
        }
        assert_eq!(std::fs::read_dir(outside).unwrap().count(), 0);
        assert!(!Path::new("/etc/x").exists());
    })
}

#[test]
fn removals_are_of_what_is_below() {
    run(|host| {
        let place = host.dir().join("state");
        let store = store(&place);
        let base = Tar::new().add(dir("d")).add(file("d/x", b"x")).add(file("f", b"x")).add(dir("e")).end();
        let base = store.add_layer_from_tar(None, base.as_slice()).unwrap();
        let top = Tar::new()
            .add(file(".wh.f", b""))
            .add(file("d/new", b"own"))
            .add(file("d/.wh..wh..opq", b""))
            .add(file(".wh.e", b""))
            .add(dir("e"))
            .add(file("e/own", b"own"))
            .add(file("own", b"stays"))
            .add(file(".wh.own", b""))
            .add(dir("owned"))
            .add(file(".wh.owned", b""))
            .add(file(".wh..wh.plnk", b""))
            .add(file(".wh.implied", b""))
            .add(file("implied/x", b""))
            .end();
        let layer = store.add_layer_from_tar(Some(&base.chain_id()), top.as_slice()).unwrap();
        let root = tree_of(&place, &layer);
        assert!(is_whiteout(&root.join("f")));
        for (name, opaque) in [("d", true), ("e", true), ("owned", true), ("implied", true)] {
            assert_eq!(is_opaque(&root, name), opaque, "{name}");
        }
        assert_eq!(std::fs::read(root.join("own")).unwrap(), b"stays");
        assert!(!root.join(".wh..wh.plnk").exists());

        // With nothing below there is nothing to remove.
        let alone =
            store.add_layer_from_tar(None, Tar::new().add(file(".wh.f", b"")).end().as_slice()).unwrap();
        assert_eq!(std::fs::read_dir(tree_of(&place, &alone)).unwrap().count(), 0);

        let all = Tar::new().add(file(".wh..wh..opq", b"")).add(file("d/y", b"y")).end();
        let all = store.add_layer_from_tar(Some(&base.chain_id()), all.as_slice()).unwrap();
        let root = tree_of(&place, &all);
        assert!(is_whiteout(&root.join("f")) && is_whiteout(&root.join("e")));
        assert!(is_opaque(&root, "d"));
    })
}

#[test]
fn implied_directories_look_like_those_below() {
    run(|host| {
        let place = host.dir().join("state");
        let store = store(&place);
        let mut private = dir("home");
        private.mode(0o2710).owner(1000, 100).time(99);
        let base = Tar::new().add(private).add(symlink("lib", "usr/lib")).add(dir("usr/lib")).end();
        let base = store.add_layer_from_tar(None, base.as_slice()).unwrap();
        let top = Tar::new().add(file("home/x", b"x")).add(file("lib/y", b"y")).end();
        let layer = store.add_layer_from_tar(Some(&base.chain_id()), top.as_slice()).unwrap();
        let tree = describe(&tree_of(&place, &layer));
        assert!(tree[Path::new("home")].starts_with("42710 1000:100 99.0"), "{}", tree[Path::new("home")]);
        assert!(tree.contains_key(Path::new("usr/lib/y")) && !tree.contains_key(Path::new("lib")));
    })
}

#[test]
fn compressed_layers_are_kept_as_they_came() {
    run(|host| {
        let place = host.dir().join("state");
        let store = store(&place);
        let plain = Tar::new().add(file("f", &[7; 5000])).end();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gzip, &plain).unwrap();
        let gzip = gzip.finish().unwrap();
        let layer = store.add_layer_from_tar(None, gzip.as_slice()).unwrap();
        assert_eq!(layer.media_type().to_string(), "application/vnd.oci.image.layer.v1.tar+gzip");
        assert_eq!(crate::blob_of(&store, &layer), gzip);
        assert_eq!(layer.size(), plain.len() as u64);
        // The same tree, however it was packed: the first one is kept.
        let again = store.add_layer_from_tar(None, plain.as_slice()).unwrap();
        assert_eq!(again, layer);
        let zstd = zstd::encode_all(plain.as_slice(), 1).unwrap();
        let on_top = store.add_layer_from_tar(Some(&layer.chain_id()), zstd.as_slice()).unwrap();
        assert_eq!(on_top.media_type().to_string(), "application/vnd.oci.image.layer.v1.tar+zstd");
        assert_eq!(on_top.diff_id(), layer.diff_id());
        crate::assert_nothing_left(&place, 2, 2);
    })
}

#[test]
fn numbers_left_out_are_zero() {
    run(|host| {
        let place = host.dir().join("state");
        let store = store(&place);
        // As a builder leaves it that sets no owner and no time.
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        header.set_mode(0o640);
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_data(&mut header, "plain", &b"x"[..]).unwrap();
        let image =
            store.import(builder.into_inner().unwrap().as_slice(), &coracle_layers::ImportOptions::new());
        let layer = store.layer(&image.unwrap().layers()[0]).unwrap().unwrap();
        assert!(describe(&tree_of(&place, &layer))[Path::new("plain")].starts_with("100640 0:0 0.0"));
    })
}
