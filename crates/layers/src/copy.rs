//! Trees that are no layers, as tars: a container's whole file system, or what is copied into and out of one.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use coracle_host::{Call, Dir, Mount, Overlay, Root};
use rustix::fs::OFlags;

use crate::apply::{self, Attributes, Into, Trust};
use crate::compression::Incoming;
use crate::diff::{self, Members, Packing};
use crate::owners::{Mapped, Owners};
use crate::skip::Skip;
use crate::tar::{Archive, Writer};
use crate::{ChainId, Context, Error, Result, Rootfs, Store};

/// How a tar is unpacked into a tree that is there already.
#[derive(Clone, Debug, Default)]
pub struct UnpackOptions {
    owner: Option<(u32, u32)>,
    owners: Option<Owners>,
    confined: bool,
}

impl UnpackOptions {
    /// Owners are the archive's, and links that the tree has are followed inside its root.
    pub fn new() -> UnpackOptions {
        UnpackOptions::default()
    }

    /// All that is made belongs to this user and group.
    #[must_use]
    pub fn owner(mut self, uid: u32, gid: u32) -> UnpackOptions {
        self.owner = Some((uid, gid));
        self
    }

    /// The archive's owners are others in the tree. One that is said to own all is one of the archive's, too.
    #[must_use]
    pub fn owners(mut self, owners: Owners) -> UnpackOptions {
        self.owners = Some(owners);
        self
    }

    /// An entry behind a link that leads out of the root is refused: right where the root is just a directory of this
    /// host, and links in it mean this host.
    #[must_use]
    pub fn confined(mut self) -> UnpackOptions {
        self.confined = true;
        self
    }
}

impl Store {
    /// Layers (the lowest first), and over them what an upper directory changes, as a mount to read. The upper directory may
    /// be in use; then what is read of what changes meanwhile is old or new.
    ///
    /// # Errors
    /// As of [`Store::rootfs`].
    pub fn view(&self, layers: &[ChainId], upper: &Dir) -> Result<Rootfs> {
        self.check_stack(layers)?;
        let held = self.hold(layers.last())?;
        let mount = match held.trees.is_empty() {
            true => Mount::bind(upper, false, "upper directory")?.read_only()?,
            false => {
                let lower: Vec<Dir> = std::iter::once(upper.clone()).chain(held.trees).collect();
                Mount::overlay(&Overlay { lower: &lower, upper: None, volatile: false, context: None })?
            }
        };
        Ok(Rootfs { mount, locks: held.locks })
    }

    /// Writes a whole file system, layers (the lowest first) and what an upper directory changes, as one tar. It is written as it
    /// is read: after a failure `out` has got a part of it. Sockets are left out.
    ///
    /// # Errors
    /// As of [`Store::view`]; what writing fails with; `InUse` where a file shrank while it was read.
    pub fn export(&self, layers: &[ChainId], upper: &Dir, out: impl Write) -> Result<()> {
        let export = || -> Result<()> {
            let view = self.view(layers, upper)?;
            let root =
                Root::new(view.mount.as_fd(), "file system").open("/", OFlags::RDONLY | OFlags::DIRECTORY)?;
            let mut writer = Writer::new(out);
            let plain = Attributes::default_dir();
            let how =
                Packing { root: &plain, clamp: None, skip: Some(&Skip::default()), plain: true, seen: None };
            diff::pack(&Dir::from_fd(root, "/"), &how, &mut writer)?;
            finish(writer)
        };
        export().context(|| "export file system")
    }
}

/// Writes the entry `name` of `dir`, with all below it where it is a directory, as a tar whose first member is called
/// `as_name` (`.` for the directory itself). Links are not followed. Sockets are left out.
///
/// # Errors
/// What reading or writing fails with; `InUse` where a file shrank while it was read.
pub fn pack_tree(dir: &Dir, name: &OsStr, as_name: &OsStr, out: impl Write) -> Result<()> {
    let mut writer = Writer::new(out);
    pack_members(dir, name, as_name, &mut writer)
        .and_then(|()| finish(writer))
        .context(|| format!("pack {:?}", dir.path_of(name)))
}

/// [`pack_tree`] of a tree whose owners are others in the archive; one that it has no id for is nobody there.
///
/// # Errors
/// As of [`pack_tree`].
pub fn pack_tree_of(
    dir: &Dir,
    name: &OsStr,
    as_name: &OsStr,
    owners: &Owners,
    out: impl Write,
) -> Result<()> {
    let mut writer = Writer::new(out);
    pack_members(dir, name, as_name, &mut Mapped { members: &mut writer, owners })
        .and_then(|()| finish(writer))
        .context(|| format!("pack {:?}", dir.path_of(name)))
}

fn pack_members(dir: &Dir, name: &OsStr, as_name: &OsStr, into: &mut impl Members) -> Result<()> {
    let plain = Attributes::default_dir();
    let how = Packing { root: &plain, clamp: None, skip: Some(&Skip::default()), plain: true, seen: None };
    diff::pack_entry(dir, name.as_bytes(), as_name.as_bytes(), &how, into)
}

/// Unpacks a tar (plain, gzip or zstd) into the directory `at` of a tree, an existing one whose path has no links in it.
/// Directories that are there are kept with what is in them and get the archive's attributes; other entries are
/// replaced, but never a directory by something else or the other way round.
///
/// Names with `..` are refused, leading slashes dropped. Nothing outside `root` is touched, whatever links the tree
/// and the archive have.
///
/// # Errors
/// `Invalid` and `Corrupt`, naming the entry. What came before it has been unpacked.
pub fn unpack_tree(root: &Dir, at: &Path, tar: impl Read, options: &UnpackOptions) -> Result<()> {
    let mut prefix = Vec::new();
    for part in at.components() {
        match part {
            Component::Normal(name) => prefix.push(name.as_bytes().to_vec()),
            Component::RootDir | Component::CurDir => {}
            _ => return Err(Error::invalid(format!("unpack to {at:?}: `..` in the path"))),
        }
    }
    let into = Into { prefix, owner: options.owner, owners: options.owners.clone() };
    let trust = if options.confined { Trust::CopyOut } else { Trust::CopyIn };
    let unpack = || {
        let mut archive = Archive::new(Incoming::new(tar, None)?);
        apply::unpack_into(&mut archive, root, into, trust)?;
        archive.drain()
    };
    unpack().context(|| format!("unpack to {at:?}"))
}

fn finish(writer: Writer<impl Write>) -> Result<()> {
    Ok(writer.finish()?.flush().call(|| "write(tar)")?)
}
