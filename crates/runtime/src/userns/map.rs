//! Mappings of ids (user_namespaces(7), "User and group ID mappings"; config-linux.md, "User namespace mappings").

use std::fmt;

use oci_spec::runtime::LinuxIdMapping;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Ids that follow each other, and what they are outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct IdRange {
    /// The first, in the namespace.
    pub inside: u32,
    /// The first, outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// The users and groups of a user namespace, as they are outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    uids: Vec<IdRange>,
    gids: Vec<IdRange>,
}

/// How many ranges the kernel takes.
const MOST: usize = 340;

impl IdMap {
    /// A mapping of these users and groups.
    ///
    /// # Errors
    /// `Invalid` for none or more than 340 ranges of one kind, for an empty one, one that goes beyond the last id, and for two
    /// that have an id in common, inside or outside.
    pub fn new(
        uids: impl IntoIterator<Item = IdRange>,
        gids: impl IntoIterator<Item = IdRange>,
    ) -> Result<IdMap> {
        let uids = checked(uids).map_err(|text| Error::invalid(format!("user ids: {text}")))?;
        let gids = checked(gids).map_err(|text| Error::invalid(format!("group ids: {text}")))?;
        Ok(IdMap { uids, gids })
    }

    /// Of two lists of a spec; what is wrong with them, by the names they have behind `name`.
    pub(crate) fn of(
        uids: Option<&[LinuxIdMapping]>,
        gids: Option<&[LinuxIdMapping]>,
        name: &str,
    ) -> std::result::Result<IdMap, Vec<String>> {
        let ranges = |list: Option<&[LinuxIdMapping]>, kind: &str| {
            let one = |one: &LinuxIdMapping| IdRange {
                inside: one.container_id(),
                outside: one.host_id(),
                count: one.size(),
            };
            let checked = checked(list.unwrap_or_default().iter().map(one));
            checked.map_err(|text| format!("{name}{kind}Mappings: {text}"))
        };
        match (ranges(uids, "uid"), ranges(gids, "gid")) {
            (Ok(uids), Ok(gids)) => Ok(IdMap { uids, gids }),
            (uids, gids) => Err([uids.err(), gids.err()].into_iter().flatten().collect()),
        }
    }

    /// As `uid_map` and `gid_map` have it.
    pub(crate) fn read(uids: &str, gids: &str) -> Option<IdMap> {
        let ranges = |text: &str| {
            let line = |line: &str| {
                let mut words = line.split_whitespace().map(str::parse);
                let mut next = || words.next()?.ok();
                Some(IdRange { inside: next()?, outside: next()?, count: next()? })
            };
            text.lines().map(line).collect::<Option<Vec<_>>>()
        };
        Some(IdMap { uids: ranges(uids)?, gids: ranges(gids)? })
    }

    /// The user outside who is `id` inside.
    pub fn user(&self, id: u32) -> Option<u32> {
        outside(&self.uids, id)
    }

    /// The group outside that is `id` inside.
    pub fn group(&self, id: u32) -> Option<u32> {
        outside(&self.gids, id)
    }

    /// Who is root inside.
    pub fn root(&self) -> Option<(u32, u32)> {
        Some((self.user(0)?, self.group(0)?))
    }

    /// The ranges of users, in their order inside.
    pub fn users(&self) -> &[IdRange] {
        &self.uids
    }

    /// The ranges of groups, in their order inside.
    pub fn groups(&self) -> &[IdRange] {
        &self.gids
    }

    /// What is to be written to `uid_map` and `gid_map`.
    pub(crate) fn texts(&self) -> [String; 2] {
        [&self.uids, &self.gids].map(|ranges| {
            let line = |range: &IdRange| format!("{} {} {}\n", range.inside, range.outside, range.count);
            ranges.iter().map(line).collect()
        })
    }

    /// Whether both say the same, however it is cut into ranges.
    pub(crate) fn is_as(&self, other: &IdMap) -> bool {
        joined(&self.uids) == joined(&other.uids) && joined(&self.gids) == joined(&other.gids)
    }
}

impl fmt::Display for IdMap {
    /// `uids 0:100000:65536, gids 0:100000:65536`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, ranges) in [("uids", &self.uids), (", gids", &self.gids)] {
            f.write_str(name)?;
            for IdRange { inside, outside, count } in ranges {
                write!(f, " {inside}:{outside}:{count}")?;
            }
        }
        Ok(())
    }
}

