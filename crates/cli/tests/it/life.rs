//! Detached containers: ps, logs, kill, stop, wait, rm.

use std::io::{BufRead, BufReader};

use crate::support::{Cli, cells};

const LOOP: &str = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done";

#[test]
fn a_detached_one_is_listed_until_it_is_removed() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        let id = cli.ok(&["run", "-d", "--name", "db", "base", "sh", "-c", "sleep 1000; echo never"]);
        let id = id.trim();
        assert!(id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        let table = cells(&cli.ok(&["ps"]));
        assert_eq!(table[0], ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]);
        assert_eq!(table[1][..3], [&id[..12], "base", "\"sh -c 'sleep 1000; …\""]);
        assert!(table[1][3].ends_with(" ago") && table[1][4].starts_with("Up "), "{table:?}");
        assert_eq!(table[1][5], "db");
        assert_eq!(cli.ok(&["ps", "-q", "--no-trunc"]), format!("{id}\n"));
        assert!(cli.ok(&["ps", "--no-trunc"]).contains("\"sh -c 'sleep 1000; echo never'\""));
        assert!(cli.fails(1, &["rm", "db"]).contains("remove container `db`: it is running"));
        assert_eq!(cli.ok(&["kill", &id[..6]]), format!("{}\n", &id[..6]));
        assert_eq!(cli.ok(&["ps", "-q"]), "");
        let table = cells(&cli.ok(&["ps", "-a"]));
        assert!(table[1][4].starts_with("Exited (137) ") && table[1][4].ends_with(" ago"), "{table:?}");
        assert_eq!(cli.ok(&["wait", "db"]), "137\n");
        assert!(cli.fails(1, &["kill", "db"]).contains("is not running"));
        assert_eq!(cli.ok(&["rm", "db"]), "db\n");
        assert_eq!(cli.ok(&["ps", "-aq"]), "");
    });
}

#[test]
fn stop_asks_first() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        cli.ok(&["run", "-d", "--name", "polite", "base", "sh", "-c", LOOP]);
        cli.ok(&["run", "-d", "--name", "deaf", "base", "sleep", "1000"]);
        cli.wait_for("polite", "up");
        assert_eq!(cli.ok(&["stop", "-t", "0", "deaf"]), "deaf\n");
        assert_eq!(cli.ok(&["stop", "polite", "deaf"]), "polite\ndeaf\n");
        assert_eq!(cli.ok(&["wait", "polite", "deaf"]), "0\n137\n");
        assert_eq!(cli.ok(&["logs", "polite"]), "up\nbye\n");
        cli.ok(&["rm", "polite", "deaf"]);
    });
}

#[test]
fn signals_have_names() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        cli.ok(&[
            "run",
            "-d",
            "--name",
            "c",
            "base",
            "sh",
            "-c",
            "trap 'exit 9' USR1; echo up; while :; do sleep 0.01; done",
        ]);
        cli.wait_for("c", "up");
        assert!(cli.fails(125, &["kill", "-s", "NOPE", "c"]).contains("invalid signal: NOPE"));
        assert_eq!(cli.ok(&["kill", "-s", "SIGUSR1", "c"]), "c\n");
        assert_eq!(cli.ok(&["wait", "c"]), "9\n");
        cli.ok(&["rm", "c"]);
    });
}

#[test]
fn logs_keep_the_streams_apart() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        cli.run(&["run", "--name", "c", "base", "sh", "-c", "echo 1; echo e >&2; echo 2; echo -n 3"]);
        let ended = cli.run(&["logs", "c"]);
        assert_eq!((ended.status, ended.out.as_str(), ended.err.as_str()), (0, "1\n2\n3", "e\n"));
        assert_eq!(cli.run(&["logs", "--tail", "1", "c"]).out, "3");
        assert_eq!(cli.run(&["logs", "-n", "0", "c"]).out, "");
        let dated = cli.run(&["logs", "-t", "-n", "1", "c"]).out;
        let (time, text) = dated.split_once(' ').unwrap();
        assert!(time.len() == 30 && time.ends_with('Z') && text == "3", "{dated}");
        cli.ok(&["rm", "c"]);
    });
}

#[test]
fn logs_are_followed_to_the_end() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        let directory = host.dir().join("shared");
        let volume = format!("{}:/shared", directory.display());
        let script = "echo first; while ! [ -e /shared/go ]; do sleep 0.01; done; echo last";
        cli.ok(&["run", "-d", "--rm", "--name", "c", "-v", &volume, "base", "sh", "-c", script]);
        let mut logs = cli.spawn(&["logs", "-f", "c"]);
        let mut lines = BufReader::new(logs.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "first");
        std::fs::write(directory.join("go"), "").unwrap();
        // The last lines of one that is removed at its end may be gone before they are read.
        let rest: Vec<String> = lines.map(Result::unwrap).collect();
        assert!(rest.is_empty() || rest == ["last"], "{rest:?}");
        assert!(logs.wait().unwrap().success());
    });
}

#[test]
fn with_rm_nothing_is_left_of_a_detached_one() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        cli.ok(&["run", "-d", "--rm", "--name", "c", "base", "sh", "-c", LOOP]);
        cli.wait_for("c", "up");
        cli.ok(&["stop", "c"]);
        // Its supervisor removes it; force waits for that.
        cli.run(&["rm", "-f", "c"]);
        assert_eq!(cli.ok(&["ps", "-aq"]), "");
    });
}

#[test]
fn each_of_several_is_tried() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        cli.ok(&["run", "-d", "--name", "a", "base", "sleep", "1000"]);
        cli.ok(&["run", "-d", "--name", "b", "base", "sleep", "1000"]);
        let ended = cli.run(&["kill", "nosuch", "a", "neither"]);
        assert_eq!((ended.status, ended.out.as_str()), (1, "a\n"));
        assert_eq!(ended.err, "Error: No such container: nosuch\nError: No such container: neither\n");
        let ended = cli.run(&["rm", "-f", "a", "nosuch", "b"]);
        assert_eq!((ended.status, ended.out.as_str()), (0, "a\nb\n"), "as docker has it with -f: {ended:?}");
        assert_eq!(ended.err, "Error: No such container: nosuch\n");
    });
}
