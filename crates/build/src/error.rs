//! What can go wrong with a build, and where in the file it did.

use std::fmt;

use coracle_host::Kind;

/// The result of build operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A place in a Dockerfile: one line, and what of it is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// How many characters are meant; at least 1.
    pub width: usize,
}

/// One thing that is wrong with a Dockerfile, shown at its place:
///
/// ```text
/// Dockerfile:2:1: unknown instruction `RUNN`
///   |
/// 2 | RUNN make
///   | ^^^^ did you mean `RUN`?
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Diagnostic {
    kind: Kind,
    file: String,
    span: Span,
    line_text: String,
    /// Characters that `line_text` lacks at its beginning.
    cut: usize,
    message: String,
    help: Option<String>,
}

impl Diagnostic {
    pub(crate) fn new(
        kind: Kind,
        file: &str,
        span: Span,
        line_text: &str,
        message: String,
        help: Option<String>,
    ) -> Diagnostic {
        let (line_text, cut) = window(line_text, span);
        Diagnostic { kind, file: file.to_owned(), span, line_text, cut, message, help }
    }

    /// `Invalid`, `Unsupported` for what the language has but this version does not, or what a failed step says.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The file, as it was named by the caller.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The place in it.
    pub fn span(&self) -> Span {
        self.span
    }

    /// What is wrong, in one line.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it, where something useful can be said.
    pub fn help(&self) -> Option<&str> {
        self.help.as_deref()
    }
}

/// The longest line, in characters, that is shown whole; of a longer one what is around the place.
const WHOLE: usize = 400;

/// What is shown of a line, and how many characters are missing before it.
fn window(line: &str, span: Span) -> (String, usize) {
    if line.len() <= WHOLE {
        return (line.to_owned(), 0);
    }
    let start = span.column.saturating_sub(WHOLE / 4);
    let mut chars = line.chars().skip(start);
    let shown: String = chars.by_ref().take(WHOLE).collect();
    let end = if chars.next().is_some() { "…" } else { "" };
    match start {
        0 => (format!("{shown}{end}"), 0),
        _ => (format!("…{shown}{end}"), start - 1),
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Span { line, column, width } = self.span;
        let number = line.to_string();
        let gutter = " ".repeat(number.len());
        // Tabs stay tabs below themselves, so that the caret stands where it should in any terminal.
        let before = (column - 1).saturating_sub(self.cut);
        let pad: String =
            self.line_text.chars().take(before).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let carets = "^".repeat(width.min(self.line_text.chars().count().saturating_sub(before)).max(1));
        writeln!(f, "{}:{line}:{column}: {}", self.file, self.message)?;
        writeln!(f, "{gutter} |")?;
        writeln!(f, "{number} | {}", self.line_text)?;
        write!(f, "{gutter} | {pad}{carets}")?;
        match &self.help {
            Some(help) => write!(f, " {help}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A failed build. Displays every [`Diagnostic`] it carries, or one sentence where no line of a file is to blame.
///
/// `Debug` reads like `Display`: where a test unwraps, this is what people see.
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    message: String,
    diagnostics: Vec<Diagnostic>,
    exit: Option<i32>,
}

impl Error {
    /// A failure that is described by one sentence. This is how a [`Worker`](crate::Worker) reports its own errors.
    pub fn new(kind: Kind, message: impl fmt::Display) -> Error {
        Error(Box::new(Inner { kind, message: message.to_string(), diagnostics: Vec::new(), exit: None }))
    }

    /// The command of a RUN step ended with this code (128 + n for a signal n, as shells count).
    pub fn exited(code: i32) -> Error {
        let mut error = Error::new(Kind::Failed, format!("exit code: {code}"));
        error.0.exit = Some(code);
        error
    }

    pub(crate) fn invalid(message: impl fmt::Display) -> Error {
        Error::new(Kind::Invalid, message)
    }

    pub(crate) fn diagnosed(diagnostics: Vec<Diagnostic>) -> Error {
        let mut kind = diagnostics.first().map_or(Kind::Invalid, Diagnostic::kind);
        if diagnostics.iter().any(|d| d.kind() != kind) {
            kind = Kind::Invalid;
        }
        Error(Box::new(Inner { kind, message: String::new(), diagnostics, exit: None }))
    }

    /// Puts a failure of a step at its line. The first line of the message becomes the diagnostic's.
    pub(crate) fn at(self, locate: impl FnOnce(Kind, String) -> Diagnostic) -> Error {
        if !self.0.diagnostics.is_empty() {
            return self;
        }
        let diagnostic = locate(self.kind(), self.0.message);
        Error(Box::new(Inner {
            kind: self.0.kind,
            message: String::new(),
            diagnostics: vec![diagnostic],
            exit: self.0.exit,
        }))
    }

    pub(crate) fn context(mut self, what: impl fmt::Display) -> Error {
        if self.0.diagnostics.is_empty() {
            self.0.message = format!("{what}: {}", self.0.message);
        }
        self
    }

    /// What is wrong in one line: of several things the first.
    pub(crate) fn sentence(&self) -> String {
        self.0.diagnostics.first().map_or_else(|| self.0.message.clone(), |first| first.message.clone())
    }

    /// The class of the failure: `Invalid` or `Unsupported` for the Dockerfile, `NotFound` for a missing source or
    /// image, `Failed` for a command that ended with an exit code, else what the worker or the host said.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Everything that is wrong with the Dockerfile, in the order of its lines; or the one step that failed.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.0.diagnostics
    }

    /// The exit code of the command, where a RUN step failed by one.
    pub fn exit_code(&self) -> Option<i32> {
        self.0.exit
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.diagnostics.is_empty() {
            return f.write_str(&self.0.message);
        }
        for (i, diagnostic) in self.0.diagnostics.iter().enumerate() {
            if i > 0 {
                f.write_str("\n\n")?;
            }
            diagnostic.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

impl From<coracle_host::Error> for Error {
    fn from(error: coracle_host::Error) -> Error {
        Error::new(error.kind(), error)
    }
}
