//! The second program: what a child executes before the container's own.
//!
//! `/proc/self/exe` is the program that a process executed last. While a container's program is being looked up that
//! must not be the embedding program's binary (CVE-2019-5736), so the child first executes an ELF file of a few
//! hundred bytes that lives in sealed memory. It reads a list of system calls from its own image, makes them in order,
//! and ends by executing the container's program. Since it is in memory of its own by then, what has to be done after
//! the last thing that a restricted process could not do (a system call filter, a wait for the word to go) is done there.
//!
//! The file has one segment, mapped at a fixed address: ELF header, machine code, the list, and what the list points
//! to. The code is assembled with this crate, but into a section that can't be executed here.

use core::ffi::CStr;

use rustix::thread::CapabilitySet;

use crate::Namespaces;
use crate::report::{ARMED, LISTENING, WAITING};

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
use aarch64::{MACHINE, code};
#[cfg(target_arch = "x86_64")]
use x86_64::{MACHINE, code};

#[cfg(not(any(target_arch = "aarch64", target_arch = "x86_64")))]
compile_error!("coracle-launch has machine code for x86_64 and aarch64 only");

/// One thing that the second program does.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Call<'a> {
    /// Nobody may look into this process's memory (`PR_SET_DUMPABLE` 0); the program it executes decides for itself.
    Undumpable,
    /// setns(2) with a descriptor among those that were kept, for the time namespace, which nobody may join who shares
    /// memory. The descriptor is closed.
    Join {
        /// The number of a namespace descriptor or a pidfd.
        fd: u32,
        /// Which.
        kind: Namespaces,
    },
    /// Go on in a second process, inside the pid namespace that was joined; the parent becomes its parent too.
    Again {
        /// The number of a control group's directory (version 2), where it is born in that.
        group: Option<u32>,
    },
    /// setsid(2).
    Session,
    /// Take standard input, a terminal, as the controlling terminal (ioctl_tty(2), `TIOCSCTTY`).
    Terminal,
    /// Be killed when the parent's thread ends. The parent's answer shows that it was there when that was arranged.
    DieWithParent,
    /// Tell the parent that everything before is done ([`Started::waiting`](crate::Started::waiting)), and wait for one
    /// byte on this descriptor; that its other end is closed ends the process. The descriptor is closed.
    Await {
        /// Its number.
        fd: u32,
    },
    /// Write `0` to this descriptor, a file of a control group that takes the processes which join it. It is closed.
    Enter {
        /// Its number.
        fd: u32,
    },
    /// seccomp(2), `SECCOMP_SET_MODE_FILTER`.
    Filter {
        /// `SECCOMP_FILTER_FLAG_*`.
        flags: u32,
        /// `struct sock_filter`s, 8 bytes each in this machine's order.
        program: &'a [u8],
    },
    /// The same, with calls that somebody else answers (`SECCOMP_FILTER_FLAG_NEW_LISTENER`): it goes on when the parent,
    /// which takes the listening descriptor from it meanwhile, has said so.
    Listen {
        /// Further `SECCOMP_FILTER_FLAG_*`.
        flags: u32,
        /// As of [`Call::Filter`].
        program: &'a [u8],
        /// The number that the listening descriptor gets: the lowest that is free.
        scratch: u32,
    },
    /// Write to a file below a directory among the descriptors that were kept.
    Write {
        /// The number of the directory.
        dir: u32,
        /// The way from there.
        path: &'a CStr,
        /// What is written, all at once.
        text: &'a [u8],
        /// The number that the file gets: the lowest that is free.
        scratch: u32,
    },
    /// Close a descriptor.
    Close {
        /// Its number.
        fd: u32,
    },
    /// prlimit(2) of this process.
    Limit {
        /// `RLIMIT_*`.
        resource: u32,
        /// The soft limit.
        soft: u64,
        /// The hard limit.
        hard: u64,
    },
    /// sched_setaffinity(2) of this process, to the processors whose bits are set, lowest first.
    Affinity(&'a [u64]),
    /// Let go of what was kept for [`Call::Filter`] only: capset(2), and an ambient set without it.
    Capabilities {
        /// What may be used at once.
        effective: CapabilitySet,
        /// What may be made effective.
        permitted: CapabilitySet,
        /// What is kept over exec by files that ask for it.
        inheritable: CapabilitySet,
        /// Which ambient ones are lowered.
        lower: CapabilitySet,
    },
    /// Go on in a child, and stay as its parent: hand all signals on to it, reap every orphan, end as it ends (a signal's
    /// number plus 128). The child gets a process group of its own, and the terminal where standard input is one.
    Init,
    /// execve(2), with the arguments and environment that this program was given itself. Where it is not there or
    /// can't be executed (`ENOENT`, `ENOTDIR`, `EACCES`) the list goes on, as execvp(3) does; at its end the failure is told.
    Exec(&'a CStr),
}

/// Where the segment is in the memory of the program.
const BASE: u64 = 0x40_0000;
/// ELF header and two program headers.
const HEADERS: usize = 64 + 2 * 56;
/// Before the list: the number of the descriptor for reports.
const PREFIX: usize = 16;
/// One entry: number and kind, six arguments, and the step to report.
const ENTRY: usize = 64;

/// What the code does with an entry.
#[derive(Clone, Copy)]
enum Kind {
    /// A system call that must not fail.
    Call = 0,
    /// The same, with `argv` and `envp` for its second and third arguments.
    Exec = 1,
    /// The end of the candidates.
    Failed = 2,
    /// A read that must read something.
    Read = 3,
    Init = 4,
    Again = 5,
}

/// How many bytes [`write_image`] needs at most for these calls.
pub fn image_size(calls: &[(u32, Call<'_>)]) -> usize {
    let data = |call: &Call<'_>| match call {
        Call::Filter { program, .. } | Call::Listen { program, .. } => program.len() + 48,
        Call::Write { path, text, .. } => path.count_bytes() + text.len() + 32,
        Call::Exec(path) => path.count_bytes() + 16,
        Call::Affinity(mask) => size_of_val(*mask) + 16,
        _ => 64,
    };
    let data: usize = calls.iter().map(|(_, call)| data(call)).sum();
    data_offset(calls) + data
}

/// Writes an ELF file that makes the calls, each with the step that a failure of it is reported as, to `into`. It
/// reports on descriptor `report` and expects nothing else of its environment.
///
/// Returns how many bytes it has; `None` where `into` is too small.
pub fn write_image(report: u32, calls: &[(u32, Call<'_>)], into: &mut [u8]) -> Option<usize> {
    let mut writer = Writer { bytes: into, report, entry: list_offset(), data: data_offset(calls) };
    let last = calls.last().map_or(0, |(step, _)| *step);
    writer.put(list_offset() - PREFIX, &u64::from(report).to_ne_bytes())?;
    for (step, call) in calls {
        writer.call(*step, call)?;
    }
    writer.entry(Kind::Failed, 0, [0; 6], last)?;
    let size = writer.data;
    writer.put(HEADERS, code())?;
    writer.headers(size)?;
    Some(size)
}

fn list_offset() -> usize {
    (HEADERS + code().len()).next_multiple_of(16) + PREFIX
}

fn data_offset(calls: &[(u32, Call<'_>)]) -> usize {
    let entries: usize = calls
        .iter()
        .map(|(_, call)| match call {
            Call::Listen { .. } => 4,
            Call::Await { .. } | Call::DieWithParent | Call::Write { .. } => 3,
            Call::Join { .. } | Call::Enter { .. } | Call::Again { group: Some(_) } => 2,
            Call::Capabilities { lower, .. } => 1 + lower.bits().count_ones() as usize,
            _ => 1,
        })
        .sum();
    list_offset() + (entries + 1) * ENTRY
}

struct Writer<'a> {
    bytes: &'a mut [u8],
    report: u32,
    entry: usize,
    data: usize,
}

impl Writer<'_> {
    fn call(&mut self, step: u32, call: &Call<'_>) -> Option<()> {
        match *call {
            Call::Undumpable => {
                let prctl = libc::PR_SET_DUMPABLE as u64;
                self.entry(Kind::Call, libc::SYS_prctl, [prctl, 0, 0, 0, 0, 0], step)
            }
            Call::Join { fd, kind } => {
                let fd = u64::from(fd);
                self.entry(Kind::Call, libc::SYS_setns, [fd, kind.bits() as u64, 0, 0, 0, 0], step)?;
                self.entry(Kind::Call, libc::SYS_close, [fd, 0, 0, 0, 0, 0], step)
            }
            Call::Again { group } => {
                /// `CLONE_PARENT | CLONE_PIDFD`, and `CLONE_INTO_CGROUP`.
                const FLAGS: [u64; 2] = [0x9000, 0x2_0000_9000];
                let Some(group) = group.map(u64::from) else {
                    return self.entry(Kind::Again, 0, [FLAGS[0], 0, 0, 0, 0, 0], step);
                };
                let close = [group, libc::F_SETFD as u64, libc::FD_CLOEXEC as u64, 0, 0, 0];
                self.entry(Kind::Call, libc::SYS_fcntl, close, step)?;
                self.entry(Kind::Again, 0, [FLAGS[1], group, 0, 0, 0, 0], step)
            }
            Call::Session => self.entry(Kind::Call, libc::SYS_setsid, [0; 6], step),
            Call::Terminal => self.entry(Kind::Call, libc::SYS_ioctl, [0, libc::TIOCSCTTY, 0, 0, 0, 0], step),
            Call::DieWithParent => {
                let [prctl, signal] = [libc::PR_SET_PDEATHSIG as u64, libc::SIGKILL as u64];
                let (byte, report) = (self.data(&[ARMED])?, u64::from(self.report));
                self.entry(Kind::Call, libc::SYS_prctl, [prctl, signal, 0, 0, 0, 0], step)?;
                self.entry(Kind::Call, libc::SYS_write, [report, byte, 1, 0, 0, 0], step)?;
                self.entry(Kind::Read, libc::SYS_read, [report, 0, 1, 0, 0, 0], step)
            }
            Call::Await { fd } => {
                let (fd, report) = (u64::from(fd), u64::from(self.report));
                let byte = self.data(&[WAITING])?;
                self.entry(Kind::Call, libc::SYS_write, [report, byte, 1, 0, 0, 0], step)?;
                // To the stack, which the code knows; the image can't be written to.
                self.entry(Kind::Read, libc::SYS_read, [fd, 0, 1, 0, 0, 0], step)?;
                self.entry(Kind::Call, libc::SYS_close, [fd, 0, 0, 0, 0, 0], step)
            }
            Call::Enter { fd } => {
                let (fd, zero) = (u64::from(fd), self.data(b"0")?);
                self.entry(Kind::Call, libc::SYS_write, [fd, zero, 1, 0, 0, 0], step)?;
                self.entry(Kind::Call, libc::SYS_close, [fd, 0, 0, 0, 0, 0], step)
            }
            Call::Filter { flags, program } => self.filter(flags, program, step),
            Call::Listen { flags, program, scratch } => {
                const NEW_LISTENER: u32 = 1 << 3;
                let (report, byte) = (u64::from(self.report), self.data(&[LISTENING])?);
                self.filter(flags | NEW_LISTENER, program, step)?;
                self.entry(Kind::Call, libc::SYS_write, [report, byte, 1, 0, 0, 0], step)?;
                self.entry(Kind::Read, libc::SYS_read, [report, 0, 1, 0, 0, 0], step)?;
                self.entry(Kind::Call, libc::SYS_close, [u64::from(scratch), 0, 0, 0, 0, 0], step)
            }
            Call::Write { dir, path, text, scratch } => {
                let flags = (libc::O_WRONLY | libc::O_CLOEXEC) as u64;
                let (path, data) = (self.data(path.to_bytes_with_nul())?, self.data(text)?);
                let (scratch, size) = (u64::from(scratch), text.len() as u64);
                self.entry(Kind::Call, libc::SYS_openat, [dir.into(), path, flags, 0, 0, 0], step)?;
                self.entry(Kind::Call, libc::SYS_write, [scratch, data, size, 0, 0, 0], step)?;
                self.entry(Kind::Call, libc::SYS_close, [scratch, 0, 0, 0, 0, 0], step)
            }
            Call::Close { fd } => {
                self.entry(Kind::Call, libc::SYS_close, [u64::from(fd), 0, 0, 0, 0, 0], step)
            }
            Call::Limit { resource, soft, hard } => {
                let limit = self.data(&soft.to_ne_bytes())?;
                self.data(&hard.to_ne_bytes())?;
                let arguments = [0, u64::from(resource), limit, 0, 0, 0];
                self.entry(Kind::Call, libc::SYS_prlimit64, arguments, step)
            }
            Call::Capabilities { effective, permitted, inheritable, lower } => {
                /// `_LINUX_CAPABILITY_VERSION_3`, and 0: this thread.
                const VERSION: [u32; 2] = [0x2008_0522, 0];
                for one in lower.iter() {
                    let bit = u64::from(one.bits().trailing_zeros());
                    let [prctl, lower] = [libc::PR_CAP_AMBIENT as u64, libc::PR_CAP_AMBIENT_LOWER as u64];
                    self.entry(Kind::Call, libc::SYS_prctl, [prctl, lower, bit, 0, 0, 0], step)?;
                }
                let half = |high: bool| {
                    [effective, permitted, inheritable]
                        .map(|set| if high { set.bits() >> 32 } else { set.bits() } as u32)
                };
                let header = self.words(&VERSION)?;
                let sets = self.words(&half(false))?;
                self.tail(&half(true))?;
                self.entry(Kind::Call, libc::SYS_capset, [header, sets, 0, 0, 0, 0], step)
            }
            Call::Affinity(mask) => {
                let at = self.data(&[])?;
                for word in mask {
                    self.data(&word.to_ne_bytes())?;
                }
                let size = size_of_val(mask) as u64;
                self.entry(Kind::Call, libc::SYS_sched_setaffinity, [0, size, at, 0, 0, 0], step)
            }
            Call::Init => self.entry(Kind::Init, 0, [0; 6], step),
            Call::Exec(path) => {
                let path = self.data(path.to_bytes_with_nul())?;
                self.entry(Kind::Exec, libc::SYS_execve, [path, 0, 0, 0, 0, 0], step)
            }
        }
    }

    fn filter(&mut self, flags: u32, program: &[u8], step: u32) -> Option<()> {
        const SET_MODE_FILTER: u64 = 1;
        let filters = u16::try_from(program.len() / 8).ok()?;
        let at = self.data(program)?;
        let fprog = self.data(&u64::from(filters).to_le_bytes())?;
        self.data(&at.to_ne_bytes())?;
        let arguments = [SET_MODE_FILTER, u64::from(flags), fprog, 0, 0, 0];
        self.entry(Kind::Call, libc::SYS_seccomp, arguments, step)
    }

    fn entry(&mut self, kind: Kind, number: i64, arguments: [u64; 6], step: u32) -> Option<()> {
        let first = u64::from(number as u32) | (kind as u64) << 32;
        let at = self.entry;
        self.put(at, &first.to_ne_bytes())?;
        for (index, argument) in arguments.iter().enumerate() {
            self.put(at + 8 * (index + 1), &argument.to_ne_bytes())?;
        }
        self.put(at + 56, &u64::from(step).to_ne_bytes())?;
        self.entry += ENTRY;
        Some(())
    }

    /// Where it is in the program's memory; aligned to eight bytes.
    fn data(&mut self, bytes: &[u8]) -> Option<u64> {
        self.data = self.data.next_multiple_of(8);
        let at = self.data;
        self.put(at, bytes)?;
        self.data += bytes.len();
        Some(BASE + at as u64)
    }

    fn words(&mut self, words: &[u32]) -> Option<u64> {
        self.data = self.data.next_multiple_of(8);
        let at = BASE + self.data as u64;
        self.tail(words)?;
        Some(at)
    }

    /// Right behind what was written last.
    fn tail(&mut self, words: &[u32]) -> Option<()> {
        for word in words {
            let at = self.data;
            self.put(at, &word.to_ne_bytes())?;
            self.data += 4;
        }
        Some(())
    }

    /// elf(5): a static executable of one segment, and a stack that can't be executed.
    fn headers(&mut self, size: usize) -> Option<()> {
        const SEGMENT: (u32, u32) = (1, 5); // PT_LOAD, readable and executable
        const STACK: (u32, u32) = (0x6474_e551, 6); // PT_GNU_STACK, readable and writable
        let order = if cfg!(target_endian = "little") { 1 } else { 2 };
        self.put(0, &[0x7f, b'E', b'L', b'F', 2, order, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0])?;
        self.put(16, &2u16.to_ne_bytes())?; // ET_EXEC
        self.put(18, &MACHINE.to_ne_bytes())?;
        self.put(20, &1u32.to_ne_bytes())?;
        self.put(24, &(BASE + HEADERS as u64).to_ne_bytes())?; // where it begins
        self.put(32, &64u64.to_ne_bytes())?; // the program headers
        self.put(40, &[0; 12])?; // no sections, no flags
        for (index, value) in [64u16, 56, 2, 64, 0, 0].into_iter().enumerate() {
            self.put(52 + 2 * index, &value.to_ne_bytes())?;
        }
        let size = size as u64;
        for (at, (typ, flags), address, size, align) in
            [(64, SEGMENT, BASE, size, 0x1_0000u64), (120, STACK, 0, 0, 16)]
        {
            self.put(at, &typ.to_ne_bytes())?;
            self.put(at + 4, &flags.to_ne_bytes())?;
            for (index, value) in [0, address, address, size, size, align].into_iter().enumerate() {
                self.put(at + 8 + 8 * index, &value.to_ne_bytes())?;
            }
        }
        Some(())
    }

    fn put(&mut self, at: usize, bytes: &[u8]) -> Option<()> {
        self.bytes.get_mut(at..at.checked_add(bytes.len())?)?.copy_from_slice(bytes);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec;

    use super::*;

    #[test]
    fn the_size_is_enough_and_nothing_less_is_written() {
        let sets = CapabilitySet::all();
        let program = [0u8; 24];
        let calls = [
            (0, Call::Undumpable),
            (0, Call::Join { fd: 7, kind: Namespaces::TIME }),
            (0, Call::Again { group: None }),
            (0, Call::Again { group: Some(9) }),
            (0, Call::Session),
            (0, Call::Terminal),
            (0, Call::DieWithParent),
            (1, Call::Await { fd: 4 }),
            (1, Call::Enter { fd: 5 }),
            (2, Call::Filter { flags: 0, program: &program }),
            (2, Call::Listen { flags: 0, program: &program, scratch: 4 }),
            (2, Call::Write { dir: 5, path: c"a/way", text: b"words", scratch: 4 }),
            (2, Call::Close { fd: 5 }),
            (3, Call::Limit { resource: 7, soft: 1, hard: 2 }),
            (4, Call::Capabilities { effective: sets, permitted: sets, inheritable: sets, lower: sets }),
            (0, Call::Affinity(&[7; 20])),
            (5, Call::Init),
            (6, Call::Exec(c"/a/rather/long/path")),
        ];
        for end in 0..=calls.len() {
            let calls = &calls[..end];
            let mut bytes = vec![0; image_size(calls)];
            let size = write_image(3, calls, &mut bytes).unwrap();
            assert!(size <= bytes.len());
            assert_eq!(write_image(3, calls, &mut bytes[..size]), Some(size));
            assert_eq!(write_image(3, calls, &mut bytes[..size - 1]), None);
            // The code is where the list is looked for behind it.
            assert_eq!(&bytes[HEADERS..HEADERS + code().len()], code());
            assert_eq!((HEADERS + code().len()) % 16, 0);
        }
    }
}
