//! Mounts as descriptors: seen by nobody until somebody attaches them, gone with their last fd.
#![allow(unsafe_code)] // mount_setattr(2) has no safe wrapper yet

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxAttributes, StatxFlags, openat2, statx};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, open_tree, unmount,
};

use crate::{Call, Error, Kind, Result};

/// A detached mount. It is in no mount namespace: paths below it are reached through its descriptor, and a
/// container gets it by move_mount(2). When the last descriptor goes before that, so does the mount.
pub struct Mount {
    fd: OwnedFd,
    what: String,
}

/// Whether what is mounted and unmounted below a mount is so below its peers, too (mount_namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Nothing goes in either direction.
    Private,
    /// From its master, not back.
    Slave,
    /// In both directions.
    Shared,
    /// Nothing goes in either direction, and nobody can bind it elsewhere.
    Unbindable,
}

impl Mount {
    /// A new mount of `source`'s tree, from the directory (or file) that the fd is open at. `recursive` takes
    /// along what is mounted below it.
    ///
    /// # Errors
    /// As of open_tree(2).
    pub fn bind(source: impl AsFd, recursive: bool, what: impl Into<String>) -> Result<Mount> {
        let what = what.into();
        let mut flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        if recursive {
            flags |= OpenTreeFlags::AT_RECURSIVE;
        }
        let fd = open_tree(source, "", flags).call(|| format!("open_tree({what}, OPEN_TREE_CLONE)"))?;
        Ok(Mount { fd, what })
    }

    /// [`Mount::bind`] of a path of this host, links followed.
    ///
    /// # Errors
    /// As of open_tree(2).
    pub fn bind_path(source: impl AsRef<std::path::Path>, recursive: bool) -> Result<Mount> {
        let source = source.as_ref();
        let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        if recursive {
            flags |= OpenTreeFlags::AT_RECURSIVE;
        }
        let fd = open_tree(CWD, source, flags).call(|| format!("open_tree({source:?}, OPEN_TREE_CLONE)"))?;
        Ok(Mount { fd, what: format!("{}", source.display()) })
    }

