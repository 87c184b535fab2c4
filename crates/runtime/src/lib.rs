//! A process spec and a set of mounts become a launch plan, and the one container that it turns into is
//! supervised.
//!
//! Three beats. The spec is the OCI runtime specification's own ([`oci_spec::runtime::Spec`]; [`docker_spec`] has docker's
//! defaults). [`Plan::container`] turns it into a list of operations, without touching the system: printing it
//! is the dry run. [`Plan::start`] performs it in a new process:
//!
//! ```no_run
//! use coracle_runtime::{Bundle, Facts, Plan, docker_spec, supervise};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut spec = docker_spec();
//! spec.process_mut().as_mut().unwrap().set_args(Some(vec!["/bin/true".into()]));
//! let plan = Plan::container(&spec, &Facts::of_this_host())?;
//! println!("{plan}");
//! let root = coracle_host::Mount::bind_path("/srv/some-root", false)?;
//! let running = plan.start(Bundle::new(root))?;
//! println!("{}", supervise(&running.pidfd, &mut [])?);
//! # Ok(())
//! # }
//! ```
//!
//! The types that matter: [`Plan`], [`Bundle`] (the kernel objects that a container is made of), [`Running`],
//! [`Service`] (what a supervisor does besides waiting), [`Log`].
//!
//! # Should I be using this crate?
//!
//! Use it alone for a sandbox over any directory. It knows nothing of images, networks or names, and keeps no
//! state: whoever starts a container holds it, and when the starting thread ends, the container does.

#![forbid(unsafe_code)]

mod attach;
mod borrow;
mod bundle;
pub mod cgroup;
mod check;
mod clocks;
mod command;
mod confine;
mod defaults;
mod device;
mod display;
mod error;
mod facts;
#[cfg(test)]
mod fields;
mod image;
mod limits;
mod listening;
mod log;
mod mounts;
mod plan;
mod pump;
mod realize;
mod running;
pub mod seccomp;
#[cfg(test)]
mod snapshots;
mod start;
mod stdio;
mod step;
mod supervise;
mod sysctl;
mod targets;
mod terminal;
mod tuning;
pub mod user;
mod userns;

pub use bundle::{Bundle, Join, Running};
pub use coracle_host::Attributes;
pub use defaults::{DEFAULT_PATH, docker_spec};
pub use device::{Node, NodeKind};
pub use error::{Error, Result};
pub use facts::Facts;
pub use listening::Listener;
pub use log::{Log, LogEntry, LogLimits, Stream};
pub use plan::{Attachment, Joinable, Plan, Shown, Step};
pub use pump::Pump;

pub use stdio::Stdio;
pub use supervise::{Service, idle, supervise};
pub use terminal::{Size, Terminal};
pub use userns::{IdMap, IdRange, UserNamespace};
