//! Logs in docker's json-file format: one JSON object a line, `{"log":"…\n","stream":"stdout","time":"…"}`.

use std::fs::File;
use std::io::{self, BufRead, Write};

use coracle_host::Dir;
use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// One of the two streams a process writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// The text, with its newline; without one where the line was longer than 16 KiB or was cut off by the end.
    pub log: String,
    /// Where it was written to.
    pub stream: Stream,
    /// When it was read, in RFC 3339 with nanoseconds, UTC.
    pub time: String,
}

/// docker's limit: longer lines are split.
const LONGEST: usize = 16 << 10;

/// How much of a log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLimits {
    /// Bytes of one file, after which it makes way for a new one. `None`: no limit.
    pub max_size: Option<u64>,
    /// Files, the one that is written to among them; at least 1. With 1 a full file is begun anew.
    pub max_files: u32,
}

impl Default for LogLimits {
    /// Five files of 10 MiB.
    fn default() -> LogLimits {
        LogLimits { max_size: Some(10 << 20), max_files: 5 }
    }
}

/// A log being written: `name` in a directory, and `name.1`, `name.2` … before it, the oldest last.
pub struct Log {
    dir: Dir,
    name: String,
    limits: LogLimits,
    file: Option<File>,
    size: u64,
    partial: [Vec<u8>; 2],
    /// A write failed, perhaps in the middle of a line.
    torn: bool,
}

impl Log {
    /// Writes to the file `name` in `dir`, after what is there already. It is opened when there is something to write:
    /// many processes are silent.
    pub fn new(dir: &Dir, name: impl Into<String>, limits: LogLimits) -> Log {
        let partial = [Vec::new(), Vec::new()];
        Log { dir: dir.clone(), name: name.into(), limits, file: None, size: 0, partial, torn: false }
    }

    /// The files of the log `name` in `dir` that are full, the oldest first.
    ///
    /// # Errors
    /// As of open(2).
    pub fn before(dir: &Dir, name: &str) -> coracle_host::Result<Vec<File>> {
        let mut files = Vec::new();
        for number in 1.. {
            match dir.file(format!("{name}.{number}"), OFlags::RDONLY, 0) {
                Ok(file) => files.push(file.into()),
                Err(error) if error.errno() == Some(Errno::NOENT) => break,
                Err(error) => return Err(error),
            }
        }
        files.reverse();
        Ok(files)
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let full = |log: &Log| log.limits.max_size.is_some_and(|most| log.size > 0 && log.size >= most);
        if self.file.is_some() && full(self) {
            self.make_way()?;
        }
        if self.file.is_none() {
            self.open()?;
            if full(self) {
                self.make_way()?;
                self.open()?;
            }
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        if self.torn {
            // What was cut off must not spoil the line after it.
            file.write_all(b"\n")?;
            self.torn = false;
        }
        let written = file.write_all(lines);
        self.torn = written.is_err();
        self.size += lines.len() as u64;
        written
    }

    fn open(&mut self) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND;
        let file = File::from(self.dir.file(&self.name, flags, 0o600).map_err(as_io)?);
        self.size = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    /// The full file becomes the first of those before it.
    fn make_way(&mut self) -> io::Result<()> {
        self.file = None;
        let named = |number: u32| match number {
            0 => self.name.clone(),
            number => format!("{}.{number}", self.name),
        };
        let oldest = self.limits.max_files.max(1) - 1;
        for number in (0..oldest).rev() {
            match self.dir.rename(named(number), &self.dir, named(number + 1)) {
                Err(error) if error.errno() != Some(Errno::NOENT) => return Err(as_io(error)),
                _ => {}
            }
        }
        if oldest == 0 {
            self.dir.remove_file(&self.name).map_err(as_io)?;
        }
        Ok(())
    }

    /// Adds what was read of a stream; whole lines go to the file, the rest waits for its end.
    ///
    /// # Errors
    /// As of write(2). The lines are lost then, not repeated.
    pub fn write(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        let mut lines = Vec::new();
        let partial = &mut self.partial[stream as usize];
        partial.extend_from_slice(bytes);
        let mut start = 0;
        loop {
            let rest = &partial[start..];
            let end = match rest.iter().position(|byte| *byte == b'\n') {
                Some(at) if at < LONGEST => at + 1,
                _ if rest.len() >= LONGEST => whole_characters(&rest[..LONGEST]),
                _ => break,
            };
            push(&mut lines, stream, &rest[..end]);
            start += end;
        }
        partial.drain(..start);
        self.append(&lines)
    }

    /// Writes what is left of both streams, without a newline.
    ///
    /// # Errors
    /// As of write(2).
    pub fn finish(&mut self) -> io::Result<()> {
        let mut lines = Vec::new();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let rest = std::mem::take(&mut self.partial[stream as usize]);
            if !rest.is_empty() {
                push(&mut lines, stream, &rest);
            }
        }
        self.append(&lines)
    }