    /// A new mount of what is mounted at `path` in the mount namespace that the fd refers to, which no link may be on the
    /// way to. A thread of its own goes there; the caller's never leaves its namespace.
    ///
    /// # Errors
    /// As of setns(2), openat2(2) and open_tree(2); `Invalid` where nothing is mounted at just this place.
    pub fn within(namespace: impl AsFd, path: impl AsRef<std::path::Path>) -> Result<Mount> {
        let (namespace, path) = (namespace.as_fd(), path.as_ref());
        crate::namespace::in_mounts_of(namespace, || {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let no_links = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            let place = openat2(CWD, path, flags, Mode::empty(), no_links)
                .call(|| format!("openat2({path:?}, RESOLVE_NO_SYMLINKS)"))?;
            let about = statx(&place, "", AtFlags::EMPTY_PATH, StatxFlags::empty());
            let about = about.call(|| format!("statx({path:?})"))?;
            if !about.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
                return Err(Error::new(Kind::Invalid, format!("nothing is mounted at {path:?}")));
            }
            Mount::bind(place, false, path.display().to_string())
        })?
    }

    /// A file system of `fstype` with `options`; an option without a value is a flag. mountinfo (proc(5)) has its type for
    /// its source, unless `source` is one of them.
    ///
    /// # Errors
    /// As of fsopen(2), fsconfig(2) and fsmount(2), with the file system's own message where it gave one.
    pub fn new(fstype: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> Result<Mount> {
        let context = Context::open(fstype)?;
        if !options.iter().any(|(key, _)| *key == "source") {
            context.set("source", fstype)?;
        }
        for (key, value) in options {
            context.set(key, value)?;
        }
        context.mount(attributes, fstype.to_owned())
    }

    /// An empty tmpfs, `nosuid,nodev`; see tmpfs(5) for the options.
    ///
    /// # Errors
    /// As of [`Mount::new`].
    pub fn tmpfs(options: &[(&str, &str)]) -> Result<Mount> {
        Mount::new("tmpfs", options, MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV)
    }

    /// The same mount, read-only, and all below it where it was taken recursively.
    ///
    /// # Errors
    /// As of mount_setattr(2).
    pub fn read_only(self) -> Result<Mount> {
        self.set(libc::MOUNT_ATTR_RDONLY, 0, true)
    }

    /// The same mount, read-only; what is mounted below it stays as it is.
    ///
    /// # Errors
    /// As of mount_setattr(2).
    pub fn read_only_here(self) -> Result<Mount> {
        self.set(libc::MOUNT_ATTR_RDONLY, 0, false)
    }

    /// The same mount with these attributes set and those cleared, and all below it where `recursive`. Of the three ways to
    /// keep times of access only one can be set, which replaces the others.
    ///
    /// # Errors
    /// As of mount_setattr(2).
    pub fn attributes(self, set: MountAttrFlags, clear: MountAttrFlags, recursive: bool) -> Result<Mount> {
        const TIMES: MountAttrFlags = MountAttrFlags::MOUNT_ATTR__ATIME;
        let times = set.intersects(TIMES) || clear.intersects(TIMES);
        let clear = if times { clear | TIMES } else { clear };
        self.change(u64::from(set.bits()), u64::from(clear.bits()), 0, recursive)
    }

    /// The same mount with owners shown through a user namespace's mapping (`MOUNT_ATTR_IDMAP`): what belongs to an id
    /// inside it belongs, seen through the mount, to the id that this is outside. With all below it where `recursive`.
    ///
    /// # Errors
    /// As of mount_setattr(2): `EINVAL` for a file system that has no mapped mounts on this kernel, `EPERM` for a mount that is
    /// mapped already.
    pub fn mapped(self, namespace: impl AsFd, recursive: bool) -> Result<Mount> {
        let attr = libc::mount_attr {
            attr_set: libc::MOUNT_ATTR_IDMAP,
            attr_clr: 0,
            propagation: 0,
            userns_fd: namespace.as_fd().as_raw_fd() as u64,
        };
        self.set_attributes(&attr, recursive)
    }

    /// The same mount with no events passed to or from the mount it was cloned of.
    ///
    /// # Errors
    /// As of mount_setattr(2).
    pub fn private(self) -> Result<Mount> {
        self.propagation(Propagation::Private, true)
    }

    /// The same mount with another propagation, and all below it where `recursive`. The clone of a shared mount is its
    /// peer until this says otherwise.
    ///
    /// # Errors
    /// As of mount_setattr(2).
    pub fn propagation(self, propagation: Propagation, recursive: bool) -> Result<Mount> {
        let flag = match propagation {
            Propagation::Private => libc::MS_PRIVATE,
            Propagation::Slave => libc::MS_SLAVE,
            Propagation::Shared => libc::MS_SHARED,
            Propagation::Unbindable => libc::MS_UNBINDABLE,
        };
        self.set(0, flag, recursive)
    }

    /// The kernel's number of it, which it keeps when it is attached. No other mount of this boot has or gets it; before
    /// Linux 6.8 another one may get it when this one is gone.
    ///
    /// # Errors
    /// As of statx(2).
    pub fn id(&self) -> Result<u64> {
        mount_id(&self.fd, &self.what)
    }

    /// Unmounts what is mounted at `path`, which is a directory that no link leads to, in the mount namespace that the fd
    /// refers to: with all that is mounted below, and only where it is the mount with this [id](Mount::id). `Ok(false)`:
    /// that one is not there, or something else was mounted over it.
    ///
    /// # Errors
    /// As of setns(2) and umount2(2).
    pub fn detach(namespace: impl AsFd, path: impl AsRef<std::path::Path>, id: u64) -> Result<bool> {
        let (namespace, path) = (namespace.as_fd(), path.as_ref());
        crate::namespace::in_mounts_of(namespace, || {
            let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let top = match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
                Err(Errno::NOENT | Errno::NOTDIR) => return Ok(false),
                top => top.call(|| format!("open({path:?})"))?,
            };
            if mount_id(&top, path.display())? != id {
                return Ok(false);
            }
            let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
            unmount(path, flags).call(|| format!("umount({path:?}, MNT_DETACH)"))?;
            Ok(true)
        })?
    }

    /// What it is, in words: `tmpfs`, `overlay(3 layers, rw)`.
    pub fn what(&self) -> &str {
        &self.what
    }

    fn set(self, attr_set: u64, propagation: u64, recursive: bool) -> Result<Mount> {
        self.change(attr_set, 0, propagation, recursive)
    }

    fn change(self, attr_set: u64, attr_clr: u64, propagation: u64, recursive: bool) -> Result<Mount> {
        self.set_attributes(&libc::mount_attr { attr_set, attr_clr, propagation, userns_fd: 0 }, recursive)
    }

    fn set_attributes(self, attr: &libc::mount_attr, recursive: bool) -> Result<Mount> {
        let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
        // SAFETY: the fd is open for the whole call, as is one that `attr` names, the path is a NUL-terminated literal, and
        // `attr` is a live `mount_attr` whose size is the one given.
        let result = unsafe {
            libc::syscall(
                libc::SYS_mount_setattr,
                self.fd.as_raw_fd(),
                c"".as_ptr(),
                flags,
                std::ptr::from_ref(attr),
                size_of::<libc::mount_attr>(),
            )
        };
        match result {
            0 => Ok(self),
            _ => {
                let errno = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO);
                Err(Error::os(format!("mount_setattr({})", self.what), errno))
            }
        }
    }
}

