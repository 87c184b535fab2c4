//! What a stage's steps depended on when they were last looked at, so that a miss can be told apart: which file, which
//! variable, which base image.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::mount::{Network, RunMount};
use crate::plan::{Op, Step};

/// What made a step another one than the last time this stage was built.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The stage was never built here before, or all that was known of it is gone.
    First,
    /// The image that the stage starts from is another one.
    Base {
        /// Its name in the Dockerfile.
        image: String,
    },
    /// The stage that it starts from came out different.
    Stage {
        /// Its title.
        stage: String,
    },
    /// The instruction was written differently, or stood elsewhere.
    Instruction {
        /// As it was; `None` where there was none.
        before: Option<String>,
    },
    /// A variable that the command sees has another value, is new, or is gone.
    Variable {
        /// Its name.
        name: String,
    },
    /// Something else that the instruction sets, by name: `user`, `directory`, `shell`, `network`, a mount.
    Setting {
        /// Its name.
        name: String,
    },
    /// A file that is copied or mounted.
    File {
        /// Its path where it comes from.
        path: String,
        /// What became of it.
        how: FileChange,
    },
    /// Files from another stage or image, which came out different there.
    Files,
    /// It is all the same, but the result was removed.
    Evicted,
    /// It is all the same, but the cache that was imported only knows what it comes to, and has no files of it.
    NotCarried,
}

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileChange {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// Its content, kind or link target is another.
    Changed,
    /// Its mode or extended attributes are others.
    Attributes,
}

/// Path and fingerprint of everything that a step reads from a context, see [`print`].
pub(crate) type Files = Vec<(String, u64)>;

/// Bits of a fingerprint that stand for attributes.
const ATTRIBUTES: u32 = 24;

/// The fingerprint of a file: of its content, and of its attributes in the lowest bits.
pub(crate) fn print(content: u64, attributes: u64) -> u64 {
    content << ATTRIBUTES | attributes & ((1 << ATTRIBUTES) - 1)
}

/// What one step depended on.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct StepTrace {
    pub(crate) text: String,
    pub(crate) key: String,
    /// The snapshot below.
    on: String,
    /// Names and fingerprints: never values, which may be nobody's business.
    parts: BTreeMap<String, u64>,
    /// The digest of all files, and each of them where they are from a context.
    files: String,
    list: Option<Files>,
    /// How often it was the first of its stage to be built again.
    pub(crate) misses: u32,
    /// How long it took when it was last built.
    pub(crate) milliseconds: u64,
    pub(crate) runs: bool,
}

/// What a stage depended on.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct StageTrace {
    pub(crate) base: String,
    /// How often any of it was built.
    pub(crate) builds: u32,
    pub(crate) steps: Vec<StepTrace>,
}

fn fingerprint(bytes: &[u8]) -> u64 {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    u64::from_le_bytes([
        digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7],
    ])
}

const VARIABLE: &str = "variable ";

impl StepTrace {
    pub(crate) fn new(step: &Step, on: &str, key: &str, files: String, list: Option<Files>) -> StepTrace {
        let mut parts = BTreeMap::new();
        let mut runs = false;
        match &step.op {
            Op::Run(command) => {
                runs = true;
                for (name, value) in &command.env {
                    parts.insert(format!("{VARIABLE}{name}"), fingerprint(value.as_bytes()));
                }
                let mut add = |name: &str, value: &str| {
                    parts.insert(name.to_owned(), fingerprint(value.as_bytes()));
                };
                add("user", &command.user);
                add("directory", &command.cwd);
                add("host name", &command.hostname);
                let (last, shell) = command.argv.split_last().map_or(("", &[][..]), |(l, s)| (l.as_str(), s));
                add("shell", &shell.join("\0"));
                add("command", last);
                if command.network != Network::Default {
                    add("network", &command.network.to_string());
                }
                if command.insecure {
                    add("security", "insecure");
                }
                for (name, soft, hard) in &command.rlimits {
                    add(&format!("limit {name}"), &format!("{soft}:{hard}"));
                }
                if let Some(bytes) = command.shm_size {
                    add("size of /dev/shm", &bytes.to_string());
                }
                for (name, address) in &command.hosts {
                    add(&format!("host {name}"), &format!("{address:?}"));
                }
                for mount in &command.mounts {
                    add(&format!("mount at {}", mount.target().unwrap_or("-")), &shown(mount));
                }
            }
            Op::Copy(copy) => {
                let mut add = |name: &str, value: &str| {
                    parts.insert(name.to_owned(), fingerprint(value.as_bytes()));
                };
                add("destination", &copy.dest);
                add("owner", copy.chown.as_deref().unwrap_or(""));
                add("mode", &copy.chmod.as_ref().map_or(String::new(), ToString::to_string));
                add("sources", &format!("{:?}", copy.sources));
            }
            Op::MakeDir { path, user } => {
                parts.insert("directory".to_owned(), fingerprint(path.as_bytes()));
                parts.insert("user".to_owned(), fingerprint(user.as_bytes()));
            }
            Op::Set => {}
        }
        StepTrace {
            text: step.text.clone(),
            key: key.to_owned(),
            on: on.to_owned(),
            parts,
            files,
            list,
            misses: 0,
            milliseconds: 0,
            runs,
        }
    }

