//! What the context has and no step asks for.

use std::path::Path;

use coracle_host::{Call, Dir, Kind};
use rustix::fs::{AtFlags, FileType};

use super::megabytes;
use crate::dockerfile::Lint;
use crate::error::{Result, Span};
use crate::glob;
use crate::ignore::Ignore;
use crate::mount::RunMount;
use crate::plan::{CopyFrom, Op, Origin, Plan};

/// Less than this, in bytes and in files, is not worth a word.
const WORTH: (u64, u64) = (1 << 20, 1000);
/// So many files are counted of one entry.
const COUNTED: u64 = 100_000;

/// # Errors
/// Where the context can't be read.
pub(super) fn advise(plan: &Plan, context: &Path, ignore: &Ignore, lints: &mut Vec<Lint>) -> Result<()> {
    let Some((span, asked)) = asked(plan) else { return Ok(()) };
    let dir = Dir::open(context)?;
    let own = |name: &str| name == ".dockerignore" || name.contains("Dockerfile");
    let mut names = dir.names()?;
    names.sort();
    for name in names {
        // A pattern of another name is nobody's.
        let Some(text) = name.to_str().filter(|name| !own(name) && !ignore.ignores(name)) else { continue };
        if asked.iter().any(|first| is(first, text)) {
            continue;
        }
        let (bytes, files) = size(&dir, &name)?;
        if bytes < WORTH.0 && files < WORTH.1 {
            continue;
        }
        let count = match files {
            1 => "1 file".to_owned(),
            COUNTED.. => format!("more than {COUNTED} files"),
            files => format!("{files} files"),
        };
        let message = format!(
            "the context has `{text}` ({}, {count}), and nothing here asks for it: `/{}` is a line for .dockerignore",
            megabytes(bytes),
            escaped(text)
        );
        lints.push(Lint {
            rule: "UnusedInContext",
            diagnostic: plan.diagnostic(span, Kind::Invalid, message, None),
        });
    }
    Ok(())
}

/// The first parts of all paths that are asked for, and where the first is; `None` where it is everything, or nothing.
fn asked(plan: &Plan) -> Option<(Span, Vec<String>)> {
    let mut place = None;
    let mut asked = Vec::new();
    for step in plan.stages.iter().flat_map(|stage| &stage.steps) {
        let paths: Vec<&str> = match &step.op {
            Op::Copy(copy) if copy.from == Origin::Context => {
                let paths = copy.sources.iter().map(|source| match source {
                    CopyFrom::Path(path) => Some(path.as_str()),
                    _ => None,
                });
                paths.flatten().collect()
            }
            Op::Run(command) => {
                let from = command.mounts.iter().filter_map(RunMount::source);
                from.filter(|from| from.origin == Origin::Context).map(|from| from.path.as_str()).collect()
            }
            _ => continue,
        };
        for path in paths {
            place.get_or_insert(step.span);
            match path.split('/').find(|part| !part.is_empty() && *part != ".") {
                None | Some("*" | "**") => return None,
                Some(first) => asked.push(first.to_owned()),
            }
        }
    }
    Some((place?, asked))
}

fn is(pattern: &str, name: &str) -> bool {
    match glob::is_pattern(pattern) {
        // What is no pattern after all is a mistake that the build tells of.
        true => glob::parse(pattern).map_or(true, |tokens| glob::matches(&tokens, name)),
        false => pattern == name,
    }
}

fn escaped(name: &str) -> String {
    name.chars().flat_map(|c| "*?[\\".contains(c).then_some('\\').into_iter().chain([c])).collect()
}

fn size(dir: &Dir, name: &std::ffi::OsStr) -> Result<(u64, u64)> {
    let (mut bytes, mut files) = (0, 0);
    let mut todo = vec![(dir.clone(), name.to_owned())];
    while let Some((dir, name)) = todo.pop() {
        let stat = rustix::fs::statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW);
        let stat = stat.call(|| format!("stat({:?})", dir.path_of(&name)))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let own = dir.dir(&name)?;
            todo.extend(own.names()?.into_iter().map(|name| (own.clone(), name)));
            continue;
        }
        bytes += u64::try_from(stat.st_size).unwrap_or(0);
        files += 1;
        if files == COUNTED {
            break;
        }
    }
    Ok((bytes, files))
}
