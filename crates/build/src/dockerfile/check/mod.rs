//! Advice about a Dockerfile that is right all the same: rules of BuildKit's linter, by their names.

mod stages;
mod values;
mod wishes;
mod words;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use coracle_host::Kind;

use super::ast::{CommandLine, Verb, Word};
use super::{Dockerfile, StageText};
use crate::error::{Diagnostic, Span};
use crate::ignore::Ignore;
use crate::image::ImageConfig;

pub(crate) use wishes::Wishes;

/// One piece of advice.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Lint {
    /// The rule's name, as docker's documentation of build checks has it: `MaintainerDeprecated`.
    pub rule: &'static str,
    /// What is meant, at its place.
    pub diagnostic: Diagnostic,
}

/// What is known besides the text. More of it makes for more advice.
#[derive(Clone, Debug, Default)]
pub struct CheckFacts {
    images: BTreeMap<String, ImageConfig>,
    ignore: Option<Ignore>,
}

impl CheckFacts {
    /// Nothing but the text.
    pub fn new() -> CheckFacts {
        CheckFacts::default()
    }

    /// The configuration of an image, by the name that FROM has: which variables it sets.
    #[must_use]
    pub fn image(mut self, name: impl Into<String>, config: ImageConfig) -> CheckFacts {
        self.images.insert(name.into(), config);
        self
    }

    /// What the context ignores.
    #[must_use]
    pub fn ignore(mut self, ignore: Ignore) -> CheckFacts {
        self.ignore = Some(ignore);
        self
    }
}

/// All rules. Those that are only looked at when they are asked for come last.
pub(crate) const RULES: [&str; 28] = [
    "BuildToolsInImage",
    "ConsistentInstructionCasing",
    "CopyBeforeCostlyRun",
    "CopyIgnoredFile",
    "DeletedInLaterLayer",
    "DuplicateStageName",
    "ExposeInvalidFormat",
    "ExposeProtoCasing",
    "FromAsCasing",
    "FromPlatformFlagConstDisallowed",
    "InvalidBaseImagePlatform",
    "InvalidDefaultArgInFrom",
    "JSONArgsRecommended",
    "LegacyKeyValueFormat",
    "MaintainerDeprecated",
    "MultipleInstructionsDisallowed",
    "NoEmptyContinuation",
    "RedundantTargetPlatform",
    "ReservedStageName",
    "SecretsUsedInArgOrEnv",
    "StageNameCasing",
    "UndefinedArgInFrom",
    "UndefinedVar",
    "UnknownCheck",
    "UnusedInContext",
    "WorkdirRelativePath",
    "WrittenInTwoLayers",
    "InvalidDefinitionDescription",
];

/// How many times in a row a rule is told of at one line.
const PER_LINE: usize = 20;

impl Dockerfile {
    /// What could be better, in the order of the lines, as far as the text alone tells. The rules are those of
    /// BuildKit's linter (docker documentation, "Build checks"); what `# check=skip=…` names is left out.
    ///
    /// ```
    /// let file = coracle_build::Dockerfile::parse("Dockerfile", b"FROM scratch\nCMD run it\n")?;
    /// assert_eq!(file.check()[0].rule, "JSONArgsRecommended");
    /// # Ok::<(), coracle_build::Error>(())
    /// ```
    pub fn check(&self) -> Vec<Lint> {
        self.check_with(&CheckFacts::new())
    }

    /// [`Dockerfile::check`] with more than the text: `UndefinedVar` wants the images' configurations, `CopyIgnoredFile`
    /// the ignore file.
    pub fn check_with(&self, facts: &CheckFacts) -> Vec<Lint> {
        let mut checker = Checker {
            file: self,
            facts,
            found: Vec::new(),
            names: HashSet::new(),
            left: HashMap::new(),
            habits: HashMap::new(),
        };
        checker.unknown();
        checker.casing();
        checker.gaps();
        checker.global();
        for instruction in self.globals.iter() {
            checker.secrets(&instruction.verb);
        }
        for (index, stage) in self.stages.iter().enumerate() {
            checker.names(index);
            checker.platform(stage);
            checker.base(stage);
            checker.variables(index);
            let mut habits = checker.habits(stage);
            let mut once: HashMap<&str, Span> = HashMap::new();
            for instruction in &stage.instructions {
                let span = instruction.span;
                checker.secrets(&instruction.verb);
                checker.legacy(instruction);
                let single = match &instruction.verb {
                    Verb::Cmd(line) => {
                        checker.form(line, habits.shell, span, "CMD");
                        "CMD"
                    }
                    Verb::Entrypoint(line) => {
                        checker.form(line, habits.shell, span, "ENTRYPOINT");
                        "ENTRYPOINT"
                    }
                    Verb::Healthcheck(_) => "HEALTHCHECK",
                    Verb::Maintainer(_) => {
                        let what = "`MAINTAINER` is deprecated: use a label";
                        checker.add("MaintainerDeprecated", span, what.to_owned());
                        continue;
                    }
                    Verb::Workdir(word) => {
                        checker.workdir(word, &mut habits.workdir);
                        continue;
                    }
                    // Who sets a shell means it.
                    Verb::Shell(_) => {
                        habits.shell = true;
                        continue;
                    }
                    Verb::Expose(ports) => {
                        ports.iter().for_each(|port| checker.port(port));
                        continue;
                    }
                    Verb::Copy(copy) => {
                        checker.ignored(copy);
                        continue;
                    }
                    _ => continue,
                };
                // Told of at the one that does not count.
                if let Some(earlier) = once.insert(single, span) {
                    let what = format!("only the last `{single}` of a stage counts");
                    checker.add("MultipleInstructionsDisallowed", earlier, what);
                }
            }
            if let Some(name) = &stage.from.name {
                checker.habits.insert(&name.text, habits);
            }
        }
        checker.descriptions();
        checker.found.retain(|lint| self.wishes.wants(lint.rule));
        checker.found.sort_by_key(|lint| (lint.diagnostic.span().line, lint.diagnostic.span().column));
        checker.found
    }

