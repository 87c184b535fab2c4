//! What a process wrote.

use coracle_runtime::{LogEntry, Stream};

/// All that a process wrote, and how it ended, if it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Its standard output. Bytes that are not UTF-8 are replaced.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    pub(crate) fn of(entries: &[LogEntry]) -> Output {
        let mut output = Output::default();
        for entry in entries {
            output.push(entry.stream, &entry.log);
        }
        output
    }

    pub(crate) fn push(&mut self, stream: Stream, text: &str) {
        match stream {
            Stream::Stdout => self.stdout.push_str(text),
            Stream::Stderr => self.stderr.push_str(text),
        }
    }

    /// The last lines of both streams, to be appended to a message.
    pub(crate) fn tail(&self, most: usize) -> String {
        let lines: Vec<&str> = self.stdout.lines().chain(self.stderr.lines()).collect();
        let last = &lines[lines.len().saturating_sub(most)..];
        last.iter().map(|line| format!("\n    | {line}")).collect()
    }
}
