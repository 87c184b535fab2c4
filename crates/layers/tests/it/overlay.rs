//! Against the kernel's overlay: what a container changed is what the layer says.

use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use coracle_host::{Dir, Kind};
use coracle_layers::{ChainId, Store, UpperOptions};
use coracle_testhost::run;

use crate::tree::{assert_same, describe, fill};
use crate::{attach, blob_of, store, tree_of};

/// Changes what `layers` show by `change`, on a real overlay, and makes a layer of it.
fn change(store: &Store, dir: &Dir, layers: &[ChainId], change: impl Fn(&Path)) -> ChainId {
    let (upper, work) = (dir.make("upper", 0o700).unwrap(), dir.make("work", 0o700).unwrap());
    let rootfs = store.rootfs(layers, Some((&upper, &work)), true).unwrap();
    let mounted = attach(&rootfs.mount, &dir.path_of("merged"));
    change(&dir.path_of("merged"));
    drop(mounted);
    drop(rootfs);
    dir.remove_tree("work").unwrap();
    let layer = store.add_layer_from_upper(layers.last(), dir, "upper", &UpperOptions::new()).unwrap();
    layer.chain_id()
}

#[test]
fn a_difference_unpacks_to_the_same_tree() {
    run(|host| {
        let dir = Dir::open(host.dir()).unwrap();
        let (one, two) = (host.dir().join("one"), host.dir().join("two"));
        let (first, second) = (store(&one), store(&two));
        let base = change(&first, &dir, &[], |root| {
            fill(root);
            for name in ["gone", "replaced", "kept/inner", "file to dir"] {
                std::fs::create_dir_all(root.join(name)).unwrap();
                std::fs::write(root.join(name).join("below"), name).unwrap();
            }
            std::fs::write(root.join("dir to be"), "file").unwrap();
            std::fs::write(root.join("removed"), "file").unwrap();
        });
        let changed = change(&first, &dir, &[base], |root| {
            std::fs::remove_dir_all(root.join("gone")).unwrap();
            std::fs::remove_file(root.join("removed")).unwrap();
            std::fs::remove_dir_all(root.join("replaced")).unwrap();
            std::fs::create_dir(root.join("replaced")).unwrap();
            std::fs::write(root.join("replaced/new"), "new").unwrap();
            std::fs::remove_file(root.join("dir to be")).unwrap();
            std::fs::create_dir(root.join("dir to be")).unwrap();
            std::fs::remove_dir_all(root.join("file to dir")).unwrap();
            std::fs::write(root.join("file to dir"), "a file").unwrap();
            std::fs::write(root.join("kept/inner/below"), "changed").unwrap();
            std::fs::hard_link(root.join("kept/inner/below"), root.join("kept/linked")).unwrap();
            std::fs::rename(root.join("empty"), root.join("moved")).unwrap_or_else(|_| {
                // Directory renames are off: as mv does it then.
                std::fs::remove_dir(root.join("empty")).unwrap();
                std::fs::create_dir(root.join("moved")).unwrap();
            });
            std::os::unix::fs::chown(root, Some(5), Some(6)).unwrap();
        });

        let layer = first.layer(&changed).unwrap().unwrap();
        let tree = tree_of(&one, &layer);
        assert!(std::fs::symlink_metadata(tree.join("gone")).unwrap().file_type().is_char_device());
        assert!(describe(&tree)[Path::new("replaced")].contains("trusted.overlay.opaque=[121]"));

        // Elsewhere, from the blobs alone.
        let mut parent = None;
        for id in [base, changed] {
            let layer = first.layer(&id).unwrap().unwrap();
            parent = Some(
                second
                    .add_layer_from_tar(parent.as_ref(), blob_of(&first, &layer).as_slice())
                    .unwrap()
                    .chain_id(),
            );
        }
        assert_eq!(parent, Some(changed));
        let here = first.rootfs(&[base, changed], None, false).unwrap();
        let there = second.rootfs(&[base, changed], None, false).unwrap();
        let _mounts =
            (attach(&here.mount, &host.dir().join("m1")), attach(&there.mount, &host.dir().join("m2")));
        let merged = describe(&host.dir().join("m2"));
        assert_same(&host.dir().join("m1"), &host.dir().join("m2"));
        for (name, there) in [
            ("gone", false),
            ("removed", false),
            ("replaced/below", false),
            ("replaced/new", true),
            ("file to dir/below", false),
            ("kept/linked", true),
            ("kept/inner/below", true),
        ] {
            assert_eq!(merged.contains_key(Path::new(name)), there, "{name}");
        }
        assert!(merged[Path::new("")].starts_with("40755 5:6"), "{}", merged[Path::new("")]);
        assert_same(&tree, &tree_of(&two, &layer));
        std::fs::write(host.dir().join("m1/x"), "").unwrap_err();
    })
}

#[test]
fn no_layers_and_one_layer_mount_too() {
    run(|host| {
        let dir = Dir::open(host.dir()).unwrap();
        let store = store(&host.dir().join("state"));
        let nothing = store.rootfs(&[], None, false).unwrap();
        assert!(Dir::from_fd(nothing.mount.into(), "nothing").dir(".").unwrap().names().unwrap().is_empty());
        let scratch = change(&store, &dir, &[], |root| std::fs::write(root.join("only"), "x").unwrap());
        let one = store.rootfs(&[scratch], None, false).unwrap();
        let mounted = attach(&one.mount, &host.dir().join("m"));
        assert_eq!(std::fs::read(host.dir().join("m/only")).unwrap(), b"x");
        let error = std::fs::write(host.dir().join("m/other"), "x").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
        drop(mounted);

        let nobody = ChainId::from(coracle_layers::Digest::of(b"nobody"));
        let error = store.rootfs(&[scratch, nobody], None, false).unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
        assert!(error.to_string().contains(&nobody.to_string()), "{error}");
        let error = store.rootfs(&[scratch, scratch], None, false).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
    })
}

#[test]
fn layers_in_use_are_locked() {
    run(|host| {
        let dir = Dir::open(host.dir()).unwrap();
        let place = host.dir().join("state");
        let store = store(&place);
        let id = change(&store, &dir, &[], |root| std::fs::write(root.join("f"), "x").unwrap());
        let home = Dir::open(place.join("layers").join(id.hex())).unwrap();
        assert!(!coracle_host::Lock::is_held(&home, "lock").unwrap());
        let rootfs = store.rootfs(&[id], None, false).unwrap();
        assert_eq!(rootfs.locks.len(), 1);
        assert!(coracle_host::Lock::is_held(&home, "lock").unwrap());
        drop(rootfs);
        assert!(!coracle_host::Lock::is_held(&home, "lock").unwrap());
    })
}
