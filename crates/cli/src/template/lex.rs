//! A template's text as tokens (Go's text/template, "Text and spaces", "Actions", "Arguments").

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    LeftDelim,
    RightDelim,
    Space,
    Bool,
    Char,
    Number,
    Quoted,
    Raw,
    /// `.name`
    Field,
    /// `$`, `$name`
    Variable,
    Identifier,
    Keyword,
    Dot,
    Nil,
    Declare,
    Assign,
    Pipe,
    LeftParen,
    RightParen,
    Other,
    /// Why the rest can't be read; the last token.
    Error,
    End,
}

/// A token: its text, where it begins (bytes), and in which line (from 1).
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) text: String,
    pub(super) at: usize,
    pub(super) line: usize,
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kind {
            Kind::End => f.write_str("EOF"),
            Kind::Error => f.write_str(&self.text),
            Kind::Keyword | Kind::Dot | Kind::Nil => write!(f, "<{}>", self.text),
            _ if self.text.chars().count() > 10 => {
                let begin: String = self.text.chars().take(10).collect();
                write!(f, "{}...", super::quote::quote(&begin))
            }
            _ => f.write_str(&super::quote::quote(&self.text)),
        }
    }
}

const KEYWORDS: [&str; 10] =
    ["block", "break", "continue", "define", "else", "end", "if", "range", "template", "with"];

/// The tokens of a template. The last one is an end or an error.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut lexer = Lexer { text, at: 0, tokens: Vec::new(), parens: 0 };
    if let Err(problem) = lexer.all() {
        let (at, line) = (lexer.at, lexer.line(lexer.at));
        lexer.tokens.push(Token { kind: Kind::Error, text: problem, at, line });
    }
    lexer.tokens
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    tokens: Vec<Token>,
    parens: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn line(&self, at: usize) -> usize {
        1 + self.text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count()
    }

    /// The next `length` bytes are a token.
    fn take(&mut self, kind: Kind, length: usize) {
        let (at, line) = (self.at, self.line(self.at));
        let text = self.rest()[..length].to_owned();
        self.tokens.push(Token { kind, text, at, line });
        self.at += length;
    }

    fn all(&mut self) -> Result<(), String> {
        loop {
            let Some(left) = self.rest().find("{{") else {
                if !self.rest().is_empty() {
                    self.take(Kind::Text, self.rest().len());
                }
                self.take(Kind::End, 0);
                return Ok(());
            };
            let trims = trims_before(&self.rest()[left + 2..]);
            let text = &self.rest()[..left];
            let kept = if trims { text.trim_end_matches(is_space).len() } else { left };
            if kept > 0 {
                self.take(Kind::Text, kept);
            }
            self.at += left - kept;
            let marker = if trims { 2 } else { 0 };
            if self.rest()[2 + marker..].starts_with("/*") {
                self.comment(2 + marker)?;
            } else {
                self.take(Kind::LeftDelim, 2);
                self.at += marker;
                self.parens = 0;
                self.action()?;
            }
        }
    }

    fn comment(&mut self, begin: usize) -> Result<(), String> {
        let Some(end) = self.rest()[begin + 2..].find("*/") else { return Err("unclosed comment".into()) };
        let after = &self.rest()[begin + 2 + end + 2..];
        let (length, trims) = if let Some(marker) = trims_after(after) {
            (marker + 2, true)
        } else if after.starts_with("}}") {
            (2, false)
        } else {
            return Err("comment ends before closing delimiter".into());
        };
        self.at += begin + 2 + end + 2 + length;
        self.trim_left(trims);
        Ok(())
    }

    fn trim_left(&mut self, trims: bool) {
        if trims {
            self.at += self.rest().len() - self.rest().trim_start_matches(is_space).len();
        }
    }

    fn action(&mut self) -> Result<(), String> {
        loop {
            let rest = self.rest();
            let marker = trims_after(rest);
            if marker.is_some() || rest.starts_with("}}") {
                if self.parens > 0 {
                    return Err("unclosed left paren".into());
                }
                self.at += marker.unwrap_or(0);
                self.take(Kind::RightDelim, 2);
                self.trim_left(marker.is_some());
                return Ok(());
            }
            let Some(first) = rest.chars().next() else { return Err("unclosed action".into()) };
            let second = rest[first.len_utf8()..].chars().next();
            match first {
                _ if is_space(first) => {
                    let after = rest.trim_start_matches(is_space);
                    // The blank before a trim marker is the marker's.
                    let length = rest.len() - after.len();
                    let length = if after.starts_with("-}}") { length - 1 } else { length };
                    if length > 0 {
                        self.take(Kind::Space, length);
                    }
                }
                '=' => self.take(Kind::Assign, 1),
                ':' if second == Some('=') => self.take(Kind::Declare, 2),
                ':' => return Err("expected :=".into()),
                '|' => self.take(Kind::Pipe, 1),
                '"' => self.quoted('"', Kind::Quoted, "unterminated quoted string")?,
                '\'' => self.quoted('\'', Kind::Char, "unterminated character constant")?,
                '`' => match rest[1..].find('`') {
                    Some(end) => self.take(Kind::Raw, end + 2),
                    None => return Err("unterminated raw quoted string".into()),
                },
                '$' => self.name(Kind::Variable)?,
                // At the very end it counts as a number's.
                '.' if second.is_some_and(|second| !second.is_ascii_digit()) => match second {
                    Some(second) if is_word(second) => self.name(Kind::Field)?,
                    _ => {
                        self.take(Kind::Dot, 1);
                        self.ended()?;
                    }
                },
                '+' | '-' | '.' | '0'..='9' => self.number()?,
                _ if is_word(first) => self.name(Kind::Identifier)?,
                '(' => {
                    self.parens += 1;
                    self.take(Kind::LeftParen, 1);
                }
                ')' if self.parens == 0 => return Err("unexpected right paren".into()),
                ')' => {
                    self.parens -= 1;
                    self.take(Kind::RightParen, 1);
                }
                _ if first.is_ascii_graphic() => self.take(Kind::Other, 1),
                _ => return Err(format!("unrecognized character in action: {}", unicode(first))),
            }
        }
    }

    fn quoted(&mut self, quote: char, kind: Kind, problem: &str) -> Result<(), String> {
        let mut escaped = false;
        for (index, char) in self.rest().char_indices().skip(1) {
            match char {
                '\n' => break,
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                _ if char == quote => {
                    self.take(kind, index + 1);
                    return Ok(());
                }
                _ => {}
            }
        }
        Err(problem.into())
    }

    /// A word, whose first character may be a mark.
    fn name(&mut self, kind: Kind) -> Result<(), String> {
        let rest = self.rest();
        let mark = usize::from(kind != Kind::Identifier);
        let length = rest[mark..].find(|char| !is_word(char)).map_or(rest.len(), |end| end + mark);
        let kind = match &rest[..length] {
            "true" | "false" => Kind::Bool,
            "nil" => Kind::Nil,
            word if KEYWORDS.contains(&word) => Kind::Keyword,
            _ => kind,
        };
        self.take(kind, length);
        self.ended()
    }

    /// After a word comes something that ends words.
    fn ended(&self) -> Result<(), String> {
        match self.rest().chars().next() {
            None => Ok(()),
            Some(next) if is_space(next) || matches!(next, '.' | ',' | '|' | ':' | ')' | '(' | '=') => Ok(()),
            Some(_) if self.rest().starts_with("}}") => Ok(()),
            Some(next) => Err(format!("bad character {}", unicode(next))),
        }
    }

    fn number(&mut self) -> Result<(), String> {
        let rest = self.rest();
        let mut length = scan_number(rest.as_bytes());
        let bad = |length: usize| Err(format!("bad number syntax: {}", super::quote::quote(&rest[..length])));
        // A second part makes it complex, or wrong.
        if rest[length..].starts_with(['+', '-']) {
            length += scan_number(&rest.as_bytes()[length..]);
            return bad(length);
        }
        if let Some(next) = rest[length..].chars().next().filter(|next| is_word(*next)) {
            return bad(length + next.len_utf8());
        }
        self.take(Kind::Number, length);
        Ok(())
    }
}

