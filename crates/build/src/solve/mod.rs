//! The solver: takes each step of the plan from the cache or from the worker, and stores the image.

mod board;
mod first;
pub(crate) mod load;
mod mounts;
mod reached;
mod stage;
mod step;
mod telling;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::sync_channel;
use std::time::SystemTime;

use coracle_host::Kind;
use oci_spec::image::History;

use board::{Board, EVENTS, Told, stages};
use load::Context;
use reached::Reached;
use stage::State;
pub(crate) use telling::trace_key;

use crate::cache::Cache;
use crate::error::{Error, Result, Span};
use crate::event::{Built, Event, Outcome, Place, StepReport};
use crate::image::ImageConfig;
use crate::plan::{Graph, Plan};
use crate::remote::fetch::Fetches;
use crate::spec::{BuildSpec, Named, Pull};
use crate::worker::{Base, Commit, Snapshot, Worker};

/// Builds an image: reads the Dockerfile, plans, takes from `cache` what is there, has `worker` do the rest, and
/// commits the last stage under the spec's tags. `on_event` hears of everything as it happens.
///
/// A build whose every step is cached gives the same image as before: history and creation times are those of when
/// the steps ran. Nothing is kept of a build that fails but the results of the steps before.
///
/// # Errors
/// All problems of the Dockerfile at once; else the step that failed, at its line. See [`Error::kind`] and
/// [`Error::exit_code`].
pub fn build<W: Worker>(
    spec: &BuildSpec,
    worker: &W,
    cache: &Cache,
    on_event: &mut dyn FnMut(&Event),
) -> Result<Built> {
    let file = load::dockerfile(spec)?;
    let graph = Graph::new(&file, spec)?;
    if file.check_is_error() {
        let found = file.check();
        if !found.is_empty() {
            return Err(Error::diagnosed(found.into_iter().map(|lint| lint.diagnostic).collect()));
        }
    }
    let mut images = BTreeMap::new();
    let (graph, configs) = graph.settled(|graph, name| {
        let base = base(graph, worker, name, spec.pull, on_event)?;
        let config = base.config.clone();
        images.insert(name.to_owned(), base);
        Ok(Some(config))
    })?;
    let plan = graph.plan(&configs)?;
    let warnings: Vec<String> =
        graph.unused_args().iter().map(|n| format!("no `ARG` asks for the build argument `{n}`")).collect();
    let context = match plan.first_copy_from_context() {
        None => None,
        Some(span) => Some(Context::open(spec, cache).map_err(|e| locate(&plan, span, e, None))?),
    };
    let mut named = BTreeMap::new();
    for (name, span) in plan.directories() {
        let Some(Named::Directory(path)) = spec.contexts.get(name) else { continue };
        let context = Context::named(name, path, cache).map_err(|e| locate(&plan, span, e, None))?;
        named.insert(name.to_owned(), context);
    }
    let epoch = spec.source_date_epoch.map(timestamp_of_epoch).transpose()?;
    let solver = Solver {
        spec,
        worker,
        cache,
        plan: &plan,
        context,
        named,
        images,
        board: Board::new(plan.stages.last().map(|stage| stage.index)),
        fetches: Fetches::new(spec.proxies.clone()),
        epoch,
    };
    for warning in &warnings {
        on_event(&Event::Warning { message: warning.clone() });
    }
    let told = rounds(&solver, on_event);
    for context in solver.context.iter().chain(solver.named.values()) {
        context.remember(cache);
    }
    let told = told?;
    let id = solver.commit()?;
    on_event(&Event::Done { id: id.clone() });
    let kept = solver.board.kept();
    let mut built = Built {
        id,
        steps: Vec::new(),
        warnings,
        cache: Vec::new(),
        files: kept.files,
        fetched: kept.fetched,
        file: plan.file.clone(),
    };
    for told in told {
        built.cache.extend(told.cache);
        built.steps.extend(told.reports);
        built.warnings.extend(told.warnings);
    }
    for step in &mut built.steps {
        // It may have been built in an earlier round.
        if let Some(before) = kept.built.iter().find(|before| step.cached() && before.at == step.at) {
            *step = before.clone();
        }
    }
    Ok(built)
}

/// Solves all stages: mostly in one round. Where one needs the files of another's result that is only known, and nobody has them,
/// that one is built in a next round, in which all go on from what it comes to.
fn rounds<W: Worker>(solver: &Solver<'_, W>, on_event: &mut dyn FnMut(&Event)) -> Result<Vec<Told>> {
    let (mut heard, again) = (Heard::default(), Cell::new(false));
    let mut once = |event: &Event| {
        if heard.is_news(event) || !again.get() {
            on_event(event);
        }
    };
    let mut told = loop {
        let (events, coming) = sync_channel(EVENTS);
        let told = stages(solver, events, coming, &mut once);
        match told {
            Err(error) if error.kind() == Kind::Interrupted && solver.board.next_round() => again.set(true),
            told => break told?,
        }
    };
    for stage in &mut told {
        stage.held.drain(..).for_each(|event| once(&event));
        for (nth, id) in &stage.known {
            // What others asked for may have brought it.
            let Some(found) = solver.worker.find(id)? else { continue };
            let report: &mut StepReport = &mut stage.reports[*nth];
            (report.outcome, report.bytes) = (Outcome::Cached, found.layer_size());
        }
    }
    Ok(told)
}

