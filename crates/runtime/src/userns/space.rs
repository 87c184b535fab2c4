//! A user namespace as a descriptor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use coracle_host::{Call, Error, Kind, Namespace, Result};
use coracle_launch::{Namespaces, Op};
use rustix::fs::{Mode, OFlags, openat};
use rustix::thread::LinkNameSpaceType;

use super::{IdMap, hold};
use crate::borrow::Borrow;
use crate::realize::open_namespace;

/// A user namespace, alive as long as this (or anything else) holds it, and its mapping as this process sees it.
#[derive(Debug)]
pub struct UserNamespace {
    fd: OwnedFd,
    map: IdMap,
}

impl UserNamespace {
    /// A new one, a child of the caller's. It belongs to the user that this thread has.
    ///
    /// # Errors
    /// As of clone(2) with `CLONE_NEWUSER`: `ENOSPC` at the user's limit; and of writing `uid_map` (user_namespaces(7)): `EPERM`
    /// for ids that the caller's own namespace doesn't have, or without `CAP_SETUID` and `CAP_SETGID` there; `EINVAL` for
    /// more text than a page of memory has room for.
    pub fn new(map: &IdMap) -> Result<UserNamespace> {
        let [uids, gids] = map.texts();
        let fd = hold::while_there(Namespaces::USER, &[], "make a user namespace", |process| {
            // Denying setgroups(2) is for those who may not map the groups of others.
            for (name, text) in [("uid_map", uids), ("gid_map", gids)] {
                let file = open(process, name, OFlags::WRONLY)?;
                let written = rustix::io::write(&file, text.as_bytes());
                let lines = text.lines().count();
                written.call(|| match lines {
                    1 => format!("write({name}, {:?})", text.trim_end()),
                    _ => format!("write({name}, {lines} lines)"),
                })?;
            }
            open(process, "ns/user", OFlags::RDONLY)
        })?;
        Ok(UserNamespace { fd, map: map.clone() })
    }

    /// The one that a path leads to, as in `/proc/PID/ns/user`.
    ///
    /// # Errors
    /// As of open(2), and of [`UserNamespace::from_fd`].
    pub fn open(path: impl AsRef<Path>) -> Result<UserNamespace> {
        let fd = open_namespace(path)?;
        UserNamespace::from_fd(fd)
    }

    /// Takes a descriptor of a user namespace that came from elsewhere.
    ///
    /// # Errors
    /// As of setns(2): `EINVAL` for the caller's own, and for what is no user namespace; `EPERM` for one in which it has no
    /// rights.
    pub fn from_fd(fd: OwnedFd) -> Result<UserNamespace> {
        let join = enter(fd.as_fd());
        let map = hold::while_there(Namespaces::NONE, &join, "join the user namespace", |process| {
            let read = |name: &str| -> Result<String> {
                let file = std::fs::File::from(open(process, name, OFlags::RDONLY)?);
                std::io::read_to_string(file).call(|| format!("read({name})"))
            };
            let (uids, gids) = (read("uid_map")?, read("gid_map")?);
            let unknown = || Error::new(Kind::Corrupt, format!("the mappings {uids:?} and {gids:?}"));
            IdMap::read(&uids, &gids).ok_or_else(unknown)
        })?;
        Ok(UserNamespace { fd, map })
    }

    /// Another handle on the same namespace.
    ///
    /// # Errors
    /// As of fcntl(2): `EMFILE`.
    pub fn try_clone(&self) -> Result<UserNamespace> {
        let fd = self.fd.try_clone().call(|| "fcntl(user namespace, F_DUPFD_CLOEXEC)")?;
        Ok(UserNamespace { fd, map: self.map.clone() })
    }

    /// A new network namespace that belongs to this one: who is root in this one is its administrator.
    ///
    /// # Errors
    /// As of setns(2) and unshare(2): `ENOSPC` at the user's limit.
    pub fn new_net(&self) -> Result<Namespace> {
        let [undumpable, join] = enter(self.fd.as_fd());
        let ops = [undumpable, join, Op::Unshare(Namespaces::NET)];
        let fd =
            hold::open_there(&ops, c"/proc/self/ns/net", "make a network namespace in the user namespace")?;
        Ok(Namespace::from_fd(fd))
    }

    /// A new time namespace that belongs to this one, whose clocks are set so.
    pub(crate) fn new_time(&self, offsets: &str) -> Result<OwnedFd> {
        let [undumpable, join] = enter(self.fd.as_fd());
        let ops = [undumpable, join, Op::Unshare(Namespaces::TIME)];
        hold::while_there(Namespaces::NONE, &ops, "make a time namespace in the user namespace", |process| {
            if !offsets.is_empty() {
                let file = open(process, "timens_offsets", OFlags::WRONLY)?;
                rustix::io::write(&file, offsets.as_bytes()).call(|| "write(timens_offsets)")?;
            }
            open(process, "ns/time_for_children", OFlags::RDONLY)
        })
    }

    /// Runs `work` on a thread of its own whose files belong to this namespace's root, with the caller's rights.
    ///
    /// # Errors
    /// As of [`coracle_host::as_owner`]; `Invalid` where it has no root.
    pub fn as_root<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        as_owner((self.user(0)?, self.group(0)?), work)
    }

    /// Which ids of the host its ids are.
    pub fn map(&self) -> &IdMap {
        &self.map
    }

    /// The user of the host who is `id` inside.
    pub(crate) fn user(&self, id: u32) -> Result<u32> {
        self.map.user(id).ok_or_else(|| unmapped("user", id))
    }

    /// The group of the host that is `id` inside.
    pub(crate) fn group(&self, id: u32) -> Result<u32> {
        self.map.group(id).ok_or_else(|| unmapped("group", id))
    }
}

impl AsFd for UserNamespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Runs `work` on a thread of its own whose files belong to them.
pub(crate) fn as_owner<T: Send>((uid, gid): (u32, u32), work: impl FnOnce() -> T + Send) -> Result<T> {
    let _dumpable = Borrow::new();
    coracle_host::as_owner(uid, gid, work)
}

/// What a process in the caller's memory does to join it. From there on processes in it may trace this one, if they can
/// see it.
fn enter(namespace: BorrowedFd<'_>) -> [Op<'_>; 2] {
    [Op::Undumpable, Op::Join(namespace, LinkNameSpaceType::User)]
}

fn open(process: BorrowedFd<'_>, name: &str, flags: OFlags) -> Result<OwnedFd> {
    openat(process, name, flags | OFlags::CLOEXEC, Mode::empty()).call(|| format!("open({name:?})"))
}

fn unmapped(what: &str, id: u32) -> Error {
    Error::new(Kind::Invalid, format!("the {what} id {id} is none of the user namespace's"))
}
