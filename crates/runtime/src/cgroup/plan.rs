//! Resources and facts become a list of operations.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use coracle_host::Kind;
use oci_spec::runtime::LinuxResources;

use super::op::{Op, Write};
use super::settings::{Live, Settings, Want};
use super::systemd::{self, Unit};
use super::{Hierarchies, Hierarchy, Place, Version, filter};
use crate::error::{Error, Problem, Result};

/// How much of the host's control groups a container is put in. In version 1 each hierarchy costs: planned, made, opened,
/// entered by a child and removed some 0.05 ms (measured on Linux 6.18: 0.2 ms for the four of [`Standard`](Self::Standard)). In
/// version 2 there is one, at 0.05 ms. Who wants none makes no [`Plan`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Extent {
    /// Only what the resources need.
    Asked,
    /// Also what is needed to pause and kill (freezer) and for the usual figures (memory, cpuacct, pids).
    #[default]
    Standard,
    /// Every controller that the host has: all figures, and updates that need no new group.
    All,
}

/// What [`Extent::Standard`] has, where the host has it.
const STANDARD: [&str; 4] = ["freezer", "memory", "cpuacct", "pids"];

/// A group in one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) hierarchy: Hierarchy,
    pub(super) dir: PathBuf,
}

/// Directories and writes, in order. `Display` prints one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub(super) place: Place,
    pub(super) groups: Vec<Group>,
    pub(super) ops: Vec<Op>,
}

impl Plan {
    /// Plans a new group with these resources (config-linux.md, "Control groups"). No `devices` means that every device
    /// may be used; of what is not in a list of devices, only [`default_devices`](super::default_devices). A number of 0 means none, as with runc, where 0 is no limit
    /// that anybody could want.
    ///
    /// # Errors
    /// All problems at once: kind `Unsupported` for what the host or its version of control groups doesn't have,
    /// `Invalid` for values that are none, `Denied` for hierarchies that are mounted read-only.
    pub fn new(
        place: &Place,
        resources: &LinuxResources,
        host: &Hierarchies,
        extent: Extent,
    ) -> Result<Plan> {
        let mut settings = Settings::of(resources, host, None);
        if place.is_scope() {
            settings.only_v2(place);
        }
        for (index, hierarchy) in host.0.iter().enumerate().filter(|(_, hierarchy)| hierarchy.writable) {
            let more: BTreeSet<String> = match extent {
                Extent::Asked => continue,
                Extent::Standard => {
                    let named = STANDARD.iter().filter(|name| hierarchy.has(name));
                    named.map(|name| (*name).to_owned()).collect()
                }
                Extent::All => hierarchy.controllers.iter().cloned().collect(),
            };
            let everything_else = host.unified() == Some(index) && host.index_of("freezer") == Some(index);
            if !more.is_empty() || everything_else {
                settings.used.entry(index).or_default().extend(more);
            }
        }
        // Nothing to be done, and nowhere to do it.
        if settings.used.is_empty() && settings.problems.is_empty() && extent != Extent::Asked {
            let text = format!("cgroup {place}: this host has no control groups that could be written to");
            settings.problems.push(Problem { kind: Kind::Unsupported, text });
        }
        Plan::of(place, host, settings, &[])
    }

    /// What is missing for these resources in a group that is there.
    pub(super) fn update(
        place: &Place,
        resources: &LinuxResources,
        host: &Hierarchies,
        there: &[Group],
        live: &Live,
    ) -> Result<Plan> {
        Plan::of(place, host, Settings::of(resources, host, Some(live)), there)
    }

    fn of(place: &Place, host: &Hierarchies, settings: Settings<'_>, there: &[Group]) -> Result<Plan> {
        let Settings { wants, used, mut problems, .. } = settings;
        let mut plan = Plan { place: place.clone(), groups: Vec::new(), ops: Vec::new() };
        let mut dirs = BTreeMap::new();
        for (index, controllers) in &used {
            let hierarchy = &host.0[*index];
            let Some(levels) = place.levels(hierarchy) else {
                let point = hierarchy.point.display();
                let text = format!(
                    "cgroup {place}: this process's own group is outside of what is mounted at {point}; name an absolute place"
                );
                problems.push(Problem { kind: Kind::Unsupported, text });
                continue;
            };
            let (Some(dir), Some(top)) = (levels.last(), place.top(hierarchy)) else { continue };
            let group = Group { hierarchy: hierarchy.clone(), dir: dir.clone() };
            dirs.insert(*index, group.dir.clone());
            let new = !there.iter().any(|old| old.dir == group.dir);
            match place.unit() {
                Some(scope) => plan.scope(Unit::of(scope, &wants), &group, top, &levels, controllers, new),
                None => plan.directories(&group, top, &levels, controllers, new),
            }
            if new {
                plan.groups.push(group);
            }
        }
        if !problems.is_empty() {
            return Err(Error::problems(problems));
        }
        plan.ops.extend(wants.into_iter().filter_map(|want| op(want, &dirs)));
        Ok(plan)
    }

    fn directories(
        &mut self,
        group: &Group,
        top: PathBuf,
        levels: &[PathBuf],
        controllers: &BTreeSet<String>,
        new: bool,
    ) {
        let hierarchy = &group.hierarchy;
        // `devices` and `freezer` need not be given on in version 2.
        let given: Vec<String> = controllers.iter().filter(|name| hierarchy.has(name)).cloned().collect();
        let enable = hierarchy.version == Version::V2 && !given.is_empty();
        let inherit = hierarchy.version == Version::V1 && hierarchy.has("cpuset");
        let mut above = top;
        for (index, dir) in levels.iter().enumerate() {
            if enable {
                self.ops.push(Op::Enable { dir: above, controllers: given.clone() });
            }
            above = dir.clone();
            if new {
                self.ops.push(Op::Make { dir: dir.clone(), parent: index + 1 < levels.len() });
                if inherit {
                    self.ops.push(Op::Inherit { dir: dir.clone() });
                }
            }
        }
    }

    /// systemd makes the directory, and gives on to it what it knows.
    fn scope(
        &mut self,
        unit: Unit,
        group: &Group,
        top: PathBuf,
        levels: &[PathBuf],
        controllers: &BTreeSet<String>,
        new: bool,
    ) {
        if new {
            self.ops.push(Op::Start { unit, dir: group.dir.clone() });
        } else if !unit.is_bare() {
            self.ops.push(Op::Set { unit });
        }
        let its = |name: &&String| systemd::ITS_CONTROLLERS.contains(&name.as_str());
        let rest = controllers.iter().filter(|name| group.hierarchy.has(name) && !its(name));
        let rest: Vec<String> = rest.cloned().collect();
        let above = [top].into_iter().chain(levels.iter().cloned()).take(levels.len());
        let enable = above.map(|dir| Op::Enable { dir, controllers: rest.clone() });
        self.ops.extend(enable.filter(|_| !rest.is_empty()));
    }
}

fn op(want: Want, dirs: &BTreeMap<usize, PathBuf>) -> Option<Op> {
    Some(match want {
        Want::Write { home, controller, choices, setting, manner } => {
            Op::Write(Write { dir: dirs.get(&home)?.clone(), controller, choices, setting, manner })
        }
        Want::Below { home, file, limit, setting } => {
            Op::Below { file: dirs.get(&home)?.join(file), limit, setting }
        }
        Want::Filter { home, rules } => Op::Filter {
            dir: dirs.get(&home)?.clone(),
            program: filter::assemble(&rules),
            rules: rules.0.len(),
        },
    })
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, op) in self.ops.iter().enumerate() {
            write!(f, "{}{op}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}
