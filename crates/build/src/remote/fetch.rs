//! Fetching once in a build what its steps ask for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use coracle_host::{Call, Dir, StagedDir, Staging};
use rustix::fs::OFlags;

use super::web::{Got, WebRecord};
use super::{Git, GitSource, Remote, RemoteSource, file_name, git, web};
use crate::cache::{self, Cache};
use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::files::pick::Tree;
use crate::files::unpack;
use crate::ignore::Ignore;
use crate::stream::Unpacked;

/// Something that was fetched, in a directory that goes with it.
pub(crate) struct Fetched {
    dir: Dir,
    _staged: StagedDir,
    label: String,
    ignore: Ignore,
    /// What to pick from the directory.
    pub(crate) path: String,
    /// What it turned out to be: the digest of a file, the commit of a repository.
    pub(crate) identity: String,
    pub(crate) unpack: bool,
}

impl std::fmt::Debug for Fetched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fetched({})", self.label)
    }
}

impl Fetched {
    pub(crate) fn tree<'t>(&'t self, cancel: Option<&'t Cancel>) -> Tree<'t> {
        Tree::context(self.dir.as_fd(), &self.label, &self.ignore).cancelled_by(cancel)
    }
}

/// A name for what no URL names.
const UNNAMED: &str = "download";

type Slot = Arc<Mutex<Option<Arc<Fetched>>>>;

/// What one build has fetched so far, each thing once, however many stages ask for it.
pub(crate) struct Fetches {
    client: web::Client,
    slots: Mutex<BTreeMap<String, Slot>>,
}

/// Whom fetching asks.
#[derive(Clone, Copy)]
pub(crate) struct With<'a> {
    pub(crate) cache: &'a Cache,
    pub(crate) git: Option<&'a dyn Git>,
    pub(crate) cancel: Option<&'a Cancel>,
    /// The `Authorization` for a host, where the build has a secret for it.
    pub(crate) authorization: &'a dyn Fn(&str) -> Result<Option<String>>,
    /// Nothing that is remembered of a URL counts.
    pub(crate) afresh: bool,
}

impl Fetches {
    pub(crate) fn new(proxies: web::Proxies) -> Fetches {
        Fetches { client: web::Client::new(proxies), slots: Mutex::default() }
    }

    fn slot(&self, source: &RemoteSource) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.entry(format!("{source:?}")).or_default().clone()
    }

    /// What the source is now, fetched only where that can't be told without.
    pub(crate) fn identity(&self, source: &RemoteSource, with: With<'_>) -> Result<String> {
        if let Some(pinned) = source.pinned() {
            return Ok(pinned);
        }
        let slot = self.slot(source);
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fetched) = &*slot {
            return Ok(fetched.identity.clone());
        }
        let known = match &source.remote {
            Remote::Web(url) if !with.afresh => with.cache.get::<WebRecord>(&record_key(url)),
            _ => None,
        };
        let known = known.filter(|known| known.etag.is_some() || known.changed.is_some());
        match (fetch(&self.client, source, known.as_ref(), with)?, known) {
            (None, Some(known)) => Ok(known.digest),
            (None, None) => Err(nothing(source)),
            (Some(fetched), _) => {
                let identity = fetched.identity.clone();
                *slot = Some(Arc::new(fetched));
                Ok(identity)
            }
        }
    }

    /// The source itself.
    pub(crate) fn get(&self, source: &RemoteSource, with: With<'_>) -> Result<Arc<Fetched>> {
        let slot = self.slot(source);
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fetched) = &*slot {
            return Ok(fetched.clone());
        }
        let fetched = Arc::new(fetch(&self.client, source, None, with)?.ok_or_else(|| nothing(source))?);
        *slot = Some(fetched.clone());
        Ok(fetched)
    }
}

fn record_key(url: &str) -> String {
    let mut key = cache::key("web", "");
    key.add(url);
    key.hex()
}

fn nothing(source: &RemoteSource) -> Error {
    Error::invalid(format!("`{}` came to nothing", source.remote))
}

