//! The mounts of a container, made: what nobody sees until its child puts them in place.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use coracle_host::{Call, Dir, Lock, Mount as Made, Propagation as Flow, Root};
use coracle_volume::{Terms, VolumeSpec};
use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags, statx};

use super::mount::{Mount, Propagation, Recursion, Source};
use super::record::Record;
use super::tmpfs;
use crate::Kind;
use crate::engine::Inner;
use crate::error::{Doing, Error, Result};

/// What this mount shows, and the locks that say that it is in use. `root` is the container's root directory.
pub(crate) fn make(
    engine: &Inner,
    record: &Record,
    mount: &Mount,
    root: &OwnedFd,
) -> Result<(Made, Vec<Lock>)> {
    let doing = || format!("mount {mount} at {:?}", mount.at);
    match &mount.source {
        Source::Volume(name) => volume(engine, record, mount, name, root),
        Source::Bind(path) => bind(mount, path).map(|made| (made, Vec::new())).doing(doing),
        Source::Tmpfs => {
            let covered = mode_at(root, &mount.at).doing(doing)?;
            tmpfs::mount(&mount.words, covered, mount.read_only, record.mount_label())
                .map(|made| (made, Vec::new()))
                .doing(doing)
        }
        Source::Image(_) => image(engine, mount).doing(doing),
        Source::Anonymous | Source::Clone(_) => {
            Err(Error::new(Kind::Corrupt, format!("{}: its volume has no name", doing())))
        }
    }
}

/// The mode of the directory that the image has there: that of a tmpfs over it, as runc has it.
fn mode_at(root: &OwnedFd, at: &Path) -> Result<Option<u32>> {
    match Root::new(root.as_fd(), "container's root").open(at, OFlags::PATH | OFlags::DIRECTORY) {
        Ok(dir) => {
            let stat = rustix::fs::fstat(&dir).call(|| format!("fstat({at:?})"))?;
            Ok(Some(stat.st_mode & 0o7777))
        }
        // Nothing is there, or a file, which is refused when the place is made.
        Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Invalid) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What mounts may at most have in common with the host's. Without the `R` what is below keeps what it has there.
pub(crate) fn propagation(mount: &Mount) -> Flow {
    match mount.propagation {
        None | Some(Propagation::RPrivate) => Flow::Private,
        Some(Propagation::RSlave) => Flow::Slave,
        Some(_) => Flow::Shared,
    }
}

/// Borrows a volume. An empty one first takes what the image has at its place.
fn volume(
    engine: &Inner,
    record: &Record,
    mount: &Mount,
    name: &str,
    root: &OwnedFd,
) -> Result<(Made, Vec<Lock>)> {
    let mut terms = Terms::new();
    if mount.read_only {
        terms = terms.read_only();
    }
    match &mount.subpath {
        Some(path) => terms = terms.subpath(path),
        None if mount.no_copy => {}
        None => match Root::new(root.as_fd(), "container's root")
            .open(&mount.at, OFlags::RDONLY | OFlags::DIRECTORY)
        {
            Ok(fd) => terms = terms.seed(&Dir::from_fd(fd, &mount.at)),
            // The image has nothing there, or a file; then there is nothing to take.
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Invalid) => {}
            Err(error) => return Err(error.into()),
        },
    }
    let mut spec = mount.volume_spec(name);
    if mount.drawn {
        if !record.retain {
            spec = spec.volatile();
        }
        engine.volumes.open_for(&record.id, &spec)?;
    }
    let (_, loan) = engine.volumes.open_and_lend(&spec, record.display_name(), &terms)?;
    let (made, lock) = loan.into_parts();
    Ok((made, vec![lock]))
}

