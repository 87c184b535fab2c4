//! Variables in instructions: `$x`, `${x:-y}` and the rest of what the Dockerfile reference's section
//! "Environment replacement" lists, with shell quoting.

use coracle_host::Kind;

use crate::pattern::Pattern;

/// How long an expanded word may get; beyond it is a mistake, or an attack by doubling.
const MAX_EXPANDED: usize = 1 << 20;
/// How deep `${a:-${b:-…}}` may nest.
const MAX_DEPTH: usize = 32;

/// What expansion may do for one file: steps, and bytes that come out. Each word has bounds of its own; this bounds
/// them together, since every line can double what the line before has made.
#[derive(Debug)]
pub(crate) struct Budget(usize);

impl Default for Budget {
    fn default() -> Budget {
        Budget(1 << 24)
    }
}

impl Budget {
    /// Whether there was so much left. Where there was not, nothing is any more.
    pub(crate) fn take(&mut self, steps: usize) -> bool {
        let left = self.0.checked_sub(steps);
        self.0 = left.unwrap_or(0);
        left.is_some()
    }
}

/// Gives variables their values.
pub(crate) trait Lookup {
    /// The value of the variable, if it is set.
    fn get(&self, name: &str) -> Option<&str>;
}

impl<F: Fn(&str) -> Option<&'static str>> Lookup for F {
    fn get(&self, name: &str) -> Option<&str> {
        self(name)
    }
}

/// What is wrong with a word, at a byte offset of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) at: usize,
    pub(crate) message: String,
}

/// Replaces variables and removes quotes and escapes.
pub(crate) fn expand(
    word: &str,
    escape: char,
    vars: &dyn Lookup,
    budget: &mut Budget,
) -> Result<String, Fault> {
    Ok(Expander::new(word, escape, vars, budget).run()?.concat())
}

/// [`expand`], but blanks that came from a variable outside quotes part words, as for EXPOSE.
pub(crate) fn expand_words(
    word: &str,
    escape: char,
    vars: &dyn Lookup,
    budget: &mut Budget,
) -> Result<Vec<String>, Fault> {
    let mut expander = Expander::new(word, escape, vars, budget);
    expander.split = true;
    Ok(expander.run()?.into_iter().filter(|w| !w.is_empty()).collect())
}

/// Replaces variables but leaves quotes alone, as in a here-document that is not quoted.
pub(crate) fn expand_text(
    text: &str,
    escape: char,
    vars: &dyn Lookup,
    budget: &mut Budget,
) -> Result<String, Fault> {
    let mut expander = Expander::new(text, escape, vars, budget);
    expander.quotes = false;
    Ok(expander.run()?.concat())
}

struct Expander<'a, 'b> {
    text: &'a str,
    budget: &'b mut Budget,
    at: usize,
    escape: char,
    vars: &'a dyn Lookup,
    quotes: bool,
    split: bool,
    /// Reading a pattern: escapes of its wildcards stay in it.
    pattern: bool,
    depth: usize,
}

/// Words, the last of which is being written.
struct Output {
    words: Vec<String>,
    length: usize,
}

impl Output {
    fn push(&mut self, text: &str) {
        self.length += text.len();
        if let Some(word) = self.words.last_mut() {
            word.push_str(text);
        }
    }

    fn push_char(&mut self, c: char) {
        self.push(c.encode_utf8(&mut [0; 4]));
    }
}

impl<'a, 'b> Expander<'a, 'b> {
    fn new(text: &'a str, escape: char, vars: &'a dyn Lookup, budget: &'b mut Budget) -> Expander<'a, 'b> {
        Expander { text, budget, at: 0, escape, vars, quotes: true, split: false, pattern: false, depth: 0 }
    }

