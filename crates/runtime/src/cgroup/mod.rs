//! Control groups, of version 1, version 2 and both at once (cgroups(7)): the limits of a container, its figures, and
//! the handle that everything in it can be stopped, continued and killed by.
//!
//! Facts in, plan out, then the act. [`Hierarchies`] is what the host has, [`Plan`] the list of directories and writes that
//! the resources of the OCI runtime specification need (config-linux.md, "Control groups"), [`Cgroup`] what it
//! turns into:
//!
//! ```no_run
//! use coracle_runtime::cgroup::{Extent, Hierarchies, Place, Plan};
//! use oci_spec::runtime::{LinuxMemoryBuilder, LinuxResourcesBuilder};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let memory = LinuxMemoryBuilder::default().limit(64 << 20).build()?;
//! let resources = LinuxResourcesBuilder::default().memory(memory).build()?;
//! let plan = Plan::new(&Place::new("db")?, &resources, &Hierarchies::of_this_host()?, Extent::Standard)?;
//! println!("{plan}");
//! let group = plan.make()?;
//! let entrance = group.entrance()?; // for a child to enter
//! # drop(entrance);
//! println!("{:?}", group.stats()?.memory);
//! group.remove()?;
//! # Ok(())
//! # }
//! ```
//!
//! Nothing that is asked for is left out: what the host can't do is an error of kind `Unsupported` that names controller
//! and setting, and says how to get it.
//!
//! Directories outlive the program that made them. So they have names ([`Place`]), and whoever may (which the caller
//! knows: a lock) finds one again with [`Cgroup::find`], and removes it.
//!
//! Where systemd keeps the hierarchy, [`Place::scope`] has it make the group.

mod act;
mod cpu;
mod details;
mod devices;
mod devices_v1;
mod entrance;
mod filter;
mod freeze;
mod group;
mod hierarchy;
mod io;
mod memory;
mod oom;
mod op;
mod place;
mod plan;
mod read;
mod rest;
mod settings;
#[cfg(test)]
mod snapshots;
mod stats;
mod systemd;
mod update;
mod view;

pub use details::HugePageStats;
pub use devices::{default_devices, docker_devices};
pub use entrance::Entrance;
pub use group::Cgroup;
pub use hierarchy::{Hierarchies, Hierarchy, Version};
pub use oom::OomEvents;
pub use place::Place;
pub use plan::{Extent, Plan};
pub use stats::{CpuStats, IoStats, MemoryStats, PidsStats, Stats, Throttling};
