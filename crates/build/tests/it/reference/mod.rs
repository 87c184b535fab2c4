//! The Dockerfile reference, section by section: what its examples show, in examples of our own.

mod files;
mod format;
mod processes;
mod values;

use std::collections::BTreeMap;

use coracle_build::{BuildSpec, CopyFrom, Dockerfile, Graph, ImageConfig, Op, Plan, RunConfig, Stage};

fn planned(text: &str, spec: &BuildSpec) -> Plan {
    let file = Dockerfile::parse("Dockerfile", text.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    let graph = Graph::new(&file, spec).unwrap_or_else(|error| panic!("{error}"));
    let base = ImageConfig::scratch();
    let bases: BTreeMap<String, ImageConfig> =
        graph.images().iter().map(|name| (name.clone(), base.clone())).collect();
    graph.plan(&bases).unwrap_or_else(|error| panic!("{error}"))
}

fn plan(text: &str) -> Plan {
    planned(text, &BuildSpec::new("."))
}

fn last(plan: &Plan) -> &Stage {
    plan.stages.last().unwrap()
}

fn config(text: &str) -> RunConfig {
    last(&plan(text)).config.config.clone()
}

/// The arguments of the last RUN.
fn argv(plan: &Plan) -> Vec<String> {
    let mut runs = last(plan).steps.iter().filter_map(|step| match &step.op {
        Op::Run(command) => Some(command.argv.clone()),
        _ => None,
    });
    runs.next_back().unwrap()
}

fn shell(line: &str) -> Vec<String> {
    ["/bin/sh", "-c", line].map(str::to_owned).to_vec()
}

/// Sources and destination of the last COPY or ADD.
fn copied(text: &str) -> (Vec<String>, String) {
    let plan = plan(text);
    let Op::Copy(copy) = &last(&plan).steps.last().unwrap().op else { panic!("{text}") };
    let source = |source: &CopyFrom| match source {
        CopyFrom::Path(path) => path.clone(),
        CopyFrom::Inline(name, text) => format!("<<{name} {text:?}"),
        CopyFrom::Remote(source) => source.remote.to_string(),
        other => panic!("{other:?}"),
    };
    (copy.sources.iter().map(source).collect(), copy.dest.clone())
}

/// The last RUN.
fn ran(plan: &Plan) -> coracle_build::Command {
    let mut runs = last(plan).steps.iter().filter_map(|step| match &step.op {
        Op::Run(command) => Some(command.clone()),
        _ => None,
    });
    runs.next_back().unwrap()
}

fn variable(command: &coracle_build::Command, name: &str) -> Option<String> {
    command.env.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
}
