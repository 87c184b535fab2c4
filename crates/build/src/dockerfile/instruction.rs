//! One logical line becomes one instruction. Everything that isn't known is an error, never ignored.

use std::collections::HashMap;
use std::ops::Range;

use super::ast::{CommandLine, Copy, CopySource, From, Instruction, Run, Verb, Word};
use super::flags::{Flags, Takes};
use super::lines::{Heredoc, Line};
use super::source::Problems;
use super::words::{self, Json};
use super::{health, mount};
use crate::error::Span;
use crate::suggest::nearest;

const KNOWN: [&str; 18] = [
    "FROM",
    "RUN",
    "CMD",
    "LABEL",
    "MAINTAINER",
    "EXPOSE",
    "ENV",
    "COPY",
    "ENTRYPOINT",
    "VOLUME",
    "USER",
    "WORKDIR",
    "ARG",
    "STOPSIGNAL",
    "SHELL",
    "ADD",
    "HEALTHCHECK",
    "ONBUILD",
];

/// Reads the line's instruction; what is wrong goes to `problems`.
pub(crate) fn parse(line: &Line, escape: char, problems: &mut Problems<'_>) -> Option<Instruction> {
    let verb_end = line.text.find(char::is_whitespace).unwrap_or(line.text.len());
    let verb = line.text[..verb_end].to_ascii_uppercase();
    let verb_span = line.span(0..verb_end);
    if !KNOWN.contains(&verb.as_str()) {
        let help = nearest(&verb, KNOWN).map(|near| format!("did you mean `{near}`?"));
        let written = &line.text[..verb_end];
        problems.add(
            coracle_host::Kind::Invalid,
            verb_span,
            format!("unknown instruction `{written}`"),
            help,
        );
        return None;
    }
    let flags = Flags::take(line, verb_end, escape);
    let mut parser = Parser { line, escape, verb: &verb, flags, problems };
    let parsed = parser.verb();
    let complete = parser.flags_are_known();
    let verb = parsed?;
    complete.then(|| Instruction { verb, span: line.whole(), text: squeeze(&line.text) })
}

