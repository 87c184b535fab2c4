//! Images in archives: saved and loaded, and archives that don't hold what they say.

use std::io::Write;

use coracle_host::{Dir, Kind};
use coracle_layers::{Digest, ImportOptions, Reference, Store};
use coracle_testhost::run;
use serde_json::{Value, json};

use crate::hostile::{Tar, file, hard_link, symlink};
use crate::oracle::prepare;
use crate::tree::assert_same;
use crate::{assert_nothing_left, store, tree_of};

fn save(store: &Store, names: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    let images: Vec<_> = names
        .iter()
        .map(|name| (store.image(name).unwrap().unwrap(), vec![name.parse::<Reference>().unwrap()]))
        .collect();
    store.save(&images, &mut out).unwrap();
    out
}

#[test]
fn what_is_saved_is_loaded() {
    run(|host| {
        let (one, image) = prepare(host);
        let other =
            one.import(Tar::new().add(file("f", b"x")).end().as_slice(), &ImportOptions::new()).unwrap();
        one.tag(&other, &"example.org:5000/other:2".parse().unwrap()).unwrap();
        let plain = save(&one, &["acc-base:1", "example.org:5000/other:2"]);
        assert_eq!(plain, save(&one, &["acc-base:1", "example.org:5000/other:2"]));
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        let packed = [plain.clone(), gzip.finish().unwrap(), zstd::encode_all(plain.as_slice(), 1).unwrap()];
        for (number, bytes) in packed.iter().enumerate() {
            let place = host.dir().join(format!("to{number}"));
            let to = store(&place);
            let loaded = to.load(bytes.as_slice()).unwrap();
            let ids: Vec<_> = loaded.iter().map(|one| (one.image.id(), one.image.manifest())).collect();
            assert_eq!(ids, [(image.id(), image.manifest()), (other.id(), other.manifest())]);
            assert_eq!(loaded[0].names, ["acc-base:1".parse().unwrap()]);
            assert_eq!(to.image("example.org:5000/other:2").unwrap().unwrap().document(), other.document());
            for id in image.layers() {
                let (theirs, ours) = (one.layer(id).unwrap().unwrap(), to.layer(id).unwrap().unwrap());
                assert_same(&tree_of(&host.dir().join("state"), &theirs), &tree_of(&place, &ours));
            }
            assert_nothing_left(&place, 3, 3 + 4);
            // Once more changes nothing.
            assert_eq!(to.load(bytes.as_slice()).unwrap().len(), 2);
            assert_nothing_left(&place, 3, 3 + 4);
        }
        // The store itself is a layout.
        let place = host.dir().join("from-layout");
        let to = store(&place);
        let loaded = to.load_layout(&Dir::open(host.dir().join("state")).unwrap()).unwrap();
        assert_eq!((loaded.len(), loaded[0].image.id()), (2, image.id()));
        let error = to.load_layout(&Dir::open(host.dir()).unwrap()).unwrap_err();
        assert!(error.kind() == Kind::Invalid && error.to_string().contains("no image layout"), "{error}");
    })
}

/// A docker archive of one layer as old versions write it, with its `manifest.json`.
fn old(change: impl FnOnce(&mut Value, &mut Value)) -> Tar {
    let layer = Tar::new().add(file("hello", b"hi")).end();
    let mut config = json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": null, "OnBuild": ["RUN x"]},
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(&layer).to_string()]},
    });
    let mut manifest = json!([{"Config": "c.json", "RepoTags": ["old:1"], "Layers": ["b/layer.tar"]}]);
    change(&mut config, &mut manifest);
    Tar::new()
        .add(file("c.json", config.to_string().as_bytes()))
        .add(file("a/layer.tar", &layer))
        .add(symlink("b/layer.tar", "../a/layer.tar"))
        .add(hard_link("d/layer.tar", "b/layer.tar"))
        .add(file("manifest.json", manifest.to_string().as_bytes()))
}

