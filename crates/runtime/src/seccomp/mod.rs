//! Seccomp: a [`Profile`] of system calls becomes a [`Program`] for the kernel.
//!
//! A profile comes from the OCI specification ([`Profile::from_oci`], config-linux.md#seccomp), from JSON as docker
//! and podman take it ([`Profile::from_json`]), or is docker's default ([`Profile::docker`]). It is compiled for
//! a [`Target`]: an architecture, a kernel, and the capabilities that the container keeps. Nothing here
//! touches the system, save [`Target::of_this_host`], which asks for the kernel's version.
//!
//! ```
//! use coracle_runtime::seccomp::{Arch, Profile, Target};
//!
//! let program = Profile::docker().compile(&Target::new(Arch::X86_64, (6, 1), [])).unwrap();
//! assert!(program.instructions().len() < 500);
//! ```
//!
//! # What a profile means
//!
//! As with libseccomp, which runc, crun and podman use:
//! - A rule with the default action says nothing, and is dropped before anything else.
//! - A rule without conditions settles a call, wherever in the profile it stands (the first of several does). Of rules
//!   with conditions the first that holds decides; where none does, the default action.
//! - All conditions of a rule must hold, except where one argument is named twice: then any of them suffices.
//! - The native architecture is always meant. A call of one that the profile doesn't name kills the process.
//! - Calls that are newer than the newest one the profile names fail with `ENOSYS`, so that programs fall
//!   back to older ones; unless the default action permits them, or already says so. (That is runc's rule.)
//! - On 32-bit x86, a rule without conditions for a socket or System V IPC call also holds where the call is made
//!   through `socketcall` or `ipc`, unless the profile settles those themselves. Conditions can't hold there: the
//!   arguments are in memory, where a filter can't see them.

mod action;
mod arch;
mod compare;
mod compile;
mod default;
mod emit;
mod instruction;
mod json;
mod numbers;
mod oci;
mod profile;
mod program;
mod resolve;
#[cfg(test)]
mod simulate;
mod target;
#[cfg(test)]
mod tests;

pub use action::Action;
pub use arch::Arch;
pub use instruction::Instruction;
pub(crate) use oci::{TSYNC, WAIT_KILLABLE_RECV};
pub use profile::Profile;
pub use program::Program;
pub use target::Target;
