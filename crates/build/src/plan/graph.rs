//! The stages of a Dockerfile, what each starts from and copies from, and which of them the target needs.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use coracle_host::Kind;

use super::triggers::Trigger;
use super::vars::{Vars, platform_args};
use super::{Origin, builtin};
use crate::dockerfile::ast::{Verb, Word};
use crate::dockerfile::source::Problems;
use crate::dockerfile::{Dockerfile, StageText};
use crate::error::{Diagnostic, Error, Result, Span};
use crate::expand::{self, Lookup};
use crate::image::{ImageConfig, host_arch};
use crate::mount::Network;
use crate::plan::Plan;
use crate::spec::{Allow, BuildSpec, HostAddress, Named};
use crate::suggest::nearest;

/// The stages that a build needs, and the images that must be known before its steps can be planned.
///
/// ```
/// use std::collections::BTreeMap;
/// use coracle_build::{BuildSpec, Dockerfile, Graph};
///
/// # fn main() -> coracle_build::Result<()> {
/// let file = Dockerfile::parse("Dockerfile", b"\
/// FROM scratch AS files
/// COPY src /src
/// FROM scratch AS unused
/// FROM scratch
/// COPY --from=files /src /app
/// CMD [\"/app/run\"]
/// ")?;
/// let graph = Graph::new(&file, &BuildSpec::new("."))?;
/// assert!(graph.images().is_empty()); // nothing to look up
/// assert_eq!(graph.plan(&BTreeMap::new())?.to_string(), "\
/// stage 0 `files` from scratch
///    2  COPY src /src
/// stage 2 from scratch
///    5  COPY /src /app
///       from stage 0
///    6  CMD [\"/app/run\"]
/// ");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Graph {
    pub(super) file: Dockerfile,
    pub(super) nodes: Vec<Node>,
    pub(super) needed: Vec<usize>,
    /// ARGs before the first FROM, and the platform's.
    pub(super) globals: Vars,
    pub(super) given: BTreeMap<String, String>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) allowed: BTreeSet<Allow>,
    pub(super) network: Network,
    pub(super) hosts: Vec<(String, HostAddress)>,
    pub(super) rlimits: Vec<(String, u64, u64)>,
    pub(super) shm_size: Option<u64>,
    pub(super) contexts: BTreeMap<String, Named>,
    images: Vec<String>,
    unused_args: Vec<String>,
}

/// A stage's arrows.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) from: Origin,
    /// By the instruction, and the index of the mount where it is a RUN.
    pub(super) copies: BTreeMap<(Nth, usize), Origin>,
    /// What it starts from has these for it to do first; `None` as long as that is not known.
    pub(super) triggers: Option<Arc<[Trigger]>>,
}

/// An instruction of a stage, by its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Nth {
    /// Among those that the stage's origin has for it.
    Trigger(usize),
    /// Among its own.
    Own(usize),
}

impl Graph {
    /// Resolves stage names, arguments in FROM, and the target.
    ///
    /// # Errors
    /// All at once, at their lines: unknown or later stages, variables where none may be, a platform that is not this
    /// machine's. `NotFound` for an unknown target.
    pub fn new(file: &Dockerfile, spec: &BuildSpec) -> Result<Graph> {
        if let Some(platform) = spec.platform.as_deref().filter(|platform| !is_own(platform)) {
            return Err(Error::new(Kind::Unsupported, other_platform(platform)));
        }
        builtin::check(&spec.args)?;
        let mut problems = Problems::new(&file.source);
        let globals = globals(file, spec, &mut problems);
        let mut nodes: Vec<Node> = Vec::new();
        let first = first(file);
        let mut earlier = HashMap::new();
        for (index, stage) in file.stages.iter().enumerate() {
            let node = Resolver {
                file,
                globals: &globals,
                contexts: &spec.contexts,
                index,
                earlier: &earlier,
                first: &first,
                problems: &mut problems,
            }
            .node();
            nodes.push(node);
            earlier.extend(name_of(stage).map(|name| (name, index)));
        }
        problems.into_result()?;
        let target = target(file, spec.target.as_deref())?;
        let mut graph = Graph {
            file: file.clone(),
            nodes,
            needed: Vec::new(),
            globals,
            given: spec.args.clone(),
            labels: spec.labels.clone(),
            allowed: spec.allowed.clone(),
            network: spec.network,
            rlimits: spec.rlimits().map(|(name, soft, hard)| (name.to_owned(), soft, hard)).collect(),
            shm_size: spec.shm_size,
            hosts: spec.hosts.iter().map(|(name, address)| (name.clone(), *address)).collect(),
            contexts: spec.contexts.clone(),
            images: Vec::new(),
            unused_args: unused_args(file, spec),
        };
        graph.need(target);
        Ok(graph)
    }

