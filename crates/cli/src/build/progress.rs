//! What is seen of a build: plain lines, or a JSON document a line.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use coracle::{Event, Place};
use serde_json::{Value, json};

use super::plain::Plain;
use super::pulling;
use super::view::View;

/// How it is shown.
enum Style {
    Lines,
    /// Nothing, but kept for a failure.
    Quiet(Vec<String>),
    Json,
    Terminal(View),
}

/// Shows a build while it goes on.
pub(super) struct Progress {
    style: Style,
    /// As lines, also where they are not shown: what a step that fails said last is told in all styles.
    plain: Plain,
}

impl Progress {
    pub(super) fn new(style: &str) -> Progress {
        let style = match style {
            "quiet" => Style::Quiet(Vec::new()),
            "json" | "rawjson" => Style::Json,
            "tty" => View::start().map_or(Style::Lines, Style::Terminal),
            "auto" if std::io::stderr().is_terminal() => View::start().map_or(Style::Lines, Style::Terminal),
            _ => Style::Lines,
        };
        Progress { style, plain: Plain::default() }
    }

    pub(super) fn is_quiet(&self) -> bool {
        matches!(self.style, Style::Quiet(_))
    }

    pub(super) fn tell(&mut self, event: &Event) {
        if matches!(self.style, Style::Json) {
            // One write a line: nobody else's output comes between.
            let _ = std::io::stderr().lock().write_all(format!("{}\n", document(event)).as_bytes());
            return;
        }
        let lines = self.plain.lines(event, Instant::now());
        match &mut self.style {
            Style::Lines => lines.iter().for_each(crate::out::say),
            Style::Quiet(kept) => kept.extend(lines),
            Style::Terminal(view) => view.tell(event),
            Style::Json => {}
        }
    }

    /// Something of the program's own was done before the build.
    pub(super) fn did(&mut self, title: &str, says: &[String], time: Duration) {
        match &mut self.style {
            Style::Terminal(view) => view.did(title, time),
            Style::Lines => self.plain.own(title, says, time).iter().for_each(crate::out::say),
            Style::Quiet(kept) => kept.extend(self.plain.own(title, says, time)),
            Style::Json => {
                let did =
                    json!({ "event": "did", "text": title, "says": says, "seconds": time.as_secs_f64() });
                crate::out::say(did);
            }
        }
    }

    /// Nothing more comes: it failed.
    pub(super) fn fail(&mut self) {
        match &mut self.style {
            Style::Terminal(view) => view.finish(),
            // What went before a failure is wanted even by those who wanted to hear nothing.
            Style::Quiet(kept) => kept.drain(..).for_each(crate::out::say),
            Style::Lines | Style::Json => {}
        }
        self.plain.failures().iter().for_each(crate::out::say);
    }

    /// Nothing more comes: this was done with the image, as steps with what they say.
    pub(super) fn finish(&mut self, done: &[(String, Vec<String>)]) {
        match &mut self.style {
            Style::Terminal(view) => {
                view.finish();
                let says = done.iter().flat_map(|(_, says)| says);
                says.for_each(|line| crate::out::say(format!(" => => {line}")));
            }
            Style::Lines => {
                for (title, says) in done {
                    self.plain.own(title, says, Duration::ZERO).iter().for_each(crate::out::say);
                }
            }
            Style::Quiet(_) | Style::Json => {}
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
        Event::Pull { image, progress } => pulling::document(image, progress),
        Event::From { at } => json!({ "event": "from", "step": step(at) }),
        Event::Failed { at, message } => {
            json!({ "event": "failed", "step": step(at), "message": message })
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
        Event::Fetched(transfer) => json!({
            "event": "fetched",
            "step": step(&transfer.at),
            "layers": transfer.layers,
            "bytes": transfer.bytes,
            "seconds": transfer.duration.as_secs_f64(),
        }),
        Event::Warning { message } => json!({ "event": "warning", "message": message }),
        Event::Done { id } => json!({ "event": "done", "image": id }),
        other => json!({ "event": "other", "text": other.to_string() }),
    }
}
