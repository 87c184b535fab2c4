//! Lists of things: a table, JSON lines, or whatever a template makes of each.

use std::collections::BTreeMap;

use crate::fail::Fail;
use crate::table;
use crate::template::{Method, Struct, Template, Value, json};

/// What can be told of a thing of this kind, and how it is told unless somebody wants it otherwise.
pub(crate) struct Listing {
    /// Its type in docker's program; template errors name it.
    pub(crate) kind: &'static str,
    /// The fields of a row and what heads their columns.
    pub(crate) headings: &'static [(&'static str, &'static str)],
    /// The usual columns, as a template.
    pub(crate) columns: &'static str,
    /// What `-q` prints, as a template.
    pub(crate) quiet: &'static str,
    /// `--format raw`: the same as lines of `key: value`.
    pub(crate) raw: &'static str,
}

/// `--format` and `-q`.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Flags {
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json', 'TEMPLATE' (a Go template)
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Only display IDs (or names)
    #[arg(short, long)]
    quiet: bool,
}

impl Flags {
    /// Of a list whose verb has no `-q`.
    pub(crate) fn with(format: Option<String>) -> Flags {
        Flags { format, quiet: false }
    }

    /// Whether rows need this field, which is costly to know.
    pub(crate) fn mentions(&self, field: &str) -> bool {
        self.format.as_ref().is_some_and(|format| format.contains(field))
    }
}

/// A row: its fields, and its labels where it has some.
pub(crate) fn row(
    listing: &Listing,
    fields: impl IntoIterator<Item = (&'static str, Value)>,
    labels: Option<&BTreeMap<String, String>>,
) -> Value {
    let mut fields: Vec<(String, Value)> =
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    if let Some(labels) = labels {
        let joined: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        fields.push(("Labels".into(), joined.join(",").into()));
        fields.push(("Label".into(), Value::Method(Method::Label(labels.clone()))));
    }
    fields.sort_by(|(a, _), (b, _)| a.cmp(b));
    Value::Struct(Struct { kind: listing.kind, fields })
}

impl Listing {
    /// The list as text, rows in the order they have.
    pub(crate) fn render(&self, flags: &Flags, rows: &[Value]) -> Result<String, Fail> {
        self.render_with(flags, rows, "")
    }

    /// The same with further columns in the table, as `\t{{.Size}}`.
    pub(crate) fn render_with(&self, flags: &Flags, rows: &[Value], more: &str) -> Result<String, Fail> {
        let format = flags.format.as_deref().unwrap_or_default();
        if flags.quiet {
            if !matches!(format, "" | "table" | "raw") {
                crate::out::say(
                    "WARNING: Ignoring custom format, because both --format and --quiet are set.",
                );
            }
            return self.lines(self.quiet, rows);
        }
        match format {
            "" | "table" => self.table(&format!("{}{more}", self.columns), rows),
            "raw" => self.lines(self.raw, rows),
            "json" => Ok(rows.iter().map(|row| json(row) + "\n").collect()),
            format => match format.strip_prefix("table") {
                Some(columns) => self.table(&format!("{}{more}", escapes(columns.trim())), rows),
                None => self.lines(&escapes(format), rows),
            },
        }
    }

    fn lines(&self, template: &str, rows: &[Value]) -> Result<String, Fail> {
        let template = Template::parse(template).map_err(|error| self.unusable("parse", &error))?;
        let mut text = String::new();
        for row in rows {
            text += &template.execute(row).map_err(|error| self.unusable("execute", &error))?;
            text.push('\n');
        }
        Ok(text)
    }

    fn table(&self, template: &str, rows: &[Value]) -> Result<String, Fail> {
        let rows = self.lines(template, rows)?;
        let headings =
            self.headings.iter().map(|(field, heading)| ((*field).to_owned(), Value::from(*heading)));
        let label = ("Label".to_owned(), Value::Method(Method::Heading));
        let headings = Value::Map(headings.chain([label]).collect());
        let heading = Template::parse(template)
            .map_err(|error| self.unusable("parse", &error))?
            .execute_heading(&headings);
        Ok(table::align(&format!("{}\n{rows}", heading.map_err(|error| self.unusable("execute", &error))?)))
    }

    /// Docker's list of containers looks at the template itself, and has words of its own.
    fn unusable(&self, act: &str, error: &crate::template::Error) -> Fail {
        match self.kind {
            "*formatter.ContainerContext" => Fail::new(1, format!("failed to {act} template: {error}")),
            _ => Fail::new(1, format!("template parsing error: {error}")),
        }
    }
}

/// A shell's user writes tabs and new lines as `\t` and `\n`.
fn escapes(template: &str) -> String {
    template.replace("\\t", "\t").replace("\\n", "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: Listing = Listing {
        kind: "*formatter.ContainerContext",
        headings: &[("ID", "CONTAINER ID"), ("Names", "NAMES"), ("Labels", "LABELS"), ("Ports", "PORTS")],
        columns: "{{.ID}}\t{{.Ports}}\t{{.Names}}",
        quiet: "{{.ID}}",
        raw: "id: {{.ID}}\nname: {{.Names}}\n",
    };

    fn render(format: Option<&str>, quiet: bool) -> String {
        let labels = BTreeMap::from([("com.example.my-key".to_owned(), "v1".to_owned())]);
        let row = |id: &str, name: &str, labels| {
            let fields = [("Names", name.into()), ("ID", id.into()), ("Ports", "80->80".into())];
            super::row(&LISTING, fields, Some(labels))
        };
        let rows = [row("aabb", "web", &labels), row("11", "b", &BTreeMap::new())];
        let flags = Flags { format: format.map(str::to_owned), quiet };
        LISTING.render(&flags, &rows).unwrap_or_else(|fail| fail.to_string())
    }

    #[test]
    fn lists_are_dockers() {
        let table =
            "CONTAINER ID   PORTS     NAMES\naabb           80->80    web\n11             80->80    b\n";
        let cases = [
            (None, table),
            (Some("table"), table),
            (Some("{{.Names}}\\t{{.ID}}"), "web\taabb\nb\t11\n"),
            (Some("raw"), "id: aabb\nname: web\n\nid: 11\nname: b\n\n"),
            (
                Some("json"),
                "{\"ID\":\"aabb\",\"Labels\":\"com.example.my-key=v1\",\"Names\":\"web\",\"Ports\":\"80-\\u003e80\"}\n\
                 {\"ID\":\"11\",\"Labels\":\"\",\"Names\":\"b\",\"Ports\":\"80-\\u003e80\"}\n",
            ),
            (
                Some("table {{.ID}}\\t{{.Label \"com.example.my-key\"}}\\t{{.Names | upper}}\\t{{len .ID}}"),
                "CONTAINER ID   my key    NAMES     12\naabb           v1        WEB       4\n11                       B         2\n",
            ),
            (
                Some("{{.Nope}}"),
                "coracle: failed to execute template: template: :1:2: executing \"\" at <.Nope>: can't evaluate field \
                 Nope in type *formatter.ContainerContext",
            ),
            (Some("{{.ID"), "coracle: failed to parse template: template: :1: unclosed action"),
        ];
        for (format, text) in cases {
            assert_eq!(render(format, false), text, "{format:?}");
        }
        assert_eq!(render(None, true), "aabb\n11\n");
        assert_eq!(render(Some("table"), true), "aabb\n11\n");
    }
}
