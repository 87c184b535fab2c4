//! A profile as instructions: first the architecture, then a search for the number, then the arguments.

use std::collections::HashMap;

use coracle_host::Kind;

use super::arch::X32_BIT;
use super::compare;
use super::emit::{Emitter, Label, Test};
use super::instruction::{ARCH, NUMBER};
use super::numbers::Numbers;
use super::profile::{Comparison, Operator};
use super::program::Inner;
use super::resolve::{Outcome, Ranges, resolve};
use super::{Action, Arch, Profile, Program, Target};
use crate::error::{Error, Problem, Result};

/// `BPF_MAXINSNS`.
const MOST: usize = 4096;
/// What a call of an architecture gets that the profile doesn't name: as with libseccomp, but the whole process, since
/// a thread alone that disappears leaves the others waiting for it.
const FOREIGN: Action = Action::KillProcess;

impl Profile {
    /// The filter for this target. Takes some 0.1 to 0.3 ms: worth keeping where many containers are alike.
    ///
    /// # Errors
    /// `Invalid` for a profile that notifies but names no listener, and for one that needs more than the 4096
    /// instructions that the kernel takes.
    pub fn compile(&self, target: &Target) -> Result<Program> {
        let notifies =
            self.rules(target).any(|rule| rule.action == Action::Notify && rule.action != self.default);
        if notifies && self.listener.is_none() {
            return Err(Error::invalid("linux.seccomp: SCMP_ACT_NOTIFY needs linux.seccomp.listenerPath"));
        }
        let numbers = Numbers::new();
        let instructions = self.instructions(target, &numbers);
        if instructions.len() > MOST {
            let text =
                format!("linux.seccomp: {} instructions, and the kernel takes {MOST}", instructions.len());
            return Err(Error::problems(vec![Problem { kind: Kind::Invalid, text }]));
        }
        let names = self.rules.iter().flat_map(|rule| &rule.names);
        let mut unknown: Vec<String> = names.filter(|name| !numbers.knows(name)).cloned().collect();
        unknown.sort();
        unknown.dedup();
        Ok(Program::new(Inner {
            name: self.name.clone(),
            instructions,
            flags: self.flags,
            notifies,
            listener: self.listener.clone(),
            metadata: self.metadata.clone(),
            unknown,
        }))
    }

    fn instructions(&self, target: &Target, numbers: &Numbers) -> Vec<super::Instruction> {
        let arches = self.arches(target);
        let mut emitter = Emitter::default();
        let mut blocks = Vec::new();
        // The native one is written last, to be near the beginning.
        for arch in arches.iter().rev().filter(|arch| **arch != Arch::X32) {
            let mut ranges = resolve(self, target, *arch, numbers);
            if *arch == Arch::X86_64 {
                let x32 = arches.contains(&Arch::X32).then(|| resolve(self, target, Arch::X32, numbers));
                ranges = with_x32(ranges, x32);
            }
            blocks.push((arch.audit(), block(&mut emitter, &ranges, arch.is_narrow())));
        }
        let mut start = emitter.answer(FOREIGN.code());
        for (audit, block) in blocks {
            start = emitter.branch(Test::Equal(audit), block, start);
        }
        let start = emitter.load(ARCH, u32::MAX, start);
        emitter.finish(start)
    }
}

/// x32 is x86-64 with a bit set; but -1, which a tracer sets, is no call of it.
fn with_x32(mut ranges: Ranges, x32: Option<Ranges>) -> Ranges {
    let last = ranges.last().map(|(_, outcome)| outcome.clone());
    match x32 {
        Some(x32) => ranges.extend(x32.into_iter().map(|(number, outcome)| (number | X32_BIT, outcome))),
        None => ranges.push((X32_BIT, Outcome::Always(FOREIGN))),
    }
    ranges.extend(last.map(|outcome| (u32::MAX, outcome)));
    ranges
}

