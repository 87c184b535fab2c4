//! What templates are about: values as JSON has them, with Go's difference between a struct and a map.

use std::collections::BTreeMap;

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

/// A value that a template can be executed on. It serialises as JSON, a struct's fields in their order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// `null`, and what a map has no entry for.
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Value>),
    /// A list that JSON has as `null`: Go's nil slice.
    NoList,
    Map(BTreeMap<String, Value>),
    /// A map that JSON has as `null`: Go's nil map.
    NoMap,
    Struct(Struct),
    /// A method of one text; no part of the JSON.
    Method(Method),
}

/// What a method makes of its argument.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Method {
    /// The label of that name: docker's `.Label "key"`.
    Label(BTreeMap<String, String>),
    /// What heads a column of labels: the last part of the name, its hyphens and underscores blank.
    Heading,
}

impl Method {
    pub(super) fn call(&self, key: &str) -> String {
        match self {
            Method::Label(labels) => labels.get(key).cloned().unwrap_or_default(),
            Method::Heading => key.rsplit('.').next().unwrap_or(key).replace(['-', '_'], " "),
        }
    }
}

/// Fields in order. Asking for another one is an error, where a map has nothing to say.
#[derive(Clone, Debug, PartialEq, Default)]
pub(crate) struct Struct {
    /// The type that errors name; without one they speak of a map without the entry, as `docker inspect` does.
    pub(crate) kind: &'static str,
    pub(crate) fields: Vec<(String, Value)>,
}

impl Struct {
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }
}

/// The names under which docker's JSON has maps, not structs: [`Value`] from `serde_json` goes by them.
const MAPS: [&str; 17] = [
    "Annotations",
    "Containers",
    "Data",
    "DriverOpts",
    "ExposedPorts",
    "Labels",
    "LogConfig.Config",
    "Networks",
    "Options",
    "PortBindings",
    "Ports",
    "Services",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
    "Volumes",
    "AuxiliaryAddresses",
];

impl Value {
    /// A struct of these fields.
    pub(crate) fn fields<K: Into<String>>(fields: impl IntoIterator<Item = (K, Value)>) -> Value {
        let fields = fields.into_iter().map(|(name, value)| (name.into(), value)).collect();
        Value::Struct(Struct { kind: "", fields })
    }

    /// A map of these entries.
    pub(crate) fn map<K: Into<String>, V: Into<Value>>(entries: impl IntoIterator<Item = (K, V)>) -> Value {
        Value::Map(entries.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }

    /// A list.
    pub(crate) fn list<V: Into<Value>>(items: impl IntoIterator<Item = V>) -> Value {
        Value::List(items.into_iter().map(Into::into).collect())
    }

    /// Its type in Go.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Nil => "<nil>",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float64",
            Value::Text(_) => "string",
            Value::List(_) | Value::NoList => "[]interface {}",
            Value::Map(_) | Value::NoMap => "map[string]interface {}",
            Value::Struct(Struct { kind: "", .. }) => "map[string]interface {}",
            Value::Struct(Struct { kind, .. }) => kind,
            Value::Method(_) => "func(string) string",
        }
    }

    /// A field of a struct or an entry of a map.
    pub(crate) fn entry(&self, name: &str) -> Option<&Value> {
        match self {
            Value::Struct(of) => of.get(name),
            Value::Map(entries) => entries.get(name),
            _ => None,
        }
    }

    /// Whether `if` takes it for true.
    pub(super) fn truth(&self) -> bool {
        match self {
            Value::Nil | Value::NoList | Value::NoMap => false,
            Value::Bool(yes) => *yes,
            Value::Int(number) => *number != 0,
            Value::Float(number) => *number != 0.0,
            Value::Text(text) => !text.is_empty(),
            Value::List(items) => !items.is_empty(),
            Value::Map(entries) => !entries.is_empty(),
            Value::Struct(_) | Value::Method(_) => true,
        }
    }

    fn of_json(json: serde_json::Value, is_map: bool) -> Value {
        match json {
            serde_json::Value::Null => Value::Nil,
            serde_json::Value::Bool(yes) => Value::Bool(yes),
            serde_json::Value::Number(number) => match number.as_i64() {
                Some(whole) => Value::Int(whole),
                None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            serde_json::Value::String(text) => Value::Text(text),
            serde_json::Value::Array(items) => Value::list(items),
            serde_json::Value::Object(entries) => {
                let convert = |(name, json): (String, serde_json::Value)| {
                    let value = Value::of_json(json, MAPS.contains(&name.as_str()));
                    (name, value)
                };
                match is_map {
                    true => Value::Map(entries.into_iter().map(convert).collect()),
                    false => Value::fields(entries.into_iter().map(convert)),
                }
            }
        }
    }
}

