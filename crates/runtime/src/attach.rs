//! Mounts that the parent makes, seen by nobody until the child puts them in place.

use coracle_host::{Mount, Result};
use rustix::mount::MountAttrFlags;

use crate::{Attachment, device};

/// Makes what the attachment describes.
pub(crate) fn make(attachment: &Attachment) -> Result<Mount> {
    match attachment {
        Attachment::Tmpfs { options, flags, devices } => {
            let options: Vec<(&str, &str)> = options.iter().map(|option| pair(option)).collect();
            let mount = Mount::new("tmpfs", &options, attributes(flags))?;
            if let Some(nodes) = devices {
                device::fill(&mount, nodes)?;
            }
            Ok(mount)
        }
        Attachment::DevPts { options, flags } => {
            let options: Vec<(&str, &str)> = options.iter().map(|option| pair(option)).collect();
            Mount::new("devpts", &options, attributes(flags))
        }
        Attachment::Bind { source, recursive, read_only } => {
            let mount = Mount::bind_path(source, *recursive)?.private()?;
            if *read_only { mount.read_only() } else { Ok(mount) }
        }
    }
}

fn pair(option: &str) -> (&str, &str) {
    option.split_once('=').unwrap_or((option, ""))
}

fn attributes(flags: &[String]) -> MountAttrFlags {
    flags.iter().fold(MountAttrFlags::empty(), |all, flag| {
        all | match flag.as_str() {
            "ro" => MountAttrFlags::MOUNT_ATTR_RDONLY,
            "nosuid" => MountAttrFlags::MOUNT_ATTR_NOSUID,
            "nodev" => MountAttrFlags::MOUNT_ATTR_NODEV,
            "noexec" => MountAttrFlags::MOUNT_ATTR_NOEXEC,
            "noatime" => MountAttrFlags::MOUNT_ATTR_NOATIME,
            "nodiratime" => MountAttrFlags::MOUNT_ATTR_NODIRATIME,
            "strictatime" => MountAttrFlags::MOUNT_ATTR_STRICTATIME,
            _ => MountAttrFlags::empty(), // relatime, the kernel's default
        }
    })
}