/// `None` where it is still what is `known`.
fn fetch(
    client: &web::Client,
    source: &RemoteSource,
    known: Option<&WebRecord>,
    with: With<'_>,
) -> Result<Option<Fetched>> {
    let staged = with.cache.stage()?;
    let dir = staged.dir().make_new("fetched", 0o700)?;
    let label = source.remote.to_string();
    let (path, identity) = match &source.remote {
        Remote::Git(git) => {
            let identity = git::checkout(with.git, git, source.checksum.as_deref(), &dir, with.cancel)?;
            (directory(git), identity)
        }
        Remote::Web(url) => {
            let name = file_name(url).unwrap_or_else(|| UNNAMED.to_owned());
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
            let mut file = File::from(dir.file(&name, flags, 0o600)?);
            let authorization = (with.authorization)(host(url))?;
            let got = web::get(client, url, known, authorization.as_deref(), &mut file, with.cancel)?;
            let Got::New(record) = got else {
                return Ok(None);
            };
            if let Some(wanted) = source.checksum.as_ref().filter(|wanted| **wanted != record.digest) {
                let what = format!("`{label}` is {}, and not {wanted} as `--checksum` says", record.digest);
                return Err(Error::invalid(what));
            }
            with.cache.note(&record_key(url), &record);
            (name, record.digest)
        }
    };
    let ignore = Ignore::default();
    Ok(Some(Fetched { dir, _staged: staged, label, ignore, path, identity, unpack: source.unpack }))
}

/// The host of a URL, with its port if it says one.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    rest[..end].rsplit_once('@').map_or(&rest[..end], |(_, host)| host)
}

fn directory(git: &GitSource) -> String {
    let path = git.directory.as_deref().unwrap_or("");
    crate::paths::clean(path)[1..].to_owned()
}

/// A context that came from elsewhere.
#[derive(Debug)]
#[non_exhaustive]
pub enum RemoteContext {
    /// A repository or an archive, in a directory of its own.
    Directory(Unpacked),
    /// A Dockerfile alone.
    Dockerfile(Vec<u8>),
}

/// How a context is fetched.
#[derive(Clone, Default)]
pub struct Fetch<'a> {
    git: Option<&'a dyn Git>,
    cancel: Option<&'a Cancel>,
    proxies: web::Proxies,
}

impl<'a> Fetch<'a> {
    /// From servers themselves, and from no repositories.
    pub fn new() -> Fetch<'a> {
        Fetch::default()
    }

    /// Who fetches repositories; without, they are refused.
    #[must_use]
    pub fn git(mut self, git: &'a dyn Git) -> Fetch<'a> {
        self.git = Some(git);
        self
    }

    /// A way to end it early.
    #[must_use]
    pub fn cancelled_by(mut self, cancel: &'a Cancel) -> Fetch<'a> {
        self.cancel = Some(cancel);
        self
    }

    /// Who is asked for URLs.
    #[cfg(feature = "http")]
    #[must_use]
    pub fn proxies(mut self, proxies: web::Proxies) -> Fetch<'a> {
        self.proxies = proxies;
        self
    }
}

impl std::fmt::Debug for Fetch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let git = self.git.map(|_| "given");
        f.debug_struct("Fetch").field("git", &git).field("proxies", &self.proxies).finish_non_exhaustive()
    }
}

/// Fetches a context: of a repository what is meant of it, of a URL an archive (a tar, plain or compressed) unpacked, or
/// else the text of a Dockerfile (docker's documentation, "Build context": "URLs").
///
/// # Errors
/// What fetching fails with; `NotFound` for a directory that the repository doesn't have; `Invalid` for a broken archive.
pub fn fetch_context(remote: &Remote, how: &Fetch<'_>, staging: &Staging) -> Result<RemoteContext> {
    let staged = staging.dir()?;
    match remote {
        Remote::Git(source) => {
            let dir = staged.dir().make_new("context", 0o700)?;
            git::checkout(how.git, source, None, &dir, how.cancel)?;
            let path = directory(source);
            let dir = match path.is_empty() {
                true => dir,
                // A link in it could lead anywhere.
                false => within(&dir, &path, source)?,
            };
            Ok(RemoteContext::Directory(Unpacked::of(dir, staged)))
        }
        Remote::Web(url) => {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
            let mut file = File::from(staged.dir().file("download", flags, 0o600)?);
            let client = web::Client::new(how.proxies.clone());
            web::get(&client, url, None, None, &mut file, how.cancel)?;
            let read = || format!("read(what {remote} gave)");
            file.rewind().call(read)?;
            if !unpack::is_archive(&mut file).call(read)? {
                let mut text = Vec::new();
                file.rewind().call(read)?;
                file.read_to_end(&mut text).call(read)?;
                return Ok(RemoteContext::Dockerfile(text));
            }
            file.rewind().call(read)?;
            let dir = staged.dir().make_new("context", 0o700)?;
            unpack::context(file, &dir)?;
            Ok(RemoteContext::Directory(Unpacked::of(dir, staged)))
        }
    }
}

fn within(dir: &Dir, path: &str, source: &GitSource) -> Result<Dir> {
    let mut at = dir.clone();
    for part in Path::new(path).components() {
        at = at.dir(part.as_os_str()).map_err(|error| Error::from(error).context(format!("`{source}`")))?;
    }
    Ok(at)
}
