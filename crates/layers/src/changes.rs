//! What an overlay's upper directory changes in the layers below it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use coracle_host::{Call, Dir};
use rustix::fs::{AtFlags, FileType, Stat};
use rustix::io::Errno;

use crate::apply::{Attributes, is_whiteout};
use crate::skip::Skip;
use crate::xattr::is_opaque;
use crate::{ChainId, Result, Store};

/// One difference between a container's file system and its image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// The absolute path in the container.
    pub path: PathBuf,
}

/// What happened to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// The image has it not.
    Added,
    /// It, or something in it, is not as the image has it.
    Changed,
    /// The image has it, and it is gone, with all that was in it.
    Removed,
}

/// In the letters of docker's `diff`.
impl fmt::Display for ChangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ChangeKind::Added => "A",
            ChangeKind::Changed => "C",
            ChangeKind::Removed => "D",
        })
    }
}

impl Store {
    /// What the upper directory of an overlay over `layers` (the lowest first) changes, sorted by path. A directory counts as
    /// changed where anything in it did; of an added one all is listed, of a removed one only its top. `mounted` are paths
    /// where something was mounted: what was made there only for that is left out.
    ///
    /// # Errors
    /// `NotFound`, naming the layer; as of the file system.
    pub fn changes(&self, layers: &[ChainId], upper: &Dir, mounted: &[PathBuf]) -> Result<Vec<Change>> {
        self.check_stack(layers)?;
        let held = self.hold(layers.last())?;
        let mut walk = Walk { skip: Skip::new(mounted), changes: BTreeMap::new() };
        // One directory after another, without recursion: trees may be deeper than any stack.
        let mut todo =
            vec![Level { upper: upper.clone(), lowers: held.trees, path: Vec::new(), opaque: false }];
        while let Some(level) = todo.pop() {
            walk.level(&level, &mut todo)?;
        }
        let mut all = walk.changes.clone();
        for path in walk.changes.keys() {
            for end in 1..path.len() {
                all.entry(path[..end].to_vec()).or_insert(ChangeKind::Changed);
            }
        }
        let path = |parts: Parts| parts.iter().fold(PathBuf::from("/"), |path, part| path.join(part));
        Ok(all.into_iter().map(|(parts, kind)| Change { kind, path: path(parts) }).collect())
    }
}

type Parts = Vec<OsString>;

/// A directory of the upper tree.
struct Level {
    upper: Dir,
    /// The same directory in the layers, the top one first, as far as they would be seen without the upper one.
    lowers: Vec<Dir>,
    path: Parts,
    /// Whether it hides what they have.
    opaque: bool,
}

struct Walk {
    skip: Skip,
    changes: BTreeMap<Parts, ChangeKind>,
}

impl Walk {
    fn level(&mut self, level: &Level, todo: &mut Vec<Level>) -> Result<()> {
        let names: BTreeSet<OsString> = level.upper.names()?.into_iter().collect();
        for name in &names {
            self.entry(level, name, todo)?;
        }
        if level.opaque {
            for name in seen(&level.lowers)?.difference(&names) {
                self.changes.insert([&level.path, std::slice::from_ref(name)].concat(), ChangeKind::Removed);
            }
        }
        Ok(())
    }

    fn entry(&mut self, level: &Level, name: &OsStr, todo: &mut Vec<Level>) -> Result<()> {
        let stat = stat(&level.upper, name)?;
        let path = [level.path.as_slice(), &[name.to_owned()]].concat();
        let below = Below::of(&level.lowers, name)?;
        if is_whiteout(&stat) {
            if below.entry.is_some() {
                self.changes.insert(path, ChangeKind::Removed);
            }
            return Ok(());
        }
        let joined = path.join(OsStr::new("/"));
        if below.entry.is_none()
            && self.skip.takes(&level.upper, name.as_bytes(), joined.as_bytes(), &stat)?
        {
            return Ok(());
        }
        match &below.entry {
            None => self.changes.insert(path.clone(), ChangeKind::Added),
            Some((dir, old))
                if differ(old, &stat) || attributes_differ(dir, &level.upper, name, old, &stat)? =>
            {
                self.changes.insert(path.clone(), ChangeKind::Changed)
            }
            Some(_) => None,
        };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            // In a directory that hides all, others need no mark to do so, too.
            let opaque = level.opaque || is_opaque(&level.upper, name)?;
            todo.push(Level { upper: level.upper.dir(name)?, lowers: below.dirs, path, opaque });
        }
        Ok(())
    }
}

/// What layers have of a name.
struct Below {
    /// What would be seen, and the directory that has it.
    entry: Option<(Dir, Stat)>,
    /// Where that is a directory: all that would be seen as one.
    dirs: Vec<Dir>,
}

impl Below {
    fn of(lowers: &[Dir], name: &OsStr) -> Result<Below> {
        let mut below = Below { entry: None, dirs: Vec::new() };
        for lower in lowers {
            let stat = match rustix::fs::statat(lower, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                other => other.call(|| format!("stat({:?})", lower.path_of(name)))?,
            };
            if is_whiteout(&stat) {
                break;
            }
            let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if below.entry.is_none() {
                below.entry = Some((lower.clone(), stat));
            }
            if !is_dir {
                break;
            }
            below.dirs.push(lower.dir(name)?);
            if is_opaque(lower, name)? {
                break;
            }
        }
        Ok(below)
    }
}

/// All names that these directories over each other show.
fn seen(lowers: &[Dir]) -> Result<BTreeSet<OsString>> {
    let (mut seen, mut hidden) = (BTreeSet::new(), BTreeSet::new());
    for lower in lowers {
        for name in lower.names()? {
            if hidden.contains(&name) {
                continue;
            }
            if is_whiteout(&stat(lower, &name)?) {
                if !seen.contains(&name) {
                    hidden.insert(name);
                }
            } else {
                seen.insert(name);
            }
        }
    }
    Ok(seen)
}

fn stat(dir: &Dir, name: &OsStr) -> Result<Stat> {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
    Ok(stat.call(|| format!("stat({:?})", dir.path_of(name)))?)
}

/// Whether they are not the same thing. Sizes and times of directories say nothing: they change with what is in them.
fn differ(old: &Stat, new: &Stat) -> bool {
    let what = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev);
    let content = |stat: &Stat| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec);
    let is_dir = FileType::from_raw_mode(new.st_mode) == FileType::Directory;
    what(old) != what(new) || !is_dir && content(old) != content(new)
}

fn attributes_differ(lower: &Dir, upper: &Dir, name: &OsStr, old: &Stat, new: &Stat) -> Result<bool> {
    let of = |dir: &Dir, stat: &Stat| Attributes::of(dir.as_fd(), name.as_bytes(), stat);
    Ok(of(lower, old)?.xattrs != of(upper, new)?.xattrs)
}
