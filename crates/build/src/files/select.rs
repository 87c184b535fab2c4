//! `--parents` and `--exclude`: which directories files keep, and what is left out.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::pick::Tree;
use super::{Entry, Node, Picked, Stamp};
use crate::error::Result;
use crate::ignore::Ignore;

impl Tree<'_> {
    /// [`Tree::pick`] for `COPY --parents`: everything is below one directory, in the directories that it has in this
    /// tree from `/./` in the source on.
    ///
    /// # Errors
    /// Those of [`Tree::pick`].
    pub(crate) fn pick_with_parents(&self, source: &str) -> Result<Vec<Picked>> {
        let (above, pattern) = source.split_once("/./").unwrap_or(("", source));
        let full = if above.is_empty() { pattern.to_owned() } else { format!("{above}/{pattern}") };
        // The pivot is part of what is matched, so it has as many components as it is written with.
        let skip = above.split('/').filter(|c| !c.is_empty()).count();
        let mut found = Vec::new();
        for (path, picked) in self.pick_paths(&full, true)? {
            let kept: PathBuf = path.iter().skip(skip).collect();
            found.push(self.below(&path, &kept, picked)?);
        }
        Ok(found)
    }

    /// What was picked at `path`, below directories like those of `kept`.
    fn below(&self, path: &Path, kept: &Path, picked: Picked) -> Result<Picked> {
        let mut entries = vec![directory(PathBuf::new(), 0o755)];
        let mut parents: Vec<&Path> =
            kept.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()).collect();
        parents.reverse();
        let skipped = path.iter().count() - kept.iter().count();
        for parent in parents {
            let real: PathBuf = path.iter().take(skipped + parent.iter().count()).collect();
            let like = self.directory_at(&real)?;
            entries
                .push(Entry { below: parent.to_owned(), ..like.unwrap_or_else(|| directory(real, 0o755)) });
        }
        for entry in picked.entries {
            // The whole of the tree was picked: there is that directory already.
            if kept.as_os_str().is_empty() && entry.below.as_os_str().is_empty() {
                continue;
            }
            // Joining with nothing would end the path with a slash.
            let below = match entry.below.as_os_str().is_empty() {
                true => kept.to_owned(),
                false => kept.join(&entry.below),
            };
            entries.push(Entry { below, ..entry });
        }
        Ok(Picked { name: Default::default(), remote: None, entries })
    }
}

impl Picked {
    /// Leaves out what the patterns ignore; whether anything is left.
    pub(crate) fn exclude(&mut self, patterns: &Ignore) -> bool {
        let single = !self.is_dir();
        let name = self.name.clone();
        let mut kept: Vec<Entry> = Vec::new();
        for entry in std::mem::take(&mut self.entries) {
            let path = if single { Path::new(&name) } else { entry.below.as_path() };
            if !single && path.as_os_str().is_empty() || !patterns.ignores(&path.to_string_lossy()) {
                // A directory that is ignored is there all the same where something in it was brought back.
                kept.push(entry);
            } else if entry.node == Node::Dir && patterns.brings_back() {
                kept.push(Entry { modified: None, ..entry });
            }
        }
        if patterns.brings_back() {
            prune(&mut kept, patterns);
        }
        self.entries = kept;
        !self.entries.is_empty()
    }
}

/// Drops ignored directories that hold nothing. Children stand after their parents.
fn prune(entries: &mut Vec<Entry>, patterns: &Ignore) {
    let mut kept: Vec<Entry> = Vec::with_capacity(entries.len());
    while let Some(entry) = entries.pop() {
        let below = &entry.below;
        let ignored = !below.as_os_str().is_empty() && patterns.ignores(&below.to_string_lossy());
        let holds = kept.last().is_some_and(|next| next.below.starts_with(below));
        if entry.node != Node::Dir || !ignored || holds {
            kept.push(entry);
        }
    }
    kept.reverse();
    *entries = kept;
}

fn directory(path: PathBuf, mode: u32) -> Entry {
    Entry {
        below: PathBuf::new(),
        path,
        node: Node::Dir,
        mode,
        owner: (0, 0),
        modified: None,
        stamp: Stamp::default(),
        digest: OnceLock::new(),
        xattrs: Vec::new(),
    }
}
