//! The digests of files that were read before: what makes a build of an unchanged tree look at names only.
//!
//! A file is taken to be what it was where device, inode, size, modification and status-change time are all the same.
//! That can be wrong in known ways, and each is kept out:
//!
//! - A write within the same tick of the clock as the last one leaves the times as they are. So a digest is remembered
//!   only where the file's times were older, by more than a tick, than the moment that reading it began.
//! - A clock that is set back makes times come again. Then, and after a restart, nothing is remembered.
//! - Clocks of other machines are not ours: only local file systems are trusted.
//! - Names don't matter, inodes do: a write through a hard link, and a rename over the file, are seen.
//!
//! What is left is a program that goes on writing through a shared mapping (mmap(2)) that it had written through before
//! the file was read, until the kernel next writes the page to the disk.

use std::fs::File;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::time::{ClockId, clock_gettime};
use sha2::{Digest, Sha256};

use super::{Entry, Stamp};

/// The format; others are not read.
const MAGIC: &[u8; 16] = b"coracle known 2\n";
/// Nanoseconds that a file must not have changed for: several ticks of the slowest kernel clock.
const TICKS: i128 = 50_000_000;
/// The same where times are in whole seconds.
const SECONDS: i128 = 2_100_000_000;
/// How often an index may be written without a file being looked for before it forgets it.
const FORGET: u8 = 16;

/// Of statfs(2): file systems whose clock is this kernel's, and whose times change with every write.
const TRUSTED: [i64; 9] = [
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // xfs
    0x9123_683e, // btrfs
    0x0102_1994, // tmpfs
    0x794c_7630, // overlayfs
    0xf2f5_2010, // f2fs
    0x2fc1_2fc1, // zfs
    0x8584_58f6, // ramfs
    0xca45_1a4e, // bcachefs
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    stamp: Stamp,
    modified: (i64, i64),
    digest: [u8; 32],
    age: u8,
}

const ROW: usize = 8 * 7 + 32 + 1;

/// When an index was made: it is worth nothing at another boot, or after the clock was set back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    boot: [u8; 16],
    /// Realtime less time since boot, in nanoseconds: only setting the clock changes it.
    offset: i128,
}

impl Moment {
    /// `None` where the kernel doesn't say.
    pub(crate) fn now() -> Option<Moment> {
        let text = std::fs::read("/proc/sys/kernel/random/boot_id").ok()?;
        let digits: Vec<u8> = text.into_iter().filter(u8::is_ascii_hexdigit).collect();
        let pairs = digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        let boot: Vec<u8> = pairs.collect::<Option<_>>()?;
        let since = nanos(clock_gettime(ClockId::Boottime));
        Some(Moment { boot: boot.try_into().ok()?, offset: nanos(clock_gettime(ClockId::Realtime)) - since })
    }

    /// Whether what was true at `earlier` can still be told from.
    fn follows(&self, earlier: &Moment) -> bool {
        // Reading two clocks takes a moment, too.
        self.boot == earlier.boot && self.offset >= earlier.offset - TICKS / 2
    }
}

fn nanos(time: rustix::time::Timespec) -> i128 {
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}

/// What is known of the files of one tree.
#[derive(Debug)]
pub(crate) struct Known {
    moment: Option<Moment>,
    /// By stamp.
    rows: Vec<Row>,
    now: Mutex<Found>,
}

#[derive(Debug, Default)]
struct Found {
    seen: Vec<bool>,
    fresh: Vec<Row>,
    /// Devices that were looked at, and whether they are trusted.
    devices: Vec<(u64, bool)>,
}

