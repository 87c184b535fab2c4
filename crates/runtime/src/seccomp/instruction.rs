//! The kernel's classic BPF, as far as filters use it.

use std::fmt;

/// One instruction of classic BPF: the kernel's `struct sock_filter`, 8 bytes in the machine's byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Instruction {
    /// The operation.
    pub code: u16,
    /// How many instructions a condition that holds skips.
    pub jt: u8,
    /// How many instructions a condition that doesn't hold skips.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

/// `A = data[k]`, 32 bits.
pub(crate) const LOAD: u16 = 0x20;
/// `A &= k`.
pub(crate) const AND: u16 = 0x54;
/// Skips `k` instructions.
pub(crate) const JUMP: u16 = 0x05;
/// If `A == k`.
pub(crate) const IF_EQUAL: u16 = 0x15;
/// If `A > k`.
pub(crate) const IF_GREATER: u16 = 0x25;
/// If `A >= k`.
pub(crate) const IF_AT_LEAST: u16 = 0x35;
/// The answer is `k`.
pub(crate) const RETURN: u16 = 0x06;

/// Where `struct seccomp_data` has the call's number.
pub(crate) const NUMBER: u32 = 0;
/// Where it has the architecture.
pub(crate) const ARCH: u32 = 4;
/// Where it has the first of six arguments, of 8 bytes each. All architectures here are little-endian.
pub(crate) const ARGUMENTS: u32 = 16;

impl fmt::Display for Instruction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Instruction { code, jt, jf, k } = self;
        match *code {
            LOAD => write!(f, "load [{k}]"),
            AND => write!(f, "and {k:#x}"),
            JUMP => write!(f, "skip {k}"),
            IF_EQUAL => write!(f, "if == {k:#x} skip {jt} else {jf}"),
            IF_GREATER => write!(f, "if > {k:#x} skip {jt} else {jf}"),
            IF_AT_LEAST => write!(f, "if >= {k:#x} skip {jt} else {jf}"),
            RETURN => write!(f, "return {k:#010x}"),
            code => write!(f, "{code:#x} {jt} {jf} {k:#x}"),
        }
    }
}
