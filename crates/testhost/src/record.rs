//! What a process does to files, system call by system call (ptrace(2)), for tests of what a power cut leaves.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::Child;

use crate::trace::{Info, Stop, Tracee};

/// One thing that was done to files and directories, which have their inode numbers for names: a path may mean
/// something else by the next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// `name` in the directory `dir` is the inode `node` from now on.
    Made {
        /// The directory.
        dir: u64,
        /// The new entry.
        name: OsString,
        /// What it leads to.
        node: u64,
        /// What that is; `None` for one more name of a file that there was.
        what: Option<What>,
    },
    /// The file has these bytes now.
    Wrote {
        /// The file.
        node: u64,
        /// All of it.
        bytes: Vec<u8>,
    },
    /// One rename, which replaces what was at the new place.
    Moved {
        /// The directory and name before.
        from: (u64, OsString),
        /// The directory and name after.
        to: (u64, OsString),
        /// What was moved.
        node: u64,
    },
    /// An entry is gone.
    Removed {
        /// The directory.
        dir: u64,
        /// The entry.
        name: OsString,
    },
    /// fsync(2) of one file or directory.
    Synced {
        /// Of which.
        node: u64,
    },
    /// syncfs(2) or sync(2).
    SyncedAll,
    /// The process has told the test something ([`crate::Role::say`]).
    Said,
}

/// What a new inode is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// An empty directory.
    Dir,
    /// An empty file.
    File,
    /// A symbolic link that leads there.
    Link(OsString),
    /// A device, a pipe or a socket.
    Other,
}

/// A system call that is under way, and what has to be known of the time before it.
struct Call {
    number: i64,
    args: [u64; 6],
    node: Option<u64>,
}

/// Records what the thread `tid` of `child` does after `go` until its process ends, on the file system of `top`.
pub(crate) fn record(child: &mut Child, tid: i32, top: &Path, go: impl FnOnce()) -> Vec<Step> {
    let tracee = Tracee::seize(tid);
    go();
    // A traced process has to be seen off before anybody can wait for it, also where this fails.
    let recorded = catch_unwind(AssertUnwindSafe(|| steps(&tracee, tid, top)));
    if recorded.is_err() {
        let _ = child.kill();
    }
    tracee.reap(child);
    recorded.unwrap_or_else(|panic| resume_unwind(panic))
}

fn steps(tracee: &Tracee, tid: i32, top: &Path) -> Vec<Step> {
    let recorder = Recorder {
        dev: fs::metadata(top).unwrap().dev(),
        proc: format!("/proc/{tid}").into(),
        memory: File::open(format!("/proc/{tid}/mem")).unwrap(),
    };
    let (mut steps, mut under_way) = (Vec::new(), None);
    loop {
        match tracee.next() {
            Stop::Ended => return steps,
            Stop::Call(Info::Entry { number, args }) => {
                let (number, args) = modern(number, args);
                under_way = Some(recorder.begun(number, args));
            }
            Stop::Call(Info::Exit { result }) => {
                if let Some(call) = under_way.take().filter(|_| result >= 0) {
                    steps.extend(recorder.done(&call, result));
                }
            }
        }
    }
}

