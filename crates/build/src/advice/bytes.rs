//! Advice from the layers that a build has made: bytes that are deleted or written again later and stay in the image all
//! the same, and tools that it was built with and keeps.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound::{Included, Unbounded};

use coracle_host::Kind;

use super::megabytes;
use crate::cache::{Cache, StepRecord};
use crate::dockerfile::Lint;
use crate::error::{Result, Span};
use crate::plan::{Op, Origin, Plan, Stage, Step};
use crate::solve::trace_key;
use crate::spec::BuildSpec;
use crate::trace::StageTrace;
use crate::worker::{LayerFiles, Worker};

/// Less than this is not worth a word.
const WORTH: u64 = 1 << 20;

/// Programs that make other programs. An image that runs none of them seldom needs them.
const TOOLS: [&str; 22] = [
    "cc", "gcc", "c++", "g++", "clang", "clang++", "make", "cmake", "ninja", "meson", "cargo", "rustc", "go",
    "javac", "mvn", "gradle", "ghc", "stack", "cabal", "dotnet", "tsc", "bazel",
];

/// The target's own stages, from that which starts from an image on.
fn line_of_stages(plan: &Plan) -> Vec<&Stage> {
    let mut line: Vec<&Stage> = plan.stages.last().into_iter().collect();
    while let Some(Stage { from: Origin::Stage(index), .. }) = line.last()
        && let Some(earlier) = plan.stages.iter().find(|stage| stage.index == *index)
    {
        line.push(earlier);
    }
    line.reverse();
    line
}

/// # Errors
/// Where the worker can't look into a layer.
pub(super) fn advise<W: Worker>(
    plan: &Plan,
    spec: &BuildSpec,
    worker: &W,
    cache: &Cache,
    lints: &mut Vec<Lint>,
) -> Result<()> {
    let stages = line_of_stages(plan);
    let mut steps: HashMap<String, &Step> = HashMap::new();
    let mut top = None;
    for stage in &stages {
        let own: Vec<&Step> = stage.steps.iter().filter(|step| step.op != Op::Set).collect();
        if own.is_empty() {
            // Nothing is remembered of it, and nothing is missing.
            continue;
        }
        let Some(trace) = cache.get::<StageTrace>(&trace_key(plan, spec, stage)) else { return Ok(()) };
        for (nth, step) in own.into_iter().enumerate() {
            // What was written since it was built, nobody has measured.
            let Some(known) = trace.steps.get(nth).filter(|known| known.text == step.text) else {
                return Ok(());
            };
            let Some(record) = cache.get::<StepRecord>(&known.key) else { return Ok(()) };
            steps.entry(record.snapshot.clone()).or_insert(step);
            top = Some(record.snapshot);
        }
    }
    let Some(snapshot) = top.map(|id| worker.find(&id)).transpose()?.flatten() else { return Ok(()) };
    let layers = worker.layers(&snapshot)?;
    let from = stages.first().map_or(Span { line: 1, column: 1, width: 1 }, |stage| Span {
        line: stage.line,
        column: 1,
        width: stage.text.chars().count().max(1),
    });
    let line = |layer: &LayerFiles| steps.get(&layer.id).map(|step| step.line);
    let used = used(plan, &stages);
    for Found { layer, rule, message } in found(&layers, line, &used, WORTH) {
        let span = steps.get(&layers[layer].id).map_or(from, |step| step.span);
        lints.push(Lint { rule, diagnostic: plan.diagnostic(span, Kind::Invalid, message, None) });
    }
    Ok(())
}

/// Tools that the stages' commands name, each with the line; but not what the image runs.
fn used<'p>(plan: &'p Plan, stages: &[&'p Stage]) -> BTreeMap<&'static str, usize> {
    let mut used = BTreeMap::new();
    for step in stages.iter().flat_map(|stage| &stage.steps) {
        let Op::Run(command) = &step.op else { continue };
        for word in command.argv.iter().flat_map(|argument| words(argument)) {
            if let Some(tool) = TOOLS.iter().find(|tool| **tool == word) {
                used.entry(*tool).or_insert(step.line);
            }
        }
    }
    if let Some(config) = plan.stages.last().map(|stage| &stage.config.config) {
        for argument in config.entrypoint.iter().chain(&config.cmd).flatten() {
            for word in words(argument) {
                used.remove(word.rsplit('/').next().unwrap_or(word));
            }
        }
    }
    used
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c.is_whitespace() || ";&|()\"'`".contains(c))
}

#[derive(Debug, PartialEq, Eq)]
struct Found {
    layer: usize,
    rule: &'static str,
    message: String,
}

