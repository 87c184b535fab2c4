//! The steps of one stage, planned with the configuration that it starts from.

use std::collections::BTreeMap;

use coracle_host::Kind;

use super::graph::{Graph, Nth, expanded};
use super::vars::Vars;
use super::{CopyOp, Op, Origin, Plan, Stage, Step};
use crate::dockerfile::ast::{CommandLine, CopySource, Instruction, Verb, Word};
use crate::dockerfile::source::Problems;
use crate::error::{Error, Result, Span};
use crate::image::{DEFAULT_PATH, ImageConfig};
use crate::paths;

/// What a later stage can start from.
#[derive(Clone)]
pub(super) struct State {
    pub(super) config: ImageConfig,
    /// What expansion sees and RUN gets.
    pub(super) vars: Vars,
    /// What becomes the configuration's environment at the stage's end, where ENV has changed it.
    pub(super) env: Option<Vars>,
    /// Arguments that were asked for, for RUN's history.
    pub(super) args: Vars,
}

pub(super) fn plan(graph: &Graph, bases: &BTreeMap<String, ImageConfig>) -> Result<Plan> {
    let mut problems = Problems::new(&graph.file.source);
    let mut states: BTreeMap<usize, State> = BTreeMap::new();
    let mut stages = Vec::new();
    for &index in &graph.needed {
        let text = &graph.file.stages[index];
        let from = graph.nodes[index].from.clone();
        let state = match &from {
            Origin::Stage(earlier) => states[earlier].clone(),
            Origin::Image(name) => {
                let Some(config) = bases.get(name) else {
                    return Err(Error::invalid(format!(
                        "plan: the configuration of image `{name}` is not given"
                    )));
                };
                start(config.clone())
            }
            Origin::Scratch | Origin::Context | Origin::Directory(_) => start(ImageConfig::scratch()),
        };
        let escape = graph.file.escape;
        let mut planner = Planner { graph, index, escape, state, cmd_set: false, problems: &mut problems };
        let mut steps = planner.triggers(text.from.image.span);
        steps.extend(laid_out(&from, &text.text, text.from.image.span));
        let own = text.instructions.iter().enumerate();
        steps.extend(own.filter_map(|(i, one)| planner.step(Nth::Own(i), one)));
        let mut state = planner.state;
        if let Some(env) = state.env.take() {
            state.config.config.env = env.to_env();
        }
        // Later stages begin with a copy of it.
        if !problems.budget.take(state.vars.bytes()) {
            problems.add(Kind::Exhausted, text.span, TOO_MUCH, None);
            break;
        }
        stages.push(Stage {
            index,
            name: text.from.name.as_ref().map(|n| n.text.clone()),
            from,
            line: text.span.line,
            text: text.text.clone(),
            steps,
            config: state.config.clone(),
        });
        states.insert(index, state);
    }
    problems.into_result()?;
    if let Some(last) = stages.last_mut() {
        last.config.config.labels.extend(graph.labels.clone());
    }
    Ok(Plan { stages, file: graph.file.clone() })
}

/// The step that makes the files of a directory those of a stage that starts from it.
fn laid_out(from: &Origin, text: &str, span: Span) -> Option<Step> {
    let Origin::Directory(_) = from else { return None };
    let copy = CopyOp::whole(from.clone(), String::new());
    Some(Step {
        line: span.line,
        text: text.to_owned(),
        created_by: Some("COPY / /".to_owned()),
        op: Op::Copy(copy),
        span,
        sources: vec![span],
    })
}

/// Said where the environment of steps and stages outgrows what a file may ask for.
pub(super) const TOO_MUCH: &str = "the steps of this file have too much environment between them";

/// limits.h: no path is longer, its end included.
const PATH_MAX: usize = 4096;

/// As BuildKit has it: an image that has no `PATH` gets one where it is built upon.
fn start(mut config: ImageConfig) -> State {
    if !config.config.env.iter().any(|pair| pair.starts_with("PATH=")) {
        config.config.env.push(format!("PATH={DEFAULT_PATH}"));
    }
    State { vars: Vars::from_env(&config.config.env), env: None, config, args: Vars::default() }
}

