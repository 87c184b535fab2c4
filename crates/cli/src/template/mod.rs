//! Go's text/template, as `--format` has it: actions, pipelines, variables, control, nested templates, Go's functions
//! and docker's (`json`, `join`, `split`, `lower`, `upper`, `title`, `pad`, `truncate`).
//!
//! ```text
//! Template::parse("{{range .Mounts}}{{.Source}} {{end}}")?.execute(&value)?
//! ```
//!
//! Values print as Go prints them and errors are Go's, columns included: scripts look at both. What it has not: methods
//! (but for [`Method`]), complex numbers, and hexadecimal floats. There is a crate for such templates (gtmpl);
//! its last release is of 2021, its errors are its own, and it knows neither `else with`, `break` nor ranges over numbers.

mod compare;
mod escape;
mod exec;
mod float;
mod funcs;
mod lex;
mod node;
mod parse;
mod print;
mod quote;
#[cfg(test)]
mod tests;
mod value;

pub(crate) use value::{Method, Struct, Value, json, pretty};

/// A template that was read.
#[derive(Debug)]
pub(crate) struct Template {
    text: String,
    trees: parse::Trees,
}

/// Why a template can't be read or executed, in Go's words: `template: :1:2: executing "" at <.X>: …`.
#[derive(Debug, PartialEq)]
pub(crate) struct Error(String);

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl Template {
    /// Reads a template.
    pub(crate) fn parse(text: &str) -> Result<Template, Error> {
        Ok(Template { text: text.to_owned(), trees: parse::parse(text).map_err(Error)? })
    }

    /// What comes of it for this data. Of one that fails nothing is printed.
    pub(crate) fn execute(&self, data: &Value) -> Result<String, Error> {
        self.run(data, false)
    }

    /// What comes of it for the names of columns: functions that change texts leave them as they are.
    pub(crate) fn execute_heading(&self, names: &Value) -> Result<String, Error> {
        self.run(names, true)
    }

    fn run(&self, data: &Value, heading: bool) -> Result<String, Error> {
        let mut out = String::new();
        exec::State::run(&self.text, &self.trees, data, &mut out, heading).map_err(Error)?;
        Ok(out)
    }
}