/// How long a number is: all that may be in one, in the order in which it may.
fn scan_number(bytes: &[u8]) -> usize {
    let mut at = 0;
    let run = |at: &mut usize, of: &[u8], most: usize| {
        let found = bytes[*at..].iter().take(most).take_while(|byte| of.contains(byte)).count();
        *at += found;
        found > 0
    };
    run(&mut at, b"+-", 1);
    let mut digits: &[u8] = b"0123456789_";
    if run(&mut at, b"0", 1) {
        if run(&mut at, b"xX", 1) {
            digits = b"0123456789abcdefABCDEF_";
        } else if run(&mut at, b"oO", 1) {
            digits = b"01234567_";
        } else if run(&mut at, b"bB", 1) {
            digits = b"01_";
        }
    }
    run(&mut at, digits, usize::MAX);
    if run(&mut at, b".", 1) {
        run(&mut at, digits, usize::MAX);
    }
    let exponent: &[u8] = if digits.len() > 11 { b"pP" } else { b"eE" };
    if run(&mut at, exponent, 1) {
        run(&mut at, b"+-", 1);
        run(&mut at, b"0123456789_", usize::MAX);
    }
    at
}

/// `- ` after `{{`.
fn trims_before(rest: &str) -> bool {
    let mut chars = rest.chars();
    chars.next() == Some('-') && chars.next().is_some_and(is_space)
}

/// How long the blank and hyphen before `}}` are, if they are there.
fn trims_after(rest: &str) -> Option<usize> {
    let mut chars = rest.chars();
    (chars.next().is_some_and(is_space) && chars.as_str().starts_with("-}}")).then_some(2)
}

fn is_space(char: char) -> bool {
    matches!(char, ' ' | '\t' | '\r' | '\n')
}

fn is_word(char: char) -> bool {
    char == '_' || char.is_alphanumeric()
}

/// Go's `%#U`.
fn unicode(char: char) -> String {
    match char.is_control() {
        true => format!("U+{:04X}", char as u32),
        false => format!("U+{:04X} '{char}'", char as u32),
    }
}
