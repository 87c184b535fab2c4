//! What a power cut may leave on a disk: a model of a file system that keeps no promise but those of fsync(2).
//!
//! An entry is kept when its directory was synced after it was made; the bytes of a file when the file was; a rename, which
//! is whole or not at all, when either of its directories was. All else may be there or not, each for itself and
//! in any order: more than any of Linux' file systems does.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use crate::record::{Step, What};

/// The files below a directory: names, bytes and links, without owners, modes, times and attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    top: u64,
    nodes: HashMap<u64, Node>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Dir(BTreeMap<OsString, u64>),
    File(Vec<u8>),
    Link(OsString),
    Other,
}

impl Disk {
    /// As it is now.
    ///
    /// # Panics
    /// When it can't be read.
    pub fn of(top: &Path) -> Disk {
        let mut nodes = HashMap::new();
        let top = read(top, &mut nodes);
        Disk { top, nodes }
    }

    /// Makes it so below `place`, which must not be there yet. Devices, pipes and sockets become empty files.
    ///
    /// # Panics
    /// When it can't be written.
    pub fn lay(&self, place: &Path) {
        self.lay_node(self.top, place, &mut HashMap::new());
    }

    fn lay_node(&self, node: u64, place: &Path, laid: &mut HashMap<u64, PathBuf>) {
        if let Some(other) = laid.get(&node) {
            return fs::hard_link(other, place).unwrap();
        }
        match &self.nodes[&node] {
            Node::Dir(entries) => {
                fs::create_dir(place).unwrap();
                entries.iter().for_each(|(name, node)| self.lay_node(*node, &place.join(name), laid));
                return;
            }
            Node::File(bytes) => fs::write(place, bytes).unwrap(),
            Node::Link(leads) => symlink(leads, place).unwrap(),
            Node::Other => fs::write(place, "").unwrap(),
        }
        laid.insert(node, place.to_owned());
    }

    /// A new inode, which no entry leads to yet: it is kept with whatever entry is.
    fn begin(&mut self, step: &Step) {
        if let Step::Made { node, what: Some(what), .. } = step {
            self.nodes.entry(*node).or_insert_with(|| match what {
                What::Dir => Node::Dir(BTreeMap::new()),
                What::File => Node::File(Vec::new()),
                What::Link(leads) => Node::Link(leads.clone()),
                What::Other => Node::Other,
            });
        }
    }

    /// What is done to what is not below the directory is left out.
    fn apply(&mut self, step: &Step) {
        match step {
            Step::Made { dir, name, node, .. } => self.put(*dir, name, *node),
            Step::Wrote { node, bytes } => {
                if let Some(Node::File(content)) = self.nodes.get_mut(node) {
                    content.clone_from(bytes);
                }
            }
            Step::Moved { from, to, node } => {
                if let Some(Node::Dir(entries)) = self.nodes.get_mut(&from.0)
                    && entries.get(&from.1) == Some(node)
                {
                    entries.remove(&from.1);
                }
                self.put(to.0, &to.1, *node);
            }
            Step::Removed { dir, name } => {
                if let Some(Node::Dir(entries)) = self.nodes.get_mut(dir) {
                    entries.remove(name);
                }
            }
            Step::Synced { .. } | Step::SyncedAll | Step::Said => {}
        }
    }

    fn put(&mut self, dir: u64, name: &OsString, node: u64) {
        // Else it came from elsewhere.
        if self.nodes.contains_key(&node)
            && let Some(Node::Dir(entries)) = self.nodes.get_mut(&dir)
        {
            entries.insert(name.clone(), node);
        }
    }

    /// What can be reached, in words that are the same for the same.
    fn picture(&self) -> String {
        let mut text = String::new();
        self.picture_of(self.top, &mut text);
        text
    }

    fn picture_of(&self, node: u64, text: &mut String) {
        match &self.nodes[&node] {
            Node::Dir(entries) => {
                text.push('{');
                for (name, node) in entries {
                    text.push_str(&format!("{name:?}:"));
                    self.picture_of(*node, text);
                }
                text.push('}');
            }
            // Two names of one file are not two files.
            Node::File(bytes) => text.push_str(&format!("{node}={bytes:?},")),
            other => text.push_str(&format!("{other:?},")),
        }
    }
}

fn read(path: &Path, nodes: &mut HashMap<u64, Node>) -> u64 {
    let meta = fs::symlink_metadata(path).unwrap();
    let node = if meta.is_dir() {
        let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
        Node::Dir(entries.map(|entry| (entry.file_name(), read(&entry.path(), nodes))).collect())
    } else if meta.is_file() {
        Node::File(fs::read(path).unwrap())
    } else if meta.is_symlink() {
        Node::Link(fs::read_link(path).unwrap().into())
    } else {
        Node::Other
    };
    nodes.insert(meta.ino(), node);
    meta.ino()
}

