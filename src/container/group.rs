//! A container's control group: made for each start, found by its name, removed by whoever may remove the container.

use std::time::Duration;

use coracle_runtime::cgroup::{Cgroup, Extent, Hierarchies, Place, Plan};
use oci_spec::runtime::LinuxResources;

use super::limits::{Limits, all_devices, device_rules};
use super::record::Record;
use crate::Kind;
use crate::engine::Inner;
use crate::error::{Error, Result};

/// How long killed processes may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the group of this container is.
pub(crate) fn place(record: &Record) -> Result<Place> {
    match &record.cgroup_parent {
        Some(parent) => place_below(parent, &record.id),
        None => Ok(Place::new(&record.id)?),
    }
}

/// Where a group of this name is whose parent somebody named.
pub(crate) fn place_below(parent: &str, name: &str) -> Result<Place> {
    // As docker has it where systemd keeps the groups.
    let is_slice = parent.ends_with(".slice") && !parent.contains('/');
    Ok(if is_slice { Place::scope(parent, name)? } else { Place::below(parent, name)? })
}

/// A group and what was asked of it, which is what the container's spec is to say.
pub(crate) struct Made {
    pub(crate) group: Cgroup,
    pub(crate) resources: LinuxResources,
}

/// Makes the group. `None`: this host has no control groups that could be used, and nothing was asked of them.
pub(crate) fn make(engine: &Inner, record: &Record) -> Result<Option<Made>> {
    let host = engine.hierarchies()?;
    let place = place(record)?;
    let (plan, resources) = match plan(&place, record, host) {
        Ok(planned) => planned,
        Err(error) if is_missing(&error) && !asks(record) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut made = plan.make();
    if made.as_ref().is_err_and(|error| error.kind() == Kind::AlreadyExists)
        && let Some(left) = Cgroup::find(&place, host)
    {
        // The room's lock is ours: whatever has the name was left by a supervisor that was killed.
        left.kill()?;
        left.remove_within(PATIENCE)?;
        made = plan.make();
    }
    let group = match made.map_err(Error::from) {
        Ok(group) => group,
        // Version 2 gives nothing on below a group with processes in it, as that of a program in a container is.
        Err(error) if (is_missing(&error) || error.kind() == Kind::InUse) && !asks(record) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let is_any = group.directories().next().is_some();
    Ok(is_any.then_some(Made { group, resources }))
}

/// Whether this host lacks something of control groups, or does not let us have it.
fn is_missing(error: &Error) -> bool {
    matches!(error.kind(), Kind::Unsupported | Kind::Denied)
}

/// Whether anything was asked of them.
fn asks(record: &Record) -> bool {
    record.limits != Limits::default()
        || !record.device_rules.is_empty()
        || record.cgroup_parent.is_some()
        || record.spaces.outlived()
}

/// What would be asked of the group, where one would be made.
pub(crate) fn planned(engine: &Inner, record: &Record) -> Result<Option<LinuxResources>> {
    match plan(&place(record)?, record, engine.hierarchies()?) {
        Ok((_, resources)) => Ok(Some(resources)),
        Err(error) if is_missing(&error) && !asks(record) => Ok(None),
        Err(error) => Err(error),
    }
}

fn plan(place: &Place, record: &Record, host: &Hierarchies) -> Result<(Plan, LinuxResources)> {
    let resources = record.limits.to_oci()?;
    let mut walled = resources.clone();
    walled.set_devices(Some(match record.privileged {
        true => vec![all_devices()],
        false => device_rules(&record.device_rules),
    }));
    match Plan::new(place, &walled, host, Extent::Standard).map_err(Error::from) {
        // Nobody has asked for that: without it the file systems of the container have no devices at all.
        Err(error) if is_missing(&error) && record.device_rules.is_empty() => {
            Ok((Plan::new(place, &resources, host, Extent::Standard)?, resources))
        }
        plan => Ok((plan?, walled)),
    }
}

/// The group of a container, if it is there.
pub(crate) fn find(engine: &Inner, record: &Record) -> Result<Option<Cgroup>> {
    Ok(Cgroup::find(&place(record)?, engine.hierarchies()?))
}

/// Removes what a supervisor that was killed left.
pub(crate) fn discard(engine: &Inner, record: &Record) -> Result<()> {
    match find(engine, record)? {
        Some(group) => {
            group.kill()?;
            Ok(group.remove_within(PATIENCE)?)
        }
        None => Ok(()),
    }
}
