//! What a plan must know of the host.

use std::collections::BTreeMap;
use std::path::Path;

/// Facts of the host that plans depend on. Gathered once and passed in, so that planning itself looks at
/// nothing.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    paths: BTreeMap<String, bool>,
    everything_is_there: bool,
    parent: u32,
}

impl Facts {
    /// The facts of this host, as far as the given paths of proc and sysfs are concerned: what a container sees there is
    /// what the host's own mounts have, since it is the same kernel.
    pub fn of_this_host() -> Facts {
        // In a pid namespace that has no proc of its own these two differ.
        let shown = std::fs::read_link("/proc/self").ok().and_then(|pid| pid.to_str()?.parse().ok());
        let parent = shown.unwrap_or_else(std::process::id);
        Facts { paths: BTreeMap::new(), everything_is_there: false, parent }
    }

    /// Made-up facts for a dry run or a test: every path is there, and is a directory unless it is listed in `files`.
    pub fn assumed(files: &[&str]) -> Facts {
        let paths = files.iter().map(|path| ((*path).to_owned(), false)).collect();
        Facts { paths, everything_is_there: true, parent: 1 }
    }

    /// Whether there is something at `path`, and whether it is a directory.
    pub(crate) fn is_dir(&self, path: &str) -> Option<bool> {
        match self.paths.get(path) {
            Some(known) => Some(*known),
            None if self.everything_is_there => Some(true),
            None => Path::new(path).metadata().ok().map(|metadata| metadata.is_dir()),
        }
    }

    /// The process that starts the container, as its own proc shows it.
    pub(crate) fn parent(&self) -> u32 {
        self.parent
    }
}
