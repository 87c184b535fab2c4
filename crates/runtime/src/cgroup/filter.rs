//! Device rules as an eBPF program (bpf(2), `BPF_PROG_TYPE_CGROUP_DEVICE`).
//!
//! The kernel calls it with what is to be done (16 bits of access over 16 bits of class), major and minor. The program keeps
//! the accesses that are still to be decided in a register, and goes through the rules from the last to the first.

use super::devices::{ALL, Class, Rule, Rules};

/// One instruction (Documentation/bpf/standardization/instruction-set.rst).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Insn {
    pub(super) code: u8,
    pub(super) dst: u8,
    pub(super) src: u8,
    pub(super) off: i16,
    pub(super) imm: i32,
}

impl Insn {
    /// As the kernel takes it, on a machine whose low byte is first.
    pub(super) fn bytes(self) -> [u8; 8] {
        let (off, imm) = (self.off.to_ne_bytes(), self.imm.to_ne_bytes());
        let registers =
            if cfg!(target_endian = "little") { self.src << 4 | self.dst } else { self.dst << 4 | self.src };
        [self.code, registers, off[0], off[1], imm[0], imm[1], imm[2], imm[3]]
    }
}

/// r0: the verdict. r1: the context. r2: the class. r3: undecided accesses. r4, r5: major and minor.
const LOAD: u8 = 0x61; // BPF_LDX | BPF_MEM | BPF_W
const MOVE: u8 = 0xb7; // BPF_ALU64 | BPF_MOV | BPF_K
const MOVE_REGISTER: u8 = 0xbf; // BPF_ALU64 | BPF_MOV | BPF_X
const AND: u8 = 0x57; // BPF_ALU64 | BPF_AND | BPF_K
const SHIFT_RIGHT: u8 = 0x77; // BPF_ALU64 | BPF_RSH | BPF_K
const JUMP: u8 = 0x05; // BPF_JMP | BPF_JA
const JUMP_UNEQUAL: u8 = 0x55; // BPF_JMP | BPF_JNE | BPF_K
const JUMP_SET: u8 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const EXIT: u8 = 0x95; // BPF_JMP | BPF_EXIT

fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Insn {
    Insn { code, dst, src, off, imm }
}

/// As in linux/bpf.h: `BPF_DEVCG_DEV_BLOCK`, `BPF_DEVCG_DEV_CHAR`; the accesses have our values.
fn class(class: Class) -> i32 {
    match class {
        Class::Block => 1,
        Class::Char => 2,
    }
}

/// The program that decides as the rules do. It allows by 1 and denies by 0.
pub(super) fn assemble(rules: &Rules) -> Vec<Insn> {
    let mut program = vec![
        insn(LOAD, 2, 1, 0, 0),
        insn(MOVE_REGISTER, 3, 2, 0, 0),
        insn(SHIFT_RIGHT, 3, 0, 0, 16),
        insn(AND, 2, 0, 0, 0xffff),
        insn(LOAD, 4, 1, 4, 0),
        insn(LOAD, 5, 1, 8, 0),
    ];
    // Whether something is there may always be asked.
    program.extend([insn(JUMP_UNEQUAL, 3, 0, 2, 0), insn(MOVE, 0, 0, 0, 1), insn(EXIT, 0, 0, 0, 0)]);
    for rule in rules.0.iter().rev() {
        block(rule, &mut program);
        if rule.is_all() {
            break; // nothing before it counts
        }
    }
    program.extend([insn(MOVE, 0, 0, 0, 0), insn(EXIT, 0, 0, 0, 0)]);
    program
}