impl Known {
    /// From the bytes of an index, as far as they are worth anything.
    pub(crate) fn read(bytes: &[u8], moment: Option<Moment>) -> Known {
        let rows = moment.as_ref().and_then(|now| decode(bytes, now)).unwrap_or_default();
        let now = Found { seen: vec![false; rows.len()], ..Found::default() };
        Known { moment, rows, now: Mutex::new(now) }
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The digest of the file's content, if it is known and still true.
    pub(crate) fn get(&self, entry: &Entry) -> Option<[u8; 32]> {
        let at = self.rows.binary_search_by(|row| row.stamp.cmp(&entry.stamp)).ok()?;
        let row = &self.rows[at];
        if row.modified != modified(entry) {
            return None;
        }
        self.found().seen[at] = true;
        Some(row.digest)
    }

    /// Before a file is read, to be given to [`Known::put`].
    pub(crate) fn begin() -> i128 {
        nanos(clock_gettime(ClockId::Realtime))
    }

    /// Remembers what was read from `file`, which is what it was when it was listed, since `begun`; unless it may have been
    /// written to so lately that another write would not be seen.
    pub(crate) fn put(&self, entry: &Entry, digest: [u8; 32], file: &File, begun: i128) {
        if self.moment.is_none() || !settled(entry, begun) {
            return;
        }
        if self.is_trusted(entry.stamp.device, file) {
            self.found().fresh.push(Row { stamp: entry.stamp, modified: modified(entry), digest, age: 0 });
        }
    }

    /// Whether the file system of `file`, which is on this device, is one of the list.
    fn is_trusted(&self, device: u64, file: &File) -> bool {
        let known =
            self.found().devices.iter().find(|(other, _)| *other == device).map(|(_, trusted)| *trusted);
        known.unwrap_or_else(|| {
            let trusted = rustix::fs::fstatfs(file).is_ok_and(|fs| TRUSTED.contains(&fs.f_type));
            self.found().devices.push((device, trusted));
            trusted
        })
    }

    /// The index to write, if there is anything new in it.
    pub(crate) fn to_write(&self) -> Option<Vec<u8>> {
        // The clock may have been set back since it was read; then what was read meanwhile is in doubt.
        let moment =
            self.moment.as_ref().filter(|then| Moment::now().is_some_and(|now| now.follows(then)))?;
        let found = self.found();
        if found.fresh.is_empty() {
            return None;
        }
        let old = self.rows.iter().zip(&found.seen).filter_map(|(row, seen)| {
            let age = if *seen { 0 } else { row.age + 1 };
            (age < FORGET).then_some(Row { age, ..*row })
        });
        let mut rows: Vec<Row> = found.fresh.iter().copied().chain(old).collect();
        rows.sort();
        rows.dedup_by_key(|row| row.stamp);
        Some(encode(&rows, moment))
    }
}

/// Whether the file's times are old enough that any write from `begun` on changes them.
fn settled(entry: &Entry, begun: i128) -> bool {
    let (seconds, nanos) = entry.stamp.changed;
    let margin = if nanos == 0 { SECONDS } else { TICKS };
    i128::from(seconds) * 1_000_000_000 + i128::from(nanos) + margin <= begun
}

fn modified(entry: &Entry) -> (i64, i64) {
    entry.modified.map_or((0, 0), |time| (time.tv_sec, time.tv_nsec))
}

fn encode(rows: &[Row], moment: &Moment) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64 + 32 + rows.len() * ROW);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&moment.boot);
    bytes.extend_from_slice(&moment.offset.to_le_bytes());
    for row in rows {
        let Stamp { device, inode, size, changed } = row.stamp;
        for number in [device, inode, size] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for number in [changed.0, changed.1, row.modified.0, row.modified.1] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&row.digest);
        bytes.push(row.age);
    }
    seal(bytes)
}

/// Bytes with a checksum at their end.
pub(super) fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = Sha256::digest(&bytes);
    bytes.extend_from_slice(&sum);
    bytes
}

/// What [`seal`] was given, where nothing of it has changed.
pub(super) fn checked(bytes: &[u8]) -> Option<&[u8]> {
    let (bytes, sum) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
    (Sha256::digest(bytes).as_slice() == sum).then_some(bytes)
}

