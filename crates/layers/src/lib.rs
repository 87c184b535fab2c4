//! Images in a content-addressed store, layers as tar and tree, and root filesystems as detached mounts.
#![forbid(unsafe_code)]

mod apply;
mod blobs;
mod compression;
mod diff;
mod digest;
mod error;
mod image;
mod import;
mod json;
mod layer;
mod names;
mod reference;
mod rootfs;
mod store;
mod tar;
mod xattr;

pub use blobs::{Blob, BlobReader, BlobWriter, Blobs};
pub use digest::{ChainId, DiffId, Digest, ImageId};
pub(crate) use error::Context;
pub use error::{Error, Result};
pub use image::{Image, Removed};
pub use import::{ImportOptions, host_config};
pub use layer::{Layer, UpperOptions};
pub use reference::Reference;
pub use rootfs::Rootfs;
pub use store::Store;
