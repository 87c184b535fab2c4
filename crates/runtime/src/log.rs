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
}

enum Target {
    Unopened(Box<dyn FnMut() -> io::Result<File> + Send>),
    Open(File),
}

impl Log {
    /// Writes to the file that `open` opens when there is something to write: many processes are silent.
    pub fn new(open: impl FnMut() -> io::Result<File> + Send + 'static) -> Log {
        Log { file: Target::Unopened(Box::new(open)), partial: [Vec::new(), Vec::new()] }
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        if let Target::Unopened(open) = &mut self.file {
            self.file = Target::Open(open()?);
        }
        match &mut self.file {
            Target::Open(file) => file.write_all(lines),
            Target::Unopened(_) => Ok(()),
        }
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
                Some(at) => (at + 1).min(LONGEST),
                None if rest.len() >= LONGEST => LONGEST,
                None => break,
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

    /// Reads a log. A last line that is still being written is passed over.
    ///
    /// # Errors
    /// As of read(2).
    pub fn read(from: impl BufRead) -> io::Result<Vec<LogEntry>> {
        let mut entries = Vec::new();
        for line in from.lines() {
            if let Ok(entry) = serde_json::from_str(&line?) {
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

    #[test]
    fn lines_are_kept_whole() {
        let mut file = tempfile::tempfile().unwrap();
        let copy = file.try_clone().unwrap();
        let mut log = Log::new(move || copy.try_clone());
        log.write(Stream::Stdout, b"one\ntw").unwrap();
        log.write(Stream::Stderr, b"error \"quoted\"\n").unwrap();
        log.write(Stream::Stdout, b"o\n\nlast").unwrap();
        log.write(Stream::Stdout, &[b'x'; LONGEST]).unwrap();
        log.finish().unwrap();
        file.rewind().unwrap();
        let entries = Log::read(BufReader::new(file)).unwrap();
        let text: Vec<(&str, Stream)> =
            entries.iter().map(|entry| (&entry.log[..entry.log.len().min(16)], entry.stream)).collect();
        assert_eq!(
            text,
            [
                ("one\n", Stream::Stdout),
                ("error \"quoted\"\n", Stream::Stderr),
                ("two\n", Stream::Stdout),
                ("\n", Stream::Stdout),
                ("lastxxxxxxxxxxxx", Stream::Stdout),
                ("xxxx", Stream::Stdout),
            ]
        );
        assert!(
            entries[0].time.ends_with('Z') && entries[0].time.len() == "2026-01-01T00:00:00.000000000Z".len()
        );
    }
}