pub(super) struct Planner<'a, 'p> {
    pub(super) graph: &'a Graph,
    pub(super) index: usize,
    pub(super) escape: char,
    pub(super) state: State,
    /// CMD was given in this stage, so that ENTRYPOINT leaves it.
    pub(super) cmd_set: bool,
    pub(super) problems: &'a mut Problems<'p>,
}

impl Planner<'_, '_> {
    /// The steps that the stage's origin has for it. They stand where FROM does.
    fn triggers(&mut self, span: Span) -> Vec<Step> {
        let mut steps = Vec::new();
        self.state.config.config.on_build.clear();
        let own = std::mem::replace(&mut self.escape, '\\');
        let triggers = self.graph.nodes[self.index].triggers.clone();
        for (nth, trigger) in triggers.iter().flat_map(|all| all.iter()).enumerate() {
            self.problems.pin(Some((span, trigger.named.clone())));
            steps.extend(self.step(Nth::Trigger(nth), &trigger.instruction));
        }
        self.escape = own;
        self.problems.pin(None);
        for step in &mut steps {
            step.line = span.line;
            step.span = span;
            step.sources.fill(span);
        }
        steps
    }

    fn step(&mut self, number: Nth, instruction: &Instruction) -> Option<Step> {
        let span = instruction.span;
        let made = |(op, created_by)| (op, Some(created_by));
        let (op, created_by) = match &instruction.verb {
            Verb::Run(run) => self.run(number, run, span).map(made)?,
            Verb::Copy(copy) => self.copy(number, copy).map(made)?,
            Verb::Workdir(word) => {
                let path = self.path_or_none(word, "WORKDIR")?;
                let path = paths::join(self.cwd(), &path);
                if path.len() >= PATH_MAX {
                    let what =
                        format!("`WORKDIR` comes to a path of {} bytes, more than {PATH_MAX}", path.len());
                    self.problems.invalid(word.span, what);
                    return None;
                }
                self.state.config.config.working_dir.clone_from(&path);
                let created_by = format!("WORKDIR {path}");
                let user = self.state.config.config.user.clone();
                (if path == "/" { Op::Set } else { Op::MakeDir { path, user } }, Some(created_by))
            }
            Verb::OnBuild(text) => {
                self.state.config.config.on_build.push(text.clone());
                (Op::Set, None)
            }
            verb => (Op::Set, Some(self.set(verb, span)?)),
        };

        let sources = match &instruction.verb {
            Verb::Copy(copy) => copy.sources.iter().map(CopySource::span).collect(),
            _ => Vec::new(),
        };
        Some(Step { line: span.line, text: instruction.text.clone(), created_by, op, span, sources })
    }

    pub(super) fn expand(&mut self, word: &Word) -> Option<String> {
        expanded(word, self.escape, &self.state.vars, self.problems)
    }

    /// A path that is not empty.
    pub(super) fn path(&mut self, word: &Word, verb: &str) -> Option<String> {
        let path = self.path_or_none(word, verb)?;
        if path.is_empty() {
            self.problems.invalid(word.span, format!("`{verb}` gets no path: `{}` is empty", word.text));
            return None;
        }
        Some(path)
    }

    /// A path that may be empty: then it means where the stage is.
    pub(super) fn path_or_none(&mut self, word: &Word, verb: &str) -> Option<String> {
        let path = self.expand(word)?;
        if path.contains('\0') {
            let what = format!("`{verb}` gets no path: there is a NUL in `{}`", word.text);
            self.problems.invalid(word.span, what);
            return None;
        }
        Some(path)
    }

    pub(super) fn cwd(&self) -> &str {
        match self.state.config.config.working_dir.as_str() {
            "" => "/",
            path => path,
        }
    }

    pub(super) fn argv(&self, line: &CommandLine) -> Vec<String> {
        match line {
            CommandLine::Exec(argv) => argv.clone(),
            CommandLine::Shell(line) => {
                let default = || vec!["/bin/sh".to_owned(), "-c".to_owned()];
                let mut argv = self.state.config.config.shell.clone().unwrap_or_else(default);
                argv.push(line.clone());
                argv
            }
        }
    }
}
