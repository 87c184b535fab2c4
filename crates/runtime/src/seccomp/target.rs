//! What a profile is compiled for.

use std::collections::BTreeSet;

use coracle_host::Kind;
use oci_spec::runtime::Capability;

use super::Arch;
use crate::error::{Error, Problem, Result};

/// What a profile is compiled for: rules may depend on all of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    pub(crate) arch: Arch,
    pub(crate) kernel: (u32, u32),
    /// By name, as profiles have them.
    pub(crate) capabilities: BTreeSet<String>,
}

impl Target {
    /// A machine's own architecture, its kernel's version (major, minor), and the bounding set of the container.
    pub fn new(arch: Arch, kernel: (u32, u32), capabilities: impl IntoIterator<Item = Capability>) -> Target {
        Target { arch, kernel, capabilities: capabilities.into_iter().map(name).collect() }
    }

    /// The machine that this program runs on. Asks the kernel for its version (uname(2)).
    ///
    /// # Errors
    /// `Unsupported` where there are no system call numbers for this machine's architecture.
    pub fn of_this_host(capabilities: impl IntoIterator<Item = Capability>) -> Result<Target> {
        let arch = Arch::native().ok_or_else(|| {
            let text = format!("linux.seccomp: not supported on {}", std::env::consts::ARCH);
            Error::problems(vec![Problem { kind: Kind::Unsupported, text }])
        })?;
        let uname = rustix::system::uname();
        let kernel = version(&uname.release().to_string_lossy()).unwrap_or((0, 0));
        Ok(Target::new(arch, kernel, capabilities))
    }
}

/// `CAP_SYS_ADMIN`.
fn name(capability: Capability) -> String {
    let name = capability.to_string();
    if name.starts_with("CAP_") { name } else { format!("CAP_{name}") }
}

/// The first two numbers of `6.1.0-13-amd64`.
pub(crate) fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split(['.', '-', '+', '~']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_kernels() {
        assert_eq!(name(Capability::SysAdmin), "CAP_SYS_ADMIN");
        assert_eq!(name(Capability::DacReadSearch), "CAP_DAC_READ_SEARCH");
        assert_eq!(name(Capability::Syslog), "CAP_SYSLOG");
        assert_eq!(name(Capability::CheckpointRestore), "CAP_CHECKPOINT_RESTORE");
    }

    #[test]
    fn versions() {
        assert_eq!(version("6.1.0-13-amd64"), Some((6, 1)));
        assert_eq!(version("4.8"), Some((4, 8)));
        assert_eq!(version("6.18-rc1"), Some((6, 18)));
        assert_eq!(version("six"), None);
        assert!(Target::of_this_host([]).unwrap().kernel > (5, 4));
    }
}
