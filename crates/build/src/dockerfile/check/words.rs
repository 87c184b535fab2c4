//! How instructions are written: their case, empty lines in them, key-value pairs of old, comments as descriptions.

use super::super::ast::{Instruction, Verb};
use super::{Checker, RULES};
use crate::error::Span;
use crate::suggest::nearest;

impl Checker<'_> {
    /// All instructions in one case: that of most of them.
    pub(super) fn casing(&mut self) {
        let file = self.file;
        let mut words: Vec<(Span, String)> = Vec::new();
        let mut add = |span: Span, text: &str| {
            let verb = text.split_whitespace().next().unwrap_or("").to_owned();
            words.push((Span { width: verb.chars().count().max(1), ..span }, verb));
        };
        for stage in file.stages.iter() {
            add(stage.span, &stage.text);
            stage.instructions.iter().for_each(|one| add(one.span, &one.text));
        }
        let lower = words.iter().filter(|(_, verb)| is_lower(verb)).count();
        let upper = words.iter().filter(|(_, verb)| is_upper(verb)).count();
        let (case, right): (&str, fn(&str) -> bool) =
            if lower > upper { ("lower", is_lower) } else { ("upper", is_upper) };
        for (span, verb) in words {
            if !right(&verb) {
                let what = format!("`{verb}` is not in {case} case, as most of this file is");
                self.add("ConsistentInstructionCasing", span, what);
            }
        }
    }

    /// Names in `# check=…`, on the line where they stand.
    pub(super) fn unknown(&mut self) {
        let file = self.file;
        let is_check = |line: &String| {
            line.trim_start_matches(['#', ' ', '\t']).to_ascii_lowercase().starts_with("check")
        };
        let at = file.source.lines.iter().position(is_check).unwrap_or(0);
        for name in &file.wishes.unknown {
            let near = nearest(name, RULES).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            let width = file.source.lines.get(at).map_or(1, |line| line.chars().count().max(1));
            let span = Span { line: at + 1, column: 1, width };
            self.add("UnknownCheck", span, format!("there is no check `{name}`{near}"));
        }
    }

    pub(super) fn gaps(&mut self) {
        let file = self.file;
        for line in file.gaps.iter() {
            let span = Span { line: line + 1, column: 1, width: 1 };
            self.add("NoEmptyContinuation", span, "an empty line in an instruction that goes on".to_owned());
        }
    }

    /// `ENV key value`.
    pub(super) fn legacy(&mut self, instruction: &Instruction) {
        let verb = match &instruction.verb {
            Verb::Env(_) => "ENV",
            Verb::Label(_) => "LABEL",
            _ => return,
        };
        let first = instruction.text.split_whitespace().nth(1).unwrap_or("");
        if !first.contains('=') {
            let what = format!("`{verb} key=value` is how it is written, with an equals sign");
            self.add("LegacyKeyValueFormat", instruction.span, what);
        }
    }

    /// A comment right above a named stage or an ARG begins with its name.
    pub(super) fn descriptions(&mut self) {
        let file = self.file;
        let mut named: Vec<(Span, &str)> = Vec::new();
        for stage in file.stages.iter() {
            if let Some(name) = &stage.from.name {
                named.push((stage.span, &name.text));
            }
        }
        let all = file.globals.iter().chain(file.stages.iter().flat_map(|stage| &stage.instructions));
        for instruction in all {
            if let Verb::Arg(args) = &instruction.verb
                && let Some((name, _)) = args.first()
            {
                named.push((instruction.span, &name.text));
            }
        }
        for (span, name) in named {
            let Some(above) = span.line.checked_sub(2).and_then(|i| file.source.lines.get(i)) else {
                continue;
            };
            let Some(comment) = above.trim_start().strip_prefix('#') else { continue };
            // A directive describes nothing.
            let is_directive = span.line == 2 && comment.contains('=');
            let said = comment.split_whitespace().next().unwrap_or("");
            if !is_directive && !said.is_empty() && !said.eq_ignore_ascii_case(name) {
                let what = format!("a comment above `{name}` that describes it begins with the name");
                let span = Span { line: span.line - 1, column: 1, width: above.chars().count().max(1) };
                self.add("InvalidDefinitionDescription", span, what);
            }
        }
    }
}

fn is_lower(word: &str) -> bool {
    !word.chars().any(|c| c.is_ascii_uppercase())
}

fn is_upper(word: &str) -> bool {
    !word.chars().any(|c| c.is_ascii_lowercase())
}
