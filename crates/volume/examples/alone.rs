//! Volumes without the rest: make one, borrow it, write through its mount, and find the data again; fill one from a
//! directory, and clone it.
//!
//! `sudo cargo run -p coracle-volume --example volume-alone`
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use coracle_host::{Dir, Mount, Staging};
use coracle_volume::{Terms, VolumeSpec, Volumes};

fn main() -> Result<(), Box<dyn Error>> {
    let place = std::env::temp_dir().join(format!("coracle-volume-{}", std::process::id()));
    let told = tell(&place);
    std::fs::remove_dir_all(&place)?;
    told
}

fn tell(place: &Path) -> Result<(), Box<dyn Error>> {
    let state = Dir::create(place, 0o700)?;
    let staging = Staging::open(&state.make("tmp", 0o700)?)?;
    let volumes = Volumes::new(&state.make("volumes", 0o700)?, &staging);

    let notes = volumes.open(&VolumeSpec::new("notes").label("for", "example"))?;
    println!("made     {} {:?}, on this host {}", notes.name(), notes.labels(), notes.path().display());

    let loan = notes.lend("the first visitor")?;
    std::fs::write(below(loan.mount()).join("note"), "remember me")?;
    println!("lent     {:?}, mounted nowhere, to {:?}", loan.mount(), notes.users()?);
    println!("refused  {}", volumes.remove("notes").unwrap_err());
    drop(loan);

    let loan = notes.lend_read_only("the second visitor")?;
    println!("found    {:?}", std::fs::read_to_string(below(loan.mount()).join("note"))?);
    println!("refused  {}", std::fs::write(below(loan.mount()).join("note"), "changed").unwrap_err());
    drop(loan);

    let tree = state.make("tree", 0o755)?;
    std::fs::write(tree.path_of("greeting"), "hello")?;
    let template = volumes.open(&VolumeSpec::new("template"))?;
    let loan = template.lend_on("the third visitor", &Terms::new().seed(&tree).read_only())?;
    println!(
        "filled   {}: {:?}",
        loan.was_seeded(),
        std::fs::read_to_string(below(loan.mount()).join("greeting"))?
    );
    drop(loan);
    let copy = volumes.clone_volume("template", &VolumeSpec::anonymous())?;
    println!("cloned   {} bytes into {}", copy.usage()?.bytes, copy.name());

    let pruned = volumes.prune(true, &[], |volume| volume.name() == "template")?;
    println!("pruned   {} bytes of {:?}", pruned.freed, pruned.removed);
    volumes.remove("template")?;
    println!("removed  {:?} are left", volumes.names()?);
    Ok(())
}

/// A path to a mount that is attached nowhere: through its descriptor.
fn below(mount: &Mount) -> PathBuf {
    format!("/proc/self/fd/{}", mount.as_fd().as_raw_fd()).into()
}
