//! Logs in docker's json-file format: one JSON object a line, `{"log":"…\n","stream":"stdout","time":"…"}`.

use std::fs::File;
use std::io::{self, BufRead, Write};

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

/// A log being written.
pub struct Log {
    file: Target,
    partial: [Vec<u8>; 2],
    /// A write failed, perhaps in the middle of a line.
    torn: bool,
}

enum Target {
    Unopened(Box<dyn FnMut() -> io::Result<File> + Send>),
    Open(File),
}

impl Log {
    /// Writes to the file that `open` opens when there is something to write: many processes are silent.
    pub fn new(open: impl FnMut() -> io::Result<File> + Send + 'static) -> Log {
        Log { file: Target::Unopened(Box::new(open)), partial: [Vec::new(), Vec::new()], torn: false }
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        if let Target::Unopened(open) = &mut self.file {
            self.file = Target::Open(open()?);
        }
        let Target::Open(file) = &mut self.file else { return Ok(()) };
        if self.torn {
            // What was cut off must not spoil the line after it.
            file.write_all(b"\n")?;
            self.torn = false;
        }
        let written = file.write_all(lines);
        self.torn = written.is_err();
        written
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

    /// Reads a log. A line that is still being written, or was cut off by a full disk, is passed over.
    ///
    /// # Errors
    /// As of read(2).
    pub fn read(from: impl BufRead) -> io::Result<Vec<LogEntry>> {
        let mut entries = Vec::new();
        for line in from.split(b'\n') {
            if let Ok(entry) = serde_json::from_slice(&line?) {
                entries.push(entry);
            }
        }
        Ok(entries)
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
    use std::io::{BufReader, Seek};

    fn logged(write: impl FnOnce(&mut Log)) -> Vec<LogEntry> {
        let mut file = tempfile::tempfile().unwrap();
        let copy = file.try_clone().unwrap();
        let mut log = Log::new(move || copy.try_clone());
        write(&mut log);
        log.finish().unwrap();
        file.rewind().unwrap();
        Log::read(BufReader::new(file)).unwrap()
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
        let mut log = Log::new(|| panic!("opened"));
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
