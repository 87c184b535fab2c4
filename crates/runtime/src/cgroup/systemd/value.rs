//! Values of D-Bus, those of them that properties of units have.

use std::fmt;

use coracle_host::Kind;

use crate::error::{Error, Problem, Result};

/// A value with its type (D-Bus specification, "Type System").
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Value {
    Bool(bool),
    I32(i32),
    U32(u32),
    I64(i64),
    U64(u64),
    Str(String),
    Strs(Vec<String>),
    Bytes(Vec<u8>),
    U32s(Vec<u32>),
}

/// A name and its value.
pub(crate) type Property = (String, Value);

impl Value {
    /// The type, as D-Bus writes it.
    pub(super) fn signature(&self) -> &'static str {
        match self {
            Value::Bool(_) => "b",
            Value::I32(_) => "i",
            Value::U32(_) => "u",
            Value::I64(_) => "x",
            Value::U64(_) => "t",
            Value::Str(_) => "s",
            Value::Strs(_) => "as",
            Value::Bytes(_) => "ay",
            Value::U32s(_) => "au",
        }
    }
}

/// As GVariant's text has it, without types; no limit is `infinity`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Bool(value) => write!(f, "{value}"),
            Value::I32(value) => write!(f, "{value}"),
            Value::U32(value) => write!(f, "{value}"),
            Value::I64(value) => write!(f, "{value}"),
            Value::U64(u64::MAX) => f.write_str("infinity"),
            Value::U64(value) => write!(f, "{value}"),
            Value::Str(value) => f.write_str(value),
            Value::Strs(values) => write!(f, "{values:?}"),
            Value::Bytes(bytes) => {
                f.write_str("0x")?;
                bytes.iter().rev().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Value::U32s(values) => write!(f, "{values:?}"),
        }
    }
}

/// A property as annotations of the runtimes give it: a value in GVariant's text format, of the types that properties of
/// units have. `…Sec` is written as the `…USec` that systemd takes.
///
/// # Errors
/// `Invalid` for what is no value, `Unsupported` for types beyond strings, numbers, truth and lists of strings.
pub(super) fn property(name: &str, text: &str) -> Result<Property> {
    let what = || format!("org.systemd.property.{name}: {text:?}");
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(Error::invalid(format!("{}: there is no property of that name", what())));
    }
    let Some(value) = parse(text.trim()) else {
        let known = "strings, int32, uint32, int64, uint64, booleans and lists of strings are";
        let text = format!("{}: not a value that is understood (GVariant's text format; {known})", what());
        return Err(Error::problems(vec![Problem { kind: Kind::Unsupported, text }]));
    };
    let Some(stem) = name.strip_suffix("Sec").filter(|stem| !stem.ends_with('U')) else {
        return Ok((name.to_owned(), value));
    };
    let seconds = match value {
        Value::I32(seconds) => u64::try_from(seconds).ok(),
        Value::I64(seconds) => u64::try_from(seconds).ok(),
        Value::U32(seconds) => Some(seconds.into()),
        Value::U64(seconds) => Some(seconds),
        _ => None,
    };
    let micros = seconds.and_then(|seconds| seconds.checked_mul(1_000_000));
    let micros = micros.ok_or_else(|| Error::invalid(format!("{}: not a number of seconds", what())))?;
    Ok((format!("{stem}USec"), Value::U64(micros)))
}

/// `true`, `'text'`, `15`, `uint64 15`, `@t 15`, `['a', 'b']`.
fn parse(text: &str) -> Option<Value> {
    if let Some((kind, rest)) = text.split_once(' ') {
        let kind = match kind {
            "boolean" | "@b" => Some('b'),
            "int32" | "@i" => Some('i'),
            "uint32" | "@u" => Some('u'),
            "int64" | "@x" => Some('x'),
            "uint64" | "@t" => Some('t'),
            "string" | "@s" => Some('s'),
            "@as" => Some('a'),
            _ => None,
        };
        if let Some(kind) = kind {
            return typed(kind, rest.trim());
        }
    }
    ['b', 's', 'a', 'i'].into_iter().find_map(|kind| typed(kind, text))
}

fn typed(kind: char, text: &str) -> Option<Value> {
    match kind {
        'b' => text.parse().ok().map(Value::Bool),
        'i' => text.parse().ok().map(Value::I32),
        'u' => text.parse().ok().map(Value::U32),
        'x' => text.parse().ok().map(Value::I64),
        't' => text.parse().ok().map(Value::U64),
        's' => string(text).filter(|(_, rest)| rest.is_empty()).map(|(string, _)| Value::Str(string)),
        _ => strings(text).map(Value::Strs),
    }
}

fn strings(text: &str) -> Option<Vec<String>> {
    let mut rest = text.strip_prefix('[')?.strip_suffix(']')?.trim();
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (string, after) = string(rest)?;
        found.push(string);
        rest = match after.trim_start() {
            "" => "",
            more => more.strip_prefix(',')?.trim_start(),
        };
    }
    Some(found)
}

/// A quoted string, and what comes behind it.
fn string(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|first| matches!(first, '\'' | '"'))?;
    let mut string = String::new();
    let mut letters = text.char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\0' => return None,
            '\\' => match letters.next()?.1 {
                plain @ ('\\' | '\'' | '"') => string.push(plain),
                _ => return None,
            },
            _ if letter == quote => return Some((string, &text[at + 1..])),
            _ => string.push(letter),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_values() {
        for (text, value) in [
            ("true", Value::Bool(true)),
            ("15", Value::I32(15)),
            ("@x -3", Value::I64(-3)),
            ("uint64 10000000", Value::U64(10_000_000)),
            ("'inactive-or-failed'", Value::Str("inactive-or-failed".into())),
            (r#" "it\"s" "#, Value::Str("it\"s".into())),
            ("['a.service', 'b.service']", Value::Strs(vec!["a.service".into(), "b.service".into()])),
            ("@as []", Value::Strs(Vec::new())),
        ] {
            assert_eq!(property("After", text).unwrap(), ("After".into(), value), "{text}");
        }
        assert_eq!(
            property("TimeoutStopSec", "2").unwrap(),
            ("TimeoutStopUSec".into(), Value::U64(2_000_000))
        );
        assert_eq!(property("TimeoutStopUSec", "uint64 7").unwrap().0, "TimeoutStopUSec");
    }

    #[test]
    fn what_is_none() {
        for text in ["", "word", "'open", "'a' 'b'", "uint64 -1", "double 1.5", "['a' 'b']", "(1, 2)"] {
            assert_eq!(property("X", text).unwrap_err().kind(), Kind::Unsupported, "{text}");
        }
        assert_eq!(property("", "1").unwrap_err().kind(), Kind::Invalid);
        assert_eq!(property("TimeoutStopSec", "'soon'").unwrap_err().kind(), Kind::Invalid);
    }
}
