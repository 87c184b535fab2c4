//! What may be done on a mount, in mount(8)'s words (mount_setattr(2); runtime-spec config.md, "Linux mount options").

use std::fmt;

use rustix::mount::{MountAttrFlags, MountFlags};

use crate::{Mount, Result};

/// Attributes of a mount: those said of it alone, and those said of it and all below it (`rro`, `rnosuid` and so on). Of
/// what is said twice the last word counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    words: Vec<String>,
    here: Change,
    below: Change,
}

/// What changes about the attributes of a mount (mount_setattr(2)): some are cleared, then some are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// What is set.
    pub set: MountAttrFlags,
    /// What is cleared before. Of the ways to keep times of access all or none.
    pub clear: MountAttrFlags,
}

impl Default for Change {
    fn default() -> Change {
        Change { set: MountAttrFlags::empty(), clear: MountAttrFlags::empty() }
    }
}

/// `MOUNT_ATTR_NOSYMFOLLOW`, and `MS_NOSYMFOLLOW` of mount(2).
const NO_SYMLINKS: (MountAttrFlags, u32) = (MountAttrFlags::from_bits_retain(0x20_0000), 0x100);

/// A word, what it is about, and whether it sets or clears that.
const WORDS: [(&str, MountAttrFlags, bool); 17] = [
    ("ro", MountAttrFlags::MOUNT_ATTR_RDONLY, true),
    ("rw", MountAttrFlags::MOUNT_ATTR_RDONLY, false),
    ("nosuid", MountAttrFlags::MOUNT_ATTR_NOSUID, true),
    ("suid", MountAttrFlags::MOUNT_ATTR_NOSUID, false),
    ("nodev", MountAttrFlags::MOUNT_ATTR_NODEV, true),
    ("dev", MountAttrFlags::MOUNT_ATTR_NODEV, false),
    ("noexec", MountAttrFlags::MOUNT_ATTR_NOEXEC, true),
    ("exec", MountAttrFlags::MOUNT_ATTR_NOEXEC, false),
    ("nodiratime", MountAttrFlags::MOUNT_ATTR_NODIRATIME, true),
    ("diratime", MountAttrFlags::MOUNT_ATTR_NODIRATIME, false),
    ("noatime", MountAttrFlags::MOUNT_ATTR_NOATIME, true),
    ("atime", MountAttrFlags::MOUNT_ATTR_NOATIME, false),
    ("strictatime", MountAttrFlags::MOUNT_ATTR_STRICTATIME, true),
    ("nostrictatime", MountAttrFlags::MOUNT_ATTR_STRICTATIME, false),
    ("relatime", MountAttrFlags::MOUNT_ATTR_STRICTATIME, false),
    ("nosymfollow", NO_SYMLINKS.0, true),
    ("symfollow", NO_SYMLINKS.0, false),
];

/// What every mount is anyway, or asks nothing of the kernel.
const NEUTRAL: [&str; 7] =
    ["defaults", "loud", "silent", "norelatime", "rnorelatime", "iversion", "noiversion"];

impl fmt::Display for Change {
    /// `ro,noexec, not nosuid`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = |flags: MountAttrFlags| {
            let there = WORDS.iter().filter(|(_, flag, set)| *set && flags.contains(*flag));
            there.map(|(word, ..)| *word).collect::<Vec<_>>().join(",")
        };
        let times = MountAttrFlags::MOUNT_ATTR__ATIME;
        let replaced = if self.set.intersects(times) { self.set | times } else { self.set };
        let (set, clear) = (words(self.set), words(self.clear.difference(replaced)));
        match (set.is_empty(), clear.is_empty()) {
            (_, true) => f.write_str(&set),
            (true, _) => write!(f, "not {clear}"),
            _ => write!(f, "{set}, not {clear}"),
        }
    }
}

impl Change {
    fn take(&mut self, flag: MountAttrFlags, set: bool) {
        let times = MountAttrFlags::MOUNT_ATTR__ATIME;
        if times.contains(flag) {
            // One field: what was said before is replaced.
            self.set.remove(times);
            self.clear |= times;
        }
        self.set.set(flag, set);
        if !times.contains(flag) {
            self.clear.set(flag, !set);
        }
    }
}