    /// Whether the file wants to hear of this rule.
    pub(crate) fn wants(&self, rule: &str) -> bool {
        self.wishes.wants(rule)
    }

    /// Whether the file wants its builds to fail where [`Dockerfile::check`] finds anything (`# check=error=true`).
    pub fn check_is_error(&self) -> bool {
        self.wishes.error
    }
}

pub(super) struct Checker<'a> {
    file: &'a Dockerfile,
    facts: &'a CheckFacts,
    found: Vec<Lint>,
    /// Of the stages so far.
    names: HashSet<&'a str>,
    /// What the stages so far leave set, by their names; `None` where their image is not known.
    left: HashMap<&'a str, Option<BTreeSet<String>>>,
    habits: HashMap<&'a str, Habits>,
}

/// What a stage has done that one based on it need not.
#[derive(Clone, Copy, Default)]
struct Habits {
    /// Said where it works.
    workdir: bool,
    /// Said what shell it means.
    shell: bool,
}

impl<'a> Checker<'a> {
    fn add(&mut self, rule: &'static str, span: Span, message: String) {
        // One line can have more of them than anybody reads.
        let line = |lint: &Lint| (lint.rule, lint.diagnostic.span().line);
        let last = self.found.iter().rev().take(PER_LINE);
        if last.filter(|lint| line(lint) == (rule, span.line)).count() == PER_LINE {
            return;
        }
        let diagnostic = self.file.source.diagnostic(Kind::Invalid, span, message, None);
        self.found.push(Lint { rule, diagnostic });
    }

    fn habits(&self, stage: &StageText) -> Habits {
        let base = stage.from.image.text.as_str();
        let shell = self.facts.images.get(base).is_some_and(|config| config.config.shell.is_some());
        let of_stage = self.habits.get(base.to_lowercase().as_str()).copied();
        of_stage.unwrap_or(Habits { shell, ..Habits::default() })
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
        if !self.names.insert(&name.text) {
            self.add("DuplicateStageName", name.span, format!("there are two stages `{}`", name.text));
        }
    }

    fn form(&mut self, line: &CommandLine, shell: bool, span: Span, verb: &str) {
        if matches!(line, CommandLine::Shell(_)) && !shell {
            let what = format!("`{verb}` in the shell form does not pass signals on: use a JSON array");
            self.add("JSONArgsRecommended", span, what);
        }
    }

    /// What is told of once is mended there for all that follow.
    fn workdir(&mut self, word: &Word, known: &mut bool) {
        // What a variable or a quote begins with can't be told here.
        if !std::mem::replace(known, true) && !word.text.starts_with(['/', '$', '"', '\'']) {
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
    words.iter().any(|w| secret.contains(w))
        && !words.iter().any(|w| ["public", "file", "version"].contains(w))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, facts: &CheckFacts) -> Vec<(usize, &'static str)> {
        let file = Dockerfile::parse("D", text.as_bytes()).unwrap();
        file.check_with(facts).iter().map(|lint| (lint.diagnostic.span().line, lint.rule)).collect()
    }

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
        assert_eq!(
            found(text, &CheckFacts::new()),
            [
                (1, "SecretsUsedInArgOrEnv"),
                (2, "FromAsCasing"),
                (2, "StageNameCasing"),
                (3, "MaintainerDeprecated"),
                (4, "WorkdirRelativePath"),
                (5, "JSONArgsRecommended"),
                (5, "MultipleInstructionsDisallowed"),
                (7, "DuplicateStageName"),
                (10, "SecretsUsedInArgOrEnv"),
                (13, "ReservedStageName"),
            ]
        );
        assert!(Dockerfile::parse("D", b"FROM a AS b\nCMD [\"x\"]\n").unwrap().check().is_empty());
    }

