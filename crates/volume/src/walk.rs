//! Going into trees that others wrote: no links followed, no mounts entered, one descriptor per level.

use std::collections::HashSet;

use coracle_host::{Call, Dir, Error, Result};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, openat2, statat};
use rustix::io::Errno;

/// How much there is in a volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// The lengths of all files, in bytes: what docker's `SIZE` is. A file of several names counts once.
    pub bytes: u64,
    /// What the file system says is allotted to them and to the directories, in bytes: less where there are holes.
    /// What a reflink shares counts on both sides.
    pub allotted: u64,
    /// Files, directories and the rest, by number; the volume's own directory not.
    pub entries: u64,
}

/// Adds up what is below `dir`. What vanishes meanwhile doesn't count; what is mounted there is somebody else's.
pub(crate) fn usage(dir: &Dir) -> Result<Usage> {
    let mut usage = Usage::default();
    let mut seen = HashSet::new();
    let mut levels = vec![(dir.clone(), dir.names()?)];
    while let Some((above, children)) = levels.last_mut() {
        let Some(name) = children.pop() else {
            levels.pop();
            continue;
        };
        let at = above.path_of(&name);
        let stat = match statat(&*above, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            stat => stat.call(|| format!("lstat({at:?})"))?,
        };
        usage.entries += 1;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Directory && stat.st_nlink > 1 && !seen.insert((stat.st_dev, stat.st_ino)) {
            continue;
        }
        usage.allotted += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        if kind != FileType::Directory {
            usage.bytes += u64::try_from(stat.st_size).unwrap_or(0);
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let inside = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
        match openat2(&*above, &name, flags, Mode::empty(), inside) {
            Ok(below) => {
                let below = Dir::from_fd(below, at);
                let names = below.names()?;
                levels.push((below, names));
            }
            Err(Errno::NOENT | Errno::XDEV | Errno::NOTDIR | Errno::LOOP) => {}
            Err(errno) => return Err(Error::os(format!("open({at:?})"), errno)),
        }
    }
    Ok(usage)
}
