//! The control group of a RUN step, where the build was told whose child it is to be.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use coracle_host::{Call, Dir};
use coracle_runtime::cgroup::{Cgroup, Extent, Plan};
use oci_spec::runtime::LinuxResources;

use super::{Builder, Change};
use crate::container::place_below;
use crate::error::Result;

impl Builder<'_> {
    /// Makes the step's group, if it is to have one, and removes those that builds left which were killed.
    pub(super) fn group(&self, place: &Change) -> Result<Option<Cgroup>> {
        let Some(parent) = &self.cgroup_parent else { return Ok(None) };
        let host = self.engine.hierarchies()?;
        let names = Names::of(place.staged.dir())?;
        let at = place_below(parent, &names.own)?;
        let group = Plan::new(&at, &LinuxResources::default(), host, Extent::Standard)?.make()?;
        if at.is_scope() {
            // systemd removes them.
            return Ok(Some(group));
        }
        for name in names.left(&group)? {
            if let Some(left) = Cgroup::find(&place_below(parent, &name)?, host) {
                left.kill()?;
                left.remove()?;
            }
        }
        Ok(Some(group))
    }
}

/// What groups of steps are called: `build-<state directory>-<corner of its tmp/>-<directory in it>`. A corner is there as long as
/// who has it lives, or until the next one opens the state directory; so groups of a corner that is gone are nobody's.
struct Names {
    own: String,
    /// What those of this state directory begin with.
    prefix: String,
    tmp: PathBuf,
}

impl Names {
    fn of(staged: &Dir) -> Result<Names> {
        let name = |path: Option<&Path>| {
            let name = path.and_then(Path::file_name).unwrap_or_default();
            name.to_string_lossy().into_owned()
        };
        let (path, corner) = (staged.path(), staged.path().parent());
        let tmp = corner.and_then(Path::parent).unwrap_or(path);
        let stat = rustix::fs::stat(tmp).call(|| format!("stat({tmp:?})"))?;
        let prefix = format!("build-{:x}.{:x}-", stat.st_dev, stat.st_ino);
        let own = format!("{prefix}{}-{}", name(corner), name(Some(path)));
        Ok(Names { own, prefix, tmp: tmp.to_owned() })
    }

    /// Those beside this group that nobody has.
    fn left(&self, group: &Cgroup) -> Result<BTreeSet<String>> {
        let mut left = BTreeSet::new();
        for parent in group.directories().filter_map(|(_, own)| own.parent()) {
            for name in Dir::open(parent)?.names()? {
                let Some(name) = name.to_str() else { continue };
                let corner = name.strip_prefix(&self.prefix).and_then(|rest| rest.rsplit_once('-'));
                if corner.is_some_and(|(corner, _)| !self.tmp.join(corner).exists()) {
                    left.insert(name.to_owned());
                }
            }
        }
        Ok(left)
    }
}
