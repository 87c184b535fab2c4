//! What instructions say: ports, sources, variables.

use std::collections::BTreeSet;

use super::super::ast::{Copy, CopySource, Verb, Word};
use super::Checker;
use crate::error::Span;
use crate::glob;
use crate::paths;
use crate::suggest::nearest;

/// A variable that is used as it is.
pub(super) struct Use {
    pub(super) name: String,
    /// Where, in characters.
    pub(super) at: usize,
    pub(super) width: usize,
}

/// Arguments that every build knows without ARG, see [`crate::plan`].
const PROXIES: [&str; 5] = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"];

/// For how many variables of a stage the nearest known one is looked for.
const GUESSES: usize = 50;

impl Checker<'_> {
    pub(super) fn port(&mut self, port: &Word) {
        if port.text.contains('$') {
            return;
        }
        let (_, protocol) = port.text.split_once('/').unwrap_or((&port.text, ""));
        if protocol.chars().any(|c| c.is_ascii_uppercase()) {
            let what = format!("the protocol `{protocol}` is written in lower case");
            self.add("ExposeProtoCasing", port.span, what);
        }
        if port.text.contains(':') {
            let what = format!("`{}` maps a port, which only `docker run -p` does", port.text);
            self.add("ExposeInvalidFormat", port.span, what);
        }
    }

    /// A source that `.dockerignore` leaves out.
    pub(super) fn ignored(&mut self, copy: &Copy) {
        let Some(ignore) = self.facts.ignore.as_ref().filter(|_| copy.from.is_none()) else { return };
        // Some of it may be brought back.
        if ignore.brings_back() {
            return;
        }
        for source in &copy.sources {
            let CopySource::Path(word) = source else { continue };
            let path = paths::clean(&word.text);
            if glob::is_pattern(&path) || path.contains('$') || path == "/" || word.text.contains("://") {
                continue;
            }
            if ignore.ignores(&path[1..]) {
                let what = format!("`.dockerignore` leaves out `{}`", word.text);
                self.add("CopyIgnoredFile", word.span, what);
            }
        }
    }

    /// Variables that nothing sets: neither the stage, nor what it starts from.
    pub(super) fn variables(&mut self, index: usize) {
        let file = self.file;
        let stage = &file.stages[index];
        let known = self.start(&stage.from.image.text).map(|known| self.uses(index, known));
        if let Some(name) = &stage.from.name {
            self.left.insert(&name.text, known);
        }
    }

    /// Tells of those that are not `known`; what is known at the stage's end.
    fn uses(&mut self, index: usize, mut known: BTreeSet<String>) -> BTreeSet<String> {
        let file = self.file;
        let mut told = 0;
        for instruction in &file.stages[index].instructions {
            for word in expanded(&instruction.verb) {
                for Use { name, at, width } in uses(&word.text, file.escape) {
                    let proxy = PROXIES.contains(&name.to_ascii_lowercase().as_str());
                    if known.contains(name.as_str()) || proxy {
                        continue;
                    }
                    told += 1;
                    let candidates =
                        known.iter().map(String::as_str).take(if told > GUESSES { 0 } else { usize::MAX });
                    let near = nearest(&name, candidates);
                    let near = near.map_or(String::new(), |near| format!("; did you mean `${near}`?"));
                    let span = Span { column: word.span.column + at, width, ..word.span };
                    self.add("UndefinedVar", span, format!("nothing sets `${name}`{near}"));
                }
            }
            sets(&instruction.verb, &mut known);
        }
        known
    }

    /// The names that a stage starts with; `None` where its image is not known.
    fn start(&self, image: &str) -> Option<BTreeSet<String>> {
        if let Some(left) = self.left.get(image.to_lowercase().as_str()) {
            return left.clone();
        }
        let mut known = BTreeSet::from(["PATH".to_owned()]);
        if image != "scratch" {
            let config = self.facts.images.get(image)?;
            known
                .extend(config.config.env.iter().filter_map(|pair| Some(pair.split_once('=')?.0.to_owned())));
        }
        Some(known)
    }
}

fn sets(verb: &Verb, known: &mut BTreeSet<String>) {
    match verb {
        Verb::Arg(args) => known.extend(args.iter().map(|(name, _)| name.text.clone())),
        Verb::Env(pairs) => known.extend(pairs.iter().map(|(name, _)| name.text.clone())),
        _ => {}
    }
}

/// The words of an instruction that variables are replaced in (Dockerfile reference, "Environment replacement").
fn expanded(verb: &Verb) -> Vec<&Word> {
    match verb {
        Verb::Arg(args) => args.iter().filter_map(|(_, value)| value.as_ref()).collect(),
        Verb::Env(pairs) | Verb::Label(pairs) => pairs.iter().map(|(_, value)| value).collect(),
        Verb::Workdir(word) | Verb::User(word) | Verb::StopSignal(word) => vec![word],
        Verb::Expose(words) | Verb::Volume(words) => words.iter().collect(),
        Verb::Copy(copy) => {
            let sources = copy.sources.iter().filter_map(|source| match source {
                CopySource::Path(word) => Some(word),
                CopySource::Inline(..) => None,
            });
            sources.chain([&copy.dest]).chain(copy.chown.iter()).chain(copy.chmod.iter()).collect()
        }
        _ => Vec::new(),
    }
}

/// `$name` and `${name}` outside single quotes, and without a default.
pub(super) fn uses(text: &str, escape: char) -> Vec<Use> {
    let chars: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    let (mut at, mut single, mut double) = (0, false, false);
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    while at < chars.len() {
        match chars[at] {
            c if c == escape && !single => at += 1,
            '\'' if !double => single = !single,
            '"' if !single => double = !double,
            '$' if !single => {
                let braced = chars.get(at + 1) == Some(&'{');
                let start = if braced { at + 2 } else { at + 1 };
                let name: String =
                    chars[start.min(chars.len())..].iter().take_while(|c| is_name(**c)).collect();
                let end = start + name.chars().count();
                let whole = !braced || chars.get(end) == Some(&'}');
                let is_variable = name.starts_with(|c: char| c.is_alphabetic() || c == '_');
                if whole && is_variable {
                    found.push(Use { name, at, width: end - at + usize::from(braced) });
                }
                at = end.max(at + 1) - 1;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::uses;

    #[test]
    fn variables_as_they_are() {
        let names = |text: &str| uses(text, '\\').into_iter().map(|u| (u.name, u.at)).collect::<Vec<_>>();
        let own =
            |list: &[(&str, usize)]| list.iter().map(|(n, at)| ((*n).to_owned(), *at)).collect::<Vec<_>>();
        assert_eq!(names("a$b/${c}x$d"), own(&[("b", 1), ("c", 4), ("d", 9)]));
        assert_eq!(names("${a:-b} ${c-d} '$e' \\$f \"'$g'\" $ $1 ${"), own(&[("g", 26)]));
    }
}
