//! Many at once, death in the middle, and no space left.

use coracle_host::{Dir, Kind, Staging};
use coracle_layers::{ImportOptions, UpperOptions};
use coracle_testhost::{Role, run, run_with};

use crate::hostile::{Tar, dir, file};
use crate::{assert_nothing_left, store};

fn tar() -> Vec<u8> {
    (0..50).fold(Tar::new().add(dir("d")), |tar, n| tar.add(file(&format!("d/{n}"), &[n; 3000]))).end()
}

fn upper(at: &std::path::Path, content: &str) {
    std::fs::create_dir_all(at.join("d")).unwrap();
    std::fs::write(at.join("d/f"), content).unwrap();
    for name in ["d/f", "d", ""] {
        crate::tree::set_time(&at.join(name), 1, 0);
    }
}

#[test]
fn the_same_layer_from_many_threads_is_one() {
    run(|host| {
        let place = host.dir().join("state");
        let store = store(&place);
        let tar = tar();
        let layers: Vec<_> = std::thread::scope(|scope| {
            let one = |n: usize| {
                let (store, tar, host) = (&store, &tar, &host);
                move || match n % 2 {
                    0 => store.add_layer_from_tar(None, tar.as_slice()).unwrap(),
                    _ => {
                        let name = format!("upper{n}");
                        upper(&host.dir().join(&name), "same");
                        let dir = Dir::open(host.dir()).unwrap();
                        store.add_layer_from_upper(None, &dir, &name, &UpperOptions::new()).unwrap()
                    }
                }
            };
            let threads: Vec<_> = (0..12).map(|n| scope.spawn(one(n))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (n, layer) in layers.iter().enumerate() {
            assert_eq!(layer, &layers[n % 2]);
        }
        // Those that came as a tar have it.
        assert_nothing_left(&place, 2, 1);
    })
}

fn importer(role: &mut Role) {
    let store = store(&role.dir().join("state"));
    role.say("open");
    let me = role.hear().unwrap();
    for round in 0..5 {
        let image = store.import(tar().as_slice(), &ImportOptions::new()).unwrap();
        store.tag(&image, &format!("name{me}:{round}").parse().unwrap()).unwrap();
        store.tag(&image, &"common".parse().unwrap()).unwrap();
    }
    role.say("done");
}

#[test]
fn processes_share_a_store() {
    run_with(&[("importer", importer)], |host| {
        let place = host.dir().join("state");
        let mut players: Vec<_> = (0..6).map(|_| host.play("importer")).collect();
        for (n, player) in players.iter_mut().enumerate() {
            assert_eq!(player.hear().as_deref(), Some("open"));
            player.say(&n.to_string());
        }
        for mut player in players {
            assert_eq!(player.hear().as_deref(), Some("done"));
            player.join();
        }
        let store = store(&place);
        let images = store.list().unwrap();
        assert_eq!(images.len(), 1);
        assert_eq!(images[0].names().len(), 31);
        let index = oci_spec::image::ImageIndex::from_file(place.join("index.json")).unwrap();
        assert_eq!(index.manifests().len(), 31);
        assert_nothing_left(&place, 1, 3);
    })
}

/// Says when it is about to add a layer, and adds it.
fn adder(role: &mut Role) {
    let place = role.dir().join("state");
    let store = store(&place);
    role.say("ready");
    let Some(what) = role.hear() else { return };
    if what == "tar" {
        let image = store.import(tar_of_one().as_slice(), &ImportOptions::new()).unwrap();
        store.tag(&image, &"made".parse().unwrap()).unwrap();
    } else {
        let home = Dir::open(role.dir()).unwrap();
        store.add_layer_from_upper(None, &home, "upper", &UpperOptions::new()).unwrap();
    }
}

fn tar_of_one() -> Vec<u8> {
    Tar::new().add(dir("d")).add(file("d/f", b"x")).end()
}

/// Kills the adder before each of its system calls in turn. After each death the store opens again, holds all or
/// nothing, reclaims the rest, and takes the same again.
fn killed_everywhere(host: &coracle_testhost::Host, what: &str) {
    let place = host.dir().join("state");
    let state = Dir::create(&place, 0o700).unwrap();
    for calls in 0.. {
        upper(&host.dir().join("upper"), "x");
        let mut player = host.play("adder");
        assert_eq!(player.hear().as_deref(), Some("ready"));
        let killed = player.kill_after(calls, what);
        Staging::reclaim(&state.dir("tmp").unwrap()).unwrap();
        assert!(state.dir("tmp").unwrap().names().unwrap().is_empty(), "after {calls} calls");
        let store = store(&place);
        for layer in store.layers().unwrap() {
            let tree = crate::tree::describe(&crate::tree_of(&place, &layer));
            assert!(tree.contains_key(std::path::Path::new("d/f")), "after {calls} calls: {tree:?}");
            assert_eq!(coracle_layers::Digest::of(&crate::blob_of(&store, &layer)), layer.blob().digest);
        }
        for image in store.list().unwrap() {
            assert_eq!(store.rootfs(image.layers(), None, false).unwrap().locks.len(), 1);
        }
        let index = oci_spec::image::ImageIndex::from_file(place.join("index.json")).unwrap();
        let names: usize = store.list().unwrap().iter().map(|image| image.names().len()).sum();
        assert_eq!(index.manifests().len(), names, "after {calls} calls");
        let again = store.import(tar_of_one().as_slice(), &ImportOptions::new()).unwrap();
        store.tag(&again, &"again".parse().unwrap()).unwrap();
        drop(store);
        if !killed {
            break;
        }
        for name in state.names().unwrap() {
            state.remove_tree(name).unwrap();
        }
    }
}

#[test]
fn killed_at_any_call_of_an_import() {
    run_with(&[("adder", adder)], |host| killed_everywhere(host, "tar"))
}

#[test]
fn killed_at_any_call_of_a_commit() {
    run_with(&[("adder", adder)], |host| killed_everywhere(host, "upper"))
}

#[test]
fn a_full_disk_is_one_error_and_leaves_nothing() {
    run(|host| {
        let place = host.small_disk(3 << 20);
        let store = store(&place);
        let small = store.add_layer_from_tar(None, Tar::new().add(file("f", b"x")).end().as_slice()).unwrap();
        let data: Vec<u8> = (0..2 << 20).map(|n| n as u8 | 1).collect();
        let tar = Tar::new().add(file("big", &data)).end();
        let errors = [
            store.add_layer_from_tar(None, tar.as_slice()).unwrap_err(),
            store.import(tar.as_slice(), &ImportOptions::new()).unwrap_err(),
            store.blobs().write(&mut [data.as_slice(), &data].concat().as_slice()).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), Kind::Exhausted);
            assert!(error.to_string().contains("No space left on device"), "{error}");
        }
        assert_nothing_left(&place, 1, 1);

        // The directory of a commit that fails stays with its owner.
        std::fs::create_dir(place.join("upper")).unwrap();
        std::fs::write(place.join("upper/big"), &data).unwrap();
        std::fs::write(place.join("rest"), &data).unwrap_err();
        let home = Dir::open(&place).unwrap();
        let parent = small.chain_id();
        let error =
            store.add_layer_from_upper(Some(&parent), &home, "upper", &UpperOptions::new()).unwrap_err();
        assert_eq!(error.kind(), Kind::Exhausted);
        assert_eq!(std::fs::read(place.join("upper/big")).unwrap(), data);
        assert_nothing_left(&place, 1, 1);
    })
}

#[test]
fn a_commit_that_cannot_be_published_gives_the_directory_back() {
    run(|host| {
        let place = host.dir().join("state");
        // The last rename, from tmp/ to layers/, is what fails: they are on two file systems.
        std::fs::create_dir_all(place.join("layers")).unwrap();
        let mount = coracle_host::Mount::tmpfs(&[]).unwrap();
        let _mounted = crate::attach(&mount, &place.join("layers"));
        let store = store(&place);
        upper(&host.dir().join("upper"), "precious");
        let home = Dir::open(host.dir()).unwrap();
        let error = store.add_layer_from_upper(None, &home, "upper", &UpperOptions::new()).unwrap_err();
        assert!(error.to_string().contains("Invalid cross-device link"), "{error}");
        assert_eq!(std::fs::read(host.dir().join("upper/d/f")).unwrap(), b"precious");
        assert_nothing_left(&place, 0, 0);
    })
}
