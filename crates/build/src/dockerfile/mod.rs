//! The Dockerfile language: text in, instructions with places out.

pub(crate) mod ast;
mod check;
mod flags;
mod health;
mod instruction;
pub(crate) mod lines;
mod mount;
pub(crate) mod source;
#[cfg(test)]
mod tests;
mod words;

use std::sync::Arc;

pub use check::{CheckFacts, Lint};

use ast::{Instruction, Verb};
use source::{Problems, Source};

use crate::error::{Error, Result, Span};

/// A Dockerfile that has been read and holds no error that can be seen without its context, arguments and images.
///
/// The language is that of the Dockerfile reference (docker/dockerfile 1.x); what this version lacks of it (see the
/// crate's documentation) is refused by name.
///
/// ```
/// let error = coracle_build::Dockerfile::parse("Dockerfile", b"FROM scratch\nRUNN make\n").unwrap_err();
/// assert_eq!(error.to_string(), "\
/// Dockerfile:2:1: unknown instruction `RUNN`
///   |
/// 2 | RUNN make
///   | ^^^^ did you mean `RUN`?");
/// ```
#[derive(Clone, Debug)]
pub struct Dockerfile {
    pub(crate) source: Arc<Source>,
    pub(crate) escape: char,
    /// ARG instructions before the first FROM.
    pub(crate) globals: Arc<Vec<Instruction>>,
    pub(crate) stages: Arc<Vec<StageText>>,
    /// Physical lines (from 0) that are empty in the middle of an instruction.
    gaps: Arc<Vec<usize>>,
    /// `# check=…`
    wishes: Arc<check::Wishes>,
}

/// One FROM and what follows it.
#[derive(Debug)]
pub(crate) struct StageText {
    pub(crate) from: ast::From,
    pub(crate) span: Span,
    pub(crate) text: String,
    pub(crate) instructions: Vec<Instruction>,
}

impl Dockerfile {
    /// Reads a Dockerfile. `name` is what messages call it; a byte order mark and CRLF are accepted.
    ///
    /// # Errors
    /// All problems of the file at once, each with line, column, the line shown and a caret under what is meant.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Dockerfile> {
        let source = Source::new(name, bytes)?;
        let mut problems = Problems::new(&source);
        let Directives { first, escape, wishes } = directives(&source, &mut problems);
        let lines = lines::logical_lines(&source, first, escape, &mut problems);
        let mut globals = Vec::new();
        let mut stages: Vec<StageText> = Vec::new();
        let mut has_from = false;
        for line in &lines {
            let verb = line.text.split_whitespace().next().unwrap_or("");
            let is_from = verb.eq_ignore_ascii_case("FROM");
            if !has_from && !is_from && !verb.eq_ignore_ascii_case("ARG") {
                // Said once: what follows is then read as part of a stage.
                problems.invalid(line.whole(), "only `ARG` can stand before the first `FROM`");
                has_from = true;
            }
            has_from |= is_from;
            let Some(instruction) = instruction::parse(line, escape, &mut problems) else { continue };
            let Instruction { verb, span, text } = instruction;
            match (verb, stages.last_mut()) {
                (Verb::From(from), _) => {
                    stages.push(StageText { from, span, text, instructions: Vec::new() })
                }
                (verb, Some(stage)) => stage.instructions.push(Instruction { verb, span, text }),
                (verb, None) => globals.push(Instruction { verb, span, text }),
            }
        }
        problems.into_result()?;
        if stages.is_empty() {
            return Err(Error::invalid(format!("{name}: there is no `FROM` in it")));
        }
        Ok(Dockerfile {
            source: Arc::new(source),
            escape,
            globals: Arc::new(globals),
            stages: Arc::new(stages),
            gaps: Arc::new(lines.iter().flat_map(|line| line.gaps.iter().copied()).collect()),
            wishes: Arc::new(wishes),
        })
    }

    /// The name it was given.
    pub fn name(&self) -> &str {
        &self.source.name
    }

    /// The instructions in order: line (from 1) and text on one line.
    pub fn instructions(&self) -> impl Iterator<Item = (usize, &str)> {
        let globals = self.globals.iter().map(|i| (i.span.line, i.text.as_str()));
        globals.chain(self.stages.iter().flat_map(|stage| {
            std::iter::once((stage.span.line, stage.text.as_str()))
                .chain(stage.instructions.iter().map(|i| (i.span.line, i.text.as_str())))
        }))
    }
}

