//! What happens during a build, and what happened.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::cache::{CachedFiles, CachedStep};
use crate::dockerfile::Dockerfile;
use crate::trace::Cause;
use crate::worker::Stream;

/// Which instruction an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Place {
    /// The stage's name, or `stage-N`.
    pub stage: String,
    /// Whether it is the only stage of its Dockerfile, and has no name.
    pub alone: bool,
    /// The number of its step in the stage, from 1: FROM is one where it names an image, and so is each instruction that makes
    /// a layer. What only configures belongs to the step before it.
    pub index: usize,
    /// How many the stage has.
    pub total: usize,
    /// Its line in the Dockerfile, from 1.
    pub line: usize,
    /// The instruction on one line.
    pub text: String,
}

/// Progress of a build. `Display` gives a plain line (without its end): `[builder 4/7] RUN npm install … cached`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// An image is asked for where it comes from, before the first step.
    Pull {
        /// Its name in full: `docker.io/library/busybox:latest`.
        image: String,
        /// How far it is.
        progress: PullProgress,
    },
    /// The image that a stage starts from is there.
    From {
        /// The instruction.
        at: Arc<Place>,
    },
    /// A step runs: the cache did not have it.
    Started {
        /// The instruction.
        at: Arc<Place>,
        /// Why it was not taken from the cache.
        reason: Reason,
    },
    /// A step's result was there already.
    Cached {
        /// The instruction.
        at: Arc<Place>,
    },
    /// An instruction that changes no files, or the FROM of a stage that starts from nothing or from another stage.
    Set {
        /// The instruction.
        at: Arc<Place>,
    },
    /// What a command wrote, as it comes: any bytes, not always whole lines.
    Output {
        /// The instruction.
        at: Arc<Place>,
        /// From where.
        stream: Stream,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// A step is done.
    Built {
        /// The instruction.
        at: Arc<Place>,
        /// How long it took.
        duration: Duration,
    },
    /// A step could not be done, and neither can the build.
    Failed {
        /// The instruction.
        at: Arc<Place>,
        /// Why, in one sentence.
        message: String,
    },
    /// Results of steps were fetched from elsewhere, because their files are needed.
    Fetched(Transfer),
    /// Something is odd but no error.
    Warning {
        /// One sentence.
        message: String,
    },
    /// The image is stored.
    Done {
        /// Its id.
        id: String,
    },
}

/// Layers that came from elsewhere, see [`Worker::fetch`](crate::Worker::fetch).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transfer {
    /// The step whose result was asked for.
    pub at: Arc<Place>,
    /// How many layers came.
    pub layers: usize,
    /// Their bytes as they came: those of compressed blobs.
    pub bytes: u64,
    /// How long that took.
    pub duration: Duration,
}

/// How an image comes, see [`Event::Pull`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PullProgress {
    /// It is asked for.
    Asked,
    /// This is it: the digest of what is there under the name, a manifest or an index.
    Resolved {
        /// `sha256:…`
        digest: String,
    },
    /// So much of one of its layers has come; the last time all of it.
    Layer {
        /// The digest of what comes.
        digest: String,
        /// How much, in bytes.
        bytes: u64,
        /// Of how much.
        of: u64,
    },
    /// It is here.
    Done,
    /// It could not be had, and the build fails.
    Failed {
        /// Why, in one sentence.
        message: String,
    },
}

/// Why a step was not taken from the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// [`BuildSpec::no_cache`](crate::BuildSpec::no_cache) was asked for.
    NoCache,
    /// A step before it in its stage, at this line, was built and came out different.
    After(usize),
    /// It never ran like this: the instruction, its arguments, or the files it copies are new.
    New,
    /// It ran like this before, but the result has been removed since.
    Gone,
}

/// How an instruction got its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// From the cache.
    Cached,
    /// Not at all: the cache knows what it comes to, and nothing asked for its files, which are not here.
    Known,
    /// By doing it.
    Built(Reason),
    /// It changes no files: FROM, ENV, CMD and the like.
    Set,
}

/// One instruction of a finished build.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StepReport {
    /// Which one.
    pub at: Arc<Place>,
    /// How it got its result.
    pub outcome: Outcome,
    /// How long that took now.
    pub duration: Duration,
    /// How long it took when it last ran; for a cached step, what the cache saved.
    pub cost: Duration,
    /// Bytes of its layer; 0 where the worker doesn't say.
    pub bytes: u64,
    /// What made it another step than the last time: for the first step of its stage that was built, unless the cache
    /// was off.
    pub causes: Vec<Cause>,
}

