//! Figures in detail: by device, by page size, and as the kernel has them.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Cgroup, IoStats, Version, read};
use crate::error::{Doing, Result};

/// Huge pages of one size, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HugePageStats {
    /// What is in use.
    pub usage: u64,
    /// The most that was; version 2 does not tell.
    pub max_usage: Option<u64>,
    /// How often the limit was met.
    pub limit_hits: u64,
}

/// Block devices by their numbers, major and minor.
pub(super) type ByDevice = BTreeMap<(u32, u32), IoStats>;

impl Cgroup {
    /// The lines of the kernel's `memory.stat`, whose names differ from version to version. Nothing where memory is not
    /// counted.
    ///
    /// # Errors
    /// As of read(2).
    pub fn memory_details(&self) -> Result<BTreeMap<String, u64>> {
        let table = self.at("memory").map(|(dir, _)| read::table(&dir.join("memory.stat"))).transpose();
        let table = table.doing(|| self.reading())?;
        Ok(table.unwrap_or_default().into_iter().collect())
    }

    /// What was read from and written to each block device, by its major and minor number.
    ///
    /// # Errors
    /// As of read(2).
    pub fn io_by_device(&self) -> Result<BTreeMap<(u32, u32), IoStats>> {
        Ok(self.block_devices().doing(|| self.reading())?.unwrap_or_default())
    }

    /// `None` where they are not counted.
    pub(super) fn block_devices(&self) -> coracle_host::Result<Option<ByDevice>> {
        match (self.at("blkio"), self.at("io")) {
            (Some((dir, _)), _) => io_v1(dir).map(Some),
            (None, Some((dir, _))) => Ok(read::optional(&dir.join("io.stat"))?.as_deref().map(io_stat)),
            (None, None) => Ok(None),
        }
    }

    /// Huge pages by size, as the kernel writes it: `2MB`. Nothing where they are not counted.
    ///
    /// # Errors
    /// As of read(2).
    pub fn huge_pages(&self) -> Result<BTreeMap<String, HugePageStats>> {
        let found = self.at("hugetlb").map_or(Ok(BTreeMap::new()), |(dir, version)| huge_pages(dir, version));
        found.doing(|| self.reading())
    }

    fn reading(&self) -> String {
        format!("read the figures of the control group {}", self.place())
    }
}

/// `8:0 Read 4096` lines, and a total.
fn io_v1(dir: &Path) -> coracle_host::Result<ByDevice> {
    let mut found = ByDevice::new();
    for (file, counts_bytes) in
        [("blkio.throttle.io_service_bytes_recursive", true), ("blkio.throttle.io_serviced_recursive", false)]
    {
        let text = read::optional(&dir.join(file))?.unwrap_or_default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (Some(device), Some(kind), Some(number)) = (
                words.next().and_then(device),
                words.next(),
                words.next().and_then(|word| word.parse().ok()),
            ) else {
                continue;
            };
            let io: &mut IoStats = found.entry(device).or_default();
            match (kind, counts_bytes) {
                ("Read", true) => io.read_bytes = number,
                ("Write", true) => io.write_bytes = number,
                ("Read", false) => io.reads = number,
                ("Write", false) => io.writes = number,
                _ => {}
            }
        }
    }
    Ok(found)
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6` lines.
fn io_stat(text: &str) -> ByDevice {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let device = device(words.next()?)?;
        let all: BTreeMap<&str, &str> = words.filter_map(|word| word.split_once('=')).collect();
        let of = |key: &str| all.get(key).and_then(|number| number.parse().ok()).unwrap_or(0);
        let (read_bytes, write_bytes, reads, writes) = (of("rbytes"), of("wbytes"), of("rios"), of("wios"));
        Some((device, IoStats { read_bytes, write_bytes, reads, writes }))
    };
    text.lines().filter_map(line).collect()
}

fn device(word: &str) -> Option<(u32, u32)> {
    let (major, minor) = word.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// All devices together.
pub(super) fn total(all: &ByDevice) -> IoStats {
    all.values().fold(IoStats::default(), |sum, one| IoStats {
        read_bytes: sum.read_bytes + one.read_bytes,
        write_bytes: sum.write_bytes + one.write_bytes,
        reads: sum.reads + one.reads,
        writes: sum.writes + one.writes,
    })
}

fn huge_pages(dir: &Path, version: Version) -> coracle_host::Result<BTreeMap<String, HugePageStats>> {
    let current = if version == Version::V1 { "usage_in_bytes" } else { "current" };
    let mut found = BTreeMap::new();
    for size in sizes(dir, current) {
        let number = |file: &str| read::number(&dir.join(format!("hugetlb.{size}.{file}")));
        let hits = match version {
            Version::V1 => number("failcnt")?,
            Version::V2 => read::table(&dir.join(format!("hugetlb.{size}.events")))?.get("max").copied(),
        };
        let stats = HugePageStats {
            usage: number(current)?.unwrap_or(0),
            max_usage: number("max_usage_in_bytes")?,
            limit_hits: hits.unwrap_or(0),
        };
        found.insert(size, stats);
    }
    Ok(found)
}

/// `2MB` of `hugetlb.2MB.current`.
fn sizes(dir: &Path, current: &str) -> Vec<String> {
    let names = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let size = |name: String| {
        let middle = name.strip_prefix("hugetlb.")?.strip_suffix(current)?.strip_suffix('.')?;
        (!middle.contains('.')).then(|| middle.to_owned())
    };
    names.filter_map(size).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_told_apart_and_added_up() {
        let text = "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n253:1 \n8:16 rbytes=10 wbytes=0 rios=1 wios=0\n";
        let all = io_stat(text);
        assert_eq!(all[&(8, 16)], IoStats { read_bytes: 10, reads: 1, ..IoStats::default() });
        assert_eq!(all.len(), 3);
        assert_eq!(total(&all), IoStats { read_bytes: 11, write_bytes: 2, reads: 4, writes: 4 });
    }

    #[test]
    fn version_1_has_a_line_for_each() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write(
            "blkio.throttle.io_service_bytes_recursive",
            "8:0 Read 4096\n8:0 Write 1\n8:0 Sync 7\nTotal 4097\n",
        );
        write("blkio.throttle.io_serviced_recursive", "8:0 Read 2\n8:0 Write 1\nTotal 3\n");
        let all = io_v1(dir.path()).unwrap();
        let one = IoStats { read_bytes: 4096, write_bytes: 1, reads: 2, writes: 1 };
        assert_eq!(all.into_iter().collect::<Vec<_>>(), [((8, 0), one)]);
    }

    #[test]
    fn huge_pages_are_told_by_size() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        for (name, text) in
            [("2MB.current", "2097152\n"), ("2MB.rsvd.current", "0\n"), ("2MB.events", "max 3\n")]
        {
            write(&format!("hugetlb.{name}"), text);
        }
        let one = HugePageStats { usage: 2 << 20, max_usage: None, limit_hits: 3 };
        assert_eq!(huge_pages(dir.path(), Version::V2).unwrap(), BTreeMap::from([("2MB".to_owned(), one)]));
    }
}
