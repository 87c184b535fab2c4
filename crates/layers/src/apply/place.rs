//! Finding and making the directories that members go into, without ever leaving the root.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::AsFd;
use std::rc::Rc;

use coracle_host::{Call, Dir, Kind};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::attributes;
use super::lower::{self, Attributes, Found, is_whiteout};
use super::name::{Trust, is_reserved};
use crate::tar::{Time, show};
use crate::xattr::{os, set_opaque};
use crate::{Error, Result};

/// As path_resolution(7) has it.
const MOST_LINKS: usize = 40;
/// Longest directory: PATH_MAX less one name. Links could build longer ones.
const MOST_BYTES: usize = 4096 - 256;
/// Directories kept open. Archives go depth first, so few are needed, and descriptors are the embedder's, too.
const MOST_OPEN: usize = 64;

const OPEN: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A directory of the tree being made, and its real components from the root: no links in them.
pub(super) struct Place {
    pub dir: Dir,
    pub real: Vec<Vec<u8>>,
}

impl Place {
    pub fn below(&self, name: &[u8]) -> Vec<Vec<u8>> {
        let mut real = self.real.clone();
        real.push(name.to_vec());
        real
    }
}

/// The tree being made, and the layers below it. Every step is one openat(2) of one component with `O_NOFOLLOW`:
/// links are read and followed here, where "root" means the layer's.
pub(super) struct Places<'a> {
    root: Rc<Place>,
    pub lowers: &'a [Dir],
    trust: Trust,
    /// What a directory is like that is only implied.
    pub implied: Attributes,
    open: HashMap<Vec<u8>, Rc<Place>>,
    /// When directories were changed last; set at the end, since filling them changes it.
    pub times: BTreeMap<Vec<Vec<u8>>, Time>,
    /// Directories that hide what is below them.
    hiding: Vec<Vec<Vec<u8>>>,
}

enum Step {
    Dir(Dir),
    Link(Vec<u8>),
}

