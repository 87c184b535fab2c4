//! Archives between this store and other programs.

use std::fs::File;
use std::process::Command;

use coracle_testhost::run;

use crate::oracle::{has, ok, prepare};
use crate::store;

#[test]
fn skopeo_reads_and_writes_our_archives() {
    run(|host| {
        if !has(host, "skopeo") {
            return;
        }
        let (one, _) = prepare(host);
        let image = one.image("acc-base:1").unwrap().unwrap();
        let saved = host.dir().join("saved.tar");
        one.save(&[(image.clone(), image.names().to_vec())], File::create(&saved).unwrap()).unwrap();
        // In a layout the tag is all of the name.
        let of = |transport: &str| match transport {
            "oci-archive" => format!("{transport}:{}:1", saved.display()),
            _ => format!("{transport}:{}:acc-base:1", saved.display()),
        };
        let skopeo =
            |words: &[&str]| ok(Command::new("skopeo").arg("--insecure-policy").args(words).output());
        for (number, from) in ["docker-archive", "oci-archive"].map(of).iter().enumerate() {
            let config: serde_json::Value =
                serde_json::from_str(&skopeo(&["inspect", "--config", "--raw", from])).unwrap();
            assert_eq!(config, serde_json::from_slice::<serde_json::Value>(image.document()).unwrap());
            for (kind, to) in [("docker-archive", "d.tar"), ("oci-archive", "o.tar"), ("oci", "layout")] {
                let place = host.dir().join(format!("{number}{to}"));
                let target = format!("{kind}:{}:acc-base:1", place.display());
                skopeo(&["copy", "-q", from, &target]);
                let to = store(&host.dir().join(format!("state-{number}{to}")));
                let loaded = match kind {
                    "oci" => to.load_layout(&coracle_host::Dir::open(&place).unwrap()),
                    _ => to.load(File::open(&place).unwrap()),
                };
                let loaded = loaded.unwrap_or_else(|error| panic!("{kind} of {from}: {error}"));
                // Between the two formats skopeo writes the config anew.
                if from.starts_with("oci") == kind.starts_with("oci") {
                    assert_eq!(loaded[0].image.id(), image.id(), "{kind} of {from}");
                }
                assert_eq!(loaded[0].image.layers(), image.layers());
                assert_eq!(loaded[0].names, image.names(), "{kind} of {from}");
            }
        }
    })
}

#[test]
fn umoci_unpacks_what_we_save() {
    run(|host| {
        if !has(host, "umoci") || !has(host, "tar") {
            return;
        }
        let (one, _) = prepare(host);
        let image = one.image("acc-base:1").unwrap().unwrap();
        let saved = host.dir().join("saved.tar");
        one.save(&[(image.clone(), image.names().to_vec())], File::create(&saved).unwrap()).unwrap();
        let layout = host.dir().join("layout");
        std::fs::create_dir(&layout).unwrap();
        ok(Command::new("tar").arg("-xf").arg(&saved).arg("-C").arg(&layout).output());
        let bundle = host.dir().join("bundle");
        let from = format!("{}:1", layout.display());
        ok(Command::new("umoci").args(["unpack", "--image", &from]).arg(&bundle).output());
        assert!(bundle.join("rootfs/dir/sub/second").exists() && !bundle.join("rootfs/etc/group").exists());
    })
}