    /// An entry from its line; `None` for one that is still being written, or was cut off by a full disk.
    pub fn entry(line: &[u8]) -> Option<LogEntry> {
        serde_json::from_slice(line).ok()
    }

    /// Reads a log. A line that is still being written, or was cut off by a full disk, is passed over.
    ///
    /// # Errors
    /// As of read(2).
    pub fn read(from: impl BufRead) -> io::Result<Vec<LogEntry>> {
        let mut entries = Vec::new();
        for line in from.split(b'\n') {
            entries.extend(Log::entry(&line?));
        }
        Ok(entries)
    }
}

fn as_io(error: coracle_host::Error) -> io::Error {
    match error.errno() {
        Some(errno) => errno.into(),
        None => io::Error::other(error),
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("partial", &self.partial).finish_non_exhaustive()
    }
}

/// The length of `text` without a UTF-8 sequence that its end cuts off.
fn whole_characters(text: &[u8]) -> usize {
    let cut = |back: &usize| text.len().checked_sub(*back).and_then(|at| text.get(at)).copied();
    // The last byte that begins a sequence, and how long that is to be.
    let begin = (1..=4).find_map(|back| Some((back, cut(&back)?)).filter(|(_, byte)| byte & 0xc0 != 0x80));
    match begin {
        Some((back, byte)) if byte >= 0xc0 && byte.leading_ones() as usize > back => text.len() - back,
        _ => text.len(),
    }
}

