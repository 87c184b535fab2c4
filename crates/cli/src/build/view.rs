//! A build on a terminal, as docker shows it: a line for each step with its time, and the last lines of what runs.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::Write;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use coracle::{Event, Place, PullProgress};
use rustix::termios::tcgetwinsize;

use super::pulling;

/// How often times are drawn anew.
const TICK: Duration = Duration::from_millis(100);
/// Lines of output that are shown of a step.
const TAIL: usize = 6;

/// Draws on a thread of its own, so that times go on while nothing happens.
pub(super) struct View {
    events: Option<Sender<News>>,
    thread: Option<JoinHandle<()>>,
}

enum News {
    Event(Event),
    /// Something of the program's own is done, in this time.
    Did(String, Duration),
}

impl View {
    /// `None` where no thread can be started.
    pub(super) fn start() -> Option<View> {
        let (events, heard) = channel();
        let thread = std::thread::Builder::new().name("progress".into()).spawn(move || draw(&heard)).ok()?;
        Some(View { events: Some(events), thread: Some(thread) })
    }

    pub(super) fn tell(&self, event: &Event) {
        if let Some(events) = &self.events {
            let _ = events.send(News::Event(event.clone()));
        }
    }

    pub(super) fn did(&self, title: &str, time: Duration) {
        if let Some(events) = &self.events {
            let _ = events.send(News::Did(title.to_owned(), time));
        }
    }

    /// Draws what has become of it, for good.
    pub(super) fn finish(&mut self) {
        self.events = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn draw(heard: &Receiver<News>) {
    let mut screen = Screen::new(Instant::now());
    let mut drawn = 0;
    loop {
        let next = heard.recv_timeout(TICK);
        let over = matches!(next, Err(RecvTimeoutError::Disconnected));
        if let Ok(news) = next {
            screen.hear(news);
            // Many may have come at once.
            heard.try_iter().for_each(|news| screen.hear(news));
        }
        let size = tcgetwinsize(std::io::stderr()).ok();
        let columns = size.map_or(80, |size| usize::from(size.ws_col).max(20));
        let rows = size.map_or(24, |size| usize::from(size.ws_row).max(4));
        let lines = screen.lines(Instant::now(), columns, if over { usize::MAX } else { rows - 1 });
        let mut text = if drawn > 0 { format!("\x1b[{drawn}A") } else { String::new() };
        for line in &lines {
            let _ = writeln!(text, "\x1b[2K{line}");
        }
        text.push_str("\x1b[J");
        drawn = lines.len();
        let mut out = std::io::stderr().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        if over {
            return;
        }
    }
}

struct Step {
    name: String,
    state: State,
    tail: VecDeque<String>,
    partial: Vec<u8>,
}

enum State {
    Running(Instant),
    Cached,
    Done(Duration),
    Failed(Duration),
}

/// What is to be seen.
struct Screen {
    started: Instant,
    steps: Vec<Step>,
    warnings: Vec<String>,
    done: bool,
}

impl Screen {
    fn new(started: Instant) -> Screen {
        Screen { started, steps: Vec::new(), warnings: Vec::new(), done: false }
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Event(event) => self.tell(&event, Instant::now()),
            News::Did(title, time) => self.named(title).state = State::Done(time),
        }
    }

    fn step(&mut self, at: &Place) -> &mut Step {
        self.named(at.to_string())
    }

    fn named(&mut self, name: String) -> &mut Step {
        let found = self.steps.iter().position(|step| step.name == name);
        let index = found.unwrap_or_else(|| {
            let state = State::Done(Duration::ZERO);
            self.steps.push(Step { name, state, tail: VecDeque::new(), partial: Vec::new() });
            self.steps.len() - 1
        });
        &mut self.steps[index]
    }

    fn tell(&mut self, event: &Event, now: Instant) {
        match event {
            Event::Pull { image, progress } => self.pull(image, progress, now),
            Event::Started { at, .. } => self.step(at).state = State::Running(now),
            Event::Cached { at } => self.step(at).state = State::Cached,
            Event::Built { at, duration } => self.step(at).state = State::Done(*duration),
            Event::From { at } => self.step(at).state = State::Done(Duration::ZERO),
            Event::Failed { at, .. } => {
                let step = self.step(at);
                let since = match step.state {
                    State::Running(since) => now - since,
                    _ => Duration::ZERO,
                };
                step.state = State::Failed(since);
            }
            Event::Output { at, bytes, .. } => {
                let step = self.step(at);
                step.partial.extend_from_slice(bytes);
                while let Some(end) = step.partial.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = step.partial.drain(..=end).collect();
                    step.tail.push_back(plain(&line[..end]));
                    if step.tail.len() > TAIL {
                        step.tail.pop_front();
                    }
                }
            }
            Event::Warning { message } => self.warnings.push(message.clone()),
            Event::Done { .. } => self.done = true,
            _ => {}
        }
    }

