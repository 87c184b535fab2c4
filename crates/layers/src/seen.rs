//! Files that were looked at while they were open, once all was done to them: whoever goes through the tree that they are in
//! knows them by their inodes.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::FileType;

use crate::tar::{Entry, Time, What};

/// No file has this inode.
const NONE: u64 = 0;

/// What files are to be, and which inodes are just that.
pub(crate) struct Looks {
    files: Vec<(Entry, AtomicU64)>,
}

/// Those that were as they should be, by their inodes.
#[derive(Default)]
pub(crate) struct Seen(HashMap<u64, Entry>);

impl Looks {
    /// For files like these.
    pub fn new(files: impl Iterator<Item = Entry>) -> Looks {
        Looks { files: files.map(|entry| (entry, AtomicU64::new(NONE))).collect() }
    }

    /// Looks at the `nth`, which has no other name and is changed no more.
    pub fn look(&self, nth: usize, file: BorrowedFd<'_>) {
        if let Some((entry, inode)) = self.files.get(nth)
            && let Some(own) = inode_of(file, entry)
        {
            inode.store(own, Ordering::Relaxed);
        }
    }

    /// All that were looked at.
    pub fn seen(self) -> Seen {
        let files = self.files.into_iter().map(|(entry, inode)| (inode.into_inner(), entry));
        Seen(files.filter(|(inode, _)| *inode != NONE).collect())
    }
}

impl Seen {
    /// What the file is that has this inode and this path.
    pub fn get(&self, inode: u64, path: &[u8]) -> Option<Entry> {
        self.0.get(&inode).filter(|entry| entry.path == path).cloned()
    }
}

/// Where the file is just what `entry` says, and without attributes.
fn inode_of(file: BorrowedFd<'_>, entry: &Entry) -> Option<u64> {
    let stat = rustix::fs::fstat(file).ok()?;
    let same = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
        && stat.st_nlink == 1
        && entry.what == (What::File { size: u64::try_from(stat.st_size).ok()? })
        && (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid) == (entry.mode, entry.uid, entry.gid)
        && entry.mtime == (Time { secs: stat.st_mtime, nanos: u32::try_from(stat.st_mtime_nsec).ok()? })
        && entry.xattrs.is_empty();
    (same && rustix::fs::flistxattr_query(file) == Ok(0)).then_some(stat.st_ino)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, Permissions};
    use std::os::fd::AsFd;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::time::{Duration, SystemTime};

    use rustix::fs::XattrFlags;

    use super::*;

    #[test]
    fn only_what_is_just_as_it_should_be_is_known() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("f");
        fs::write(&path, "12345").unwrap();
        let file = File::open(&path).unwrap();
        file.set_permissions(Permissions::from_mode(0o640)).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::new(7, 9)).unwrap();
        let stat = file.metadata().unwrap();
        let right = Entry {
            path: b"d/f".to_vec(),
            what: What::File { size: 5 },
            mode: 0o640,
            uid: stat.uid(),
            gid: stat.gid(),
            mtime: Time { secs: 7, nanos: 9 },
            xattrs: Vec::new(),
        };
        let seen = |entry: &Entry| {
            let looks = Looks::new([entry.clone()].into_iter());
            looks.look(0, file.as_fd());
            looks.look(1, file.as_fd());
            looks.seen().get(stat.ino(), b"d/f")
        };
        assert_eq!(seen(&right), Some(right.clone()));
        for wrong in [
            Entry { path: b"d/other".to_vec(), ..right.clone() },
            Entry { what: What::File { size: 6 }, ..right.clone() },
            Entry { what: What::Fifo, ..right.clone() },
            Entry { mode: 0o600, ..right.clone() },
            Entry { uid: stat.uid() + 1, ..right.clone() },
            Entry { gid: stat.gid() + 1, ..right.clone() },
            Entry { mtime: Time { secs: 7, nanos: 0 }, ..right.clone() },
            Entry { xattrs: vec![(b"user.a".to_vec(), Vec::new())], ..right.clone() },
        ] {
            assert_eq!(seen(&wrong), None, "{wrong:?}");
        }
        assert_eq!(Looks::new([right.clone()].into_iter()).seen().get(stat.ino(), b"d/f"), None);
        rustix::fs::fsetxattr(&file, "user.a", b"x", XattrFlags::empty()).unwrap();
        assert_eq!(seen(&right), None, "it has an attribute");
        rustix::fs::fremovexattr(&file, "user.a").unwrap();
        fs::hard_link(&path, place.path().join("g")).unwrap();
        assert_eq!(seen(&right), None, "it has another name");
    }
}
