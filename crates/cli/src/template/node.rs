//! A template as a tree. Displayed, a node is its text again: errors show it.

use std::fmt;

use super::quote;

pub(super) type List = Vec<Node>;

#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    Action(Pipe),
    If(Branch),
    With(Branch),
    Range(Branch),
    Break,
    Continue,
    Template { at: usize, name: String, pipe: Option<Pipe> },
}

/// `{{if pipe}} then {{else}} other {{end}}`, and its like.
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) pipe: Pipe,
    pub(super) then: List,
    pub(super) other: Option<List>,
}

/// `$a, $b := command | command`.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) at: usize,
    pub(super) assigns: bool,
    pub(super) variables: Vec<String>,
    pub(super) commands: Vec<Command>,
}

/// A word and what it is applied to.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) words: Vec<Word>,
}

#[derive(Debug)]
pub(super) struct Word {
    pub(super) at: usize,
    pub(super) kind: WordKind,
}

#[derive(Debug)]
pub(super) enum WordKind {
    Dot,
    Nil,
    Bool(bool),
    Number(Number),
    Text {
        written: String,
        text: String,
    },
    /// With its fields; the name begins with `$`.
    Variable(Vec<String>),
    Field(Vec<String>),
    Chain(Box<Word>, Vec<String>),
    Function(String),
    Pipe(Pipe),
}

/// A number constant: whole where it can be one.
#[derive(Clone, Debug)]
pub(super) struct Number {
    pub(super) written: String,
    pub(super) whole: Option<i64>,
    pub(super) float: Option<f64>,
}

impl Number {
    /// Go's syntax; without complex numbers and hexadecimal floats, which nothing here could be compared with.
    pub(super) fn of(written: &str) -> Option<Number> {
        let (sign, digits) = match written.strip_prefix('-') {
            Some(digits) => (-1, digits),
            None => (1, written.strip_prefix('+').unwrap_or(written)),
        };
        if digits.starts_with(['+', '-', '_']) || digits.ends_with('_') || digits.contains("__") {
            return None;
        }
        let plain = digits.replace('_', "");
        let lower = plain.to_ascii_lowercase();
        let radix = match lower.get(..2) {
            Some("0x") => Some((16, 2)),
            Some("0b") => Some((2, 2)),
            Some("0o") => Some((8, 2)),
            _ if lower.len() > 1 && lower.starts_with('0') && !lower.contains(['.', 'e']) => Some((8, 1)),
            _ => None,
        };
        let parse = |digits: &str, radix| {
            i128::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with(['+', '-']))
        };
        let whole = match radix {
            Some((radix, skip)) => Some(parse(lower.get(skip..)?, radix)?),
            None => parse(&lower, 10),
        };
        let numeric = lower.bytes().all(|byte| byte.is_ascii_digit() || b".e+-".contains(&byte));
        let float: Option<f64> = if radix.is_none() && numeric { lower.parse().ok() } else { None };
        let float = float.map(|float| float * f64::from(sign));
        if whole.is_none() && float.is_none() {
            return None;
        }
        let whole = whole.and_then(|whole| i64::try_from(whole * i128::from(sign)).ok());
        Some(Number { written: written.to_owned(), whole, float })
    }

    /// Whether it is written as a float.
    pub(super) fn is_float(&self) -> bool {
        self.float.is_some() && self.written.contains(['.', 'e', 'E'])
    }
}

impl fmt::Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.variables.is_empty() {
            write!(f, "{} {} ", self.variables.join(", "), if self.assigns { "=" } else { ":=" })?;
        }
        for (index, command) in self.commands.iter().enumerate() {
            if index > 0 {
                f.write_str(" | ")?;
            }
            write!(f, "{command}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, word) in self.words.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            match &word.kind {
                WordKind::Pipe(pipe) => write!(f, "({pipe})")?,
                _ => write!(f, "{word}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            WordKind::Dot => f.write_str("."),
            WordKind::Nil => f.write_str("nil"),
            WordKind::Bool(yes) => write!(f, "{yes}"),
            WordKind::Number(number) => f.write_str(&number.written),
            WordKind::Text { written, .. } => f.write_str(written),
            WordKind::Variable(names) => f.write_str(&names.join(".")),
            WordKind::Field(names) => write!(f, ".{}", names.join(".")),
            WordKind::Chain(of, names) => match &of.kind {
                WordKind::Pipe(pipe) => write!(f, "({pipe}).{}", names.join(".")),
                _ => write!(f, "{of}.{}", names.join(".")),
            },
            WordKind::Function(name) => f.write_str(name),
            WordKind::Pipe(pipe) => write!(f, "{pipe}"),
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list =
            |f: &mut fmt::Formatter<'_>, list: &List| list.iter().try_for_each(|node| write!(f, "{node}"));
        let branch = |f: &mut fmt::Formatter<'_>, name: &str, branch: &Branch| {
            write!(f, "{{{{{name} {}}}}}", branch.pipe)?;
            list(f, &branch.then)?;
            if let Some(other) = &branch.other {
                f.write_str("{{else}}")?;
                list(f, other)?;
            }
            f.write_str("{{end}}")
        };
        match self {
            Node::Text(text) => f.write_str(text),
            Node::Action(pipe) => write!(f, "{{{{{pipe}}}}}"),
            Node::If(of) => branch(f, "if", of),
            Node::With(of) => branch(f, "with", of),
            Node::Range(of) => branch(f, "range", of),
            Node::Break => f.write_str("{{break}}"),
            Node::Continue => f.write_str("{{continue}}"),
            Node::Template { name, pipe: None, .. } => write!(f, "{{{{template {}}}}}", quote::quote(name)),
            Node::Template { name, pipe: Some(pipe), .. } => {
                write!(f, "{{{{template {} {pipe}}}}}", quote::quote(name))
            }
        }
    }
}
