//! An interpreter of classic BPF, for tests: the subset that the kernel lets filters use.

use super::Instruction;
use super::instruction::{AND, IF_AT_LEAST, IF_EQUAL, IF_GREATER, JUMP, LOAD, RETURN};

/// `struct seccomp_data` as 16 words.
pub(crate) fn data(audit: u32, number: u32, arguments: [u64; 6]) -> [u32; 16] {
    let mut words = [0; 16];
    (words[0], words[1]) = (number, audit);
    for (index, argument) in arguments.into_iter().enumerate() {
        words[4 + 2 * index] = argument as u32;
        words[5 + 2 * index] = (argument >> 32) as u32;
    }
    words
}

/// What the program answers. Panics where the kernel would refuse it.
pub(crate) fn run(program: &[Instruction], data: &[u32; 16]) -> u32 {
    steps(program, data).0
}

/// What the program answers, and after how many instructions.
pub(crate) fn steps(program: &[Instruction], data: &[u32; 16]) -> (u32, usize) {
    let (mut at, mut accumulator, mut steps) = (0, 0u32, 0);
    loop {
        steps += 1;
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        let holds = match code {
            LOAD => {
                assert_eq!(k % 4, 0);
                accumulator = data[k as usize / 4];
                continue;
            }
            AND => {
                accumulator &= k;
                continue;
            }
            JUMP => {
                at += k as usize;
                continue;
            }
            RETURN => return (k, steps),
            IF_EQUAL => accumulator == k,
            IF_GREATER => accumulator > k,
            IF_AT_LEAST => accumulator >= k,
            code => panic!("{code:#x}"),
        };
        at += usize::from(if holds { jt } else { jf });
    }
}
