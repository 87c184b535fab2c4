//! Values as Go's fmt prints them.

use super::float::{self, Shape};
use super::quote::{quote, quoted};
use super::value::{Struct, Value};

/// `%v`.
pub(super) fn plain(value: &Value) -> String {
    let mut to = String::new();
    write(&mut to, value, Style::Plain);
    to
}

/// `fmt.Sprint`: blanks between operands of which neither is a text.
pub(super) fn sprint(values: &[Value]) -> String {
    let mut to = String::new();
    for (index, value) in values.iter().enumerate() {
        let texts = [index.checked_sub(1).and_then(|before| values.get(before)), Some(value)];
        if index > 0 && !texts.iter().any(|value| matches!(value, Some(Value::Text(_)))) {
            to.push(' ');
        }
        to += &plain(value);
    }
    to
}

/// `fmt.Sprintln`: blanks between all of them, and a new line.
pub(super) fn sprintln(values: &[Value]) -> String {
    values.iter().map(plain).collect::<Vec<_>>().join(" ") + "\n"
}

/// How `%v` prints: as it is, `%+v` or `%#v`.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Style {
    Plain,
    Named,
    Syntax,
}

pub(super) fn write(to: &mut String, value: &Value, style: Style) {
    let syntax = style == Style::Syntax;
    match value {
        Value::Nil => to.push_str("<nil>"),
        Value::Bool(yes) => *to += if *yes { "true" } else { "false" },
        Value::Int(number) => *to += &number.to_string(),
        Value::Float(number) => *to += &float::format(*number, Shape::General, None),
        Value::Text(text) if syntax => *to += &quote(text),
        Value::Text(text) => to.push_str(text),
        Value::NoList | Value::NoMap if syntax => *to += &format!("{}(nil)", value.kind()),
        Value::NoList => to.push_str("[]"),
        Value::NoMap => to.push_str("map[]"),
        Value::List(items) => {
            *to += if syntax { "[]interface {}{" } else { "[" };
            for (index, item) in items.iter().enumerate() {
                *to += match (index, syntax) {
                    (0, _) => "",
                    (_, true) => ", ",
                    (_, false) => " ",
                };
                write(to, item, style);
            }
            to.push(if syntax { '}' } else { ']' });
        }
        Value::Map(entries) => {
            *to += if syntax { "map[string]interface {}{" } else { "map[" };
            for (index, (key, item)) in entries.iter().enumerate() {
                *to += match (index, syntax) {
                    (0, _) => "",
                    (_, true) => ", ",
                    (_, false) => " ",
                };
                *to += &if syntax { quote(key) } else { key.clone() };
                to.push(':');
                write(to, item, style);
            }
            to.push(if syntax { '}' } else { ']' });
        }
        Value::Struct(Struct { fields, .. }) => {
            to.push('{');
            for (index, (name, item)) in fields.iter().enumerate() {
                *to += if index > 0 { " " } else { "" };
                if style != Style::Plain {
                    *to += name;
                    to.push(':');
                }
                write(to, item, style);
            }
            to.push('}');
        }
        Value::Method(_) => to.push_str("func(string) string"),
    }
}