    /// What it is that made `self` another step than `before`, the most telling first.
    fn since(&self, before: &StepTrace) -> Vec<Cause> {
        let mut changes = Vec::new();
        if self.text != before.text {
            changes.push(Cause::Instruction { before: Some(before.text.clone()) });
        }
        let names =
            self.parts.keys().chain(before.parts.keys().filter(|name| !self.parts.contains_key(*name)));
        for name in names.filter(|name| self.parts.get(*name) != before.parts.get(*name)) {
            changes.push(match name.strip_prefix(VARIABLE) {
                Some(name) => Cause::Variable { name: name.to_owned() },
                // Said already, by the text.
                None if self.text != before.text => continue,
                None => Cause::Setting { name: name.clone() },
            });
        }
        match (&self.list, &before.list) {
            _ if self.files == before.files => {}
            (Some(now), Some(then)) => changes.extend(files(now, then)),
            _ => changes.push(Cause::Files),
        }
        changes
    }
}

/// As the key has it, so without what differs from build to build.
fn shown(mount: &RunMount) -> String {
    mount.to_string()
}

/// Both in the order of the walk, which is not that of the paths.
fn files(now: &Files, then: &Files) -> Vec<Cause> {
    let before: BTreeMap<&str, u64> = then.iter().map(|(path, print)| (path.as_str(), *print)).collect();
    let after: BTreeMap<&str, u64> = now.iter().map(|(path, print)| (path.as_str(), *print)).collect();
    let change = |path: &str, how| Cause::File { path: path.to_owned(), how };
    let mut changes = Vec::new();
    for (path, print) in &after {
        match before.get(path) {
            None => changes.push(change(path, FileChange::Added)),
            Some(old) if old >> ATTRIBUTES != print >> ATTRIBUTES => {
                changes.push(change(path, FileChange::Changed));
            }
            Some(old) if old != print => changes.push(change(path, FileChange::Attributes)),
            Some(_) => {}
        }
    }
    let gone = before.keys().filter(|path| !after.contains_key(*path));
    changes.extend(gone.map(|path| change(path, FileChange::Removed)));
    changes
}

impl StageTrace {
    /// Why the step at `nth` place, the first of its stage that is not in the cache, is not.
    pub(crate) fn explain(
        &self,
        now: &StageTrace,
        nth: usize,
        gone: Option<Cause>,
        from: Option<Cause>,
    ) -> Vec<Cause> {
        if let Some(gone) = gone {
            return vec![gone];
        }
        let Some(step) = now.steps.get(nth) else { return Vec::new() };
        if self.steps.is_empty() {
            return vec![Cause::First];
        }
        // The line may have moved: then it is the one with the same text.
        let same = self.steps.iter().find(|old| old.text == step.text);
        let Some(before) = same.or_else(|| self.steps.get(nth)) else {
            return vec![Cause::Instruction { before: None }];
        };
        let mut changes = step.since(before);
        let moved = same.is_some() && step.on != before.on;
        if self.base != now.base && nth == 0 {
            changes.extend(from);
        } else if changes.is_empty() && moved {
            changes.push(Cause::Instruction { before: self.steps.get(nth).map(|old| old.text.clone()) });
        }
        changes
    }

