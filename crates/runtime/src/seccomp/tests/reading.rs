//! A profile read word by word, for one call, without a thought of compiling it.

use std::collections::HashMap;

use crate::seccomp::arch::X32_BIT;
use crate::seccomp::numbers::{ARM_PRIVATE, detour, rows};
use crate::seccomp::profile::{Comparison, Operator, Rule};
use crate::seccomp::{Action, Arch, Profile, Target};

/// The table of numbers, read both ways.
pub(crate) struct Table {
    names: HashMap<&'static str, [Option<u32>; 6]>,
    calls: HashMap<(Arch, u32), &'static str>,
}

impl Table {
    pub(crate) fn new() -> Table {
        let calls = rows().flat_map(|(name, row)| {
            Arch::ALL.into_iter().filter_map(move |arch| Some(((arch, row[arch.column()]?), name)))
        });
        Table { names: rows().collect(), calls: calls.collect() }
    }
}

/// What the filter has to answer.
pub(crate) fn meant(
    table: &Table,
    profile: &Profile,
    target: &Target,
    audit: u32,
    number: u32,
    arguments: [u64; 6],
) -> u32 {
    let is_x32 = audit == Arch::X86_64.audit() && number & X32_BIT != 0 && number < 0x8000_0000;
    let beyond = audit == Arch::X86_64.audit() && (0x8000_0000..u32::MAX).contains(&number);
    let arch = profile
        .arches(target)
        .into_iter()
        .find(|arch| arch.audit() == audit && (*arch == Arch::X32) == (is_x32 || beyond));
    let Some(arch) = arch else { return Action::KillProcess.code() };
    let number = if arch == Arch::X32 { number & !X32_BIT } else { number };
    decide(table, profile, target, arch, number, arguments).code()
}

fn decide(
    table: &Table,
    profile: &Profile,
    target: &Target,
    arch: Arch,
    number: u32,
    arguments: [u64; 6],
) -> Action {
    let number_of = |name: &str| table.names.get(name).and_then(|row| row[arch.column()]);
    let call = table.calls.get(&(arch, number)).copied();
    let all: Vec<&Rule> = profile.rules(target).collect();
    let says: Vec<&Rule> = all.iter().copied().filter(|rule| rule.action != profile.default).collect();
    let named = |rule: &Rule| call.is_some_and(|call| rule.names.iter().any(|name| name == call));
    let through = |rule: &Rule| {
        rule.conditions.is_empty()
            && rule
                .names
                .iter()
                .filter_map(|name| detour(name, arch))
                .any(|(by, mask, value)| Some(by) == call && arguments[0] & mask == value)
    };
    let leads_here = |rule: &Rule| {
        let mut detours = rule.names.iter().filter_map(|name| detour(name, arch));
        rule.conditions.is_empty() && detours.any(|(by, ..)| Some(by) == call)
    };
    if let Some(rule) = says.iter().find(|rule| named(rule) && rule.conditions.is_empty()) {
        return rule.action;
    }
    let holds = |rule: &Rule| {
        let all_of = |all: &Vec<Comparison>| all.iter().all(|comparison| is_so(comparison, arguments));
        rule.alternatives().iter().any(all_of)
    };
    if let Some(rule) = says.iter().find(|rule| (named(rule) && holds(rule)) || through(rule)) {
        return rule.action;
    }
    let numbers = all.iter().flat_map(|rule| &rule.names).filter_map(|name| number_of(name));
    let newest = numbers.filter(|number| *number < ARM_PRIVATE).max();
    let is_new = newest.is_some_and(|newest| number > newest)
        && !(arch == Arch::Arm && number >= ARM_PRIVATE)
        && !says.iter().any(|rule| named(rule) || leads_here(rule));
    match profile.default {
        Action::Allow | Action::Log | Action::Trace(_) => profile.default,
        _ if is_new => Action::Errno(38),
        default => default,
    }
}

fn is_so(comparison: &Comparison, arguments: [u64; 6]) -> bool {
    let argument = arguments[usize::from(comparison.index)] & comparison.mask;
    match comparison.operator {
        Operator::Equal => argument == comparison.value,
        Operator::NotEqual => argument != comparison.value,
        Operator::Less => argument < comparison.value,
        Operator::AtMost => argument <= comparison.value,
        Operator::AtLeast => argument >= comparison.value,
        Operator::Greater => argument > comparison.value,
    }
}
