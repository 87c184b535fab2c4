//! `coracle run` in the foreground.

use std::io::{BufRead, BufReader, Read};

use crate::support::Cli;

#[test]
fn output_status_and_arguments_are_the_commands() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        let ended = cli.run(&["run", "--rm", "base", "sh", "-c", "echo out; echo err >&2; exit 42", "--rm"]);
        assert_eq!((ended.status, ended.out.as_str(), ended.err.as_str()), (42, "out\n", "err\n"));
        assert_eq!(cli.ok(&["run", "--rm", "--entrypoint", "cat", "base", "/etc/hostname"]).len(), 13);
        let killed = cli.run(&["run", "--rm", "base", "sh", "-c", "sleep 1000 & kill -9 $!; wait $!"]);
        assert_eq!(killed.status, 137);
        assert_eq!(cli.ok(&["ps", "-aq"]), "");
    });
}

#[test]
fn standard_input_is_there_with_i_only() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        assert_eq!(cli.run_with(&["run", "--rm", "-i", "base", "cat"], "typed\n").out, "typed\n");
        assert_eq!(cli.run_with(&["run", "--rm", "base", "cat"], "typed\n").out, "");
    });
}

#[test]
fn what_the_flags_say_is_inside() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        std::fs::write(host.dir().join("env"), "# comment\nFILE=1\nBOTH=file\n").unwrap();
        let file = host.dir().join("env").display().to_string();
        let script = "echo $FLAG $FILE $BOTH $HOME; pwd; id -u; hostname; cat /etc/hosts";
        let out = cli.ok(&[
            "run",
            "--rm",
            "-e",
            "FLAG=f",
            "-eBOTH=flag",
            "--env-file",
            &file,
            "-w",
            "/tmp",
            "-u",
            "1000:1000",
            "-h",
            "box",
            "--add-host",
            "far:10.9.8.7",
            "--network",
            "none",
            "base",
            "sh",
            "-c",
            script,
        ]);
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines[..4], ["f 1 flag /", "/tmp", "1000", "box"], "{out}");
        assert!(out.contains("10.9.8.7\tfar"), "{out}");
    });
}

#[test]
fn walls_are_as_the_flags_say() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        let status = |flags: &[&str], field: &str| {
            let line =
                format!("while read k v; do [ $k = {field}: ] && echo $v; done < /proc/self/status; exit 0");
            let words = [&["run", "--rm", "--network=none"], flags, &["base", "sh", "-c", &line]].concat();
            cli.ok(&words).trim().to_owned()
        };
        assert_eq!(status(&[], "CapEff"), "00000000a80425fb");
        assert_eq!(status(&["--cap-drop", "ALL"], "CapEff"), "0000000000000000");
        assert_eq!(status(&["--cap-drop=ALL", "--cap-add=SYS_TIME"], "CapEff"), "0000000002000000");
        assert_eq!(status(&[], "NoNewPrivs"), "0");
        assert_eq!(status(&["--security-opt", "no-new-privileges"], "NoNewPrivs"), "1");
        let refused = cli.run(&["run", "--rm", "--read-only", "base", "sh", "-c", "echo x > /x"]);
        assert!(refused.status != 0 && refused.err.contains("Read-only file system"), "{refused:?}");
    });
}

#[test]
fn a_command_that_cant_be_executed_has_the_shells_status() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        assert!(cli.fails(127, &["run", "--rm", "base", "/nosuch"]).contains("exec /nosuch: No such file"));
        assert!(
            cli.fails(126, &["run", "base", "/etc/passwd"]).contains("exec /etc/passwd: Permission denied")
        );
        assert_eq!(cli.ok(&["ps", "-aq"]), "", "nothing is left of a container that did not start");
    });
}

#[test]
fn without_rm_it_stays() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        assert_eq!(cli.run(&["run", "--name", "stays", "base", "sh", "-c", "echo kept; exit 3"]).status, 3);
        assert_eq!(cli.ok(&["ps", "-q"]), "");
        assert!(cli.ok(&["ps", "-a"]).contains("Exited (3) "));
        assert_eq!(cli.ok(&["logs", "stays"]), "kept\n");
        assert_eq!(cli.ok(&["wait", "stays"]), "3\n");
        assert_eq!(cli.ok(&["rm", "stays"]), "stays\n");
    });
}

#[test]
fn signals_are_passed_on() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        let script = "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.01; done";
        let mut child = cli.spawn(&["run", "--rm", "base", "sh", "-c", script]);
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert_eq!(line, "up\n");
        signal(&child, nix::sys::signal::Signal::SIGTERM);
        out.read_to_string(&mut line).unwrap();
        assert_eq!(line, "up\nbye\n");
        assert_eq!(child.wait().unwrap().code(), Some(7));
        assert_eq!(cli.ok(&["ps", "-aq"]), "");
    });
}

#[test]
fn three_times_asked_it_is_killed() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        let script = "trap 'echo no' TERM; echo up; while :; do sleep 0.01; done";
        let mut child = cli.spawn(&["run", "--rm", "base", "sh", "-c", script]);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "up");
        for _ in 0..2 {
            signal(&child, nix::sys::signal::Signal::SIGTERM);
            assert_eq!(lines.next().unwrap().unwrap(), "no");
        }
        signal(&child, nix::sys::signal::Signal::SIGTERM);
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(137), "{said}");
        assert!(said.contains("killing the container"), "{said}");
    });
}

#[test]
fn it_ends_when_nobody_reads_its_output() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        let mut child = cli.spawn(&["run", "--rm", "base", "sh", "-c", "while :; do echo more; done"]);
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "more\n");
        // The reader is gone now.
        assert_eq!(child.wait().unwrap().code(), Some(137));
        assert_eq!(cli.ok(&["ps", "-aq"]), "");
    });
}

#[test]
fn it_dies_with_the_program() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        let mut child =
            cli.spawn(&["run", "--rm", "--name", "gone", "base", "sh", "-c", "echo up; exec sleep 1000"]);
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        // The next command reclaims what is left.
        assert_eq!(cli.ok(&["ps", "-aq"]), "");
        assert_eq!(cli.ok(&["run", "--rm", "--name", "gone", "base", "sh", "-c", "echo again"]), "again\n");
    });
}

fn signal(child: &std::process::Child, signal: nix::sys::signal::Signal) {
    let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
    nix::sys::signal::kill(pid, signal).unwrap();
}
