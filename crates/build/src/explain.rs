//! A finished build, line by line: what was cached, what was built and why, and what it cost.

use std::fmt;
use std::time::Duration;

use crate::event::{Built, Outcome, Reason, StepReport};

/// How many files are named where many changed.
const NAMED: usize = 5;

/// The lines of a build's Dockerfile and what became of each. `Display` prints it:
///
/// ```text
///             1 | FROM base
/// cached  4.1s    2 | RUN install
/// built   0.2s    3 | COPY . .
///                   | because src/main.c changed
/// built   9.8s    4 | RUN make
/// ```
///
/// `known` is what was neither built nor is here: the cache knows what it comes to, and nothing asked for its files.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Explanation {
    /// All lines of the file, in order.
    pub lines: Vec<ExplainedLine>,
    total: Totals,
}

/// One line of the file.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExplainedLine {
    /// Its number, from 1.
    pub number: usize,
    /// What is written there.
    pub text: String,
    /// The steps that begin there, at a FROM with triggers also those; none where an instruction goes on, in a comment, and in a stage that was not needed.
    pub steps: Vec<StepReport>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    cached: usize,
    built: usize,
    saved: Duration,
    spent: Duration,
    layers: usize,
    bytes: u64,
    fetching: Duration,
}

impl Built {
    /// What became of each line.
    pub fn explain(&self) -> Explanation {
        let mut total = Totals::default();
        for step in &self.steps {
            match step.outcome {
                Outcome::Cached | Outcome::Known => {
                    total.cached += 1;
                    total.saved += step.cost;
                }
                Outcome::Built(_) => {
                    total.built += 1;
                    total.spent += step.duration;
                }
                Outcome::Set => {}
            }
        }
        for transfer in &self.fetched {
            total.layers += transfer.layers;
            total.bytes += transfer.bytes;
            total.fetching += transfer.duration;
        }
        let lines = self.file.source.lines.iter().enumerate().map(|(i, text)| {
            let steps = self.steps.iter().filter(|step| step.at.line == i + 1).cloned().collect();
            ExplainedLine { number: i + 1, text: text.clone(), steps }
        });
        let mut lines: Vec<ExplainedLine> = lines.collect();
        // What ends with a newline has no line after it.
        if lines.last().is_some_and(|line| line.text.is_empty() && line.steps.is_empty()) {
            lines.pop();
        }
        Explanation { lines, total }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.lines.len().to_string().len();
        for line in &self.lines {
            // Of several steps at one line the one that cost most says it.
            let step = line.steps.iter().filter(|s| s.outcome != Outcome::Set).max_by_key(|s| s.cost);
            let left = match step {
                None => String::new(),
                Some(step) => {
                    let what = match step.outcome {
                        Outcome::Known => "known",
                        Outcome::Cached => "cached",
                        Outcome::Built(_) | Outcome::Set => "built",
                    };
                    format!("{what:<6} {:>7} {:>8}", seconds(step.cost), size(step.bytes))
                }
            };
            writeln!(f, "{left:<23} {:>width$} | {}", line.number, line.text)?;
            for because in line.steps.iter().flat_map(reasons) {
                writeln!(f, "{:<23} {:>width$} |   because {because}", "", "")?;
            }
        }
        let Totals { cached, built, saved, spent, layers, bytes, fetching } = self.total;
        write!(f, "{cached} cached, which saved {}; {built} built in {}", seconds(saved), seconds(spent))?;
        if layers > 0 {
            let (s, size) = (if layers == 1 { "" } else { "s" }, size(bytes));
            write!(f, "; {layers} layer{s} fetched, {size} in {}", seconds(fetching))?;
        }
        Ok(())
    }
}

/// Why a step was built: for the first of its stage, which the others follow from.
fn reasons(step: &StepReport) -> Vec<String> {
    match step.outcome {
        Outcome::Built(Reason::NoCache) => vec!["the cache is off".to_owned()],
        Outcome::Built(Reason::After(_)) | Outcome::Cached | Outcome::Known | Outcome::Set => Vec::new(),
        Outcome::Built(reason) if step.causes.is_empty() => vec![format!("it is {reason}")],
        Outcome::Built(_) => {
            let mut all: Vec<String> = step.causes.iter().take(NAMED).map(ToString::to_string).collect();
            if step.causes.len() > NAMED {
                all.push(format!("and {} more", step.causes.len() - NAMED));
            }
            all
        }
    }
}

fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        s if s < 0.01 => format!("{:.1}ms", s * 1000.0),
        s if s < 1.0 => format!("{:.0}ms", s * 1000.0),
        s => format!("{s:.1}s"),
    }
}

/// In units of a thousand, as docker writes sizes.
fn size(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes}B") } else { format!("{value:.1}{}", units[unit]) }
}
