//! Files and directories that appear whole or not at all.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::{Call, Dir, Lock, Result, random_hex};

const LOCK: &str = "lock";

/// This owner's corner of a state directory's `tmp/`: what is staged there is published under its final name
/// by a rename, and removed when it is dropped unpublished. The corner is locked while its owner lives; what
/// dead owners left is removed by [`Staging::reclaim`]. Cheap to clone; the corner goes with the last clone.
#[derive(Clone)]
pub struct Staging(Arc<Corner>);

struct Corner {
    tmp: Dir,
    name: String,
    dir: Dir,
    next: AtomicU64,
    _lock: Lock,
}

/// How often a corner is made anew before one believes that something else is wrong.
const ATTEMPTS: u32 = 1000;

impl Staging {
    /// Makes a corner in `tmp`, which must be on the file system of everything published from it.
    ///
    /// # Errors
    /// As of mkdirat(2), openat(2) and fcntl(2).
    pub fn open(tmp: &Dir) -> Result<Staging> {
        let mut left = ATTEMPTS;
        loop {
            left = left.saturating_sub(1);
            let name = random_hex(8)?;
            // Somebody's reclaim may take the fresh directory before we open or lock it: then another one.
            let dir = match tmp.make_new(&name, 0o700) {
                Err(error) if error.errno() == Some(Errno::NOENT) && left > 0 => continue,
                made => made?,
            };
            match Lock::try_exclusive(&dir, LOCK) {
                Ok(Some(lock)) => {
                    let next = AtomicU64::new(0);
                    return Ok(Staging(Arc::new(Corner { tmp: tmp.clone(), name, dir, next, _lock: lock })));
                }
                Ok(None) => {}
                Err(error) if error.errno() == Some(Errno::NOENT) && left > 0 => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Removes the corners whose owners are gone. Says how many there were.
    ///
    /// # Errors
    /// The first failure, after all corners were tried.
    pub fn reclaim(tmp: &Dir) -> Result<usize> {
        let (mut removed, mut failure) = (0, None);
        for name in tmp.names()? {
            match reclaim_one(tmp, Path::new(&name)) {
                Ok(was_dead) => removed += usize::from(was_dead),
                Err(error) => {
                    failure.get_or_insert(error);
                }
            }
        }
        failure.map_or(Ok(removed), Err)
    }

    /// A new empty file, to be written and published.
    ///
    /// # Errors
    /// As of openat(2).
    pub fn file(&self) -> Result<StagedFile> {
        let name = self.next();
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let file = File::from(self.0.dir.file(&name, flags, 0o644)?);
        Ok(StagedFile { file, name, corner: Some(self.0.clone()) })
    }

    /// A new empty directory (mode 0700), to be filled and published.
    ///
    /// # Errors
    /// As of mkdirat(2).
    pub fn dir(&self) -> Result<StagedDir> {
        let name = self.next();
        let dir = self.0.dir.make_new(&name, 0o700)?;
        Ok(StagedDir { dir, name, corner: Some(self.0.clone()) })
    }

    /// Takes the entry `name` out of `dir` in one rename and removes it: nobody ever sees half of it.
    /// That it is missing is fine.
    ///
    /// # Errors
    /// As of renameat2(2) and [`Dir::remove_tree`].
    pub fn trash(&self, dir: &Dir, name: impl AsRef<Path>) -> Result<()> {
        let here = self.next();
        match dir.rename(name, &self.0.dir, &here) {
            Ok(()) => self.0.dir.remove_tree(&here),
            Err(error) if error.errno() == Some(Errno::NOENT) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Writes a whole file, replacing what is at the name; durable when it returns.
    ///
    /// # Errors
    /// As of write(2), fsync(2) and renameat2(2).
    pub fn write(&self, dir: &Dir, name: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
        let mut file = self.file()?;
        file.write_all(bytes).call(|| format!("write({:?})", dir.path_of(name.as_ref())))?;
        file.publish(dir, name)
    }

    /// Writes a whole file whose name must be free; durable when it returns.
    ///
    /// # Errors
    /// `AlreadyExists`; else as of [`Staging::write`].
    pub fn write_new(&self, dir: &Dir, name: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
        let mut file = self.file()?;
        file.write_all(bytes).call(|| format!("write({:?})", dir.path_of(name.as_ref())))?;
        file.publish_new(dir, name)
    }

    fn next(&self) -> String {
        self.0.next.fetch_add(1, Ordering::Relaxed).to_string()
    }
}

fn reclaim_one(tmp: &Dir, name: &Path) -> Result<bool> {
    let dir = match tmp.dir(name) {
        Ok(dir) => dir,
        Err(error) if error.errno() == Some(Errno::NOENT) => return Ok(false),
        Err(error) => return Err(error),
    };
    match Lock::try_exclusive(&dir, LOCK) {
        Ok(Some(_dead)) => tmp.remove_tree(name).map(|()| true),
        Ok(None) => Ok(false),
        Err(error) if error.errno() == Some(Errno::NOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

impl Drop for Corner {
    fn drop(&mut self) {
        // A failure leaves an unlocked corner, which the next reclaim removes.
        let _ = self.tmp.remove_tree(&self.name);
    }
}

impl std::fmt::Debug for Staging {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Staging({:?})", self.0.dir.path())
    }
}

/// A file being written under a temporary name. Dropped unpublished, it is removed.
#[must_use = "a staged file is removed unless it is published"]
pub struct StagedFile {
    file: File,
    name: String,
    corner: Option<Arc<Corner>>,
}

impl StagedFile {
    /// The open file, for reading back, seeking, or setting its mode.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Makes it durable and puts it under its final name, replacing what is there.
    ///
    /// # Errors
    /// As of fsync(2) and renameat2(2).
    pub fn publish(mut self, dir: &Dir, name: impl AsRef<Path>) -> Result<()> {
        self.put(|from, temporary| from.rename(temporary, dir, name), dir)
    }

    /// Makes it durable and puts it under a name that must be free.
    ///
    /// # Errors
    /// `AlreadyExists`; else as of [`StagedFile::publish`].
    pub fn publish_new(mut self, dir: &Dir, name: impl AsRef<Path>) -> Result<()> {
        self.put(|from, temporary| from.rename_new(temporary, dir, name), dir)
    }

    /// Puts it under its final name, replacing what is there, without waiting for the disk: whole or not at all for those
    /// who look, but a power cut may take it back.
    ///
    /// # Errors
    /// As of renameat2(2).
    pub fn place(mut self, dir: &Dir, name: impl AsRef<Path>) -> Result<()> {
        let Some(corner) = &self.corner else { return Ok(()) };
        corner.dir.rename(&self.name, dir, name)?;
        self.corner = None;
        Ok(())
    }

    fn put(&mut self, rename: impl FnOnce(&Dir, &str) -> Result<()>, to: &Dir) -> Result<()> {
        let Some(corner) = &self.corner else { return Ok(()) };
        self.file.sync_all().call(|| format!("fsync({:?})", corner.dir.path_of(&self.name)))?;
        rename(&corner.dir, &self.name)?;
        self.corner = None;
        to.sync()
    }
}

impl Write for StagedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if let Some(corner) = &self.corner {
            let _ = corner.dir.remove_file(&self.name);
        }
    }
}

/// A directory being filled under a temporary name. Dropped unpublished, it is removed with all in it.
#[must_use = "a staged directory is removed unless it is published"]
pub struct StagedDir {
    dir: Dir,
    name: String,
    corner: Option<Arc<Corner>>,
}

impl StagedDir {
    /// The directory itself.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Puts it under a name that must be free. Its files must be durable already (or of a kind that needs
    /// not be); this makes the rename so.
    ///
    /// # Errors
    /// `AlreadyExists` when anything of that name is there (it is then removed here); else as of renameat2(2).
    pub fn publish_new(self, dir: &Dir, name: impl AsRef<Path>) -> Result<()> {
        self.place_new(dir, name)?;
        dir.sync()
    }

    /// [`StagedDir::publish_new`] for what need not survive a power cut: the rename is atomic, but nothing is
    /// waited for.
    ///
    /// # Errors
    /// As of [`StagedDir::publish_new`].
    pub fn place_new(mut self, dir: &Dir, name: impl AsRef<Path>) -> Result<()> {
        let Some(corner) = &self.corner else { return Ok(()) };
        corner.dir.rename_new(&self.name, dir, name)?;
        self.corner = None;
        Ok(())
    }

    /// Makes all files below it durable in one call (syncfs(2)).
    ///
    /// # Errors
    /// As of syncfs(2).
    pub fn sync_all(&self) -> Result<()> {
        rustix::fs::syncfs(self.dir.as_fd()).call(|| format!("syncfs({:?})", self.dir.path()))
    }
}

impl Drop for StagedDir {
    fn drop(&mut self) {
        if let Some(corner) = &self.corner {
            let _ = corner.dir.remove_tree(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, Dir, Dir) {
        let place = tempfile::tempdir().unwrap();
        let top = Dir::open(place.path()).unwrap();
        let tmp = top.make("tmp", 0o700).unwrap();
        (place, top, tmp)
    }

    #[test]
    fn published_whole_or_removed() {
        let (_place, top, tmp) = place();
        let staging = Staging::open(&tmp).unwrap();
        staging.write(&top, "a", b"one").unwrap();
        staging.write(&top, "a", b"two").unwrap();
        assert_eq!(top.read("a").unwrap(), b"two");
        let error = staging.write_new(&top, "a", b"three").unwrap_err();
        assert_eq!(error.kind(), crate::Kind::AlreadyExists);
        assert_eq!(top.read("a").unwrap(), b"two");
        let dir = staging.dir().unwrap();
        std::fs::write(dir.dir().path_of("x"), "x").unwrap();
        dir.publish_new(&top, "d").unwrap();
        assert!(staging.dir().unwrap().publish_new(&top, "d").is_err());
        staging.trash(&top, "d").unwrap();
        assert_eq!(top.names().unwrap(), ["a", "tmp"]);
        assert_eq!(staging.0.dir.names().unwrap(), ["lock"]);
        drop(staging);
        assert!(tmp.names().unwrap().is_empty());
    }

    #[test]
    fn reclaim_spares_the_living() {
        let (_place, _top, tmp) = place();
        let staging = Staging::open(&tmp).unwrap();
        let dead = tmp.make("dead", 0o700).unwrap();
        std::fs::write(dead.path_of("half"), "half").unwrap();
        assert_eq!(Staging::reclaim(&tmp).unwrap(), 1);
        assert_eq!(tmp.names().unwrap().len(), 1);
        staging.write(&tmp, "still", b"works").unwrap();
    }
}
