//! What RUN mounts, and the network it has.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use coracle_host::{Dir, Root};

use crate::error::{Error, Result};
use crate::files::pick::Tree;
use crate::files::put::Put;
use crate::plan::Origin;

/// One `RUN --mount` (Dockerfile reference, "RUN --mount"). It is there while the command runs, and what is below its
/// target is no part of the layer.
///
/// All targets are absolute paths.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunMount {
    /// Files of the context, a stage or an image.
    Bind {
        /// Where.
        target: String,
        /// What.
        from: MountFrom,
        /// The command may write; what it writes is dropped. Without it the mount is read-only.
        writable: bool,
    },
    /// A directory that stays from build to build.
    Cache {
        /// Where.
        target: String,
        /// Which directory: the same id is the same one.
        id: String,
        /// What it holds at first; nothing where there is none.
        from: Option<MountFrom>,
        /// What tells apart caches of one id that began with other contents: the digest of `from`. A worker always gets
        /// it where there is a `from`, a plan never has it.
        seed: Option<String>,
        /// What happens when two steps want it at once.
        sharing: Sharing,
        /// Permission bits of a new one.
        mode: u32,
        /// Owner of a new one.
        uid: u32,
        /// Group of a new one.
        gid: u32,
        /// The command can't write to it.
        read_only: bool,
    },
    /// An empty directory in memory.
    Tmpfs {
        /// Where.
        target: String,
        /// Bytes; unlimited where there is none.
        size: Option<u64>,
    },
    /// A file, or a variable of the environment, that is never in the image.
    ///
    /// A worker sees only those that are files: the build puts the others into [`Command::quiet_env`].
    ///
    /// [`Command::quiet_env`]: crate::Command::quiet_env
    Secret {
        /// By which the build was given its value.
        id: String,
        /// The file, where there is one.
        target: Option<String>,
        /// The variable, where there is one.
        env: Option<String>,
        /// Without a value the step fails; else there is neither file nor variable.
        required: bool,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// The bytes. A worker always gets them, a plan never has them.
        value: Option<Secret>,
    },
    /// A here-document that begins with `#!`, as the program that is run.
    Script {
        /// Where.
        target: String,
        /// What.
        text: String,
    },
    /// The socket of an ssh agent. The build sets `SSH_AUTH_SOCK` in [`Command::quiet_env`] to the first one's target.
    ///
    /// [`Command::quiet_env`]: crate::Command::quiet_env
    Ssh {
        /// By which the build was given its agent.
        id: String,
        /// Where its socket is for the command.
        target: String,
        /// Without an agent the step fails; else there is no socket.
        required: bool,
        /// Permission bits of the socket.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
        /// The agent's socket. A worker always gets it, a plan never has it.
        agent: Option<PathBuf>,
    },
}

impl RunMount {
    /// Where it is mounted; `None` for a secret that is only a variable.
    pub fn target(&self) -> Option<&str> {
        match self {
            RunMount::Bind { target, .. }
            | RunMount::Cache { target, .. }
            | RunMount::Tmpfs { target, .. }
            | RunMount::Script { target, .. }
            | RunMount::Ssh { target, .. } => Some(target),
            RunMount::Secret { target, .. } => target.as_deref(),
        }
    }

    /// Where its files come from, if they come from somewhere.
    pub fn source(&self) -> Option<&MountFrom> {
        match self {
            RunMount::Bind { from, .. } => Some(from),
            RunMount::Cache { from, .. } => from.as_ref(),
            RunMount::Tmpfs { .. }
            | RunMount::Secret { .. }
            | RunMount::Script { .. }
            | RunMount::Ssh { .. } => None,
        }
    }

    pub(crate) fn source_mut(&mut self) -> Option<&mut MountFrom> {
        match self {
            RunMount::Bind { from, .. } => Some(from),
            RunMount::Cache { from, .. } => from.as_mut(),
            RunMount::Tmpfs { .. }
            | RunMount::Secret { .. }
            | RunMount::Script { .. }
            | RunMount::Ssh { .. } => None,
        }
    }
}

/// A file or directory to mount.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MountFrom {
    /// The context, a stage or an image.
    pub origin: Origin,
    /// Relative to the root of `tree`, without `..`; empty for the whole of it. Links in it are to be resolved inside
    /// the tree.
    pub path: String,
    /// The tree. A worker always gets it, a plan never has it. It is to be read only.
    pub tree: Option<Lent>,
}

impl MountFrom {
    /// Copies what it means into a directory: what a cache directory begins with.
    ///
    /// # Errors
    /// `Invalid` where `tree` is not set; else the host's.
    pub fn copy_to(&self, to: &Dir) -> Result<()> {
        let tree = self.tree.as_ref().ok_or_else(|| Error::invalid("there is no tree to copy from"))?;
        let tree = Tree::snapshot(tree.as_fd(), "the mounted tree");
        let mut put = Put::new(Root::new(to.as_fd(), "the copy"), None, None);
        tree.pick(&self.path)?.iter().try_for_each(|one| put.place(Some(tree), one, "/").map(drop))
    }
}

/// The root of a directory tree, open for as long as it is needed.
#[derive(Clone)]
pub struct Lent(Arc<Held>);

struct Held {
    fd: OwnedFd,
    /// Removed with the last use of it.
    _staged: Option<coracle_host::StagedDir>,
}

impl Lent {
    pub(crate) fn new(fd: OwnedFd, staged: Option<coracle_host::StagedDir>) -> Lent {
        Lent(Arc::new(Held { fd, _staged: staged }))
    }
}

impl AsFd for Lent {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }
}

impl PartialEq for Lent {
    /// The very same tree.
    fn eq(&self, other: &Lent) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Lent {}

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lent").field(&self.0.fd).finish()
    }
}

/// Bytes that nothing prints.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<Vec<u8>>);

impl Secret {
    pub(crate) fn new(bytes: Vec<u8>) -> Secret {
        Secret(Arc::new(bytes))
    }

    /// The value itself.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What happens when two steps want the same cache directory at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sharing {
    /// Both have it.
    Shared,
    /// The second gets another one.
    Private,
    /// The second waits.
    Locked,
}

/// `RUN --network`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// The engine's default for builds.
    #[default]
    Default,
    /// Loopback only.
    None,
    /// The host's own.
    Host,
}

impl fmt::Display for Sharing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Sharing::Shared => "shared",
            Sharing::Private => "private",
            Sharing::Locked => "locked",
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Network::Default => "default",
            Network::None => "none",
            Network::Host => "host",
        })
    }
}

impl fmt::Display for RunMount {
    /// As the plan prints it: `bind src of the context at /src`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunMount::Bind { target, from, writable } => {
                let writes = if *writable { ", writes dropped" } else { "" };
                write!(f, "bind /{} of {} at {target}{writes}", from.path, from.origin)
            }
            RunMount::Cache { target, id, sharing, .. } => write!(f, "{sharing} cache `{id}` at {target}"),
            RunMount::Tmpfs { target, size: Some(size) } => write!(f, "tmpfs of {size} bytes at {target}"),
            RunMount::Tmpfs { target, size: None } => write!(f, "tmpfs at {target}"),
            RunMount::Secret { id, target, env, .. } => {
                write!(f, "secret `{id}`")?;
                if let Some(target) = target {
                    write!(f, " at {target}")?;
                }
                env.as_ref().map_or(Ok(()), |name| write!(f, " as ${name}"))
            }
            RunMount::Script { target, text } => write!(f, "script of {} bytes at {target}", text.len()),
            RunMount::Ssh { id, target, .. } => write!(f, "ssh agent `{id}` at {target}"),
        }
    }
}
