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
    Run(CommandLine, Vec<Heredoc>),
    Copy(Copy),
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
pub(crate) struct Copy {
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
