//! The program: where it is looked for, and what it may do.

use oci_spec::runtime::{Capabilities, LinuxCapabilities, Process};
use rustix::thread::CapabilitySet;

use crate::error::{Error, Result};
use crate::{DEFAULT_PATH, Step};

/// The five sets of capabilities(7).
#[derive(Clone, Copy)]
pub(crate) struct Sets {
    pub(crate) bounding: CapabilitySet,
    pub(crate) effective: CapabilitySet,
    pub(crate) permitted: CapabilitySet,
    pub(crate) inheritable: CapabilitySet,
    pub(crate) ambient: CapabilitySet,
}

impl Sets {
    /// Without what is not among these.
    pub(crate) fn within(self, held: CapabilitySet) -> Sets {
        Sets {
            bounding: self.bounding & held,
            effective: self.effective & held,
            permitted: self.permitted & held,
            inheritable: self.inheritable & held,
            ambient: self.ambient & held,
        }
    }
}

/// A set that is not given is empty, as the specification has it.
pub(crate) fn capabilities(given: Option<&LinuxCapabilities>) -> Sets {
    let bits = |pick: fn(&LinuxCapabilities) -> &Option<Capabilities>| {
        given.and_then(|given| pick(given).as_ref()).map_or(CapabilitySet::empty(), set)
    };
    Sets {
        bounding: bits(LinuxCapabilities::bounding),
        effective: bits(LinuxCapabilities::effective),
        permitted: bits(LinuxCapabilities::permitted),
        inheritable: bits(LinuxCapabilities::inheritable),
        ambient: bits(LinuxCapabilities::ambient),
    }
}

fn set(capabilities: &Capabilities) -> CapabilitySet {
    capabilities.iter().fold(CapabilitySet::empty(), |all, one| {
        match format!("CAP_{one}").parse::<caps::Capability>() {
            Ok(capability) => all | CapabilitySet::from_bits_retain(1 << capability.index()),
            Err(_) => all, // every name that oci-spec has, caps has; a test says so
        }
    })
}

/// The last step. A name without a slash is looked for in the `PATH` of the new environment.
pub(crate) fn exec(process: &Process) -> Result<Step> {
    let args = process.args().clone().unwrap_or_default();
    let env = process.env().clone().unwrap_or_default();
    let Some(name) = args.first().filter(|name| !name.is_empty()) else {
        return Err(Error::invalid("process.args: no command given"));
    };
    let path = env.iter().rev().find_map(|pair| pair.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    let mut candidates: Vec<String> = if name.contains('/') {
        vec![name.clone()]
    } else {
        let dirs = path.split(':').filter(|dir| !dir.is_empty());
        dirs.map(|dir| format!("{}/{name}", dir.trim_end_matches('/'))).collect()
    };
    if candidates.is_empty() {
        candidates.push(String::new()); // which is nowhere
    }
    Ok(Step::Exec { candidates, args, env })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_capability_has_its_bit() {
        let spec = crate::docker_spec();
        let given = spec.process().as_ref().and_then(|process| process.capabilities().as_ref());
        let sets = capabilities(given);
        assert_eq!(sets.bounding.bits(), 0xa804_25fb); // what docker's containers have
        assert_eq!(sets.ambient.bits(), 0);
        let all: Capabilities = caps::all()
            .iter()
            .map(|one| {
                let name = one.to_string();
                name.trim_start_matches("CAP_")
                    .parse()
                    .unwrap_or_else(|_| panic!("oci-spec does not know {one}"))
            })
            .collect();
        assert_eq!(set(&all).bits(), (1u64 << caps::all().len()) - 1);
    }

    #[test]
    fn names_are_looked_for_in_the_new_path() {
        let mut process = Process::default();
        process.set_args(Some(vec!["sh".into()])).set_env(Some(vec!["PATH=/a:/b/".into()]));
        let Ok(Step::Exec { candidates, .. }) = exec(&process) else { panic!() };
        assert_eq!(candidates, ["/a/sh", "/b/sh"]);
        process.set_args(Some(vec!["./run".into()]));
        let Ok(Step::Exec { candidates, .. }) = exec(&process) else { panic!() };
        assert_eq!(candidates, ["./run"]);
        process.set_args(Some(vec![]));
        assert_eq!(exec(&process).unwrap_err().to_string(), "process.args: no command given");
    }
}