/// What a directive of a format says besides its verb.
#[derive(Clone, Copy, Default)]
struct Flags {
    plus: bool,
    minus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Widths and precisions beyond this are none (Go's limit, too).
const WIDEST: i64 = 1_000_000;

/// `fmt.Sprintf`.
pub(super) fn sprintf(format: &str, values: &[Value]) -> String {
    let mut to = String::new();
    let mut rest = format;
    // The next operand, and whether operands were chosen by number: then none is left over.
    let (mut next, mut reordered) = (0, false);
    while let Some(at) = rest.find('%') {
        to += &rest[..at];
        rest = &rest[at + 1..];
        let mut flags = Flags::default();
        let mut good = true;
        while let Some(flag) = rest.chars().next() {
            match flag {
                '+' => flags.plus = true,
                '-' => flags.minus = true,
                '#' => flags.sharp = true,
                ' ' => flags.space = true,
                '0' => flags.zero = true,
                _ => break,
            }
            rest = &rest[1..];
        }
        let chosen = index(&mut rest, &mut next, values.len(), &mut good);
        reordered |= chosen;
        let star = rest.starts_with('*');
        match number(&mut rest, &mut next, values) {
            Wanted::Nothing => {}
            Wanted::Number(width) => {
                flags.minus |= width < 0;
                flags.width = usize::try_from(width.unsigned_abs()).ok();
                // `%[3]2d` chooses for nothing.
                good &= star || !chosen;
            }
            Wanted::Bad => to.push_str("%!(BADWIDTH)"),
        }
        if let Some(after) = rest.strip_prefix('.') {
            rest = after;
            reordered |= index(&mut rest, &mut next, values.len(), &mut good);
            match number(&mut rest, &mut next, values) {
                Wanted::Nothing => flags.precision = Some(0),
                Wanted::Number(precision) if precision < 0 => flags.precision = None,
                Wanted::Number(precision) => flags.precision = usize::try_from(precision).ok(),
                Wanted::Bad => to.push_str("%!(BADPREC)"),
            }
        }
        if rest.starts_with('[') {
            reordered |= index(&mut rest, &mut next, values.len(), &mut good);
        }
        let Some(verb) = rest.chars().next() else {
            to.push_str("%!(NOVERB)");
            break;
        };
        rest = &rest[verb.len_utf8()..];
        match (verb, values.get(next)) {
            ('%', _) => to.push('%'),
            _ if !good => to += &format!("%!{verb}(BADINDEX)"),
            (_, None) => to += &format!("%!{verb}(MISSING)"),
            (_, Some(value)) => {
                next += 1;
                directive(&mut to, verb, value, flags);
            }
        }
    }
    to += rest.rsplit_once('%').map_or(rest, |_| "");
    if !reordered && next < values.len() {
        let extra = values[next..].iter().map(|value| match value {
            Value::Nil => "<nil>".to_owned(),
            value => format!("{}={}", value.kind(), plain(value)),
        });
        to += &format!("%!(EXTRA {})", extra.collect::<Vec<_>>().join(", "));
    }
    to
}

/// `[n]`.
fn index(rest: &mut &str, next: &mut usize, count: usize, good: &mut bool) -> bool {
    let Some(inner) = rest.strip_prefix('[') else { return false };
    let Some((digits, after)) = inner.split_once(']') else {
        *good = false;
        *rest = inner;
        return true;
    };
    *rest = after;
    match digits.parse::<usize>() {
        Ok(number) if (1..=count).contains(&number) => *next = number - 1,
        _ => *good = false,
    }
    true
}

enum Wanted {
    Nothing,
    Number(i64),
    Bad,
}

/// A width or precision: digits, or `*` for an operand's value.
fn number(rest: &mut &str, next: &mut usize, values: &[Value]) -> Wanted {
    if let Some(after) = rest.strip_prefix('*') {
        *rest = after;
        let value = values.get(*next);
        *next += 1;
        return match value {
            Some(Value::Int(number)) if (-WIDEST..=WIDEST).contains(number) => Wanted::Number(*number),
            _ => Wanted::Bad,
        };
    }
    let digits = rest.len() - rest.trim_start_matches(|char: char| char.is_ascii_digit()).len();
    let (written, after) = rest.split_at(digits);
    *rest = after;
    match written.parse::<i64>() {
        Ok(number) if number <= WIDEST => Wanted::Number(number),
        _ => Wanted::Nothing,
    }
}

fn directive(to: &mut String, verb: char, value: &Value, flags: Flags) {
    match verb {
        'T' => return pad(to, value.kind(), Flags { zero: false, ..flags }),
        'p' => return bad(to, verb, value),
        'v' if flags.plus || flags.sharp => {
            let mut text = String::new();
            write(&mut text, value, if flags.sharp { Style::Syntax } else { Style::Named });
            return pad(to, &text, flags);
        }
        _ => {}
    }
    match value {
        Value::Nil if verb == 'v' => pad(to, "<nil>", Flags { zero: false, ..flags }),
        Value::Nil => *to += &format!("%!{verb}(<nil>)"),
        Value::Bool(_) if matches!(verb, 't' | 'v') => pad(to, &plain(value), flags),
        Value::Int(number) => integer(to, verb, *number, flags),
        Value::Float(number) => fraction(to, verb, *number, flags),
        Value::Text(text) => string(to, verb, text, flags),
        Value::List(items) => {
            to.push('[');
            for (index, item) in items.iter().enumerate() {
                *to += if index > 0 { " " } else { "" };
                directive(to, verb, item, flags);
            }
            to.push(']');
        }
        Value::NoList => to.push_str("[]"),
        Value::Map(entries) => {
            to.push_str("map[");
            for (index, (key, item)) in entries.iter().enumerate() {
                *to += if index > 0 { " " } else { "" };
                string(to, verb, key, flags);
                to.push(':');
                directive(to, verb, item, flags);
            }
            to.push(']');
        }
        Value::NoMap => to.push_str("map[]"),
        Value::Struct(Struct { fields, .. }) => {
            to.push('{');
            for (index, (_, item)) in fields.iter().enumerate() {
                *to += if index > 0 { " " } else { "" };
                directive(to, verb, item, flags);
            }
            to.push('}');
        }
        Value::Bool(_) | Value::Method(_) => bad(to, verb, value),
    }
}

fn bad(to: &mut String, verb: char, value: &Value) {
    *to += &format!("%!{verb}({}={})", value.kind(), plain(value));
}

fn integer(to: &mut String, verb: char, number: i64, flags: Flags) {
    let (digits, prefix) = match verb {
        'd' | 'v' => (number.unsigned_abs().to_string(), ""),
        'b' => (format!("{:b}", number.unsigned_abs()), "0b"),
        'o' => (format!("{:o}", number.unsigned_abs()), "0"),
        'O' => (format!("{:o}", number.unsigned_abs()), "0o"),
        'x' => (format!("{:x}", number.unsigned_abs()), "0x"),
        'X' => (format!("{:X}", number.unsigned_abs()), "0X"),
        'c' | 'q' | 'U' => {
            let char =
                u32::try_from(number).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER);
            let text = match verb {
                'c' => char.to_string(),
                'q' => quoted(&char.to_string(), '\'', flags.plus),
                _ if flags.sharp => format!("U+{number:04X} '{char}'"),
                _ => format!("U+{number:04X}"),
            };
            return pad(to, &text, Flags { zero: false, ..flags });
        }
        _ => return bad(to, verb, &Value::Int(number)),
    };
    let sign = sign(number < 0, flags);
    let prefix = if flags.sharp || verb == 'O' { prefix } else { "" };
    let digits = match flags.precision {
        Some(0) if number == 0 => String::new(),
        Some(precision) => zeros(&digits, precision),
        None if flags.zero && !flags.minus => {
            zeros(&digits, flags.width.unwrap_or(0).saturating_sub(sign.len()))
        }
        None => digits,
    };
    pad(to, &format!("{sign}{prefix}{digits}"), Flags { zero: false, ..flags });
}

fn fraction(to: &mut String, verb: char, number: f64, flags: Flags) {
    let (shape, precision) = match verb {
        'v' | 'g' | 'G' => (Shape::General, flags.precision),
        'e' | 'E' => (Shape::Exponent, Some(flags.precision.unwrap_or(6))),
        'f' | 'F' => (Shape::Decimal, Some(flags.precision.unwrap_or(6))),
        _ => return bad(to, verb, &Value::Float(number)),
    };
    let digits = float::format(number.abs(), shape, precision);
    let digits = if verb.is_ascii_uppercase() { digits.to_ascii_uppercase() } else { digits };
    let sign = sign(number.is_sign_negative() && !number.is_nan(), flags);
    if flags.zero && !flags.minus && number.is_finite() {
        let digits = zeros(&digits, flags.width.unwrap_or(0).saturating_sub(sign.len()));
        return *to += &format!("{sign}{digits}");
    }
    pad(to, &format!("{sign}{digits}"), Flags { zero: false, ..flags });
}

fn sign(negative: bool, flags: Flags) -> &'static str {
    match (negative, flags.plus, flags.space) {
        (true, ..) => "-",
        (false, true, _) => "+",
        (false, false, true) => " ",
        _ => "",
    }
}