impl From<serde_json::Value> for Value {
    fn from(json: serde_json::Value) -> Value {
        Value::of_json(json, false)
    }
}

impl From<bool> for Value {
    fn from(yes: bool) -> Value {
        Value::Bool(yes)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Value {
        Value::Int(number)
    }
}

impl From<u64> for Value {
    /// Go has the larger ones in `uint64`; no figure of a container is.
    fn from(number: u64) -> Value {
        Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text)
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Value {
        Value::Text(text.clone())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}

impl From<&std::path::Path> for Value {
    fn from(path: &std::path::Path) -> Value {
        Value::Text(path.to_string_lossy().into_owned())
    }
}

impl From<&BTreeMap<String, String>> for Value {
    fn from(entries: &BTreeMap<String, String>) -> Value {
        Value::map(entries.iter().map(|(key, value)| (key.clone(), value.as_str())))
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Nil | Value::NoList | Value::NoMap | Value::Method(_) => to.serialize_unit(),
            Value::Bool(yes) => to.serialize_bool(*yes),
            Value::Int(number) => to.serialize_i64(*number),
            Value::Float(number) => to.serialize_f64(*number),
            Value::Text(text) => to.serialize_str(text),
            Value::List(items) => {
                let mut list = to.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|item| list.serialize_element(item))?;
                list.end()
            }
            Value::Map(entries) => to.collect_map(entries),
            Value::Struct(of) => {
                let mut map = to.serialize_map(None)?;
                let shown = of.fields.iter().filter(|(_, value)| !matches!(value, Value::Method(_)));
                for (name, value) in shown {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}

/// As `json` has it: in one line. In a list's rows docker escapes what could be HTML, and nowhere else.
pub(crate) fn json(value: &Value) -> String {
    // It has nothing that JSON can't say: keys are texts.
    let text = serde_json::to_string(value).unwrap_or_default();
    match value {
        Value::Struct(Struct { kind, .. }) if !kind.is_empty() => {
            text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
        }
        _ => text,
    }
}

/// As `docker inspect` has it: indented by four blanks.
pub(crate) fn pretty(value: &Value) -> String {
    let mut text = Vec::new();
    let style = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut to = serde_json::Serializer::with_formatter(&mut text, style);
    let _ = value.serialize(&mut to);
    String::from_utf8(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_the_order_and_leaves_methods_out() {
        let value = Value::fields([
            ("Z", Value::list(["<a>"])),
            ("A", Value::NoList),
            ("Label", Value::Method(Method::Heading)),
            ("M", Value::map([("k", 1), ("a", 2)].map(|(key, value)| (key, i64::from(value))))),
        ]);
        assert_eq!(json(&value), r#"{"Z":["<a>"],"A":null,"M":{"a":2,"k":1}}"#);
        assert_eq!(pretty(&Value::list([1i64])), "[\n    1\n]");
        assert_eq!(pretty(&Value::List(Vec::new())), "[]");
    }

    #[test]
    fn json_comes_with_maps_where_docker_has_them() {
        let value =
            Value::from(serde_json::json!({ "Labels": { "a": "b" }, "IPAM": { "Config": [1.5, null] } }));
        let Value::Struct(of) = &value else { panic!() };
        assert_eq!(of.get("Labels"), Some(&Value::map([("a", "b")])));
        assert_eq!(
            of.get("IPAM"),
            Some(&Value::fields([("Config", Value::List(vec![Value::Float(1.5), Value::Nil]))]))
        );
    }
}
