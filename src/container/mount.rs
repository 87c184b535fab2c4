//! Mounts of a container, as values.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use coracle_layers::ChainId;
use serde::{Deserialize, Serialize};

/// What a mount shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Source {
    /// A volume by its name; made if it is not there.
    Volume(String),
    /// A new volume without a name of its own, which goes with the container.
    Anonymous,
    /// A new volume without a name of its own that begins as the frozen volume of this name, and goes with the container.
    Clone(String),
    /// A directory or file of the host, by its absolute path.
    Bind(PathBuf),
    /// Memory, empty at each start.
    Tmpfs,
    /// The file system of an image, read-only.
    Image(String),
}

/// Whether what is mounted on one side of a bind later shows on the other side, too (mount_namespaces(7)). With the `R`
/// forms that goes for the mounts below it as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // mount(8)'s words
pub enum Propagation {
    #[default]
    RPrivate,
    Private,
    RSlave,
    Slave,
    RShared,
    Shared,
}

impl Propagation {
    /// mount(8)'s word for it: `rprivate`.
    pub fn word(self) -> &'static str {
        match self {
            Propagation::RPrivate => "rprivate",
            Propagation::Private => "private",
            Propagation::RSlave => "rslave",
            Propagation::Slave => "slave",
            Propagation::RShared => "rshared",
            Propagation::Shared => "shared",
        }
    }
}

/// What of a bind takes along what is mounted below it (docker's `bind-recursive`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recursion {
    /// All of it: a read-only mount is read-only to its depth.
    #[default]
    Enabled,
    /// Nothing: what is mounted below is not seen.
    Disabled,
    /// What is mounted below is seen, and stays writable where the mount itself is read-only.
    Writable,
}

/// A mount of a container, as a value. Writing one never fails; what is wrong with it, such as an option that its source
/// doesn't have, is an error of [`Engine::start`](crate::Engine::start).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    pub(crate) source: Source,
    pub(crate) at: PathBuf,
    #[serde(default)]
    pub(crate) read_only: bool,
    #[serde(default)]
    pub(crate) subpath: Option<PathBuf>,
    #[serde(default)]
    pub(crate) no_copy: bool,
    #[serde(default)]
    pub(crate) driver: Option<String>,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    /// Of a volume's driver.
    #[serde(default)]
    pub(crate) options: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) create: bool,
    #[serde(default)]
    pub(crate) propagation: Option<Propagation>,
    #[serde(default)]
    pub(crate) recursion: Recursion,
    #[serde(default)]
    pub(crate) relabel: bool,
    /// tmpfs(5)'s options and mount flags, in mount(8)'s words.
    #[serde(default)]
    pub(crate) words: Vec<String>,
    /// In a record: the volume's name was drawn for the container.
    #[serde(default)]
    pub(crate) drawn: bool,
    /// In a record: the frozen volume that the volume begins as.
    #[serde(default)]
    pub(crate) base: Option<String>,
    /// In a record: what the image is made of.
    #[serde(default)]
    pub(crate) layers: Vec<ChainId>,
}

impl Mount {
    /// A mount of `source` at this absolute path of the container.
    pub fn new(source: Source, at: impl AsRef<Path>) -> Mount {
        Mount {
            source,
            at: at.as_ref().to_owned(),
            read_only: false,
            subpath: None,
            no_copy: false,
            driver: None,
            labels: BTreeMap::new(),
            options: BTreeMap::new(),
            create: false,
            propagation: None,
            recursion: Recursion::default(),
            relabel: false,
            words: Vec::new(),
            drawn: false,
            base: None,
            layers: Vec::new(),
        }
    }

    /// A volume (a [`Volume`](crate::Volume) or a name), made if it is not there.
    pub fn volume(volume: impl Into<String>, at: impl AsRef<Path>) -> Mount {
        Mount::new(Source::Volume(volume.into()), at)
    }

    /// A new volume without a name of its own.
    pub fn anonymous(at: impl AsRef<Path>) -> Mount {
        Mount::new(Source::Anonymous, at)
    }

    /// A new volume without a name of its own that begins as a frozen one (a [`Volume`](crate::Volume) or a name), at once
    /// and whatever its size.
    pub fn clone_of(frozen: impl Into<String>, at: impl AsRef<Path>) -> Mount {
        Mount::new(Source::Clone(frozen.into()), at)
    }

