//! The matrix: forms of mounts, what they mount (there or not, a directory or a file), what they mount onto, and how.

use std::path::{Path, PathBuf};

/// As many places of each kind there are in the image, so that one container can have many cases.
pub(crate) const SLOTS: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `-v`
    Short,
    /// `--mount`
    Long,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// A bind of this name among what is planted.
    Bind(&'static str),
    /// A volume with a name that is not there, is empty, or has a row.
    Volume(State),
    Anonymous,
    /// In the way of `--tmpfs`, or of `--mount`.
    Tmpfs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Missing,
    Empty,
    Filled,
}

/// One command line.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) number: usize,
    form: Form,
    what: What,
    /// `/new/t`, `/has/dir` or `/has/file` of a slot.
    onto: &'static str,
    read_only: bool,
    no_copy: bool,
}

impl Case {
    pub(crate) fn target(&self) -> String {
        format!("{}{}", self.onto, self.number % SLOTS)
    }

    /// Where the source of a bind is.
    pub(crate) fn source(&self, sources: &Path) -> Option<PathBuf> {
        match self.what {
            What::Bind(name) => Some(sources.join(self.number.to_string()).join(name)),
            _ => None,
        }
    }

    pub(crate) fn volume(&self) -> Option<String> {
        matches!(self.what, What::Volume(_)).then(|| format!("volume{}", self.number))
    }

    pub(crate) fn is_volume_there(&self) -> bool {
        matches!(self.what, What::Volume(State::Empty | State::Filled))
    }

    pub(crate) fn is_volume_filled(&self) -> bool {
        self.what == What::Volume(State::Filled)
    }

    /// Its words on the command line.
    pub(crate) fn flags(&self, sources: &Path) -> Vec<String> {
        let target = self.target();
        let source = self.source(sources).map(|path| path.display().to_string()).or(self.volume());
        if self.form == Form::Short {
            let options: Vec<&str> = [(self.read_only, "ro"), (self.no_copy, "nocopy")]
                .iter()
                .filter(|(on, _)| *on)
                .map(|(_, word)| *word)
                .collect();
            let options = if options.is_empty() { String::new() } else { format!(":{}", options.join(",")) };
            return match (self.what, source) {
                (What::Tmpfs, _) => vec!["--tmpfs".into(), format!("{target}{options}")],
                (_, Some(source)) => vec!["-v".into(), format!("{source}:{target}{options}")],
                (_, None) => vec!["-v".into(), target],
            };
        }
        let kind = match self.what {
            What::Bind(_) => "bind",
            What::Volume(_) | What::Anonymous => "volume",
            What::Tmpfs => "tmpfs",
        };
        let mut text = format!("type={kind},target={target}");
        if let Some(source) = source {
            text += &format!(",source={source}");
        }
        if self.read_only {
            text += ",readonly";
        }
        if self.no_copy {
            text += ",volume-nocopy";
        }
        vec!["--mount".into(), text]
    }
}

pub(crate) fn cases() -> Vec<Case> {
    let binds = ["dir", "file", "to-dir", "to-file", "dangling", "missing", "missing/deep"].map(What::Bind);
    let volumes = [State::Missing, State::Empty, State::Filled].map(What::Volume);
    let mut all = Vec::new();
    for what in binds.into_iter().chain(volumes).chain([What::Anonymous, What::Tmpfs]) {
        for onto in ["/new/t", "/has/dir", "/has/file"] {
            for form in [Form::Short, Form::Long] {
                for (read_only, no_copy) in [(false, false), (true, false), (false, true), (true, true)] {
                    let sensible = match what {
                        What::Volume(_) => true,
                        What::Anonymous if form == Form::Short => !read_only && !no_copy,
                        What::Anonymous => true,
                        What::Bind(_) | What::Tmpfs => !no_copy,
                    };
                    if sensible {
                        all.push(Case { number: all.len(), form, what, onto, read_only, no_copy });
                    }
                }
            }
        }
    }
    all
}

#[test]
fn there_are_enough_of_them() {
    let cases = cases();
    assert!(cases.len() >= 180, "{}", cases.len());
    let targets: std::collections::BTreeSet<String> =
        cases.iter().map(|case| case.flags(Path::new("/s")).join(" ")).collect();
    assert_eq!(targets.len(), cases.len());
}