/// One rule: where it doesn't fit, on to the next.
fn block(rule: &Rule, program: &mut Vec<Insn>) {
    let decide = if rule.allow {
        vec![
            insn(AND, 3, 0, 0, i32::from(ALL & !rule.access)),
            insn(JUMP_UNEQUAL, 3, 0, 2, 0),
            insn(MOVE, 0, 0, 0, 1),
            insn(EXIT, 0, 0, 0, 0),
        ]
    } else {
        vec![
            insn(JUMP_SET, 3, 0, 1, i32::from(rule.access)),
            insn(JUMP, 0, 0, 2, 0),
            insn(MOVE, 0, 0, 0, 0),
            insn(EXIT, 0, 0, 0, 0),
        ]
    };
    let number = |number: Option<u32>| number.map(|number| number.cast_signed());
    let tests = [(2, rule.class.map(class)), (4, number(rule.major)), (5, number(rule.minor))];
    let tests: Vec<(u8, i32)> =
        tests.iter().filter_map(|(register, value)| Some((*register, (*value)?))).collect();
    for (index, (register, value)) in tests.iter().enumerate() {
        let over = tests.len() - index - 1 + decide.len();
        // Never more than a handful of instructions.
        let off = i16::try_from(over).unwrap_or(i16::MAX);
        program.push(insn(JUMP_UNEQUAL, *register, 0, off, *value));
    }
    program.extend(decide);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cgroup::devices_v1;

    /// A machine that knows our instructions only.
    fn run(program: &[Insn], context: [u32; 3]) -> u64 {
        let mut registers = [0u64; 6];
        let mut at = 0i32;
        let mut steps = 0..=program.len();
        while steps.next().is_some() {
            let Insn { code, dst, src, off, imm } = program[usize::try_from(at).unwrap()];
            let (dst, src) = (usize::from(dst), usize::from(src));
            let wide = i64::from(imm).cast_unsigned();
            let mut jump = |yes: bool| {
                if yes {
                    at += i32::from(off)
                }
            };
            match code {
                LOAD => registers[dst] = context[usize::try_from(off).unwrap() / 4].into(),
                MOVE => registers[dst] = wide,
                MOVE_REGISTER => registers[dst] = registers[src],
                AND => registers[dst] &= wide,
                SHIFT_RIGHT => registers[dst] >>= wide,
                JUMP => jump(true),
                JUMP_UNEQUAL => jump(registers[dst] != wide),
                JUMP_SET => jump(registers[dst] & wide != 0),
                EXIT => return registers[0],
                _ => panic!("instruction {code:#x}"),
            }
            at += 1;
        }
        panic!("doesn't end");
    }

    fn any_rule() -> impl Strategy<Value = Rule> {
        let number = || prop::option::of(0u32..3);
        let class = prop::option::of(prop_oneof![Just(Class::Block), Just(Class::Char)]);
        (any::<bool>(), class, number(), number(), 1u8..8)
            .prop_map(|(allow, class, major, minor, access)| Rule { allow, class, major, minor, access })
    }

    /// Linux's own decision in version 1 (security/device_cgroup.c): where it denies by default, one exception must
    /// give all of an access; where it allows, one must take some of it.
    fn v1(state: &devices_v1::Exceptions, asked: (Class, u32, u32), access: u8) -> bool {
        let (class, major, minor) = asked;
        let mut fitting = state.except.iter().filter(|((c, a, b), _)| {
            *c == class && a.is_none_or(|a| a == major) && b.is_none_or(|b| b == minor)
        });
        match state.allow {
            true => !fitting.any(|(_, bits)| bits & access != 0),
            false => fitting.any(|(_, bits)| access & !bits == 0),
        }
    }

    proptest! {
        #[test]
        fn programs_and_exceptions_decide_as_the_rules(rules in prop::collection::vec(any_rule(), 0..12)) {
            let rules = Rules(rules);
            let program = assemble(&rules);
            let exceptions = devices_v1::exceptions(&rules);
            for (number, kind) in [(1, Class::Block), (2, Class::Char)] {
                for (major, minor) in (0..4).flat_map(|major| (0..4).map(move |minor| (major, minor))) {
                    for access in 1..8u8 {
                        let allowed = rules.allow(kind, major, minor, access);
                        let context = [u32::from(access) << 16 | number, major, minor];
                        prop_assert_eq!(run(&program, context), u64::from(allowed));
                        if let Ok(exceptions) = &exceptions {
                            prop_assert_eq!(v1(exceptions, (kind, major, minor), access), allowed);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_layout_is_the_kernels() {
        assert_eq!(insn(JUMP_UNEQUAL, 2, 1, -2, 7).bytes(), [0x55, 0x12, 0xfe, 0xff, 7, 0, 0, 0]);
    }
}
