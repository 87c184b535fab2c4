//! The functions of templates: Go's own, and docker's.

use std::cmp::Ordering;

use super::print::{sprint, sprintf, sprintln};
use super::value::{Value, json};
use super::{compare, escape, print};

/// Names, and how many arguments each takes; `None`: any number from there on.
const FUNCTIONS: [(&str, usize, Option<usize>); 26] = [
    ("and", 1, None),
    ("call", 1, None),
    ("eq", 1, None),
    ("ge", 2, Some(2)),
    ("gt", 2, Some(2)),
    ("html", 0, None),
    ("index", 1, None),
    ("join", 2, Some(2)),
    ("js", 0, None),
    ("json", 1, Some(1)),
    ("le", 2, Some(2)),
    ("len", 1, Some(1)),
    ("lower", 1, Some(1)),
    ("lt", 2, Some(2)),
    ("ne", 2, Some(2)),
    ("not", 1, Some(1)),
    ("or", 1, None),
    ("pad", 3, Some(3)),
    ("print", 0, None),
    ("printf", 1, None),
    ("println", 0, None),
    ("slice", 1, None),
    ("split", 2, Some(2)),
    ("title", 1, Some(1)),
    ("truncate", 2, Some(2)),
    ("upper", 1, Some(1)),
];
const URLQUERY: &str = "urlquery";

pub(super) fn is_known(name: &str) -> bool {
    name == URLQUERY || FUNCTIONS.iter().any(|(known, ..)| *known == name)
}

/// Whether a function takes that many.
pub(super) fn count(name: &str, got: usize) -> Result<(), String> {
    let Some((_, least, most)) = FUNCTIONS.iter().find(|(known, ..)| *known == name) else { return Ok(()) };
    match most {
        None if got < *least => {
            Err(format!("wrong number of args for {name}: want at least {least} got {got}"))
        }
        Some(_) if got != *least => Err(format!("wrong number of args for {name}: want {least} got {got}")),
        _ => Ok(()),
    }
}

/// An argument of the wrong type.
pub(super) struct Mismatch {
    pub(super) expected: &'static str,
    got: &'static str,
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.got {
            "<nil>" => write!(f, "invalid value; expected {}", self.expected),
            got => write!(f, "wrong type for value; expected {}; got {got}", self.expected),
        }
    }
}

/// What is wrong with the argument at this place, as far as its type says.
pub(super) fn mismatch(name: &str, place: usize, value: &Value) -> Option<Mismatch> {
    let expected = match (name, place) {
        ("join", 0) => "[]string",
        ("lower" | "upper" | "title", _)
        | ("printf", 0)
        | ("pad" | "truncate", 0)
        | ("split", _)
        | ("join", 1) => "string",
        ("pad" | "truncate", _) => "int",
        _ => return None,
    };
    let fits = match value {
        Value::Text(_) => expected == "string",
        Value::Int(_) => expected == "int",
        Value::List(_) | Value::NoList => expected == "[]string",
        _ => false,
    };
    (!fits).then(|| Mismatch { expected, got: value.kind() })
}

/// Calls it; [`count`] and [`mismatch`] have looked at the arguments.
pub(super) fn call(name: &str, arguments: &[Value]) -> Result<Value, String> {
    let text = |place: usize| match arguments.get(place) {
        Some(Value::Text(text)) => text.as_str(),
        _ => "",
    };
    let whole = |place: usize| match arguments.get(place) {
        Some(Value::Int(number)) => *number,
        _ => 0,
    };
    let escaped = |escape: fn(&str) -> String| Value::Text(escape(&joined(arguments)));
    let ordered = |wanted: &[Ordering], otherwise: bool| -> Result<Value, String> {
        let order = compare::order(&arguments[0], &arguments[1])?;
        Ok(Value::Bool(order.map_or(otherwise, |order| wanted.contains(&order))))
    };
    Ok(match name {
        // All were tried, and none decided: it is the last one.
        "and" | "or" => arguments.last().cloned().unwrap_or(Value::Nil),
        "not" => Value::Bool(!arguments[0].truth()),
        "call" => return Err("non-function".into()),
        "eq" => Value::Bool(compare::equal(arguments)?),
        "ne" => Value::Bool(!compare::equal(arguments)?),
        "lt" => ordered(&[Ordering::Less], false)?,
        "le" => ordered(&[Ordering::Less, Ordering::Equal], false)?,
        // In Go they are the negations of the others, also for what is not a number.
        "gt" => ordered(&[Ordering::Greater], true)?,
        "ge" => ordered(&[Ordering::Greater, Ordering::Equal], true)?,
        "len" => length(&arguments[0])?,
        "index" => index(&arguments[0], &arguments[1..])?,
        "slice" => slice(&arguments[0], &arguments[1..])?,
        "html" => escaped(escape::html),
        "js" => escaped(escape::js),
        URLQUERY => escaped(escape::query),
        "print" => Value::Text(sprint(arguments)),
        "println" => Value::Text(sprintln(arguments)),
        "printf" => Value::Text(sprintf(text(0), &arguments[1..])),
        "json" => Value::Text(json(&arguments[0])),
        "lower" => Value::Text(text(0).to_lowercase()),
        "upper" => Value::Text(text(0).to_uppercase()),
        "title" => Value::Text(title(text(0))),
        "split" => Value::list(split(text(0), text(1))),
        "join" => {
            Value::Text(items(&arguments[0]).iter().map(print::plain).collect::<Vec<_>>().join(text(1)))
        }
        "pad" => Value::Text(pad(text(0), whole(1), whole(2))?),
        "truncate" => Value::Text(truncate(text(0), whole(1))?),
        _ => return Err(format!("function {name:?} not defined")),
    })
}