/// Of the mount that the fd is open in.
fn mount_id(fd: impl AsFd, what: impl std::fmt::Display) -> Result<u64> {
    /// `STATX_MNT_ID_UNIQUE`; older kernels give the other one.
    const UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);
    for wanted in [UNIQUE, StatxFlags::MNT_ID] {
        let told = statx(&fd, "", AtFlags::EMPTY_PATH, wanted).call(|| format!("statx({what})"))?;
        if told.stx_mask & wanted.bits() != 0 {
            return Ok(told.stx_mnt_id);
        }
    }
    Err(Error::new(Kind::Unsupported, format!("statx({what}): numbers of mounts need Linux 5.8")))
}

impl AsFd for Mount {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Mount> for OwnedFd {
    fn from(mount: Mount) -> OwnedFd {
        mount.fd
    }
}

impl std::fmt::Debug for Mount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mount({})", self.what)
    }
}

/// A file system being configured (fsopen(2)).
pub(crate) struct Context<'a> {
    fd: OwnedFd,
    fstype: &'a str,
}

impl<'a> Context<'a> {
    pub(crate) fn open(fstype: &'a str) -> Result<Context<'a>> {
        let fd = fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC).call(|| format!("fsopen({fstype:?})"))?;
        Ok(Context { fd, fstype })
    }

    pub(crate) fn set(&self, key: &str, value: &str) -> Result<()> {
        let result = if value.is_empty() {
            fsconfig_set_flag(self.fd.as_fd(), key)
        } else {
            fsconfig_set_string(self.fd.as_fd(), key, value)
        };
        result.map_err(|errno| self.failed(format!("fsconfig({}, {key}={value})", self.fstype), errno))
    }

    pub(crate) fn mount(&self, attributes: MountAttrFlags, what: String) -> Result<Mount> {
        fsconfig_create(self.fd.as_fd())
            .map_err(|errno| self.failed(format!("fsconfig({what}, create)"), errno))?;
        let fd = fsmount(self.fd.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .map_err(|errno| self.failed(format!("fsmount({what})"), errno))?;
        Ok(Mount { fd, what })
    }

    /// The file system says in its own words what it didn't like; those words belong to the error.
    fn failed(&self, call: String, errno: Errno) -> Error {
        let mut said = String::new();
        let mut line = [0u8; 512];
        while let Ok(read) = rustix::io::read(&self.fd, &mut line) {
            if read == 0 {
                break;
            }
            let text = String::from_utf8_lossy(&line[..read]);
            said.push_str(if said.is_empty() { "" } else { "; " });
            said.push_str(text.trim_start_matches(['e', 'w', 'i']).trim());
        }
        let call = if said.is_empty() { call } else { format!("{call} [{said}]") };
        Error::os(call, errno)
    }
}
