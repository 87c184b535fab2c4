//! Mounts that the parent makes, seen by nobody until the child puts them in place.

use std::os::fd::{AsFd, BorrowedFd};

use coracle_host::{Call, Dir, Error, Kind, Mount, Result};
use rustix::fs::{Gid, Mode, OFlags, Uid, fchmod, fchown, fstat};
use rustix::io::Errno;

use crate::{Attachment, device};

/// Makes what the attachment describes. `covered` is the directory that it will cover, where there is one.
pub(crate) fn make(attachment: &Attachment, covered: Option<BorrowedFd<'_>>) -> Result<Mount> {
    match attachment {
        Attachment::Tmpfs { options, attributes, devices, copy_up } => {
            let mut options: Vec<(&str, &str)> = options.iter().map(|option| pair(option)).collect();
            let mode = covered.map(mode).transpose()?.map(|mode| format!("{mode:o}"));
            if let (Some(mode), false) = (&mode, options.iter().any(|(key, _)| *key == "mode")) {
                // As every runtime has it.
                options.push(("mode", mode));
            }
            let mount = Mount::new("tmpfs", &options, attributes.at_once())?;
            if let Some(nodes) = devices {
                device::fill(&mount, nodes)?;
            }
            match covered {
                Some(covered) if *copy_up => copy(covered, mount, &options),
                _ => Ok(mount),
            }
        }
        Attachment::DevPts { options, attributes } => {
            let options: Vec<(&str, &str)> = options.iter().map(|option| pair(option)).collect();
            Mount::new("devpts", &options, attributes.at_once())
        }
        Attachment::Proc { namespace, options, attributes } => {
            let namespace = namespace.to_string_lossy();
            let mut options: Vec<(&str, &str)> = options.iter().map(|option| pair(option)).collect();
            options.push(("pidns", &namespace));
            let made = Mount::new("proc", &options, attributes.at_once());
            made.map_err(|error| match error.errno() {
                // Who could mount it from inside would be seen there with all that it still has of the host.
                Some(Errno::INVAL) if error.to_string().contains("pidns") => {
                    let text = format!("{error} (joining a pid namespace needs Linux 6.17)");
                    Error::new(Kind::Unsupported, text)
                }
                _ => error,
            })
        }
        Attachment::Other { fstype, options, attributes } => {
            let options: Vec<(&str, &str)> = options.iter().map(|option| pair(option)).collect();
            Mount::new(fstype, &options, attributes.at_once())
        }
        Attachment::Bind { source, recursive, attributes, propagation } => {
            let mount = Mount::bind_path(source, *recursive)?;
            // Its propagation first: what it is to be is said of the whole.
            let mount = match propagation {
                None => mount.private()?,
                Some((propagation, below)) => mount.propagation(*propagation, *below)?,
            };
            attributes.apply(mount)
        }
    }
}

/// Fills a tmpfs with what it covers. Whose it is, and its mode, are that directory's unless an option says otherwise.
fn copy(covered: BorrowedFd<'_>, tmpfs: Mount, options: &[(&str, &str)]) -> Result<Mount> {
    let dir = |fd: BorrowedFd<'_>, path: &str| {
        Ok(Dir::from_fd(fd.try_clone_to_owned().call(|| "fcntl(F_DUPFD_CLOEXEC)")?, path))
    };
    let (from, to) = (dir(covered, "container's root")?, dir(tmpfs.as_fd(), "tmpfs")?);
    let before = fstat(&to).call(|| "fstat(tmpfs)")?;
    from.copy_to(&to)?;
    let said = |key: &str| options.iter().any(|(known, _)| *known == key);
    let uid = said("uid").then(|| Uid::from_raw(before.st_uid));
    let gid = said("gid").then(|| Gid::from_raw(before.st_gid));
    let dir = to.file(".", OFlags::RDONLY | OFlags::DIRECTORY, 0)?;
    fchown(&dir, uid, gid).call(|| "fchown(tmpfs)")?;
    let mode = if said("mode") { before.st_mode } else { mode(covered)? };
    fchmod(&dir, Mode::from_raw_mode(mode & 0o7777)).call(|| "fchmod(tmpfs)")?;
    Ok(tmpfs)
}

fn mode(dir: BorrowedFd<'_>) -> Result<u32> {
    Ok(fstat(dir).call(|| "fstat(container's root)")?.st_mode & 0o7777)
}

fn pair(option: &str) -> (&str, &str) {
    option.split_once('=').unwrap_or((option, ""))
}
