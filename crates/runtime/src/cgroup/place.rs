//! Where a group is.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use super::Hierarchy;
use super::systemd::Scope;
use crate::error::{Error, Result};

/// What groups begin with for which the caller names no parent.
const OURS: &str = "coracle-";

/// The name of a group and that of its parent, the same in every hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    parent: PathBuf,
    name: String,
    /// systemd makes it.
    scope: Option<Scope>,
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
        Ok(Place { parent: parent.to_owned(), name: name.to_owned(), scope: None })
    }

    /// `coracle-<name>.scope` in a slice such as `system.slice`: a group that systemd makes, and counts as its own unit
    /// (systemd.scope(5)). That needs a host that is run by systemd, cgroup v2, and root.
    ///
    /// # Errors
    /// Kind `Invalid` for what can be no name of a slice or a scope.
    pub fn scope(slice: &str, name: &str) -> Result<Place> {
        Ok(Place::of(Scope::new(slice, OURS.trim_end_matches('-'), name)?))
    }

    fn of(scope: Scope) -> Place {
        let (parent, name) = scope.path();
        Place { parent, name, scope: Some(scope) }
    }

    /// With a further property for the unit that systemd makes: its name there, and a value in GVariant's text format, as
    /// `uint64 10000000`. Those that the resources become are overridden.
    ///
    /// # Errors
    /// Kind `Invalid` for a name that is none and where systemd makes no unit, `Unsupported` for types of values that no such property has.
    pub fn property(mut self, name: &str, text: &str) -> Result<Place> {
        match &mut self.scope {
            Some(scope) => scope.set(name, text)?,
            None => {
                return Err(Error::invalid(format!(
                    "cgroup {self}: no unit of systemd's, which has properties"
                )));
            }
        }
        Ok(self)
    }

    /// Whether systemd makes it.
    pub fn is_scope(&self) -> bool {
        self.scope.is_some()
    }

    /// The `cgroupsPath` of a spec (config-linux.md, "Cgroups Path"): a path, or `slice:prefix:name` for a scope that
    /// systemd makes, as the runtimes agree.
    ///
    /// # Errors
    /// Kind `Invalid` for what is no path of plain names, and no name of a slice or a scope.
    pub fn from_oci(path: &Path) -> Result<Place> {
        if let Some(scope) = Scope::parse(path) {
            return Ok(Place::of(scope?));
        }
        let text = path.to_string_lossy();
        let (parent, name) = (path.parent(), path.file_name().and_then(|name| name.to_str()));
        match (parent, name) {
            (Some(parent), Some(name)) => Place::below(parent, name),
            _ => Err(Error::invalid(format!("linux.cgroupsPath {text:?}: not a path of plain names"))),
        }
    }

    pub(super) fn unit(&self) -> Option<&Scope> {
        self.scope.as_ref()
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
    use coracle_host::Kind;

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
        let scope = Place::from_oci(Path::new("system.slice:docker:7")).unwrap();
        assert_eq!((scope.to_string().as_str(), scope.is_scope()), ("/system.slice/docker-7.scope", true));
        assert_eq!(Place::scope("", "db").unwrap().to_string(), "/system.slice/coracle-db.scope");
        let plain = Place::new("db").unwrap().property("After", "'x.service'");
        assert_eq!(plain.unwrap_err().kind(), Kind::Invalid);
        assert!(Place::from_oci(Path::new("/")).is_err());
    }
}
