//! What each layer of a stack adds and takes away, for people who look where an image's bytes come from.

use std::collections::HashSet;
use std::path::PathBuf;

use coracle_host::{Call, Dir};
use rustix::fs::{AtFlags, FileType};

use crate::apply::is_whiteout;
use crate::xattr::is_opaque;
use crate::{ChainId, Result, Store};

/// Something that a layer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerEntry {
    /// Relative to the root.
    pub path: PathBuf,
    /// Bytes of a file; each file counts under one of its names.
    pub size: u64,
    /// It is not something that the layer has: what lower layers have there is gone, with all below it.
    pub gone: bool,
}

impl Store {
    /// The entries of the layers from the lowest to `top`, but directories that hide nothing.
    ///
    /// # Errors
    /// `NotFound`, naming the layer; as of the file system.
    pub fn contents(&self, top: &ChainId) -> Result<Vec<(ChainId, Vec<LayerEntry>)>> {
        let ids = self.chain(top)?;
        let held = self.hold(Some(top))?;
        // The top one comes first there.
        ids.into_iter().zip(held.trees.iter().rev()).map(|(id, tree)| Ok((id, entries(tree)?))).collect()
    }
}

fn entries(tree: &Dir) -> Result<Vec<LayerEntry>> {
    let mut found = Vec::new();
    let mut met = HashSet::new();
    let mut todo = vec![(tree.clone(), PathBuf::new())];
    while let Some((dir, below)) = todo.pop() {
        for name in dir.names()? {
            let stat = rustix::fs::statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW);
            let stat = stat.call(|| format!("stat({:?})", dir.path_of(&name)))?;
            let path = below.join(&name);
            let kind = FileType::from_raw_mode(stat.st_mode);
            if kind == FileType::Directory {
                let own = dir.dir(&name)?;
                if is_opaque(&dir, &name)? {
                    found.push(LayerEntry { path: path.clone(), size: 0, gone: true });
                }
                todo.push((own, path));
                continue;
            }
            let gone = is_whiteout(&stat);
            let counts = kind == FileType::RegularFile && (stat.st_nlink == 1 || met.insert(stat.st_ino));
            let size = if counts { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 };
            found.push(LayerEntry { path, size, gone });
        }
    }
    Ok(found)
}
