//! `--name=value` after an instruction's name.

use std::collections::HashSet;
use std::ops::Range;

use coracle_host::Kind;

use super::ast::Word;
use super::lines::Line;
use super::source::Problems;
use super::words;
use crate::suggest::nearest;

/// What a flag is followed by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// `=value`, once; maybe an empty one.
    Value,
    /// `=value`, any number of times.
    Values,
    /// Nothing, or `=true` or `=false`.
    Switch,
}

/// The flags of one instruction, in order.
pub(crate) struct Flags {
    found: Vec<Flag>,
    /// Where the rest of the instruction begins.
    pub(crate) end: usize,
}

struct Flag {
    name: String,
    value: Option<Word>,
    at: Range<usize>,
}

impl Flags {
    /// Takes what begins with `--` from byte `from` on; a lone `--` ends the flags.
    pub(crate) fn take(line: &Line, from: usize, escape: char) -> Flags {
        let mut found = Vec::new();
        let mut end = from;
        for range in words::quoted(&line.text, from, escape) {
            let Some(body) = line.text[range.clone()].strip_prefix("--") else { break };
            end = range.end;
            if body.is_empty() {
                break;
            }
            let (name, value) = match body.split_once('=') {
                Some((name, value)) => {
                    let span = line.span(range.end - value.len()..range.end);
                    (name, Some(Word { text: value.to_owned(), span }))
                }
                None => (body, None),
            };
            found.push(Flag { name: name.to_owned(), value, at: range });
        }
        end += line.text[end..].len() - line.text[end..].trim_start().len();
        Flags { found, end }
    }

    /// The value of a flag that takes one. An empty one is as none.
    pub(crate) fn get(&self, name: &str) -> Option<Word> {
        self.found.iter().find(|f| f.name == name)?.value.clone().filter(|value| !value.text.is_empty())
    }

    /// All values of a flag that may be there several times.
    pub(crate) fn all(&self, name: &str) -> Vec<Word> {
        self.found.iter().filter(|f| f.name == name).filter_map(|f| f.value.clone()).collect()
    }

    /// Whether a switch is on, and where, if it is there.
    pub(crate) fn is_on(&self, name: &str) -> Option<(bool, Range<usize>)> {
        let flag = self.found.iter().find(|f| f.name == name)?;
        let on = flag.value.as_ref().is_none_or(|v| matches!(v.text.as_str(), "true" | "1"));
        Some((on, flag.at.clone()))
    }

    /// Whether a switch is there and on; `default` where it is not there.
    pub(crate) fn switch(&self, name: &str, default: bool) -> bool {
        self.is_on(name).map_or(default, |(on, _)| on)
    }

    /// Where the first flag stands, if there is one.
    pub(crate) fn first(&self) -> Option<Range<usize>> {
        self.found.first().map(|f| f.at.clone())
    }

    /// Whether all flags are among `known`, are there once, and have values. `later` are those of the language
    /// that this version refuses.
    pub(crate) fn check(
        &self,
        line: &Line,
        verb: &str,
        known: &[(&str, Takes)],
        later: &[&str],
        problems: &mut Problems<'_>,
    ) -> bool {
        let mut good = true;
        let mut met = HashSet::new();
        for flag in &self.found {
            let name = flag.name.as_str();
            let span = line.span(flag.at.clone());
            if later.contains(&name) {
                problems.unsupported(span, format!("`{verb} --{name}` is not supported yet"));
                good = false;
                continue;
            }
            let Some((_, takes)) = known.iter().find(|(known, _)| *known == name) else {
                let near = nearest(name, known.iter().map(|(name, _)| *name));
                let help = near.map(|near| format!("did you mean `--{near}`?"));
                problems.add(Kind::Invalid, span, format!("`{verb}` has no flag `--{name}`"), help);
                good = false;
                continue;
            };
            let value = flag.value.as_ref().map(|v| v.text.as_str());
            if *takes == Takes::Switch {
                if value.is_none_or(|v| ["true", "false", "1", "0"].contains(&v)) {
                    continue;
                }
                problems.invalid(span, format!("`--{name}` is `true` or `false`"));
            } else if value.is_none_or(|v| v.is_empty() && *takes == Takes::Values) {
                problems.invalid(span, format!("`--{name}` takes a value: --{name}=…"));
            } else if *takes == Takes::Value && !met.insert(name) {
                problems.invalid(span, format!("`--{name}` is there twice"));
            } else {
                continue;
            }
            good = false;
        }
        good
    }
}
