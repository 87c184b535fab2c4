//! What a RUN step mounts: files of other trees, caches, memory, secrets, an ssh agent.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::PoisonError;

use coracle_build::{CacheLoan, CacheSpec, Command, MountFrom, RunMount, Sharing};
use coracle_host::{Call, Dir, Kind, Mount, Overlay, Root};
use rustix::fs::{FileType, Gid, Mode, OFlags, Uid};
use rustix::mount::MountAttrFlags;

use super::agent::Agent;
use super::{Builder, Change};
use crate::error::{Doing, Error, Result};

/// One mount and where it goes.
pub(super) struct Given {
    pub(super) what: String,
    pub(super) at: PathBuf,
    pub(super) mount: Mount,
}

/// The mounts of a step, and what has to stay as long as it runs.
pub(super) struct Held {
    /// A mount inside another one comes after it.
    pub(super) mounts: Vec<Given>,
    pub(super) agents: Vec<Agent>,
    _caches: Vec<CacheLoan>,
}

/// A small file system in memory, for what must never be on a disk.
struct Memory(Option<Mount>, usize);

impl Memory {
    fn mount(&mut self) -> Result<&Mount> {
        if self.0.is_none() {
            let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
            self.0 = Some(Mount::new("tmpfs", &[("mode", "0700"), ("size", "64m")], flags)?);
        }
        self.0.as_ref().ok_or_else(|| Error::new(Kind::Other, "a mount was made and is not there"))
    }

    /// A mount of a new file with these bytes.
    fn file(&mut self, what: &str, bytes: &[u8], mode: u32, owner: (u32, u32)) -> Result<Mount> {
        self.1 += 1;
        let name = self.1.to_string();
        let mount = self.mount()?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(mount, &name, flags, Mode::from_raw_mode(0o600))
            .call(|| format!("open({what}, O_CREAT)"))?;
        let mut file = std::fs::File::from(fd);
        file.write_all(bytes).call(|| format!("write({what})"))?;
        rustix::fs::fchown(&file, Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1)))
            .call(|| format!("chown({what})"))?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).call(|| format!("chmod({what})"))?;
        part(&file, what)
    }
}

/// Makes everything that the command mounts.
pub(super) fn open(builder: &Builder<'_>, place: &Change, command: &Command) -> Result<Held> {
    let mut caches = caches(builder, command)?;
    let mut memory = Memory(None, 0);
    let mut held = Held { mounts: Vec::new(), agents: Vec::new(), _caches: Vec::new() };
    for (nth, one) in command.mounts.iter().enumerate() {
        let what = one.to_string();
        let Some(at) = one.target().map(PathBuf::from) else { continue };
        let doing = || format!("mount {what}");
        let mount = match one {
            RunMount::Bind { from, writable, .. } => bind(place, nth, from, *writable, &what).doing(doing)?,
            RunMount::Cache { id, seed, read_only, .. } => {
                let loan = caches.get(&(id.clone(), seed.clone()));
                let loan =
                    loan.ok_or_else(|| Error::new(Kind::Other, "a cache was not lent")).doing(doing)?;
                let mount = Mount::bind(loan.dir(), false, what.as_str()).and_then(Mount::private);
                let mount = mount.doing(doing)?;
                if *read_only { mount.read_only().doing(doing)? } else { mount }
            }
            RunMount::Tmpfs { size, .. } => {
                let size = size.map(|size| size.to_string());
                let size: Vec<(&str, &str)> = size.iter().map(|size| ("size", size.as_str())).collect();
                Mount::tmpfs(&size).doing(doing)?
            }
            RunMount::Secret { value, mode, uid, gid, .. } => {
                let bytes = value.as_ref().map_or(&[][..], |secret| secret.bytes());
                memory
                    .file(&what, bytes, *mode, (*uid, *gid))
                    .and_then(|m| Ok(m.read_only()?))
                    .doing(doing)?
            }
            RunMount::Script { text, .. } => memory
                .file(&what, text.as_bytes(), 0o755, (0, 0))
                .and_then(|m| Ok(m.read_only()?))
                .doing(doing)?,
            RunMount::Ssh { agent: Some(socket), mode, uid, gid, .. } => {
                let agent = Agent::listen(memory.mount()?, &nth.to_string(), socket).doing(doing)?;
                agent.own(*mode, *uid, *gid).doing(doing)?;
                let mount = part(agent.place(), &what).doing(doing)?;
                held.agents.push(agent);
                mount
            }
            other => {
                return Err(Error::new(
                    Kind::Unsupported,
                    format!("mount {other}: this engine can't do that"),
                ));
            }
        };
        held.mounts.push(Given { what, at, mount });
    }
    held.mounts.sort_by_key(|given| given.at.components().count());
    held._caches = std::mem::take(&mut caches).into_values().collect();
    Ok(held)
}