    fn run(mut self) -> Result<Vec<String>, Fault> {
        let mut output = Output { words: vec![String::new()], length: 0 };
        self.until(None, &mut output, true)?;
        Ok(output.words)
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn fault<T>(&self, kind: Kind, at: usize, message: impl Into<String>) -> Result<T, Fault> {
        Err(Fault { kind, at, message: message.into() })
    }

    /// Up to the end or an unquoted `stop`, which is taken. `live` is false in a word that is not used.
    fn until(&mut self, stop: Option<char>, out: &mut Output, live: bool) -> Result<(), Fault> {
        let start = self.at;
        while let Some(c) = self.peek() {
            if out.length > MAX_EXPANDED {
                return self.fault(Kind::Exhausted, start, "the value is longer than 1 MiB");
            }
            if Some(c) == stop {
                self.next();
                return Ok(());
            }
            match c {
                '\'' if self.quotes => self.single(out)?,
                '"' if self.quotes => self.double(out, live)?,
                '$' => {
                    let at = self.at;
                    let value = self.dollar(live)?;
                    self.spend(at, value.len())?;
                    if self.split { self.part(&value, out) } else { out.push(&value) }
                }
                c if c == self.escape => {
                    self.next();
                    match self.next() {
                        Some(next) if self.pattern && "*?\\".contains(next) => {
                            out.push_char('\\');
                            out.push_char(next);
                        }
                        Some(next) if self.quotes || next == '$' || next == self.escape => {
                            out.push_char(next)
                        }
                        Some(next) => {
                            out.push_char(c);
                            out.push_char(next);
                        }
                        None if !self.quotes => out.push_char(c),
                        None => {}
                    }
                }
                c if self.split && c.is_whitespace() => {
                    self.next();
                    out.words.push(String::new());
                }
                c => {
                    self.next();
                    out.push_char(c);
                }
            }
        }
        match stop {
            None => Ok(()),
            Some(stop) => self.fault(Kind::Invalid, start.saturating_sub(1), format!("`{stop}` is missing")),
        }
    }

    fn part(&self, value: &str, out: &mut Output) {
        for (i, piece) in value.split_whitespace().enumerate() {
            if i > 0 || value.starts_with(char::is_whitespace) {
                out.words.push(String::new());
            }
            out.push(piece);
        }
        if value.ends_with(char::is_whitespace) {
            out.words.push(String::new());
        }
    }

    fn single(&mut self, out: &mut Output) -> Result<(), Fault> {
        let start = self.at;
        self.next();
        while let Some(c) = self.next() {
            if c == '\'' {
                return Ok(());
            }
            out.push_char(c);
        }
        self.fault(Kind::Invalid, start, "the quote `'` is not closed")
    }

    fn double(&mut self, out: &mut Output, live: bool) -> Result<(), Fault> {
        let start = self.at;
        self.next();
        while let Some(c) = self.peek() {
            match c {
                '"' => {
                    self.next();
                    return Ok(());
                }
                '$' => {
                    let at = self.at;
                    let value = self.dollar(live)?;
                    self.spend(at, value.len())?;
                    out.push(&value);
                }
                c if c == self.escape => {
                    self.next();
                    match self.next() {
                        // Within double quotes an escape is one only before what would mean something.
                        Some(next) if next == '"' || next == '$' || next == self.escape => {
                            out.push_char(next)
                        }
                        Some(next) => {
                            out.push_char(c);
                            out.push_char(next);
                        }
                        None => {}
                    }
                }
                c => {
                    self.next();
                    out.push_char(c);
                }
            }
        }
        self.fault(Kind::Invalid, start, "the quote `\"` is not closed")
    }

    fn name(&mut self) -> &'a str {
        let rest = &self.text[self.at..];
        let first = rest.chars().next().unwrap_or(' ');
        let length = if first.is_ascii_digit() {
            rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())
        } else if "@*#?-$!".contains(first) {
            1
        } else {
            rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
        };
        self.at += length;
        &rest[..length]
    }

    fn dollar(&mut self, live: bool) -> Result<String, Fault> {
        let start = self.at;
        self.next();
        if self.peek() != Some('{') {
            let name = self.name();
            return Ok(if name.is_empty() {
                "$".to_owned()
            } else {
                self.vars.get(name).unwrap_or("").to_owned()
            });
        }
        self.next();
        let name = self.name();
        if name.is_empty() {
            return self.fault(Kind::Invalid, start, "bad substitution: no variable is named");
        }
        let value = self.vars.get(name);
        let Some(mut operator) = self.next() else {
            return self.fault(Kind::Invalid, start, format!("`}}` is missing after `${{{name}`"));
        };
        if operator == '}' {
            return Ok(value.unwrap_or("").to_owned());
        }
        let colon = operator == ':';
        if colon {
            operator = self.next().unwrap_or(' ');
        }
        // With the colon, an empty value counts as none.
        let filled = value.filter(|v| !colon || !v.is_empty());
        let use_word = match operator {
            '-' | '?' => filled.is_none(),
            '+' => filled.is_some(),
            '#' | '%' | '/' if !colon => {
                return self.substitution(start, operator, value.unwrap_or(""), live);
            }
            _ => {
                let what = format!(
                    "bad substitution: `{name}` is followed by `{}{operator}`",
                    if colon { ":" } else { "" }
                );
                return self.fault(Kind::Invalid, start, what);
            }
        };
        let word = self.word(start, live && use_word)?;
        Ok(match operator {
            '-' => filled.map_or(word, str::to_owned),
            '+' => filled.map_or(String::new(), |_| word),
            _ => match filled {
                Some(value) => value.to_owned(),
                None if !live => String::new(),
                None if word.is_empty() => {
                    return self.fault(Kind::Invalid, start, format!("`{name}` must have a value"));
                }
                None => return self.fault(Kind::Invalid, start, format!("`{name}`: {word}")),
            },
        })
    }

    /// `${x#p}`, `${x##p}`, `${x%p}`, `${x%%p}`, `${x/p/r}`, `${x//p/r}` from after the operator on.
    fn substitution(
        &mut self,
        start: usize,
        operator: char,
        value: &str,
        live: bool,
    ) -> Result<String, Fault> {
        let twice = self.peek() == Some(operator);
        if twice {
            self.next();
        }
        let stop = if operator == '/' { '/' } else { '}' };
        let pattern = self.word_until(start, stop, live, true)?;
        let pattern = Pattern::parse(&pattern).or_else(|what| self.fault(Kind::Invalid, start, what))?;
        self.spend(start, pattern.steps(value))?;
        Ok(match operator {
            '#' => pattern.without_prefix(value, twice).to_owned(),
            '%' => pattern.without_suffix(value, twice),
            _ => {
                let new = self.word_until(start, '}', live, false)?;
                if value.len().saturating_mul(new.len().max(1)) > MAX_EXPANDED * 64 {
                    return self.fault(Kind::Exhausted, start, "the value is longer than 1 MiB");
                }
                pattern.replaced(value, &new, twice)
            }
        })
    }

    fn spend(&mut self, start: usize, steps: usize) -> Result<(), Fault> {
        if self.budget.take(steps) {
            return Ok(());
        }
        self.fault(Kind::Exhausted, start, "the variables of this file take too long to replace")
    }

    fn word(&mut self, start: usize, live: bool) -> Result<String, Fault> {
        self.word_until(start, '}', live, false)
    }

    fn word_until(&mut self, start: usize, stop: char, live: bool, pattern: bool) -> Result<String, Fault> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.fault(Kind::Exhausted, start, "substitutions nest too deep");
        }
        let split = std::mem::replace(&mut self.split, false);
        let outer = std::mem::replace(&mut self.pattern, pattern);
        let mut out = Output { words: vec![String::new()], length: 0 };
        self.until(Some(stop), &mut out, live)?;
        self.split = split;
        self.pattern = outer;
        self.depth -= 1;
        Ok(out.words.concat())
    }
}

#[cfg(test)]
mod tests;
