//! Files into and out of a container (docker's `cp`).

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use coracle_host::{Dir, Lock, Root};
use coracle_layers::{Rootfs, UnpackOptions, pack_tree, pack_tree_of, unpack_tree};
use coracle_runtime::user;
use rustix::fs::OFlags;

use self::plan::{Source, destination};
use self::resolve::{Place, resolve};
use self::users::Users;
use super::handle::{Container, locked};
use super::places::in_order;
use super::record::{LOCK, UPPER, WORK};
use crate::Kind;
use crate::error::{Doing, Error, Result};

mod plan;
mod resolve;
mod users;
mod volume;

/// How files are copied into and out of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyOptions {
    follow: bool,
    as_user: bool,
}

impl CopyOptions {
    /// A source that is a link is copied as a link, and what is copied in belongs to whom it belongs here.
    pub fn new() -> CopyOptions {
        CopyOptions::default()
    }

    /// A source that is a link is what it leads to. Links below it are copied as links all the same.
    #[must_use]
    pub fn follow_link(mut self) -> CopyOptions {
        self.follow = true;
        self
    }

    /// What is copied in belongs to the container's user and group.
    #[must_use]
    pub fn as_user(mut self) -> CopyOptions {
        self.as_user = true;
        self
    }
}

/// A container's file system, as it sees it while it runs; else without what it mounts.
struct Tree {
    root: OwnedFd,
    /// Where something else would be while it runs.
    unmounted: Vec<PathBuf>,
    /// Whose its files are, where it has users of its own and their owners are seen from outside.
    users: Option<Users>,
    _mount: Option<Rootfs>,
    _lock: Option<Lock>,
}

impl Tree {
    fn root(&self) -> Root<'_> {
        Root::new(self.root.as_fd(), "container's root")
    }

    /// What a path of the container means.
    fn find(&self, path: &str, follow: bool) -> Result<Place> {
        let place = resolve(&self.root(), path, follow)?;
        match self.unmounted.iter().find(|at| place.path.starts_with(at)) {
            None => Ok(place),
            Some(at) => Err(Error::new(
                Kind::Unsupported,
                format!(
                    "{path:?} is in what is mounted at {at:?}, which is there only while the container runs"
                ),
            )),
        }
    }

    /// A directory of it, by a path without links.
    fn dir(&self, path: &Path) -> Result<Dir> {
        Ok(Dir::from_fd(self.root().open(path, OFlags::RDONLY | OFlags::DIRECTORY)?, path))
    }

    /// What to pack: the directory it is in, and its name there.
    fn entry(&self, path: &Path) -> Result<(Dir, OsString)> {
        match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => Ok((self.dir(parent)?, name.to_owned())),
            _ => Ok((self.dir(path)?, ".".into())),
        }
    }

    /// Writes what is there as a tar.
    fn pack(&self, at: &Path, as_name: &OsStr, out: impl Write) -> Result<()> {
        let (dir, name) = self.entry(at)?;
        let packed = match &self.users {
            Some(users) => pack_tree_of(&dir, &name, as_name, users.owners(), out),
            None => pack_tree(&dir, &name, as_name, out),
        };
        Ok(packed?)
    }

    /// Unpacks a tar into a directory of it.
    fn unpack(&self, at: &Path, tar: impl Read, options: &UnpackOptions) -> Result<()> {
        let root = self.dir(Path::new("/"))?;
        match &self.users {
            Some(users) => users.unpack(&root, at, tar, options),
            None => Ok(unpack_tree(&root, at, tar, options)?),
        }
    }

    /// Copies what is there, which the caller calls `place`, to the host, for this program's user.
    fn to_host(&self, at: &Place, place: &str, host: &Path) -> Result<u64> {
        let source = Source { is_dir: at.is_dir, name: plan::name_of(place) };
        let to = destination(&source, &plan::host_destination(host)?)?;
        let (dir, name) = self.entry(&at.path)?;
        let into = Dir::open(&to.dir)?;
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        let unpack = UnpackOptions::new().owner(uid.as_raw(), gid.as_raw()).confined();
        piped(
            |out| Ok(pack_tree(&dir, &name, &to.name, out)?),
            |tar| Ok(unpack_tree(&into, Path::new(""), tar, &unpack)?),
        )
    }
}

