//! Owners that have other ids in a tree than in its archive.

use crate::diff::Members;
use crate::tar::Entry;
use crate::{Error, Result};
use coracle_host::Dir;

/// Which owners of an archive are which of the tree that it is packed from, or unpacked into: those of a tree that is seen
/// through a user namespace's mapping from outside of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owners {
    users: Vec<Ids>,
    groups: Vec<Ids>,
}

/// Ids that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    /// The first in the archive.
    pub archive: u32,
    /// The same one in the tree.
    pub tree: u32,
    /// How many there are.
    pub count: u32,
}

/// Whom the kernel shows for an owner that a user namespace has no id for.
const NOBODY: u32 = 65_534;

impl Owners {
    /// Of these users and groups; there are no others.
    pub fn new(users: impl IntoIterator<Item = Ids>, groups: impl IntoIterator<Item = Ids>) -> Owners {
        Owners { users: users.into_iter().collect(), groups: groups.into_iter().collect() }
    }

    /// What user and group of an archive are in the tree.
    ///
    /// # Errors
    /// `Invalid` for one that the tree can't have.
    pub(crate) fn in_tree(&self, uid: u32, gid: u32) -> Result<(u32, u32)> {
        let find =
            |all: &[Ids], id: u32| all.iter().find_map(|ids| shifted(id, ids.archive, ids.tree, ids.count));
        let found = find(&self.users, uid).zip(find(&self.groups, gid));
        found.ok_or_else(|| Error::invalid(format!("owner {uid}:{gid} is none of the user namespace's")))
    }

    fn in_archive(&self, uid: u32, gid: u32) -> (u32, u32) {
        let find = |all: &[Ids], id: u32| {
            let found = all.iter().find_map(|ids| shifted(id, ids.tree, ids.archive, ids.count));
            found.unwrap_or(NOBODY)
        };
        (find(&self.users, uid), find(&self.groups, gid))
    }
}

fn shifted(id: u32, from: u32, to: u32, count: u32) -> Option<u32> {
    id.checked_sub(from).filter(|offset| *offset < count).and_then(|offset| to.checked_add(offset))
}

/// Members whose owners are mapped before they are written.
pub(crate) struct Mapped<'a, M> {
    pub(crate) members: &'a mut M,
    pub(crate) owners: &'a Owners,
}

impl<M> Mapped<'_, M> {
    fn entry_of(&self, entry: Entry) -> Entry {
        let (uid, gid) = self.owners.in_archive(entry.uid, entry.gid);
        Entry { uid, gid, ..entry }
    }
}

impl<M: Members> Members for Mapped<'_, M> {
    fn entry(&mut self, entry: Entry) -> Result<()> {
        let entry = self.entry_of(entry);
        self.members.entry(entry)
    }

    fn file(&mut self, dir: &Dir, name: &[u8], entry: Entry, inode: u64) -> Result<u64> {
        let entry = self.entry_of(entry);
        self.members.file(dir, name, entry, inode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        let ids = |archive, tree, count| Ids { archive, tree, count };
        let owners = Owners::new([ids(0, 100_000, 1000), ids(1000, 7, 1)], [ids(0, 200_000, 10)]);
        assert_eq!(owners.in_tree(5, 6).unwrap(), (100_005, 200_006));
        assert_eq!(owners.in_tree(1000, 0).unwrap(), (7, 200_000));
        assert_eq!(owners.in_archive(100_005, 200_006), (5, 6));
        assert_eq!(owners.in_archive(7, 7), (1000, NOBODY));
        assert_eq!(
            owners.in_tree(1001, 0).unwrap_err().to_string(),
            "owner 1001:0 is none of the user namespace's"
        );
        assert!(owners.in_tree(0, 10).is_err());
        let high = Owners::new([ids(0, u32::MAX, 5)], [ids(0, 0, 1)]);
        assert!(high.in_tree(1, 0).is_err());
    }
}