fn squeeze(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

struct Parser<'a, 'p> {
    line: &'a Line,
    escape: char,
    verb: &'a str,
    flags: Flags,
    problems: &'a mut Problems<'p>,
}

impl Parser<'_, '_> {
    fn verb(&mut self) -> Option<Verb> {
        if self.rest().is_empty() {
            let what = format!("`{}` says nothing: {}", self.verb, usage(self.verb));
            self.problems.invalid(self.line.whole(), what);
            return None;
        }
        Some(match self.verb {
            "FROM" => Verb::From(self.from()?),
            "RUN" => Verb::Run(self.run()?),
            "CMD" => Verb::Cmd(self.command()?),
            "ENTRYPOINT" => Verb::Entrypoint(self.command()?),
            "COPY" | "ADD" => Verb::Copy(self.copy()?),
            "HEALTHCHECK" => Verb::Healthcheck(health::parse(self.line, &self.flags, self.problems)?),
            "ONBUILD" => Verb::OnBuild(self.on_build()?),
            "ENV" => Verb::Env(self.pairs()?),
            "LABEL" => Verb::Label(self.pairs()?),
            "ARG" => Verb::Arg(self.args()?),
            "WORKDIR" => Verb::Workdir(self.all()),
            "USER" => Verb::User(self.all()),
            "STOPSIGNAL" => Verb::StopSignal(self.all()),
            "MAINTAINER" => Verb::Maintainer(self.rest().to_owned()),
            "EXPOSE" => Verb::Expose(self.blank_words()),
            "VOLUME" => match self.list()? {
                paths if paths.is_empty() => return self.invalid(format!("`VOLUME` {}", usage("VOLUME"))),
                paths => Verb::Volume(paths),
            },
            _ => Verb::Shell(match self.command()? {
                CommandLine::Exec(argv) if !argv.is_empty() => argv,
                _ => return self.invalid("`SHELL` takes a JSON array: SHELL [\"/bin/bash\", \"-c\"]"),
            }),
        })
    }

    fn flags_are_known(&mut self) -> bool {
        use Takes::{Switch, Value, Values};
        let known: &[(&str, Takes)] = match self.verb {
            "FROM" => &[("platform", Value)],
            "RUN" => &[("mount", Values), ("network", Value), ("security", Value)],
            "COPY" => &[
                ("from", Value),
                ("chown", Value),
                ("chmod", Value),
                ("link", Switch),
                ("parents", Switch),
                ("exclude", Values),
            ],
            "ADD" => &[
                ("chown", Value),
                ("chmod", Value),
                ("link", Switch),
                ("exclude", Values),
                ("unpack", Switch),
                ("checksum", Value),
                ("keep-git-dir", Switch),
            ],
            "HEALTHCHECK" => &health::FLAGS,
            _ => &[],
        };
        let later: &[&str] = if self.verb == "RUN" { &["device"] } else { &[] };
        self.flags.check(self.line, self.verb, known, later, self.problems)
    }

    fn start(&self) -> usize {
        self.flags.end
    }

    fn rest(&self) -> &str {
        &self.line.text[self.start()..]
    }

    fn invalid<T>(&mut self, message: impl Into<String>) -> Option<T> {
        self.problems.invalid(self.line.span(self.start()..self.line.text.len()), message);
        None
    }

    fn word(&self, range: Range<usize>) -> Word {
        Word { text: self.line.text[range.clone()].to_owned(), span: self.line.span(range) }
    }

    /// The whole rest as one word.
    fn all(&self) -> Word {
        self.word(self.start()..self.line.text.len())
    }

    fn blank_words(&self) -> Vec<Word> {
        words::blank(&self.line.text, self.start()).into_iter().map(|r| self.word(r)).collect()
    }

    /// A JSON array of strings, or words.
    fn list(&mut self) -> Option<Vec<Word>> {
        match words::json(self.rest()) {
            Json::Strings(strings) => {
                let span = self.all().span;
                Some(strings.into_iter().map(|text| Word { text, span }).collect())
            }
            Json::Other => self.invalid("an exec form holds strings only"),
            Json::No => Some(self.blank_words()),
        }
    }

    fn command(&mut self) -> Option<CommandLine> {
        match words::json(self.rest()) {
            Json::Strings(argv) if argv.is_empty() && self.verb == "RUN" => {
                self.invalid("`RUN []` runs nothing")
            }
            Json::Strings(argv) => Some(CommandLine::Exec(argv)),
            Json::Other => self.invalid("an exec form holds strings only"),
            Json::No => Some(CommandLine::Shell(self.rest().to_owned())),
        }
    }

    fn run(&mut self) -> Option<Run> {
        let line = self.command()?;
        let mut insecure = None;
        if let Some(security) = self.flags.get("security") {
            match security.text.as_str() {
                "sandbox" => {}
                "insecure" => insecure = Some(security.span),
                other => {
                    let what = format!("`--security` is `sandbox` or `insecure`, not `{other}`");
                    self.problems.invalid(security.span, what);
                }
            }
        }
        let mounts = self.flags.all("mount").iter().map(mount::parse).collect();
        let heredocs = self.line.heredocs.clone();
        Some(Run { line, heredocs, mounts, network: self.flags.get("network"), insecure })
    }

    /// The instruction is read to find what is wrong with it, and kept as text.
    fn on_build(&mut self) -> Option<String> {
        let rest = self.line.after(self.start());
        let verb = rest.text.split_whitespace().next().unwrap_or("").to_ascii_uppercase();
        if ["ONBUILD", "FROM", "MAINTAINER"].contains(&verb.as_str()) {
            return self.invalid(format!("`{verb}` can't be a trigger of `ONBUILD`"));
        }
        parse(&rest, self.escape, self.problems)?;
        let documents = rest.heredocs.iter().map(|h| format!("\n{}{}", h.text, h.name));
        Some(std::iter::once(rest.text.clone()).chain(documents).collect())
    }

    fn from(&mut self) -> Option<From> {
        let platform = self.flags.get("platform");
        let found = self.blank_words();
        let (image, name) = match found.as_slice() {
            [image] => (image, None),
            [image, r#as, name] if r#as.text.eq_ignore_ascii_case("as") => (image, Some(name)),
            [_, odd, ..] => {
                let what = format!("`FROM` {}; not `{}`", usage("FROM"), odd.text);
                self.problems.invalid(odd.span, what);
                return None;
            }
            [] => return None,
        };
        let name = match name {
            None => None,
            Some(word) => {
                let lower = word.text.to_lowercase();
                let good = lower.starts_with(|c: char| c.is_ascii_lowercase())
                    && lower
                        .chars()
                        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c));
                if !good {
                    let what = format!(
                        "`{}` can't name a stage: a letter first, then letters, digits, `-`, `_` and `.`",
                        word.text
                    );
                    self.problems.invalid(word.span, what);
                    return None;
                }
                Some(Word { text: lower, span: word.span })
            }
        };
        Some(From { image: image.clone(), name, platform })
    }

    fn copy(&mut self) -> Option<Copy> {
        let (from, chown, chmod) = (self.flags.get("from"), self.flags.get("chown"), self.flags.get("chmod"));
        let mut found = self.list()?;
        let dest = found.pop().filter(|_| !found.is_empty());
        let Some(dest) = dest else {
            return self.invalid(format!("`{}` {}", self.verb, usage("COPY")));
        };
        let mut sources = Vec::new();
        let heredocs: HashMap<Span, &Heredoc> =
            self.line.heredocs.iter().map(|h| (self.line.span(h.mark.clone()), h)).collect();
        for word in found {
            let heredoc = heredocs.get(&word.span).copied();
            sources.push(match heredoc {
                Some(heredoc) if from.is_some() => {
                    let what = format!("the here-document `{}` can't come from another stage", heredoc.name);
                    self.problems.invalid(word.span, what);
                    return None;
                }
                Some(heredoc) => CopySource::Inline(heredoc.clone(), word.span),
                None => CopySource::Path(word),
            });
        }
        let add = self.verb == "ADD";
        Some(Copy {
            add,
            unpack: self.flags.is_on("unpack").map(|(on, _)| on),
            checksum: self.flags.get("checksum"),
            keep_git_dir: self.flags.is_on("keep-git-dir").map(|(on, at)| (on, self.line.span(at))),
            parents: self.flags.switch("parents", false),
            link: self.flags.switch("link", false),
            exclude: self.flags.all("exclude"),
            from,
            chown,
            chmod,
            sources,
            dest,
        })
    }

    /// `key=value …`, or the old form `key value to the end`.
    fn pairs(&mut self) -> Option<Vec<(Word, Word)>> {
        let ranges = words::quoted(&self.line.text, self.start(), self.escape);
        let first = ranges.first()?.clone();
        if !self.line.text[first.clone()].contains('=') {
            let rest = self.line.text[first.end..].trim_start();
            if rest.is_empty() {
                let what = format!("`{}` {}", self.verb, usage(self.verb));
                self.problems.invalid(self.line.span(first), what);
                return None;
            }
            let at = self.line.text.len() - rest.len();
            return Some(vec![(self.word(first), self.word(at..self.line.text.len()))]);
        }
        let mut pairs = Vec::new();
        for range in ranges {
            let word = self.word(range.clone());
            let Some(equals) = word.text.find('=') else {
                let what = format!("`{}` has no `=`; quote blanks in values", word.text);
                self.problems.invalid(word.span, what);
                continue;
            };
            if equals == 0 {
                self.problems.invalid(word.span, format!("`{}` has no name before `=`", word.text));
                continue;
            }
            let middle = range.start + equals;
            pairs.push((self.word(range.start..middle), self.word(middle + 1..range.end)));
        }
        Some(pairs)
    }

    fn args(&mut self) -> Option<Vec<(Word, Option<Word>)>> {
        let mut args = Vec::new();
        for range in words::quoted(&self.line.text, self.start(), self.escape) {
            let equals = self.line.text[range.clone()].find('=').map(|e| range.start + e);
            let name = self.word(range.start..equals.unwrap_or(range.end));
            if name.text.is_empty() {
                self.problems.invalid(self.line.span(range), "a build argument has no name before `=`");
                continue;
            }
            args.push((name, equals.map(|e| self.word(e + 1..range.end))));
        }
        Some(args)
    }
}

fn usage(verb: &str) -> &'static str {
    match verb {
        "FROM" => "takes an image or stage, and maybe `AS name`",
        "COPY" | "ADD" => "takes at least one source and a destination",
        "ENV" | "LABEL" => "takes `name=value`, one or more",
        "ARG" => "takes `name` or `name=default`",
        "EXPOSE" => "takes ports, as `80` or `53/udp`",
        "WORKDIR" | "VOLUME" => "takes a path",
        "USER" => "takes a user, and maybe `:group`",
        "STOPSIGNAL" => "takes a signal, as `SIGTERM`",
        "MAINTAINER" => "takes a name",
        "HEALTHCHECK" => "takes `NONE`, or `CMD` and a command",
        "ONBUILD" => "takes an instruction",
        _ => "takes a command line, or a JSON array",
    }
}
