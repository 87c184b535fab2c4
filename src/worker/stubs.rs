//! The places that mounts need in a snapshot, which are no part of what a step did.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use coracle_host::{Call, Root};
use rustix::fs::{AtFlags, FileType, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use crate::error::Result;

/// What is not there before a step, and is only made to mount something on.
pub(super) struct Stubs(Vec<PathBuf>);

impl Stubs {
    /// Looks which of the places are missing, and what of the way to them.
    pub(super) fn before<'p>(root: Root<'_>, places: impl Iterator<Item = &'p str>) -> Result<Stubs> {
        let mut missing: Vec<PathBuf> = Vec::new();
        for place in places {
            for path in Path::new(place).ancestors().filter(|path| path.parent().is_some()) {
                match root.open(path, OFlags::PATH) {
                    Ok(_) => break,
                    Err(error) if matches!(error.errno(), Some(Errno::NOENT | Errno::NOTDIR)) => {
                        missing.push(path.to_owned());
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        // What is in a directory comes before it.
        missing.sort();
        missing.dedup();
        missing.reverse();
        Ok(Stubs(missing))
    }

    /// Removes them, where the step has not made more of them than that. The times of the directories that they were
    /// in stay as they are.
    pub(super) fn remove(&self, root: Root<'_>) -> Result<()> {
        for path in &self.0 {
            let (parent, name) = match root.parent(path) {
                Ok(found) => found,
                // The step has removed it.
                Err(error) if matches!(error.errno(), Some(Errno::NOENT | Errno::NOTDIR)) => continue,
                Err(error) => return Err(error.into()),
            };
            let stat = match rustix::fs::statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(errno) => Err(errno).call(|| format!("fstatat({path:?})"))?,
            };
            let flags = match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => AtFlags::REMOVEDIR,
                FileType::RegularFile if stat.st_size == 0 => AtFlags::empty(),
                _ => continue,
            };
            let above = rustix::fs::fstat(&parent).call(|| format!("fstat({path:?}/..)"))?;
            match rustix::fs::unlinkat(&parent, &name, flags) {
                Ok(()) => {}
                Err(Errno::NOTEMPTY | Errno::NOENT) => continue,
                Err(errno) => Err(errno).call(|| format!("unlink({path:?})"))?,
            }
            let time = |seconds: i64, nanos: u64| Timespec {
                tv_sec: seconds,
                tv_nsec: i64::try_from(nanos).unwrap_or(0),
            };
            let times = Timestamps {
                last_access: time(above.st_atime, above.st_atime_nsec as u64),
                last_modification: time(above.st_mtime, above.st_mtime_nsec as u64),
            };
            rustix::fs::utimensat(parent.as_fd(), ".", &times, AtFlags::empty())
                .call(|| format!("utimensat({path:?}/..)"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_made_to_mount_on_is_removed() {
        let place = tempfile::tempdir().unwrap();
        let at = place.path();
        std::fs::create_dir_all(at.join("etc")).unwrap();
        std::fs::write(at.join("etc/kept"), "").unwrap();
        let dir = std::fs::File::open(at).unwrap();
        let root = Root::new(dir.as_fd(), "test");
        let places = ["/etc/hosts", "/etc/kept", "/a/b/c", "/d/e", "/f"];
        let stubs = Stubs::before(root, places.into_iter()).unwrap();
        std::fs::create_dir_all(at.join("a/b/c")).unwrap();
        std::fs::create_dir_all(at.join("d/e")).unwrap();
        std::fs::write(at.join("d/more"), "").unwrap();
        std::fs::write(at.join("etc/hosts"), "").unwrap();
        std::fs::write(at.join("f"), "not empty").unwrap();
        let before = at.join("etc").metadata().unwrap().modified().unwrap();
        stubs.remove(root).unwrap();
        for (path, there) in [
            ("etc/hosts", false),
            ("etc/kept", true),
            ("a", false),
            ("d/e", false),
            ("d/more", true),
            ("f", true),
        ] {
            assert_eq!(at.join(path).exists(), there, "{path}");
        }
        assert_eq!(at.join("etc").metadata().unwrap().modified().unwrap(), before);
    }
}
