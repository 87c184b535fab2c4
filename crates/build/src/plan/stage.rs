//! The steps of one stage, planned with the configuration that it starts from.

use std::collections::BTreeMap;

use coracle_host::Kind;

use super::graph::{Graph, expanded, is_proxy, report};
use super::values;
use super::vars::Vars;
use super::{CopyFrom, CopyOp, Op, Origin, Plan, Stage, Step};
use crate::dockerfile::ast::{self, CommandLine, CopySource, Instruction, Verb, Word};
use crate::dockerfile::lines::Heredoc;
use crate::dockerfile::source::Problems;
use crate::error::{Error, Result, Span};
use crate::expand::{self, Lookup};
use crate::image::{DEFAULT_PATH, ImageConfig, Nothing};
use crate::paths;
use crate::worker::Command;

/// What a later stage can start from.
#[derive(Clone)]
struct State {
    config: ImageConfig,
    /// What expansion sees and RUN gets.
    vars: Vars,
    /// Arguments that were asked for, for RUN's history.
    args: Vec<String>,
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
                if !config.config.on_build.is_empty() {
                    let what = format!("`{name}` has `ONBUILD` instructions, which are not supported yet");
                    problems.unsupported(text.from.image.span, what);
                }
                start(config.clone())
            }
            Origin::Scratch | Origin::Context => start(ImageConfig::scratch()),
        };
        let mut planner = Planner { graph, index, state, cmd_set: false, problems: &mut problems };
        let steps =
            text.instructions.iter().enumerate().filter_map(|(i, one)| planner.step(i, one)).collect();
        let state = planner.state;
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

fn start(config: ImageConfig) -> State {
    State { vars: Vars::from_env(&config.config.env), config, args: Vec::new() }
}

struct Planner<'a, 'p> {
    graph: &'a Graph,
    index: usize,
    state: State,
    /// CMD was given in this stage, so that ENTRYPOINT leaves it.
    cmd_set: bool,
    problems: &'a mut Problems<'p>,
}

impl Planner<'_, '_> {
    fn step(&mut self, number: usize, instruction: &Instruction) -> Option<Step> {
        let span = instruction.span;
        let (op, created_by) = match &instruction.verb {
            Verb::Run(line, heredocs) => self.run(line, heredocs, span)?,
            Verb::Copy(copy) => self.copy(number, copy)?,
            Verb::Workdir(word) => {
                let path = self.path(word, "WORKDIR")?;
                let path = paths::join(self.cwd(), &path);
                self.state.config.config.working_dir.clone_from(&path);
                let created_by = format!("WORKDIR {path}");
                (if path == "/" { Op::Set } else { Op::MakeDir { path } }, created_by)
            }
            verb => (Op::Set, self.set(verb, span)?),
        };
        let sources = match &instruction.verb {
            Verb::Copy(copy) => copy.sources.iter().map(CopySource::span).collect(),
            _ => Vec::new(),
        };
        Some(Step { line: span.line, text: instruction.text.clone(), created_by, op, span, sources })
    }

    fn expand(&mut self, word: &Word) -> Option<String> {
        expanded(word, self.graph.file.escape, &self.state.vars, self.problems)
    }

    fn path(&mut self, word: &Word, verb: &str) -> Option<String> {
        let path = self.expand(word)?;
        if path.is_empty() || path.contains('\0') {
            self.problems.invalid(word.span, format!("`{verb}` gets no path: `{}` is `{path}`", word.text));
            return None;
        }
        Some(path)
    }

    fn cwd(&self) -> &str {
        match self.state.config.config.working_dir.as_str() {
            "" => "/",
            path => path,
        }
    }

