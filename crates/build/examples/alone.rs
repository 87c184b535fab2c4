//! Lints a Dockerfile, prints its graph, and says which lines a changed file would build again.
//!
//! ```sh
//! cargo run -p coracle-build --example build-alone                          # a sample
//! cargo run -p coracle-build --example build-alone -- Dockerfile src/app.c  # yours, and a file of its context
//! ```
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::process::ExitCode;

use coracle_build::{BuildSpec, Dockerfile, Error, Graph, Ignore, ImageConfig};

const SAMPLE: &str = "\
FROM node:22 AS build
WORKDIR /app
COPY package*.json ./
RUN npm ci
COPY . .
RUN npm run build

FROM node:22-slim
COPY --from=build /app/dist /srv
CMD [\"node\", \"/srv/main.js\"]
";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next();
    let changed = arguments.next().unwrap_or_else(|| "src/main.js".to_owned());
    match explain(path.as_deref(), &changed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problems) => {
            println!("{problems}");
            ExitCode::FAILURE
        }
    }
}

fn explain(path: Option<&str>, changed: &str) -> Result<(), Error> {
    let text = match path {
        Some(path) => std::fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}")),
        None => SAMPLE.into(),
    };
    // All problems of the file at once, each with a caret.
    let file = Dockerfile::parse(path.unwrap_or("sample"), &text)?;

    // Which images would have to be there. We have none, so let each be like scratch.
    let graph = Graph::new(&file, &BuildSpec::new("."))?;
    let bases: BTreeMap<String, ImageConfig> =
        graph.images().iter().map(|name| (name.clone(), ImageConfig::scratch())).collect();
    println!("images: {}\n", graph.images().join(", "));

    let plan = graph.plan(&bases)?;
    println!("{plan}");

    let again = plan.affected_by(changed, &Ignore::default());
    println!("if {changed} changes:");
    for (line, text) in file.instructions() {
        println!("{line:>4}  {} {text}", if again.contains(&line) { "builds" } else { "      " });
    }
    Ok(())
}