/// One instruction that an image has for builds from it (Dockerfile reference, "ONBUILD"). Its places are those in
/// its own text.
///
/// # Errors
/// What is wrong with it, in one sentence.
pub(crate) fn trigger(text: &str) -> std::result::Result<Instruction, (coracle_host::Kind, String)> {
    let failed = |error: Error| {
        let first = error.diagnostics().first().map(|d| d.message().to_owned());
        (error.kind(), first.unwrap_or_else(|| error.to_string()))
    };
    let source = Source::new("ONBUILD", text.as_bytes()).map_err(failed)?;
    let mut problems = Problems::new(&source);
    let lines = lines::logical_lines(&source, 0, '\\', &mut problems);
    let parsed = match lines.as_slice() {
        [line] => instruction::parse(line, '\\', &mut problems),
        _ => return Err((coracle_host::Kind::Invalid, "it is not one instruction".to_owned())),
    };
    problems.into_result().map_err(failed)?;
    match parsed {
        Some(Instruction { verb: Verb::From(_) | Verb::OnBuild(_) | Verb::Maintainer(_), .. }) | None => {
            Err((coracle_host::Kind::Invalid, "this instruction can't be a trigger".to_owned()))
        }
        Some(instruction) => Ok(instruction),
    }
}

/// What the first lines say of all others.
struct Directives {
    /// The line after them.
    first: usize,
    escape: char,
    wishes: check::Wishes,
}

/// Parser directives: comments `# key=value` on the first lines. The first line that is none ends them.
fn directives(source: &Source, problems: &mut Problems<'_>) -> Directives {
    let mut escape = '\\';
    let mut wishes = check::Wishes::default();
    let mut seen: Vec<String> = Vec::new();
    for (number, line) in source.lines.iter().enumerate() {
        let directive = line.trim_start().strip_prefix('#').and_then(|l| l.split_once('='));
        let Some((key, value)) = directive.map(|(k, v)| (k.trim().to_ascii_lowercase(), v.trim())) else {
            return Directives { first: number, escape, wishes };
        };
        let span = Span { line: number + 1, column: 1, width: line.chars().count().max(1) };
        match key.as_str() {
            "syntax" if !is_standard_syntax(value) => problems.unsupported(
                span,
                format!("the syntax `{value}` is a program of its own, which can't be loaded; `docker/dockerfile:1` is built in"),
            ),
            "escape" => match value {
                "\\" | "`" => escape = if value == "`" { '`' } else { '\\' },
                _ => problems.invalid(span, format!("the escape character is `\\` or `` ` ``, not `{value}`")),
            },
            "check" => match check::Wishes::parse(value) {
                Ok(read) => wishes = read,
                Err(what) => problems.invalid(span, what),
            },
            "syntax" => {}
            // A comment; and after a comment there are no more directives.
            _ => return Directives { first: number, escape, wishes },
        }
        if seen.contains(&key) {
            problems.invalid(span, format!("the directive `{key}` is there twice"));
        }
        seen.push(key);
    }
    Directives { first: source.lines.len(), escape, wishes }
}

/// Whether it names the frontend that this is one of.
pub(crate) fn is_standard_syntax(value: &str) -> bool {
    let name = value.split(['@']).next().unwrap_or("");
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    matches!(name.split(':').next(), Some("docker/dockerfile" | "docker/dockerfile-upstream"))
}