    #[test]
    fn rules_about_words_and_values() {
        let text = "\
ARG TAG
ARG OK=1
FROM --platform=linux/amd64 a:$TAG
env a=b
ENV name value
LABEL key value
EXPOSE 80/TCP 127.0.0.1:80:80 $x
RUN a \\

  && b
FROM --platform=$TARGETPLATFORM a:$OK-$NONE
FROM --platform=$BUILDPLATFORM a
";
        assert_eq!(
            found(text, &CheckFacts::new()),
            [
                (3, "FromPlatformFlagConstDisallowed"),
                (3, "InvalidDefaultArgInFrom"),
                (4, "ConsistentInstructionCasing"),
                (5, "LegacyKeyValueFormat"),
                (6, "LegacyKeyValueFormat"),
                (7, "ExposeProtoCasing"),
                (7, "ExposeInvalidFormat"),
                (9, "NoEmptyContinuation"),
                (11, "RedundantTargetPlatform"),
                (11, "InvalidDefaultArgInFrom"),
                (11, "UndefinedArgInFrom"),
            ]
        );
    }

    #[test]
    fn rules_that_want_facts() {
        let text = "\
FROM base AS one
ARG V
COPY $V $HOM ${X:-y} /$LANG
COPY secret.txt src /d/
FROM one
ENV a=$V b=$W c=$PATH
FROM unknown
ENV a=$anything
";
        let mut config = ImageConfig::scratch();
        config.config.env = vec!["LANG=C".into(), "HOME=/root".into()];
        let ignore = Ignore::parse("i", b"*.txt").unwrap();
        let facts = CheckFacts::new().image("base", config).ignore(ignore);
        let expected = [(3, "UndefinedVar"), (4, "CopyIgnoredFile"), (6, "UndefinedVar")];
        assert_eq!(found(text, &facts), expected);
        let file = Dockerfile::parse("D", text.as_bytes()).unwrap();
        let first = file.check_with(&facts).remove(0).diagnostic.to_string();
        assert_eq!(
            first,
            "D:3:9: nothing sets `$HOM`; did you mean `$HOME`?\n  |\n3 | COPY $V $HOM ${X:-y} /$LANG\n  |         ^^^^"
        );
        assert_eq!(found(text, &CheckFacts::new()), []);
    }

    /// As BuildKit's linter has them, beyond what its documentation says.
    #[test]
    fn what_is_said_once_or_by_a_base_holds() {
        let text = "\
FROM --platform=linux/amd64 a AS build-amd64
FROM --platform=linux/arm64 a AS other
SHELL [\"/bin/bash\", \"-c\"]
WORKDIR a
WORKDIR b
ENV TOKEN_FILE=/t PASSWORD_VERSION=2 MY_TOKEN=3
FROM other
WORKDIR c
CMD run
FROM shelled
CMD run
FROM foreign
";
        let (mut shelled, mut foreign) = (ImageConfig::scratch(), ImageConfig::scratch());
        shelled.config.shell = Some(vec!["/bin/bash".to_owned()]);
        foreign.architecture = oci_spec::image::Arch::Other("pdp11".to_owned());
        let facts = CheckFacts::new().image("shelled", shelled).image("foreign", foreign);
        let expected = [
            (2, "FromPlatformFlagConstDisallowed"),
            (4, "WorkdirRelativePath"),
            (6, "SecretsUsedInArgOrEnv"),
            (12, "InvalidBaseImagePlatform"),
        ];
        assert_eq!(found(text, &facts), expected);
        let brings_back = CheckFacts::new().ignore(Ignore::parse("i", b"*\n!src").unwrap());
        assert_eq!(found("FROM a\nCOPY lib /\nCOPY . /\n", &brings_back), []);
    }

    #[test]
    fn the_file_says_what_it_wants_checked() {
        let text =
            |directive: &str| format!("# check={directive}\nFROM a AS B\nCMD x\n# what\nFROM c AS d\n");
        let rules = |directive: &str| -> Vec<&str> {
            found(&text(directive), &CheckFacts::new()).into_iter().map(|(_, rule)| rule).collect()
        };
        assert_eq!(rules("error=false"), ["StageNameCasing", "JSONArgsRecommended"]);
        assert_eq!(rules("skip=StageNameCasing"), ["JSONArgsRecommended"]);
        assert_eq!(rules("skip=JSONArgsRecommended,stagenamecasing; error=true"), [""; 0]);
        assert_eq!(rules("skip=all"), [""; 0]);
        let experimental =
            "skip=StageNameCasing,JSONArgsRecommended;experimental=InvalidDefinitionDescription";
        assert_eq!(rules(experimental), ["InvalidDefinitionDescription"]);
        assert!(Dockerfile::parse("D", text("error=true").as_bytes()).unwrap().check_is_error());
        let file = Dockerfile::parse("D", text("skip=StageNameCasin").as_bytes()).unwrap();
        let told = file.check().remove(0).diagnostic.to_string();
        let what = "D:1:1: there is no check `StageNameCasin`; did you mean `StageNameCasing`?";
        assert!(told.starts_with(what), "{told}");
        for (directive, words) in
            [("error=maybe", "`error` is `true` or `false`"), ("frob=1", "`frob` is no option of `check`")]
        {
            let error = Dockerfile::parse("D", text(directive).as_bytes()).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
