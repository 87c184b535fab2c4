//! What a captured image holds, as data: printed, it is the dry run.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use coracle_host::Call;
use oci_spec::image::{Config, ConfigBuilder};

use super::tree::Tree;
use crate::tar::{Entry, Time, What, Writer};
use crate::{Context, Error, Result};

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// One entry of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Dir {
        mode: u32,
    },
    Link {
        target: PathBuf,
    },
    /// A file of the tree, by its path without links.
    File {
        from: PathBuf,
        mode: u32,
    },
    Text {
        bytes: Vec<u8>,
        mode: u32,
    },
}

/// Everything that an image will hold, and where each file comes from. Made by [`crate::Capture::plan`]; printing it
/// shows one entry a line.
#[derive(Clone, Debug)]
pub struct CapturePlan {
    /// By path in the image, without the leading slash.
    items: BTreeMap<PathBuf, Item>,
    tree: Tree,
    pub(super) mtime: i64,
    /// The first program, as the image has it.
    pub(super) first: Option<PathBuf>,
}

impl CapturePlan {
    pub(super) fn new(tree: Tree, mtime: i64) -> CapturePlan {
        CapturePlan { items: BTreeMap::new(), tree, mtime, first: None }
    }

    /// The paths that the image will have, absolute and sorted.
    pub fn paths(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.items.keys().map(|path| Path::new("/").join(path))
    }

    /// The image's config: a usual `PATH`, and the first program as the command.
    ///
    /// # Errors
    /// None in practice; the OCI types could refuse it.
    pub(crate) fn config(&self) -> Result<Config> {
        let mut config = ConfigBuilder::default().env(vec![PATH.to_owned()]);
        if let Some(first) = &self.first {
            config = config.cmd(vec![Path::new("/").join(first).to_string_lossy().into_owned()]);
        }
        config.build().map_err(|error| Error::invalid(format!("capture: {error}")))
    }

    /// Puts an entry at `path`, making directories above it. Links on the way that the plan has are followed. An
    /// entry that is there stays, unless it says something else.
    pub(super) fn put(&mut self, path: &Path, item: Item) -> Result<()> {
        let path = self.resolve(path)?;
        match self.items.get(&path) {
            // What was asked for in so many words goes before what was only implied.
            None | Some(Item::Dir { .. }) if matches!(item, Item::Dir { .. }) => {}
            None => {}
            Some(known) if *known == item => return Ok(()),
            Some(_) if matches!(item, Item::Dir { .. }) => return Ok(()),
            Some(known) => {
                let text = format!("/{}: {known} and {item} want the same place", path.display());
                return Err(Error::invalid(text));
            }
        }
        for above in path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
            match self.items.get(above) {
                None => {
                    self.items.insert(above.to_owned(), Item::Dir { mode: 0o755 });
                }
                Some(Item::Dir { .. }) => {}
                Some(other) => {
                    let text = format!("/{}: /{} is {other}", path.display(), above.display());
                    return Err(Error::invalid(text));
                }
            }
        }
        self.items.insert(path, item);
        Ok(())
    }

    pub(super) fn has(&self, path: &Path) -> bool {
        self.resolve(path).is_ok_and(|path| self.items.contains_key(&path))
    }

    /// Follows the plan's own links in all components but the last.
    fn resolve(&self, path: &Path) -> Result<PathBuf> {
        let mut real = PathBuf::new();
        let mut todo: Vec<_> = path.components().rev().map(|c| c.as_os_str().to_owned()).collect();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            match Path::new(&part).components().next() {
                Some(Component::Normal(name)) => {
                    let next = real.join(name);
                    match self.items.get(&next) {
                        Some(Item::Link { target }) if !todo.is_empty() => {
                            links += 1;
                            if links > 40 {
                                return Err(Error::invalid(format!("{path:?} goes through too many links")));
                            }
                            if target.is_absolute() {
                                real = PathBuf::new();
                            }
                            todo.extend(target.components().rev().map(|c| c.as_os_str().to_owned()));
                        }
                        _ => real = next,
                    }
                }
                Some(Component::ParentDir) => {
                    real.pop();
                }
                _ => {}
            }
        }
        Ok(real)
    }

    /// Writes the image's one layer. The same files give the same bytes: sorted, owned by root, all of one time.
    pub(crate) fn write<W: Write>(&self, out: W) -> Result<W> {
        let mut out = Writer::new(out);
        for (path, item) in &self.items {
            let name = path.as_os_str().as_bytes();
            let shown = || format!("capture /{}", path.display());
            let mut entry = |name: Vec<u8>, what: What, mode: u32, data: &mut dyn std::io::Read| {
                let mtime = Time { secs: self.mtime, nanos: 0 };
                out.add(&Entry { mtime, ..Entry::new(name, what, mode) }, data).context(shown)
            };
            match item {
                Item::Dir { mode } => {
                    entry([name, b"/"].concat(), What::Dir, *mode, &mut std::io::empty())?;
                }
                Item::Link { target } => {
                    let what = What::Symlink(target.as_os_str().as_bytes().to_vec());
                    entry(name.to_vec(), what, 0o777, &mut std::io::empty())?;
                }
                Item::Text { bytes, mode } => {
                    let what = What::File { size: bytes.len() as u64 };
                    entry(name.to_vec(), what, *mode, &mut bytes.as_slice())?;
                }
                Item::File { from, mode } => {
                    let mut file = self.tree.open(from).context(shown)?;
                    let size = file.metadata().call(|| format!("fstat({from:?})"))?.len();
                    entry(name.to_vec(), What::File { size }, *mode, &mut file)?;
                }
            }
        }
        out.finish()
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Item::Dir { mode } => write!(f, "directory, mode {mode:04o}"),
            Item::Link { target } => write!(f, "-> {}", target.display()),
            Item::File { from, mode } => write!(f, "from /{}, mode {mode:04o}", from.display()),
            Item::Text { bytes, mode } => write!(f, "{} bytes, mode {mode:04o}", bytes.len()),
        }
    }
}

impl fmt::Display for CapturePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (path, item) in &self.items {
            writeln!(f, "/{}  {item}", path.display())?;
        }
        Ok(())
    }
}
