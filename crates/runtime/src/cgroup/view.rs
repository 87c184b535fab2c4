//! What a container sees of its own group (config.md, "Mounts", type `cgroup`).

use std::ffi::OsStr;
use std::path::PathBuf;

use coracle_host::{Call, Mount};
use rustix::fs::{Mode, mkdirat, symlinkat};
use rustix::mount::MountAttrFlags;

use super::{Cgroup, Version};
use crate::error::{Doing, Result};

impl Cgroup {
    /// The mounts through which a container sees its group, and only that: where each belongs, relative to where the
    /// whole belongs (`/sys/fs/cgroup`), outermost first. Of version 2 alone it is the group itself, else a directory
    /// with one of each hierarchy, by the host's names.
    ///
    /// # Errors
    /// As of open_tree(2), fsopen(2) and mount_setattr(2).
    pub fn view(&self, read_only: bool) -> Result<Vec<(PathBuf, Mount)>> {
        self.mounts(read_only, false).doing(|| format!("show the control group {}", self.place()))
    }

    /// What a container sees that has the host's namespace of control groups: of version 2 alone all that this process
    /// does, as docker and runc have it, and else as of [`view`](Self::view).
    ///
    /// # Errors
    /// As there.
    pub fn view_of_host(&self, read_only: bool) -> Result<Vec<(PathBuf, Mount)>> {
        self.mounts(read_only, true).doing(|| "show the host's control groups")
    }

    fn mounts(&self, read_only: bool, whole: bool) -> coracle_host::Result<Vec<(PathBuf, Mount)>> {
        let common = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let access = if read_only { MountAttrFlags::MOUNT_ATTR_RDONLY } else { MountAttrFlags::empty() };
        let seal = |mount: Mount| mount.attributes(common | access, MountAttrFlags::empty(), false);
        let bind = |dir: &std::path::Path| Mount::bind_path(dir, false);
        let all: Vec<_> = self.directories().collect();
        if let [(hierarchy, dir)] = all[..]
            && hierarchy.version() == Version::V2
        {
            let shown = if whole { hierarchy.point() } else { dir };
            return Ok(vec![(PathBuf::new(), seal(bind(shown)?)?)]);
        }
        let top = Mount::tmpfs(&[("mode", "0755"), ("size", "64k")])?;
        let mut mounts = Vec::new();
        for (hierarchy, dir) in all {
            let name = hierarchy.point().file_name().unwrap_or(OsStr::new("unified"));
            mkdirat(&top, name, Mode::from_raw_mode(0o755)).call(|| format!("mkdir(tmpfs, {name:?})"))?;
            // `cpu,cpuacct` is found by either name.
            for controller in hierarchy.controllers().iter().filter(|_| hierarchy.version() == Version::V1) {
                if OsStr::new(controller) != name && hierarchy.controllers().len() > 1 {
                    symlinkat(name, &top, controller)
                        .call(|| format!("symlink({name:?}, tmpfs, {controller:?})"))?;
                }
            }
            mounts.push((PathBuf::from(name), seal(bind(dir)?)?));
        }
        mounts.insert(0, (PathBuf::new(), seal(top)?));
        Ok(mounts)
    }
}
