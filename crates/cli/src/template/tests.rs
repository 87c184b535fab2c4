//! Templates against what docker's own program printed for them: `testdata/template/cases.json` has its words, for the
//! container in `container.json`.

use proptest::prelude::*;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::*;

/// JSON with its order kept.
struct Ordered(Value);

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Ordered, D::Error> {
        from.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Ordered;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, yes: bool) -> Result<Ordered, E> {
        Ok(Ordered(yes.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Ordered, E> {
        Ok(Ordered(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Ordered, E> {
        Ok(Ordered(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Ordered, E> {
        Ok(Ordered(Value::Float(number)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Ordered, E> {
        Ok(Ordered(text.into()))
    }

    fn visit_unit<E>(self) -> Result<Ordered, E> {
        Ok(Ordered(Value::Nil))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Ordered, A::Error> {
        let mut list = Vec::new();
        while let Some(Ordered(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Ordered(Value::List(list)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Ordered, A::Error> {
        let mut fields = Vec::new();
        while let Some((name, Ordered(value))) = entries.next_entry::<String, Ordered>()? {
            let value = match (name.as_str(), value) {
                // What docker has as Go maps and slices.
                (
                    "Labels" | "Ports" | "Networks" | "PortBindings" | "ExposedPorts" | "m",
                    Value::Struct(of),
                ) => Value::Map(of.fields.into_iter().collect()),
                ("Config", Value::Struct(of)) if of.get("max-size").is_some() => {
                    Value::Map(of.fields.into_iter().collect())
                }
                ("CapAdd" | "Aliases" | "53/udp", Value::Nil) => Value::NoList,
                ("Volumes", Value::Nil) => Value::NoMap,
                (_, value) => value,
            };
            fields.push((name, value));
        }
        Ok(Ordered(Value::fields(fields)))
    }
}

fn container() -> Value {
    let text = include_str!("../../testdata/template/container.json");
    serde_json::from_str::<Ordered>(text).unwrap().0
}

fn printed(text: &str) -> Result<String, String> {
    let template = Template::parse(text).map_err(|error| error.to_string())?;
    template.execute(&container()).map_err(|error| error.to_string())
}

#[test]
fn templates_print_what_docker_prints() {
    let cases: Vec<serde_json::Value> =
        serde_json::from_str(include_str!("../../testdata/template/cases.json")).unwrap();
    assert!(cases.len() > 250);
    let mut wrong = Vec::new();
    for case in cases {
        let text = |key: &str| case.get(key).and_then(|text| text.as_str()).map(str::to_owned);
        let template = text("template").unwrap();
        let expected = text("prints").ok_or_else(|| text("error").unwrap());
        let printed = printed(&template);
        if printed != expected {
            wrong.push(format!("{template}\n  docker: {expected:?}\n  here:   {printed:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_list_row_has_a_type_and_labels() {
    let mut row = Struct { kind: "*formatter.ContainerContext", fields: Vec::new() };
    row.fields.push(("ID".into(), "12".into()));
    row.fields
        .push(("Label".into(), Value::Method(Method::Label([("a".to_owned(), "b".to_owned())].into()))));
    let row = Value::Struct(row);
    let printed = |text: &str| {
        Template::parse(text).and_then(|template| template.execute(&row)).map_err(|error| error.to_string())
    };
    assert_eq!(printed(r#"{{.ID}} {{.Label "a"}}{{.Label "x"}} {{"a" | .Label}}"#).unwrap(), "12 b b");
    let table = [
        ("{{.X}}", r#"at <.X>: can't evaluate field X in type *formatter.ContainerContext"#),
        ("{{.Label}}", "at <.Label>: wrong number of args for Label: want 1 got 0"),
        (r#"{{.Label "a" "b"}}"#, "wrong number of args for Label: want 1 got 2"),
        ("{{.Label 1}}", "wrong type for value; expected string; got int"),
        ("{{.ID 1}}", "ID has arguments but cannot be invoked as function"),
    ];
    for (text, problem) in table {
        let error = printed(text).unwrap_err();
        assert!(error.ends_with(problem), "{text}: {error}");
    }
}

#[test]
fn calls_without_end_are_an_error() {
    let error = printed(r#"{{define "r"}}{{template "r"}}{{end}}{{template "r"}}"#).unwrap_err();
    assert!(error.ends_with("exceeded maximum template depth (100)"), "{error}");
}

proptest! {
    #[test]
    fn text_is_text(text in "[^{]*") {
        prop_assert_eq!(printed(&text).unwrap(), text);
    }

    #[test]
    fn texts_come_through_as_written(text in any::<String>()) {
        prop_assert_eq!(printed(&format!("{{{{{}}}}}", quote::quote(&text))).unwrap(), text);
    }

    #[test]
    fn whatever_is_written_is_a_result_or_an_error(
        words in proptest::collection::vec(
            prop_oneof![
                "[ -~é]{0,3}",
                proptest::sample::select(vec![
                    "{{", "}}", " ", "{{-", "-}}", "if ", "end", "else", "range ", "with ", ".Config", ".Env", "$x",
                    ":=", "(", ")", "|", "index ", "slice ", "printf ", "\"%*.[2]d\"", "\"a\"", "-1", "1.5", "nil",
                    ".Mounts", "eq ", "len ", "json ", "{{/*", "*/}}", "define ", "template ", ",", "'x'", "`r`",
                ]).prop_map(str::to_owned),
            ],
            0..14,
        )
    ) {
        if let Err(error) = printed(&words.concat()) {
            prop_assert!(error.starts_with("template: "), "{error}");
        }
    }

    #[test]
    fn formats_never_fail(format in "%?[-+# 0]{0,3}([0-9]{0,5}|\\*)(\\.[0-9]{0,5})?(\\[[0-9]\\])?[vdsqxXobcUeEfgGtTz%]?.{0,3}", number in any::<i64>(), float in any::<f64>(), text in any::<String>()) {
        let values = [Value::Int(number), Value::Float(float), Value::Text(text), Value::Nil, Value::NoList];
        for start in 0..values.len() {
            print::sprintf(&format, &values[start..]);
        }
    }
}
