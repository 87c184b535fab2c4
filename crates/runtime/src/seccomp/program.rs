//! The product.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use oci_spec::runtime::Spec;

use super::{Instruction, Profile, Target};
use crate::error::Result;

/// A filter as the kernel takes it (seccomp(2), `SECCOMP_SET_MODE_FILTER`). Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Program(Arc<Inner>);

#[derive(PartialEq, Eq, Hash)]
pub(crate) struct Inner {
    pub(crate) name: String,
    pub(crate) instructions: Vec<Instruction>,
    pub(crate) flags: u32,
    pub(crate) notifies: bool,
    pub(crate) listener: Option<std::path::PathBuf>,
    pub(crate) metadata: Option<String>,
    pub(crate) unknown: Vec<String>,
}

impl Program {
    /// The filter that a container's configuration asks for (`linux.seccomp`), on this machine. `None`: none.
    ///
    /// # Errors
    /// As of [`Profile::from_oci`], [`Target::of_this_host`] and [`Profile::compile`].
    pub fn of(spec: &Spec) -> Result<Option<Program>> {
        let Some(seccomp) = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()) else {
            return Ok(None);
        };
        // The capabilities that a profile's rules may depend on were settled when it was written into the spec.
        Profile::from_oci(seccomp)?.compile(&Target::of_this_host([])?).map(Some)
    }

    pub(crate) fn new(inner: Inner) -> Program {
        Program(Arc::new(inner))
    }

    /// At most 4096 (`BPF_MAXINSNS`).
    pub fn instructions(&self) -> &[Instruction] {
        &self.0.instructions
    }

    /// `SECCOMP_FILTER_FLAG_*`, as the profile has them.
    pub fn flags(&self) -> u32 {
        self.0.flags
    }

    /// Whether calls are answered by whoever listens ([`super::Action::Notify`]). Such a program must be installed
    /// with `SECCOMP_FILTER_FLAG_NEW_LISTENER`, and the descriptor be sent to [`listener`](Program::listener).
    pub fn notifies(&self) -> bool {
        self.0.notifies
    }

    /// The socket that the listening descriptor goes to (`linux.seccomp.listenerPath`).
    pub fn listener(&self) -> Option<&Path> {
        self.0.listener.as_deref()
    }

    /// What is sent along with it (`linux.seccomp.listenerMetadata`).
    pub fn metadata(&self) -> Option<&str> {
        self.0.metadata.as_deref()
    }

    /// The names in the profile that no architecture has a call of: of other systems, newer than this crate, or
    /// misspelt. The rules of those were left out.
    pub fn unknown(&self) -> &[String] {
        &self.0.unknown
    }

    /// The instructions in words, a line each.
    pub fn listing(&self) -> String {
        let lines = self.0.instructions.iter().enumerate();
        lines.map(|(index, instruction)| format!("{index:4}  {instruction}\n")).collect()
    }
}

impl fmt::Display for Program {
    /// `default (118 instructions)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} instructions)", self.0.name, self.0.instructions.len())
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seccomp {self}")
    }
}
