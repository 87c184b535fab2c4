//! Instructions that change the configuration only.

use super::graph::report;
use super::stage::Planner;
use super::values;
use super::vars::Vars;
use crate::dockerfile::ast::{Healthcheck, Verb, Word};
use crate::error::Span;
use crate::expand::{self, Lookup};
use crate::image::Nothing;

impl Planner<'_, '_> {
    /// Instructions that change the configuration only.
    pub(super) fn set(&mut self, verb: &Verb, span: Span) -> Option<String> {
        match verb {
            Verb::Env(pairs) => {
                let pairs = self.pairs(pairs)?;
                let state = &mut self.state;
                let env = state.env.get_or_insert_with(|| Vars::from_env(&state.config.config.env));
                let mut created_by = "ENV".to_owned();
                for (name, value) in pairs {
                    created_by.push_str(&format!(" {name}={value}"));
                    state.vars.set(&name, value.clone());
                    env.set(&name, value);
                }
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
                self.state.config.config.args_escaped = true;
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
            Verb::Healthcheck(check) => {
                self.state.config.config.healthcheck = Some(health(check));
                Some(format!("HEALTHCHECK {}", health(check)))
            }
            Verb::Maintainer(name) => {
                self.state.config.author = Some(name.clone());
                Some(format!("MAINTAINER {name}"))
            }
            Verb::From(_) | Verb::Run(_) | Verb::Copy(_) | Verb::Workdir(_) | Verb::OnBuild(_) => {
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
            self.state.args.set(name, String::new());
        }
        Some(created_by)
    }

    fn expose(&mut self, words: &[Word]) -> Option<String> {
        let mut ports = Vec::new();
        for word in words {
            let parts =
                expand::expand_words(&word.text, self.escape, &self.state.vars, &mut self.problems.budget)
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

/// As docker's image specification has it: nanoseconds, and nothing of what is left to the base or the engine.
fn health(check: &Healthcheck) -> serde_json::Value {
    let mut fields = serde_json::Map::new();
    fields.insert("Test".to_owned(), check.test.clone().into());
    for (name, nanoseconds) in [
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
        ("Retries", u64::from(check.retries)),
    ] {
        if nanoseconds > 0 {
            fields.insert(name.to_owned(), nanoseconds.into());
        }
    }
    fields.into()
}