fn bind(mount: &Mount, path: &Path) -> Result<Made> {
    if mount.create && !path.exists() {
        std::fs::create_dir_all(path).call(|| format!("mkdir({path:?})"))?;
    }
    let flow = mount.propagation.unwrap_or_default();
    let (kind, recursive) = match flow {
        Propagation::RPrivate => (Flow::Private, true),
        Propagation::Private => (Flow::Private, false),
        Propagation::RSlave => (Flow::Slave, true),
        Propagation::Slave => (Flow::Slave, false),
        Propagation::RShared => (Flow::Shared, true),
        Propagation::Shared => (Flow::Shared, false),
    };
    let source = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .call(|| format!("open({path:?})"))?;
    if kind != Flow::Private {
        check_flow(&source, path, kind)?;
    }
    let made = Made::bind(&source, mount.recursion != Recursion::Disabled, format!("{}", path.display()))?;
    let made = made.propagation(kind, recursive)?;
    Ok(match (mount.read_only, mount.recursion) {
        (false, _) => made,
        (true, Recursion::Writable) => made.read_only_here()?,
        (true, _) => made.read_only()?,
    })
}

/// Nothing propagates from or to a source whose own mount is private: to ask for it is a mistake.
fn check_flow(source: &OwnedFd, path: &Path, wanted: Flow) -> Result<()> {
    let stat =
        statx(source, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).call(|| format!("statx({path:?})"))?;
    let file = "/proc/thread-self/mountinfo";
    let table = std::fs::read_to_string(file).call(|| format!("read({file:?})"))?;
    let id = stat.stx_mnt_id.to_string();
    // proc_pid_mountinfo(5): id, parent, device, root, mount point, options, then the tags up to a lone hyphen.
    let line = table.lines().find(|line| line.split(' ').next() == Some(&id)).unwrap_or_default();
    let tags = || line.split(' ').skip(6).take_while(|tag| *tag != "-");
    let shared = tags().any(|tag| tag.starts_with("shared:"));
    if shared || (wanted == Flow::Slave && tags().any(|tag| tag.starts_with("master:"))) {
        return Ok(());
    }
    let on = line.split(' ').nth(4).unwrap_or("?");
    let want = if wanted == Flow::Slave { "a shared or slave mount" } else { "a shared mount" };
    let text = format!("path {} is mounted on {on} but it is not {want}", path.display());
    Err(Error::new(Kind::Invalid, text))
}

fn image(engine: &Inner, mount: &Mount) -> Result<(Made, Vec<Lock>)> {
    let rootfs = engine.store.rootfs(&mount.layers, None, true)?;
    let Some(path) = &mount.subpath else { return Ok((rootfs.mount, rootfs.locks)) };
    let inside = Root::new(rootfs.mount.as_fd(), "image").open(path, OFlags::PATH)?;
    let made = Made::bind(inside, false, format!("{mount}"))?.private()?.read_only()?;
    Ok((made, rootfs.locks))
}

impl Mount {
    /// The volume of this name, as it is made where it is not there.
    pub(crate) fn volume_spec(&self, name: &str) -> VolumeSpec {
        let spec = if self.drawn { VolumeSpec::drawn(name) } else { VolumeSpec::new(name) };
        let spec = self.labels.iter().fold(spec, |spec, (key, value)| spec.label(key, value));
        let spec = self.options.iter().fold(spec, |spec, (key, value)| spec.option(key, value));
        let spec = match &self.driver {
            Some(driver) => spec.driver(driver),
            None => spec,
        };
        match &self.base {
            Some(base) => spec.base(base),
            None => spec,
        }
    }
}

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            _ if self.base.is_some() => {
                write!(f, "clone of volume {}", self.base.as_deref().unwrap_or_default())
            }
            _ if self.drawn => f.write_str("volume without a name"),
            Source::Volume(name) => write!(f, "volume {name}"),
            Source::Anonymous => f.write_str("volume without a name"),
            Source::Clone(base) => write!(f, "clone of volume {base}"),
            Source::Bind(path) => write!(f, "bind of {}", path.display()),
            Source::Tmpfs if self.words.is_empty() => f.write_str("tmpfs"),
            Source::Tmpfs => write!(f, "tmpfs {}", self.words.join(",")),
            Source::Image(name) => write!(f, "image {name}"),
        }
    }
}