    fn pull(&mut self, image: &str, progress: &PullProgress, now: Instant) {
        let step = self.named(pulling::name(image));
        let since = match step.state {
            State::Running(since) => since,
            _ => now,
        };
        step.state = match progress {
            PullProgress::Done => State::Done(now - since),
            PullProgress::Failed { .. } => State::Failed(now - since),
            _ => State::Running(since),
        };
        let Some(line) = pulling::line(image, progress) else { return };
        // A layer has one line, which changes as it comes.
        let of = |line: &str| line.split(' ').next().map(str::to_owned);
        match step.tail.iter_mut().find(|known| of(known) == of(&line)) {
            Some(known) => *known = line,
            None => step.tail.push_back(line),
        }
        if step.tail.len() > TAIL {
            step.tail.pop_front();
        }
    }

    /// At most so many lines of so many columns, the latest where there are more.
    fn lines(&self, now: Instant, columns: usize, rows: usize) -> Vec<String> {
        let over = self.steps.iter().filter(|step| !matches!(step.state, State::Running(_))).count();
        let end = if self.done { " FINISHED" } else { "" };
        let whole = (now - self.started).as_secs_f64();
        let head = format!("[+] Building {whole:.1}s ({over}/{}){end}", self.steps.len());
        let mut lines = Vec::new();
        for step in &self.steps {
            let (mark, time) = match step.state {
                State::Running(since) => ("", now - since),
                State::Cached => ("CACHED ", Duration::ZERO),
                State::Done(time) => ("", time),
                State::Failed(time) => ("ERROR ", time),
            };
            let time = format!("{:.1}s", time.as_secs_f64());
            let room = columns.saturating_sub(time.len() + 2);
            let text = cut(&format!(" => {mark}{}", step.name), room);
            let gap = room.saturating_sub(text.chars().count()) + 1;
            lines.push(format!("{text}{}{time}", " ".repeat(gap)));
            if let State::Running(_) = step.state {
                lines.extend(step.tail.iter().map(|line| cut(&format!(" => => # {line}"), columns - 1)));
            }
        }
        lines.extend(self.warnings.iter().map(|warning| cut(&format!(" ! {warning}"), columns - 1)));
        let most = rows.saturating_sub(1);
        if lines.len() > most {
            lines.drain(..lines.len() - most);
        }
        lines.insert(0, cut(&head, columns - 1));
        lines
    }
}

fn cut(text: &str, columns: usize) -> String {
    text.chars().take(columns).collect()
}

/// What a terminal would take for a command is left out.
fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let last = text.trim_end_matches('\r').rsplit('\r').next().unwrap_or("").replace('\t', "    ");
    let mut out = String::new();
    let mut chars = last.chars();
    while let Some(c) = chars.next() {
        if c == '\x1b' {
            // CSI sequences end with a letter; of others two characters are enough.
            if chars.next() == Some('[') {
                chars.by_ref().find(|c| ('@'..='~').contains(c));
            }
        } else if !c.is_control() {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_can_not_drive_the_terminal() {
        assert_eq!(plain(b"\x1b[31mred\x1b[0m \x1b]x\x07y"), "red xy");
        assert_eq!(plain(b"10%\r50%\r100%\r"), "100%");
        assert_eq!(plain(b"a\tb\x08"), "a    b");
        assert_eq!(plain("ä\u{9b}2J".as_bytes()), "ä2J");
    }

    #[test]
    fn an_image_comes_in_a_line_for_each_layer() {
        let start = Instant::now();
        let mut screen = Screen::new(start);
        let mut tell = |progress| {
            screen.tell(&Event::Pull { image: "a:1".into(), progress }, start);
            screen.steps[0].tail.iter().cloned().collect::<Vec<_>>()
        };
        assert_eq!(tell(PullProgress::Asked), [""; 0]);
        let layer = |digest: &str, bytes| PullProgress::Layer { digest: digest.into(), bytes, of: 5 };
        tell(layer("sha256:0", 1));
        assert_eq!(tell(layer("sha256:1", 2)), ["sha256:0 1B / 5B", "sha256:1 2B / 5B"]);
        assert_eq!(tell(layer("sha256:0", 5)), ["sha256:0 5B / 5B", "sha256:1 2B / 5B"]);
        tell(PullProgress::Done);
        assert_eq!(screen.steps[0].name, "[internal] load metadata for a:1");
        assert!(matches!(screen.steps[0].state, State::Done(_)));
    }

    #[test]
    fn a_screen_is_never_larger_than_the_terminal() {
        let start = Instant::now();
        let mut screen = Screen::new(start);
        for name in 0..20 {
            let state = State::Running(start);
            let tail = VecDeque::from(vec!["x".repeat(200); TAIL]);
            screen.steps.push(Step { name: format!("step {name}"), state, tail, partial: Vec::new() });
        }
        let lines = screen.lines(start + Duration::from_millis(1500), 40, 10);
        assert_eq!(lines.len(), 10);
        assert!(lines.iter().all(|line| line.chars().count() < 40), "{lines:#?}");
        assert_eq!(lines[0], "[+] Building 1.5s (0/20)");
        screen.steps.truncate(1);
        screen.steps[0].state = State::Done(Duration::from_millis(200));
        screen.done = true;
        let lines = screen.lines(start + Duration::from_secs(2), 30, 10);
        assert_eq!(
            lines,
            [
                "[+] Building 2.0s (1/1) FINISHED".chars().take(29).collect(),
                " => step 0               0.2s".to_owned()
            ]
        );
    }
}
