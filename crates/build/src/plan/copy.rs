//! COPY and ADD.

use coracle_host::Kind;

use super::stage::Planner;
use super::{CopyFrom, CopyOp, Op, Origin};
use crate::chmod::Chmod;
use crate::dockerfile::ast::{self, CopySource, Word};
use crate::expand;
use crate::ignore::Ignore;
use crate::paths;

impl Planner<'_, '_> {
    pub(super) fn copy(&mut self, number: Option<usize>, copy: &ast::Copy) -> Option<(Op, String)> {
        let verb = if copy.add { "ADD" } else { "COPY" };
        if let (Some(word), None) = (&copy.from, number) {
            let what = "a trigger that copies from a stage or image is not supported yet";
            self.problems.unsupported(word.span, what);
            return None;
        }
        let from = number.and_then(|i| self.graph.nodes[self.index].copies.get(&(i, 0)).cloned());
        let from = from.unwrap_or(Origin::Context);
        let mut created_by = verb.to_owned();
        if let Some(word) = &copy.from {
            created_by.push_str(&format!(" --from={}", word.text));
        }
        let mut flag = |name: &str, word: &Option<Word>| {
            let Some(word) = word else { return Some(None) };
            let value = self.expand(word)?;
            created_by.push_str(&format!(" --{name}={value}"));
            Some(Some((value, word.span)))
        };
        let (chown, chmod) = (flag("chown", &copy.chown)?, flag("chmod", &copy.chmod)?);
        let chmod = match chmod.map(|(text, span)| (Chmod::parse(&text), span)) {
            None => None,
            Some((Ok(chmod), _)) => Some(chmod),
            Some((Err(what), span)) => {
                self.problems.invalid(span, what);
                return None;
            }
        };
        for (name, on) in [("link", copy.link), ("parents", copy.parents)] {
            if on {
                created_by.push_str(&format!(" --{name}"));
            }
        }
        let mut exclude = Vec::new();
        for word in &copy.exclude {
            let pattern = self.expand(word)?;
            if let Err(error) = Ignore::parse("--exclude", pattern.as_bytes()) {
                self.problems.invalid(word.span, error.to_string());
                return None;
            }
            created_by.push_str(&format!(" --exclude={pattern}"));
            exclude.push(pattern);
        }
        let mut sources = Vec::new();
        for source in &copy.sources {
            match source {
                CopySource::Path(word) => {
                    let path = self.path(word, verb)?;
                    created_by.push_str(&format!(" {path}"));
                    if copy.add
                        && let Some(what) = remote(&path)
                    {
                        let what = format!("`ADD` of {what} is not supported yet");
                        self.problems.unsupported(word.span, what);
                        return None;
                    }
                    if copy.parents {
                        sources.push(CopyFrom::Path(with_pivot(&path)));
                        continue;
                    }
                    sources.push(CopyFrom::Path(paths::clean(&path)[1..].to_owned()));
                }
                CopySource::Inline(heredoc, span) => {
                    created_by.push_str(&format!(" <<{}", heredoc.name));
                    let mut text = heredoc.text.clone();
                    if heredoc.expand {
                        match expand::expand_text(
                            &text,
                            self.escape,
                            &self.state.vars,
                            &mut self.problems.budget,
                        ) {
                            Ok(expanded) => text = expanded,
                            Err(fault) => {
                                let what = format!("here-document `{}`: {}", heredoc.name, fault.message);
                                self.problems.add(fault.kind, *span, what, None);
                                return None;
                            }
                        }
                    }
                    sources.push(CopyFrom::Inline(heredoc.name.clone(), text));
                }
            }
        }
        let dest = self.path(&copy.dest, verb)?;
        created_by.push_str(&format!(" {dest}"));
        if sources.len() > 1 && !paths::means_directory(&dest) {
            let what = "with more than one source the destination is a directory, and ends with `/`";
            let help = format!("`{dest}/`");
            self.problems.add(Kind::Invalid, copy.dest.span, what, Some(help));
            return None;
        }
        let mut path = paths::join(self.cwd(), &dest);
        if paths::means_directory(&dest) && path != "/" {
            path.push('/');
        }
        let chown = chown.map(|(value, _)| value);
        let (unpack, parents) = (copy.unpack, copy.parents);
        Some((
            Op::Copy(CopyOp { from, sources, dest: path, chown, chmod, unpack, parents, exclude }),
            created_by,
        ))
    }
}

/// What ADD would have to fetch.
fn remote(source: &str) -> Option<&'static str> {
    let lower = source.to_ascii_lowercase();
    let git = ["git@", "git://", "ssh://"].iter().any(|start| lower.starts_with(start));
    let web = lower.starts_with("http://") || lower.starts_with("https://");
    let path = lower.split(['#', '?']).next().unwrap_or("");
    if git || web && path.ends_with(".git") {
        Some("git repositories")
    } else if web {
        Some("URLs")
    } else {
        None
    }
}

/// A source of `COPY --parents`: relative, and with its `/./` kept, from where on parents are.
fn with_pivot(path: &str) -> String {
    let clean = |path: &str| paths::clean(path)[1..].to_owned();
    match path.trim_start_matches("./").split_once("/./") {
        Some((above, below)) => format!("{}/./{}", clean(above), clean(below)),
        None => clean(path),
    }
}
