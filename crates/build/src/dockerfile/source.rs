//! The text of a Dockerfile by physical lines, and the collector of what is wrong with it.

use coracle_host::Kind;

use crate::error::{Diagnostic, Error, Span};
use crate::expand::Budget;

/// A Dockerfile as lines without their ends; a byte order mark is gone.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) lines: Vec<String>,
    /// Whether each ended with CRLF: here-documents keep that.
    crlf: Vec<bool>,
}

impl Source {
    /// # Errors
    /// `Invalid` where the bytes are not UTF-8, with the line.
    pub(crate) fn new(name: &str, bytes: &[u8]) -> Result<Source, Error> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let line = bytes[..error.valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
            Error::invalid(format!("{name}:{line}: the text is not UTF-8"))
        })?;
        let (lines, crlf) = text
            .split('\n')
            .map(|line| match line.strip_suffix('\r') {
                Some(line) => (line.to_owned(), true),
                None => (line.to_owned(), false),
            })
            .unzip();
        Ok(Source { name: name.to_owned(), lines, crlf })
    }

    /// How a line (from 0) ends.
    pub(crate) fn end_of(&self, line: usize) -> &'static str {
        if self.crlf.get(line) == Some(&true) { "\r\n" } else { "\n" }
    }

    pub(crate) fn diagnostic(
        &self,
        kind: Kind,
        span: Span,
        message: impl Into<String>,
        help: Option<String>,
    ) -> Diagnostic {
        let line = self.lines.get(span.line - 1).map_or("", String::as_str);
        Diagnostic::new(kind, &self.name, span, line, message.into(), help)
    }
}

/// How many problems of a file are told of.
const MOST: usize = 200;

/// Collects all problems of a file, so that one run shows them all.
pub(crate) struct Problems<'a> {
    source: &'a Source,
    found: Vec<Diagnostic>,
    /// How many more there were than are kept.
    more: usize,
    /// What expansion may still do for this file.
    pub(crate) budget: Budget,
    /// Where everything is put while what is read has no place in this file: what the place means by it.
    pinned: Option<(Span, String)>,
}

impl<'a> Problems<'a> {
    pub(crate) fn new(source: &'a Source) -> Problems<'a> {
        Problems { source, found: Vec::new(), more: 0, budget: Budget::default(), pinned: None }
    }

    /// Until it is unpinned by `None`, every problem is put there.
    pub(crate) fn pin(&mut self, place: Option<(Span, String)>) {
        self.pinned = place;
    }

    pub(crate) fn invalid(&mut self, span: Span, message: impl Into<String>) {
        self.add(Kind::Invalid, span, message, None);
    }

    pub(crate) fn add(&mut self, kind: Kind, span: Span, message: impl Into<String>, help: Option<String>) {
        let (span, message) = match &self.pinned {
            Some((pinned, what)) => (*pinned, format!("{what}: {}", message.into())),
            None => (span, message.into()),
        };
        if self.found.len() == MOST {
            self.more += 1;
            return;
        }
        self.found.push(self.source.diagnostic(kind, span, message, help));
    }

    /// The language has it, this version does not.
    pub(crate) fn unsupported(&mut self, span: Span, message: impl Into<String>) {
        self.add(Kind::Unsupported, span, message, None);
    }

    pub(crate) fn into_result(mut self) -> Result<(), Error> {
        if self.found.is_empty() {
            return Ok(());
        }
        self.found.sort_by_key(|d| (d.span().line, d.span().column));
        if let (1.., Some(last)) = (self.more, self.found.last()) {
            let (kind, span) = (last.kind(), last.span());
            let what = format!("{} more problems are not shown", self.more);
            self.found.push(self.source.diagnostic(kind, span, what, None));
        }
        Err(Error::diagnosed(self.found))
    }
}
