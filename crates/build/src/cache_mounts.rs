//! The directories of `RUN --mount=type=cache`: plain, named, lent under locks.

use std::os::fd::AsFd;
use std::time::{Duration, SystemTime};

use coracle_host::{Call, Dir, Kind, Lock, Staging};
use rustix::fs::{AtFlags, FileType, Gid, Mode, Timestamps, UTIME_NOW, Uid};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files::digest::Fields;
use crate::mount::Sharing;

/// What becomes the room, in a staged directory.
const ROOM: &str = "room";
const RECORD: &str = "record";
const LOCK: &str = "lock";
const DATA: &str = "data";

/// Cache directories, for any number of builds at once, in one process or in many.
///
/// ```text
/// <dir>/<key>-<n>/     record: what it is · lock: in use · data/: the directory itself
/// ```
///
/// The key is the digest of the id and of what the directory began with; `n` counts those that `sharing=private` needed
/// at once. A directory is a file tree like any other: what is put into `data` is there in the next build.
#[derive(Clone, Debug)]
pub struct CacheMounts {
    dir: Dir,
    staging: Staging,
}

/// What a cache directory is, in its room.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seed: Option<String>,
    /// Seconds since 1970.
    created: u64,
}

/// A cache directory in use. It is free again when this is dropped.
#[derive(Debug)]
pub struct CacheLoan {
    data: Dir,
    _lock: Lock,
}

impl CacheLoan {
    /// The directory to mount.
    pub fn dir(&self) -> &Dir {
        &self.data
    }
}

/// What a cache directory is and holds, see [`CacheMounts::list`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CacheMount {
    /// Its name among cache directories, by which [`CacheMounts::remove`] knows it.
    pub key: String,
    /// As `id=` of the mount has it; where it has none, its target.
    pub id: String,
    /// When it was made.
    pub created: SystemTime,
    /// When a step last had it.
    pub used: SystemTime,
    /// Bytes on the disk.
    pub size: u64,
    /// A step has it now.
    pub in_use: bool,
}

/// Which cache directory, for whom, and how it is made where it is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheSpec {
    id: String,
    seed: Option<String>,
    sharing: Sharing,
    mode: u32,
    owner: (u32, u32),
}

impl CacheSpec {
    /// The one with this id: shared, and 0755 and root's where it is made.
    pub fn new(id: impl Into<String>) -> CacheSpec {
        CacheSpec { id: id.into(), seed: None, sharing: Sharing::Shared, mode: 0o755, owner: (0, 0) }
    }

    /// What tells it apart from directories of the same id that began with other contents.
    #[must_use]
    pub fn seed(mut self, seed: impl Into<String>) -> CacheSpec {
        self.seed = Some(seed.into());
        self
    }

    /// What happens when two want it at once.
    #[must_use]
    pub fn sharing(mut self, sharing: Sharing) -> CacheSpec {
        self.sharing = sharing;
        self
    }

    /// Permission bits of a new one.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> CacheSpec {
        self.mode = mode;
        self
    }

    /// The name of its rooms, up to their number.
    fn key(&self) -> String {
        let mut fields = Fields::new();
        fields.add("cache mount 1").add(&self.id).add(self.seed.as_deref().unwrap_or(""));
        fields.hex()
    }

    /// User and group of a new one.
    #[must_use]
    pub fn owner(mut self, uid: u32, gid: u32) -> CacheSpec {
        self.owner = (uid, gid);
        self
    }
}

impl CacheMounts {
    /// Those in `dir`; new ones appear through `staging` (on the same file system).
    pub fn new(dir: Dir, staging: Staging) -> CacheMounts {
        CacheMounts { dir, staging }
    }

    /// The directory that `spec` says, made where it is missing, with what `fill` puts into it.
    ///
    /// With [`Sharing::Locked`] it waits until nobody has it, with [`Sharing::Shared`] until nobody has it alone; with
    /// [`Sharing::Private`] another directory is made where all there are are in use. Who needs several at once asks for
    /// them in the order of their ids, or two could wait for each other.
    ///
    /// # Errors
    /// Those of `fill`; else the host's.
    pub fn lend(&self, spec: &CacheSpec, fill: &mut dyn FnMut(&Dir) -> Result<()>) -> Result<CacheLoan> {
        let key = spec.key();
        let mut nth = 0;
        loop {
            let name = format!("{key}-{nth}");
            let room = match self.dir.dir_if_there(&name)? {
                Some(room) => room,
                None => {
                    self.make(&name, spec, fill)?;
                    continue;
                }
            };
            let taken = match spec.sharing {
                Sharing::Shared => Lock::shared(&room, LOCK).map(Some),
                Sharing::Locked => Lock::exclusive(&room, LOCK).map(Some),
                Sharing::Private => Lock::try_exclusive(&room, LOCK),
            };
            let lock = match taken {
                // The room was removed while it was waited for.
                Err(error) if error.kind() == Kind::NotFound => continue,
                other => other?,
            };
            let Some(lock) = lock else {
                nth += 1;
                continue;
            };
            // Or it is just being removed.
            if !self.dir.has_still(&name, &room)? {
                continue;
            }
            let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
            let times = Timestamps { last_access: now, last_modification: now };
            rustix::fs::utimensat(&room, RECORD, &times, AtFlags::empty())
                .call(|| format!("utimensat({:?})", room.path_of(RECORD)))?;
            return Ok(CacheLoan { data: room.dir(DATA)?, _lock: lock });
        }
    }