fn decode(bytes: &[u8], now: &Moment) -> Option<Vec<Row>> {
    let rest = checked(bytes)?.strip_prefix(MAGIC)?;
    let (boot, rest) = rest.split_first_chunk::<16>()?;
    let (offset, rest) = rest.split_first_chunk::<16>()?;
    let then = Moment { boot: *boot, offset: i128::from_le_bytes(*offset) };
    if !now.follows(&then) || rest.len() % ROW != 0 {
        return None;
    }
    let mut rows = Vec::with_capacity(rest.len() / ROW);
    for row in rest.chunks_exact(ROW) {
        let number = |at: usize| -> Option<[u8; 8]> { row.get(at * 8..at * 8 + 8)?.try_into().ok() };
        let unsigned = |at: usize| number(at).map(u64::from_le_bytes);
        let signed = |at: usize| number(at).map(i64::from_le_bytes);
        let stamp = Stamp {
            device: unsigned(0)?,
            inode: unsigned(1)?,
            size: unsigned(2)?,
            changed: (signed(3)?, signed(4)?),
        };
        let digest = row.get(56..88)?.try_into().ok()?;
        rows.push(Row { stamp, modified: (signed(5)?, signed(6)?), digest, age: *row.last()? });
    }
    rows.is_sorted().then_some(rows)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    use rustix::fs::Timespec;

    use super::*;

    fn moment(offset: i128) -> Option<Moment> {
        Some(Moment { boot: [7; 16], offset })
    }

    fn entry(path: &Path) -> Entry {
        let stat = rustix::fs::stat(path).unwrap();
        let modified = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as i64 };
        let mut entry = super::super::Picked::inline("f", "").entries.remove(0);
        (entry.modified, entry.stamp) = (Some(modified), Stamp::of(&stat));
        entry
    }

    /// An index that has the file, as one that was read long after it had been written.
    fn known(path: &Path, begun: impl Fn(i128) -> i128) -> Option<Known> {
        let known = Known::read(b"", Moment::now());
        let one = entry(path);
        let changed = i128::from(one.stamp.changed.0) * 1_000_000_000 + i128::from(one.stamp.changed.1);
        known.put(&one, [1; 32], &File::open(path).unwrap(), begun(changed));
        Some(Known::read(&known.to_write()?, Moment::now()))
    }

    fn place() -> (tempfile::TempDir, std::path::PathBuf) {
        // Not wherever temporary files are: that may be no file system of the list.
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("f");
        std::fs::write(&file, "one").unwrap();
        (place, file)
    }

    #[test]
    fn an_unchanged_file_is_known_and_any_change_is_seen() {
        let (place, file) = place();
        let known = known(&file, |changed| changed + 10 * SECONDS).unwrap();
        assert_eq!(known.get(&entry(&file)), Some([1; 32]));
        // Another name of it is the same file.
        let link = place.path().join("g");
        std::fs::hard_link(&file, &link).unwrap();
        assert_eq!(known.get(&entry(&link)), None, "a link changes the status");
        let again = super::tests::known(&file, |changed| changed + 10 * SECONDS).unwrap();
        assert_eq!(again.get(&entry(&link)), Some([1; 32]));
        // Written through the other name, with size and modification time put back.
        let before = std::fs::metadata(&file).unwrap().modified().unwrap();
        let writer = File::options().write(true).open(&link).unwrap();
        std::fs::write(&link, "two").unwrap();
        writer.set_modified(before).unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().modified().unwrap(), before);
        assert_eq!(again.get(&entry(&file)), None);
        // Replaced by a file that has the same times and size.
        let other = place.path().join("h");
        std::fs::write(&other, "six").unwrap();
        File::options().write(true).open(&other).unwrap().set_modified(before).unwrap();
        std::fs::rename(&other, &file).unwrap();
        assert_eq!(again.get(&entry(&file)), None);
    }

    #[test]
    fn a_file_that_is_known_is_not_read() {
        use std::os::fd::AsFd;

        use super::super::digest::{Overrides, digest};
        use super::super::pick::Tree;
        let (place, file) = place();
        let (dir, ignore) = (File::open(place.path()).unwrap(), crate::Ignore::default());
        let tree = Tree::context(dir.as_fd(), "test", &ignore);
        let of = |tree: Tree<'_>| {
            let none = Overrides { mode: false, owner: false };
            let all = digest(Some(tree), &tree.pick("f").unwrap(), none).unwrap();
            (all.digest, all.bytes)
        };
        // It is not what is in the file, which only reading could tell.
        let wrong = known(&file, |changed| changed + 10 * SECONDS).unwrap();
        assert_ne!(of(tree).0, of(tree.knowing(&wrong)).0);
        assert_eq!(of(tree).1, of(tree.knowing(&wrong)).1);
        std::fs::write(&file, "two").unwrap();
        assert_eq!(of(tree), of(tree.knowing(&wrong)));
    }

    #[test]
    fn what_was_written_just_now_is_not_remembered() {
        let (_place, file) = place();
        assert!(known(&file, |changed| changed).is_none(), "the same tick");
        assert!(known(&file, |changed| changed - SECONDS).is_none(), "a time to come");
        let nanos = std::fs::metadata(&file).unwrap().ctime_nsec();
        assert_eq!(known(&file, |changed| changed + TICKS).is_some(), nanos != 0);
        let mut whole = entry(&file);
        whole.stamp.changed = (100, 0);
        assert!(!settled(&whole, 101_000_000_000), "whole seconds take longer");
        assert!(settled(&whole, 103_000_000_000));
    }

    #[test]
    fn another_boot_or_a_clock_set_back_forgets_all() {
        let row = Row { stamp: Stamp::default(), modified: (1, 2), digest: [3; 32], age: 0 };
        let bytes = encode(&[row], &moment(1_000_000_000).unwrap());
        let rows = |moment| Known::read(&bytes, moment).rows.len();
        assert_eq!(rows(moment(1_000_000_000)), 1);
        assert_eq!(rows(moment(9_000_000_000)), 1, "set forward");
        assert_eq!(rows(moment(900_000_000)), 0, "set back");
        assert_eq!(rows(Some(Moment { boot: [8; 16], offset: 1_000_000_000 })), 0);
        assert_eq!(rows(None), 0);
        for damage in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[damage] ^= 1;
            assert!(Known::read(&bad, moment(1_000_000_000)).rows.is_empty(), "byte {damage}");
            assert!(Known::read(&bytes[..damage], moment(1_000_000_000)).rows.is_empty());
        }
    }

    #[test]
    fn what_is_not_looked_for_is_forgotten_in_the_end() {
        let (_place, file) = place();
        let old = Row { stamp: Stamp::default(), modified: (1, 2), digest: [3; 32], age: 0 };
        let mut bytes = encode(&[old], &Moment::now().unwrap());
        for round in 1..=FORGET {
            let known = Known::read(&bytes, Moment::now());
            assert!(known.rows.iter().any(|row| row.stamp == old.stamp), "round {round}");
            known.put(&entry(&file), [round; 32], &File::open(&file).unwrap(), i128::MAX);
            bytes = known.to_write().unwrap();
        }
        assert_eq!(Known::read(&bytes, Moment::now()).rows.len(), 1);
    }
}
