//! Mounts that the parent makes, seen by nobody until the child puts them in place.

use std::borrow::Cow;
use std::os::fd::{AsFd, BorrowedFd};

use coracle_host::{Call, Dir, Error, Kind, Mount, Result};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid, chownat, fchmod, fchown, fstat};
use rustix::io::Errno;

use crate::{Attachment, Attributes, Shown, UserNamespace, device};

/// Makes what the attachment describes. `covered` is the directory that it will cover, where there is one. Where it is for
/// a user namespace, ids that it names are ids there, and what it does not say the owner of belongs to root there.
pub(crate) fn make(
    attachment: &Attachment,
    covered: Option<BorrowedFd<'_>>,
    user: Option<&UserNamespace>,
) -> Result<Mount> {
    match attachment {
        Attachment::Tmpfs { options, attributes, devices, copy_up } => {
            let mount = tmpfs(options, attributes, covered, user)?;
            if let Some(nodes) = devices {
                device::fill(&mount, nodes, user)?;
            }
            match covered {
                Some(covered) if *copy_up => copy(covered, mount, options),
                _ => Ok(mount),
            }
        }
        Attachment::DevPts { options, attributes } => {
            let mount = new("devpts", &mapped(options, user)?, attributes)?;
            if let Some((uid, gid)) = user.and_then(|user| user.map().root()) {
                let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
                for name in [".", "ptmx"] {
                    chownat(&mount, name, uid, gid, AtFlags::empty())
                        .call(|| format!("chown(devpts, {name:?})"))?;
                }
            }
            Ok(mount)
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
        Attachment::Bind { source, recursive, attributes, propagation, ids } => {
            let mount = Mount::bind_path(source, *recursive)?;
            // Its propagation first: what it is to be is said of the whole.
            let mount = match propagation {
                None => mount.private()?,
                Some((propagation, below)) => mount.propagation(*propagation, *below)?,
            };
            let mount = attributes.apply(mount)?;
            match ids {
                Some(ids) => shown(mount, ids, user),
                None => Ok(mount),
            }
        }
    }
}

/// Its mode is that of what it covers, and it belongs to root in the user namespace, unless an option says otherwise.
fn tmpfs(
    options: &[String],
    attributes: &Attributes,
    covered: Option<BorrowedFd<'_>>,
    user: Option<&UserNamespace>,
) -> Result<Mount> {
    let mut options = mapped(options, user)?;
    let mut unless_said = |name: &'static str, value: String| {
        if !options.iter().any(|(known, _)| *known == name) {
            options.push((name, value.into()));
        }
    };
    if let Some(covered) = covered {
        // As every runtime has it.
        unless_said("mode", format!("{:o}", mode(covered)?));
    }
    if let Some((uid, gid)) = user.and_then(|user| user.map().root()) {
        unless_said("uid", uid.to_string());
        unless_said("gid", gid.to_string());
    }
    new("tmpfs", &options, attributes)
}

/// What hides a directory, or a file: it is empty.
pub(crate) fn mask(is_dir: bool) -> Result<Mount> {
    match is_dir {
        true => Mount::tmpfs(&[("size", "4k"), ("mode", "755")])?.read_only(),
        false => Mount::bind_path("/dev/null", false)?.private(),
    }
}

/// Fills a tmpfs with what it covers. Whose it is, and its mode, are that directory's unless an option says otherwise.
fn copy(covered: BorrowedFd<'_>, tmpfs: Mount, options: &[String]) -> Result<Mount> {
    let dir = |fd: BorrowedFd<'_>, path: &str| {
        Ok(Dir::from_fd(fd.try_clone_to_owned().call(|| "fcntl(F_DUPFD_CLOEXEC)")?, path))
    };
    let (from, to) = (dir(covered, "container's root")?, dir(tmpfs.as_fd(), "tmpfs")?);
    let before = fstat(&to).call(|| "fstat(tmpfs)")?;
    from.copy_to(&to)?;
    let said = |key: &str| options.iter().any(|option| pair(option).0 == key);
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

/// The mount with its owners mapped.
fn shown(mount: Mount, ids: &Shown, container: Option<&UserNamespace>) -> Result<Mount> {
    let own = ids.map.as_ref().map(UserNamespace::new).transpose()?;
    let namespace = own.as_ref().or(container).ok_or_else(|| {
        Error::new(Kind::Invalid, format!("{}: there is no user namespace to map owners by", mount.what()))
    })?;
    mount.mapped(namespace, ids.recursive).map_err(|error| match error.errno() {
        Some(Errno::INVAL) => {
            let text = format!("{error} (this kernel can't map the owners of this file system)");
            Error::new(Kind::Unsupported, text)
        }
        _ => error,
    })
}

/// Options of a file system, of which `uid` and `gid` are the container's.
fn mapped<'a>(options: &'a [String], user: Option<&UserNamespace>) -> Result<Vec<(&'a str, Cow<'a, str>)>> {
    let one = |option: &'a String| {
        let (name, value) = pair(option);
        let id = value.parse().ok();
        let mapped = match (name, id, user) {
            ("uid", Some(id), Some(user)) => Some(user.user(id)?),
            ("gid", Some(id), Some(user)) => Some(user.group(id)?),
            _ => None,
        };
        Ok((name, mapped.map_or(Cow::Borrowed(value), |id| id.to_string().into())))
    };
    options.iter().map(one).collect()
}

fn new(fstype: &str, options: &[(&str, Cow<'_, str>)], attributes: &Attributes) -> Result<Mount> {
    let options: Vec<(&str, &str)> = options.iter().map(|(name, value)| (*name, value.as_ref())).collect();
    Mount::new(fstype, &options, attributes.at_once())
}

fn pair(option: &str) -> (&str, &str) {
    option.split_once('=').unwrap_or((option, ""))
}
