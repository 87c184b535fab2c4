//! What other programs make of our store.

use std::path::Path;
use std::process::{Command, Output};

use coracle_layers::{Capture, UpperOptions};
use coracle_testhost::{Host, run, skip};

use crate::tree::{assert_same, fill};
use crate::{attach, store};

/// Whether `program` is there; without it the test is a named skip.
pub fn has(host: &Host, program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        skip(host.test(), &format!("{program} is not installed"));
    }
    found
}

#[track_caller]
pub fn ok(output: std::io::Result<Output>) -> String {
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A store with the image `acc-base:1`: a captured shell, and a layer of everything that changes something.
pub fn prepare(host: &Host) -> (coracle_layers::Store, coracle_layers::Image) {
    let store = store(&host.dir().join("state"));
    let base = store.capture(&Capture::new().program("/bin/sh").plan().unwrap()).unwrap();
    let dir = coracle_host::Dir::open(host.dir()).unwrap();
    let (upper, work) = (dir.make("upper", 0o700).unwrap(), dir.make("work", 0o700).unwrap());
    let rootfs = store.rootfs(base.layers(), Some((&upper, &work)), true).unwrap();
    let merged = host.dir().join("merged");
    let mounted = attach(&rootfs.mount, &merged);
    fill(&merged);
    // Go's tar reader takes an empty pax value for none.
    rustix::fs::lremovexattr(merged.join("empty"), "user.empty").unwrap();
    std::fs::remove_file(merged.join("etc/group")).unwrap();
    std::fs::remove_dir_all(merged.join("var")).unwrap();
    std::fs::create_dir(merged.join("var")).unwrap();
    drop(mounted);
    drop(rootfs);
    let parent = base.layers()[0];
    let layer = store.add_layer_from_upper(Some(&parent), &dir, "upper", &UpperOptions::new()).unwrap();
    let image = store.commit(base.config().clone(), &[parent, layer.chain_id()]).unwrap();
    store.tag(&image, &"acc-base:1".parse().unwrap()).unwrap();
    store.complete(&image).unwrap();
    (store, image)
}

#[test]
fn skopeo_copies_from_the_store() {
    run(|host| {
        if !has(host, "skopeo") {
            return;
        }
        let (store, image) = prepare(host);
        let from = format!("oci:{}:acc-base:1", host.dir().join("state").display());
        let to = host.dir().join("copy");
        let inspected =
            ok(Command::new("skopeo").args(["inspect", "--format", "{{.Digest}}", &from]).output());
        assert_eq!(inspected.trim(), image.manifest().to_string());
        let policy = ["--insecure-policy", "copy", "-q"];
        ok(Command::new("skopeo").args(policy).arg(&from).arg(format!("oci:{}:x", to.display())).output());
        for digest in image.layers().iter().map(|id| store.layer(id).unwrap().unwrap().diff_id()) {
            // skopeo may compress; whatever it wrote, ours was readable and its digests held.
            assert!(image.config().rootfs().diff_ids().contains(&digest.to_string()));
        }
        assert!(std::fs::read_dir(to.join("blobs/sha256")).unwrap().count() >= 4);
    })
}

#[test]
fn umoci_unpacks_to_our_tree() {
    run(|host| {
        if !has(host, "umoci") {
            return;
        }
        let (store, image) = prepare(host);
        let bundle = host.dir().join("bundle");
        let from = format!("{}:acc-base:1", host.dir().join("state").display());
        ok(Command::new("umoci").args(["unpack", "--image", &from]).arg(&bundle).output());
        let rootfs = store.rootfs(image.layers(), None, false).unwrap();
        let ours = host.dir().join("ours");
        let _mounted = attach(&rootfs.mount, &ours);
        assert!(!ours.join("etc/group").exists() && !Path::new(&ours).join("var/tmp").exists());
        assert_same(&ours, &bundle.join("rootfs"));
    })
}

#[test]
fn gnu_tar_lists_what_we_write() {
    run(|host| {
        if !has(host, "tar") {
            return;
        }
        let (store, image) = prepare(host);
        let layer = store.layer(&image.layers()[1]).unwrap().unwrap();
        let blob = host.dir().join("state/blobs/sha256").join(layer.blob().digest.hex());
        let listed =
            ok(Command::new("tar").args(["--list", "--quoting-style=literal", "-f"]).arg(blob).output());
        let long = "n".repeat(200);
        for name in
            ["dir/sub/second", "etc/.wh.group", "var/.wh..wh..opq", "ünï", &format!("{long}/{long}/{long}")]
        {
            assert!(listed.lines().any(|line| line == name), "{name}: not in\n{listed}");
        }
    })
}

#[test]
fn we_import_what_gnu_tar_writes() {
    run(|host| {
        if !has(host, "tar") {
            return;
        }
        let tree = host.dir().join("tree");
        fill(&tree);
        let place = host.dir().join("state");
        let store = store(&place);
        for format in ["gnu", "posix"] {
            let archive = host.dir().join(format);
            let xattrs = ["--xattrs", "--xattrs-include=*"];
            let mut command = Command::new("tar");
            command.args(["--create", "--numeric-owner", "--format", format]).args(xattrs);
            ok(command.arg("-f").arg(&archive).arg("-C").arg(&tree).arg(".").output());
            let file = std::fs::File::open(&archive).unwrap();
            let image = store.import(file, &coracle_layers::ImportOptions::new()).unwrap();
            let layer = store.layer(&image.layers()[0]).unwrap().unwrap();
            if format == "posix" {
                assert_same(&tree, &crate::tree_of(&place, &layer));
            } else {
                let ours = crate::tree_of(&place, &layer);
                let (theirs, ours) = (crate::tree::describe(&tree), crate::tree::describe(&ours));
                assert!(theirs.keys().eq(ours.keys()));
            }
        }
    })
}
