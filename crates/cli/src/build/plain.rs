//! A build as lines, as docker's plain progress has it: every step under a number, and its output with the time since it began.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use coracle::{Event, Place, PullProgress, StepStream, Transfer};

use super::pulling;
use crate::units::size;

/// Characters of a step's name in its heading.
const NAME: usize = 72;
/// Lines of a step's output that are shown again where it fails.
const RECENT: usize = 20;

/// One step that has been told of.
struct Step {
    name: String,
    began: Instant,
    /// What did not end in a newline yet, of standard output and error.
    partial: [Vec<u8>; 2],
    recent: VecDeque<String>,
    over: bool,
}

/// What was told of a build so far.
#[derive(Default)]
pub(super) struct Plain {
    steps: Vec<Step>,
    /// The one whose lines come now.
    current: Option<usize>,
    spoken: bool,
    failed: Vec<usize>,
}

impl Plain {
    /// The lines that an event adds.
    pub(super) fn lines(&mut self, event: &Event, now: Instant) -> Vec<String> {
        let mut lines = Vec::new();
        match event {
            Event::Pull { image, progress } => self.pull(image, progress, now, &mut lines),
            Event::From { at } => {
                let step = self.step(&at.to_string(), now);
                self.end(step, now, &mut lines, |time| format!("DONE {time}"));
            }
            Event::Started { at, .. } => {
                let step = self.step(&at.to_string(), now);
                // Where another one's lines come, it waits until it has something to say.
                if self.current.is_none() {
                    self.turn_to(step, &mut lines);
                }
            }
            Event::Cached { at } => {
                let step = self.step(&at.to_string(), now);
                self.end(step, now, &mut lines, |_| "CACHED".to_owned());
            }
            Event::Output { at, stream, bytes } => self.output(at, *stream, bytes, now, &mut lines),
            Event::Built { at, duration } => {
                let (step, time) = (self.step(&at.to_string(), now), seconds(*duration));
                self.end(step, now, &mut lines, |_| format!("DONE {time}"));
            }
            Event::Failed { at, message } => {
                let step = self.step(&at.to_string(), now);
                self.end(step, now, &mut lines, |_| format!("ERROR: {message}"));
                self.failed.push(step);
            }
            Event::Fetched(transfer) => {
                let step = self.step(&transfer.at.to_string(), now);
                self.turn_to(step, &mut lines);
                lines.push(format!("#{} {}", step + 1, fetched(transfer)));
                self.current = None;
            }
            Event::Warning { message } => lines.push(format!("WARNING: {message}")),
            _ => {}
        }
        lines
    }

    /// The lines of a step of the program's own that is done.
    pub(super) fn own(&mut self, name: &str, says: &[String], time: Duration) -> Vec<String> {
        let mut lines = Vec::new();
        self.steps.push(Step::new(name, Instant::now()));
        let step = self.steps.len() - 1;
        self.turn_to(step, &mut lines);
        let number = step + 1;
        lines.extend(says.iter().map(|line| format!("#{number} {line}")));
        lines.push(format!("#{number} DONE {}", seconds(time)));
        self.current = None;
        lines
    }

    /// What the steps that failed said last.
    pub(super) fn failures(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for step in self.failed.iter().map(|step| &self.steps[*step]) {
            lines.push("------".to_owned());
            lines.push(format!(" > {}:", step.name));
            lines.extend(step.recent.iter().cloned());
        }
        if !lines.is_empty() {
            lines.push("------".to_owned());
        }
        lines
    }

    /// The number of a step, which is new or was told of before.
    fn step(&mut self, name: &str, now: Instant) -> usize {
        let known = self.steps.iter().position(|step| step.name == name);
        known.unwrap_or_else(|| {
            self.steps.push(Step::new(name, now));
            self.steps.len() - 1
        })
    }

    fn turn_to(&mut self, step: usize, lines: &mut Vec<String>) {
        if self.current == Some(step) {
            return;
        }
        lines.extend(self.current.map(|other| format!("#{} ...", other + 1)));
        lines.extend(self.spoken.then(String::new));
        let name: String = self.steps[step].name.chars().take(NAME).collect();
        lines.push(format!("#{} {name}", step + 1));
        (self.current, self.spoken) = (Some(step), true);
    }

    fn output(
        &mut self,
        at: &Place,
        stream: StepStream,
        bytes: &[u8],
        now: Instant,
        lines: &mut Vec<String>,
    ) {
        let number = self.step(&at.to_string(), now);
        let step = &mut self.steps[number];
        let mut whole = Vec::new();
        let partial = &mut step.partial[usize::from(stream == StepStream::Stderr)];
        partial.extend_from_slice(bytes);
        while let Some(end) = partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = partial.drain(..=end).collect();
            whole.push(String::from_utf8_lossy(&line[..end]).into_owned());
        }
        if !whole.is_empty() {
            self.turn_to(number, lines);
            self.steps[number].say(number, whole, now, lines);
        }
    }

    /// An image that comes: what is known of it, and each layer when it is here.
    fn pull(&mut self, image: &str, progress: &PullProgress, now: Instant, lines: &mut Vec<String>) {
        let step = self.step(&pulling::name(image), now);
        self.turn_to(step, lines);
        match progress {
            PullProgress::Done => self.end(step, now, lines, |time| format!("DONE {time}")),
            PullProgress::Failed { message } => {
                self.end(step, now, lines, |_| format!("ERROR: {message}"));
                self.failed.push(step);
            }
            PullProgress::Layer { bytes, of, .. } if bytes < of => {}
            _ => {
                let line = pulling::line(image, progress).map(|line| format!("#{} {line} done", step + 1));
                lines.extend(line);
            }
        }
    }

    fn end(&mut self, number: usize, now: Instant, lines: &mut Vec<String>, how: impl Fn(String) -> String) {
        if std::mem::replace(&mut self.steps[number].over, true) {
            return;
        }
        self.turn_to(number, lines);
        let step = &mut self.steps[number];
        let rest = std::mem::take(&mut step.partial);
        let rest = rest.iter().filter(|rest| !rest.is_empty());
        let rest: Vec<String> = rest.map(|rest| String::from_utf8_lossy(rest).into_owned()).collect();
        step.say(number, rest, now, lines);
        lines.push(format!("#{} {}", number + 1, how(seconds(now - step.began))));
        self.current = None;
    }
}

