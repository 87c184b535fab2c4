//! What is seen of a build: plain lines, or a JSON document a line.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};

use coracle::{Event, Place};
use serde_json::{Value, json};

use super::view::View;

/// How it is shown.
enum Style {
    Plain,
    /// Nothing, but kept for a failure.
    Quiet(Vec<String>),
    Json,
    Terminal(View),
}

/// Events become lines: what commands write comes in pieces.
pub(super) struct Progress {
    style: Style,
    partial: BTreeMap<String, Vec<u8>>,
}

impl Progress {
    pub(super) fn new(style: &str) -> Progress {
        let style = match style {
            "quiet" => Style::Quiet(Vec::new()),
            "json" | "rawjson" => Style::Json,
            "tty" => View::start().map_or(Style::Plain, Style::Terminal),
            "auto" if std::io::stderr().is_terminal() => View::start().map_or(Style::Plain, Style::Terminal),
            _ => Style::Plain,
        };
        Progress { style, partial: BTreeMap::new() }
    }

    pub(super) fn is_quiet(&self) -> bool {
        matches!(self.style, Style::Quiet(_))
    }

    /// Whether the image's names and id are said at the end.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self.style, Style::Plain | Style::Terminal(_))
    }

    /// Shows what was kept back.
    pub(super) fn reveal(&mut self) {
        if let Style::Quiet(lines) = &mut self.style {
            lines.drain(..).for_each(crate::out::say);
        }
    }

    fn say(&mut self, line: String) {
        match &mut self.style {
            Style::Quiet(lines) => lines.push(line),
            _ => crate::out::say(line),
        }
    }

    pub(super) fn tell(&mut self, event: &Event) {
        if let Style::Terminal(view) = &self.style {
            return view.tell(event);
        }
        if matches!(self.style, Style::Json) {
            // One write a line: nobody else's output comes between.
            let _ = std::io::stderr().lock().write_all(format!("{}\n", document(event)).as_bytes());
            return;
        }
        match event {
            Event::Output { at, stream, bytes } => {
                let prefix = format!("[{} {}/{}]", at.stage, at.index, at.total);
                let key = format!("{prefix} {stream:?}");
                let mut partial = self.partial.remove(&key).unwrap_or_default();
                partial.extend_from_slice(bytes);
                while let Some(end) = partial.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = partial.drain(..=end).collect();
                    self.say(format!("{prefix} {}", String::from_utf8_lossy(&line[..end])));
                }
                self.partial.insert(key, partial);
            }
            // The id is said last, after the names.
            Event::Done { .. } => {}
            Event::Built { .. } => {
                self.finish();
                self.say(event.to_string());
            }
            event => self.say(event.to_string()),
        }
    }

    /// What did not end in a newline.
    pub(super) fn finish(&mut self) {
        if let Style::Terminal(view) = &mut self.style {
            return view.finish();
        }
        for (key, partial) in std::mem::take(&mut self.partial) {
            if !partial.is_empty() {
                let prefix = key.rsplit_once(' ').map_or("", |(prefix, _)| prefix);
                self.say(format!("{prefix} {}", String::from_utf8_lossy(&partial)));
            }
        }
    }
}

/// One event for programs. Times are in seconds, output is text with what is not UTF-8 replaced.
fn document(event: &Event) -> Value {
    let step = |at: &Place| json!({ "stage": at.stage, "index": at.index, "total": at.total, "line": at.line, "instruction": at.text });
    match event {
        Event::Started { at, reason } => {
            json!({ "event": "started", "step": step(at), "reason": reason.to_string() })
        }
        Event::Cached { at } => json!({ "event": "cached", "step": step(at) }),
        Event::Set { at } => json!({ "event": "set", "step": step(at) }),
        Event::Output { at, stream, bytes } => json!({
            "event": "output",
            "step": step(at),
            "stream": format!("{stream:?}").to_lowercase(),
            "text": String::from_utf8_lossy(bytes),
        }),
        Event::Built { at, duration } => {
            json!({ "event": "built", "step": step(at), "seconds": duration.as_secs_f64() })
        }
        Event::Warning { message } => json!({ "event": "warning", "message": message }),
        Event::Done { id } => json!({ "event": "done", "image": id }),
        other => json!({ "event": "other", "text": other.to_string() }),
    }
}
