//! Containers that are started again, renamed, attached to, and told of.

use crate::support::Cli;

#[test]
fn one_that_has_ended_is_started_again() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        cli.ok(&[
            "run",
            "-d",
            "--name",
            "a",
            "base",
            "sh",
            "-c",
            "echo run; cat /x 2>/dev/null; echo more >>/x",
        ]);
        assert_eq!(cli.ok(&["wait", "a"]), "0\n");
        assert_eq!(cli.ok(&["start", "a"]), "a\n");
        assert_eq!(cli.ok(&["wait", "a"]), "0\n");
        assert_eq!(cli.ok(&["logs", "a"]), "run\nrun\nmore\n");
        assert_eq!(cli.ok(&["start", "-a", "a"]), "run\nmore\nmore\n");
        cli.ok(&["rename", "a", "b"]);
        assert!(cli.fails(1, &["start", "a"]).contains("No such container: a"));
        assert_eq!(cli.ok(&["logs", "-n", "1", "b"]), "more\n");
        assert_eq!(cli.ok(&["rm", "b"]), "b\n");
    });
}

#[test]
fn restart_stops_and_starts() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        let text = "trap 'echo bye; exit' TERM; echo up; while :; do sleep 0.02; done";
        cli.ok(&["run", "-d", "--name", "a", "base", "sh", "-c", text]);
        cli.wait_for("a", "up");
        assert_eq!(cli.ok(&["restart", "a"]), "a\n");
        assert_eq!(cli.ok(&["stop", "a"]), "a\n");
        assert!(cli.ok(&["logs", "a"]).starts_with("up\nbye\n"));
        assert_eq!(cli.ok(&["restart", "a"]), "a\n");
        assert!(cli.ok(&["ps", "-q"]).len() > 5);
        cli.ok(&["rm", "-f", "a"]);
    });
}

#[test]
fn events_tell_of_what_others_did() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        cli.ok(&["run", "-d", "--rm", "--name", "a", "-l", "tier=back", "base", "sh", "-c", "exit 3"]);
        while !cli.ok(&["events", "--since", "1h", "--until", "0s"]).contains("destroy") {}
        let all = cli.ok(&["events", "--since", "1h", "--until", "0s", "-f", "type=container"]);
        let actions: Vec<&str> = all.lines().filter_map(|line| line.split(' ').nth(2)).collect();
        assert_eq!(actions, ["create", "start", "die", "destroy"], "{all}");
        let format = "{{.Action}} {{.Actor.Attributes.exitCode}} {{.Actor.Attributes.tier}}";
        let die = ["events", "--since", "1h", "--until", "0s", "--filter", "event=die", "--format", format];
        assert_eq!(cli.ok(&die), "die 3 back\n");
        assert!(cli.fails(125, &["events", "--filter", "frob=1"]).contains("invalid filter 'frob'"));
    });
}
