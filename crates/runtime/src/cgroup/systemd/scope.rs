//! What a scope is called, and where systemd makes its group.

use std::path::{Path, PathBuf};

use super::value::{self, Property};
use crate::error::{Error, Result};

/// systemd's own limit (`UNIT_NAME_MAX`), with the zero at the end.
const LONGEST: usize = 255;

/// A scope, as a value (systemd.scope(5)).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::cgroup) struct Scope {
    slice: String,
    unit: String,
    /// What it gets besides what resources become.
    pub(in crate::cgroup) properties: Vec<Property>,
}

impl Scope {
    /// `<prefix>-<name>.scope` in a slice (systemd.slice(5)); none is `system.slice`, and `-` the root of all.
    ///
    /// # Errors
    /// Kind `Invalid` for what can be no name of a unit.
    pub(in crate::cgroup) fn new(slice: &str, prefix: &str, name: &str) -> Result<Scope> {
        let slice = match slice {
            "" => "system.slice",
            "-" => "-.slice",
            given => given,
        };
        let stem = slice.strip_suffix(".slice").unwrap_or_default();
        // `a-b.slice` is below `a.slice`: each part between dashes is a name.
        if slice != "-.slice" && (!plain(stem) || stem.split('-').any(str::is_empty)) {
            return Err(Error::invalid(format!("slice {slice:?}: not the name of one, as in `batch.slice`")));
        }
        if name.ends_with(".slice") {
            return Err(Error::invalid(format!(
                "scope {name:?}: that names a slice, which holds no processes"
            )));
        }
        let stem = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}-{name}") };
        let unit = format!("{stem}.scope");
        if name.is_empty() || !plain(&stem) || unit.len() > LONGEST {
            let text = format!("scope {unit:?}: up to {LONGEST} letters, digits and `:-_.\\` name a unit");
            return Err(Error::invalid(text));
        }
        Ok(Scope { slice: slice.to_owned(), unit, properties: Vec::new() })
    }

    /// `slice:prefix:name`, the `cgroupsPath` of a runtime whose groups systemd makes; `None` where it is none.
    pub(in crate::cgroup) fn parse(path: &Path) -> Option<Result<Scope>> {
        let text = path.to_str().filter(|text| !text.contains('/'))?;
        let mut parts = text.splitn(3, ':');
        let (slice, prefix, name) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Scope::new(slice, prefix, name))
    }

    /// With a further property, in GVariant's text format.
    pub(in crate::cgroup) fn set(&mut self, name: &str, text: &str) -> Result<()> {
        self.properties.push(value::property(name, text)?);
        Ok(())
    }

    /// The name of its slice.
    pub(super) fn slice(&self) -> &str {
        &self.slice
    }

    /// Its own name.
    pub(super) fn unit(&self) -> &str {
        &self.unit
    }

    /// Where the group is, in the hierarchy of version 2: the slices, and the directory below them. Slices are nested as
    /// their names say, `a-b.slice` in `a.slice`.
    pub(in crate::cgroup) fn path(&self) -> (PathBuf, String) {
        let mut slices = PathBuf::from("/");
        let stem = self.slice.trim_end_matches(".slice");
        let dashes = stem.match_indices('-').map(|(at, _)| at).filter(|_| stem != "-");
        for end in dashes.chain((stem != "-").then_some(stem.len())) {
            slices.push(escaped(&format!("{}.slice", &stem[..end])));
        }
        (slices, escaped(&self.unit))
    }
}

fn plain(stem: &str) -> bool {
    !stem.is_empty() && stem.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":-_.\\".contains(&byte))
}

/// A unit whose name could be that of a file of the kernel's gets `_` before it (systemd.resource-control(5), "Options").
fn escaped(unit: &str) -> String {
    const CONTROLLERS: [&str; 12] = [
        "cgroup", "cpu", "cpuacct", "cpuset", "io", "blkio", "memory", "devices", "pids", "hugetlb", "rdma",
        "misc",
    ];
    let first = unit.split('.').next().unwrap_or_default();
    match unit.starts_with(['_', '.']) || CONTROLLERS.contains(&first) {
        true => format!("_{unit}"),
        false => unit.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use coracle_host::Kind;

    use super::*;

    fn path(given: &str) -> String {
        let (slices, name) = Scope::parse(Path::new(given)).unwrap().unwrap().path();
        slices.join(name).display().to_string()
    }

    #[test]
    fn groups_are_where_systemd_makes_them() {
        for (given, at) in [
            ("system.slice:docker:7", "/system.slice/docker-7.scope"),
            (":coracle:db", "/system.slice/coracle-db.scope"),
            ("-:coracle:db", "/coracle-db.scope"),
            ("user-1000.slice:libpod:7", "/user.slice/user-1000.slice/libpod-7.scope"),
            ("a-b-c.slice::x", "/a.slice/a-b.slice/a-b-c.slice/x.scope"),
            ("system.slice::memory", "/system.slice/_memory.scope"),
            ("system.slice:a:b:c", "/system.slice/a-b:c.scope"),
        ] {
            assert_eq!(path(given), at, "{given}");
        }
        assert!(Scope::parse(Path::new("/a:b:c")).is_none() && Scope::parse(Path::new("a:b")).is_none());
    }

    #[test]
    fn only_names_of_units() {
        for given in
            ["x:a:b", "a/b.slice", "a--b.slice:a:b", ".slice:a:b", ":a:b c", ":a:", ":a:x.slice", ":é:b"]
        {
            let Some(scope) = Scope::parse(Path::new(given)) else {
                assert_eq!(given, "a/b.slice");
                continue;
            };
            assert_eq!(scope.unwrap_err().kind(), Kind::Invalid, "{given}");
        }
        assert!(Scope::new("", "", &"x".repeat(250)).is_err());
    }
}