fn checked(ranges: impl IntoIterator<Item = IdRange>) -> std::result::Result<Vec<IdRange>, String> {
    let mut ranges: Vec<IdRange> = ranges.into_iter().collect();
    if ranges.is_empty() || ranges.len() > MOST {
        return Err(format!("{} ranges, and 1 to {MOST} are allowed", ranges.len()));
    }
    for range in &ranges {
        let IdRange { inside, outside, count } = range;
        // The last number is no id.
        let fits = |first: &u32| first.checked_add(*count).is_some();
        if *count == 0 || !fits(inside) || !fits(outside) {
            return Err(format!("{count} ids from {inside} (outside {outside}) is no range"));
        }
    }
    for start in [|range: &IdRange| range.outside, |range: &IdRange| range.inside] {
        ranges.sort_by_key(start);
        let clash = ranges.windows(2).find(|pair| start(&pair[0]) + pair[0].count > start(&pair[1]));
        if let Some([_, second]) = clash {
            return Err(format!("{} is mapped twice", start(second)));
        }
    }
    Ok(ranges)
}

fn outside(ranges: &[IdRange], id: u32) -> Option<u32> {
    let range = ranges.iter().find(|range| id >= range.inside && id - range.inside < range.count)?;
    Some(range.outside + (id - range.inside))
}

fn joined(ranges: &[IdRange]) -> Vec<IdRange> {
    let mut sorted = ranges.to_vec();
    sorted.sort();
    let mut all: Vec<IdRange> = Vec::new();
    for range in sorted {
        match all.last_mut() {
            Some(last)
                if last.inside + last.count == range.inside && last.outside + last.count == range.outside =>
            {
                last.count += range.count;
            }
            _ => all.push(range),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range((inside, outside, count): (u32, u32, u32)) -> IdRange {
        IdRange { inside, outside, count }
    }

    fn map(ranges: &[(u32, u32, u32)]) -> Result<IdMap> {
        IdMap::new(ranges.iter().copied().map(range), [range((0, 5, 1))])
    }

    #[test]
    fn ids_are_found_in_their_range() {
        let map = map(&[(1000, 1000, 1), (0, 100_000, 1000), (1001, 101_000, 64_535)]).unwrap();
        let found = [0, 999, 1000, 1001, 65_535, 65_536, u32::MAX].map(|id| map.user(id));
        let expected = [Some(100_000), Some(100_999), Some(1000), Some(101_000), Some(165_534), None, None];
        assert_eq!(found, expected);
        assert_eq!((map.group(0), map.group(1), map.root()), (Some(5), None, Some((100_000, 5))));
        let text = "uids 0:100000:1000 1000:1000:1 1001:101000:64535, gids 0:5:1";
        assert_eq!(map.to_string(), text);
        let [uids, gids] = map.texts();
        assert_eq!(uids, "0 100000 1000\n1000 1000 1\n1001 101000 64535\n");
        assert_eq!(IdMap::read(&uids, &gids), Some(map));
        let kernels = "         0          0 4294967295\n";
        assert_eq!(IdMap::read(kernels, kernels).unwrap().user(7), Some(7));
        assert_eq!(IdMap::read("0 0\n", ""), None);
    }

    #[test]
    fn how_it_is_cut_does_not_matter() {
        let whole = map(&[(0, 100, 10)]).unwrap();
        assert!(whole.is_as(&map(&[(5, 105, 5), (0, 100, 5)]).unwrap()));
        assert!(!whole.is_as(&map(&[(0, 100, 5), (5, 106, 5)]).unwrap()));
    }

    #[test]
    fn what_the_kernel_would_not_take() {
        let refusal = |ranges: &[(u32, u32, u32)]| map(ranges).unwrap_err().to_string();
        assert_eq!(refusal(&[]), "user ids: 0 ranges, and 1 to 340 are allowed");
        let many: Vec<_> = (0..341).map(|id| (id, id, 1)).collect();
        assert_eq!(refusal(&many), "user ids: 341 ranges, and 1 to 340 are allowed");
        assert_eq!(refusal(&[(0, 1, 0)]), "user ids: 0 ids from 0 (outside 1) is no range");
        assert_eq!(refusal(&[(0, 9, u32::MAX)]), "user ids: 4294967295 ids from 0 (outside 9) is no range");
        assert_eq!(refusal(&[(0, 10, 5), (4, 20, 5)]), "user ids: 4 is mapped twice");
        assert_eq!(refusal(&[(0, 10, 5), (9, 14, 5)]), "user ids: 14 is mapped twice");
        assert!(map(&[(0, 0, u32::MAX)]).is_ok());
    }
}
