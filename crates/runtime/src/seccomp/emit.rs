//! Classic BPF, written from its end to its beginning: jumps only go forward, so their targets are there already.

use std::collections::HashMap;

use super::Instruction;
use super::instruction::{IF_AT_LEAST, IF_EQUAL, IF_GREATER, JUMP, LOAD, RETURN};

/// An instruction that was written, counted from the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Label(usize);

/// A condition on the accumulator.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Test {
    Equal(u32),
    Greater(u32),
    AtLeast(u32),
}

#[derive(Default)]
pub(crate) struct Emitter {
    reversed: Vec<Instruction>,
    returns: HashMap<u32, Label>,
}

impl Emitter {
    /// Ends with this answer. All that give the same share one, while it is near enough.
    pub(crate) fn answer(&mut self, code: u32) -> Label {
        match self.returns.get(&code) {
            Some(label) => *label,
            None => self.push_answer(code),
        }
    }

    /// A condition that goes on at either label.
    pub(crate) fn branch(&mut self, test: Test, yes: Label, no: Label) -> Label {
        if yes == no {
            return yes;
        }
        // To bring one near may move the other away by one.
        let (yes, no) = (self.near(yes, 1), self.near(no, 0));
        let (code, k) = match test {
            Test::Equal(k) => (IF_EQUAL, k),
            Test::Greater(k) => (IF_GREATER, k),
            Test::AtLeast(k) => (IF_AT_LEAST, k),
        };
        let (jt, jf) = (self.distance(yes) as u8, self.distance(no) as u8);
        self.push(Instruction { code, jt, jf, k })
    }

    /// Reads a word of the call, masks it, and goes on at `then`.
    pub(crate) fn load(&mut self, offset: u32, mask: u32, then: Label) -> Label {
        self.follow(then);
        if mask != u32::MAX {
            self.push(Instruction { code: super::instruction::AND, jt: 0, jf: 0, k: mask });
        }
        self.push(Instruction { code: LOAD, jt: 0, jf: 0, k: offset })
    }

    /// The program that begins at `start`.
    pub(crate) fn finish(mut self, start: Label) -> Vec<Instruction> {
        self.follow(start);
        self.reversed.reverse();
        self.reversed
    }

    /// Makes what is at `label` the next instruction.
    fn follow(&mut self, label: Label) {
        if self.distance(label) > 0 {
            self.copy(label);
        }
    }

    /// `label`, or something as good that a condition reaches even when `more` instructions come between.
    fn near(&mut self, label: Label, more: usize) -> Label {
        if self.distance(label) + more <= usize::from(u8::MAX) { label } else { self.copy(label) }
    }

    /// An instruction here that does what the one at `label` does.
    fn copy(&mut self, label: Label) -> Label {
        let there = self.reversed[label.0];
        if there.code == RETURN {
            return self.push_answer(there.k);
        }
        let k = self.distance(label) as u32;
        self.push(Instruction { code: JUMP, jt: 0, jf: 0, k })
    }

    fn push_answer(&mut self, code: u32) -> Label {
        let label = self.push(Instruction { code: RETURN, jt: 0, jf: 0, k: code });
        self.returns.insert(code, label);
        label
    }

    /// How many instructions the next one would skip to get there.
    fn distance(&self, label: Label) -> usize {
        self.reversed.len() - 1 - label.0
    }

    fn push(&mut self, instruction: Instruction) -> Label {
        self.reversed.push(instruction);
        Label(self.reversed.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn far_targets_are_reached() {
        let mut emitter = Emitter::default();
        let (far, other) = (emitter.answer(1), emitter.answer(2));
        let block = emitter.load(0, u32::MAX, far);
        let mut label = other;
        for k in 0..600 {
            label = emitter.branch(Test::Equal(k), block, label);
        }
        let start = emitter.load(0, u32::MAX, label);
        let program = emitter.finish(start);
        assert_eq!(program.last().unwrap(), &Instruction { code: RETURN, jt: 0, jf: 0, k: 1 });
        for number in [0, 1, 299, 599] {
            assert_eq!(super::super::simulate::run(&program, &[number; 16]), 1);
        }
        assert_eq!(super::super::simulate::run(&program, &[600; 16]), 2);
    }
}