/// `line` is that of the step that made a layer; a base image's have none.
fn found(
    layers: &[LayerFiles],
    line: impl Fn(&LayerFiles) -> Option<usize>,
    used: &BTreeMap<&str, usize>,
    worth: u64,
) -> Vec<Found> {
    let mut all = Vec::new();
    // Where each file that is seen now comes from, and its bytes.
    let mut files: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
    for (at, layer) in layers.iter().enumerate() {
        let (mut deleted, mut again) = (BTreeMap::<usize, u64>::new(), BTreeMap::<usize, u64>::new());
        for one in layer.files.iter().filter(|one| one.gone) {
            let below = format!("{}/", one.path);
            let inside = files
                .range::<str, _>((Included(below.as_str()), Unbounded))
                .take_while(|(path, _)| path.starts_with(&below));
            let paths: Vec<&str> = inside.map(|(path, _)| *path).chain([one.path.as_str()]).collect();
            for (from, size) in paths.iter().filter_map(|path| files.remove(path)) {
                *deleted.entry(from).or_default() += size;
            }
        }
        for one in layer.files.iter().filter(|one| !one.gone) {
            if let Some((from, size)) = files.insert(&one.path, (at, one.size)) {
                *again.entry(from).or_default() += size;
            }
        }
        if line(layer).is_none() {
            continue;
        }
        let mut tell = |rule, bytes: BTreeMap<usize, u64>, what: &dyn Fn(String, usize) -> String| {
            for (from, bytes) in bytes.into_iter().filter(|(_, bytes)| *bytes >= worth) {
                // What a base image has can't be put right here.
                if let Some(first) = line(&layers[from]) {
                    all.push(Found { layer: at, rule, message: what(megabytes(bytes), first) });
                }
            }
        };
        tell("DeletedInLaterLayer", deleted, &|size, first| {
            format!(
                "{size} that line {first} added are deleted here, and stay in the image all the same: merge the two \
                 into one RUN"
            )
        });
        tell("WrittenInTwoLayers", again, &|size, first| {
            format!(
                "{size} that line {first} added are written again here, and are in the image twice: let one step do \
                 it (COPY has --chown and --chmod)"
            )
        });
    }
    let mut kept: BTreeMap<usize, BTreeSet<&str>> = BTreeMap::new();
    for (path, (layer, _)) in &files {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        if used.contains_key(name) && dir.ends_with("bin") {
            kept.entry(*layer).or_default().insert(name);
        }
    }
    for (layer, names) in kept {
        let bytes: u64 = layers[layer].files.iter().map(|one| one.size).sum();
        let Some(by) = names.iter().filter_map(|name| used.get(name)).min().filter(|_| bytes >= worth) else {
            continue;
        };
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        let message = format!(
            "the image keeps {} that line {by} builds with, in a layer of {}: build in a stage of its own, and take \
             what comes of it by COPY --from",
            names.join(", "),
            megabytes(bytes)
        );
        all.push(Found { layer, rule: "BuildToolsInImage", message });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::LayerFile;

    fn layer(id: &str, files: &[(&str, u64)]) -> LayerFiles {
        let file = |(path, size): &(&str, u64)| match path.strip_prefix('-') {
            Some(path) => LayerFile { path: path.to_owned(), size: 0, gone: true },
            None => LayerFile { path: (*path).to_owned(), size: *size, gone: false },
        };
        LayerFiles { id: id.to_owned(), files: files.iter().map(file).collect() }
    }

    /// Layers are named by their lines; `base` has none.
    fn told(layers: &[LayerFiles], used: &[(&'static str, usize)]) -> Vec<(String, &'static str, String)> {
        let line = |layer: &LayerFiles| layer.id.parse().ok();
        let used = used.iter().copied().collect();
        let all = found(layers, line, &used, 1000);
        all.into_iter().map(|one| (layers[one.layer].id.clone(), one.rule, one.message)).collect()
    }

    #[test]
    fn what_is_deleted_or_written_again_stays() {
        let layers = [
            layer("base", &[("var/big", 9_000_000), ("etc/x", 10)]),
            layer(
                "2",
                &[("var/lib/apt/a", 2_000_000), ("var/lib/apt/d/b", 1_000_000), ("var/library", 7_000_000)],
            ),
            layer("3", &[("app/f", 5_000_000), ("small", 900)]),
            layer("4", &[("-var/lib/apt", 0), ("var/lib/apt/new", 1), ("-var/big", 0), ("-small", 0)]),
            layer("5", &[("app/f", 5_000_000), ("var/library", 1)]),
        ];
        let all = told(&layers, &[]);
        let rules: Vec<_> = all.iter().map(|(line, rule, _)| (line.as_str(), *rule)).collect();
        assert_eq!(
            rules,
            [("4", "DeletedInLaterLayer"), ("5", "WrittenInTwoLayers"), ("5", "WrittenInTwoLayers"),]
        );
        assert!(all[0].2.starts_with("3.0 MB that line 2 added are deleted here"), "{}", all[0].2);
        assert!(all[1].2.starts_with("7.0 MB that line 2 added are written again here"), "{}", all[1].2);
        assert!(all[2].2.starts_with("5.0 MB that line 3 added"), "{}", all[2].2);
    }

    #[test]
    fn tools_that_are_kept() {
        let base = layer("base", &[("usr/local/go/bin/go", 100_000_000), ("usr/bin/env", 1)]);
        let own = layer("3", &[("usr/bin/gcc", 50_000_000), ("usr/bin/make", 200), ("doc/go", 1)]);
        let all = told(&[base.clone(), own.clone()], &[("go", 4), ("gcc", 5), ("make", 4)]);
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].0, "base");
        assert!(all[0].2.starts_with("the image keeps `go` that line 4 builds with, in a layer of 100.0 MB"));
        assert!(
            all[1].2.starts_with("the image keeps `gcc`, `make` that line 4 builds with"),
            "{}",
            all[1].2
        );
        assert_eq!(told(&[base.clone(), own.clone()], &[]), [], "nothing is built with them");
        let removed = layer("4", &[("-usr/local/go", 0), ("-usr/bin/gcc", 0), ("-usr/bin/make", 0)]);
        let all = told(&[base, own, removed], &[("go", 4), ("gcc", 5)]);
        assert_eq!(all.iter().map(|one| one.1).collect::<Vec<_>>(), ["DeletedInLaterLayer"]);
    }
}