/// All that may be left of `before`, which was on the disk, when the power fails at any moment of `steps`, each once for
/// before and once for after the process has said something ([`crate::Role::say`]): `true` says after. `dice` gives
/// numbers below its argument; they choose some of what is lost, beside all that is always tried.
pub fn power_cuts(before: &Disk, steps: &[Step], mut dice: impl FnMut(usize) -> usize) -> Vec<(Disk, bool)> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for end in 0..=steps.len() {
        let told = steps[..end].contains(&Step::Said);
        let pending: Vec<usize> = (0..end).filter(|index| !is_kept(steps, *index, end)).collect();
        let data = |index: &usize| matches!(steps[*index], Step::Wrote { .. });
        let mut lost: Vec<Vec<usize>> = vec![Vec::new(), pending.clone()];
        lost.push(pending.iter().copied().filter(data).collect());
        lost.extend(pending.iter().map(|index| vec![*index]));
        lost.extend(
            pending.iter().map(|kept| pending.iter().copied().filter(|index| index != kept).collect()),
        );
        for _ in 0..8 {
            lost.push(pending.iter().copied().filter(|_| dice(2) == 0).collect());
        }
        for lost in lost {
            let mut disk = before.clone();
            steps[..end].iter().for_each(|step| disk.begin(step));
            (0..end).filter(|index| !lost.contains(index)).for_each(|index| disk.apply(&steps[index]));
            if seen.insert((disk.picture(), told)) {
                found.push((disk, told));
            }
        }
    }
    found
}

/// Whether nothing can take the step back after `end` steps.
fn is_kept(steps: &[Step], index: usize, end: usize) -> bool {
    let by = match &steps[index] {
        Step::Made { dir, .. } | Step::Removed { dir, .. } => [*dir; 2],
        Step::Wrote { node, .. } => [*node; 2],
        Step::Moved { from, to, .. } => [from.0, to.0],
        Step::Synced { .. } | Step::SyncedAll | Step::Said => return true,
    };
    steps[index..end].iter().any(|step| match step {
        Step::Synced { node } => by.contains(node),
        step => *step == Step::SyncedAll,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOP: u64 = 1;

    fn empty() -> Disk {
        Disk { top: TOP, nodes: [(TOP, Node::Dir(BTreeMap::new()))].into() }
    }

    fn made(name: &str, node: u64) -> Step {
        Step::Made { dir: TOP, name: name.into(), node, what: Some(What::File) }
    }

    fn moved(from: &str, to: &str, node: u64) -> Step {
        Step::Moved { from: (TOP, from.into()), to: (TOP, to.into()), node }
    }

    /// What `f` may hold after the end was told.
    fn left(steps: &[Step]) -> BTreeSet<Option<Vec<u8>>> {
        let cuts = power_cuts(&empty(), steps, |_| 0).into_iter().filter(|(_, told)| *told);
        cuts.map(|(disk, _)| match &disk.nodes[&TOP] {
            Node::Dir(entries) => {
                entries.get("f".as_ref() as &std::ffi::OsStr).map(|node| match &disk.nodes[node] {
                    Node::File(bytes) => bytes.clone(),
                    other => panic!("{other:?}"),
                })
            }
            other => panic!("{other:?}"),
        })
        .collect()
    }

    #[test]
    fn only_what_was_synced_is_kept() {
        let wrote = Step::Wrote { node: 2, bytes: b"new".to_vec() };
        let (file, dir) = (Step::Synced { node: 2 }, Step::Synced { node: TOP });
        let all = |steps: &[&Step]| {
            let head = [made("t", 2), wrote.clone()];
            let steps: Vec<Step> = head.into_iter().chain(steps.iter().copied().cloned()).collect();
            left(&[steps, vec![Step::Said]].concat())
        };
        let rename = moved("t", "f", 2);
        assert_eq!(all(&[&file, &rename, &dir]), [Some(b"new".to_vec())].into());
        assert_eq!(all(&[&rename, &Step::SyncedAll]), [Some(b"new".to_vec())].into());
        assert_eq!(
            all(&[&rename, &dir]),
            [Some(vec![]), Some(b"new".to_vec())].into(),
            "the well-known empty file"
        );
        assert_eq!(all(&[&file, &rename]), [None, Some(b"new".to_vec())].into(), "the rename is taken back");
        assert_eq!(all(&[&rename, &file]), [None, Some(b"new".to_vec())].into());
    }
}