fn push(lines: &mut Vec<u8>, stream: Stream, text: &[u8]) {
    let time = jiff::Timestamp::now();
    let entry =
        LogEntry { log: String::from_utf8_lossy(text).into_owned(), stream, time: format!("{time:.9}") };
    if serde_json::to_writer(&mut *lines, &entry).is_ok() {
        lines.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufReader;

    fn place() -> (tempfile::TempDir, Dir) {
        let place = tempfile::tempdir().unwrap();
        let dir = Dir::open(place.path()).unwrap();
        (place, dir)
    }

    fn read(file: File) -> Vec<LogEntry> {
        Log::read(BufReader::new(file)).unwrap()
    }

    fn logged(write: impl FnOnce(&mut Log)) -> Vec<LogEntry> {
        let (place, dir) = place();
        let mut log = Log::new(&dir, "log", LogLimits::default());
        write(&mut log);
        log.finish().unwrap();
        read(File::open(place.path().join("log")).unwrap())
    }

    #[test]
    fn full_files_make_way() {
        let (place, dir) = place();
        let limits = LogLimits { max_size: Some(200), max_files: 3 };
        for part in 0..2 {
            // A second writer goes on where the first one was.
            let mut log = Log::new(&dir, "log", limits);
            for number in 0..10 {
                log.write(Stream::Stdout, format!("{part}{number}\n").as_bytes()).unwrap();
            }
        }
        let mut all: Vec<String> = Vec::new();
        let before = Log::before(&dir, "log").unwrap();
        assert_eq!(before.len(), 2);
        for file in before.into_iter().chain([File::open(place.path().join("log")).unwrap()]) {
            assert!(file.metadata().unwrap().len() < 400);
            all.extend(read(file).into_iter().map(|entry| entry.log));
        }
        let last: Vec<String> = (20 - all.len()..20).map(|number| format!("{number:02}\n")).collect();
        assert!(all.len() >= 7 && all == last, "{all:?}");

        let single = LogLimits { max_size: Some(200), max_files: 1 };
        let mut log = Log::new(&dir, "one", single);
        for number in 0..10 {
            log.write(Stream::Stdout, format!("{number}\n").as_bytes()).unwrap();
        }
        let kept = read(File::open(place.path().join("one")).unwrap());
        assert!(!kept.is_empty() && kept.len() < 5 && kept.last().unwrap().log == "9\n", "{kept:?}");
        assert!(Log::before(&dir, "one").unwrap().is_empty());
    }

    fn texts(entries: &[LogEntry]) -> Vec<(&str, Stream)> {
        entries.iter().map(|entry| (entry.log.as_str(), entry.stream)).collect()
    }

    #[test]
    fn lines_are_kept_whole() {
        let entries = logged(|log| {
            log.write(Stream::Stdout, b"one\ntw").unwrap();
            log.write(Stream::Stderr, b"error \"quoted\"\n").unwrap();
            log.write(Stream::Stdout, b"o\n\nlast").unwrap();
        });
        assert_eq!(
            texts(&entries),
            [
                ("one\n", Stream::Stdout),
                ("error \"quoted\"\n", Stream::Stderr),
                ("two\n", Stream::Stdout),
                ("\n", Stream::Stdout),
                ("last", Stream::Stdout),
            ]
        );
        let time = &entries[0].time;
        assert!(time.ends_with('Z') && time.len() == "2026-01-01T00:00:00.000000000Z".len(), "{time}");
    }

    #[test]
    fn long_lines_are_split_between_characters() {
        let line = format!("{}\n", "€".repeat(LONGEST / 2));
        let entries = logged(|log| {
            for part in line.as_bytes().chunks(1000) {
                log.write(Stream::Stdout, part).unwrap();
            }
        });
        assert_eq!(entries.iter().map(|entry| entry.log.as_str()).collect::<String>(), line);
        assert_eq!(entries.iter().map(|entry| entry.log.len()).max(), Some(LONGEST - LONGEST % 3));
        assert!(entries.iter().rev().skip(1).all(|entry| !entry.log.ends_with('\n')));
        // A line of exactly that length, newline and all, is one.
        let entries = logged(|log| {
            log.write(Stream::Stdout, &[b"x".repeat(LONGEST - 1), b"\n".to_vec()].concat()).unwrap();
        });
        assert_eq!(entries.len(), 1);
    }

    #[test]
    fn what_is_no_utf8_is_marked() {
        let entries = logged(|log| {
            log.write(Stream::Stderr, b"a\xffb\x00\n").unwrap();
            log.write(Stream::Stderr, &[0x80; LONGEST]).unwrap();
            log.write(Stream::Stdout, b"\xe2\x82").unwrap();
            log.write(Stream::Stdout, b"\xac\n").unwrap();
        });
        assert_eq!(entries[0].log, "a\u{fffd}b\0\n");
        assert_eq!(entries[1].log, "\u{fffd}".repeat(LONGEST));
        assert_eq!(entries[2].log, "€\n");
        assert_eq!(entries.len(), 3);
    }

    #[test]
    fn silence_makes_no_file() {
        let (_place, dir) = place();
        let mut log = Log::new(&dir, "log", LogLimits::default());
        log.write(Stream::Stdout, b"").unwrap();
        log.finish().unwrap();
    }

    #[test]
    fn reads_around_what_is_torn() {
        let good = |text: &str| format!(r#"{{"log":"{text}","stream":"stdout","time":"t"}}"#);
        let mut bytes = good("1").into_bytes();
        bytes.extend(b"\n{\"log\":\"\xe2\n");
        bytes.extend(good("2").bytes());
        bytes.extend(b"\n{\"log\":\"\xe2");
        let entries = Log::read(&bytes[..]).unwrap();
        assert_eq!(texts(&entries), [("1", Stream::Stdout), ("2", Stream::Stdout)]);
    }
}