    /// The images that the build starts or copies from, in the order they are met; without those that only triggers
    /// (ONBUILD) of these ask for: see [`Graph::settled`].
    pub fn images(&self) -> &[String] {
        &self.images
    }

    /// Build arguments that were given, and that no ARG of the file asks for.
    pub fn unused_args(&self) -> &[String] {
        &self.unused_args
    }

    /// The steps of each needed stage. `bases` has the configuration of each of [`Graph::images`], and of those that their
    /// triggers copy from.
    ///
    /// # Errors
    /// All at once, at their lines: variables and values that are wrong. `Invalid` where `bases` lacks an image.
    pub fn plan(&self, bases: &BTreeMap<String, ImageConfig>) -> Result<Plan> {
        super::stage::plan(&self.triggered(bases)?, bases)
    }
}

impl Graph {
    /// Has `target` built, and all that it needs.
    pub(super) fn need(&mut self, target: usize) {
        let mut needed = BTreeSet::new();
        need(&self.nodes, target, &mut needed);
        self.needed = needed.into_iter().collect();
        let nodes = self.needed.iter().map(|stage| &self.nodes[*stage]);
        let mut met = HashSet::new();
        self.images.clear();
        for origin in nodes.flat_map(|node| std::iter::once(&node.from).chain(node.copies.values())) {
            if let Origin::Image(name) = origin
                && met.insert(name)
            {
                self.images.push(name.clone());
            }
        }
    }

    /// Where the image is first named in the needed stages, and the stage whose name is nearly the same.
    pub(crate) fn asks_for(&self, image: &str) -> (Span, Option<String>) {
        let is_it = |origin: &Origin| matches!(origin, Origin::Image(name) if name == image);
        let mut found = Span { line: 1, column: 1, width: 1 };
        for &index in self.needed.iter().rev() {
            let (stage, node) = (&self.file.stages[index], &self.nodes[index]);
            for ((i, nth), _) in node.copies.iter().rev().filter(|(_, origin)| is_it(origin)) {
                let Nth::Own(i) = i else {
                    found = stage.from.image.span;
                    continue;
                };
                let froms = froms(&stage.instructions[*i].verb);
                if let Some((_, word)) = froms.into_iter().find(|(own, _)| own == nth) {
                    found = word.span;
                }
            }
            if is_it(&node.from) {
                found = stage.from.image.span;
            }
        }
        let stages = self.file.stages.iter().filter_map(|s| s.from.name.as_ref()).map(|n| n.text.as_str());
        (found, nearest(image, stages).map(str::to_owned))
    }

    pub(crate) fn diagnostic(
        &self,
        span: Span,
        kind: Kind,
        message: String,
        help: Option<String>,
    ) -> Diagnostic {
        self.file.source.diagnostic(kind, span, message, help)
    }
}

/// Proxies are known to every build, and change nothing in it (Dockerfile reference, "Predefined ARGs").
pub(super) fn is_proxy(name: &str) -> bool {
    matches!(
        name.to_ascii_lowercase().as_str(),
        "http_proxy" | "https_proxy" | "ftp_proxy" | "no_proxy" | "all_proxy"
    )
}

fn unused_args(file: &Dockerfile, spec: &BuildSpec) -> Vec<String> {
    let instructions = file.globals.iter().chain(file.stages.iter().flat_map(|s| &s.instructions));
    let asked: BTreeSet<&str> = instructions
        .filter_map(|i| if let Verb::Arg(args) = &i.verb { Some(args) } else { None })
        .flat_map(|args| args.iter().map(|(name, _)| name.text.as_str()))
        .collect();
    let platform: Vec<&str> = platform_args().iter().map(|(name, _)| *name).collect();
    let known = |name: &str| platform.contains(&name) || builtin::is_known(name);
    let used = |name: &str| asked.contains(name) || is_proxy(name) || known(name);
    spec.args.keys().filter(|name| !used(name)).cloned().collect()
}

