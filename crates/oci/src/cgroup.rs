//! The control group of a container: made, found, stopped, let go on.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use coracle_host::Kind;
use coracle_runtime::cgroup::{Cgroup, Extent, Hierarchies, Place, Plan};
use oci_spec::runtime::{LinuxResources, Spec};

use crate::error::{Error, Result};
use crate::record::{Home, Record, Status};

/// What annotations begin with that are properties of a container's unit, as runc has them.
const PROPERTY: &str = "org.systemd.property.";

/// Where a container's group is: where the configuration says, or below `/coracle`; with `systemd` in a scope that
/// `slice:prefix:name` says, or `coracle-<id>.scope`.
pub(crate) fn path(given: Option<&Path>, id: &str, systemd: bool) -> Result<PathBuf> {
    let path = match (given, systemd) {
        (Some(given), _) => given.to_owned(),
        (None, false) => own(id),
        (None, true) => format!(":coracle:{id}").into(),
    };
    match (place(&path)?.is_scope(), systemd) {
        (true, false) => Err(Error::new(format!(
            "linux.cgroupsPath {path:?}: a scope, which systemd makes with --systemd-cgroup; a path is needed without it"
        ))),
        (false, true) => Err(Error::new(format!(
            "linux.cgroupsPath {path:?}: a path; --systemd-cgroup needs `slice:prefix:name`"
        ))),
        _ => Ok(path),
    }
}

fn own(id: &str) -> PathBuf {
    Path::new("/coracle").join(id)
}

/// Whether systemd makes it.
pub(crate) fn is_scope(path: &Path) -> bool {
    place(path).is_ok_and(|place| place.is_scope())
}

fn place(path: &Path) -> Result<Place> {
    match path.strip_prefix("/coracle") {
        Ok(name) if name.components().count() == 1 => Ok(Place::new(&name.to_string_lossy())?),
        _ => Ok(Place::from_oci(path)?),
    }
}

/// Makes the group. `None`: this host has none that could be written to, and none was asked for.
pub(crate) fn make(
    path: &Path,
    asked: bool,
    resources: Option<&LinuxResources>,
    annotations: Option<&HashMap<String, String>>,
) -> Result<Option<Cgroup>> {
    let resources = resources.cloned().unwrap_or_default();
    let mut place = place(path)?;
    if place.is_scope() {
        let mut all: Vec<_> = annotations.into_iter().flatten().collect();
        all.sort();
        for (name, value) in all {
            if let Some(name) = name.strip_prefix(PROPERTY) {
                place = place.property(name, value)?;
            }
        }
    }
    let plan = Plan::new(&place, &resources, &Hierarchies::of_this_host()?, Extent::Standard);
    match plan.and_then(|plan| plan.make()) {
        Ok(group) => Ok(Some(group)),
        Err(error) if !asked && matches!(error.kind(), Kind::Unsupported | Kind::Denied) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn find(record: &Record) -> Result<Option<Cgroup>> {
    let Some(path) = &record.cgroup else { return Ok(None) };
    Ok(Cgroup::find(&place(path)?, &Hierarchies::of_this_host()?))
}

/// The group that a creation left which came to no record. A scope is left by none.
pub(crate) fn left(config: &Spec, id: &str) -> Result<Option<Cgroup>> {
    let given = config.linux().as_ref().and_then(|linux| linux.cgroups_path().as_deref());
    let path = given.map_or_else(|| own(id), Path::to_owned);
    Ok(Cgroup::find(&place(&path)?, &Hierarchies::of_this_host()?))
}

/// The group of a container that has one.
pub(crate) fn of(record: &Record) -> Result<Cgroup> {
    find(record)?.ok_or_else(|| Error::new(format!("container `{}` has no control group", record.id)))
}

pub(crate) fn pause(home: &Home, id: &str) -> Result<()> {
    let found = home.find(id)?;
    let _lock = found.lock()?;
    match found.status()? {
        Status::Running | Status::Created => Ok(of(found.record()?)?.freeze()?),
        other => Err(Error::new(format!("container `{id}` is {}, not running", other.word()))),
    }
}

pub(crate) fn resume(home: &Home, id: &str) -> Result<()> {
    let found = home.find(id)?;
    let _lock = found.lock()?;
    let group = of(found.record()?)?;
    if !group.is_frozen()? {
        return Err(Error::new(format!("container `{id}` is {}, not paused", found.status()?.word())));
    }
    Ok(group.thaw()?)
}
