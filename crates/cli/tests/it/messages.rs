//! What is said where, and closed outputs.

use std::process::Stdio;

use crate::support::Cli;

#[test]
fn help_and_version_go_to_standard_output() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        assert!(cli.ok(&["--help"]).contains("Usage: coracle"));
        assert!(cli.ok(&[]).contains("Usage: coracle"));
        assert!(cli.ok(&["run", "--help"]).contains("Usage: coracle run [OPTIONS] IMAGE [COMMAND] [ARG...]"));
        assert!(cli.ok(&["network", "create", "--help"]).contains("Usage: coracle network create"));
        assert_eq!(cli.ok(&["--version"]), format!("Coracle version {}\n", env!("CARGO_PKG_VERSION")));
        assert!(cli.ok(&["version"]).contains(env!("CARGO_PKG_VERSION")));
        assert!(
            cli.fails(125, &["run", "--gpus", "all", "base"])
                .starts_with("coracle: run --gpus: not supported")
        );
        assert!(cli.fails(1, &["swarm", "x"]).starts_with("coracle: `coracle swarm` is not supported yet"));
    });
}

#[test]
fn engine_errors_of_run_are_125() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        let said = cli.fails(125, &["run", "nosuch"]);
        assert!(
            said.starts_with(
                "Unable to find image 'nosuch:latest' locally\ncoracle: pull nosuch:latest: GET https://"
            ),
            "{said}"
        );
        assert!(cli.fails(125, &["run", "--pull=never", "nosuch"]).contains("no such image: nosuch"));
        cli.ok(&["run", "-d", "--name", "taken", "base", "sleep", "1000"]);
        let said = cli.fails(125, &["run", "-d", "--name", "taken", "base", "id"]);
        assert!(said.contains("the name `taken` is in use by container"), "{said}");
        cli.ok(&["rm", "-f", "taken"]);
        // Everything that is wrong, at once.
        let said = cli.fails(125, &["run", "--name", "-x", "-w", "rel", "--cap-add", "NOPE", "base", "id"]);
        for text in ["`-x`", "`rel`", "`NOPE`"] {
            assert!(said.contains(text), "{text}: {said}");
        }
    });
}

#[test]
fn a_closed_or_full_output_is_no_panic() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut child = cli.command(&["images"]).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(141));
        let mut said = String::new();
        std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
        assert_eq!(said, "");
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let ended = cli.command(&["images"]).stdout(full).output().unwrap();
        assert_eq!(ended.status.code(), Some(1));
        assert!(String::from_utf8(ended.stderr).unwrap().contains("No space left on device"));
    });
}

#[test]
fn a_state_of_a_newer_version_is_refused() {
    coracle_testhost::run(|host| {
        let cli = Cli::new(host);
        std::fs::write(host.dir().join("state/coracle-state.json"), "{\"version\": 99}").unwrap();
        assert!(cli.fails(1, &["ps"]).contains("version 99"));
        assert!(cli.fails(125, &["run", "base"]).contains("version 99"));
    });
}
