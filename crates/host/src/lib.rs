//! The Linux host as owned values: directories, locks, atomic publication, detached mounts, namespaces,
//! pidfds. Each fails with the call and the object named.
//!
//! ```no_run
//! use coracle_host::{Dir, Lock, Mount, Staging};
//!
//! # fn main() -> coracle_host::Result<()> {
//! let state = Dir::create("/var/lib/example", 0o700)?;
//! let staging = Staging::open(&state.make("tmp", 0o700)?)?;
//! staging.write(&state, "record", b"{}")?; // whole or not at all, also when the power fails
//! let _alive = Lock::exclusive(&state, "lock")?; // freed by drop and by death
//! let scratch = Mount::tmpfs(&[("size", "64m")])?; // seen by nobody, gone with its last fd
//! # Ok(())
//! # }
//! ```
//!
//! What matters here: [`Dir`] and [`Staging`] (files that appear whole), [`Lock`] (who is alive), [`Root`]
//! (paths in trees that others wrote), [`Mount`], [`Namespace`] and [`PidFd`] (kernel objects as values),
//! [`Handoff`] (giving an fd to another process).
//!
//! # Should I be using this crate?
//!
//! Its first purpose is to be the floor under Coracle's crates. Alone it serves programs that want a lock
//! that dies with its owner, or mounts nobody else can see. It has no policy: it never decides what to keep,
//! where, or for how long.

#![deny(unsafe_code)]

mod aside;
mod attributes;
mod bpf;
mod copy;
mod dir;
mod error;
mod follow;
mod handoff;
mod lock;
mod memory;
mod mount;
mod namespace;
mod overlay;
mod owner;
mod process;
mod random;
mod root;
mod staging;
mod tree;
mod xattr;

pub use aside::aside;
pub use attributes::{Attributes, Change};
pub use bpf::DeviceFilter;
pub use dir::Dir;
pub use error::{Call, Error, Kind, Result};
pub use follow::Follow;
pub use handoff::{Answer, Handoff, send_fds};
pub use lock::{Claim, Lock};
pub use memory::give_back_memory;
pub use mount::{Mount, Propagation};
pub use namespace::Namespace;
pub use overlay::Overlay;
pub use owner::as_owner;
pub use process::{Exit, PidFd, peer};
pub use random::random_hex;
pub use root::Root;
pub use staging::{StagedDir, StagedFile, Staging};
pub use xattr::xattr_names_size;
