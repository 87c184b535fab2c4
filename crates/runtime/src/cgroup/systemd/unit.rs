//! What systemd is asked to make, as a value.

use std::fmt;

use super::{Scope, properties, value::Property, value::Value};
use crate::cgroup::settings::Want;

/// What controllers systemd hands on by itself to a scope that is delegated.
pub(in crate::cgroup) const ITS_CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

/// A scope with what its resources become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cgroup) struct Unit {
    pub(super) scope: Scope,
    /// Those of the resources.
    pub(super) resources: Vec<Property>,
}

impl Unit {
    /// What these settings make of it, of which the files get the exact values afterwards.
    pub(in crate::cgroup) fn of(scope: &Scope, wants: &[Want]) -> Unit {
        let mut resources: Vec<Property> = Vec::new();
        for want in wants {
            let Want::Write { choices, .. } = want else { continue };
            for property in choices.iter().flat_map(|(file, value)| properties::of(file, value)) {
                // The last one counts, as it does in the file.
                resources.retain(|(name, _)| *name != property.0);
                resources.push(property);
            }
        }
        Unit { scope: scope.clone(), resources }
    }

    /// Whether systemd has nothing to know of the resources.
    pub(in crate::cgroup) fn is_bare(&self) -> bool {
        self.resources.is_empty()
    }

    /// All that a new one gets, the first process apart.
    pub(super) fn properties(&self) -> Vec<Property> {
        let text = |text: &str| Value::Str(text.to_owned());
        let mut all: Vec<Property> = [
            ("Description", text("container of coracle")),
            ("Slice", text(self.scope.slice())),
            // What is below belongs to whoever made it, and every controller is there.
            ("Delegate", Value::Bool(true)),
            // It ends when whoever made it ends it, not earlier on the way down of the host.
            ("DefaultDependencies", Value::Bool(false)),
            // One that failed is not kept to be looked at.
            ("CollectMode", text("inactive-or-failed")),
            // For a scope that says nothing systemd has a limit of its own (`DefaultTasksMax=`).
            ("TasksMax", Value::U64(u64::MAX)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        let given = self.resources.iter().chain(&self.scope.properties);
        for (name, value) in given {
            all.retain(|(old, _)| old != name);
            all.push((name.clone(), value.clone()));
        }
        all
    }
}

/// `coracle-db.scope in system.slice (MemoryMax=67108864)`
impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.scope.unit(), self.scope.slice())?;
        let all = self.resources.iter().chain(&self.scope.properties);
        for (index, (name, value)) in all.enumerate() {
            write!(f, "{}{name}={value}", if index == 0 { " (" } else { ", " })?;
        }
        let any = !self.resources.is_empty() || !self.scope.properties.is_empty();
        f.write_str(if any { ")" } else { "" })
    }
}