/// Finds the number's range and does what is to be done there.
fn block(emitter: &mut Emitter, ranges: &Ranges, narrow: bool) -> Label {
    let mut known: HashMap<&Outcome, Label> = HashMap::new();
    let mut labels: Vec<(u32, Label)> = Vec::new();
    for (number, outcome) in ranges {
        let label = *known.entry(outcome).or_insert_with(|| match outcome {
            Outcome::Always(action) => emitter.answer(action.code()),
            Outcome::Depends(rules, default) => depends(emitter, rules, *default, narrow),
        });
        labels.push((*number, label));
    }
    let search = search(emitter, &labels);
    emitter.load(NUMBER, u32::MAX, search)
}

/// A balanced search for the range that the accumulator is in. Ranges begin at their number; the first one at 0.
fn search(emitter: &mut Emitter, ranges: &[(u32, Label)]) -> Label {
    match ranges {
        [(_, only)] => *only,
        // A single number within what is the same on both sides.
        [(_, around), (number, within), (next, after)] if around == after && number + 1 == *next => {
            emitter.branch(Test::Equal(*number), *within, *around)
        }
        _ => {
            let (below, above) = ranges.split_at(split(ranges));
            let pivot = above[0].0;
            let (above, below) = (search(emitter, above), search(emitter, below));
            emitter.branch(Test::AtLeast(pivot), above, below)
        }
    }
}

/// The middle, or one beside it where that leaves a single number with both of its sides.
fn split(ranges: &[(u32, Label)]) -> usize {
    let middle = ranges.len() / 2;
    let single = |at: usize| match ranges.get(at - 1..=at + 1) {
        Some([(_, before), (number, _), (next, after)]) => before == after && number + 1 == *next,
        _ => false,
    };
    // A split at `middle` parts the ranges before it from it.
    if ranges.len() > 3 && (single(middle) || single(middle - 1)) && middle + 1 < ranges.len() {
        if single(middle) { middle - 1 } else { middle + 1 }.max(1)
    } else {
        middle
    }
}

/// Rules one after the other. Neighbours that look for values of one word, to do the same, are one search.
fn depends(
    emitter: &mut Emitter,
    rules: &[(Vec<Comparison>, Action)],
    default: Action,
    narrow: bool,
) -> Label {
    let alike = |one: &(Vec<Comparison>, Action), other: &(Vec<Comparison>, Action)| {
        let indexes = (word(&one.0, narrow), word(&other.0, narrow));
        one.1 == other.1 && matches!(indexes, (Some((one, _)), Some((other, _))) if one == other)
    };
    let mut next = emitter.answer(default.code());
    for run in rules.chunk_by(alike).rev() {
        let yes = emitter.answer(run[0].1.code());
        next = match run {
            [(all, _)] => all
                .iter()
                .rev()
                .fold(yes, |yes, comparison| compare::emit(emitter, comparison, narrow, yes, next)),
            several => {
                let words: Vec<(u8, u32)> = several.iter().filter_map(|(all, _)| word(all, narrow)).collect();
                let index = words[0].0;
                let search = one_of(emitter, words.into_iter().map(|(_, value)| value).collect(), yes, next);
                emitter.load(compare::low_word(index), u32::MAX, search)
            }
        };
    }
    next
}

/// The argument and the value, where all that a rule asks is whether its lower half (or all of it) is that value.
fn word(all: &[Comparison], narrow: bool) -> Option<(u8, u32)> {
    let [Comparison { index, operator: Operator::Equal, mask, value }] = all else { return None };
    let mask = if narrow { mask & u64::from(u32::MAX) } else { *mask };
    (mask == u64::from(u32::MAX)).then_some((*index, u32::try_from(*value).ok()?))
}

/// Whether the accumulator is one of the values.
fn one_of(emitter: &mut Emitter, mut values: Vec<u32>, yes: Label, no: Label) -> Label {
    values.sort_unstable();
    values.dedup();
    let mut ranges = vec![(0, no)];
    for value in values {
        if ranges.last().is_some_and(|(from, _)| *from == value) {
            ranges.pop();
        }
        if ranges.last().is_none_or(|(_, label)| *label != yes) {
            ranges.push((value, yes));
        }
        ranges.extend(value.checked_add(1).map(|next| (next, no)));
    }
    search(emitter, &ranges)
}
