//! What a process executes before its program, as a file that nobody can write to.

use std::os::fd::OwnedFd;

use coracle_host::{Call as _, Result};
use coracle_launch::{Call, Namespaces, image_size, write_image};
use rustix::fs::{MemfdFlags, Mode, SealFlags, fchmod, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use crate::Step;
use crate::error::Error;
use crate::realize::Part;
use crate::seccomp;
use crate::stdio::above;

/// The numbers that mean something to an image: those behind the descriptors of its program.
#[derive(Clone, Copy)]
pub(crate) struct Numbers {
    /// Where a process reports what becomes of its last steps.
    pub(crate) report: u32,
    /// Whether the lowest number that is free is to be known, for what is opened there.
    pub(crate) scratch: bool,
    /// Whether the host's proc is there.
    pub(crate) proc: bool,
    /// Whether there is something to wait for.
    pub(crate) held: bool,
    /// How many files of control groups of version 1 there are to enter by.
    pub(crate) tasks: u32,
    /// Whether the directory of a control group of version 2 comes behind them.
    pub(crate) unified: bool,
    /// Whether there is a time namespace to join.
    pub(crate) time: bool,
}

impl Numbers {
    /// For a program with so many descriptors, and an image with none.
    pub(crate) fn behind(descriptors: usize) -> Numbers {
        let report = descriptors as u32;
        Numbers { report, scratch: false, proc: false, held: false, tasks: 0, unified: false, time: false }
    }

    /// What is opened gets this number: all lower ones are taken, and it is given up first.
    pub(crate) fn scratch(self) -> u32 {
        self.report + 1
    }

    fn proc(self) -> u32 {
        self.scratch() + u32::from(self.scratch)
    }

    /// What [`Step::Await`] reads from.
    pub(crate) fn go(self) -> u32 {
        self.proc() + u32::from(self.proc)
    }

    fn door(self, index: u32) -> u32 {
        self.go() + u32::from(self.held) + index
    }

    /// The first that means nothing.
    pub(crate) fn free(self) -> u32 {
        self.time() + u32::from(self.time)
    }

    /// What [`Step::JoinTime`] and [`Step::JoinNewTime`] join.
    fn time(self) -> u32 {
        self.door(self.tasks + u32::from(self.unified))
    }
}

/// Steps that are the image's are reported with numbers from here.
pub(crate) const FIRST: u32 = 1 << 31;

/// The calls of the image: what all steps from `detach` on are. `numbers` are those of the descriptors that it has.
///
/// # Errors
/// For a step that has no place there.
pub(crate) fn calls<'a>(
    steps: &'a [Step],
    parts: &'a [Part],
    detach: usize,
    numbers: Numbers,
) -> std::result::Result<Vec<(u32, Call<'a>)>, Error> {
    let mut calls = Vec::new();
    calls.extend(numbers.scratch.then(|| (FIRST + detach as u32, Call::Close { fd: numbers.scratch() })));
    for (index, (step, part)) in (FIRST..).zip(steps.iter().zip(parts)).skip(detach) {
        let call = match (step, part) {
            (Step::Undumpable, _) => Call::Undumpable,
            (Step::JoinTime { .. } | Step::JoinNewTime { .. }, _) => {
                Call::Join { fd: numbers.time(), kind: Namespaces::TIME }
            }
            (Step::EnterGroup, _) => {
                calls.extend((0..numbers.tasks).map(|door| (index, Call::Enter { fd: numbers.door(door) })));
                continue;
            }
            (Step::Again, _) => Call::Again { group: numbers.unified.then_some(numbers.door(numbers.tasks)) },
            (Step::Await, _) => Call::Await { fd: numbers.go() },
            (Step::Control, _) => Call::Terminal,
            (Step::Session, _) => Call::Session,
            (Step::DieWithParent, _) => Call::DieWithParent,
            (Step::Limit { resource, soft, hard }, _) => {
                Call::Limit { resource: *resource, soft: *soft, hard: *hard }
            }
            (Step::Confine { .. } | Step::Label(_), Part::Write(path, text)) => {
                let (dir, scratch) = (numbers.proc(), numbers.scratch());
                calls.push((index, Call::Write { dir, path, text: text.as_bytes(), scratch }));
                match steps[(index - FIRST) as usize + 1..].iter().any(Step::asks_a_module) {
                    true => continue,
                    false => Call::Close { fd: dir },
                }
            }
            (Step::Filter(filter), Part::Filter(program)) => match filter.notifies() {
                // There is but one thread, and the two flags exclude each other.
                true => {
                    let flags = filter.flags() & !seccomp::TSYNC;
                    Call::Listen { flags, program, scratch: numbers.scratch() }
                }
                false => Call::Filter { flags: filter.flags() & !seccomp::WAIT_KILLABLE_RECV, program },
            },
            (Step::LetGo { effective, permitted, inheritable }, _) => Call::Capabilities {
                effective: *effective,
                permitted: *permitted,
                inheritable: *inheritable,
                lower: CapabilitySet::SYS_ADMIN,
            },
            (Step::Affinity { processors, .. }, _) => Call::Affinity(processors),
            (Step::Init, _) => Call::Init,
            (_, Part::Exec { candidates, .. }) => {
                calls.extend(candidates.iter().map(|path| (index, Call::Exec(path))));
                continue;
            }
            _ => {
                return Err(Error::invalid(format!(
                    "the step `{step}` has no place after the one that detaches"
                )));
            }
        };
        calls.push((index, call));
    }
    Ok(calls)
}

/// A file in memory that makes these calls, each with the step that its failure is reported as. It is made anew for each process: what root in a container may do to its own is nothing to the others.
pub(crate) fn make(numbers: Numbers, calls: &[(u32, Call<'_>)]) -> Result<OwnedFd> {
    let mut bytes = vec![0; image_size(calls)];
    let size = write_image(numbers.report, calls, &mut bytes).unwrap_or_default();
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = match memfd_create("coracle", flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => memfd_create("coracle", flags), // before 6.3 every one could be executed
        other => other,
    };
    let file = file.call(|| "memfd_create(MFD_EXEC)")?;
    let mut rest = &bytes[..size];
    while !rest.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(&file, rest)).call(|| "write(memfd)")?;
        rest = &rest[written..];
    }
    fchmod(&file, Mode::from_raw_mode(0o111)).call(|| "fchmod(memfd, 0111)")?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    match fcntl_add_seals(&file, seals | SealFlags::EXEC) {
        Err(Errno::INVAL) => fcntl_add_seals(&file, seals),
        other => other,
    }
    .call(|| "fcntl(memfd, F_ADD_SEALS)")?;
    above(file, numbers.free())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_can_change_it() {
        let image = make(Numbers::behind(3), &[(0, Call::Exec(c"/none"))]).unwrap();
        let size = rustix::fs::fstat(&image).unwrap().st_size as u64;
        assert!(size < 4096, "{size}");
        assert_eq!(rustix::io::pwrite(&image, b"x", 0), Err(Errno::PERM));
        assert_eq!(rustix::fs::ftruncate(&image, 0), Err(Errno::PERM));
        assert_eq!(rustix::fs::ftruncate(&image, size + 1), Err(Errno::PERM));
        assert_eq!(fcntl_add_seals(&image, SealFlags::empty()), Err(Errno::PERM));
        assert_eq!(rustix::fs::fstat(&image).unwrap().st_mode & 0o7777, 0o111);
    }
}