fn globals(file: &Dockerfile, spec: &BuildSpec, problems: &mut Problems<'_>) -> Vars {
    let mut vars = Vars::default();
    for (name, value) in platform_args() {
        let value = spec.args.get(name).cloned().unwrap_or(value);
        vars.set(name, value);
    }
    for instruction in file.globals.iter() {
        let Verb::Arg(args) = &instruction.verb else { continue };
        for (name, default) in args {
            let value = match (spec.args.get(&name.text), default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => expanded(default, file.escape, &vars, problems),
                (None, None) => None,
            };
            if let Some(value) = value {
                vars.set(&name.text, value);
            }
        }
    }
    vars
}

/// A word with its variables replaced; a fault is put at its place.
pub(super) fn expanded(
    word: &Word,
    escape: char,
    vars: &dyn Lookup,
    problems: &mut Problems<'_>,
) -> Option<String> {
    expand::expand(&word.text, escape, vars, &mut problems.budget)
        .map_err(|fault| report(word, &fault, problems))
        .ok()
}

pub(super) fn report(word: &Word, fault: &expand::Fault, problems: &mut Problems<'_>) {
    let mut span = word.span;
    let skipped = word.text.get(..fault.at).map_or(0, |s| s.chars().count());
    // Where the word runs over a continuation its offsets are not those of the line.
    if skipped < span.width {
        span.column += skipped;
        span.width -= skipped;
    }
    problems.add(fault.kind, span, fault.message.clone(), None);
}

/// Whether a platform (`os[/architecture[/variant]]`, or an architecture alone, in any of its spellings) is this machine's.
fn is_own(platform: &str) -> bool {
    let platform = platform.to_ascii_lowercase();
    let parts: Vec<&str> = platform.split('/').collect();
    let arch = match parts.as_slice() {
        ["linux"] => return true,
        [arch] | ["linux", arch] | ["linux", arch, _] => *arch,
        _ => return false,
    };
    let arch = match arch {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        "i386" => "386",
        arch => arch,
    };
    arch == host_arch()
}

fn other_platform(platform: &str) -> String {
    format!("building for `{platform}` is not supported yet; this machine is `linux/{}`", host_arch())
}

fn target(file: &Dockerfile, wanted: Option<&str>) -> Result<usize> {
    let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty()) else { return Ok(file.stages.len() - 1) };
    let lower = wanted.to_lowercase();
    let names = || file.stages.iter().filter_map(|s| s.from.name.as_ref()).map(|n| n.text.as_str());
    let by_name = file.stages.iter().rposition(|s| s.from.name.as_ref().is_some_and(|n| n.text == lower));
    by_name.or_else(|| wanted.parse().ok().filter(|i| *i < file.stages.len())).ok_or_else(|| {
        let hint = nearest(&lower, names()).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        Error::new(Kind::NotFound, format!("{}: there is no stage `{wanted}` to build{hint}", file.name()))
    })
}

pub(super) fn name_of(stage: &StageText) -> Option<String> {
    stage.from.name.as_ref().map(|name| name.text.clone())
}

/// The first stage of each name.
pub(super) fn first(file: &Dockerfile) -> HashMap<String, usize> {
    let mut first = HashMap::new();
    for (index, stage) in file.stages.iter().enumerate() {
        if let Some(name) = name_of(stage) {
            first.entry(name).or_insert(index);
        }
    }
    first
}

fn need(nodes: &[Node], stage: usize, needed: &mut BTreeSet<usize>) {
    // Arrows point only to earlier stages, so this ends; a stack, because a file may have many stages.
    let mut open = vec![stage];
    while let Some(stage) = open.pop() {
        if needed.insert(stage) {
            let node = &nodes[stage];
            open.extend(std::iter::once(&node.from).chain(node.copies.values()).filter_map(|o| match o {
                Origin::Stage(index) => Some(*index),
                _ => None,
            }));
        }
    }
}

