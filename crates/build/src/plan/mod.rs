//! The plan of a build as data: which stages, and in each which steps, with every variable replaced.

mod affected;
mod builtin;
mod copy;
mod graph;
mod run;
mod set;
mod stage;
#[cfg(test)]
mod tests;
mod triggers;
pub(crate) mod values;
mod vars;

use std::fmt;

use coracle_host::Kind;

pub use graph::Graph;

use crate::chmod::Chmod;
use crate::dockerfile::Dockerfile;
use crate::error::{Diagnostic, Span};
use crate::image::ImageConfig;
use crate::mount::{Network, RunMount};
use crate::remote::RemoteSource;
use crate::worker::Command;

/// Where a stage starts, or where files come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The empty image.
    Scratch,
    /// The image of this name.
    Image(String),
    /// The stage of this number, from 0.
    Stage(usize),
    /// The build context; only files come from there.
    Context,
    /// The named context that is a directory. A stage that starts from it has its files, copied by its first step.
    Directory(String),
}

/// The steps of all stages that the target needs, in the order they can be taken. `Display` prints it: that is the
/// dry run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Plan {
    /// The needed stages, earlier ones first; the last is the target.
    pub stages: Vec<Stage>,
    pub(crate) file: Dockerfile,
}

/// One stage of a [`Plan`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stage {
    /// Its number in the Dockerfile, from 0.
    pub index: usize,
    /// Its name in lower case, if it has one.
    pub name: Option<String>,
    /// What it starts from.
    pub from: Origin,
    /// The line of its FROM, from 1.
    pub line: usize,
    /// That line's instruction.
    pub text: String,
    /// Its instructions in order.
    pub steps: Vec<Step>,
    /// The configuration after its last step. History and layers of it are those of the image it starts from.
    pub config: ImageConfig,
}

impl Stage {
    /// Its name, else its number: how messages call it.
    pub fn title(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("stage-{}", self.index))
    }
}

/// One instruction with its variables replaced.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Step {
    /// The line it starts at, from 1.
    pub line: usize,
    /// The instruction on one line, as it was written.
    pub text: String,
    /// What the image's history will say, if it has a line of it: of ONBUILD it has none.
    pub created_by: Option<String>,
    /// What to do.
    pub op: Op,
    pub(crate) span: Span,
    /// Where each source of a COPY stands.
    pub(crate) sources: Vec<Span>,
}

/// What a step does to the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Op {
    /// Runs a command.
    Run(Command),
    /// Puts files there.
    Copy(CopyOp),
    /// Makes a directory (0755) and those above it.
    MakeDir {
        /// An absolute path.
        path: String,
        /// Whose it is where it is made, `user[:group]`; root's where empty.
        user: String,
    },
    /// Nothing: it only changed the configuration.
    Set,
}

impl Op {
    /// Where files come from that it reads.
    pub(crate) fn origins(&self) -> Vec<&Origin> {
        match self {
            Op::Copy(copy) => vec![&copy.from],
            Op::Run(command) => {
                command.mounts.iter().filter_map(RunMount::source).map(|from| &from.origin).collect()
            }
            Op::MakeDir { .. } | Op::Set => Vec::new(),
        }
    }
}

/// What COPY and ADD copy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CopyOp {
    /// The context, a stage or an image.
    pub from: Origin,
    /// In the order written.
    pub sources: Vec<CopyFrom>,
    /// An absolute path; with a slash at its end it is a directory.
    pub dest: String,
    /// `user[:group]`, names or numbers, of the tree that is copied to.
    pub chown: Option<String>,
    /// Permissions for files and directories.
    pub chmod: Option<Chmod>,
    /// Archives are unpacked (ADD).
    pub unpack: bool,
    /// The destination is as if nothing were there yet (`--link`).
    pub link: bool,
    /// Files keep the directories they are in, from a source's `/./` on (`--parents`).
    pub parents: bool,
    /// What is left out, as patterns of an ignore file that start where the source is (`--exclude`).
    pub exclude: Vec<String>,
}

impl CopyOp {
    /// What is at `path` of `from`, at the root of a tree, as it is.
    pub(crate) fn whole(from: Origin, path: String) -> CopyOp {
        CopyOp {
            from,
            sources: vec![CopyFrom::Path(path)],
            dest: "/".to_owned(),
            chown: None,
            chmod: None,
            unpack: false,
            link: false,
            parents: false,
            exclude: Vec::new(),
        }
    }
}

/// One source of COPY.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CopyFrom {
    /// A path or wildcard, relative to the root of where it comes from and without `..`.
    Path(String),
    /// A here-document: name and text.
    Inline(String, String),
    /// Something that is fetched (ADD).
    Remote(RemoteSource),
}

impl Plan {
    /// Where files of the context are first asked for.
    pub(crate) fn first_copy_from_context(&self) -> Option<Span> {
        let steps = self.stages.iter().flat_map(|s| &s.steps);
        let needs = |op: &Op| match op {
            Op::Copy(copy) => {
                copy.from == Origin::Context && copy.sources.iter().any(|s| matches!(s, CopyFrom::Path(_)))
            }
            Op::Run(command) => {
                command.mounts.iter().filter_map(RunMount::source).any(|from| from.origin == Origin::Context)
            }
            Op::MakeDir { .. } | Op::Set => false,
        };
        steps.into_iter().find(|step| needs(&step.op)).map(|step| step.span)
    }

    /// The named directories that are asked for, and where.
    pub(crate) fn directories(&self) -> Vec<(&str, Span)> {
        let mut found: Vec<(&str, Span)> = Vec::new();
        for step in self.stages.iter().flat_map(|s| &s.steps) {
            for origin in step.op.origins() {
                if let Origin::Directory(name) = origin
                    && !found.iter().any(|(known, _)| known == name)
                {
                    found.push((name, step.span));
                }
            }
        }
        found
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

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Scratch => f.write_str("scratch"),
            Origin::Image(name) => f.write_str(name),
            Origin::Stage(index) => write!(f, "stage {index}"),
            Origin::Context => f.write_str("the context"),
            Origin::Directory(name) => write!(f, "the context `{name}`"),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for stage in &self.stages {
            write!(f, "stage {}", stage.index)?;
            if let Some(name) = &stage.name {
                write!(f, " `{name}`")?;
            }
            writeln!(f, " from {}", stage.from)?;
            for step in &stage.steps {
                writeln!(f, "{:>4}  {}", step.line, step.created_by.as_ref().unwrap_or(&step.text))?;
                if let Op::Copy(copy) = &step.op
                    && copy.from != Origin::Context
                {
                    writeln!(f, "      from {}", copy.from)?;
                }
                if let Op::Run(command) = &step.op {
                    let user = if command.user.is_empty() { "root" } else { &command.user };
                    writeln!(f, "      as {user} in {}", command.cwd)?;
                    for mount in &command.mounts {
                        writeln!(f, "      with {mount}")?;
                    }
                    if command.network != Network::Default {
                        writeln!(f, "      network {}", command.network)?;
                    }
                    if command.insecure {
                        writeln!(f, "      insecure")?;
                    }
                }
            }
        }
        Ok(())
    }
}