fn string(to: &mut String, verb: char, text: &str, flags: Flags) {
    let cut: String = match flags.precision {
        Some(most) if verb != 'x' && verb != 'X' => text.chars().take(most).collect(),
        _ => text.to_owned(),
    };
    let shown = match verb {
        'v' | 's' => cut,
        'q' if flags.sharp && !cut.contains(['`', '\n', '\r', '\u{feff}']) => format!("`{cut}`"),
        'q' => quoted(&cut, '"', flags.plus),
        'x' | 'X' => {
            let bytes = text.bytes().take(flags.precision.unwrap_or(usize::MAX));
            let byte = |byte: u8| if verb == 'x' { format!("{byte:02x}") } else { format!("{byte:02X}") };
            let prefix = if flags.sharp { format!("0{verb}") } else { String::new() };
            match flags.space {
                true => bytes.map(|one| prefix.clone() + &byte(one)).collect::<Vec<_>>().join(" "),
                false if text.is_empty() => String::new(),
                false => prefix + &bytes.map(byte).collect::<String>(),
            }
        }
        _ => return bad(to, verb, &Value::Text(text.to_owned())),
    };
    pad(to, &shown, flags);
}

/// To the width, in characters.
fn pad(to: &mut String, text: &str, flags: Flags) {
    let missing = flags.width.unwrap_or(0).saturating_sub(text.chars().count());
    match (flags.minus, flags.zero) {
        (true, _) => *to += &(text.to_owned() + &" ".repeat(missing)),
        (false, true) => *to += &("0".repeat(missing) + text),
        (false, false) => *to += &(" ".repeat(missing) + text),
    }
}

/// Digits to at least this many.
fn zeros(digits: &str, least: usize) -> String {
    "0".repeat(least.saturating_sub(digits.len())) + digits
}
