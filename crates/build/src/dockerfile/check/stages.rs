//! FROM: platforms, and arguments that it uses.

use std::collections::{HashMap, HashSet};

use super::super::StageText;
use super::super::ast::Verb;
use super::Checker;
use super::values::{Use, uses};
use crate::error::Span;
use crate::expand::{self, Budget, Lookup};
use crate::image::host_arch;

/// Arguments that every build has before its first FROM.
const PLATFORM: [&str; 8] = [
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETARCH",
    "TARGETVARIANT",
    "BUILDPLATFORM",
    "BUILDOS",
    "BUILDARCH",
    "BUILDVARIANT",
];

/// The arguments before the first FROM, as far as the file itself gives them values.
struct Defaults(HashMap<String, String>);

impl Lookup for Defaults {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl Checker<'_> {
    pub(super) fn platform(&mut self, stage: &StageText) {
        let Some(word) = &stage.from.platform else { return };
        let text = word.text.trim_matches('"');
        if ["$TARGETPLATFORM", "${TARGETPLATFORM}"].contains(&text) {
            let what = "`--platform` is the target's where nothing is said".to_owned();
            self.add("RedundantTargetPlatform", word.span, what);
        } else if !text.contains('$') && !is_in_name(text, stage) {
            let what = format!("the platform `{text}` is fixed: builds for others can't have it");
            self.add("FromPlatformFlagConstDisallowed", word.span, what);
        }
    }

    /// An image for another machine than this build's.
    pub(super) fn base(&mut self, stage: &StageText) {
        let image = &stage.from.image;
        let Some(config) = self.facts.images.get(&image.text) else { return };
        let (os, arch) = (config.os.to_string(), config.architecture.to_string());
        if (os.as_str(), arch.as_str()) != ("linux", host_arch()) {
            let what =
                format!("`{}` is for `{os}/{arch}`, the build for `linux/{}`", image.text, host_arch());
            self.add("InvalidBaseImagePlatform", image.span, what);
        }
    }

    /// Arguments in FROM: defined at all, and good for an image where no build gives them.
    pub(super) fn global(&mut self) {
        let file = self.file;
        let mut budget = Budget::default();
        let mut defaults = Defaults(HashMap::new());
        let mut known: HashSet<&str> = PLATFORM.into();
        for name in PLATFORM {
            defaults.0.insert(name.to_owned(), "linux".to_owned());
        }
        for instruction in file.globals.iter() {
            let Verb::Arg(args) = &instruction.verb else { continue };
            for (name, value) in args {
                known.insert(&name.text);
                let value = value
                    .as_ref()
                    .and_then(|v| expand::expand(&v.text, file.escape, &defaults, &mut budget).ok());
                defaults.0.extend(value.map(|value| (name.text.clone(), value)));
            }
        }
        for stage in file.stages.iter() {
            let words = [Some(&stage.from.image), stage.from.platform.as_ref()];
            for word in words.into_iter().flatten() {
                for Use { name, at, width } in uses(&word.text, file.escape) {
                    if !known.contains(name.as_str()) {
                        let what = format!("no `ARG` before the first `FROM` defines `{name}`");
                        let span = Span { column: word.span.column + at, width, ..word.span };
                        self.add("UndefinedArgInFrom", span, what);
                    }
                }
            }
            let image = &stage.from.image;
            if !image.text.contains('$') {
                continue;
            }
            let value = expand::expand(&image.text, file.escape, &defaults, &mut budget);
            if value.is_ok_and(|value| !is_name(&value)) {
                let what = format!("`{}` names no image where the build gives no arguments", image.text);
                self.add("InvalidDefaultArgInFrom", image.span, what);
            }
        }
    }
}

/// Whether the stage's name says that it is for this platform: `build-amd64`.
fn is_in_name(platform: &str, stage: &StageText) -> bool {
    let name = stage.from.name.as_ref().map_or("", |name| &name.text);
    platform.split('/').take(2).any(|part| !part.is_empty() && name.contains(part))
}

/// Whether this can be the name of an image: no empty part in it.
fn is_name(text: &str) -> bool {
    let bad = |c: char| c.is_whitespace() || c.is_control();
    !text.is_empty()
        && !text.contains(bad)
        && !text.ends_with([':', '/', '@', '-', '.'])
        && !text.starts_with([':', '/', '@'])
        && !["//", "/:", ":@", "::", ":-", ":."].iter().any(|part| text.contains(part))
}

#[cfg(test)]
mod tests {
    use super::is_name;

    #[test]
    fn names_of_images() {
        for good in ["a", "a/b:c", "host:5000/a", "a@sha256:00", "a:1-alpine"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "a:", "a/", ":x", "a//b", "a:-alpine"] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
