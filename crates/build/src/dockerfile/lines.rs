//! Logical lines: continuations joined, comments and blank lines dropped, heredocs collected.

use std::ops::Range;

use super::source::{Problems, Source};
use super::words;
use crate::error::Span;

/// One instruction's text, and where each piece of it stood.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) text: String,
    pieces: Vec<Piece>,
    /// How many characters begin before each [`MARK`]th byte of the text: places on a long line are found at once.
    marks: Vec<usize>,
    pub(crate) heredocs: Vec<Heredoc>,
    /// Physical lines (from 0) in its middle that are empty.
    pub(crate) gaps: Vec<usize>,
}

/// Bytes between two marks.
const MARK: usize = 128;

fn marks(text: &str) -> Vec<usize> {
    let mut all = vec![0];
    for block in text.as_bytes().chunks(MARK) {
        all.push(all.last().unwrap_or(&0) + beginnings(block));
    }
    all
}

/// How many characters begin in these bytes.
fn beginnings(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
}

/// From offset `at` of the text on, it is physical line `line` (from 0) from byte `column` on.
#[derive(Debug)]
struct Piece {
    at: usize,
    line: usize,
    /// In characters, from 0.
    column: usize,
}

/// A here-document: the text, and whether variables are replaced in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heredoc {
    /// Where `<<NAME` stands in the line's text.
    pub(crate) mark: Range<usize>,
    pub(crate) name: String,
    /// The name was not quoted.
    pub(crate) expand: bool,
    /// With every line's end; leading tabs are gone if it was `<<-`.
    pub(crate) text: String,
}

impl Line {
    /// Where `range` of the text stood. A range that runs over a continuation ends with its first line.
    pub(crate) fn span(&self, range: Range<usize>) -> Span {
        let index = self.pieces.partition_point(|p| p.at <= range.start).saturating_sub(1);
        let piece = &self.pieces[index];
        let piece_end = self.pieces.get(index + 1).map_or(self.text.len(), |p| p.at);
        let start = range.start.clamp(piece.at, self.text.len());
        let end = range.end.min(piece_end).max(start);
        Span {
            line: piece.line + 1,
            column: piece.column + self.characters(piece.at..start) + 1,
            width: self.characters(start..end).max(1),
        }
    }

    fn characters(&self, range: Range<usize>) -> usize {
        let before = |at: usize| {
            let mark = (at / MARK).min(self.marks.len() - 1);
            self.marks[mark] + beginnings(&self.text.as_bytes()[mark * MARK..at])
        };
        before(range.end) - before(range.start)
    }

    /// The line from byte `at` of its text on, as a line of its own: what stands after ONBUILD.
    pub(crate) fn after(&self, at: usize) -> Line {
        let first = self.pieces.partition_point(|p| p.at <= at).saturating_sub(1);
        let count = self.characters(self.pieces[first].at..at);
        let pieces = self.pieces[first..].iter().map(|piece| Piece {
            at: piece.at.saturating_sub(at),
            line: piece.line,
            column: if piece.at < at { piece.column + count } else { piece.column },
        });
        let heredocs = self.heredocs.iter().filter(|h| h.mark.start >= at).map(|heredoc| Heredoc {
            mark: heredoc.mark.start - at..heredoc.mark.end - at,
            ..heredoc.clone()
        });
        Line {
            text: self.text[at..].to_owned(),
            marks: marks(&self.text[at..]),
            pieces: pieces.collect(),
            heredocs: heredocs.collect(),
            gaps: Vec::new(),
        }
    }

    /// The whole instruction, as far as its first physical line goes.
    pub(crate) fn whole(&self) -> Span {
        self.span(0..self.text.len())
    }
}

/// All logical lines from physical line `from` on.
pub(crate) fn logical_lines(
    source: &Source,
    from: usize,
    escape: char,
    problems: &mut Problems<'_>,
) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut next = from;
    while next < source.lines.len() {
        let raw = &source.lines[next];
        let trimmed = raw.trim_start();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            next += 1;
            continue;
        }
        let indent = raw.chars().count() - trimmed.chars().count();
        let mut line = Line {
            text: String::new(),
            pieces: vec![Piece { at: 0, line: next, column: indent }],
            marks: Vec::new(),
            heredocs: Vec::new(),
            gaps: Vec::new(),
        };
        let mut more = push(&mut line.text, trimmed, escape);
        next += 1;
        while more && next < source.lines.len() {
            let raw = &source.lines[next];
            let trimmed = raw.trim_start();
            if !trimmed.is_empty() && !trimmed.starts_with('#') {
                line.pieces.push(Piece { at: line.text.len(), line: next, column: 0 });
                more = push(&mut line.text, raw, escape);
            } else if trimmed.is_empty() && next + 1 < source.lines.len() {
                line.gaps.push(next);
            }
            next += 1;
        }
        line.text.truncate(line.text.trim_end().len());
        line.marks = marks(&line.text);
        next = heredocs(source, &mut line, next, escape, problems);
        lines.push(line);
    }
    lines
}

/// Appends a physical line without its continuation mark; whether there was one.
fn push(text: &mut String, raw: &str, escape: char) -> bool {
    let end = raw.trim_end_matches([' ', '\t']);
    match end.strip_suffix(escape) {
        // Two of them are one that is escaped.
        Some(head) if !head.ends_with(escape) => {
            text.push_str(head);
            true
        }
        _ => {
            text.push_str(raw);
            false
        }
    }
}

