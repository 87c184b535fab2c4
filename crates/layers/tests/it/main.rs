//! The store on a real file system, as root of a private host.

mod archive;
mod archive_oracle;
mod capture;
mod changes;
mod copy;
mod fuzz;
mod hostile;
mod images;
mod oracle;
mod overlay;
mod pack;
#[cfg(feature = "registry")]
mod pull;
#[cfg(feature = "registry")]
mod pull_hostile;
mod races;
#[cfg(feature = "registry")]
mod registry;
#[cfg(feature = "registry")]
mod registry_hostile;
#[cfg(feature = "registry")]
mod server;
mod tree;
mod unpack;

use std::path::{Path, PathBuf};

use coracle_host::{Dir, Mount, Staging};
use coracle_layers::{Layer, Store};
use rustix::mount::{MoveMountFlags, UnmountFlags, move_mount, unmount};

/// A store in a new directory.
fn store(place: &Path) -> Store {
    let state = Dir::create(place, 0o700).unwrap();
    let staging = Staging::open(&state.make("tmp", 0o700).unwrap()).unwrap();
    Store::open(&state, &staging).unwrap()
}

/// Where a store keeps a layer's tree.
fn tree_of(place: &Path, layer: &Layer) -> PathBuf {
    place.join("layers").join(layer.chain_id().hex()).join("fs")
}

/// The bytes of a layer, stored or not.
fn blob_of(store: &Store, layer: &Layer) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.write_layer(&layer.chain_id(), &mut bytes).unwrap();
    bytes
}

/// A mount at a path, while it lives.
struct Attached(PathBuf);

fn attach(mount: &Mount, at: &Path) -> Attached {
    std::fs::create_dir_all(at).unwrap();
    move_mount(mount, "", rustix::fs::CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).unwrap();
    Attached(at.to_owned())
}

impl Drop for Attached {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::DETACH).unwrap();
    }
}

/// Nothing half done is lying about in a store.
fn assert_nothing_left(place: &Path, layers: usize, blobs: usize) {
    let count = |dir: &str| {
        let names = std::fs::read_dir(place.join(dir)).unwrap().map(|e| e.unwrap().file_name());
        names.filter(|name| !name.to_string_lossy().starts_with('.')).collect::<Vec<_>>()
    };
    assert_eq!(count("layers").len(), layers, "{:?}", count("layers"));
    assert_eq!(count("blobs/sha256").len(), blobs, "{:?}", count("blobs/sha256"));
    for corner in std::fs::read_dir(place.join("tmp")).unwrap() {
        let names: Vec<_> =
            std::fs::read_dir(corner.unwrap().path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["lock"]);
    }
}
