//! `remount`: what is mounted already is changed (mount(2), `MS_REMOUNT`).

use std::path::{Path, PathBuf};

use super::options::Options;
use crate::error::Problem;
use crate::{Attachment, Step};

/// Changes the last mount of the spec at `at`. With `bind` that is the mount alone, whose attributes are replaced; without,
/// its file system gets the options, too.
pub(super) fn steps(
    name: &str,
    at: PathBuf,
    options: Options,
    mounted: &mut [Step],
) -> Result<Vec<Step>, Problem> {
    let Options { bind, attributes, mut data, mut whole, .. } = options;
    let Some(there) = mounted.iter_mut().rfind(|step| place(step) == Some(&at)) else {
        return Err(Problem::invalid(format!("{name}: nothing is mounted there that could be remounted")));
    };
    if bind && let Some(option) = data.first() {
        return Err(Problem::unsupported(format!(
            "{name}: option `{option}` is not supported on a bind mount"
        )));
    }
    data.append(&mut whole);
    match there {
        // What is said of the whole file system the kernel passes over here, too.
        _ if bind => {}
        Step::Attach { source: Attachment::Bind { .. }, .. } => {
            let text = format!("{name}: `remount` without `bind` would change a file system of the host");
            return Err(Problem::unsupported(text));
        }
        Step::Attach { source, .. } => {
            if let Some(options) = source.options_mut() {
                replace(options, data);
            }
        }
        Step::Mount { flags, data: given, .. } => {
            *flags = attributes.flags();
            let mut all: Vec<String> =
                given.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect();
            replace(&mut all, data);
            *given = all.join(",");
            return Ok(Vec::new());
        }
        _ => {}
    }
    let (here, below) = attributes.replace();
    let step = |change, recursive| Step::Remount { at: at.clone(), change, recursive };
    let below = (below != Default::default()).then(|| step(below, true));
    Ok([step(here, false)].into_iter().chain(below).collect())
}

/// Where a step mounts something.
fn place(step: &Step) -> Option<&Path> {
    match step {
        Step::Attach { at, .. } | Step::Mount { at, .. } => Some(at),
        _ => None,
    }
}

/// Each new one takes the place of the one of its name.
fn replace(options: &mut Vec<String>, new: Vec<String>) {
    let key = |option: &str| option.split('=').next().map(str::to_owned);
    options.retain(|option| !new.iter().any(|other| key(other) == key(option)));
    options.extend(new);
}
