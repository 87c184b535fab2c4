//! Layers as a file system: a detached mount.

use std::os::fd::BorrowedFd;

use coracle_host::{Call, Dir, Lock, Mount, Overlay};
use rustix::fs::{AtFlags, Gid, Mode, Uid};

use crate::layer::missing;
use crate::store::EMPTY;
use crate::{ChainId, Error, Result, Store, apply, xattr};

/// A root file system. While it lives, its layers stay.
#[derive(Debug)]
pub struct Rootfs {
    /// The mount, in no namespace yet.
    pub mount: Mount,
    /// The layers in use, each locked shared. They must live as long as the mount is attached anywhere.
    pub locks: Vec<Lock>,
}

/// How a root file system is shown to its container.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shown<'a> {
    /// With a user namespace's mapping of owners: what is root's in the layers belongs to the namespace's root, and what that
    /// makes is root's where changes go. Then it is to be mounted as [`Mount::overlay_mapped`] is.
    pub users: Option<BorrowedFd<'a>>,
    /// All of it in this context of SELinux's.
    pub context: Option<&'a str>,
}

impl Store {
    /// Mounts `layers` (the lowest first; each the parent of the next) over each other. Changes go to `upper`, a
    /// directory and overlay's own working directory beside it (both on one file system); without one the mount is
    /// read-only. No layers at all make an empty root.
    ///
    /// An empty upper directory first gets the owner and the attributes of the root below it, and mode 0755: an image whose
    /// tar was made of a private directory is still to be entered by every user, as docker has it.
    ///
    /// `volatile` leaves out all syncs: right for what is thrown away or becomes a layer. An upper directory used so
    /// can't be mounted again after a crash.
    ///
    /// # Errors
    /// `NotFound`, naming the layer; `Invalid` for layers that are not each other's parents; else as of
    /// [`Mount::overlay`].
    pub fn rootfs(&self, layers: &[ChainId], upper: Option<(&Dir, &Dir)>, volatile: bool) -> Result<Rootfs> {
        self.mount(layers, upper, volatile, Shown::default())
    }

    /// [`Store::rootfs`], shown otherwise than the layers are. `upper` and its working directory lie beside each other.
    ///
    /// # Errors
    /// As of [`Store::rootfs`] and [`Mount::overlay_mapped`].
    pub fn rootfs_shown(
        &self,
        layers: &[ChainId],
        upper: (&Dir, &Dir),
        volatile: bool,
        shown: Shown<'_>,
    ) -> Result<Rootfs> {
        self.mount(layers, Some(upper), volatile, shown)
    }

    fn mount(
        &self,
        layers: &[ChainId],
        upper: Option<(&Dir, &Dir)>,
        volatile: bool,
        Shown { users, context }: Shown<'_>,
    ) -> Result<Rootfs> {
        self.check_stack(layers)?;
        let held = self.hold(layers.last())?;
        let empty = self.layers.dir(EMPTY)?;
        if let Some((upper, _)) = upper
            && upper.names()?.is_empty()
        {
            let like = apply::root_attributes(&held.trees)?;
            let call = |name: &str| format!("{name}({:?})", upper.path());
            let (uid, gid) = (Uid::from_raw(like.uid), Gid::from_raw(like.gid));
            rustix::fs::fchown(upper, Some(uid), Some(gid)).call(|| call("chown"))?;
            for (name, value) in &like.xattrs {
                xattr::set(upper, xattr::os(b"."), name, value)?;
            }
            rustix::fs::chmodat(upper, ".", Mode::from_raw_mode(0o755), AtFlags::empty())
                .call(|| call("chmod"))?;
        }
        let mount = match (upper, held.trees.as_slice()) {
            (None, []) => Mount::bind(&empty, false, "no layers")?.read_only()?,
            (None, [only]) => Mount::bind(only, false, "1 layer")?.read_only()?,
            (upper, trees) => {
                let empty = [empty];
                let lower = if trees.is_empty() { &empty } else { trees };
                let overlay = Overlay { lower, upper, volatile, context };
                match users {
                    Some(users) => Mount::overlay_mapped(&overlay, users)?,
                    None => Mount::overlay(&overlay)?,
                }
            }
        };
        Ok(Rootfs { mount, locks: held.locks })
    }

    /// That `layers` is what the records say of its last one.
    pub(crate) fn check_stack(&self, layers: &[ChainId]) -> Result<()> {
        if let Some(gone) = layers.iter().find_map(|id| match self.layer(id) {
            Ok(Some(_)) => None,
            Ok(None) => Some(missing(id)),
            Err(error) => Some(error),
        }) {
            return Err(gone);
        }
        let stack: Vec<_> = self.stack(layers.last())?.iter().map(|layer| layer.chain_id()).collect();
        if stack == layers {
            return Ok(());
        }
        let text = format!("the layers {layers:?} are not each other's parents, the lowest first");
        Err(Error::invalid(text))
    }
}
