//! RUN: the command, what is mounted for it, and its network.

use std::collections::BTreeMap;

use coracle_host::Kind;

use super::graph::{Nth, is_proxy};
use super::stage::{Planner, TOO_MUCH};
use super::{Op, Origin};
use super::{builtin, values};
use crate::dockerfile::ast::{self, CommandLine, Word};
use crate::error::Span;
use crate::expand::Lookup;
use crate::image::DEFAULT_PATH;
use crate::mount::{MountFrom, Network, RunMount, Sharing};
use crate::paths;
use crate::spec::Allow;
use crate::suggest::nearest;
use crate::worker::Command;

const KINDS: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];

impl Planner<'_, '_> {
    pub(super) fn run(&mut self, number: Nth, run: &ast::Run, span: Span) -> Option<(Op, String)> {
        let mut mounts = self.mounts(number, run)?;
        let network = self.network(run.network.as_ref())?;
        if let Some(at) = run.insecure
            && !self.graph.allowed.contains(&Allow::Insecure)
        {
            self.refuse(at, "`--security=insecure`", "security.insecure");
            return None;
        }
        let line = match (&run.line, run.heredocs.as_slice()) {
            (line, []) => line.clone(),
            (CommandLine::Exec(_), _) => {
                self.problems.invalid(span, "the exec form takes no here-document");
                return None;
            }
            (CommandLine::Shell(text), [only]) if text.split_whitespace().count() == 1 => {
                match only.text.starts_with("#!") {
                    true => {
                        let target = format!("/dev/pipes/{}", only.name);
                        mounts.push(RunMount::Script { target: target.clone(), text: only.text.clone() });
                        CommandLine::Exec(vec![target])
                    }
                    false => CommandLine::Shell(only.text.clone()),
                }
            }
            // The shell reads them itself.
            (CommandLine::Shell(text), many) => {
                let ends = many.iter().map(|h| format!("\n{}{}", h.text, h.name));
                CommandLine::Shell(std::iter::once(text.clone()).chain(ends).collect())
            }
        };
        let argv = self.argv(&line);
        if !self.problems.budget.take(self.state.vars.bytes()) {
            self.problems.add(Kind::Exhausted, span, TOO_MUCH, None);
            return None;
        }
        let mut env = self.state.vars.to_pairs();
        if self.state.vars.get("PATH").is_none() {
            env.push(("PATH".to_owned(), DEFAULT_PATH.to_owned()));
        }
        let mut created_by = "RUN".to_owned();
        if self.state.args.names().next().is_some() {
            created_by.push_str(&format!(" |{}", self.state.args.names().count()));
            for name in self.state.args.names() {
                created_by.push_str(&format!(" {name}={}", self.state.vars.get(name).unwrap_or("")));
            }
        }
        created_by = format!("{created_by} {}", argv.join(" "));
        let quiet_env = self.proxies();
        let user = self.state.config.config.user.clone();
        let cwd = self.cwd().to_owned();
        let hosts = self.graph.hosts.clone();
        let insecure = run.insecure.is_some();
        let hostname = builtin::hostname(&self.graph.given).to_owned();
        let command = Command {
            argv,
            env,
            quiet_env,
            cwd,
            user,
            mounts,
            hostname,
            network,
            hosts,
            rlimits: self.graph.rlimits.clone(),
            shm_size: self.graph.shm_size,
            insecure,
            uncached: false,
        };
        Some((Op::Run(command), created_by))
    }

    /// Those that were given, in capitals and in small letters, as programs look for the one or the other. What an ARG asks
    /// for is among all other variables.
    fn proxies(&self) -> Vec<(String, String)> {
        let given = self.graph.given.iter().filter(|(name, _)| is_proxy(name));
        let mut proxies = BTreeMap::new();
        for (name, value) in given.clone() {
            proxies.insert(name.to_ascii_uppercase(), value.clone());
            proxies.insert(name.to_ascii_lowercase(), value.clone());
        }
        proxies.extend(given.map(|(name, value)| (name.clone(), value.clone())));
        proxies.into_iter().filter(|(name, _)| self.state.vars.get(name).is_none()).collect()
    }

    fn refuse(&mut self, at: Span, what: &str, entitlement: &str) {
        let what = format!("{what} has to be allowed: `--allow {entitlement}`");
        self.problems.add(Kind::Denied, at, what, None);
    }

