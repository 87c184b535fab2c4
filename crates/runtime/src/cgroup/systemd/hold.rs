//! The process that a scope is made for: a scope without one is refused, and one that loses its last is removed.

use std::os::fd::{AsFd, OwnedFd};

use coracle_host::{Call as _, PidFd, Result};
use coracle_launch::{Call, Namespaces, Op, Strings};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::{facts, image, start, stdio};

/// A process that only is there, in memory of its own, until the container's first process is. It ends with the value, and
/// with the thread that made it.
#[derive(Debug)]
pub(in crate::cgroup) struct Holder {
    pidfd: PidFd,
    /// What it waits on.
    _gate: OwnedFd,
}

impl Holder {
    pub(super) fn start() -> Result<Holder> {
        let doing = || "clone(process for a scope)";
        let numbers = image::Numbers { held: true, ..image::Numbers::behind(0) };
        let lowest = numbers.free();
        let (gate, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .call(|| "socketpair()")?;
        let theirs = stdio::above(theirs, lowest)?;
        let image = image::make(numbers, &[(0, Call::Await { fd: numbers.go() })])?;
        let (mut argv, mut envp) = ([std::ptr::null(); 2], [std::ptr::null(); 1]);
        let (Some(argv), Some(envp)) =
            (Strings::new(&[c"coracle-scope"], &mut argv), Strings::new(&[], &mut envp))
        else {
            unreachable!("there is room for one and none");
        };
        let ops = [
            Op::DieWithParent { parent: facts::own_process() },
            Op::CloseFrom { first: 0, keep: &[image.as_fd(), theirs.as_fd()] },
            Op::Exec {
                image: image.as_fd(),
                report: numbers.report,
                again: false,
                keep: &[theirs.as_fd()],
                argv,
                envp,
            },
        ];
        let started = start::launch(&ops, Namespaces::NONE, None, &mut |_| false).call(doing)?;
        let holder = Holder { pidfd: PidFd::from_fd(started.pidfd), _gate: gate };
        match started.failure {
            None => Ok(holder),
            Some(failure) => Err(failure.errno).call(doing),
        }
    }

    /// Its number here.
    pub(super) fn pid(&self) -> Result<u32> {
        self.pidfd.pid()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // It is nobody's but ours; where somebody else has reaped it, it is gone all the same.
        let _ = self.pidfd.signal(9);
        let _ = self.pidfd.reap();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn it_has_nothing_of_ours_and_ends_with_the_value() {
        let holder = Holder::start().unwrap();
        let dir = format!("/proc/{}", holder.pid().unwrap());
        let dir = Path::new(&dir);
        let status = std::fs::read_to_string(dir.join("status")).unwrap();
        let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")?.trim().strip_suffix(" kB"));
        assert!(size.unwrap().trim().parse::<u32>().unwrap() < 1024, "{status}");
        // What it reports by, and what it waits on.
        assert_eq!(std::fs::read_dir(dir.join("fd")).unwrap().count(), 2);
        drop(holder);
        assert!(!dir.exists());
    }

    #[test]
    fn it_ends_with_the_thread() {
        let holder = std::thread::spawn(|| Holder::start().unwrap()).join().unwrap();
        assert!(holder.pidfd.ended_within(Some(std::time::Duration::from_secs(10))).unwrap());
    }
}
