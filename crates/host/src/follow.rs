//! Reading on in a file that others append to, and that makes way for a new one when it is full.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

use crate::{Call, Dir, Result};

/// Follows the lines of a file that is appended to and, when it is full, renamed and begun anew (a log, a list of
/// events). `as_fd` is readable when something in its directory has changed (inotify(7)).
///
/// A reader that keeps up misses nothing; one that sleeps through a whole file misses that file.
#[derive(Debug)]
pub struct Follow {
    dir: Dir,
    name: PathBuf,
    watch: OwnedFd,
    file: Option<File>,
    offset: u64,
    line: Vec<u8>,
}

impl Follow {
    /// Follows `name` in `dir` from its beginning; it need not be there yet.
    ///
    /// # Errors
    /// As of inotify_init(2) and open(2).
    pub fn open(dir: &Dir, name: impl Into<PathBuf>) -> Result<Follow> {
        let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).call(|| "inotify_init()")?;
        // By way of its descriptor: the directory may have been renamed.
        let path = fd_path(dir.as_fd());
        let what = WatchFlags::MODIFY
            | WatchFlags::MOVED_TO
            | WatchFlags::CREATE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF;
        inotify::add_watch(&watch, path, what).call(|| format!("inotify_add_watch({:?})", dir.path()))?;
        let mut follow =
            Follow { dir: dir.clone(), name: name.into(), watch, file: None, offset: 0, line: Vec::new() };
        follow.begin()?;
        Ok(follow)
    }

    /// Whether this is the file that is being read now.
    ///
    /// # Errors
    /// As of fstat(2).
    pub fn is_at(&self, other: &File) -> Result<bool> {
        let Some(file) = &self.file else { return Ok(false) };
        let id = |file: &File| -> Result<_> {
            let meta = file.metadata().call(|| format!("fstat({:?})", self.dir.path_of(&self.name)))?;
            Ok((meta.dev(), meta.ino()))
        };
        Ok(id(file)? == id(other)?)
    }

    /// Passes over all that is there already.
    ///
    /// # Errors
    /// As of fstat(2).
    pub fn skip(&mut self) -> Result<()> {
        if let Some(file) = &self.file {
            self.offset =
                file.metadata().call(|| format!("fstat({:?})", self.dir.path_of(&self.name)))?.len();
        }
        Ok(())
    }

    /// Gives `line` every line that has been written since, with its newline; a part of a line waits for the rest.
    ///
    /// # Errors
    /// As of read(2).
    pub fn read(&mut self, mut line: impl FnMut(&[u8])) -> Result<()> {
        loop {
            if self.file.is_none() {
                self.begin()?;
            }
            let Some(file) = &self.file else { return Ok(()) };
            // Asked first: once it has made way nothing is added.
            let current = self.is_current(file)?;
            let mut buffer = vec![0; 64 << 10];
            loop {
                let read = file
                    .read_at(&mut buffer, self.offset)
                    .call(|| format!("read({:?})", self.dir.path_of(&self.name)))?;
                if read == 0 {
                    break;
                }
                self.offset += read as u64;
                for part in buffer[..read].split_inclusive(|byte| *byte == b'\n') {
                    self.line.extend_from_slice(part);
                    if part.ends_with(b"\n") {
                        line(&self.line);
                        self.line.clear();
                    }
                }
            }
            if current {
                return Ok(());
            }
            self.file = None;
        }
    }

    /// Waits until something in the directory has changed; `false` where `patience` was over first.
    ///
    /// # Errors
    /// As of poll(2).
    pub fn wait(&self, patience: Option<Duration>) -> Result<bool> {
        let patience = patience.map(|patience| Timespec::try_from(patience).unwrap_or_default());
        match poll(&mut [PollFd::new(&self.watch, PollFlags::IN)], patience.as_ref()) {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(true),
            Err(errno) => return Err(errno).call(|| "poll(inotify)"),
        }
        let mut buffer = [0; 4096];
        loop {
            match rustix::io::read(&self.watch, &mut buffer) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(true),
                Err(errno) => return Err(errno).call(|| "read(inotify)"),
            }
        }
    }

    fn begin(&mut self) -> Result<()> {
        self.file = match self.dir.file(&self.name, OFlags::RDONLY, 0) {
            Ok(file) => Some(file.into()),
            Err(error) if error.errno() == Some(Errno::NOENT) => None,
            Err(error) => return Err(error),
        };
        self.offset = 0;
        self.line.clear();
        Ok(())
    }

    fn is_current(&self, file: &File) -> Result<bool> {
        let path = self.dir.path_of(&self.name);
        let ours = file.metadata().call(|| format!("fstat({path:?})"))?;
        let now = rustix::fs::statat(&self.dir, &self.name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
        match now {
            Ok(now) => Ok((now.st_dev, now.st_ino) == (ours.dev(), ours.ino())),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno).call(|| format!("stat({path:?})")),
        }
    }
}

fn fd_path(fd: BorrowedFd<'_>) -> PathBuf {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}

impl AsFd for Follow {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn lines(follow: &mut Follow) -> Vec<String> {
        let mut lines = Vec::new();
        follow.read(|line| lines.push(String::from_utf8_lossy(line).into_owned())).unwrap();
        lines
    }

    #[test]
    fn across_a_file_that_makes_way() {
        let place = tempfile::tempdir().unwrap();
        let dir = Dir::open(place.path()).unwrap();
        let mut follow = Follow::open(&dir, "log").unwrap();
        assert_eq!(lines(&mut follow), [""; 0]);
        assert!(!follow.wait(Some(Duration::ZERO)).unwrap());
        let mut file = File::create(place.path().join("log")).unwrap();
        file.write_all(b"one\ntw").unwrap();
        assert!(follow.wait(None).unwrap());
        assert_eq!(lines(&mut follow), ["one\n"]);
        file.write_all(b"o\nthree\n").unwrap();
        std::fs::rename(place.path().join("log"), place.path().join("log.1")).unwrap();
        std::fs::write(place.path().join("log"), "four\nfi").unwrap();
        assert_eq!(lines(&mut follow), ["two\n", "three\n", "four\n"]);
        let mut late = Follow::open(&dir, "log").unwrap();
        late.skip().unwrap();
        let mut file = File::options().append(true).open(place.path().join("log")).unwrap();
        file.write_all(b"ve\nsix\n").unwrap();
        assert_eq!(lines(&mut follow), ["five\n", "six\n"]);
        assert_eq!(lines(&mut late), ["ve\n", "six\n"]);
    }
}
