//! One comparison of an argument, as instructions.

use super::emit::{Emitter, Label, Test};
use super::instruction::ARGUMENTS;
use super::profile::{Comparison, Operator};

/// The lower and the upper half.
fn halves(value: u64) -> (u32, u32) {
    (value as u32, (value >> 32) as u32)
}

/// Where the lower half of an argument is.
pub(crate) fn low_word(index: u8) -> u32 {
    ARGUMENTS + 8 * u32::from(index)
}

/// Goes on at `yes` where the comparison holds, else at `no`. `narrow`: the argument has only 32 bits.
pub(crate) fn emit(
    emitter: &mut Emitter,
    comparison: &Comparison,
    narrow: bool,
    yes: Label,
    no: Label,
) -> Label {
    let mut comparison = *comparison;
    if narrow {
        comparison.mask &= u64::from(u32::MAX);
    }
    match comparison.operator {
        Operator::Equal => equal(emitter, &comparison, yes, no),
        Operator::NotEqual => equal(emitter, &comparison, no, yes),
        Operator::AtLeast => above(emitter, &comparison, Test::AtLeast, yes, no),
        Operator::Greater => above(emitter, &comparison, Test::Greater, yes, no),
        Operator::Less => above(emitter, &comparison, Test::AtLeast, no, yes),
        Operator::AtMost => above(emitter, &comparison, Test::Greater, no, yes),
    }
}

fn equal(emitter: &mut Emitter, comparison: &Comparison, yes: Label, no: Label) -> Label {
    let Comparison { index, mask, value, .. } = *comparison;
    if value & !mask != 0 {
        return no;
    }
    let ((low, high), (low_mask, high_mask)) = (halves(value), halves(mask));
    let low_at = low_word(index);
    let mut next = yes;
    // The lower half is looked at first: that is where they differ.
    for (at, mask, value) in [(low_at + 4, high_mask, high), (low_at, low_mask, low)] {
        if mask != 0 {
            let test = emitter.branch(Test::Equal(value), next, no);
            next = emitter.load(at, mask, test);
        }
    }
    next
}

/// `test` says whether equality of the lower halves is enough.
fn above(
    emitter: &mut Emitter,
    comparison: &Comparison,
    test: fn(u32) -> Test,
    yes: Label,
    no: Label,
) -> Label {
    let Comparison { index, mask, value, .. } = *comparison;
    let ((low, high), (low_mask, high_mask)) = (halves(value), halves(mask));
    let low_at = low_word(index);
    if high_mask == 0 && high > 0 {
        return no;
    }
    let lower = emitter.branch(test(low), yes, no);
    let lower = emitter.load(low_at, low_mask, lower);
    if high_mask == 0 {
        return lower;
    }
    let same = emitter.branch(Test::Equal(high), lower, no);
    let differs = emitter.branch(Test::Greater(high), yes, same);
    emitter.load(low_at + 4, high_mask, differs)
}
