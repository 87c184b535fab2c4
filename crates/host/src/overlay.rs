//! Overlays (Documentation/filesystems/overlayfs).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MountPropagationFlags, MoveMountFlags, mount_change, move_mount};

use crate::mount::Context;
use crate::{Call, Dir, Error, Kind, Mount, Result, namespace};

/// What an overlay is made of.
pub struct Overlay<'a> {
    /// Read-only layers, the *top* one first. At least one; at least two where there is no `upper`.
    pub lower: &'a [Dir],
    /// Where changes go, and the overlay's own working directory on the same file system. `None`: read-only.
    pub upper: Option<(&'a Dir, &'a Dir)>,
    /// Changes need not survive a power cut: no syncs. Right for all that is thrown away or synced later as a whole.
    pub volatile: bool,
    /// The context of SELinux's that everything in it has, whatever the layers say.
    pub context: Option<&'a str>,
}

/// The same, as paths.
struct Paths {
    lower: Vec<String>,
    upper: Option<(String, String)>,
    volatile: bool,
    context: Option<String>,
}

fn through(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

impl Mount {
    /// An overlay. Directory renames and metadata-only copies are off, so that the upper directory is a plain
    /// difference that a layer can be made of.
    ///
    /// # Errors
    /// As of [`Mount::new`].
    pub fn overlay(parts: &Overlay<'_>) -> Result<Mount> {
        overlay(&Paths {
            lower: parts.lower.iter().map(through).collect(),
            upper: parts.upper.map(|(upper, work)| (through(upper), through(work))),
            volatile: parts.volatile,
            context: parts.context.map(str::to_owned),
        })
    }

    /// [`Mount::overlay`] of layers whose owners are seen through a user namespace's mapping, and so are those of what is
    /// changed: on disk nothing tells of it. `upper` and its working directory lie beside each other. To be called where files
    /// belong to the namespace's root ([`as_owner`](crate::as_owner)): the overlay does its own work as who mounted it.
    ///
    /// # Errors
    /// As of [`Mount::overlay`] and [`Mount::mapped`]; `Invalid` for an `upper` elsewhere than its working directory.
    pub fn overlay_mapped(parts: &Overlay<'_>, users: impl AsFd) -> Result<Mount> {
        let mapped = |dir: BorrowedFd<'_>, what: String| Mount::bind(dir, false, what)?.mapped(&users, false);
        let lower = parts.lower.iter().map(|dir| mapped(dir.as_fd(), dir.path().display().to_string()));
        let mut layers = lower.collect::<Result<Vec<Mount>>>()?;
        let upper = parts.upper.map(|(upper, work)| {
            let beside = openat(upper, "..", OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
            let beside = beside.call(|| format!("open({:?}, \"..\")", upper.path()))?;
            let mount = mapped(beside.as_fd(), format!("{}/..", upper.path().display()))?;
            let names = (name_in(&mount, upper)?, name_in(&mount, work)?);
            layers.push(mount);
            Ok::<_, Error>(names)
        });
        let paths = Paths {
            upper: upper.transpose()?,
            lower: layers.iter().take(parts.lower.len()).map(through).collect(),
            volatile: parts.volatile,
            context: parts.context.map(str::to_owned),
        };
        // An overlay itself can't be mapped, and takes no layers from mounts that are in no namespace: so they are, in one that
        // ends with the thread. The overlay keeps what it needs of them.
        namespace::in_new_mounts(|| {
            attach(&layers)?;
            overlay(&paths)
        })?
    }
}

/// Attaches mounts where nobody else sees them, in this thread's own mount namespace.
fn attach(mounts: &[Mount]) -> Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .call(|| "mount(\"/\", MS_REC|MS_PRIVATE)")?;
    let top = Mount::tmpfs(&[])?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&top, "", CWD, "/", flags).call(|| "move_mount(tmpfs)")?;
    for (index, mount) in mounts.iter().enumerate() {
        let name = index.to_string();
        mkdirat(&top, &name, Mode::RWXU).call(|| format!("mkdir(tmpfs, {name:?})"))?;
        let at = openat(&top, &name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        let at = at.call(|| format!("open(tmpfs, {name:?})"))?;
        move_mount(mount, "", &at, "", flags | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH)
            .call(|| format!("move_mount({})", mount.what()))?;
    }
    Ok(())
}

/// The path of a directory that is right below the root of this mount.
fn name_in(mount: &Mount, dir: &Dir) -> Result<String> {
    let invalid = || Error::new(Kind::Invalid, format!("{:?} is not beside the other one", dir.path()));
    let name = dir.path().file_name().and_then(|name| name.to_str()).ok_or_else(invalid)?;
    let found = openat(mount, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    let found = found.and_then(rustix::fs::fstat).call(|| format!("stat({:?})", dir.path()))?;
    let known = rustix::fs::fstat(dir).call(|| format!("fstat({:?})", dir.path()))?;
    match (found.st_dev, found.st_ino) == (known.st_dev, known.st_ino) {
        true => Ok(format!("{}/{name}", through(mount))),
        false => Err(invalid()),
    }
}

fn overlay(paths: &Paths) -> Result<Mount> {
    match overlay_of(paths, true) {
        // Before overlayfs learnt the new interface (6.5) every option was taken as text, and refused only now.
        Err(error) if error.errno() == Some(Errno::INVAL) => overlay_of(paths, false),
        other => other,
    }
}

/// `single`: layers one by one (6.8), else as one list, whose length older kernels limit.
fn overlay_of(paths: &Paths, single: bool) -> Result<Mount> {
    let context = Context::open("overlay")?;
    context.set("source", "overlay")?;
    match single {
        true => paths.lower.iter().try_for_each(|layer| context.set("lowerdir+", layer))?,
        false => context.set("lowerdir", &paths.lower.join(":"))?,
    }
    let access = match &paths.upper {
        Some((upper, work)) => {
            context.set("upperdir", upper)?;
            context.set("workdir", work)?;
            if paths.volatile {
                context.set("volatile", "")?;
            }
            "rw"
        }
        None => "ro",
    };
    for (key, value) in [("redirect_dir", "off"), ("metacopy", "off"), ("index", "off")] {
        context.set(key, value)?;
    }
    if let Some(label) = &paths.context {
        context.set("context", label)?;
    }
    context.mount(MountAttrFlags::empty(), format!("overlay({} layers, {access})", paths.lower.len()))
}