/// The instructions that were told to be done, so that later rounds don't tell it again.
#[derive(Default)]
struct Heard(BTreeSet<(String, usize, usize)>);

impl Heard {
    fn is_news(&mut self, event: &Event) -> bool {
        let place = |at: &Place| (at.stage.clone(), at.line, at.index);
        match event {
            Event::From { at } | Event::Set { at } | Event::Cached { at } => self.0.insert(place(at)),
            Event::Built { at, .. } => {
                self.0.insert(place(at));
                true
            }
            _ => true,
        }
    }
}

/// The base image, or the error at the place that asks for it.
fn base<W: Worker>(
    graph: &Graph,
    worker: &W,
    name: &str,
    when: Pull,
    on_event: &mut dyn FnMut(&Event),
) -> Result<Base<W::Snapshot>> {
    worker.pull(name, when, on_event).map_err(|error| {
        let (span, near) = graph.asks_for(name);
        let help = near.map(|near| format!("did you mean the stage `{near}`?"));
        let error = error.context(format!("image `{name}`"));
        error.at(|kind, message| graph.diagnostic(span, kind, message, help))
    })
}

fn locate(plan: &Plan, span: Span, error: Error, help: Option<String>) -> Error {
    error.at(|kind, message| plan.diagnostic(span, kind, message, help))
}

fn timestamp_of_epoch(seconds: i64) -> Result<String> {
    jiff::Timestamp::from_second(seconds)
        .map(|t| t.to_string())
        .map_err(|error| Error::invalid(format!("source_date_epoch {seconds}: {error}")))
}

struct Solver<'a, W: Worker> {
    spec: &'a BuildSpec,
    worker: &'a W,
    cache: &'a Cache,
    plan: &'a Plan,
    context: Option<Context>,
    named: BTreeMap<String, Context>,
    images: BTreeMap<String, Base<W::Snapshot>>,
    board: Board<State<W::Snapshot>>,
    fetches: Fetches,
    /// `source_date_epoch`, RFC 3339.
    epoch: Option<String>,
}

impl<W: Worker> Solver<'_, W> {
    fn now(&self) -> Result<String> {
        if let Some(epoch) = &self.epoch {
            return Ok(epoch.clone());
        }
        let now = self.spec.now.unwrap_or_else(SystemTime::now);
        jiff::Timestamp::try_from(now)
            .map(|t| t.to_string())
            .map_err(|error| Error::invalid(format!("the time {now:?} can't be written: {error}")))
    }

    fn commit(&self) -> Result<String> {
        let Some(stage) = self.plan.stages.last() else {
            return Err(Error::invalid("the plan has no stage"));
        };
        let mut state = self.board.wait(stage.index)?;
        date(&mut state.history);
        let config = ImageConfig { created: state.time, history: state.history, ..stage.config.clone() };
        let Reached::Here(snapshot) = state.reached else {
            return Err(Error::invalid("the stage that is built for has no files"));
        };
        let commit = Commit {
            snapshot,
            config,
            tags: self.spec.tags.clone(),
            annotations: self.spec.annotations.clone(),
        };
        self.worker.commit(commit).map_err(|error| error.context("store the image"))
    }
}

/// Gives steps that made no layer, and say no time, that of the layer that follows the first of them, and of the last layer
/// before from there on: of times that the cache has, too, so that a build with everything cached makes the same image.
fn date(history: &mut [History]) {
    let undated = history.iter().position(|step| step.created().is_none()).unwrap_or(history.len());
    let after = history[undated..].iter().find_map(|step| step.created().clone());
    let before = history[..undated].iter().rev().find_map(|step| step.created().clone());
    let mut time = after.or(before);
    for step in &mut history[undated..] {
        match step.created() {
            Some(own) => time = Some(own.clone()),
            None => _ = step.set_created(time.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_a_time() {
        for (given, expected) in
            [("1 - 2 - -", "1 2 2 2 2"), ("- - 3", "3 3 3"), ("1 2 - -", "1 2 2 2"), ("- -", "- -"), ("", "")]
        {
            let step = |time: &str| {
                let mut step = History::default();
                step.set_created((time != "-").then(|| time.to_owned()));
                step
            };
            let mut history: Vec<History> = given.split_whitespace().map(step).collect();
            date(&mut history);
            let times: Vec<&str> =
                history.iter().map(|step| step.created().as_deref().unwrap_or("-")).collect();
            assert_eq!(times.join(" "), expected, "{given}");
        }
    }
}
