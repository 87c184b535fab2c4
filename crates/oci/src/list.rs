//! state, list and ps.

use std::io::Write;

use serde_json::{Value, json};

use crate::cli::Format;
use crate::error::{During, Result};
use crate::record::{Home, Record, Status};
use crate::{cgroup, process};

/// runtime.md, "State", and what runc says besides.
pub(crate) fn described(record: &Record, status: Status) -> Value {
    let ended = matches!(status, Status::Stopped);
    json!({
        "ociVersion": record.oci_version,
        "id": record.id,
        "status": status.word(),
        "pid": if ended { 0 } else { record.pid },
        "bundle": record.bundle,
        "annotations": record.annotations,
        "rootfs": record.rootfs,
        "created": record.created,
    })
}

pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).during(|| "write to standard output".to_owned())
}

pub(crate) fn print_json(value: &Value) -> Result<()> {
    print(&format!("{value:#}\n"))
}

pub(crate) fn state(home: &Home, id: &str) -> Result<()> {
    let found = home.find(id)?;
    print_json(&described(found.record()?, found.status()?))
}

pub(crate) fn list(home: &Home, format: Format, quiet: bool) -> Result<()> {
    let mut all = Vec::new();
    for id in home.ids()? {
        // One that is deleted meanwhile is not listed.
        let Ok(found) = home.find(&id) else { continue };
        if let Some(record) = &found.record {
            all.push(described(record, found.status()?));
        }
    }
    let text = |value: &Value, key: &str| match &value[key] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if quiet {
        let ids: Vec<String> = all.iter().map(|one| text(one, "id") + "\n").collect();
        return print(&ids.concat());
    }
    if format == Format::Json {
        return print_json(&Value::Array(all));
    }
    let head = ["ID", "PID", "STATUS", "BUNDLE", "CREATED"];
    let rows = all.iter().map(|one| head.map(|key| text(one, &key.to_ascii_lowercase())));
    print(&table(std::iter::once(head.map(str::to_owned)).chain(rows).collect()))
}

pub(crate) fn ps(home: &Home, id: &str, format: Format) -> Result<()> {
    let found = home.find(id)?;
    let pids = cgroup::of(found.record()?)?.processes()?;
    if format == Format::Json {
        return print(&format!("{}\n", json!(pids)));
    }
    let mut rows = vec![["UID", "PID", "PPID", "CMD"].map(str::to_owned)];
    for pid in pids {
        // One that has ended meanwhile is none.
        if let (Some(uid), Some(parent), Some(command)) =
            (process::uid(pid), process::parent(pid), process::command(pid))
        {
            rows.push([uid.to_string(), pid.to_string(), parent.to_string(), command]);
        }
    }
    print(&table(rows))
}

/// Columns as wide as what is in them, but for the last.
fn table<const N: usize>(rows: Vec<[String; N]>) -> String {
    let widths: [usize; N] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn tables() {
        let rows = vec![["A", "B"].map(str::to_owned), ["long", "x"].map(str::to_owned)];
        assert_eq!(super::table(rows), "A     B\nlong  x\n");
    }
}