    fn make(&self, name: &str, spec: &CacheSpec, fill: &mut dyn FnMut(&Dir) -> Result<()>) -> Result<()> {
        let staged = self.staging.dir()?;
        let room = staged.dir().make_new(ROOM, 0o700)?;
        let data = room.make_new(DATA, 0o700)?;
        let what = || format!("{:?}", data.path());
        let (uid, gid) = spec.owner;
        if (uid, gid) != (0, 0) {
            rustix::fs::fchown(&data, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                .call(|| format!("chown({}, {uid}, {gid})", what()))?;
        }
        rustix::fs::fchmod(&data, Mode::from_raw_mode(spec.mode))
            .call(|| format!("chmod({}, {:o})", what(), spec.mode))?;
        fill(&data)?;
        let created = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let created = created.map_or(0, |since| since.as_secs());
        let record = Record { id: spec.id.clone(), seed: spec.seed.clone(), created };
        // Strings and numbers always serialize.
        let bytes = serde_json::to_vec(&record).unwrap_or_default();
        self.staging.write(&room, RECORD, &bytes)?;
        match staged.dir().rename_new(ROOM, &self.dir, name) {
            // Somebody was faster: theirs is as good.
            Err(error) if error.kind() == Kind::AlreadyExists => Ok(()),
            other => Ok(other?),
        }
    }

    /// Removes those that `spec` means, so that the next that is lent is new; what a step has now stays.
    ///
    /// # Errors
    /// The host's.
    pub fn renew(&self, spec: &CacheSpec) -> Result<()> {
        let key = spec.key();
        for nth in 0_u32.. {
            let name = format!("{key}-{nth}");
            if !self.dir.has(&name)? {
                break;
            }
            self.remove(&name)?;
        }
        Ok(())
    }

    /// All of them, by id. It walks each to know its size.
    ///
    /// # Errors
    /// The host's. What can't be read as one of ours is left out.
    pub fn list(&self) -> Result<Vec<CacheMount>> {
        let mut found = Vec::new();
        for name in self.dir.names()? {
            let Some(room) = self.dir.dir_if_there(&name)? else { continue };
            let Some(bytes) = room.read_if_there(RECORD)? else { continue };
            let Ok(record) = serde_json::from_slice::<Record>(&bytes) else { continue };
            let stat = rustix::fs::statat(&room, RECORD, AtFlags::SYMLINK_NOFOLLOW)
                .call(|| format!("fstatat({:?})", room.path_of(RECORD)))?;
            let since = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            found.push(CacheMount {
                key: name.to_string_lossy().into_owned(),
                id: record.id,
                created: since(record.created),
                used: since(u64::try_from(stat.st_mtime).unwrap_or(0)),
                size: size(room)?,
                in_use: Lock::is_held(&self.dir.dir(&name)?, LOCK)?,
            });
        }
        found.sort_by(|a, b| (&a.id, &a.key).cmp(&(&b.id, &b.key)));
        Ok(found)
    }

    /// Removes one, unless a step has it. Whether it was removed; that it is missing is as well.
    ///
    /// # Errors
    /// The host's.
    pub fn remove(&self, key: &str) -> Result<bool> {
        if key.contains('/') || key.starts_with('.') {
            return Err(Error::invalid(format!("`{key}` is no name of a cache directory")));
        }
        let Some(room) = self.dir.dir_if_there(key)? else { return Ok(true) };
        let Some(_alone) = Lock::try_exclusive(&room, LOCK)? else { return Ok(false) };
        if self.dir.has_still(key, &room)? {
            self.staging.trash(&self.dir, key)?;
        }
        Ok(true)
    }
}

/// Bytes that a tree takes on the disk. What vanishes meanwhile does not count.
fn size(root: Dir) -> Result<u64> {
    let mut total = 0;
    let mut open = vec![root];
    while let Some(dir) = open.pop() {
        for name in dir.names()? {
            let Ok(stat) = rustix::fs::statat(dir.as_fd(), &name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                open.extend(dir.dir_if_there(&name)?);
            } else {
                total += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
            }
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, CacheMounts) {
        let place = tempfile::tempdir().unwrap();
        let state = Dir::open(place.path()).unwrap();
        let staging = Staging::open(&state.make("tmp", 0o700).unwrap()).unwrap();
        let mounts = CacheMounts::new(state.make("mounts", 0o700).unwrap(), staging);
        (place, mounts)
    }

    fn lend(mounts: &CacheMounts, id: &str, sharing: Sharing) -> CacheLoan {
        mounts.lend(&own(id).sharing(sharing), &mut |_| Ok(())).unwrap()
    }

    fn own(id: &str) -> CacheSpec {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        CacheSpec::new(id).owner(uid, gid).mode(0o751)
    }

    #[test]
    fn one_id_is_one_directory() {
        let (_place, mounts) = place();
        let first = lend(&mounts, "a", Sharing::Shared);
        std::fs::write(first.dir().path_of("x"), "1").unwrap();
        let second = lend(&mounts, "a", Sharing::Shared);
        assert_eq!(second.dir().read("x").unwrap(), b"1");
        assert_eq!(rustix::fs::fstat(second.dir()).unwrap().st_mode & 0o777, 0o751);
        assert!(lend(&mounts, "b", Sharing::Locked).dir().names().unwrap().is_empty());
        let list = mounts.list().unwrap();
        let shown: Vec<_> = list.iter().map(|one| (one.id.as_str(), one.in_use)).collect();
        assert_eq!(shown, [("a", true), ("b", false)]);
        assert!(list[0].size > 0 && list[0].used >= list[0].created);
    }

    #[test]
    fn private_ones_are_never_shared() {
        let (_place, mounts) = place();
        let first = lend(&mounts, "a", Sharing::Private);
        let second = lend(&mounts, "a", Sharing::Private);
        std::fs::write(first.dir().path_of("x"), "1").unwrap();
        assert!(!second.dir().has("x").unwrap());
        drop((first, second));
        assert!(lend(&mounts, "a", Sharing::Private).dir().has("x").unwrap());
        assert_eq!(mounts.list().unwrap().len(), 2);
    }

    #[test]
    fn seeds_fill_once_and_keep_apart() {
        let (_place, mounts) = place();
        let mut filled = 0;
        for (seed, fills) in [("s", 1), ("s", 1), ("t", 2)] {
            let mut fill = |dir: &Dir| {
                filled += 1;
                std::fs::write(dir.path_of("seed"), seed).unwrap();
                Ok(())
            };
            let loan = mounts.lend(&own("a").seed(seed).sharing(Sharing::Locked), &mut fill).unwrap();
            assert_eq!(loan.dir().read("seed").unwrap(), seed.as_bytes());
            assert_eq!(filled, fills);
        }
    }

    #[test]
    fn what_is_in_use_is_not_removed() {
        let (_place, mounts) = place();
        let loan = lend(&mounts, "a", Sharing::Shared);
        let key = mounts.list().unwrap()[0].key.clone();
        assert!(!mounts.remove(&key).unwrap());
        drop(loan);
        assert!(mounts.remove(&key).unwrap());
        assert!(mounts.list().unwrap().is_empty());
        assert!(mounts.remove(&key).unwrap());
        assert!(mounts.remove("../x").is_err());
    }

    #[test]
    fn renewed_ones_are_empty_unless_they_are_in_use() {
        let (_place, mounts) = place();
        let first = lend(&mounts, "a", Sharing::Private);
        let second = lend(&mounts, "a", Sharing::Private);
        for loan in [&first, &second] {
            std::fs::write(loan.dir().path_of("old"), "").unwrap();
        }
        drop(second);
        mounts.renew(&own("a")).unwrap();
        assert!(first.dir().has("old").unwrap());
        assert!(!lend(&mounts, "a", Sharing::Private).dir().has("old").unwrap());
        drop(first);
        mounts.renew(&own("a")).unwrap();
        assert!(mounts.list().unwrap().is_empty());
        mounts.renew(&own("a")).unwrap();
    }

    #[test]
    fn who_waits_for_a_removed_one_gets_a_new_one() {
        let (_place, mounts) = place();
        let held = lend(&mounts, "a", Sharing::Locked);
        std::fs::write(held.dir().path_of("old"), "").unwrap();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| lend(&mounts, "a", Sharing::Locked).dir().has("old").unwrap());
            let key = mounts.list().unwrap()[0].key.clone();
            // Removed by its holder, whom nobody can keep from that.
            mounts.staging.trash(&mounts.dir, &key).unwrap();
            drop(held);
            assert!(!waiter.join().unwrap());
        });
    }
}
