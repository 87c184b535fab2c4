//! `coracle events`.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use coracle::{Engine, EngineEvent};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::fail::{Done, Fail};
use crate::template::{Template, Value};
use crate::time;

/// Get real time events from the engine
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = filter)]
    filter: Vec<(String, String)>,
    /// Format output using a custom template: 'json', or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show all events created since timestamp
    #[arg(long, value_name = "TIME", value_parser = time::point)]
    since: Option<SystemTime>,
    /// Stream events until this timestamp
    #[arg(long, value_name = "TIME", value_parser = time::point)]
    until: Option<SystemTime>,
}

const FILTERS: [&str; 7] = ["container", "event", "image", "label", "network", "type", "volume"];

fn filter(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("bad format of filter (expected name=value)")?;
    if !FILTERS.contains(&key) {
        return Err(format!("invalid filter '{key}'"));
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// Prints what happens, a line each, until the time that is asked for, or for ever.
pub(crate) fn run(args: &Args) -> Done {
    let template = match args.format.as_deref() {
        None | Some("json") => None,
        Some(text) => Some(Template::parse(text).map_err(|error| Fail::new(64, error))?),
    };
    let engine = Engine::open_default()?;
    let mut events = engine.events(args.since.is_some())?;
    loop {
        let left = args.until.map(|until| until.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO));
        let Some(event) = events.next_within(left)? else { return Ok(0) };
        let Ok(time) = event.time.parse::<Timestamp>() else { continue };
        if args.until.is_some_and(|until| SystemTime::from(time) > until) {
            return Ok(0);
        }
        if args.since.is_some_and(|since| SystemTime::from(time) < since) || !wanted(&args.filter, &event) {
            continue;
        }
        let line = match (&template, args.format.is_some()) {
            (Some(template), _) => {
                template.execute(&value(&event, time)).map_err(|error| Fail::new(1, error))?
            }
            (None, true) => crate::template::json(&value(&event, time)),
            (None, false) => plain(&event, time),
        };
        crate::out::line(line)?;
    }
}

/// All keys must have one of their values.
fn wanted(filters: &[(String, String)], event: &EngineEvent) -> bool {
    let mut keys: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (key, value) in filters {
        keys.entry(key).or_default().push(value);
    }
    let attribute = |name: &str| event.attributes.get(name).map(String::as_str);
    let is = |kind: &str, value: &str| {
        event.kind == kind && (event.id.starts_with(value) || attribute("name") == Some(value))
    };
    keys.iter().all(|(key, values)| {
        values.iter().any(|value| match *key {
            "event" => event.action == *value || event.action.split(':').next() == Some(value),
            "type" => event.kind == *value,
            "image" => is("image", value) || attribute("image") == Some(value),
            "label" => match value.split_once('=') {
                Some((label, text)) => attribute(label) == Some(text),
                None => attribute(value).is_some(),
            },
            kind => is(kind, value),
        })
    })
}

fn plain(event: &EngineEvent, time: Timestamp) -> String {
    let local = time.to_zoned(TimeZone::system());
    let time = local.strftime("%Y-%m-%dT%H:%M:%S.%9f%:z").to_string().replace("+00:00", "Z");
    let attributes: Vec<String> =
        event.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!("{time} {} {} {} ({})", event.kind, event.action, event.id, attributes.join(", "))
}

fn value(event: &EngineEvent, time: Timestamp) -> Value {
    let attributes = event.attributes.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str())));
    let actor = [("ID", event.id.as_str().into()), ("Attributes", Value::map(attributes))];
    Value::fields([
        ("Type", event.kind.as_str().into()),
        ("Action", event.action.as_str().into()),
        ("Actor", Value::fields(actor)),
        ("scope", "local".into()),
        ("time", time.as_second().into()),
        ("timeNano", i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX).into()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> EngineEvent {
        let text = r#"{"time":"2026-01-02T03:04:05.000000006Z","kind":"container","action":"health_status: healthy",
            "id":"abcdef","attributes":{"name":"db","image":"postgres","tier":"back"}}"#;
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn filters_of_one_key_are_alternatives() {
        let wants = |filters: &[&str]| {
            let filters: Vec<_> = filters.iter().map(|text| filter(text).unwrap()).collect();
            wanted(&filters, &event())
        };
        assert!(wants(&[]));
        assert!(wants(&["event=die", "event=health_status"]));
        assert!(!wants(&["event=die", "container=db"]));
        assert!(wants(&["container=abc", "type=container", "image=postgres", "label=tier", "label=x"]));
        assert!(!wants(&["volume=db"]) && !wants(&["label=tier=front"]));
        assert!(filter("frob=x").unwrap_err().contains("invalid filter 'frob'"));
        assert!(filter("frob").is_err());
    }

    #[test]
    fn a_line_has_everything() {
        let time: Timestamp = event().time.parse().unwrap();
        let line = plain(&event(), time);
        assert!(
            line.ends_with("container health_status: healthy abcdef (image=postgres, name=db, tier=back)"),
            "{line}"
        );
        let json = crate::template::json(&value(&event(), time));
        assert!(json.contains(r#""timeNano":1767323045000000006"#), "{json}");
    }
}
