//! Files that belong to somebody else from the beginning.

use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use rustix::thread::{CapabilitySets, capabilities, set_capabilities};

use crate::{Call, Error, Kind, Result, namespace};

/// Runs `work` on a thread of its own whose files belong to this user and group (setfsuid(2)), and which may still do all
/// that the program may: the only way to make something on a mount that shows no file as the caller's
/// ([`Mount::mapped`](crate::Mount::mapped)).
///
/// The kernel makes the whole program undumpable with it (`PR_SET_DUMPABLE`), which is the caller's to set back.
///
/// # Errors
/// `Denied` without `CAP_SETUID` and `CAP_SETGID`; no thread could be started.
pub fn as_owner<T: Send>(uid: u32, gid: u32, work: impl FnOnce() -> T + Send) -> Result<T> {
    namespace::on_thread(|| {
        let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
        setfsgid(group);
        setfsuid(user);
        // Neither says whether it did it, but both who it was before.
        if (setfsuid(user), setfsgid(group)) != (user, group) {
            return Err(Error::new(Kind::Denied, format!("setfsuid({uid}), setfsgid({gid}): not permitted")));
        }
        let CapabilitySets { permitted, inheritable, .. } = capabilities(None).call(|| "capget()")?;
        let sets = CapabilitySets { effective: permitted, permitted, inheritable };
        set_capabilities(None, sets).call(|| "capset()")?;
        Ok(work())
    })
}