/// Id and seed: one directory.
pub(super) type CacheKey = (String, Option<String>);

/// All cache directories of a step, each once. Every step takes them in the same order, so that no two wait for each
/// other.
fn caches(builder: &Builder<'_>, command: &Command) -> Result<BTreeMap<CacheKey, CacheLoan>> {
    let mut wanted = BTreeMap::<CacheKey, (CacheSpec, Sharing, Option<&MountFrom>)>::new();
    for mount in &command.mounts {
        let RunMount::Cache { id, seed, sharing, mode, uid, gid, from, .. } = mount else { continue };
        let mut spec = CacheSpec::new(id).mode(*mode).owner(*uid, *gid);
        if let Some(seed) = seed {
            spec = spec.seed(seed);
        }
        let entry = wanted.entry((id.clone(), seed.clone()));
        let (_, strictest, _) = entry.or_insert((spec, *sharing, from.as_ref()));
        *strictest = (*strictest).max(*sharing);
    }
    let mut lent = BTreeMap::new();
    for (key, (spec, sharing, from)) in wanted {
        let doing = || format!("mount cache `{}`", key.0);
        let mut fill = |to: &Dir| match from {
            Some(from) => from.copy_to(to),
            None => Ok(()),
        };
        if command.uncached {
            // Nobody of this build has it before it is new.
            let mut renewed = builder.renewed.lock().unwrap_or_else(PoisonError::into_inner);
            if renewed.insert(key.clone()) {
                builder.caches.renew(&spec).doing(doing)?;
            }
        }
        let loan = builder.caches.lend(&spec.sharing(sharing), &mut fill).doing(doing)?;
        lent.insert(key, loan);
    }
    Ok(lent)
}

/// A file or directory of a tree. What is written to it is dropped, where it may be written at all.
fn bind(place: &Change, nth: usize, from: &MountFrom, writable: bool, what: &str) -> Result<Mount> {
    let tree = from.tree.as_ref().ok_or_else(|| Error::new(Kind::Other, "the tree was not lent"))?;
    let root = Root::new(tree.as_fd(), "the mounted tree");
    let source = root.open(&from.path, OFlags::PATH)?;
    let stat = rustix::fs::fstat(&source).call(|| format!("fstat({:?})", from.path))?;
    if !writable {
        return Ok(part(&source, what)?.read_only()?);
    }
    let beside = place.staged.dir().make_new(format!("mount{nth}"), 0o700)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            let (upper, work) = (beside.make_new("upper", 0o755)?, beside.make_new("work", 0o700)?);
            rustix::fs::fchown(&upper, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))
                .call(|| format!("chown({what})"))?;
            rustix::fs::fchmod(&upper, Mode::from_raw_mode(stat.st_mode & 0o7777))
                .call(|| format!("chmod({what})"))?;
            let lower = [Dir::from_fd(readable(&source, what)?, what)];
            Ok(Mount::overlay(&Overlay {
                lower: &lower,
                upper: Some((&upper, &work)),
                volatile: true,
                context: None,
            })?)
        }
        FileType::RegularFile => {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
            let mut copy = std::fs::File::from(beside.file("file", flags, 0o600)?);
            let mut original = std::fs::File::from(root.open(&from.path, OFlags::RDONLY | OFlags::NONBLOCK)?);
            std::io::copy(&mut original, &mut copy).call(|| format!("copy({what})"))?;
            rustix::fs::fchown(&copy, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))
                .call(|| format!("chown({what})"))?;
            rustix::fs::fchmod(&copy, Mode::from_raw_mode(stat.st_mode & 0o7777))
                .call(|| format!("chmod({what})"))?;
            part(&copy, what)
        }
        other => {
            Err(Error::new(Kind::Unsupported, format!("{what}: it is no file or directory but a {other:?}")))
        }
    }
}

fn readable(fd: &OwnedFd, what: &str) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(fd, ".", flags, Mode::empty()).call(|| format!("open({what})"))?)
}

/// A mount of a part of a tree, which may be a mount that nobody sees: Linux allows that since 6.15.
fn part(of: impl AsFd, what: &str) -> Result<Mount> {
    match Mount::bind(of, false, what) {
        Err(error) if error.errno() == Some(rustix::io::Errno::INVAL) => {
            let text = format!("{error}; mounting a part of a snapshot or of memory needs Linux 6.15");
            Err(Error::new(Kind::Unsupported, text))
        }
        other => Ok(other?.private()?),
    }
}