    /// A directory or file of the host, which must be there unless [`Mount::create`] says otherwise.
    pub fn bind(host: impl AsRef<Path>, at: impl AsRef<Path>) -> Mount {
        Mount::new(Source::Bind(host.as_ref().to_owned()), at)
    }

    /// Memory: `nosuid,nodev,noexec`, as big as half of the host's; with the mode of the image's directory there, or writable
    /// for everybody where it has none.
    pub fn tmpfs(at: impl AsRef<Path>) -> Mount {
        Mount::new(Source::Tmpfs, at)
    }

    /// The file system of an image: an [`Image`](crate::Image), a name, an id. Always read-only.
    pub fn image(image: impl Into<String>, at: impl AsRef<Path>) -> Mount {
        Mount::new(Source::Image(image.into()), at)
    }

    /// Nothing can be written through it, nor through what is mounted below it.
    #[must_use]
    pub fn read_only(mut self) -> Mount {
        self.read_only = true;
        self
    }

    /// Of a volume or image only what this relative path leads to in it; it must be there, and no link on the way
    /// may lead out.
    #[must_use]
    pub fn subpath(mut self, path: impl Into<PathBuf>) -> Mount {
        self.subpath = Some(path.into());
        self
    }

    /// An empty volume is not filled with what the image has at the place.
    #[must_use]
    pub fn no_copy(mut self) -> Mount {
        self.no_copy = true;
        self
    }

    /// The driver of a volume that has to be made first.
    #[must_use]
    pub fn driver(mut self, driver: impl Into<String>) -> Mount {
        self.driver = Some(driver.into());
        self
    }

    /// A label of a volume that has to be made first.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Mount {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// An option of the driver of a volume that has to be made first; see
    /// [`VolumeSpec::option`](crate::VolumeSpec::option).
    #[must_use]
    pub fn volume_option(mut self, key: impl Into<String>, value: impl Into<String>) -> Mount {
        self.options.insert(key.into(), value.into());
        self
    }

    /// A directory of the host that is missing is made, with all above it.
    #[must_use]
    pub fn create(mut self) -> Mount {
        self.create = true;
        self
    }

    /// How mounts below a bind propagate; `rprivate` unless it is said. Others than the private ones want a source that
    /// is on a shared mount of the host.
    #[must_use]
    pub fn propagation(mut self, propagation: Propagation) -> Mount {
        self.propagation = Some(propagation);
        self
    }

    /// What a bind takes along of what is mounted below it.
    #[must_use]
    pub fn recursion(mut self, recursion: Recursion) -> Mount {
        self.recursion = recursion;
        self
    }

    /// The source gets a label that lets the container have it, on a host with SELinux. There that is not supported yet;
    /// on others there is nothing to do.
    #[must_use]
    pub fn relabel(mut self) -> Mount {
        self.relabel = true;
        self
    }

    /// The greatest size of a tmpfs, in bytes.
    #[must_use]
    pub fn size(self, bytes: u64) -> Mount {
        self.option(format!("size={bytes}"))
    }

    /// The mode of a tmpfs' root, such as `0o700`.
    #[must_use]
    pub fn mode(self, mode: u32) -> Mount {
        self.option(format!("mode={mode:o}"))
    }

    /// An option of a tmpfs: `size=64m`, `mode=700`, `uid=7`, `gid=7`, `nr_inodes=1k`, `nr_blocks=1k`, `mpol=…`, `huge=…`
    /// (tmpfs(5)), or a flag of mount(8): `exec`, `suid`, `dev`, `noatime`, `ro` and their opposites.
    #[must_use]
    pub fn option(mut self, option: impl Into<String>) -> Mount {
        self.words.push(option.into());
        self
    }

    /// What it shows. Of a container that was started, a volume without a name of its own has the one that was drawn.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Where in the container.
    pub fn at(&self) -> &Path {
        &self.at
    }

    /// Whether nothing can be written through it.
    pub fn is_read_only(&self) -> bool {
        self.read_only || matches!(self.source, Source::Image(_))
    }

    /// What it says itself about how mounts below it propagate.
    pub fn propagates(&self) -> Option<Propagation> {
        self.propagation
    }

    /// The options of a tmpfs.
    pub fn tmpfs_options(&self) -> &[String] {
        &self.words
    }

