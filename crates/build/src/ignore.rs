//! `.dockerignore`: what of a context doesn't exist for a build.
//!
//! The rules are those of docker's pattern matcher, not gitignore's: patterns are anchored at the context's root,
//! the last one that matches wins, `!` brings back, and a pattern that matches a directory holds for all below it.

use crate::error::{Error, Result};
use crate::glob::{self, Token};

/// The patterns of an ignore file. See "`.dockerignore` files" in docker's documentation of build contexts.
#[derive(Clone, Debug, Default)]
pub struct Ignore {
    patterns: Vec<Pattern>,
    brings_back: bool,
}

#[derive(Clone, Debug)]
struct Pattern {
    brings_back: bool,
    states: Vec<State>,
}

/// One state of the automaton of a pattern. Reading a path moves a set of them forward, so that time is at most
/// (states × characters) for any pattern.
#[derive(Clone, Debug)]
enum State {
    Token(Token),
    /// `**/`: nothing, or anything that ends with a slash. Always followed by [`State::Dirs`].
    MaybeDirs,
    Dirs,
    /// `**` at the end.
    Rest,
}

impl Ignore {
    /// Reads the text of an ignore file. `name` is for messages.
    ///
    /// # Errors
    /// `Invalid` with file and line for a malformed pattern.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Ignore> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let text = String::from_utf8_lossy(bytes);
        let mut ignore = Ignore::default();
        for (number, line) in text.lines().enumerate() {
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            let line = line.trim();
            let (brings_back, pattern) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            let bad = |why: &str| Error::invalid(format!("{name}:{}: {why}", number + 1));
            if pattern.is_empty() {
                return Err(bad("a lone `!` brings nothing back"));
            }
            let states = compile(&clean(pattern)).map_err(|why| bad(&why))?;
            ignore.brings_back |= brings_back;
            ignore.patterns.push(Pattern { brings_back, states });
        }
        Ok(ignore)
    }

    /// Whether the build does not see `path` (relative to the context, parts separated by `/`).
    pub fn ignores(&self, path: &str) -> bool {
        let path = path.trim_matches('/');
        let mut ignored = false;
        for pattern in &self.patterns {
            // A pattern can only turn the answer to its own side.
            if pattern.brings_back == ignored && pattern.matches_or_above(path) {
                ignored = !pattern.brings_back;
            }
        }
        ignored
    }

    /// Whether something below an ignored directory may be seen all the same.
    pub(crate) fn brings_back(&self) -> bool {
        self.brings_back
    }
}

impl Pattern {
    /// Whether the pattern matches the path or one of the directories above it: one pass over the characters,
    /// asking at every slash.
    fn matches_or_above(&self, path: &str) -> bool {
        let mut now = vec![false; self.states.len() + 1];
        let mut next = now.clone();
        self.enter(&mut now, 0);
        for c in path.chars() {
            if c == '/' && now[self.states.len()] {
                return true;
            }
            next.fill(false);
            for (i, state) in self.states.iter().enumerate() {
                if !now[i] {
                    continue;
                }
                match state {
                    State::Token(Token::Star) if c != '/' => self.enter(&mut next, i),
                    State::Token(Token::Star) => {}
                    State::Token(token) if token.takes(c) => self.enter(&mut next, i + 1),
                    State::Token(_) | State::MaybeDirs => {}
                    State::Dirs => {
                        next[i] = true;
                        if c == '/' {
                            self.enter(&mut next, i + 1);
                        }
                    }
                    State::Rest => self.enter(&mut next, i),
                }
            }
            std::mem::swap(&mut now, &mut next);
        }
        now[self.states.len()]
    }

    /// Marks a state and those that are reached from it without a character.
    fn enter(&self, set: &mut [bool], mut i: usize) {
        while !std::mem::replace(&mut set[i], true) {
            match self.states.get(i) {
                Some(State::Token(Token::Star) | State::Rest) => i += 1,
                Some(State::MaybeDirs) => {
                    set[i + 1] = true;
                    i += 2;
                }
                _ => return,
            }
        }
    }
}

/// Go's `filepath.Clean`, then without the slash in front.
fn clean(pattern: &str) -> String {
    let rooted = pattern.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|p| *p != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
}

