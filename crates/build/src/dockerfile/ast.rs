//! Instructions as they are written: words not yet expanded, each with its place.

use super::lines::Heredoc;
use crate::error::Span;

/// A word before expansion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) text: String,
    pub(crate) span: Span,
}

/// One instruction and its place.
#[derive(Debug)]
pub(crate) struct Instruction {
    pub(crate) verb: Verb,
    pub(crate) span: Span,
    /// Written on one line, blanks squeezed: for people.
    pub(crate) text: String,
}

#[derive(Debug)]
pub(crate) enum Verb {
    Arg(Vec<(Word, Option<Word>)>),
    From(From),
    Run(Run),
    Copy(Copy),
    Healthcheck(Healthcheck),
    /// The instruction that builds on this image begin with, as it was written.
    OnBuild(String),
    Env(Vec<(Word, Word)>),
    Label(Vec<(Word, Word)>),
    Workdir(Word),
    User(Word),
    Expose(Vec<Word>),
    Volume(Vec<Word>),
    StopSignal(Word),
    Shell(Vec<String>),
    Cmd(CommandLine),
    Entrypoint(CommandLine),
    Maintainer(String),
}

#[derive(Debug)]
pub(crate) struct From {
    pub(crate) image: Word,
    /// In lower case, as stage names are compared.
    pub(crate) name: Option<Word>,
    pub(crate) platform: Option<Word>,
}

/// The two forms of RUN, CMD and ENTRYPOINT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CommandLine {
    Shell(String),
    Exec(Vec<String>),
}

#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) line: CommandLine,
    pub(crate) heredocs: Vec<Heredoc>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) network: Option<Word>,
    /// `--security=insecure`, where it stands.
    pub(crate) insecure: Option<Span>,
}

/// `--mount=key=value,…` of RUN, its options in order.
#[derive(Debug)]
pub(crate) struct Mount {
    pub(crate) span: Span,
    pub(crate) options: Vec<(Word, Option<Word>)>,
}

impl Mount {
    /// The stage or image that it is from.
    pub(crate) fn from(&self) -> Option<&Word> {
        self.options.iter().find(|(key, _)| key.text == "from")?.1.as_ref()
    }
}

/// Docker's health check, times in nanoseconds; 0 and an empty list are "as the base has it".
#[derive(Debug, Default)]
pub(crate) struct Healthcheck {
    pub(crate) test: Vec<String>,
    pub(crate) interval: u64,
    pub(crate) timeout: u64,
    pub(crate) start_period: u64,
    pub(crate) start_interval: u64,
    pub(crate) retries: u32,
}

/// COPY and ADD.
#[derive(Debug)]
pub(crate) struct Copy {
    /// It is an ADD.
    pub(crate) add: bool,
    /// As it was told; else files of the context are unpacked by ADD, and what it fetches is not.
    pub(crate) unpack: Option<bool>,
    pub(crate) checksum: Option<Word>,
    pub(crate) keep_git_dir: Option<(bool, Span)>,
    pub(crate) parents: bool,
    pub(crate) link: bool,
    pub(crate) exclude: Vec<Word>,
    pub(crate) from: Option<Word>,
    pub(crate) chown: Option<Word>,
    pub(crate) chmod: Option<Word>,
    pub(crate) sources: Vec<CopySource>,
    pub(crate) dest: Word,
}

#[derive(Debug)]
pub(crate) enum CopySource {
    Path(Word),
    Inline(Heredoc, Span),
}

impl CopySource {
    pub(crate) fn span(&self) -> Span {
        match self {
            CopySource::Path(word) => word.span,
            CopySource::Inline(_, span) => *span,
        }
    }
}