#[test]
fn old_docker_archives_are_read() {
    run(|host| {
        let store = store(&host.dir().join("state"));
        let loaded = store.load(old(|_, _| {}).end().as_slice()).unwrap();
        assert_eq!(loaded[0].names, ["old:1".parse().unwrap()]);
        assert!(std::str::from_utf8(loaded[0].image.document()).unwrap().contains("RUN x"));
        let untagged = old(|config, manifest| {
            config["author"] = json!("x");
            manifest[0]["RepoTags"] = Value::Null;
            manifest[0]["Layers"] = json!(["./d/layer.tar"]);
        });
        let loaded = store.load(untagged.end().as_slice()).unwrap();
        assert!(loaded[0].names.is_empty());
        assert_eq!(loaded[0].image.layers(), store.image("old:1").unwrap().unwrap().layers());
    })
}

#[test]
fn archives_that_lie_are_refused() {
    run(|host| {
        let place = host.dir().join("state");
        let store = store(&place);
        let zeros = "0".repeat(64);
        let other = format!("sha256:{zeros}");
        let blob = format!("blobs/sha256/{zeros}");
        let layout = || Tar::new().add(file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#));
        let index = |kind: &str| {
            let descriptor = json!({"mediaType": kind, "digest": other, "size": 2});
            file("index.json", json!({"schemaVersion": 2, "manifests": [descriptor]}).to_string().as_bytes())
        };
        let none: fn(&mut Value, &mut Value) = |_, _| {};
        let table: Vec<(Tar, Kind, &str)> = vec![
            (old(none).add(file(&blob, b"{}")), Kind::Corrupt, "another digest than its name says"),
            (old(none).add(symlink("x", "../../etc/passwd")), Kind::Invalid, "leads out of the archive"),
            (old(none).add(symlink("x", "/etc/passwd")), Kind::Invalid, "leads out of the archive"),
            (old(none).add(file("../x", b"")), Kind::Invalid, "`..`"),
            (
                old(none).add(crate::hostile::Member::new("x", b'6', "", b"")),
                Kind::Invalid,
                "only files and links",
            ),
            (old(|config, _| config["rootfs"]["diff_ids"][0] = json!(other)), Kind::Corrupt, "is expected"),
            (old(|config, _| config["rootfs"]["diff_ids"] = json!([])), Kind::Corrupt, "speaks of 0"),
            (
                old(|_, manifest| manifest[0]["Config"] = json!("../../c.json")),
                Kind::Corrupt,
                "is not in the archive",
            ),
            (
                old(|_, manifest| manifest[0]["Config"] = json!("/etc/passwd")),
                Kind::Corrupt,
                "is not in the archive",
            ),
            (old(|_, manifest| manifest[0]["Layers"] = json!(["nosuch"])), Kind::Corrupt, "nosuch is not in"),
            (
                old(|_, manifest| manifest[0]["RepoTags"] = json!(["UPPER"])),
                Kind::Invalid,
                "must be lower case",
            ),
            (old(|_, manifest| *manifest = json!([])), Kind::Invalid, "there is no image"),
            (Tar::new().add(symlink("manifest.json", "manifest.json")), Kind::Invalid, "too many links"),
            (Tar::new().add(file("etc/passwd", b"")), Kind::Invalid, "no archive of images"),
            (
                layout().add(index("application/vnd.oci.image.manifest.v1+json")),
                Kind::Corrupt,
                "is not in the archive",
            ),
            (
                Tar::new().add(file("oci-layout", br#"{"imageLayoutVersion":"9"}"#)),
                Kind::Unsupported,
                "image layout version",
            ),
        ];
        for (tar, kind, says) in table {
            let error = store.load(tar.end().as_slice()).unwrap_err();
            assert!(error.to_string().contains(says), "{says}: {error}");
            assert_eq!(error.kind(), kind, "{error}");
            assert_nothing_left(&place, 0, 0);
        }
        let whole = old(none).end();
        let error = store.load(&whole[..whole.len() / 2]).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt, "{error}");
        assert_nothing_left(&place, 0, 0);
        assert!(store.list().unwrap().is_empty());
    })
}

#[test]
fn an_index_of_platforms_gives_this_machines_image() {
    run(|host| {
        let (one, image) = prepare(host);
        // What skopeo copies of a list of platforms: an index in the index.
        let bytes = save(&one, &["acc-base:1"]);
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut tar = Tar::new();
        for member in archive.entries().unwrap() {
            let mut member = member.unwrap();
            let name = member.path().unwrap().display().to_string();
            let mut data = Vec::new();
            std::io::Read::read_to_end(&mut member, &mut data).unwrap();
            if name.starts_with("blobs/sha256/") && !name.ends_with('/') {
                tar = tar.add(file(&name, &data));
            }
        }
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let of = |digest: String, os: &str, arch: &str| json!({"mediaType": kind, "digest": digest, "size": 1, "platform": {"os": os, "architecture": arch}});
        let own = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let inner = json!({"schemaVersion": 2, "manifests": [
            of(Digest::of(b"not there").to_string(), "linux", "s390x"),
            of(Digest::of(b"nor this").to_string(), "linux", own),
            of(image.id().to_string(), "unknown", "unknown"),
            of(image.manifest().to_string(), "linux", own),
        ]})
        .to_string();
        let digest = Digest::of(inner.as_bytes());
        let descriptor = json!({"mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest.to_string(),
            "size": inner.len(), "annotations": {"org.opencontainers.image.ref.name": "many:1"}});
        let tar = tar
            .add(file(&format!("blobs/sha256/{}", digest.hex()), inner.as_bytes()))
            .add(file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#))
            .add(file(
                "index.json",
                json!({"schemaVersion": 2, "manifests": [descriptor]}).to_string().as_bytes(),
            ));
        let loaded = store(&host.dir().join("to")).load(tar.end().as_slice()).unwrap();
        assert_eq!((loaded.len(), loaded[0].image.id()), (1, image.id()));
        assert_eq!(loaded[0].names, ["many:1".parse().unwrap()]);
    })
}

#[test]
fn damaged_archives_are_whole_or_nothing() {
    run(|host| {
        let one = store(&host.dir().join("from"));
        one.load(old(|_, _| {}).end().as_slice()).unwrap();
        let whole = save(&one, &["old:1"]);
        let config: Value = serde_json::from_slice(one.image("old:1").unwrap().unwrap().document()).unwrap();
        let place = host.dir().join("to");
        let to = store(&place);
        let mut dice = 12345_u64;
        let mut roll = |sides: usize| {
            dice = dice.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (dice >> 33) as usize % sides
        };
        let headers: Vec<usize> = {
            let mut archive = tar::Archive::new(whole.as_slice());
            let all = archive.entries().unwrap().map(|one| one.unwrap().raw_header_position() as usize);
            all.collect()
        };
        for round in 0..400 {
            let mut bytes = whole.clone();
            // In a header as often as anywhere, with its checksum made right again.
            if round % 2 == 0 {
                let at = headers[roll(headers.len())];
                bytes[at + roll(345)] = roll(256) as u8;
                bytes[at + 148..at + 156].fill(b' ');
                let sum: u32 = bytes[at..at + 512].iter().map(|byte| u32::from(*byte)).sum();
                bytes[at + 148..at + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            } else {
                let at = roll(bytes.len());
                bytes[at] ^= 1 << roll(8);
            }
            if round % 7 == 0 {
                bytes.truncate(roll(bytes.len()));
            }
            match to.load(bytes.as_slice()) {
                Err(_) => assert!(to.list().unwrap().is_empty(), "round {round}"),
                Ok(loaded) => {
                    for one in &loaded {
                        let own: Value = serde_json::from_slice(one.image.document()).unwrap();
                        assert_eq!(own["rootfs"], config["rootfs"], "round {round}");
                        to.remove(&one.image.id().to_string(), true).unwrap();
                    }
                }
            }
        }
    })
}