    /// docker's word for its source: `volume`, `bind`, `tmpfs`, `image`.
    pub fn kind(&self) -> &'static str {
        match self.source {
            Source::Volume(_) | Source::Anonymous | Source::Clone(_) => "volume",
            Source::Bind(_) => "bind",
            Source::Tmpfs => "tmpfs",
            Source::Image(_) => "image",
        }
    }

    /// Everything that is wrong with it by itself.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let nul = |path: &Path| path.as_os_str().as_encoded_bytes().contains(&0);
        let at = &self.at;
        let inside = at.is_absolute() && at.parent().is_some();
        if !inside || at.components().any(|part| part == Component::ParentDir) || nul(at) {
            problems.push("the place must be an absolute path below /, without `..`".to_owned());
        }
        let is_volume = matches!(self.source, Source::Volume(_) | Source::Anonymous | Source::Clone(_));
        let is_bind = matches!(self.source, Source::Bind(_));
        let is_image = matches!(self.source, Source::Image(_));
        let only = [
            (self.subpath.is_some() && !is_volume && !is_image, "a subpath", "volumes and images"),
            (self.no_copy && !is_volume, "`no_copy`", "volumes"),
            (self.driver.is_some() && !is_volume, "a driver", "volumes"),
            (!self.labels.is_empty() && !is_volume, "a label", "volumes"),
            (!self.options.is_empty() && !is_volume, "a volume option", "volumes"),
            (self.create && !is_bind, "`create`", "binds"),
            (self.propagation.is_some() && !is_bind, "a propagation", "binds"),
            (self.recursion != Recursion::Enabled && !is_bind, "a recursion", "binds"),
            (!self.words.is_empty() && self.source != Source::Tmpfs, "an option", "a tmpfs"),
        ];
        let only = only.into_iter().filter(|(wrong, ..)| *wrong);
        problems.extend(only.map(|(_, what, whose)| format!("{what} is for {whose}")));
        if self.recursion == Recursion::Writable && !self.read_only {
            problems.push("only what is mounted below a read-only mount can be said to stay writable".into());
        }
        if let Some(path) = &self.subpath
            && (path.as_os_str().is_empty()
                || path.is_absolute()
                || path.components().any(|part| part == Component::ParentDir))
        {
            problems.push(format!("subpath {path:?} is not a relative path without `..`"));
        }
        if let Source::Bind(path) = &self.source
            && (!path.is_absolute() || nul(path))
        {
            problems.push(format!("{path:?}: a host path must be absolute"));
        }
        problems.extend(self.words.iter().filter_map(|word| super::tmpfs::problem(word)));
        problems.into_iter().map(|problem| format!("mount at {at:?}: {problem}")).collect()
    }
}

/// `/data` and `/data/` are one place.
pub(crate) fn same_place(a: &Path, b: &Path) -> bool {
    a.components().eq(b.components())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_of_another_source_is_named() {
        let wrong = |mount: Mount| mount.problems().join("; ");
        assert_eq!(wrong(Mount::volume("db", "/d").read_only().subpath("a/b").no_copy().driver("local")), "");
        assert_eq!(wrong(Mount::bind("/s", "/d").create().propagation(Propagation::RSlave).relabel()), "");
        assert_eq!(wrong(Mount::tmpfs("/d").size(1 << 20).mode(0o700).option("exec")), "");
        assert_eq!(wrong(Mount::image("i", "/d").subpath("etc")), "");
        assert_eq!(
            wrong(Mount::bind("/s", "/d").subpath("x")),
            "mount at \"/d\": a subpath is for volumes and images"
        );
        assert_eq!(
            wrong(Mount::tmpfs("/d").no_copy().create()),
            "mount at \"/d\": `no_copy` is for volumes; mount at \"/d\": `create` is for binds"
        );
        assert_eq!(wrong(Mount::volume("db", "/d").size(1)), "mount at \"/d\": an option is for a tmpfs");
        for at in ["/", "d", "/a/../b", ""] {
            assert!(wrong(Mount::anonymous(at)).contains("absolute path below /"), "{at}");
        }
        for path in ["", "/etc", "../x", "a/.."] {
            assert!(
                wrong(Mount::volume("db", "/d").subpath(path)).contains("is not a relative path"),
                "{path}"
            );
        }
        assert!(wrong(Mount::bind("s", "/d")).contains("must be absolute"));
        assert!(wrong(Mount::bind("/s", "/d").recursion(Recursion::Writable)).contains("stay writable"));
    }
}