/// Takes the here-documents that the line asks for from the physical lines at `next`; the line after them.
fn heredocs(
    source: &Source,
    line: &mut Line,
    mut next: usize,
    escape: char,
    problems: &mut Problems<'_>,
) -> usize {
    let mut words = line.text.split_whitespace();
    let verb = words.find(|word| !word.eq_ignore_ascii_case("ONBUILD")).unwrap_or("");
    if !["RUN", "COPY", "ADD"].iter().any(|v| v.eq_ignore_ascii_case(verb)) || !line.text.contains("<<") {
        return next;
    }
    for mark in words::quoted(&line.text, 0, escape) {
        let Some((strip_tabs, name, expand)) = heredoc_mark(&line.text[mark.clone()], escape) else {
            continue;
        };
        let mut text = String::new();
        let mut closed = false;
        while next < source.lines.len() && !closed {
            let raw = source.lines[next].as_str();
            let shown = if strip_tabs { raw.trim_start_matches('\t') } else { raw };
            closed = shown == name;
            if !closed {
                text.push_str(shown);
                text.push_str(source.end_of(next));
            }
            next += 1;
        }
        if !closed {
            problems.invalid(
                line.span(mark.clone()),
                format!("the here-document `{name}` does not end in this file"),
            );
        }
        line.heredocs.push(Heredoc { mark, name, expand, text });
    }
    next
}

/// `[digits]<<[-]NAME`, where quotes around the name or escapes in it mean "as it is".
fn heredoc_mark(word: &str, escape: char) -> Option<(bool, String, bool)> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let (strip_tabs, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let name: String = rest.chars().filter(|c| !['"', '\'', escape].contains(c)).collect();
    if name.is_empty() || rest.contains('<') {
        return None;
    }
    let expand = name.len() == rest.len();
    Some((strip_tabs, name, expand))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        let source = Source::new("Dockerfile", text.as_bytes()).unwrap();
        let mut problems = Problems::new(&source);
        let lines = logical_lines(&source, 0, '\\', &mut problems);
        problems.into_result().unwrap();
        lines.into_iter().map(|l| l.text).collect()
    }

    #[test]
    fn continuations_comments_and_blanks() {
        assert_eq!(lines("A b\\\n c\nD"), ["A b c", "D"]);
        assert_eq!(lines("A b \\  \n# no\n\n   # nor this\n  c\n"), ["A b   c"]);
        assert_eq!(lines("A b\\\\\nC"), ["A b\\\\", "C"], "an escaped mark continues nothing");
        assert_eq!(lines("  A b\\"), ["A b"]);
        assert_eq!(lines("\u{feff}A b\r\nC\\\r\nD\r\n"), ["A b", "CD"]);
        assert_eq!(lines("# only\n\n"), Vec::<String>::new());
    }

    #[test]
    fn spans_point_into_continued_lines() {
        let source = Source::new("Dockerfile", b"  RUN a \\\n  # x\n   b\xc3\xa4 c").unwrap();
        let mut problems = Problems::new(&source);
        let all = logical_lines(&source, 0, '\\', &mut problems);
        let line = &all[0];
        assert_eq!(line.span(0..3), Span { line: 1, column: 3, width: 3 });
        let b = line.text.find("bä").unwrap();
        assert_eq!(line.span(b..b + 3), Span { line: 3, column: 4, width: 2 });
        let c = line.text.rfind('c').unwrap();
        assert_eq!(line.span(c..c + 1), Span { line: 3, column: 7, width: 1 });
    }

    #[test]
    fn the_rest_of_a_line_keeps_its_places() {
        let source = Source::new("D", b"  ONBUILD RUN \\\n  cat <<E\nx\nE\n").unwrap();
        let mut problems = Problems::new(&source);
        let all = logical_lines(&source, 0, '\\', &mut problems);
        let rest = all[0].after(8);
        assert_eq!(rest.text, "RUN   cat <<E");
        assert_eq!(rest.span(0..3), Span { line: 1, column: 11, width: 3 });
        assert_eq!(rest.span(6..9), Span { line: 2, column: 3, width: 3 });
        assert_eq!(&rest.text[rest.heredocs[0].mark.clone()], "<<E");
    }

    #[test]
    fn heredocs_are_taken_whole() {
        let source =
            Source::new("D", b"RUN cat <<A 3<<-\"B C\" > x\nfoo # \\\nA\n\tone\n\tB C\nCOPY a b\nENV x=<<no")
                .unwrap();
        let mut problems = Problems::new(&source);
        let all = logical_lines(&source, 0, '\\', &mut problems);
        problems.into_result().unwrap();
        assert_eq!(all.len(), 3);
        let [a, b] = all[0].heredocs.as_slice() else { panic!("{:?}", all[0]) };
        assert_eq!((a.name.as_str(), a.text.as_str(), a.expand), ("A", "foo # \\\n", true));
        assert_eq!((b.name.as_str(), b.text.as_str(), b.expand), ("B C", "one\n", false));
    }

    #[test]
    fn heredocs_keep_the_ends_of_their_lines() {
        let source = Source::new("D", b"COPY <<A /\r\none\r\ntwo\nA\r\nRUN x\r\n").unwrap();
        let mut problems = Problems::new(&source);
        let all = logical_lines(&source, 0, '\\', &mut problems);
        problems.into_result().unwrap();
        assert_eq!(all[0].heredocs[0].text, "one\r\ntwo\n");
        assert_eq!((all[0].text.as_str(), all[1].text.as_str()), ("COPY <<A /", "RUN x"));
    }

    #[test]
    fn an_open_heredoc_is_named() {
        let source = Source::new("Dockerfile", b"RUN <<EOF\nls\n").unwrap();
        let mut problems = Problems::new(&source);
        logical_lines(&source, 0, '\\', &mut problems);
        assert_eq!(
            problems.into_result().unwrap_err().to_string(),
            "Dockerfile:1:5: the here-document `EOF` does not end in this file\n  |\n1 | RUN <<EOF\n  |     ^^^^^"
        );
    }
}