impl Step {
    fn new(name: &str, began: Instant) -> Step {
        Step {
            name: name.to_owned(),
            began,
            partial: Default::default(),
            recent: VecDeque::new(),
            over: false,
        }
    }

    fn say(&mut self, number: usize, whole: Vec<String>, now: Instant, lines: &mut Vec<String>) {
        let time = (now - self.began).as_secs_f64();
        for line in whole {
            let line = format!("{time:.3} {line}");
            lines.push(format!("#{} {line}", number + 1));
            if self.recent.len() == RECENT {
                self.recent.pop_front();
            }
            self.recent.push_back(line);
        }
    }
}

fn fetched(transfer: &Transfer) -> String {
    let Transfer { layers, bytes, duration, .. } = transfer;
    let s = if *layers == 1 { "" } else { "s" };
    format!("fetched {layers} layer{s}, {}, in {}", size(*bytes), seconds(*duration))
}

fn seconds(time: Duration) -> String {
    format!("{:.1}s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use coracle::Reason;

    use super::*;

    fn at(number: usize, text: &str) -> Arc<Place> {
        Arc::new(Place::new("one", number, 3, text))
    }

    #[test]
    fn an_image_that_comes() {
        let began = Instant::now();
        let mut plain = Plain::default();
        let mut tell = |progress, after: u64| {
            let event = Event::Pull { image: "docker.io/library/a:1".into(), progress };
            plain.lines(&event, began + Duration::from_millis(after)).join("\n")
        };
        assert_eq!(tell(PullProgress::Asked, 0), "#1 [internal] load metadata for docker.io/library/a:1");
        let digest = || "sha256:0".to_owned();
        let resolved = PullProgress::Resolved { digest: digest() };
        assert_eq!(tell(resolved, 1), "#1 resolve docker.io/library/a:1@sha256:0 done");
        let layer = |bytes| PullProgress::Layer { digest: digest(), bytes, of: 2_220_000 };
        assert_eq!(tell(layer(1), 2), "");
        assert_eq!(tell(layer(2_220_000), 3), "#1 sha256:0 2.22MB / 2.22MB done");
        assert_eq!(tell(PullProgress::Done, 1234), "#1 DONE 1.2s");
    }

    #[test]
    fn lines_are_dockers() {
        let began = Instant::now();
        let mut plain = Plain::default();
        let mut tell =
            |event: &Event, after: u64| plain.lines(event, began + Duration::from_millis(after)).join("\n");
        assert_eq!(tell(&Event::From { at: at(1, "FROM a") }, 0), "#1 [one 1/3] FROM a\n#1 DONE 0.0s");
        assert_eq!(tell(&Event::Cached { at: at(2, "COPY a b") }, 0), "\n#2 [one 2/3] COPY a b\n#2 CACHED");
        let run = at(3, "RUN x");
        let started = Event::Started { at: run.clone(), reason: Reason::New };
        assert_eq!(tell(&started, 100), "\n#3 [one 3/3] RUN x");
        let output = |at: &Arc<Place>, text: &str, stream| Event::Output {
            at: at.clone(),
            stream,
            bytes: text.into(),
        };
        assert_eq!(tell(&output(&run, "two\nlines, and", StepStream::Stdout), 150), "#3 0.050 two");
        assert_eq!(tell(&output(&run, "an error\n", StepStream::Stderr), 160), "#3 0.060 an error");
        assert_eq!(
            tell(&output(&run, " the rest\n", StepStream::Stdout), 170),
            "#3 0.070 lines, and the rest"
        );

        // Another one's lines come between, and then this one's again.
        let other = Arc::new(Place::new("two", 2, 2, "RUN y"));
        assert_eq!(tell(&Event::Started { at: other.clone(), reason: Reason::New }, 180), "");
        let text = tell(&output(&other, "y\n", StepStream::Stdout), 190);
        assert_eq!(text, "#3 ...\n\n#4 [two 2/2] RUN y\n#4 0.010 y");
        let built = Event::Built { at: other, duration: Duration::from_millis(1234) };
        assert_eq!(tell(&built, 1500), "#4 DONE 1.2s");
        tell(&output(&run, "no end", StepStream::Stdout), 1600);
        let failed = Event::Failed { at: run, message: "exit code: 1".into() };
        let text = tell(&failed, 1600);
        assert_eq!(text, "\n#3 [one 3/3] RUN x\n#3 1.500 no end\n#3 ERROR: exit code: 1");
        let failures = plain.failures().join("\n");
        let all = "0.050 two\n0.060 an error\n0.070 lines, and the rest\n1.500 no end";
        assert_eq!(failures, format!("------\n > [one 3/3] RUN x:\n{all}\n------"));
        assert_eq!(
            plain.own("exporting", &["id".into()], Duration::ZERO).join("\n"),
            "\n#5 exporting\n#5 id\n#5 DONE 0.0s"
        );
    }
}
