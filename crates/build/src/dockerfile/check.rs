//! Advice about a Dockerfile that is right all the same: rules of BuildKit's linter, by their names.

use coracle_host::Kind;

use super::Dockerfile;
use super::ast::{CommandLine, Verb, Word};
use crate::error::{Diagnostic, Span};

/// One piece of advice.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Lint {
    /// The rule's name, as docker's documentation of build checks has it: `MaintainerDeprecated`.
    pub rule: &'static str,
    /// What is meant, at its place.
    pub diagnostic: Diagnostic,
}

impl Dockerfile {
    /// What could be better, in the order of the lines. The rules are those of BuildKit's linter (docker
    /// documentation, "Build checks"), as far as the text alone tells: `StageNameCasing`, `FromAsCasing`,
    /// `DuplicateStageName`, `ReservedStageName`, `MaintainerDeprecated`, `JSONArgsRecommended`,
    /// `MultipleInstructionsDisallowed`, `WorkdirRelativePath` and `SecretsUsedInArgOrEnv`.
    ///
    /// ```
    /// let file = coracle_build::Dockerfile::parse("Dockerfile", b"FROM scratch\nCMD run it\n")?;
    /// assert_eq!(file.check()[0].rule, "JSONArgsRecommended");
    /// # Ok::<(), coracle_build::Error>(())
    /// ```
    pub fn check(&self) -> Vec<Lint> {
        let mut checker = Checker { file: self, found: Vec::new() };
        for instruction in self.globals.iter() {
            checker.secrets(&instruction.verb);
        }
        for (index, stage) in self.stages.iter().enumerate() {
            checker.names(index);
            let (mut absolute, mut shell) = (false, false);
            let mut once: Vec<&str> = Vec::new();
            for instruction in &stage.instructions {
                let span = instruction.span;
                checker.secrets(&instruction.verb);
                let single = match &instruction.verb {
                    Verb::Cmd(line) => {
                        checker.form(line, shell, span, "CMD");
                        "CMD"
                    }
                    Verb::Entrypoint(line) => {
                        checker.form(line, shell, span, "ENTRYPOINT");
                        "ENTRYPOINT"
                    }
                    Verb::Healthcheck(_) => "HEALTHCHECK",
                    Verb::Maintainer(_) => {
                        let what = "`MAINTAINER` is deprecated: use a label";
                        checker.add("MaintainerDeprecated", span, what.to_owned());
                        continue;
                    }
                    Verb::Workdir(word) => {
                        checker.workdir(word, &mut absolute);
                        continue;
                    }
                    // Who sets a shell means it.
                    Verb::Shell(_) => {
                        shell = true;
                        continue;
                    }
                    _ => continue,
                };
                if once.contains(&single) {
                    let what = format!("only the last `{single}` of a stage counts");
                    checker.add("MultipleInstructionsDisallowed", span, what);
                }
                once.push(single);
            }
        }
        checker.found.sort_by_key(|lint| (lint.diagnostic.span().line, lint.diagnostic.span().column));
        checker.found
    }
}

struct Checker<'a> {
    file: &'a Dockerfile,
    found: Vec<Lint>,
}

impl Checker<'_> {
    fn add(&mut self, rule: &'static str, span: Span, message: String) {
        let diagnostic = self.file.source.diagnostic(Kind::Invalid, span, message, None);
        self.found.push(Lint { rule, diagnostic });
    }

    fn names(&mut self, index: usize) {
        let stage = &self.file.stages[index];
        let Some(name) = &stage.from.name else { return };
        let words: Vec<&str> = stage.text.split_whitespace().collect();
        let [keyword, .., r#as, written] = words.as_slice() else { return };
        if *written != name.text {
            let what = format!("the stage name `{written}` is not in lower case");
            self.add("StageNameCasing", name.span, what);
        }
        let upper = |word: &str| word.chars().all(|c| c.is_ascii_uppercase());
        if upper(keyword) != upper(r#as) {
            let what = format!("`{keyword}` and `{}` are not in the same case", r#as);
            self.add("FromAsCasing", stage.span, what);
        }
        if ["scratch", "context"].contains(&name.text.as_str()) {
            self.add("ReservedStageName", name.span, format!("`{}` has a meaning of its own", name.text));
        }
        let earlier = self.file.stages[..index].iter();
        let twice = earlier.filter_map(|s| s.from.name.as_ref()).any(|other| other.text == name.text);
        if twice {
            self.add("DuplicateStageName", name.span, format!("there are two stages `{}`", name.text));
        }
    }

    fn form(&mut self, line: &CommandLine, shell: bool, span: Span, verb: &str) {
        if matches!(line, CommandLine::Shell(_)) && !shell {
            let what = format!("`{verb}` in the shell form does not pass signals on: use a JSON array");
            self.add("JSONArgsRecommended", span, what);
        }
    }

    fn workdir(&mut self, word: &Word, absolute: &mut bool) {
        // What a variable or a quote begins with can't be told here.
        if word.text.starts_with(['/', '$', '"', '\'']) {
            *absolute = true;
        } else if !*absolute {
            let what = format!("`{}` is relative to whatever the base image has", word.text);
            self.add("WorkdirRelativePath", word.span, what);
        }
    }

    fn secrets(&mut self, verb: &Verb) {
        let names: Vec<&Word> = match verb {
            Verb::Env(pairs) => pairs.iter().map(|(name, _)| name).collect(),
            Verb::Arg(args) => args.iter().map(|(name, _)| name).collect(),
            _ => return,
        };
        for name in names.into_iter().filter(|name| sounds_secret(&name.text)) {
            let what = format!("`{}` sounds like a secret, and stays in the image: mount it", name.text);
            self.add("SecretsUsedInArgOrEnv", name.span, what);
        }
    }
}

/// By whole words of the name, as BuildKit has them.
fn sounds_secret(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let words: Vec<&str> = lower.split('_').collect();
    let secret = [
        "apikey",
        "auth",
        "credential",
        "credentials",
        "key",
        "password",
        "pword",
        "passwd",
        "secret",
        "token",
    ];
    words.iter().any(|w| secret.contains(w)) && !words.contains(&"public")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_at_their_lines() {
        let text = "\
ARG NPM_TOKEN
FROM a as Base
MAINTAINER me
WORKDIR app
CMD run it
CMD [\"x\"]
FROM a AS base
WORKDIR /a
WORKDIR b
ENV AWS_SECRET_ACCESS_KEY=1 MONKEY=2 PUBLIC_KEY=3
SHELL [\"/bin/bash\", \"-c\"]
ENTRYPOINT run
FROM a AS scratch
";
        let file = Dockerfile::parse("D", text.as_bytes()).unwrap();
        let found: Vec<_> = file.check().iter().map(|l| (l.diagnostic.span().line, l.rule)).collect();
        assert_eq!(
            found,
            [
                (1, "SecretsUsedInArgOrEnv"),
                (2, "FromAsCasing"),
                (2, "StageNameCasing"),
                (3, "MaintainerDeprecated"),
                (4, "WorkdirRelativePath"),
                (5, "JSONArgsRecommended"),
                (6, "MultipleInstructionsDisallowed"),
                (7, "DuplicateStageName"),
                (10, "SecretsUsedInArgOrEnv"),
                (13, "ReservedStageName"),
            ]
        );
        assert!(Dockerfile::parse("D", b"FROM a AS b\nCMD [\"x\"]\n").unwrap().check().is_empty());
    }
}
