//! `coracle exec`.

use crate::support::Cli;

#[test]
fn a_further_process_runs_inside() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        cli.ok(&["run", "-d", "--name", "c", "-e", "OUTER=o", "base", "sleep", "1000"]);
        let script = "echo $OUTER $INNER; pwd; id -u; exit 3";
        let words = ["exec", "-e", "INNER=i", "-w", "/tmp", "-u", "1000", "c", "sh", "-c", script];
        let ended = cli.run(&words);
        assert_eq!((ended.status, ended.out.as_str(), ended.err.as_str()), (3, "o i\n/tmp\n1000\n", ""));
        assert_eq!(cli.run_with(&["exec", "-i", "c", "cat"], "typed").out, "typed");
        assert_eq!(cli.run_with(&["exec", "c", "cat"], "typed").out, "");
        let ended = cli.run(&["exec", "c", "sh", "-c", "echo e >&2; kill -9 $$"]);
        assert_eq!((ended.status, ended.err.as_str()), (137, "e\n"));
        assert!(cli.fails(127, &["exec", "c", "/nosuch"]).contains("exec /nosuch"));
        assert!(cli.fails(126, &["exec", "c", "/etc/passwd"]).contains("exec /etc/passwd"));
        cli.ok(&["kill", "c"]);
        assert!(cli.fails(1, &["exec", "c", "id"]).contains("exec in container `c`: it is not running"));
        cli.ok(&["rm", "c"]);
        assert_eq!(cli.fails(1, &["exec", "c", "id"]), "Error: No such container: c\n");
    });
}

#[test]
fn what_it_leaves_behind_does_not_hold_our_output_open() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        cli.ok(&["run", "-d", "--name", "c", "base", "sleep", "1000"]);
        // Who reads our output comes to its end with us.
        let ended = cli.run(&["exec", "c", "sh", "-c", "sleep 1000 & echo hi"]);
        assert_eq!((ended.status, ended.out.as_str()), (0, "hi\n"));
        assert_eq!(cli.run(&["exec", "--privileged", "c", "sh", "-c", "echo $$ >&2"]).status, 0);
        assert_eq!(cli.fails(1, &["exec", "-it", "c", "true"]), "coracle: the input device is not a TTY\n");
        assert!(cli.fails(126, &["exec", "-w", "/nosuch", "c", "true"]).contains("chdir /nosuch"));
        cli.ok(&["rm", "-f", "c"]);
    });
}
