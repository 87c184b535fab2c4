//! A profile for one architecture: what becomes of each number.

use std::collections::BTreeMap;

use super::numbers::{ARM_PRIVATE, Numbers, detour};
use super::profile::{Comparison, Operator};
use super::{Action, Arch, Profile, Target};

/// What becomes of a call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    Always(Action),
    /// The first whose comparisons all hold; else the last.
    Depends(Vec<(Vec<Comparison>, Action)>, Action),
}

/// Numbers from one on, up to the next one's.
pub(crate) type Ranges = Vec<(u32, Outcome)>;

#[derive(Default)]
struct Entry {
    always: Option<Action>,
    when: Vec<(Vec<Comparison>, Action)>,
}

const ENOSYS: Action = Action::Errno(38);

/// All numbers of `arch` from 0 on; neighbours differ.
pub(crate) fn resolve(profile: &Profile, target: &Target, arch: Arch, numbers: &Numbers) -> Ranges {
    let mut entries: BTreeMap<u32, Entry> = BTreeMap::new();
    let mut newest = None;
    for rule in profile.rules(target) {
        for name in &rule.names {
            let number = numbers.of(name, arch);
            if let Some(number) = number.filter(|number| *number < ARM_PRIVATE) {
                newest = newest.max(Some(number));
            }
            if rule.action == profile.default {
                continue;
            }
            if let Some(number) = number {
                let entry = entries.entry(number).or_default();
                if rule.conditions.is_empty() {
                    entry.always.get_or_insert(rule.action);
                } else {
                    entry.when.extend(rule.alternatives().into_iter().map(|all| (all, rule.action)));
                }
            }
            if let Some((through, mask, value)) = detour(name, arch)
                && rule.conditions.is_empty()
                && let Some(number) = numbers.of(through, arch)
            {
                let holds = Comparison { index: 0, operator: Operator::Equal, mask, value };
                entries.entry(number).or_default().when.push((vec![holds], rule.action));
            }
        }
    }
    let above = newest.filter(|_| tells_new_ones(profile.default)).map(|newest| newest + 1);
    let end = (arch == Arch::Arm).then_some(ARM_PRIVATE);
    ranges(&entries, profile.default, above, end)
}

/// Whether new calls are to be told from refused ones: not where they are permitted or a tracer decides.
fn tells_new_ones(default: Action) -> bool {
    !matches!(default, Action::Allow | Action::Log | Action::Trace(_)) && default != ENOSYS
}

/// From `above` on (and below `end`) numbers that have no entry are new ones.
fn ranges(entries: &BTreeMap<u32, Entry>, default: Action, above: Option<u32>, end: Option<u32>) -> Ranges {
    let unnamed = |number: u32| match above {
        Some(above) if number >= above && end.is_none_or(|end| number < end) => Outcome::Always(ENOSYS),
        _ => Outcome::Always(default),
    };
    let mut cuts: Vec<u32> = entries.keys().flat_map(|number| [*number, number + 1]).collect();
    cuts.extend([0].into_iter().chain(above).chain(end));
    cuts.sort_unstable();
    let mut ranges: Ranges = Vec::new();
    for cut in cuts {
        let outcome = match entries.get(&cut) {
            None => unnamed(cut),
            Some(Entry { always: Some(action), .. }) => Outcome::Always(*action),
            Some(Entry { always: None, when }) => Outcome::Depends(when.clone(), default),
        };
        if ranges.last().is_none_or(|(_, last)| *last != outcome) {
            ranges.push((cut, outcome));
        }
    }
    ranges
}
