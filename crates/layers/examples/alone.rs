//! This crate alone: an image of this host's shell (or of a tar given as argument), its layers, and its tree as a
//! mount that nobody else sees. Needs root.
#![allow(clippy::print_stdout)]

use coracle_layers::host::{Dir, Staging};
use coracle_layers::{Capture, ImportOptions, Store};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let place = std::env::temp_dir().join(format!("layers-alone-{}", std::process::id()));
    let state = Dir::create(&place, 0o700)?;
    let staging = Staging::open(&state.make("tmp", 0o700)?)?;
    let store = Store::open(&state, &staging)?;

    let image = match std::env::args_os().nth(1) {
        Some(tar) => store.import(std::fs::File::open(tar)?, &ImportOptions::new())?,
        None => {
            let plan = Capture::new().programs(["/bin/sh", "/bin/ls"]).plan()?;
            print!("to be captured:\n{plan}");
            store.capture(&plan)?
        }
    };
    store.tag(&image, &"alone:1".parse()?)?;

    for image in store.list()? {
        println!(
            "{:?}: id {}, manifest {}, {} bytes",
            image.names(),
            image.id(),
            image.manifest(),
            image.size()
        );
        for id in image.layers() {
            let layer = store.layer(id)?.ok_or("the layer is gone")?;
            println!("  layer {id}: {} as {}", layer.blob().digest, layer.media_type());
        }
    }

    let rootfs = store.rootfs(image.layers(), None, false)?;
    println!("{} shows:", rootfs.mount.what());
    let root = Dir::from_fd(rootfs.mount.into(), "/");
    for name in root.dir(".")?.names()? {
        println!("  /{}", name.display());
    }
    Ok(std::fs::remove_dir_all(&place)?)
}
