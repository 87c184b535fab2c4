//! Which system calls a container may make.

use std::collections::HashMap;
use std::sync::Mutex;

use coracle_runtime::seccomp::{Profile, Program, Target};
use oci_spec::runtime::Capability;
use serde::{Deserialize, Serialize};

use super::handle::locked;
use super::record::Record;
use crate::error::{Doing, Result};

/// Which system calls a container may make (seccomp(2)).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Seccomp {
    /// Those of docker's default profile, which depends on the container's capabilities.
    #[default]
    Default,
    /// All.
    Unconfined,
    /// Those of this profile, in docker's JSON.
    Profile(String),
}

impl Seccomp {
    /// What is wrong with it, if anything.
    pub(crate) fn problem(&self) -> Option<String> {
        match self {
            Seccomp::Profile(text) => Profile::from_json(text).err().map(|error| error.to_string()),
            Seccomp::Default | Seccomp::Unconfined => None,
        }
    }
}

/// Filters that were made once, by profile and capabilities.
#[derive(Default)]
pub(crate) struct Filters(Mutex<HashMap<(Seccomp, Vec<String>), Program>>);

impl Filters {
    /// The filter of a container; `None` where it has none.
    pub(crate) fn of(&self, record: &Record) -> Result<Option<Program>> {
        if record.privileged || record.seccomp == Seccomp::Unconfined {
            return Ok(None);
        }
        let process = record.spec.process().as_ref();
        let sets = process.and_then(|process| process.capabilities().as_ref());
        let bounding: Vec<Capability> =
            sets.and_then(|sets| sets.bounding().as_ref()).into_iter().flatten().copied().collect();
        let mut names: Vec<String> = bounding.iter().map(ToString::to_string).collect();
        names.sort();
        let key = (record.seccomp.clone(), names);
        if let Some(known) = locked(&self.0).get(&key) {
            return Ok(Some(known.clone()));
        }
        let profile = match &record.seccomp {
            Seccomp::Profile(text) => Profile::from_json(text).doing(|| "read the seccomp profile")?,
            _ => Profile::docker(),
        };
        let program = profile.compile(&Target::of_this_host(bounding)?)?;
        locked(&self.0).insert(key, program.clone());
        Ok(Some(program))
    }
}