    fn network(&mut self, word: Option<&Word>) -> Option<Network> {
        let Some(word) = word else { return Some(self.graph.network) };
        match self.expand(word)?.as_str() {
            "default" => Some(self.graph.network),
            "none" => Some(Network::None),
            "host" if !self.graph.allowed.contains(&Allow::HostNetwork) => {
                self.refuse(word.span, "the host's network", "network.host");
                None
            }
            "host" => Some(Network::Host),
            other => {
                let what = format!("`--network` is `default`, `none` or `host`, not `{other}`");
                self.problems.invalid(word.span, what);
                None
            }
        }
    }

    /// All of them, so that all that is wrong is said.
    fn mounts(&mut self, number: Nth, run: &ast::Run) -> Option<Vec<RunMount>> {
        let mounts: Vec<_> =
            run.mounts.iter().enumerate().map(|(nth, mount)| self.mount((number, nth), mount)).collect();
        mounts.into_iter().collect()
    }

    fn mount(&mut self, number: (Nth, usize), mount: &ast::Mount) -> Option<RunMount> {
        let kind_of = mount.options.iter().find(|(key, _)| key.text == "type").and_then(|(_, v)| v.as_ref());
        let kind = kind_of.map_or("bind", |word| word.text.as_str());
        let span = kind_of.map_or(mount.span, |word| word.span);
        let known: &[&str] = match kind {
            "bind" => &["target", "source", "from", "rw", "ro"],
            "cache" => &["target", "source", "from", "ro", "rw", "id", "sharing", "mode", "uid", "gid"],
            "tmpfs" => &["target", "size"],
            "secret" => &["id", "target", "env", "required", "mode", "uid", "gid"],
            "ssh" => &["id", "target", "required", "mode", "uid", "gid"],
            other => {
                let help = nearest(other, KINDS).map(|near| format!("did you mean `{near}`?"));
                let what = format!("there are no mounts of the type `{other}`");
                self.problems.add(Kind::Invalid, span, what, help);
                return None;
            }
        };
        let options = self.options(mount, kind, known)?;
        let from = self.mount_from(number, mount, &options)?;
        self.made(number.1, kind, options, from, mount.span)
    }

    fn options(&mut self, mount: &ast::Mount, kind: &str, known: &[&str]) -> Option<Options> {
        let mut options = Options { found: Vec::new() };
        for (key, value) in &mount.options {
            let name = match key.text.as_str() {
                "type" => continue,
                "src" => "source",
                "dst" | "destination" => "target",
                "readonly" => "ro",
                "readwrite" => "rw",
                // `source` of a secret is its id's other name.
                name => name,
            };
            let name = if kind == "secret" && name == "source" { "id" } else { name };
            if !known.contains(&name) {
                let help = nearest(name, known.iter().copied()).map(|near| format!("did you mean `{near}`?"));
                let what = format!("a mount of the type `{kind}` has no option `{name}`");
                self.problems.add(Kind::Invalid, key.span, what, help);
                return None;
            }
            let span = value.as_ref().map_or(key.span, |word| word.span);
            let value = match value {
                None if ["ro", "rw", "required"].contains(&name) => "true".to_owned(),
                None => {
                    self.problems.invalid(key.span, format!("the option `{name}` takes a value: {name}=…"));
                    return None;
                }
                Some(word) if name == "from" => {
                    if word.text.contains('$') {
                        let what = "`from` takes no variables: give the image a stage of its own, \
                                    `FROM $image AS name`";
                        self.problems.invalid(word.span, what);
                        return None;
                    }
                    word.text.clone()
                }
                Some(word) => self.expand(word)?,
            };
            options.found.push((name.to_owned(), value, span));
        }
        Some(options)
    }

    /// Where a mount comes from: `None` in the inner option where it says nothing of it.
    fn mount_from(
        &mut self,
        number: (Nth, usize),
        mount: &ast::Mount,
        options: &Options,
    ) -> Option<Option<MountFrom>> {
        let path = options.get("source").map_or("", |(path, _)| path);
        let path = paths::clean(path)[1..].to_owned();
        let origin = mount.from().and_then(|_| self.graph.nodes[self.index].copies.get(&number).cloned());
        Some(origin.map(|origin| MountFrom { origin, path, tree: None }))
    }

