//! All that is below a directory, listed by several threads where it is much.

use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::digest::side_by_side;
use super::pick::Tree;
use super::{Entry, Node};
use crate::error::Result;

/// Entries after which more threads are worth it, where directories are left to list.
const MANY: usize = 500;

/// An entry of a directory, and whether it is ignored.
pub(super) type Listed = (Entry, bool);

/// Lists `dir` and the directories in it: parents before children, by name. Of those that are ignored, only the ones that
/// something was brought back in are there.
///
/// # Errors
/// As of openat2(2); `Interrupted` where the build was cancelled.
pub(super) fn walk(tree: &Tree<'_>, dir: &Path) -> Result<Vec<Entry>> {
    let first = Dir { path: dir.to_owned(), below: PathBuf::new(), into: 0 };
    let walk = Walk::new(first);
    walk.list(tree, MANY)?;
    if walk.state().open.is_empty() {
        return Ok(walk.collect());
    }
    side_by_side(false, || walk.list(tree, usize::MAX))?;
    Ok(walk.collect())
}

/// A directory that is to be listed, and the number of its list.
struct Dir {
    path: PathBuf,
    below: PathBuf,
    into: usize,
}

struct Walk {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    open: Vec<Dir>,
    /// Threads that are at a directory.
    busy: usize,
    failed: bool,
    entries: usize,
    /// What is in each directory; with each of the directories in it, the number of its list.
    lists: Vec<Vec<(Listed, Option<usize>)>>,
}

impl Walk {
    fn new(first: Dir) -> Walk {
        let state = State { open: vec![first], lists: vec![Vec::new()], ..State::default() };
        Walk { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists directories until none is left, or there are so many entries.
    fn list(&self, tree: &Tree<'_>, most: usize) -> Result<()> {
        while let Some(dir) = self.next(most) {
            let listed = tree.list(&dir.path, &dir.below);
            let mut state = self.state();
            state.busy -= 1;
            state.failed |= listed.is_err();
            let listed = listed.inspect_err(|_| self.changed.notify_all())?;
            state.entries += listed.len();
            let mut list = Vec::with_capacity(listed.len());
            for (entry, hidden) in listed {
                let mut into = None;
                if entry.node == Node::Dir {
                    let number = state.lists.len();
                    state.lists.push(Vec::new());
                    let (path, below) = (entry.path.clone(), entry.below.clone());
                    state.open.push(Dir { path, below, into: number });
                    into = Some(number);
                }
                list.push(((entry, hidden), into));
            }
            state.lists[dir.into] = list;
            self.changed.notify_all();
        }
        Ok(())
    }

    fn next(&self, most: usize) -> Option<Dir> {
        let mut state = self.state();
        loop {
            if state.failed || state.entries >= most {
                return None;
            }
            if let Some(dir) = state.open.pop() {
                state.busy += 1;
                return Some(dir);
            }
            if state.busy == 0 {
                return None;
            }
            // Whoever is at one may find more.
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn collect(self) -> Vec<Entry> {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut lists: Vec<_> = state.lists.into_iter().map(Vec::into_iter).collect();
        let mut entries = Vec::with_capacity(state.entries);
        // Lists that are not at their end, and for each that of an ignored directory, how many entries came before it.
        let mut open = vec![(0, None)];
        while let Some((number, hidden)) = open.last().copied() {
            match lists[number].next() {
                Some(((entry, ignored), into)) => {
                    let before = entries.len();
                    entries.push(entry);
                    if let Some(into) = into {
                        open.push((into, ignored.then_some(before)));
                    }
                }
                None => {
                    open.pop();
                    // Ignored, and nothing in it was brought back.
                    if hidden.is_some_and(|before| entries.len() == before + 1) {
                        entries.pop();
                    }
                }
            }
        }
        entries
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd;

    use super::*;
    use crate::ignore::Ignore;

    fn paths(entries: &[Entry]) -> Vec<String> {
        entries.iter().map(|entry| entry.below.display().to_string()).collect()
    }

    #[test]
    fn several_threads_list_what_one_does() {
        let place = tempfile::tempdir().unwrap();
        let mut expected = Vec::new();
        for outer in ["a", "a.b", "gone", "kept"] {
            for inner in 0..10 {
                fs::create_dir_all(place.path().join(format!("{outer}/{inner}/deep/empty"))).unwrap();
                for file in 10..30 {
                    fs::write(place.path().join(format!("{outer}/{inner}/deep/f{file}")), "").unwrap();
                }
            }
        }
        fs::write(place.path().join("gone/3/deep/back"), "").unwrap();
        for outer in ["a", "a.b", "gone", "kept"] {
            expected.push(outer.to_owned());
            let inner = if outer == "gone" { 3..4 } else { 0..10 };
            for inner in inner {
                expected.extend([format!("{outer}/{inner}"), format!("{outer}/{inner}/deep")]);
                if outer == "gone" {
                    expected.push("gone/3/deep/back".to_owned());
                    continue;
                }
                expected.push(format!("{outer}/{inner}/deep/empty"));
                expected.extend((10..30).map(|file| format!("{outer}/{inner}/deep/f{file}")));
            }
        }
        let ignore = Ignore::parse("test", b"gone\n!gone/*/deep/back\n").unwrap();
        let dir = fs::File::open(place.path()).unwrap();
        let tree = Tree::context(dir.as_fd(), "test", &ignore);
        let entries = walk(&tree, Path::new("")).unwrap();
        assert!(entries.len() > MANY);
        assert_eq!(paths(&entries), expected);
        let alone = Walk::new(Dir { path: PathBuf::new(), below: PathBuf::new(), into: 0 });
        alone.list(&tree, usize::MAX).unwrap();
        assert_eq!(paths(&alone.collect()), expected);
    }

    #[test]
    fn one_that_fails_ends_all() {
        let place = tempfile::tempdir().unwrap();
        for n in 0..2 * MANY {
            fs::create_dir(place.path().join(format!("d{n}"))).unwrap();
        }
        let (dir, ignore) = (fs::File::open(place.path()).unwrap(), Ignore::default());
        let tree = Tree::context(dir.as_fd(), "test", &ignore);
        let at = |path: &str, into| Dir { path: path.into(), below: path.into(), into };
        let walk = Walk::new(at("", 0));
        walk.state().lists.push(Vec::new());
        // Removed since it was listed.
        walk.state().open.insert(0, at("missing", 1));
        let error = side_by_side(false, || walk.list(&tree, usize::MAX)).unwrap_err();
        assert!(error.to_string().contains("missing"), "{error}");
    }
}
