//! Other processes of the same test: the test binary again, playing a part.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use crate::{ENDED_WELL, PLACE, ROLE, only};

/// A process that plays a role, seen from the test. Killed when it is dropped.
#[derive(Debug)]
pub struct Player {
    role: String,
    child: Child,
    tid: i32,
    line: Line,
}

impl Player {
    pub(crate) fn start(test: &str, role: &str) -> Player {
        let (ours, theirs) = UnixStream::pair().unwrap();
        // Its stdin is the line to the test; its output goes where the test's goes.
        let child = Command::new("/proc/self/exe")
            .args(only(test))
            .env(ROLE, role)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .unwrap_or_else(|error| panic!("start role `{role}`: {error}"));
        let mut player = Player { role: role.to_owned(), child, tid: 0, line: Line::new(ours) };
        // It says which of libtest's threads plays, for those who want to watch it.
        let hello = player.hear().and_then(|tid| tid.parse().ok());
        player.tid = hello.unwrap_or_else(|| panic!("role `{role}` didn't come up"));
        player
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends one line. That it has ended is fine; waiting says how.
    pub fn say(&mut self, line: &str) {
        self.line.say(line);
    }

    /// Waits for one line; `None` when it has ended.
    pub fn hear(&mut self) -> Option<String> {
        self.line.hear()
    }

    /// Closes the line: the role hears `None`.
    ///
    /// # Panics
    /// Never in practice: shutting a socket down needs no resources.
    #[must_use = "dropping the player kills it"]
    pub fn hang_up(self) -> Player {
        self.line.0.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
        self
    }

    /// Kills it by SIGKILL and waits until it is dead.
    ///
    /// # Panics
    /// When it can't be killed.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Says `line`, lets the role make `calls` system calls more, and kills it at the entry of the next one. Whether
    /// it was killed: `false` when it came to its end before. A crash test takes `calls` from 0 up until `false`,
    /// and each time looks at what is left. Only the calls of the thread that the role runs in are counted.
    ///
    /// # Panics
    /// When this process may not trace it, and when it ended otherwise than by its own end.
    pub fn kill_after(mut self, calls: usize, line: &str) -> bool {
        let Player { child, line: wire, tid, .. } = &mut self;
        let killed = crate::trace::kill_after(child, *tid, calls, || wire.say(line));
        if !killed {
            self.join();
        }
        killed
    }

    /// Says `line`, and writes down what the role does to files from then on until it comes to its end, on the file system of
    /// the host's directory. A power-cut test takes that apart ([`crate::Disk`]). Only the thread that the role runs in is
    /// watched.
    ///
    /// # Panics
    /// When this process may not trace it, when it does something that can't be written down, and when it ended otherwise
    /// than by its own end.
    pub fn record(mut self, top: &std::path::Path, line: &str) -> Vec<crate::Step> {
        let Player { child, line: wire, tid, .. } = &mut self;
        let steps = crate::record::record(child, *tid, top, || wire.say(line));
        self.join();
        steps
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// When it didn't come to its own end: it panicked or was killed.
    pub fn join(mut self) {
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(ENDED_WELL), "role `{}`: {status}", self.role);
    }

    /// Waits until it has ended, however it ended.
    ///
    /// # Panics
    /// When somebody else has reaped it.
    pub fn wait(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        // Both fail only when it has been reaped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process does that plays a role; it ends when this returns.
pub type Part = fn(&mut Role);

/// A role's end of the line, and its view of the host.
#[derive(Debug)]
pub struct Role {
    dir: PathBuf,
    line: Line,
}

impl Role {
    /// The same as [`crate::Host::dir`].
    pub fn dir(&self) -> &std::path::Path {
        &self.dir
    }

    /// Sends one line to the test.
    pub fn say(&mut self, line: &str) {
        self.line.say(line);
    }

    /// Waits for one line of the test; `None` when the test let go of its [`Player`].
    pub fn hear(&mut self) -> Option<String> {
        self.line.hear()
    }
}

pub(crate) fn play(roles: &[(&str, Part)], name: &str) -> ! {
    let (_, part) =
        roles.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no role `{name}`"));
    let place = PathBuf::from(std::env::var_os(PLACE).expect("set by the process outside"));
    let line = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let mut role = Role { dir: place.join("dir"), line: Line::new(line.into()) };
    role.say(&rustix::thread::gettid().as_raw_nonzero().to_string());
    part(&mut role);
    std::process::exit(ENDED_WELL)
}

#[derive(Debug)]
struct Line(BufReader<UnixStream>);

impl Line {
    fn new(stream: UnixStream) -> Line {
        Line(BufReader::new(stream))
    }

    fn say(&mut self, line: &str) {
        let _ = self.0.get_mut().write_all(format!("{line}\n").as_bytes());
    }

    fn hear(&mut self) -> Option<String> {
        let mut line = String::new();
        // A process that dies with unread lines resets the connection; that is an end like any other.
        match self.0.read_line(&mut line) {
            Ok(1..) => Some(line.trim_end_matches('\n').to_owned()),
            Ok(0) | Err(_) => None,
        }
    }
}
