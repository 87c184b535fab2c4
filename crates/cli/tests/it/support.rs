//! The program on a state directory of the test's own, with an image made of this machine's programs.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use coracle::{Capture, Engine};
use coracle_testhost::Host;

pub(crate) struct Cli {
    root: PathBuf,
}

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Cli {
    /// What `base` has.
    pub(crate) const PROGRAMS: [&str; 17] = [
        "/bin/sh",
        "/bin/cat",
        "/bin/ls",
        "/bin/sleep",
        "/usr/bin/id",
        "/usr/bin/env",
        "/bin/hostname",
        "/usr/bin/getent",
        "/bin/mkdir",
        "/bin/rm",
        "/bin/touch",
        "/bin/chmod",
        "/bin/mv",
        "/bin/ln",
        "/bin/chown",
        "/bin/stat",
        "/bin/readlink",
    ];

    /// With the image `base`, which has a shell and a few tools.
    pub(crate) fn new(host: &Host) -> Cli {
        let root = host.dir().join("state");
        let engine = Engine::open(&root).unwrap();
        engine.capture(&Capture::new().programs(Cli::PROGRAMS), "base").unwrap();
        Cli { root }
    }

    /// Without any image, in a state directory of that name.
    pub(crate) fn empty(host: &Host, name: &str) -> Cli {
        Cli { root: host.dir().join(name) }
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coracle"));
        command.args(words).env("CORACLE_ROOT", &self.root);
        command
    }

    /// Runs it to its end, its standard input empty.
    pub(crate) fn run(&self, words: &[&str]) -> Ended {
        self.run_with(words, "")
    }

    /// Runs it to its end with this on its standard input.
    pub(crate) fn run_with(&self, words: &[&str], input: &str) -> Ended {
        let mut child = self.spawn(words);
        // One that doesn't read has closed the pipe; that is its right.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        Ended {
            status: std::os::unix::process::ExitStatusExt::into_raw(output.status) >> 8,
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Starts it with pipes.
    pub(crate) fn spawn(&self, words: &[&str]) -> Child {
        let mut command = self.command(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// What it prints; it must succeed and have nothing to say on standard error.
    #[track_caller]
    pub(crate) fn ok(&self, words: &[&str]) -> String {
        let ended = self.run(words);
        assert_eq!((ended.status, ended.err.as_str()), (0, ""), "{words:?}: {ended:?}");
        ended.out
    }

    /// What it says on standard error; it must end with this status and print nothing.
    #[track_caller]
    pub(crate) fn fails(&self, status: i32, words: &[&str]) -> String {
        let ended = self.run(words);
        assert_eq!((ended.status, ended.out.as_str()), (status, ""), "{words:?}: {ended:?}");
        assert!(!ended.err.is_empty(), "{words:?}: no message");
        ended.err
    }

    /// Waits until the container has written this line.
    #[track_caller]
    pub(crate) fn wait_for(&self, container: &str, line: &str) {
        let mut logs = self.spawn(&["logs", "-f", container]);
        let found = BufReader::new(logs.stdout.take().unwrap()).lines().any(|read| read.unwrap() == line);
        logs.kill().unwrap();
        logs.wait().unwrap();
        assert!(found, "{container} ended without {line:?}");
    }
}

/// The lines of a table, each as its cells; cells are two blanks apart at least.
pub(crate) fn cells(table: &str) -> Vec<Vec<String>> {
    let split = |line: &str| {
        line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect()
    };
    table.lines().map(split).collect()
}
