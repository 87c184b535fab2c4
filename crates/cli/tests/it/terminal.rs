//! Terminals, made containers, and streams that are chosen.

use std::io::{Read, Write};
use std::process::{Child, Stdio};

use nix::pty::openpty;

use crate::support::Cli;

/// The program at a terminal of the test's own.
struct AtTerminal {
    child: Child,
    side: std::fs::File,
    shown: String,
}

impl AtTerminal {
    fn start(cli: &Cli, words: &[&str]) -> AtTerminal {
        let pty = openpty(None, None).unwrap();
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        let child = cli.command(words).stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        AtTerminal { child, side: pty.master.into(), shown: String::new() }
    }

    /// Reads until this was shown.
    fn until(&mut self, text: &str) {
        let mut buffer = [0; 1024];
        while !self.shown.contains(text) {
            let read = self.side.read(&mut buffer).unwrap_or(0);
            assert!(read > 0, "it ended without {text:?}: {}", self.shown);
            self.shown += &String::from_utf8_lossy(&buffer[..read]);
        }
    }

    fn types(&mut self, keys: &str) {
        self.side.write_all(keys.as_bytes()).unwrap();
    }

    fn status(mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap()
    }
}

#[test]
fn a_terminal_is_passed_through() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        for rm in [&["--rm"][..], &["--name", "kept"]] {
            let words = [&["run", "-it"], rm, &["base", "sh"]].concat();
            let mut terminal = AtTerminal::start(&cli, &words);
            terminal.types("ls -l /proc/self/fd/0; echo a-$((40+2))\r");
            terminal.until("/dev/pts/");
            terminal.until("a-42");
            terminal.types("exit 7\r");
            assert_eq!(terminal.status(), 7, "{rm:?}");
        }
        assert_eq!(cli.ok(&["ps", "-a", "--format", "{{.Names}} {{.State}}"]), "kept exited\n");
        let needs = cli.fails(1, &["run", "--rm", "-it", "base", "sh"]);
        assert_eq!(needs, "coracle: the input device is not a TTY\n");
        cli.ok(&["rm", "kept"]);
    });
}

#[test]
fn one_can_be_left_alone() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        let mut terminal =
            AtTerminal::start(&cli, &["run", "-it", "--name", "c", "base", "sh", "-c", "echo up; cat"]);
        terminal.until("up");
        terminal.types("\x10\x11");
        assert_eq!(terminal.status(), 0);
        assert_eq!(cli.ok(&["ps", "--format", "{{.Names}} {{.State}}"]), "c running\n");
        let mut again = AtTerminal::start(&cli, &["attach", "--detach-keys", "ctrl-a", "c"]);
        again.types("still there\r");
        again.until("still there");
        again.types("\x01");
        assert_eq!(again.status(), 0);
        cli.ok(&["rm", "-f", "c"]);
    });
}

#[test]
fn one_that_is_made_is_started_later() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        let file = host.dir().join("id");
        let path = file.display().to_string();
        let id = cli.ok(&["create", "--name", "c", "--cidfile", &path, "-i", "base", "cat"]);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), id.trim());
        assert_eq!(cli.ok(&["ps", "-a", "--format", "{{.Names}} {{.Status}}"]), "c Created\n");
        assert_eq!(cli.ok(&["ps", "-q"]), "");
        let said = cli.run_with(&["start", "-ai", "c"], "through and through\n");
        assert_eq!((said.status, said.out.as_str()), (0, "through and through\n"), "{said:?}");
        assert_eq!(cli.ok(&["logs", "c"]), "through and through\n");
        let taken = cli.fails(125, &["create", "--cidfile", &path, "base", "cat"]);
        assert!(taken.contains("container ID file found"), "{taken}");
        cli.ok(&["rm", "c"]);
    });
}

#[test]
fn one_in_the_foreground_can_be_started_again() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        let script = "cat; echo e >&2; exit 3";
        let ran = cli.run_with(&["run", "-i", "--name", "c", "base", "sh", "-c", script], "in\n");
        assert_eq!((ran.status, ran.out.as_str(), ran.err.as_str()), (3, "in\n", "e\n"));
        cli.ok(&["rm", "c"]);
        assert_eq!(cli.run(&["run", "--name", "c", "base", "sh", "-c", script]).status, 3);
        cli.ok(&["start", "c"]);
        assert_eq!(cli.ok(&["wait", "c"]), "3\n");
        cli.ok(&["rm", "c"]);
        let words = ["sh", "-c", "echo out; echo err >&2"];
        let chosen = cli.run(&[&["run", "--rm", "-a", "stderr", "base"][..], &words].concat());
        assert_eq!((chosen.status, chosen.out.as_str(), chosen.err.as_str()), (0, "", "err\n"));
    });
}
