//! The numbers of system calls.

use std::collections::HashMap;

use super::Arch;

/// One line for each call: its name, and its number in each of the six architectures, in the order of [`Arch`];
/// `-` where it has none. As of Linux 7.0.
const TABLE: &str = include_str!("numbers.tsv");

/// From here on arm has calls of its own, far from the rest. They say nothing about what is new.
pub(crate) const ARM_PRIVATE: u32 = 0x000f_0000;

/// Numbers by name.
pub(crate) struct Numbers(HashMap<&'static str, [Option<u32>; 6]>);

impl Numbers {
    pub(crate) fn new() -> Numbers {
        Numbers(rows().collect())
    }

    /// Whether any architecture has this call.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Without the bit that x32 sets.
    pub(crate) fn of(&self, name: &str, arch: Arch) -> Option<u32> {
        *self.0.get(name)?.get(arch.column())?
    }
}

pub(crate) fn rows() -> impl Iterator<Item = (&'static str, [Option<u32>; 6])> {
    TABLE.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let mut words = line.split('\t');
        let name = words.next().unwrap_or_default();
        (name, std::array::from_fn(|_| words.next().and_then(|word| word.parse().ok())))
    })
}

/// What 32-bit x86 does through `socketcall`: its first argument, in order from 1 (socket(2), `SYS_*` of linux/net.h).
const SOCKETCALL: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];

/// What 32-bit x86 does through `ipc`, and its first argument's lower half; the upper one is a version (ipc(2)).
const IPC: [(&str, u64); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

/// The call through which 32-bit x86 can make this one, and what its first argument is then: mask and value.
pub(crate) fn detour(name: &str, arch: Arch) -> Option<(&'static str, u64, u64)> {
    if arch != Arch::X86 {
        return None;
    }
    if let Some(index) = SOCKETCALL.iter().position(|call| *call == name) {
        return Some(("socketcall", 0xffff_ffff, index as u64 + 1));
    }
    IPC.iter().find(|(call, _)| *call == name).map(|(_, value)| ("ipc", 0xffff, *value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        let names: Vec<&str> = rows().map(|(name, _)| name).collect();
        assert!(names.is_sorted() && names.len() > 450, "{}", names.len());
        for arch in Arch::ALL {
            let mut numbers: Vec<u32> = rows().filter_map(|(_, row)| row[arch.column()]).collect();
            let all = numbers.len();
            numbers.sort_unstable();
            numbers.dedup();
            // x32 shares a number between two names nowhere either.
            assert_eq!(numbers.len(), all, "{arch}");
            assert!(all > 300, "{arch}: {all}");
        }
        let numbers = Numbers::new();
        let of = |name| Arch::ALL.map(|arch| numbers.of(name, arch));
        assert_eq!(of("ioctl"), [Some(16), Some(54), Some(514), Some(29), Some(54), Some(29)]);
        assert_eq!(of("set_tls"), [None, None, None, None, Some(0xf0005), None]);
        assert!(!numbers.knows("none"));
    }

    #[test]
    fn native_numbers_are_the_c_librarys() {
        let numbers = Numbers::new();
        let native = Arch::native().unwrap();
        for (name, number) in [
            ("read", libc::SYS_read),
            ("seccomp", libc::SYS_seccomp),
            ("clone3", libc::SYS_clone3),
            ("openat2", libc::SYS_openat2),
            ("mount_setattr", libc::SYS_mount_setattr),
            ("pidfd_getfd", libc::SYS_pidfd_getfd),
        ] {
            assert_eq!(numbers.of(name, native).map(i64::from), Some(number), "{name}");
        }
    }

    #[test]
    fn detours() {
        assert_eq!(detour("socket", Arch::X86), Some(("socketcall", 0xffff_ffff, 1)));
        assert_eq!(detour("sendmmsg", Arch::X86), Some(("socketcall", 0xffff_ffff, 20)));
        assert_eq!(detour("shmctl", Arch::X86), Some(("ipc", 0xffff, 24)));
        assert_eq!(detour("socket", Arch::Arm), None);
        assert_eq!(detour("read", Arch::X86), None);
    }
}