impl<'a> Places<'a> {
    pub fn new(root: &Dir, lowers: &'a [Dir], trust: Trust) -> Places<'a> {
        let root = Rc::new(Place { dir: root.clone(), real: Vec::new() });
        let (open, times, hiding) = (HashMap::new(), BTreeMap::new(), Vec::new());
        Places { root, lowers, trust, implied: Attributes::default_dir(), open, times, hiding }
    }

    pub fn root(&self) -> &Rc<Place> {
        &self.root
    }

    /// The directory that `path` leads to; `make` makes what is missing.
    pub fn dir(&mut self, path: &[&[u8]], make: bool) -> Result<Rc<Place>> {
        let key = path.join(&b'/');
        if let Some(place) = self.open.get(&key) {
            return Ok(place.clone());
        }
        // Archives go on from where they were: mostly the parent is open already.
        let known =
            path.split_last().and_then(|(last, rest)| Some((self.open.get(&rest.join(&b'/'))?, last)));
        let (mut here, mut todo) = match known {
            Some((parent, last)) => (parent.clone(), vec![last.to_vec()]),
            None => (self.root.clone(), path.iter().rev().map(|part| part.to_vec()).collect()),
        };
        let mut links = MOST_LINKS;
        while let Some(name) = todo.pop() {
            if name == b".." {
                if here.real.is_empty() && self.trust.confined() {
                    return Err(self.leads_out(&key));
                }
                let above = here.real.len().saturating_sub(1);
                here = self.real(&here.real[..above])?;
                continue;
            }
            match self.step(&here, &name, make)? {
                Step::Dir(dir) => {
                    let real = here.below(&name);
                    if real.iter().map(|part| part.len() + 1).sum::<usize>() > MOST_BYTES {
                        return Err(Errno::NAMETOOLONG).call(|| format!("mkdir({})", show(&key)))?;
                    }
                    here = Rc::new(Place { dir, real });
                }
                Step::Link(target) => {
                    links = links.checked_sub(1).ok_or_else(|| {
                        Error::invalid(format!("{} goes through too many links", show(&key)))
                    })?;
                    if target.starts_with(b"/") {
                        if self.trust.confined() {
                            return Err(self.leads_out(&key));
                        }
                        here = self.root.clone();
                    }
                    let parts = target.split(|byte| *byte == b'/').rev();
                    todo.extend(parts.filter(|part| !part.is_empty() && *part != b".").map(<[u8]>::to_vec));
                }
            }
        }
        if self.open.len() >= MOST_OPEN {
            self.open.clear();
        }
        self.open.insert(key, here.clone());
        Ok(here)
    }

    /// What was found may be found no more: a directory or a link was replaced.
    pub fn forget(&mut self, real: &[Vec<u8>]) {
        self.open.clear();
        let below: Vec<_> = self
            .times
            .range(real.to_vec()..)
            .take_while(|(path, _)| path.starts_with(real))
            .map(|(path, _)| path.clone())
            .collect();
        for path in below {
            self.times.remove(&path);
        }
    }

    /// Notes (and marks, where there is anything to hide) that a directory hides what is below it.
    pub fn hide(&mut self, parent: &Place, name: &[u8]) -> Result<()> {
        if !self.lowers.is_empty() {
            set_opaque(&parent.dir, os(name))?;
            self.hiding.push(parent.below(name));
        }
        Ok(())
    }

    /// Sets the times of all directories. Last of all.
    pub fn finish(&self) -> Result<()> {
        for (path, time) in &self.times {
            attributes::set_time(&self.real(path)?.dir, b".", *time)?;
        }
        Ok(())
    }

    /// The directory at a path without links.
    fn real(&self, path: &[Vec<u8>]) -> Result<Rc<Place>> {
        let joined = path.join(&b'/');
        let name = if joined.is_empty() { b".".as_slice() } else { &joined };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let at = || self.root.dir.path_of(os(name));
        let fd = rustix::fs::openat2(&self.root.dir, os(name), OPEN, Mode::empty(), resolve)
            .call(|| format!("openat2({:?}, RESOLVE_NO_SYMLINKS)", at()))?;
        Ok(Rc::new(Place { dir: Dir::from_fd(fd, at()), real: path.to_vec() }))
    }

    fn step(&mut self, here: &Place, name: &[u8], make: bool) -> Result<Step> {
        match open_dir(&here.dir, name) {
            Ok(dir) => return Ok(Step::Dir(dir)),
            Err(Errno::NOENT) => {}
            Err(Errno::NOTDIR | Errno::LOOP) => {
                if let Ok(target) = rustix::fs::readlinkat(&here.dir, os(name), Vec::new()) {
                    return Ok(Step::Link(target.into_bytes()));
                }
                let stat = rustix::fs::statat(&here.dir, os(name), AtFlags::SYMLINK_NOFOLLOW)
                    .call(|| format!("stat({})", show(name)))?;
                if !is_whiteout(&stat) {
                    let text = format!("{} is not a directory", show(&here.below(name).join(&b'/')));
                    return Err(Error::invalid(text));
                }
                if make {
                    // Removed below, and now something is put into a new one.
                    here.dir.remove_file(os(name))?;
                    let dir = self.make(here, name, &self.implied.clone())?;
                    self.hide(here, name)?;
                    return Ok(Step::Dir(dir));
                }
            }
            Err(errno) => return Err(errno).call(|| format!("open({})", show(name)))?,
        }
        let path = here.below(name);
        let hidden = self.hiding.iter().any(|above| path.starts_with(above));
        let found = if hidden { Found::Nothing } else { lower::find(self.lowers, &path)? };
        match found {
            Found::Link(target) => Ok(Step::Link(target)),
            _ if !make => Err(Error::new(Kind::NotFound, format!("there is no {}", show(&path.join(&b'/'))))),
            Found::Dir(like) => self.make(here, name, &like).map(Step::Dir),
            Found::Nothing => self.make(here, name, &self.implied.clone()).map(Step::Dir),
        }
    }

    /// A directory that the archive implies. It stands in front of the one below, so it must look like it.
    fn make(&mut self, here: &Place, name: &[u8], like: &Attributes) -> Result<Dir> {
        // Only a link's target can still say so.
        if is_reserved(name) && !self.trust.literal() {
            let text = format!("{} marks a removal and can't be a directory", show(name));
            return Err(Error::invalid(text));
        }
        rustix::fs::mkdirat(&here.dir, os(name), Mode::RWXU)
            .call(|| format!("mkdir({:?})", here.dir.path_of(os(name))))?;
        attributes::set(&here.dir, name, like, false)?;
        self.times.insert(here.below(name), like.mtime);
        Ok(open_dir(&here.dir, name).call(|| format!("open({:?})", here.dir.path_of(os(name))))?)
    }

    fn leads_out(&self, path: &[u8]) -> Error {
        Error::invalid(format!("the directory {} is a link that leads out of the root", show(path)))
    }
}

fn open_dir(dir: &Dir, name: &[u8]) -> rustix::io::Result<Dir> {
    let fd = rustix::fs::openat(dir.as_fd(), os(name), OPEN, Mode::empty())?;
    Ok(Dir::from_fd(fd, dir.path_of(os(name))))
}