    /// Takes over what is counted from build to build; `first` is the step that was missed first.
    pub(crate) fn count(&mut self, before: &StageTrace, first: Option<usize>) {
        self.builds = before.builds.saturating_add(1);
        for step in &mut self.steps {
            let Some(old) = before.steps.iter().find(|old| old.text == step.text) else { continue };
            step.misses = old.misses;
            if step.milliseconds == 0 {
                step.milliseconds = old.milliseconds;
            }
        }
        // The first build of all is nobody's fault.
        if let Some(step) = first.and_then(|nth| self.steps.get_mut(nth)).filter(|_| before.builds > 0) {
            step.misses = step.misses.saturating_add(1);
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::First => f.write_str("it was not built here before"),
            Cause::Base { image } => write!(f, "the base image {image} is another one"),
            Cause::Stage { stage } => write!(f, "the stage {stage} came out different"),
            Cause::Instruction { before: Some(before) } => write!(f, "the instruction was: {before}"),
            Cause::Instruction { before: None } => f.write_str("the instruction is new"),
            Cause::Variable { name } => write!(f, "the variable {name} has another value"),
            Cause::Setting { name } => write!(f, "the {name} is another"),
            Cause::File { path, how } => {
                let how = match how {
                    FileChange::Added => "is new",
                    FileChange::Removed => "is gone",
                    FileChange::Changed => "changed",
                    FileChange::Attributes => "has another mode or other attributes",
                };
                write!(f, "{path} {how}")
            }
            Cause::Files => f.write_str("files from another stage or image came out different there"),
            Cause::Evicted => f.write_str("its result was removed from the cache"),
            Cause::NotCarried => f.write_str("the imported cache knows its result, and has no files of it"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(text: &str, on: &str, parts: &[(&str, u64)], list: &[(&str, u64)]) -> StepTrace {
        StepTrace {
            text: text.into(),
            on: on.into(),
            parts: parts.iter().map(|(name, print)| ((*name).to_owned(), *print)).collect(),
            files: format!("{list:?}"),
            list: Some(list.iter().map(|(path, print)| ((*path).to_owned(), *print)).collect()),
            ..StepTrace::default()
        }
    }

    fn stage(base: &str, steps: Vec<StepTrace>) -> StageTrace {
        StageTrace { base: base.into(), builds: 1, steps }
    }

    fn why(before: StepTrace, now: StepTrace) -> String {
        let changes = stage("b", vec![before]).explain(&stage("b", vec![now]), 0, None, None);
        changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn each_change_has_its_words() {
        let run = |parts| step("RUN x", "s", parts, &[]);
        assert_eq!(
            why(run(&[("variable V", 1)]), run(&[("variable V", 2)])),
            "the variable V has another value"
        );
        assert_eq!(
            why(run(&[("user", 1)]), run(&[("user", 2), ("variable N", 1)])),
            "the user is another; the variable N has another value"
        );
        assert_eq!(why(run(&[]), step("RUN y", "s", &[("command", 1)], &[])), "the instruction was: RUN x");
        let copy = |list| step("COPY . .", "s", &[], list);
        assert_eq!(
            why(
                copy(&[("a", print(1, 1)), ("b", print(1, 1)), ("d", print(1, 1)), ("e", print(1, 1))]),
                copy(&[("b", print(2, 1)), ("c", print(1, 1)), ("d", print(1, 1)), ("e", print(1, 2))]),
            ),
            "b changed; c is new; e has another mode or other attributes; a is gone"
        );
    }

    #[test]
    fn what_is_below_counts_too() {
        let run = || vec![step("RUN x", "s", &[], &[])];
        let base = Cause::Base { image: "i".into() };
        let (old, new) = (stage("b", run()), stage("c", vec![step("RUN x", "t", &[], &[])]));
        assert_eq!(old.explain(&new, 0, None, Some(base.clone())), [base]);
        assert_eq!(old.explain(&new, 0, Some(Cause::Evicted), None), [Cause::Evicted]);
        assert_eq!(StageTrace::default().explain(&new, 0, None, None), [Cause::First]);
        let added = stage("b", vec![step("RUN new", "s", &[], &[]), step("RUN x", "n", &[], &[])]);
        assert_eq!(old.explain(&added, 0, None, None), [Cause::Instruction { before: Some("RUN x".into()) }]);
    }

    #[test]
    fn misses_are_counted_for_the_first_step_only() {
        let steps = || vec![step("COPY . .", "s", &[], &[]), step("RUN x", "t", &[], &[])];
        let mut all = StageTrace::default();
        for round in 0..3 {
            let mut now = stage("b", steps());
            now.count(&all, Some(0));
            assert_eq!((now.builds, now.steps[0].misses, now.steps[1].misses), (round + 1, round, 0));
            all = now;
        }
    }
}
