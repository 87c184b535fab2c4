//! COPY and ADD.

use coracle_host::Kind;

use super::graph::Nth;
use super::stage::Planner;
use super::{CopyFrom, CopyOp, Op, Origin};
use crate::chmod::Chmod;
use crate::dockerfile::ast::{self, CopySource, Word};
use crate::error::Span;
use crate::expand;
use crate::ignore::Ignore;
use crate::paths;
use crate::remote::{self, Remote, RemoteSource};

impl Planner<'_, '_> {
    fn remote(
        &mut self,
        mut remote: Remote,
        copy: &ast::Copy,
        checksum: &Option<(String, Span)>,
        word: &Word,
    ) -> Option<CopyFrom> {
        if let Remote::Git(git) = &mut remote {
            git.keep_git_dir = copy.keep_git_dir.is_some_and(|(on, _)| on);
            if git.url.contains('?') {
                let what = format!("`{git}`: what of a repository is meant stands after `#`, not after `?`");
                self.problems.unsupported(word.span, what);
                return None;
            }
        }
        let web = matches!(remote, Remote::Web(_));
        let unpack = web && copy.unpack.unwrap_or(false);
        let source =
            RemoteSource { remote, checksum: checksum.as_ref().map(|(text, _)| text.clone()), unpack };
        if let (Err(what), Some((_, span))) = (source.check(), checksum) {
            self.problems.invalid(*span, what);
            return None;
        }
        Some(CopyFrom::Remote(source))
    }

    pub(super) fn copy(&mut self, number: Nth, copy: &ast::Copy) -> Option<(Op, String)> {
        let verb = if copy.add { "ADD" } else { "COPY" };
        let from = self.graph.nodes[self.index].copies.get(&(number, 0)).cloned().unwrap_or(Origin::Context);
        let mut flag = |word: &Option<Word>| {
            let Some(word) = word else { return Some(None) };
            Some(Some((self.expand(word)?, word.span)).filter(|(value, _)| !value.is_empty()))
        };
        let (chown, chmod) = (flag(&copy.chown)?, flag(&copy.chmod)?);
        let checksum = flag(&copy.checksum)?;
        // Of the flags, BuildKit's histories have those that show in the layer.
        let mut created_by = verb.to_owned();
        if copy.parents {
            created_by.push_str(" --parents");
        }
        for (name, value) in [("chown", &chown), ("chmod", &chmod)] {
            if let Some((value, _)) = value {
                created_by.push_str(&format!(" --{name}={value}"));
            }
        }
        let chmod = match chmod.map(|(text, span)| (Chmod::parse(&text), span)) {
            None => None,
            Some((Ok(chmod), _)) => Some(chmod),
            Some((Err(what), span)) => {
                self.problems.invalid(span, what);
                return None;
            }
        };
        let mut exclude = Vec::new();
        for word in &copy.exclude {
            let pattern = self.expand(word)?;
            if let Err(error) = Ignore::parse("--exclude", pattern.as_bytes()) {
                self.problems.invalid(word.span, error.to_string());
                return None;
            }
            exclude.push(pattern);
        }
        let mut sources = Vec::new();
        for source in &copy.sources {
            match source {
                CopySource::Path(word) => {
                    let path = self.path(word, verb)?;
                    created_by.push_str(&format!(" {path}"));
                    if copy.add
                        && let Some(remote) = Remote::parse(&path)
                    {
                        // A password is not for the history.
                        let written = created_by.len() - path.len();
                        created_by.replace_range(written.., &remote.to_string());
                        sources.push(self.remote(remote, copy, &checksum, word)?);
                        continue;
                    }
                    if let Some((_, span)) = &checksum {
                        let what = "`--checksum` is for URLs and git repositories";
                        self.problems.invalid(*span, what);
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
        let remotes = sources.iter().filter(|source| matches!(source, CopyFrom::Remote(_))).count();
        let refused = match (&checksum, copy.keep_git_dir) {
            (Some((_, span)), _) if copy.sources.len() > 1 => {
                Some((*span, "`--checksum` says what one source is, and there are more"))
            }
            (_, Some((true, span))) if remotes == 0 => {
                Some((span, "`--keep-git-dir` is for git repositories"))
            }
            _ => None,
        };
        if let Some((span, what)) = refused {
            self.problems.invalid(span, what);
            return None;
        }
        let dest = self.path_or_none(&copy.dest, verb)?;
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
        let (unpack, link, parents) = (copy.add && copy.unpack.unwrap_or(true), copy.link, copy.parents);
        for (word, source) in copy.sources.iter().zip(&sources) {
            if let CopyFrom::Remote(source) = source
                && let Remote::Web(url) = &source.remote
                && path.ends_with('/')
                && remote::file_name(url).is_none()
            {
                let what = format!("`{}` names no file, so the destination has to", source.remote);
                self.problems.invalid(word.span(), what);
                return None;
            }
        }
        Some((
            Op::Copy(CopyOp { from, sources, dest: path, chown, chmod, unpack, link, parents, exclude }),
            created_by,
        ))
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