/// The places that an instruction takes files from.
pub(super) fn froms(verb: &Verb) -> Vec<(usize, &Word)> {
    match verb {
        Verb::Copy(copy) => copy.from.iter().map(|word| (0, word)).collect(),
        Verb::Run(run) => {
            run.mounts.iter().enumerate().filter_map(|(nth, mount)| Some((nth, mount.from()?))).collect()
        }
        _ => Vec::new(),
    }
}

/// What names mean in one stage.
pub(super) struct Resolver<'a, 'p> {
    pub(super) file: &'a Dockerfile,
    pub(super) globals: &'a Vars,
    pub(super) contexts: &'a BTreeMap<String, Named>,
    pub(super) index: usize,
    /// The latest stage of each name among those before.
    pub(super) earlier: &'a HashMap<String, usize>,
    /// The first stage of each name in the file.
    pub(super) first: &'a HashMap<String, usize>,
    pub(super) problems: &'a mut Problems<'p>,
}

impl Resolver<'_, '_> {
    fn node(&mut self) -> Node {
        let stage = &self.file.stages[self.index];
        if let Some(platform) = &stage.from.platform {
            self.platform(platform);
        }
        let from = self.from(&stage.from.image);
        let mut copies = BTreeMap::new();
        for (i, instruction) in stage.instructions.iter().enumerate() {
            for (nth, word) in froms(&instruction.verb) {
                copies.insert((Nth::Own(i), nth), self.copy_from(word));
            }
        }
        Node { from, copies, triggers: None }
    }

    fn platform(&mut self, word: &Word) {
        let Some(platform) = expanded(word, self.file.escape, self.globals, self.problems) else { return };
        if !is_own(&platform) {
            self.problems.unsupported(word.span, other_platform(&platform));
        }
    }

    fn earlier(&self, name: &str) -> Option<usize> {
        self.earlier.get(&name.to_lowercase()).copied()
    }

    fn from(&mut self, word: &Word) -> Origin {
        let Some(name) = expanded(word, self.file.escape, self.globals, self.problems) else {
            return Origin::Scratch;
        };
        if name.is_empty() {
            let what = format!("`{}` is empty: arguments for `FROM` are set by `ARG` before it", word.text);
            self.problems.invalid(word.span, what);
        }
        match self.contexts.get(&name.to_lowercase()) {
            Some(Named::Image(image)) => return Origin::Image(image.clone()),
            Some(Named::Directory(_)) => return Origin::Directory(name.to_lowercase()),
            None => {}
        }
        if name == "scratch" {
            return Origin::Scratch;
        }
        let number = name.parse().ok().filter(|i: &usize| *i < self.index);
        self.earlier(&name).or(number).map_or(Origin::Image(name), Origin::Stage)
    }

    pub(super) fn copy_from(&mut self, word: &Word) -> Origin {
        let name = word.text.trim_matches(['"', '\'']);
        if name.contains('$') {
            let what =
                "`--from` takes no variables: give the image a stage of its own, `FROM $image AS name`";
            self.problems.invalid(word.span, what);
            return Origin::Scratch;
        }
        match self.contexts.get(&name.to_lowercase()) {
            Some(Named::Image(image)) => return Origin::Image(image.clone()),
            Some(Named::Directory(_)) => return Origin::Directory(name.to_lowercase()),
            None => {}
        }
        if let Some(stage) = self.earlier(name) {
            return Origin::Stage(stage);
        }
        let stages = &self.file.stages;
        // None of that name is before this one.
        let named = self.first.get(&name.to_lowercase()).copied();
        let numbered = name.parse::<usize>().ok();
        match named.or(numbered) {
            None => Origin::Image(name.to_owned()),
            Some(stage) if stage < self.index => Origin::Stage(stage),
            Some(stage) => {
                let what = if stage == self.index {
                    "a stage can't copy from itself".to_owned()
                } else if stage < stages.len() {
                    format!("stage `{name}` comes later, at line {}", stages[stage].span.line)
                } else {
                    format!("there is no stage {name}: they are numbered from 0 to {}", stages.len() - 1)
                };
                self.problems.invalid(word.span, what);
                Origin::Scratch
            }
        }
    }
}
