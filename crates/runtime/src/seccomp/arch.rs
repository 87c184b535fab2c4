//! Architectures: how the kernel tells them apart.

use std::fmt;

use oci_spec::runtime::Arch as OciArch;

/// A system call interface, with numbers of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Arch {
    /// `SCMP_ARCH_X86_64`.
    X86_64,
    /// `SCMP_ARCH_X86`: 32-bit programs on x86-64.
    X86,
    /// `SCMP_ARCH_X32`: 32-bit pointers in 64-bit mode. The kernel tells it from x86-64 by bit 30 of the number.
    X32,
    /// `SCMP_ARCH_AARCH64`.
    Aarch64,
    /// `SCMP_ARCH_ARM`: 32-bit programs on aarch64.
    Arm,
    /// `SCMP_ARCH_RISCV64`.
    Riscv64,
}

/// What x32 sets in the numbers of its calls (`__X32_SYSCALL_BIT`).
pub(crate) const X32_BIT: u32 = 0x4000_0000;

impl Arch {
    #[cfg(test)]
    pub(crate) const ALL: [Arch; 6] =
        [Arch::X86_64, Arch::X86, Arch::X32, Arch::Aarch64, Arch::Arm, Arch::Riscv64];

    /// The one that this program is compiled for. `None`: there are no system call numbers for it here.
    pub fn native() -> Option<Arch> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Arch::X86_64),
            "aarch64" => Some(Arch::Aarch64),
            "riscv64" => Some(Arch::Riscv64),
            _ => None,
        }
    }

    /// What the kernel says a call's architecture is (`AUDIT_ARCH_*`).
    pub(crate) fn audit(self) -> u32 {
        match self {
            Arch::X86_64 | Arch::X32 => 0xc000_003e,
            Arch::X86 => 0x4000_0003,
            Arch::Aarch64 => 0xc000_00b7,
            Arch::Arm => 0x4000_0028,
            Arch::Riscv64 => 0xc000_00f3,
        }
    }

    /// Whether arguments have 32 bits. (The other half is zero in what a filter sees. x32's have 64.)
    pub(crate) fn is_narrow(self) -> bool {
        matches!(self, Arch::X86 | Arch::Arm)
    }

    /// Whether a kernel of this architecture runs programs of that one.
    pub(crate) fn can_run(self, other: Arch) -> bool {
        match self {
            Arch::X86_64 => matches!(other, Arch::X86_64 | Arch::X86 | Arch::X32),
            Arch::Aarch64 => matches!(other, Arch::Aarch64 | Arch::Arm),
            _ => self == other,
        }
    }

    /// Its column in the table of numbers.
    pub(crate) fn column(self) -> usize {
        self as usize
    }

    /// Its name where docker's profiles say `arches`.
    pub(crate) fn docker_name(self) -> &'static str {
        match self {
            Arch::X86_64 => "amd64",
            Arch::X86 => "x86",
            Arch::X32 => "x32",
            Arch::Aarch64 => "arm64",
            Arch::Arm => "arm",
            Arch::Riscv64 => "riscv64",
        }
    }

    /// `None` for those that no kernel runs which this crate is compiled for.
    pub(crate) fn from_oci(arch: OciArch) -> Option<Arch> {
        match arch {
            OciArch::ScmpArchX86_64 => Some(Arch::X86_64),
            OciArch::ScmpArchX86 => Some(Arch::X86),
            OciArch::ScmpArchX32 => Some(Arch::X32),
            OciArch::ScmpArchAarch64 => Some(Arch::Aarch64),
            OciArch::ScmpArchArm => Some(Arch::Arm),
            OciArch::ScmpArchRiscv64 => Some(Arch::Riscv64),
            _ => None,
        }
    }

    pub(crate) fn to_oci(self) -> OciArch {
        match self {
            Arch::X86_64 => OciArch::ScmpArchX86_64,
            Arch::X86 => OciArch::ScmpArchX86,
            Arch::X32 => OciArch::ScmpArchX32,
            Arch::Aarch64 => OciArch::ScmpArchAarch64,
            Arch::Arm => OciArch::ScmpArchArm,
            Arch::Riscv64 => OciArch::ScmpArchRiscv64,
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Arch::X86_64 => "x86_64",
            Arch::X86 => "x86",
            Arch::X32 => "x32",
            Arch::Aarch64 => "aarch64",
            Arch::Arm => "arm",
            Arch::Riscv64 => "riscv64",
        })
    }
}
