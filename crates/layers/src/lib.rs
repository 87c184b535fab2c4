//! Images in a content-addressed store, layers as tar and tree, and root filesystems as detached mounts.
//!
//! ```no_run
//! use coracle_layers::host::{Dir, Staging};
//! use coracle_layers::{Capture, Store};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let state = Dir::create("/var/lib/example", 0o700)?;
//! let staging = Staging::open(&state.make("tmp", 0o700)?)?;
//! let store = Store::open(&state, &staging)?;
//!
//! // An image of this host's shell: no registry, and the same digest each time.
//! let image = store.capture(&Capture::new().programs(["/bin/sh", "/bin/ls"]).plan()?)?;
//! store.tag(&image, &"base:1".parse()?)?; // now `skopeo inspect oci:/var/lib/example:base:1` knows it
//!
//! // Its tree, as a mount that nobody sees until somebody attaches it.
//! let rootfs = store.rootfs(image.layers(), None, false)?;
//! # Ok(())
//! # }
//! ```
//!
//! What matters here:
//!
//! - [`Store`]: the images, layers and blobs of a state directory, shared by any number of processes.
//! - [`Layer`]: a tar and the tree that it unpacks to, named by its [`ChainId`]. It comes from a tar
//!   ([`Store::add_layer_from_tar`]) or from what a container changed ([`Store::add_layer_from_upper`]).
//! - [`Image`]: a config over layers; [`Reference`] is its name. From layers ([`Store::commit`]), from the tar of a
//!   root file system ([`Store::import`]), or from programs of this host ([`Store::capture`], [`Capture`]).
//! - Archives of images: [`Store::save`] and [`Store::load`], as docker, podman and skopeo exchange them.
//! - Images out of registries (feature `registry`): `Store::pull`.
//! - What a container changed: told by [`Store::changes`], made a layer of by [`Store::copy_layer_from_upper`], and its whole
//!   file system written by [`Store::export`]. Other trees are copied by [`pack_tree`] and [`unpack_tree`].
//! - [`Rootfs`]: layers (and a directory for changes) as a detached mount, with the locks that keep them.
//!
//! # Untrusted input
//!
//! Archives may come from anybody. Names are resolved one component at a time, links read and followed as if the
//! layer were the root: nothing outside is ever read or written, whatever names, links, devices and sizes an archive
//! claims. What can't be honest is refused with the entry named, and a refused archive leaves nothing in the store (of one
//! with several layers those that were right may stay, as layers of no image).
//! How much an archive may unpack to is limited by the disk only.
//!
//! # On disk
//!
//! The state directory is an OCI image layout (image-spec 1.1), so skopeo and crane read it. Of layers that came from an upper
//! directory there is only the tree, from which the same tar is made whenever somebody asks ([`Store::save`],
//! [`Store::write_layer`]); [`Store::complete`] stores an image's for programs that read the directory. Everything is
//! staged and renamed into place after it is durable: a crash leaves whole layers and images or none. Locks are short, but
//! for the shared one on each layer in use.
//!
//! # Limits
//!
//! Root (or `CAP_SYS_ADMIN`, `CAP_MKNOD`, `CAP_CHOWN` and their like) is needed to unpack and mount. There is no
//! garbage collection yet: removing an image frees its names, not its blobs. The registry client (feature `registry`) pulls
//! images, and pushes blobs and manifests, not yet whole images. Sparse tar members
//! and layers packed with anything but gzip and zstd are refused.
//!
//! # Should I be using this crate?
//!
//! Its first purpose is to be the image store of Coracle. Alone it serves programs that inspect, make, unpack or mount
//! images without running them. If you want containers, use `coracle`.

#![forbid(unsafe_code)]

mod apply;
mod archive;
mod arrivals;
mod blobs;
mod capture;
mod changes;
mod compression;
mod contents;
mod copy;
mod diff;
mod digest;
mod document;
mod error;
mod flush;
mod forecast;
mod hasher;
mod hashing;
mod image;
mod import;
mod json;
mod layer;
mod listing;
mod marks;
mod names;
mod owners;
mod packed;
mod platform;
mod reference;
#[cfg(feature = "registry")]
pub mod registry;
mod rootfs;
mod seen;
mod skip;
mod store;
mod tar;
mod tarball;
mod xattr;

pub use coracle_host as host;

pub use archive::Loaded;
pub use blobs::{Blob, BlobReader, BlobWriter, Blobs};
pub use capture::{Capture, CapturePlan};
pub use changes::{Change, ChangeKind};
pub use compression::Compression;
pub use contents::LayerEntry;
pub use copy::{UnpackOptions, pack_tree, pack_tree_of, unpack_tree};
pub use digest::{ChainId, DiffId, Digest, ImageId};
pub(crate) use error::Context;
pub use error::{Error, Result};
pub use forecast::{Coming, Forecast};
pub use image::{Image, Removed};
pub use import::{ImportOptions, host_config};
pub use layer::{Layer, UpperOptions};
pub use owners::{Ids, Owners};
pub use packed::{CompressionOptions, PackedLayer};
pub use platform::Platform;
pub use reference::Reference;
pub use rootfs::{Rootfs, Shown};
pub use store::Store;
pub use tarball::LayerTree;
