//! The user namespace that a spec asks for (config-linux.md, "Namespaces" and "User namespace mappings").

use std::path::PathBuf;

use oci_spec::runtime::{LinuxNamespaceType, Process, Spec};

use super::{IdMap, UserNamespace};
use crate::error::{Doing, Error, Problem, Result};

/// Which one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    New(IdMap),
    /// One that is there, with the mapping that it is said to have.
    There(PathBuf, Option<IdMap>),
}

impl Wanted {
    /// What the spec says, if anything; or all that is wrong.
    pub(crate) fn of(spec: &Spec) -> std::result::Result<Option<Wanted>, Vec<Problem>> {
        let Some(linux) = spec.linux() else { return Ok(None) };
        let (uids, gids) = (linux.uid_mappings().as_deref(), linux.gid_mappings().as_deref());
        let filled = |list: Option<&[_]>| list.is_some_and(|list| !list.is_empty());
        let mapped = filled(uids) || filled(gids);
        let invalid = |texts: Vec<String>| texts.into_iter().map(Problem::invalid).collect::<Vec<_>>();
        let mut all = linux.namespaces().iter().flatten();
        let Some(namespace) = all.find(|one| one.typ() == LinuxNamespaceType::User) else {
            let text = "linux.uidMappings, linux.gidMappings: without a user namespace they map nothing";
            return if mapped { Err(invalid(vec![text.into()])) } else { Ok(None) };
        };
        let map = || IdMap::of(uids, gids, "linux.").map_err(invalid);
        if let Some(path) = namespace.path() {
            let map = mapped.then(map).transpose()?;
            return Ok(Some(Wanted::There(path.clone(), map)));
        }
        let map = map()?;
        let mut problems = Vec::new();
        if map.root().is_none() {
            // Who mounts inside is root there.
            problems.push("linux.uidMappings, linux.gidMappings: 0 is not mapped".to_owned());
        }
        problems.extend(spec.process().iter().flat_map(|process| strangers(process, &map)));
        if problems.is_empty() { Ok(Some(Wanted::New(map))) } else { Err(invalid(problems)) }
    }

    /// Makes it, or opens it.
    pub(crate) fn get(&self) -> Result<UserNamespace> {
        match self {
            Wanted::New(map) => UserNamespace::new(map).doing(|| "linux.namespaces[user]"),
            Wanted::There(path, said) => {
                let there = UserNamespace::open(path).doing(|| "linux.namespaces[user].path")?;
                match said {
                    Some(said) if !said.is_as(there.map()) => Err(Error::invalid(format!(
                        "linux.uidMappings, linux.gidMappings: {path:?} has {}, not {said}",
                        there.map()
                    ))),
                    _ => Ok(there),
                }
            }
        }
    }
}

/// The process's ids that there are not.
fn strangers(process: &Process, map: &IdMap) -> Vec<String> {
    let user = process.user();
    let groups = user.additional_gids().iter().flatten().chain([&user.gid()]).copied().collect::<Vec<_>>();
    let lost = |kind: &str, id: u32| format!("process.user: the {kind} {id} is not mapped");
    let uid = map.user(user.uid()).is_none().then(|| lost("user", user.uid()));
    let groups = groups.into_iter().filter(|id| map.group(*id).is_none()).map(|id| lost("group", id));
    uid.into_iter().chain(groups).collect()
}
