//! A time namespace and its clocks (runtime-spec config-linux.md, "Namespaces" and "Offset for Time Namespace";
//! time_namespaces(7)).

use oci_spec::runtime::{LinuxNamespaceType, Spec};

use crate::error::Problem;
use crate::{Facts, Step, check};

/// The offsets of a new one, as `/proc/PID/timens_offsets` takes them, where there is to be one; or all that is wrong.
pub(crate) fn offsets(spec: &Spec, facts: &Facts) -> Result<Option<String>, Vec<Problem>> {
    let offsets = spec.linux().as_ref().and_then(|linux| linux.time_offsets().as_ref());
    let mut offsets: Vec<_> = offsets.into_iter().flatten().collect();
    if !check::has_namespace(spec, LinuxNamespaceType::Time) {
        let text = "linux.timeOffsets: without a time namespace they would be the host's";
        return if offsets.is_empty() { Ok(None) } else { Err(vec![Problem::invalid(text)]) };
    }
    let mut all = spec.linux().iter().flat_map(|linux| linux.namespaces()).flatten();
    if all.any(|one| one.typ() == LinuxNamespaceType::Time && one.path().is_some()) {
        let text = "linux.timeOffsets: those of a time namespace that is joined can't be set";
        return if offsets.is_empty() { Ok(None) } else { Err(vec![Problem::invalid(text)]) };
    }
    let mut problems = Vec::new();
    if !facts.enters_time_at_exec() {
        // Before, a process is in the namespace that it made only after a fork.
        problems.push(Problem::unsupported("linux.namespaces[time]: needs Linux 6.2"));
    }
    offsets.sort_by_key(|(clock, _)| (*clock).clone());
    let mut lines = String::new();
    for (clock, offset) in offsets {
        let (seconds, nanoseconds) = (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            problems.push(Problem::invalid(format!("linux.timeOffsets[{clock}]: there is no such clock")));
        } else if nanoseconds > 999_999_999 {
            let text = format!("linux.timeOffsets[{clock}]: {nanoseconds} ns are a second or more");
            problems.push(Problem::invalid(text));
        }
        lines += &format!("{clock} {seconds} {nanoseconds}\n");
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(Some(lines))
}

/// The steps that make it with the host's rights.
pub(crate) fn steps(offsets: String) -> impl Iterator<Item = Step> {
    let clocks = (!offsets.is_empty()).then_some(Step::Clocks(offsets));
    [Step::NewTimeNamespace].into_iter().chain(clocks)
}
