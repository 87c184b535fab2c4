//! Volumes as docker lists and describes them.

use std::collections::BTreeMap;

use coracle::Volume;

use crate::list::{self, Listing};
use crate::template::{Struct, Value};

/// `docker volume ls`.
pub(super) const LISTING: Listing = Listing {
    kind: "*formatter.volumeContext",
    headings: &[
        ("Name", "VOLUME NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("Availability", "AVAILABILITY"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Labels", "LABELS"),
        ("Links", "LINKS"),
        ("Size", "SIZE"),
        ("Group", "GROUP"),
        ("Status", "STATUS"),
    ],
    columns: "{{.Driver}}\t{{.Name}}",
    quiet: "{{.Name}}",
    raw: "name: {{.Name}}\ndriver: {{.Driver}}\n",
};

/// A line of the list. What docker has to ask for, and doesn't for a list, is `N/A` there, too.
pub(super) fn row(volume: &Volume) -> Value {
    let unknown = || Value::from("N/A");
    let fields = [
        ("Name", volume.name().into()),
        ("Driver", volume.driver().into()),
        ("Scope", "local".into()),
        ("Mountpoint", path(volume)),
        ("Availability", unknown()),
        ("Group", unknown()),
        ("Links", unknown()),
        ("Size", unknown()),
        ("Status", unknown()),
    ];
    list::row(&LISTING, fields, Some(volume.labels()))
}

/// What `inspect` shows.
pub(crate) fn describe(volume: &Volume) -> coracle::Result<Value> {
    let created =
        jiff::Timestamp::try_from(volume.created()).map(|time| time.to_string()).unwrap_or_default();
    let mut fields = vec![
        ("CreatedAt", created.into()),
        ("Driver", volume.driver().into()),
        ("Labels", map(volume.labels())),
        ("Mountpoint", path(volume)),
        ("Name", volume.name().into()),
        ("Options", map(volume.options())),
        ("Scope", "local".into()),
    ];
    // What docker's volumes don't have goes where its drivers tell more of themselves.
    let mut status = BTreeMap::new();
    if let Some(base) = volume.base() {
        status.insert("base".to_owned(), Value::from(base));
    }
    if volume.is_frozen()? {
        status.insert("frozen".to_owned(), Value::Bool(true));
    }
    if !status.is_empty() {
        fields.push(("Status", Value::Map(status)));
    }
    let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Ok(Value::Struct(Struct { kind: "", fields }))
}

/// None is `null`, as docker has it.
fn map(of: &BTreeMap<String, String>) -> Value {
    if of.is_empty() {
        return Value::NoMap;
    }
    Value::Map(of.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect())
}

fn path(volume: &Volume) -> Value {
    volume.path().to_string_lossy().into_owned().into()
}