fn compile(pattern: &str) -> Result<Vec<State>, String> {
    let mut states = Vec::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        let state = match c {
            '*' if chars.next_if_eq(&'*').is_some() => {
                chars.next_if_eq(&'/');
                if chars.peek().is_none() {
                    State::Rest
                } else {
                    states.push(State::MaybeDirs);
                    State::Dirs
                }
            }
            '*' => State::Token(Token::Star),
            '?' => State::Token(Token::One),
            '[' => State::Token(
                glob::class(&mut chars)
                    .ok_or_else(|| format!("`[` is not closed or empty in `{pattern}`"))?,
            ),
            '\\' => State::Token(Token::Char(
                chars.next().ok_or_else(|| format!("`\\` ends the pattern `{pattern}`"))?,
            )),
            c => State::Token(Token::Char(c)),
        };
        states.push(state);
    }
    Ok(states)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ignores(patterns: &str, path: &str) -> bool {
        Ignore::parse(".dockerignore", patterns.as_bytes()).unwrap().ignores(path)
    }

    #[test]
    fn table() {
        for (patterns, path, expected) in [
            ("node_modules/", "node_modules", true),
            ("node_modules", "node_modules/x/y.js", true),
            ("node_modules", "a/node_modules", false),
            ("/foo/bar", "foo/bar", true),
            ("./foo//bar/../baz", "foo/baz", true),
            ("*.md", "a.md", true),
            ("*.md", "b/a.md", false),
            ("*/temp*", "x/temporary.txt", true),
            ("*/*/temp*", "x/temporary.txt", false),
            ("temp?", "tempa", true),
            ("temp?", "temp", false),
            ("**/*.go", "a.go", true),
            ("**/*.go", "a/b/c.go", true),
            ("**/*.go", "a/b/c.rs", false),
            ("**", "anything/at/all", true),
            ("a/**", "a/b", true),
            ("a/**", "a", false),
            ("a/**/b", "a/b", true),
            ("a/**/b", "a/x/y/b", true),
            ("a/**/b", "a/x/yb", false),
            ("a**b", "ab", true),
            ("a**b", "a/x/b", true),
            ("**foo", "x/foo", true),
            ("**foo", "xfoo", false),
            ("foo**", "foobar/x", true),
            ("*\n!keep", "keep", false),
            ("*\n!keep", "keep/deep", false),
            ("*\n!keep\nkeep/no", "keep/no", true),
            ("!keep\n*", "keep", true),
            ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", true),
            ("*.md\n!README*.md\nREADME-secret.md", "README.md", false),
            ("docs\n!docs/keep", "docs/keep/x", false),
            ("docs\n!docs/keep", "docs/other", true),
            ("# a comment\n  \n #b", "#b", true),
            ("\\#b", "#b", true),
            ("a.b", "axb", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("  spaced  ", "spaced", true),
            ("a b", "a b", true),
            (".", "x", false),
            ("..", "x", false),
        ] {
            assert_eq!(ignores(patterns, path), expected, "{patterns:?} {path:?}");
        }
    }

    #[test]
    fn malformed_lines_are_named() {
        let error = |text: &str| Ignore::parse(".dockerignore", text.as_bytes()).unwrap_err().to_string();
        assert_eq!(error("a\n[x"), ".dockerignore:2: `[` is not closed or empty in `[x`");
        assert_eq!(error("!"), ".dockerignore:1: a lone `!` brings nothing back");
        assert_eq!(error("a\\"), ".dockerignore:1: `\\` ends the pattern `a\\`");
    }

    #[test]
    fn time_stays_linear_in_the_path() {
        let ignore = Ignore::parse("x", "**/a**a**a*a*a*a*a*a**b".as_bytes()).unwrap();
        assert!(!ignore.ignores(&"a".repeat(20_000)));
        assert!(!ignore.ignores(&"a/".repeat(10_000)));
    }

    proptest! {
        #[test]
        fn never_panics(text in "[]!ab*?\\[\\\\^/. \n-]{0,30}", path in "[ab./]{0,20}") {
            if let Ok(ignore) = Ignore::parse("x", text.as_bytes()) {
                ignore.ignores(&path);
            }
        }

        #[test]
        fn a_plain_name_ignores_itself_and_all_below(name in "[a-z]{1,8}", below in "[a-z]{1,8}") {
            prop_assert!(ignores(&name, &name));
            let deep = format!("{name}/{below}");
            prop_assert!(ignores(&name, &deep));
            let twin = format!("{name}{below}");
            prop_assert!(!ignores(&name, &twin));
        }

        #[test]
        fn a_later_exception_wins(name in "[a-z]{1,8}") {
            let text = format!("**\n!{name}");
            prop_assert!(!ignores(&text, &name));
        }
    }
}