    fn argv(&self, line: &CommandLine) -> Vec<String> {
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

    fn run(&mut self, line: &CommandLine, heredocs: &[Heredoc], span: Span) -> Option<(Op, String)> {
        let line = match (line, heredocs) {
            (line, []) => line.clone(),
            (CommandLine::Exec(_), _) => {
                self.problems.invalid(span, "the exec form takes no here-document");
                return None;
            }
            (CommandLine::Shell(text), [only]) if text.split_whitespace().count() == 1 => {
                if only.text.starts_with("#!") {
                    self.problems.unsupported(span, "a here-document with a `#!` line is not supported yet");
                    return None;
                }
                CommandLine::Shell(only.text.clone())
            }
            // The shell reads them itself.
            (CommandLine::Shell(text), many) => {
                let ends = many.iter().map(|h| format!("\n{}{}", h.text, h.name));
                CommandLine::Shell(std::iter::once(text.clone()).chain(ends).collect())
            }
        };
        let argv = self.argv(&line);
        let mut env = self.state.vars.to_pairs();
        if self.state.vars.get("PATH").is_none() {
            env.push(("PATH".to_owned(), DEFAULT_PATH.to_owned()));
        }
        let mut created_by = "RUN".to_owned();
        if !self.state.args.is_empty() {
            created_by.push_str(&format!(" |{}", self.state.args.len()));
            for name in &self.state.args {
                created_by.push_str(&format!(" {name}={}", self.state.vars.get(name).unwrap_or("")));
            }
        }
        created_by = format!("{created_by} {}", argv.join(" "));
        let proxies =
            self.graph.given.iter().filter(|(n, _)| is_proxy(n) && self.state.vars.get(n).is_none());
        let quiet_env = proxies.map(|(n, v)| (n.clone(), v.clone())).collect();
        let user = self.state.config.config.user.clone();
        Some((Op::Run(Command { argv, env, quiet_env, cwd: self.cwd().to_owned(), user }), created_by))
    }

    fn copy(&mut self, number: usize, copy: &ast::Copy) -> Option<(Op, String)> {
        let from = self.graph.nodes[self.index].copies.get(&number).cloned().unwrap_or(Origin::Context);
        let mut created_by = "COPY".to_owned();
        if let Some(word) = &copy.from {
            created_by.push_str(&format!(" --from={}", word.text));
        }
        let mut flag = |name: &str, word: &Option<Word>| {
            let Some(word) = word else { return Some(None) };
            let value = self.expand(word)?;
            created_by.push_str(&format!(" --{name}={value}"));
            Some(Some((value, word.span)))
        };
        let (chown, chmod) = (flag("chown", &copy.chown)?, flag("chmod", &copy.chmod)?);
        let chmod = match chmod.map(|(text, span)| (values::mode(&text), span)) {
            None => None,
            Some((Ok(mode), _)) => Some(mode),
            Some((Err(what), span)) => {
                self.problems.invalid(span, what);
                return None;
            }
        };
        let mut sources = Vec::new();
        for source in &copy.sources {
            match source {
                CopySource::Path(word) => {
                    let path = self.path(word, "COPY")?;
                    created_by.push_str(&format!(" {path}"));
                    sources.push(CopyFrom::Path(paths::clean(&path)[1..].to_owned()));
                }
                CopySource::Inline(heredoc, span) => {
                    created_by.push_str(&format!(" <<{}", heredoc.name));
                    let mut text = heredoc.text.clone();
                    if heredoc.expand {
                        match expand::expand_text(&text, self.graph.file.escape, &self.state.vars) {
                            Ok(expanded) => text = expanded,
                            Err(fault) => {
                                let what = format!("here-document `{}`: {}", heredoc.name, fault.message);
                                self.problems.add(fault.kind, *span, what, None);
                                return None;
                            }
                        }
                    }
                    sources.push(CopyFrom::Inline(heredoc.name.clone(), text));
                }
            }
        }
        let dest = self.path(&copy.dest, "COPY")?;
        created_by.push_str(&format!(" {dest}"));
        if sources.len() > 1 && !paths::means_directory(&dest) {
            let what = "with more than one source the destination is a directory, and ends with `/`";
            let help = format!("`{dest}/`");
            self.problems.add(Kind::Invalid, copy.dest.span, what, Some(help));
            return None;
        }
        let mut path = paths::join(self.cwd(), &dest);
        if paths::means_directory(&dest) && path != "/" {
            path.push('/');
        }
        let chown = chown.map(|(value, _)| value);
        Some((Op::Copy(CopyOp { from, sources, dest: path, chown, chmod }), created_by))
    }

    /// Instructions that change the configuration only.
    fn set(&mut self, verb: &Verb, span: Span) -> Option<String> {
        match verb {
            Verb::Env(pairs) => {
                let pairs = self.pairs(pairs)?;
                let mut env = Vars::from_env(&self.state.config.config.env);
                let mut created_by = "ENV".to_owned();
                for (name, value) in pairs {
                    created_by.push_str(&format!(" {name}={value}"));
                    self.state.vars.set(&name, value.clone());
                    env.set(&name, value);
                }
                self.state.config.config.env = env.to_env();
                Some(created_by)
            }
            Verb::Label(pairs) => {
                let pairs = self.pairs(pairs)?;
                let mut created_by = "LABEL".to_owned();
                for (name, value) in pairs {
                    created_by.push_str(&format!(" {name}={value}"));
                    self.state.config.config.labels.insert(name, value);
                }
                Some(created_by)
            }
            Verb::Arg(args) => self.arg(args),
            Verb::User(word) => {
                let user = self.expand(word)?;
                let created_by = format!("USER {user}");
                self.state.config.config.user = user;
                Some(created_by)
            }
            Verb::Expose(words) => self.expose(words),
            Verb::Volume(words) => {
                let paths = words.iter().map(|w| self.path(w, "VOLUME")).collect::<Option<Vec<_>>>()?;
                let created_by = format!("VOLUME [{}]", paths.join(" "));
                self.state.config.config.volumes.extend(paths.into_iter().map(|p| (p, Nothing {})));
                Some(created_by)
            }
            Verb::StopSignal(word) => {
                let signal = self.expand(word)?;
                if !values::is_signal(&signal) {
                    self.problems.invalid(word.span, format!("`{signal}` is no signal"));
                    return None;
                }
                let created_by = format!("STOPSIGNAL {signal}");
                self.state.config.config.stop_signal = signal;
                Some(created_by)
            }
            Verb::Shell(argv) => {
                self.state.config.config.shell = Some(argv.clone());
                Some(format!("SHELL [{}]", argv.join(" ")))
            }
            Verb::Cmd(line) => {
                let argv = self.argv(line);
                let created_by = format!("CMD {}", values::go_quoted(&argv));
                self.state.config.config.cmd = Some(argv);
                self.cmd_set = true;
                Some(created_by)
            }
            Verb::Entrypoint(line) => {
                let argv = self.argv(line);
                let created_by = format!("ENTRYPOINT {}", values::go_quoted(&argv));
                self.state.config.config.entrypoint = Some(argv);
                // The old arguments were meant for the old program.
                if !self.cmd_set {
                    self.state.config.config.cmd = None;
                }
                Some(created_by)
            }
            Verb::Maintainer(name) => {
                self.state.config.author = Some(name.clone());
                Some(format!("MAINTAINER {name}"))
            }
            Verb::From(_) | Verb::Run(..) | Verb::Copy(_) | Verb::Workdir(_) => {
                self.problems.invalid(span, "this instruction can't stand here");
                None
            }
        }
    }

    /// All of an instruction see the variables as they were before it.
    fn pairs(&mut self, pairs: &[(Word, Word)]) -> Option<Vec<(String, String)>> {
        pairs.iter().map(|(name, value)| Some((self.expand(name)?, self.expand(value)?))).collect()
    }

    fn arg(&mut self, args: &[(Word, Option<Word>)]) -> Option<String> {
        let mut created_by = "ARG".to_owned();
        for (name, default) in args {
            let name = name.text.as_str();
            let value = match (self.graph.given.get(name), default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => Some(self.expand(default)?),
                (None, None) => self.graph.globals.get(name).map(str::to_owned),
            };
            created_by.push_str(&format!(" {name}"));
            if let Some(value) = value {
                created_by.push_str(&format!("={value}"));
                self.state.vars.set(name, value);
            }
            if !self.state.args.iter().any(|own| own == name) {
                self.state.args.push(name.to_owned());
            }
        }
        Some(created_by)
    }

    fn expose(&mut self, words: &[Word]) -> Option<String> {
        let mut ports = Vec::new();
        for word in words {
            let parts = expand::expand_words(&word.text, self.graph.file.escape, &self.state.vars)
                .map_err(|fault| report(word, &fault, self.problems))
                .ok()?;
            for part in parts {
                match values::ports(&part) {
                    Ok(some) => ports.extend(some),
                    Err(what) => {
                        self.problems.invalid(word.span, what);
                        return None;
                    }
                }
            }
        }
        let created_by = format!("EXPOSE [{}]", ports.join(" "));
        self.state.config.config.exposed_ports.extend(ports.into_iter().map(|p| (p, Nothing {})));
        Some(created_by)
    }
}
