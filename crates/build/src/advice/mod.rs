//! Advice about a build before it is done: what the text says, what images and context say, and what was measured in
//! builds before.

mod bytes;
mod unused;

use coracle_host::Kind;

use crate::cache::Cache;
use crate::dockerfile::{CheckFacts, Dockerfile, Lint};
use crate::error::Result;
use crate::plan::{Graph, Op, Plan};
use crate::solve::{load, trace_key};
use crate::spec::BuildSpec;
use crate::trace::StageTrace;
use crate::worker::Worker;

/// What [`check`] found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Checked {
    /// The file.
    pub file: Dockerfile,
    /// In the order of its lines.
    pub lints: Vec<Lint>,
}

/// Reads what a build would read and says what could be better; nothing is built. Images that the worker doesn't have
/// are done without.
///
/// Besides the rules of [`Dockerfile::check`] there is advice from what builds before have come to here:
///
/// - `CopyBeforeCostlyRun`: a COPY whose files changed in build after build, and a RUN below it that took its time again and
///   again.
/// - `DeletedInLaterLayer`: bytes that one step adds and a later one deletes, which the image has all the same.
/// - `WrittenInTwoLayers`: bytes that a later step writes again, say to change owners, so that the image has them twice.
/// - `BuildToolsInImage`: compilers and the like that a step builds with, that the image doesn't run, and that it keeps.
/// - `UnusedInContext`: what the context has and no step asks for (that is looked at now).
///
/// # Errors
/// Where the Dockerfile or the ignore file can't be read, or is wrong.
pub fn check<W: Worker>(spec: &BuildSpec, worker: &W, cache: &Cache) -> Result<Checked> {
    let file = load::dockerfile(spec)?;
    let graph = Graph::new(&file, spec)?;
    let (graph, configs) = graph.settled(|_, name| match worker.base(name) {
        Ok(base) => Ok(Some(base.config)),
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    })?;
    let mut facts =
        configs.iter().fold(CheckFacts::new(), |facts, (name, config)| facts.image(name, config.clone()));
    let ignore = load::ignore_of(spec)?;
    if let Some(ignore) = &ignore {
        facts = facts.ignore(ignore.clone());
    }
    let mut lints = file.check_with(&facts);
    // Without all images there is no plan, and nothing was ever built of it.
    if configs.len() == graph.images().len()
        && let Ok(plan) = graph.plan(&configs)
    {
        let mut advice = Vec::new();
        measured(&plan, spec, cache, &mut advice);
        bytes::advise(&plan, spec, worker, cache, &mut advice)?;
        if let (Some(context), Some(ignore)) = (&spec.context, &ignore) {
            unused::advise(&plan, context, ignore, &mut advice)?;
        }
        lints.extend(advice.into_iter().filter(|lint| file.wants(lint.rule)));
    }
    lints.sort_by_key(|lint| (lint.diagnostic.span().line, lint.diagnostic.span().column));
    Ok(Checked { file, lints })
}

/// In docker's unit.
fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// How often the files of a COPY have to have changed, and how long what comes after takes, before it is worth a word.
const TIMES: u32 = 2;
const MILLISECONDS: u64 = 1000;

fn measured(plan: &Plan, spec: &BuildSpec, cache: &Cache, lints: &mut Vec<Lint>) {
    for stage in &plan.stages {
        let Some(trace) = cache.get::<StageTrace>(&trace_key(plan, spec, stage)) else { continue };
        let known = |text: &str| trace.steps.iter().find(|step| step.text == text);
        for (at, step) in stage.steps.iter().enumerate() {
            let Op::Copy(_) = step.op else { continue };
            let Some(copied) = known(&step.text).filter(|copied| copied.misses >= TIMES) else { continue };
            let after = stage.steps[at + 1..].iter().filter_map(|step| Some((step, known(&step.text)?)));
            let costly = after.filter(|(_, old)| old.runs).max_by_key(|(_, old)| old.milliseconds);
            let Some((run, old)) = costly.filter(|(_, old)| old.milliseconds >= MILLISECONDS) else {
                continue;
            };
            let seconds = old.milliseconds as f64 / 1000.0;
            let message = format!(
                "the files changed in {} of {} builds, and each time line {} ran again ({seconds:.1} s): copy what \
                 that line needs first, and the rest after it",
                copied.misses, trace.builds, run.line
            );
            let diagnostic = plan.diagnostic(step.span, Kind::Invalid, message, None);
            lints.push(Lint { rule: "CopyBeforeCostlyRun", diagnostic });
        }
    }
}

#[cfg(test)]
mod tests {
    use coracle_host::{Dir, Staging};

    use super::*;
    use crate::trace::StepTrace;

    #[test]
    fn a_copy_that_costs_the_run_below_it_again_and_again() {
        let place = tempfile::tempdir().unwrap();
        let state = Dir::open(place.path()).unwrap();
        let staging = Staging::open(&state.make("tmp", 0o700).unwrap()).unwrap();
        let cache = Cache::new(state.make("cache", 0o700).unwrap(), staging);
        let text = "FROM scratch\nCOPY . .\nRUN quick\nRUN slow\n";
        let spec = BuildSpec::new(place.path()).dockerfile_text(text);
        let file = load::dockerfile(&spec).unwrap();
        let plan = Graph::new(&file, &spec).unwrap().plan(&Default::default()).unwrap();
        let step = |text: &str, misses, milliseconds, runs| {
            let mut step = StepTrace::default();
            (step.text, step.misses, step.milliseconds, step.runs) =
                (text.into(), misses, milliseconds, runs);
            step
        };
        let advice = |misses, milliseconds| {
            let steps = vec![
                step("COPY . .", misses, 5, false),
                step("RUN quick", 0, 900, true),
                step("RUN slow", 0, milliseconds, true),
            ];
            let trace = StageTrace { builds: 5, steps, ..StageTrace::default() };
            cache.note(&trace_key(&plan, &spec, &plan.stages[0]), trace);
            let mut lints = Vec::new();
            measured(&plan, &spec, &cache, &mut lints);
            lints.into_iter().map(|lint| lint.diagnostic.message().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(
            advice(3, 12_300),
            [
                "the files changed in 3 of 5 builds, and each time line 4 ran again (12.3 s): copy what that line needs \
                 first, and the rest after it"
            ]
        );
        assert_eq!(advice(1, 12_300), [""; 0]);
        assert_eq!(advice(3, 950), [""; 0]);
    }
}
