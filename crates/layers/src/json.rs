//! JSON whose bytes depend on nothing but its content.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Error, Result};

/// Keys sorted at every level: the OCI types keep labels in hash maps, and a digest must not depend on their order.
pub(crate) fn canonical(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_value(value)
        .and_then(|value| serde_json::to_vec(&sorted(value)))
        .map_err(|error| Error::invalid(format!("encode JSON: {error}")))
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.into_iter().collect();
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            Value::Object(entries.into_iter().map(|(key, value)| (key, sorted(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

/// Parses `bytes`; `what` names them in the error.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8], what: impl FnOnce() -> String) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| Error::corrupt(format!("{}: {error}", what())))
}