impl Container {
    /// Copies a file or directory of the host into it, to the places that `docker cp` copies to: into `place` where that is a
    /// directory, else under that name, over a file that is there. A path of the host that ends in `/.` stands for what is
    /// in the directory. Answers with the bytes of the archive that it took.
    ///
    /// `place` is looked up inside the container, whatever links are there. It may run; what it mounts is reached only then.
    ///
    /// # Errors
    /// `NotFound` for a source, or a directory to copy into, that is not there; `Invalid` for a directory over a file and
    /// the other way round; `InUse` where it neither runs nor is this program's to change; as of the file system.
    pub fn copy_in(&self, host: impl AsRef<Path>, place: &str, options: &CopyOptions) -> Result<u64> {
        let host = host.as_ref();
        let doing = || format!("copy {host:?} to {place:?} of container `{}`", self.name());
        let copy = || {
            let (source, dir, name) = plan::host_source(host, options.follow)?;
            let tree = self.tree(true)?;
            let at = tree.find(place, true).map_err(|error| self.missing(error, place))?;
            let to = destination(&source, &at.destination(place))?;
            let unpack = self.unpack_options(&tree, options)?;
            tree.dir(&to.dir).map_err(|error| self.missing(error, place))?;
            piped(|out| Ok(pack_tree(&dir, &name, &to.name, out)?), |tar| tree.unpack(&to.dir, tar, &unpack))
        };
        copy().doing(doing)
    }

    /// Copies a file or directory of it to the host, to the places that `docker cp` copies to; see [`Container::copy_in`].
    /// What is copied belongs to this program's user. Links in the directory that is copied into must not lead out of it.
    ///
    /// # Errors
    /// As of [`Container::copy_in`].
    pub fn copy_out(&self, place: &str, host: impl AsRef<Path>, options: &CopyOptions) -> Result<u64> {
        let host = host.as_ref();
        let doing = || format!("copy {place:?} of container `{}` to {host:?}", self.name());
        let copy = || {
            let tree = self.tree(false)?;
            let at = self.there(&tree, place, options.follow)?;
            tree.to_host(&at, place, host)
        };
        copy().doing(doing)
    }

    /// Unpacks a tar (plain, gzip or zstd) into a directory of it.
    ///
    /// # Errors
    /// `NotFound` and `Invalid` for a place that is no directory; `Invalid` and `Corrupt` for what is wrong with the
    /// archive; else as of [`Container::copy_in`].
    pub fn unpack(&self, tar: impl Read, place: &str, options: &CopyOptions) -> Result<()> {
        let unpack = || {
            let tree = self.tree(true)?;
            let at = self.there(&tree, place, true)?;
            if !at.is_dir {
                let text = format!("destination \"{}:{place}\" must be a directory", self.name());
                return Err(Error::new(Kind::Invalid, text));
            }
            let unpack = self.unpack_options(&tree, options)?;
            tree.unpack(&at.path, tar, &unpack)
        };
        unpack().doing(|| format!("unpack into {place:?} of container `{}`", self.name()))
    }

    /// Writes a file or directory of it as a tar, under its name; see [`Container::copy_in`] for what a path means.
    ///
    /// # Errors
    /// As of [`Container::copy_out`]; what writing fails with.
    pub fn pack(&self, place: &str, out: impl Write, options: &CopyOptions) -> Result<()> {
        let pack = || -> Result<()> {
            let tree = self.tree(false)?;
            let at = self.there(&tree, place, options.follow)?;
            // A link that is followed goes by the name of what it leads to.
            let as_name = match (plan::name_of(place), at.path.file_name()) {
                (Some(_), Some(name)) if options.follow => name.to_owned(),
                (Some(name), _) => name,
                (None, _) => ".".into(),
            };
            tree.pack(&at.path, &as_name, out)
        };
        pack().doing(|| format!("pack {place:?} of container `{}`", self.name()))
    }