/// The calls of old that know no directories, as those that do.
#[cfg(target_arch = "x86_64")]
fn modern(number: i64, args: [u64; 6]) -> (i64, [u64; 6]) {
    let here = libc::AT_FDCWD as u64;
    let [a, b, c, ..] = args;
    match number {
        libc::SYS_open => (libc::SYS_openat, [here, a, b, c, 0, 0]),
        libc::SYS_creat => {
            let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;
            (libc::SYS_openat, [here, a, flags as u64, b, 0, 0])
        }
        libc::SYS_mkdir => (libc::SYS_mkdirat, [here, a, b, 0, 0, 0]),
        libc::SYS_mknod => (libc::SYS_mknodat, [here, a, b, c, 0, 0]),
        libc::SYS_symlink => (libc::SYS_symlinkat, [a, here, b, 0, 0, 0]),
        libc::SYS_link => (libc::SYS_linkat, [here, a, here, b, 0, 0]),
        libc::SYS_rename => (libc::SYS_renameat, [here, a, here, b, 0, 0]),
        libc::SYS_unlink | libc::SYS_rmdir => (libc::SYS_unlinkat, [here, a, 0, 0, 0, 0]),
        _ => (number, args),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn modern(number: i64, args: [u64; 6]) -> (i64, [u64; 6]) {
    (number, args)
}

struct Recorder {
    dev: u64,
    proc: PathBuf,
    memory: File,
}

impl Recorder {
    fn begun(&self, number: i64, args: [u64; 6]) -> Call {
        // Whether it is there before, to tell whether it was made.
        let node = match number {
            libc::SYS_openat | libc::SYS_openat2 if self.open_flags(number, &args) & libc::O_CREAT != 0 => {
                self.node_of(&self.path(args[0], args[1]))
            }
            libc::SYS_renameat2 | libc::SYS_renameat => self.node_of(&self.path(args[0], args[1])),
            _ => None,
        };
        Call { number, args, node }
    }

    fn done(&self, call: &Call, result: i64) -> Option<Step> {
        let args = &call.args;
        match call.number {
            libc::SYS_openat | libc::SYS_openat2 => {
                let flags = self.open_flags(call.number, args);
                assert!(flags & libc::O_TMPFILE != libc::O_TMPFILE, "O_TMPFILE is not modelled");
                if flags & libc::O_CREAT != 0 && call.node.is_none() {
                    return self.made(args[0], args[1], Some(What::File));
                }
                let file = self.file(result as u64);
                (flags & libc::O_TRUNC != 0).then(|| self.wrote(&file)).flatten()
            }
            libc::SYS_mkdirat => self.made(args[0], args[1], Some(What::Dir)),
            libc::SYS_mknodat => self.made(args[0], args[1], Some(What::Other)),
            libc::SYS_symlinkat => {
                let leads = self.text(args[0]);
                self.made(args[1], args[2], Some(What::Link(leads)))
            }
            libc::SYS_linkat => self.made(args[2], args[3], None),
            libc::SYS_renameat | libc::SYS_renameat2 => {
                let exchange = call.number == libc::SYS_renameat2 && args[4] & 2 != 0;
                assert!(!exchange, "RENAME_EXCHANGE is not modelled");
                let (from, to) = (self.entry(args[0], args[1])?, self.entry(args[2], args[3])?);
                Some(Step::Moved { from, to, node: call.node? })
            }
            libc::SYS_unlinkat => {
                let (dir, name) = self.entry(args[0], args[1])?;
                Some(Step::Removed { dir, name })
            }
            libc::SYS_write if self.is_socket(args[0]) => Some(Step::Said),
            libc::SYS_sendto | libc::SYS_sendmsg => Some(Step::Said),
            libc::SYS_write
            | libc::SYS_pwrite64
            | libc::SYS_writev
            | libc::SYS_pwritev
            | libc::SYS_ftruncate
            | libc::SYS_fallocate
            | libc::SYS_sendfile
            | libc::SYS_ioctl => self.wrote(&self.file(args[0])),
            libc::SYS_copy_file_range => self.wrote(&self.file(args[2])),
            libc::SYS_fsync | libc::SYS_fdatasync => {
                self.node_of(&self.file(args[0])).map(|node| Step::Synced { node })
            }
            libc::SYS_syncfs | libc::SYS_sync => Some(Step::SyncedAll),
            libc::SYS_truncate => panic!("truncate(2) is not modelled"),
            _ => None,
        }
    }

    fn open_flags(&self, number: i64, args: &[u64; 6]) -> i32 {
        if number == libc::SYS_openat {
            return args[2] as i32;
        }
        let mut how = [0; 8];
        self.memory.read_exact_at(&mut how, args[2]).unwrap();
        u64::from_ne_bytes(how) as i32
    }

    fn made(&self, at: u64, path: u64, what: Option<What>) -> Option<Step> {
        let (dir, name) = self.entry(at, path)?;
        Some(Step::Made { dir, name, node: self.node_of(&self.path(at, path))?, what })
    }

    /// `None` where it is no file of the file system.
    fn wrote(&self, path: &Path) -> Option<Step> {
        let meta = fs::metadata(path).ok().filter(|meta| meta.is_file() && meta.dev() == self.dev)?;
        Some(Step::Wrote { node: meta.ino(), bytes: fs::read(path).unwrap() })
    }

    fn is_socket(&self, fd: u64) -> bool {
        fs::metadata(self.file(fd)).is_ok_and(|meta| meta.file_type().is_socket())
    }

    fn file(&self, fd: u64) -> PathBuf {
        self.proc.join("fd").join((fd as i32).to_string())
    }

    /// Where the process means, as a path for this one.
    fn path(&self, at: u64, path: u64) -> PathBuf {
        let base = match at as i32 {
            libc::AT_FDCWD => self.proc.join("cwd"),
            fd => self.file(fd as u64),
        };
        base.join(self.text(path))
    }

    fn entry(&self, at: u64, path: u64) -> Option<(u64, OsString)> {
        let path = self.path(at, path);
        let meta = fs::metadata(path.parent()?).ok().filter(|meta| meta.dev() == self.dev)?;
        Some((meta.ino(), path.file_name()?.to_owned()))
    }

    /// Links are not followed, but for those of proc that stand for a descriptor.
    fn node_of(&self, path: &Path) -> Option<u64> {
        let is_fd = path.parent() == Some(&self.proc.join("fd"));
        let meta = if is_fd { fs::metadata(path) } else { fs::symlink_metadata(path) };
        meta.ok().filter(|meta| meta.dev() == self.dev).map(|meta| meta.ino())
    }

    fn text(&self, address: u64) -> OsString {
        let mut text = Vec::new();
        let mut byte = [0];
        loop {
            self.memory.read_exact_at(&mut byte, address + text.len() as u64).unwrap();
            match byte {
                [0] => return OsString::from_vec(text),
                [byte] => text.push(byte),
            }
        }
    }
}
