//! RUN's `--mount`: options between commas. What they mean is for the planner to say, which knows the variables.

use std::ops::Range;

use super::ast::{Mount, Word};
use crate::error::Span;

/// `key=value,key,…`; a part may stand in double quotes, as in CSV, to have commas in it.
pub(super) fn parse(word: &Word) -> Mount {
    let text = word.text.as_str();
    let mut options = Vec::new();
    let mut start = 0;
    // Characters before `start`.
    let mut skipped = 0;
    let mut quoted = false;
    for (at, c) in text.char_indices().chain(std::iter::once((text.len(), ','))) {
        if c == '"' {
            quoted = !quoted;
        }
        if (c == ',' && !quoted) || at == text.len() {
            if at > start {
                options.push(option(word, start..at, skipped));
            }
            let end = text.len().min(at + 1);
            skipped += text.get(start..end).map_or(0, |s| s.chars().count());
            start = at + 1;
        }
    }
    Mount { span: word.span, options }
}

/// `skipped` characters are before it.
fn option(word: &Word, range: Range<usize>, skipped: usize) -> (Word, Option<Word>) {
    let text = &word.text[range];
    let (skipped, text) = match text.strip_prefix('"').and_then(|t| t.strip_suffix('"')) {
        Some(inner) => (skipped + 1, inner),
        None => (skipped, text),
    };
    match text.split_once('=') {
        Some((key, value)) => {
            let after = skipped + key.chars().count() + 1;
            (part(word, skipped, &key.to_ascii_lowercase()), Some(part(word, after, value)))
        }
        None => (part(word, skipped, &text.to_ascii_lowercase()), None),
    }
}

fn part(word: &Word, skipped: usize, text: &str) -> Word {
    let Span { line, column, .. } = word.span;
    Word {
        text: text.to_owned(),
        span: Span { line, column: column + skipped, width: text.chars().count().max(1) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_and_their_places() {
        let span = Span { line: 3, column: 13, width: 40 };
        let mount = parse(&Word { text: "type=cache,RO,\"target=/a,b\",from=x".to_owned(), span });
        let shown: Vec<_> = mount
            .options
            .iter()
            .map(|(k, v)| (k.text.as_str(), k.span.column, v.as_ref().map(|v| v.text.as_str())))
            .collect();
        assert_eq!(
            shown,
            [
                ("type", 13, Some("cache")),
                ("ro", 24, None),
                ("target", 28, Some("/a,b")),
                ("from", 41, Some("x"))
            ]
        );
        assert_eq!(mount.from().unwrap().text, "x");
    }
}