    fn made(
        &mut self,
        nth: usize,
        kind: &str,
        options: Options,
        from: Option<MountFrom>,
        span: Span,
    ) -> Option<RunMount> {
        let target = match options.get("target") {
            Some((target, _)) if !target.is_empty() && !target.contains('\0') => {
                Some(paths::join(self.cwd(), target))
            }
            Some((_, span)) => {
                self.problems.invalid(span, "the target of a mount is a path");
                return None;
            }
            None => None,
        };
        let numbers = (|| {
            let mode = options.parsed("mode", |text| values::mode(text).ok())?;
            let uid = options.parsed("uid", |text| text.parse::<u32>().ok())?.unwrap_or(0);
            let gid = options.parsed("gid", |text| text.parse::<u32>().ok())?.unwrap_or(0);
            let switch = |text: &str| match text {
                "true" | "1" => Some(true),
                "false" | "0" => Some(false),
                _ => None,
            };
            let (ro, rw) = (options.parsed("ro", switch)?, options.parsed("rw", switch)?);
            let required = options.parsed("required", switch)?.unwrap_or(false);
            let size = options.parsed("size", values::bytes)?;
            Ok::<_, (String, Span)>((mode, (uid, gid), (ro, rw), required, size))
        })();
        let (mode, (uid, gid), (ro, rw), required, size) = match numbers {
            Ok(numbers) => numbers,
            Err((what, span)) => {
                self.problems.invalid(span, what);
                return None;
            }
        };
        let writable = rw.or(ro.map(|ro| !ro));
        if kind == "secret" {
            let env = options.get("env").map(|(name, _)| name.to_owned());
            let base = |path: &String| path.rsplit('/').next().unwrap_or("").to_owned();
            let id = options.get("id").map(|(id, _)| id.to_owned()).or_else(|| target.as_ref().map(base));
            let Some(id) = id.or_else(|| env.clone()).filter(|id| !id.is_empty()) else {
                self.problems.invalid(span, "a secret has an `id`, a `target` or an `env`");
                return None;
            };
            let target = match (&target, &env) {
                (None, None) => Some(format!("/run/secrets/{id}")),
                _ => target,
            };
            let mode = mode.unwrap_or(0o400);
            return Some(RunMount::Secret { id, target, env, required, mode, uid, gid, value: None });
        }
        if kind == "ssh" {
            let id = options.get("id").map_or("default", |(id, _)| id).to_owned();
            let target = target.unwrap_or_else(|| format!("/run/buildkit/ssh_agent.{nth}"));
            let mode = mode.unwrap_or(0o600);
            return Some(RunMount::Ssh { id, target, required, mode, uid, gid, agent: None });
        }
        let Some(target) = target else {
            self.problems.invalid(span, format!("a mount of the type `{kind}` needs a `target`"));
            return None;
        };
        if target == "/" {
            self.problems.invalid(span, "nothing can be mounted over `/`");
            return None;
        }
        Some(match kind {
            "tmpfs" => RunMount::Tmpfs { target, size },
            "cache" => {
                let sharing = match options.get("sharing") {
                    None | Some(("shared", _)) => Sharing::Shared,
                    Some(("private", _)) => Sharing::Private,
                    Some(("locked", _)) => Sharing::Locked,
                    Some((other, span)) => {
                        let what = format!("`sharing` is `shared`, `private` or `locked`, not `{other}`");
                        self.problems.invalid(span, what);
                        return None;
                    }
                };
                let id = options.get("id").map(|(id, _)| id.to_owned()).filter(|id| !id.is_empty());
                let id = id.unwrap_or_else(|| target.clone());
                RunMount::Cache {
                    id: builtin::cache_id(&self.graph.given, id),
                    target,
                    from,
                    seed: None,
                    sharing,
                    mode: mode.unwrap_or(0o755),
                    uid,
                    gid,
                    read_only: writable == Some(false),
                }
            }
            _ => {
                let path = options.get("source").map_or("", |(path, _)| path);
                let path = paths::clean(path)[1..].to_owned();
                let from = from.unwrap_or(MountFrom { origin: Origin::Context, path, tree: None });
                RunMount::Bind { target, from, writable: writable == Some(true) }
            }
        })
    }
}

/// The options of one mount, by their first names, with variables replaced.
struct Options {
    found: Vec<(String, String, Span)>,
}

impl Options {
    fn get(&self, name: &str) -> Option<(&str, Span)> {
        self.found.iter().find(|(own, ..)| own == name).map(|(_, value, span)| (value.as_str(), *span))
    }

    fn parsed<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, (String, Span)> {
        match self.get(name) {
            None => Ok(None),
            Some((value, span)) => match parse(value) {
                Some(value) => Ok(Some(value)),
                None => Err((format!("`{value}` is no value of `{name}`"), span)),
            },
        }
    }
}