impl Attributes {
    /// Sorts words: the attributes that they say, and those that say something else, in their order.
    pub fn sort<'a>(words: impl IntoIterator<Item = &'a str>) -> (Attributes, Vec<&'a str>) {
        let mut attributes = Attributes::default();
        let rest = words.into_iter().filter(|word| !attributes.take(word)).collect();
        (attributes, rest)
    }

    /// Takes one word; whether it was one of these.
    pub fn take(&mut self, option: &str) -> bool {
        let find = |word: &str| WORDS.iter().find(|(known, ..)| *known == word);
        if let Some((_, flag, set)) = find(option) {
            self.here.take(*flag, *set);
        } else if let Some((_, flag, set)) = option.strip_prefix('r').and_then(find) {
            self.below.take(*flag, *set);
        } else {
            return NEUTRAL.contains(&option);
        }
        self.words.push(option.to_owned());
        true
    }

    /// Takes `ro` back; whether it was said.
    pub fn writable(&mut self) -> bool {
        let read_only = MountAttrFlags::MOUNT_ATTR_RDONLY;
        let said = (self.here.set | self.below.set).contains(read_only);
        self.here.set.remove(read_only);
        self.below.set.remove(read_only);
        self.words.retain(|word| word != "ro" && word != "rro");
        said
    }

    /// As they were said; what every mount is anyway is left out.
    pub fn words(&self) -> Vec<&str> {
        self.words.iter().map(String::as_str).filter(|word| *word != "rw").collect()
    }

    /// For a new file system, with nothing below it ([`Mount::new`]).
    pub fn at_once(&self) -> MountAttrFlags {
        self.here.set | self.below.set
    }

    /// The same for mount(2).
    pub fn flags(&self) -> MountFlags {
        let set = self.at_once();
        let pairs = [
            (MountAttrFlags::MOUNT_ATTR_RDONLY, MountFlags::RDONLY),
            (MountAttrFlags::MOUNT_ATTR_NOSUID, MountFlags::NOSUID),
            (MountAttrFlags::MOUNT_ATTR_NODEV, MountFlags::NODEV),
            (MountAttrFlags::MOUNT_ATTR_NOEXEC, MountFlags::NOEXEC),
            (MountAttrFlags::MOUNT_ATTR_NOATIME, MountFlags::NOATIME),
            (MountAttrFlags::MOUNT_ATTR_NODIRATIME, MountFlags::NODIRATIME),
            (MountAttrFlags::MOUNT_ATTR_STRICTATIME, MountFlags::STRICTATIME),
            (NO_SYMLINKS.0, MountFlags::from_bits_retain(NO_SYMLINKS.1)),
        ];
        let there = pairs.into_iter().filter(|(attribute, _)| set.contains(*attribute));
        there.fold(MountFlags::empty(), |all, (_, flag)| all | flag)
    }

    /// What they change about a mount itself, and about all at and below it.
    pub fn changes(&self) -> (Change, Change) {
        (self.here, self.below)
    }

    /// The same where the mount itself has none of those that are not said, as with `remount` (mount(2), `MS_REMOUNT`).
    pub fn replace(&self) -> (Change, Change) {
        let all = WORDS.iter().fold(MountAttrFlags::MOUNT_ATTR__ATIME, |all, (_, flag, _)| all | *flag);
        (Change { set: self.here.set, clear: all }, self.below)
    }

    /// The mount, which is a copy of another one and has that one's attributes, with these.
    ///
    /// # Errors
    /// As of mount_setattr(2).
    pub fn apply(&self, mut mount: Mount) -> Result<Mount> {
        for (change, recursive) in [(self.here, false), (self.below, true)] {
            if change != Change::default() {
                mount = mount.attributes(change.set, change.clear, recursive)?;
            }
        }
        Ok(mount)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(options: &[&str]) -> Attributes {
        let mut all = Attributes::default();
        for option in options {
            assert!(all.take(option), "{option}");
        }
        all
    }

    #[test]
    fn the_last_word_counts() {
        use MountAttrFlags as Flags;
        assert_eq!(of(&["ro", "nosuid", "rw"]).at_once(), Flags::MOUNT_ATTR_NOSUID);
        assert_eq!(of(&["noatime", "strictatime"]).at_once(), Flags::MOUNT_ATTR_STRICTATIME);
        assert_eq!(of(&["noatime", "relatime"]).at_once(), Flags::empty());
        assert_eq!(of(&["rw"]).here.clear, Flags::MOUNT_ATTR_RDONLY);
        assert_eq!(of(&["rro", "rnosymfollow"]).below.set, Flags::MOUNT_ATTR_RDONLY | NO_SYMLINKS.0);
        assert_eq!(of(&["ro", "nosymfollow"]).flags().bits(), 0x101);
        let mut all = of(&["ro", "nodev"]);
        assert!(all.writable() && !all.writable());
        assert_eq!((all.words(), all.at_once()), (vec!["nodev"], Flags::MOUNT_ATTR_NODEV));
        let change = of(&["ro", "noexec", "suid", "atime"]).changes().0;
        assert_eq!(change.to_string(), "ro,noexec, not nosuid,noatime,strictatime");
        let replaced = of(&["strictatime", "rro"]).replace();
        assert_eq!(replaced.0.to_string(), "strictatime, not ro,nosuid,nodev,noexec,nodiratime,nosymfollow");
        assert_eq!(replaced.1.to_string(), "ro");
        let (sorted, rest) = Attributes::sort(["size=1", "defaults", "noexec", "sync"]);
        assert_eq!((sorted.words(), rest), (vec!["noexec"], vec!["size=1", "sync"]));
        for other in ["size=1", "rbind", "private", "r", "", "rshared"] {
            assert!(!Attributes::default().take(other), "{other}");
        }
    }
}