impl StepReport {
    /// Whether the step's result came from the cache, with its files or without.
    pub fn cached(&self) -> bool {
        matches!(self.outcome, Outcome::Cached | Outcome::Known)
    }

    /// Whether the step was carried out.
    pub fn built(&self) -> bool {
        matches!(self.outcome, Outcome::Built(_))
    }
}

/// A finished build. `Display` prints its Dockerfile lines, each with what it cost.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Built {
    /// The image's id, as the worker gave it.
    pub id: String,
    /// All instructions of all stages that were needed, in order.
    pub steps: Vec<StepReport>,
    /// What was odd.
    pub warnings: Vec<String>,
    /// The steps with results in the cache, stage after stage: what another cache would have to know to build nothing.
    pub cache: Vec<CachedStep>,
    /// What the files are that steps read in results of others: with it another cache needs no files of those.
    pub files: Vec<CachedFiles>,
    /// What was fetched from elsewhere.
    pub fetched: Vec<Transfer>,
    pub(crate) file: Dockerfile,
}

impl Place {
    /// A step of a stage that has others beside it, its instruction in the first line: for programs that show builds, and
    /// want to test how.
    pub fn new(stage: impl Into<String>, index: usize, total: usize, text: impl Into<String>) -> Place {
        Place { stage: stage.into(), alone: false, index, total, line: 1, text: text.into() }
    }

    /// Where it is, as docker's progress has it: `[builder 4/7]`, or `[4/7]` where there is no other stage.
    pub fn number(&self) -> String {
        let Place { stage, index, total, .. } = self;
        let width = total.to_string().len();
        match self.alone {
            true => format!("[{index:>width$}/{total}]"),
            false => format!("[{stage} {index:>width$}/{total}]"),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number(), self.text)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Pull { image, progress } => match progress {
                PullProgress::Asked => write!(f, "pull {image}"),
                PullProgress::Resolved { digest } => write!(f, "pull {image} … {digest}"),
                PullProgress::Layer { digest, bytes, of } => {
                    write!(f, "pull {image} … {digest} {bytes} of {of} bytes")
                }
                PullProgress::Done => write!(f, "pull {image} … done"),
                PullProgress::Failed { message } => write!(f, "pull {image} … failed: {message}"),
            },
            Event::From { at } | Event::Started { at, .. } | Event::Set { at } => at.fmt(f),
            Event::Cached { at } => write!(f, "{at} … cached"),
            Event::Built { at, duration } => {
                write!(f, "{} done in {:.1}s", at.number(), duration.as_secs_f64())
            }
            Event::Failed { at, message } => write!(f, "{at} … failed: {message}"),
            Event::Output { at, bytes, .. } => {
                let text = String::from_utf8_lossy(bytes);
                for (i, line) in text.lines().enumerate() {
                    let end = if i == 0 { "" } else { "\n" };
                    write!(f, "{end}{} | {line}", at.number())?;
                }
                Ok(())
            }
            Event::Fetched(transfer) => transfer.fmt(f),
            Event::Warning { message } => write!(f, "warning: {message}"),
            Event::Done { id } => write!(f, "image {id}"),
        }
    }
}

impl fmt::Display for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Transfer { at, layers, bytes, duration } = self;
        let (number, s) = (at.number(), if *layers == 1 { "" } else { "s" });
        write!(f, "{number} fetched {layers} layer{s}, {bytes} bytes, in {:.1}s", duration.as_secs_f64())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NoCache => f.write_str("the cache is off"),
            Reason::After(line) => write!(f, "line {line} changed"),
            Reason::New => f.write_str("new or changed"),
            Reason::Gone => f.write_str("its result was removed"),
        }
    }
}

impl fmt::Display for StepReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>4}  {:<60} ", self.at.line, self.at.text)?;
        match self.outcome {
            Outcome::Cached => f.write_str("cached"),
            Outcome::Known => f.write_str("known"),
            Outcome::Built(reason) => write!(f, "built in {:.3}s ({reason})", self.duration.as_secs_f64()),
            Outcome::Set => f.write_str("set"),
        }
    }
}

impl fmt::Display for Built {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            writeln!(f, "{step}")?;
        }
        write!(f, "image {}", self.id)
    }
}
