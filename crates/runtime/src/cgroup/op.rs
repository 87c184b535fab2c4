//! The operations of a plan.

use std::fmt;
use std::path::{Path, PathBuf};

use super::filter::Insn;
use super::systemd::Unit;

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// Give controllers on to the groups below `dir` (version 2).
    Enable { dir: PathBuf, controllers: Vec<String> },
    /// mkdir(2). A parent may be there already.
    Make { dir: PathBuf, parent: bool },
    /// Take over the processors and memory nodes of the group above: a new cpuset of version 1 has none.
    Inherit { dir: PathBuf },
    /// Have systemd start a scope, whose group this directory is.
    Start { unit: Unit, dir: PathBuf },
    /// Have systemd change what a scope is limited to.
    Set { unit: Unit },
    /// Refuse unless the number in `file` is below `limit`.
    Below { file: PathBuf, limit: u64, setting: String },
    /// Write a value.
    Write(Write),
    /// Let this program decide about devices (version 2).
    Filter { dir: PathBuf, program: Vec<Insn>, rules: usize },
}

/// One value in one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) dir: PathBuf,
    /// The controller, as the kernel names it.
    pub(super) controller: String,
    /// File name and value; of several the first whose file is there.
    pub(super) choices: Vec<(String, String)>,
    /// As the specification names it: `memory.limit`.
    pub(super) setting: String,
    pub(super) manner: Manner,
}

/// How to take it that a write fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// It must succeed.
    Must,
    /// The kernel may refuse the value beside one that is written later (`EINVAL`): it is written again after that.
    Again,
    /// The file need not be there.
    IfThere,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = |dir: &Path| dir.display().to_string();
        match self {
            Op::Enable { dir, controllers } => {
                write!(f, "give on {} below {}", controllers.join(" "), path(dir))
            }
            Op::Make { dir, .. } => write!(f, "mkdir {}", path(dir)),
            Op::Inherit { dir } => write!(f, "take over cpuset of the parent in {}", path(dir)),
            Op::Start { unit, .. } => write!(f, "have systemd start {unit}"),
            Op::Set { unit } => write!(f, "have systemd change {unit}"),
            Op::Below { file, limit, .. } => write!(f, "check that {} is below {limit}", path(file)),
            Op::Write(Write { dir, choices, setting, manner, .. }) => {
                for (index, (file, value)) in choices.iter().enumerate() {
                    let or = if index == 0 { "" } else { ", or else " };
                    write!(f, "{or}write {value:?} to {}", path(&dir.join(file)))?;
                }
                let there = if *manner == Manner::IfThere { ", where it is there" } else { "" };
                write!(f, " ({setting}{there})")
            }
            Op::Filter { dir, program, rules } => {
                write!(
                    f,
                    "filter devices of {} by {rules} rules in {} instructions",
                    path(dir),
                    program.len()
                )
            }
        }
    }
}
