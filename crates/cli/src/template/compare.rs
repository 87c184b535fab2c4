//! `eq`, `ne`, `lt`, `le`, `gt`, `ge`.

use std::cmp::Ordering;

use super::value::Value;

const TYPES: &str = "incompatible types for comparison";
const TYPE: &str = "invalid type for comparison";

/// Whether the first one is like any of the others.
pub(super) fn equal(arguments: &[Value]) -> Result<bool, String> {
    let Some((first, others)) = arguments.split_first() else { return Ok(false) };
    if others.is_empty() {
        return Err("missing argument for comparison".into());
    }
    for other in others {
        let same = match (first, other) {
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Int(a), Value::Int(b)) => a == b,
            (Value::Float(a), Value::Float(b)) => a == b,
            (Value::Text(a), Value::Text(b)) => a == b,
            (Value::Nil, other) | (other, Value::Nil) => {
                matches!(other, Value::Nil | Value::NoList | Value::NoMap)
            }
            (a, b) if is_composite(a) && is_composite(b) => return Err(not_comparable(a)),
            _ => return Err(TYPES.into()),
        };
        if same {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_composite(value: &Value) -> bool {
    !matches!(value, Value::Nil | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_))
}

fn not_comparable(value: &Value) -> String {
    format!("non-comparable type {}: {}", super::print::plain(value), value.kind())
}

/// How the first stands to the second.
pub(super) fn order(a: &Value, b: &Value) -> Result<Option<Ordering>, String> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => Ok(Some(a.cmp(b))),
        (Value::Float(a), Value::Float(b)) => Ok(a.partial_cmp(b)),
        (Value::Text(a), Value::Text(b)) => Ok(Some(a.cmp(b))),
        (
            Value::Int(_) | Value::Float(_) | Value::Text(_),
            Value::Int(_) | Value::Float(_) | Value::Text(_) | Value::Bool(_),
        ) => Err(TYPES.into()),
        (Value::Bool(_), Value::Int(_) | Value::Float(_) | Value::Text(_)) => Err(TYPES.into()),
        _ => Err(TYPE.into()),
    }
}
