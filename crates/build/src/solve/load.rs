//! From a spec to what is read: the Dockerfile, the context and what it ignores.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use coracle_host::{Call, Dir, Root};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::cache::{self, Cache};
use crate::cancel::Cancel;
use crate::dockerfile::Dockerfile;
use crate::error::{Error, Result};
use crate::files::known::{Known, Moment};
use crate::files::pick::Tree;
use crate::ignore::Ignore;
use crate::spec::BuildSpec;

/// The spec's Dockerfile, read and parsed. Its name in messages is the path it was asked for by.
///
/// # Errors
/// `NotFound` where there is none; else all problems of the file.
pub(crate) fn dockerfile(spec: &BuildSpec) -> Result<Dockerfile> {
    if let Some(text) = &spec.text {
        return Dockerfile::parse("Dockerfile", text);
    }
    let (path, name) = match (&spec.file, &spec.context) {
        (Some(file), _) => (file.clone(), file.display().to_string()),
        (None, Some(context)) => {
            let name = usual(context);
            (context.join(name), name.to_owned())
        }
        (None, None) => {
            return Err(Error::invalid("there is neither a Dockerfile nor a context to build from"));
        }
    };
    let bytes = read(&path).map_err(|error| Error::from(error).context("read the Dockerfile"))?;
    Dockerfile::parse(&name, &bytes)
}

/// The name of a context's Dockerfile; as with BuildKit it may be in small letters.
fn usual(context: &Path) -> &'static str {
    let is_there = |name: &str| context.join(name).symlink_metadata().is_ok();
    if !is_there("Dockerfile") && is_there("dockerfile") { "dockerfile" } else { "Dockerfile" }
}

pub(super) fn read(path: &Path) -> coracle_host::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty()).call(|| format!("open({path:?})"))?;
    let mut bytes = Vec::new();
    File::from(fd).read_to_end(&mut bytes).call(|| format!("read({path:?})"))?;
    Ok(bytes)
}

/// The directory that COPY copies from.
pub(super) struct Context {
    dir: Dir,
    ignore: Ignore,
    label: String,
    /// What was read of it before, and the name of the index.
    known: Known,
    index: String,
}

impl Context {
    /// # Errors
    /// `Invalid` where the spec has none; the host's; `Invalid` for a malformed ignore file.
    pub(super) fn open(spec: &BuildSpec, cache: &Cache) -> Result<Context> {
        let Some(path) = &spec.context else {
            return Err(Error::invalid("this build has no context to copy from"));
        };
        let dir = Dir::open(path).map_err(|error| Error::from(error).context("open the context"))?;
        let ignore = ignore(spec, &dir)?;
        Context::read("the context".to_owned(), dir, ignore, cache)
    }

    /// A directory that is a context besides the main one.
    ///
    /// # Errors
    /// The host's; `Invalid` for a malformed ignore file.
    pub(super) fn named(name: &str, path: &Path, cache: &Cache) -> Result<Context> {
        let label = format!("the context `{name}`");
        let dir = Dir::open(path).map_err(|error| Error::from(error).context(format!("open {label}")))?;
        let ignore = own_ignore(&dir, &label)?;
        Context::read(label, dir, ignore, cache)
    }

    fn read(label: String, dir: Dir, ignore: Ignore, cache: &Cache) -> Result<Context> {
        let stat = rustix::fs::fstat(&dir).call(|| format!("fstat({:?})", dir.path()))?;
        let mut key = cache::key("known", "");
        key.add(stat.st_dev.to_le_bytes()).add(stat.st_ino.to_le_bytes());
        let index = key.hex();
        let known = Known::read(&cache.get_raw(&index), Moment::now());
        Ok(Context { dir, ignore, label, known, index })
    }

    pub(super) fn tree<'t>(&'t self, cancel: Option<&'t Cancel>) -> Tree<'t> {
        Tree::context(self.dir.as_fd(), &self.label, &self.ignore).cancelled_by(cancel).knowing(&self.known)
    }

    /// Keeps what was read. A build can do without.
    pub(super) fn remember(&self, cache: &Cache) {
        if let Some(bytes) = self.known.to_write() {
            cache.put_raw(&self.index, &bytes);
        }
    }
}

/// What the spec's context ignores, if there is a context.
///
/// # Errors
/// Where it can't be read, or is malformed.
pub(crate) fn ignore_of(spec: &BuildSpec) -> Result<Option<Ignore>> {
    let Some(path) = &spec.context else { return Ok(None) };
    let dir = Dir::open(path).map_err(|error| Error::from(error).context("open the context"))?;
    ignore(spec, &dir).map(Some)
}

/// `<Dockerfile>.dockerignore`, else the context's `.dockerignore`, else nothing.
fn ignore(spec: &BuildSpec, context: &Dir) -> Result<Ignore> {
    if spec.text.is_none() {
        let file = spec.file.clone().unwrap_or_else(|| context.path().join(usual(context.path())));
        let mut name = file.into_os_string();
        name.push(".dockerignore");
        let path = PathBuf::from(name);
        match read(&path) {
            Ok(bytes) => return Ignore::parse(&path.display().to_string(), &bytes),
            Err(error) if matches!(error.errno(), Some(Errno::NOENT | Errno::NOTDIR)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    own_ignore(context, "the context")
}

fn own_ignore(context: &Dir, label: &str) -> Result<Ignore> {
    // Through the root, because a context may come from somebody else.
    match Root::new(context.as_fd(), label).read_if_there(".dockerignore")? {
        Some(bytes) => Ignore::parse(".dockerignore", &bytes),
        None => Ok(Ignore::default()),
    }
}

/// A worker's tree, kept open while it is read from.
pub(super) struct Lent {
    pub(super) fd: OwnedFd,
    pub(super) label: String,
}

impl Lent {
    pub(super) fn tree<'t>(&'t self, cancel: Option<&'t Cancel>) -> Tree<'t> {
        Tree::snapshot(self.fd.as_fd(), &self.label).cancelled_by(cancel)
    }
}