    /// What a path of it means, which must be there.
    fn there(&self, tree: &Tree, place: &str, follow: bool) -> Result<Place> {
        let at = tree.find(place, follow).map_err(|error| self.missing(error, place))?;
        if at.exists { Ok(at) } else { Err(self.not_there(place)) }
    }

    fn missing(&self, error: Error, place: &str) -> Error {
        if error.kind() == Kind::NotFound { self.not_there(place) } else { error }
    }

    fn not_there(&self, place: &str) -> Error {
        let text = format!("could not find the file {place} in container {}", self.name());
        Error::new(Kind::NotFound, text)
    }

    fn unpack_options(&self, tree: &Tree, options: &CopyOptions) -> Result<UnpackOptions> {
        if !options.as_user || self.record.config.user.is_empty() {
            return Ok(UnpackOptions::new());
        }
        let file = |path: &str| tree.root().read_if_there(path).map(Option::unwrap_or_default);
        let found = user::resolve(&self.record.config.user, &file("/etc/passwd")?, &file("/etc/group")?);
        let found = found.map_err(|unknown| Error::new(Kind::NotFound, unknown.to_string()))?;
        Ok(UnpackOptions::new().owner(found.uid, found.gid))
    }

    fn tree(&self, write: bool) -> Result<Tree> {
        let live = self.live()?;
        // What was mounted went with the process.
        if let Some(live) = live.filter(|live| !live.pidfd.ended_within(Some(Duration::ZERO)).unwrap_or(true))
        {
            let users = self.record.spaces.users.as_ref().map(Users::new).transpose()?;
            let root = coracle_host::Call::call(live.root.try_clone(), || "fcntl(root, F_DUPFD_CLOEXEC)")?;
            return Ok(Tree { root, unmounted: Vec::new(), users, _mount: None, _lock: None });
        }
        let store = &self.engine.0.store;
        let upper = self.room.dir(UPPER)?;
        let mut lock = None;
        let mount = if write {
            if locked(&self.owned).is_none() {
                lock = Some(Lock::try_exclusive(&self.room, LOCK)?.ok_or_else(|| {
                    Error::new(Kind::InUse, "it is being started or removed, or another program has it")
                })?);
            }
            store.rootfs(&self.record.layers, Some((&upper, &self.room.dir(WORK)?)), false)?
        } else {
            store.view(&self.record.layers, &upper)?
        };
        let root = Root::new(mount.mount.as_fd(), "container's root")
            .open("/", OFlags::RDONLY | OFlags::DIRECTORY)?;
        let unmounted = in_order(&self.record).iter().map(|mount| mount.at.clone()).collect();
        Ok(Tree { root, unmounted, users: None, _mount: Some(mount), _lock: lock })
    }
}

/// Packs on a thread of its own what is unpacked on this one. Answers with the bytes that went through.
fn piped(
    pack: impl FnOnce(io::PipeWriter) -> Result<()> + Send,
    unpack: impl FnOnce(&mut Counting) -> Result<()>,
) -> Result<u64> {
    let failed = |error: io::Error| Error::new(Kind::Exhausted, format!("pipe(): {error}"));
    let (reader, writer) = io::pipe().map_err(failed)?;
    std::thread::scope(|scope| {
        let packer = scope.spawn(move || pack(writer));
        let mut counting = Counting { reader, bytes: 0 };
        let unpacked = unpack(&mut counting);
        let bytes = counting.bytes;
        // Who still packs finds nobody there.
        drop(counting);
        let packed =
            packer.join().unwrap_or_else(|_| Err(Error::new(Kind::Other, "the packing thread ended")));
        match (unpacked, packed) {
            (Ok(()), packed) => packed.map(|()| bytes),
            // A tar that ends early is what packing failed with; a closed pipe is what unpacking did.
            (Err(error), Err(packing)) if error.kind() == Kind::Corrupt => Err(packing),
            (Err(error), _) => Err(error),
        }
    })
}

struct Counting {
    reader: io::PipeReader,
    bytes: u64,
}

impl Read for Counting {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(into)?;
        self.bytes += read as u64;
        Ok(read)
    }
}