/// What the escaping functions escape: one text as it is, everything else as `print` prints it.
fn joined(arguments: &[Value]) -> String {
    match arguments {
        [Value::Text(text)] => text.clone(),
        [Value::Nil] => "<no value>".into(),
        arguments => sprint(arguments),
    }
}

fn length(of: &Value) -> Result<Value, String> {
    let count = match of {
        Value::Text(text) => text.len(),
        Value::List(items) => items.len(),
        Value::Map(entries) => entries.len(),
        Value::NoList | Value::NoMap => 0,
        Value::Struct(of) if of.kind.is_empty() => of.fields.len(),
        Value::Nil => return Err("reflect: call of reflect.Value.Type on zero Value".into()),
        other => return Err(format!("len of type {}", other.kind())),
    };
    Ok(Value::from(count as u64))
}

fn position(of: &Value, length: usize) -> Result<usize, String> {
    match of {
        Value::Int(number) => match usize::try_from(*number) {
            Ok(place) if place < length => Ok(place),
            _ => Err(format!("index out of range: {number}")),
        },
        Value::Nil => Err("cannot index slice/array with nil".into()),
        other => Err(format!("cannot index slice/array with type {}", other.kind())),
    }
}

fn index(of: &Value, places: &[Value]) -> Result<Value, String> {
    if matches!(of, Value::Nil | Value::NoList) {
        return Err("index of untyped nil".into());
    }
    let mut value = of.clone();
    for place in places {
        let key = || match place {
            Value::Text(key) => Ok(key),
            Value::Nil => Err("value is nil; should be of type string".to_owned()),
            other => Err(format!("value has type {}; should be string", other.kind())),
        };
        value = match &value {
            Value::List(items) => items[position(place, items.len())?].clone(),
            Value::Text(text) => Value::from(i64::from(text.as_bytes()[position(place, text.len())?])),
            Value::Map(entries) => match entries.get(key()?) {
                Some(found) => found.clone(),
                // Go has the type's nothing; of a map of texts that is the empty one.
                None if !entries.is_empty()
                    && entries.values().all(|value| matches!(value, Value::Text(_))) =>
                {
                    "".into()
                }
                None => Value::Nil,
            },
            Value::NoMap => key().map(|_| Value::Nil)?,
            Value::Struct(fields) if fields.kind.is_empty() => {
                fields.get(key()?).cloned().unwrap_or(Value::Nil)
            }
            Value::Nil | Value::NoList => return Err("index of nil pointer".into()),
            other => return Err(format!("can't index item of type {}", other.kind())),
        };
    }
    Ok(value)
}

fn slice(of: &Value, places: &[Value]) -> Result<Value, String> {
    let length = match of {
        Value::Text(text) => text.len(),
        Value::List(items) => items.len(),
        Value::NoList => 0,
        Value::Nil => return Err("slice of untyped nil".into()),
        other => return Err(format!("can't slice item of type {}", other.kind())),
    };
    if places.len() > 3 {
        return Err(format!("too many slice indexes: {}", places.len()));
    }
    if places.len() == 3 && matches!(of, Value::Text(_)) {
        return Err("cannot 3-index slice a string".into());
    }
    let mut bounds = [0, length, length];
    for (bound, place) in bounds.iter_mut().zip(places) {
        *bound = position(place, length + 1)?;
    }
    let [first, last, _] = bounds;
    if first > last {
        return Err(format!("invalid slice index: {first} > {last}"));
    }
    if places.len() == 3 && last > bounds[2] {
        return Err(format!("invalid slice index: {last} > {}", bounds[2]));
    }
    Ok(match of {
        Value::Text(text) => Value::Text(String::from_utf8_lossy(&text.as_bytes()[first..last]).into_owned()),
        Value::List(items) => Value::List(items[first..last].to_vec()),
        _ => Value::NoList,
    })
}

/// `strings.Title`: the first letter of each word.
fn title(text: &str) -> String {
    let mut to = String::with_capacity(text.len());
    let mut inside = false;
    for char in text.chars() {
        match inside {
            true => to.push(char),
            false => to.extend(char.to_uppercase()),
        }
        inside = char.is_alphanumeric() || char == '_' || !(char.is_ascii() || char.is_whitespace());
    }
    to
}

fn split(text: &str, at: &str) -> Vec<String> {
    match at {
        "" => text.chars().map(String::from).collect(),
        at => text.split(at).map(str::to_owned).collect(),
    }
}

fn items(of: &Value) -> &[Value] {
    match of {
        Value::List(items) => items,
        _ => &[],
    }
}

fn blanks(count: i64) -> Result<String, String> {
    let count = usize::try_from(count).map_err(|_| "strings: negative Repeat count".to_owned())?;
    if count > 1 << 20 {
        return Err("strings: Repeat output length overflow".into());
    }
    Ok(" ".repeat(count))
}

/// Blanks before and after; nothing stays nothing.
fn pad(text: &str, before: i64, after: i64) -> Result<String, String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    Ok(blanks(before)? + text + &blanks(after)?)
}

/// At most this many bytes.
fn truncate(text: &str, most: i64) -> Result<String, String> {
    match usize::try_from(most) {
        Ok(most) if text.len() < most => Ok(text.to_owned()),
        Ok(most) => Ok(String::from_utf8_lossy(&text.as_bytes()[..most.min(text.len())]).into_owned()),
        Err(_) => Err(format!("runtime error: slice bounds out of range [:{most}]")),
    }
}
