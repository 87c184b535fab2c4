//! How a volume is borrowed.

use std::path::{Component, Path, PathBuf};

use coracle_host::Dir;

/// How a volume is wanted: all of it and writable, unless said otherwise. Writing one never fails;
/// [`crate::Volume::lend_on`] reports what is wrong with it.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    pub(crate) read_only: bool,
    pub(crate) subpath: Option<PathBuf>,
    pub(crate) seed: Option<Dir>,
}

impl Terms {
    /// The whole volume, writable, as it is.
    pub fn new() -> Terms {
        Terms::default()
    }

    /// Nothing can be written through the mount, nor through what is mounted below it.
    #[must_use]
    pub fn read_only(mut self) -> Terms {
        self.read_only = true;
        self
    }

    /// Only the directory or file that `path` leads to inside the volume (docker's `volume-subpath`). It must be there,
    /// and no link on the way may lead out: such a path is refused.
    #[must_use]
    pub fn subpath(mut self, path: impl Into<PathBuf>) -> Terms {
        self.subpath = Some(path.into());
        self
    }

    /// A volume that is empty and never was filled takes what `tree` has, before anybody gets it: with the owner and
    /// mode of `tree` itself, and all attributes, times and links below. `tree` is a directory without mounts
    /// in it, such as an image's root has at the place that the volume goes to; where it is on the file system of the
    /// volumes, and that has reflinks, the copy shares its blocks. Without a seed a volume is lent as it is (docker's
    /// `nocopy`), and so is always one that its options put elsewhere.
    #[must_use]
    pub fn seed(mut self, tree: &Dir) -> Terms {
        self.seed = Some(tree.clone());
        self
    }

    /// What no volume could meet.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(path) = &self.subpath {
            if let Some(why) = wrong_with(path) {
                problems.push(format!("subpath {path:?} {why}"));
            }
            if self.seed.is_some() {
                problems.push("a seed fills a whole volume, not a subpath of it".to_owned());
            }
        }
        problems
    }
}

fn wrong_with(path: &Path) -> Option<&'static str> {
    if path.as_os_str().is_empty() {
        Some("is empty")
    } else if path.is_absolute() {
        Some("is not relative to the volume")
    } else if path.components().any(|part| part == Component::ParentDir) {
        Some("leads out of the volume")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subpath_is_below() {
        assert!(Terms::new().subpath("a/b").problems().is_empty());
        let problems = |path: &str| Terms::new().subpath(path).problems();
        assert_eq!(problems(""), [r#"subpath "" is empty"#]);
        assert_eq!(problems("/etc"), [r#"subpath "/etc" is not relative to the volume"#]);
        assert_eq!(problems("a/../../b"), [r#"subpath "a/../../b" leads out of the volume"#]);
    }
}
