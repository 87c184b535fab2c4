//! Where a group is.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use coracle_host::Kind;

use super::Hierarchy;
use crate::error::{Error, Problem, Result};

/// What groups begin with for which the caller names no parent.
const OURS: &str = "coracle-";

/// The name of a group and that of its parent, the same in every hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    parent: PathBuf,
    name: String,
}

impl Place {
    /// `/coracle-<name>`: at the top of each hierarchy, so that nothing is shared with others, or left by the last one.
    ///
    /// # Errors
    /// Kind `Invalid` for a name that is no file name.
    pub fn new(name: &str) -> Result<Place> {
        Place::below("/", &format!("{OURS}{name}"))
    }

    /// `<parent>/<name>`. An absolute parent counts from the mount points of the hierarchies, a relative one from this
    /// process's own groups. It is made where it is not there, and stays.
    ///
    /// # Errors
    /// Kind `Invalid` for a name that is no file name, and a parent with `..` in it.
    pub fn below(parent: impl AsRef<Path>, name: &str) -> Result<Place> {
        let parent = parent.as_ref();
        let path = parent.join(name);
        let plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::RootDir);
        if name.is_empty() || name == "." || name.contains(['/', '\n']) || !path.components().all(plain) {
            return Err(Error::invalid(format!("cgroup {path:?}: not a path of plain names")));
        }
        Ok(Place { parent: parent.to_owned(), name: name.to_owned() })
    }

    /// The `cgroupsPath` of a spec (config-linux.md, "Cgroups Path").
    ///
    /// # Errors
    /// Kind `Unsupported` for systemd's `slice:prefix:name`, `Invalid` for what is no path of plain names.
    pub fn from_oci(path: &Path) -> Result<Place> {
        let text = path.to_string_lossy();
        if !text.starts_with('/') && text.split(':').count() == 3 {
            let text = format!(
                "linux.cgroupsPath {text:?}: scopes of systemd are not supported; give a path, as `--cgroup-manager \
                 cgroupfs` or `native.cgroupdriver=cgroupfs` of the caller do"
            );
            return Err(Error::problems(vec![Problem { kind: Kind::Unsupported, text }]));
        }
        let (parent, name) = (path.parent(), path.file_name().and_then(|name| name.to_str()));
        match (parent, name) {
            (Some(parent), Some(name)) => Place::below(parent, name),
            _ => Err(Error::invalid(format!("linux.cgroupsPath {text:?}: not a path of plain names"))),
        }
    }

    /// The last component.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directories of this place in a hierarchy, outermost first, the group's own last. `None` where the place is
    /// relative and this process's own group can't be reached.
    pub(super) fn levels(&self, hierarchy: &Hierarchy) -> Option<Vec<PathBuf>> {
        let mut at = match self.parent.strip_prefix("/") {
            Ok(_) => hierarchy.point.clone(),
            Err(_) => hierarchy.own.clone()?,
        };
        let mut levels = Vec::new();
        for part in self.parent.components() {
            if let Component::Normal(part) = part {
                at.push(part);
                levels.push(at.clone());
            }
        }
        levels.push(at.join(&self.name));
        Some(levels)
    }

    /// The directory that the levels are below of.
    pub(super) fn top(&self, hierarchy: &Hierarchy) -> Option<PathBuf> {
        self.levels(hierarchy)?.first()?.parent().map(Path::to_owned)
    }

    pub(super) fn dir(&self, hierarchy: &Hierarchy) -> Option<PathBuf> {
        self.levels(hierarchy)?.pop()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.parent.join(&self.name).display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names() {
        for (parent, name) in [
            ("/a", ""),
            ("/a", ".."),
            ("/a", "."),
            ("/a", "b/c"),
            ("/a", "b\n"),
            ("../a", "b"),
            ("/a/../b", "c"),
        ] {
            assert_eq!(Place::below(parent, name).unwrap_err().kind(), Kind::Invalid, "{parent} {name}");
        }
        assert_eq!(Place::new("db").unwrap().to_string(), "/coracle-db");
        assert_eq!(Place::from_oci(Path::new("pods/7")).unwrap(), Place::below("pods", "7").unwrap());
        assert_eq!(Place::from_oci(Path::new("/7")).unwrap(), Place::below("/", "7").unwrap());
        let scope = Place::from_oci(Path::new("system.slice:docker:7")).unwrap_err();
        assert_eq!(scope.kind(), Kind::Unsupported);
        assert!(Place::from_oci(Path::new("/")).is_err());
    }
}
