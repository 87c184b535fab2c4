//! runtime.md: state, lifecycle, operations, errors.

use coracle_testhost::run;
use serde_json::json;

use crate::support::{Oci, exists, reap, soon};

/// runtime.md, "State", "Lifecycle" 1 to 13, "Create", "Start", "Kill", "Delete".
#[test]
fn a_life() {
    run(|host| {
        let mut oci = Oci::new(host, "echo ran; read line < /fifo");
        oci.config["annotations"] = json!({ "org.example": "x" });
        oci.write();
        // "State": querying one that does not exist MUST generate an error.
        assert_eq!(oci.refused(&["state", "c"]), "coracle-oci: container `c` does not exist");
        std::fs::remove_file(oci.dir.join("rootfs/fifo")).ok();
        let fifo = oci.dir.join("rootfs/fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let pid_file = oci.dir.join("pid");
        oci.create_with(&["--pid-file", pid_file.to_str().unwrap()]);
        // "Create": the environment is there, the program MUST NOT be run at this time.
        let state = oci.state();
        assert_eq!(state["status"], "created");
        assert_eq!(state["id"], "c");
        assert_eq!(state["bundle"], oci.bundle());
        assert_eq!(state["annotations"], json!({ "org.example": "x" }));
        assert!(state["ociVersion"].as_str().unwrap().starts_with("1."));
        let pid = state["pid"].as_u64().unwrap();
        assert_eq!(std::fs::read_to_string(&pid_file).unwrap(), pid.to_string());
        assert!(exists(pid));
        assert_eq!(oci.out(), "");
        // "Create": an id that is in use MUST generate an error, and not touch the container.
        let again = oci.refused(&["create", "--bundle", oci.bundle(), "c"]);
        assert_eq!(again, "coracle-oci: container `c` already exists");
        // "Lifecycle" 2: later changes of config.json have no effect.
        oci.script("echo changed");
        oci.ok(&["start", "c"]);
        oci.until("running");
        soon("it has run", || oci.out() == "ran\n");
        // "Start": one that is not created MUST have no effect and MUST generate an error.
        assert_eq!(oci.refused(&["start", "c"]), "coracle-oci: container `c` is running, not created");
        // "Delete": one that is not stopped MUST generate an error.
        let refused = oci.refused(&["delete", "c"]);
        assert_eq!(refused, "coracle-oci: container `c` is running, and only stopped ones are deleted");
        assert_eq!(oci.status(), "running");
        oci.ok(&["kill", "c", "KILL"]);
        oci.until("stopped");
        assert_eq!(oci.state()["pid"], 0);
        // "Kill": one that neither is created nor runs MUST generate an error.
        let refused = oci.refused(&["kill", "c", "TERM"]);
        assert_eq!(refused, "coracle-oci: container `c` is stopped: container not running");
        assert!(oci.refused(&["start", "c"]).ends_with("is stopped, not created"));
        oci.ok(&["delete", "c"]);
        assert!(oci.refused(&["state", "c"]).ends_with("does not exist"));
        assert!(oci.refused(&["delete", "c"]).ends_with("does not exist"));
        oci.ok(&["delete", "--force", "c"]);
        oci.end();
    });
}

#[test]
fn a_created_one_can_be_killed_and_deleted_by_force() {
    run(|host| {
        let oci = Oci::new(host, "echo ran");
        oci.create();
        assert!(oci.refused(&["delete", "c"]).contains("is created"));
        // Its first process is at its gate, where it can be killed.
        oci.ok(&["kill", "c", "SIGKILL"]);
        oci.until("stopped");
        oci.ok(&["delete", "c"]);
        oci.create();
        oci.ok(&["delete", "--force", "c"]);
        reap();
        assert_eq!(oci.out(), "");
        oci.end();
    });
}

#[test]
fn what_fails_leaves_nothing() {
    run(|host| {
        let mut oci = Oci::new(host, "exit 0");
        let log = oci.dir.join("log");
        oci.config["process"]["args"] = json!(["no-such-program"]);
        oci.write();
        let args =
            ["--log", log.to_str().unwrap(), "--log-format", "json", "create", "-b", oci.bundle(), "c"];
        let refused = oci.refused(&args);
        assert!(refused.contains("executable file not found in $PATH"), "{refused}");
        let line: serde_json::Value = serde_json::from_slice(&std::fs::read(&log).unwrap()).unwrap();
        assert_eq!((line["level"].as_str(), line["msg"].as_str().unwrap()), (Some("error"), &refused[13..]));
        oci.config["process"]["args"] = json!(["/bin/true"]);
        let create = ["create", "--bundle", oci.bundle(), "c"];
        for (key, value, expected) in [
            ("ociVersion", json!("3.0.0"), "ociVersion 3.0.0: only 1.x is supported"),
            (
                "root",
                json!({ "path": "gone" }),
                "find root.path \"gone\": No such file or directory (os error 2)",
            ),
            ("solaris", json!({}), "solaris: not supported yet"),
            (
                "hooks",
                json!({ "createContainer": [{ "path": "x" }] }),
                "hooks.createContainer[0]: \"x\" is not an absolute path",
            ),
        ] {
            let mut config = oci.config.clone();
            config[key] = value;
            std::fs::write(oci.dir.join("config.json"), config.to_string()).unwrap();
            assert_eq!(oci.refused(&create), format!("coracle-oci: {expected}"));
        }
        oci.write();
        for (args, expected) in [
            (&["create", "--bundle", oci.bundle(), ".."][..], "container id \"..\": 1 to 255"),
            (&["create", "--bundle", "/none", "c"], "find the bundle \"/none\": No such file"),
            (&["start", "../c"], "container `../c` does not exist"),
            (&["kill", "c", "SIGHUH"], "\"SIGHUH\" is no signal"),
        ] {
            let refused = oci.refused(args);
            assert!(refused.starts_with(&format!("coracle-oci: {expected}")), "{refused}");
        }
        oci.end();
    });
}

#[test]
fn run_ends_as_the_container_does() {
    run(|host| {
        let mut oci = Oci::new(host, "echo $0 $PWD; exit 7");
        let output = oci.call(&["run", "--bundle", oci.bundle(), "c"]);
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(7), &b"/bin/sh /\n"[..]), "{output:?}");
        oci.script("kill -KILL $$");
        // A first process ignores signals of its own namespace.
        assert_eq!(oci.call(&["run", "--bundle", oci.bundle(), "c"]).status.code(), Some(0));
        oci.script("sleep 1000");
        oci.leave(&["run", "--detach", "--bundle", oci.bundle(), "c"]);
        let listed: serde_json::Value = serde_json::from_str(&oci.ok(&["list", "-f", "json"])).unwrap();
        assert_eq!((&listed[0]["id"], &listed[0]["status"]), (&json!("c"), &json!("running")));
        assert!(oci.ok(&["list"]).starts_with("ID  PID"));
        oci.ok(&["delete", "--force", "c"]);
        oci.end();
    });
}

#[test]
fn descriptors_are_preserved() {
    run(|host| {
        let oci = Oci::new(host, "cat <&3; ls /proc/self/fd | tr '\\n' ' '");
        // What a caller that sets up descriptors does: 3 is the file, and 5 something of its own.
        let script = format!(
            "exec 3< {0}/config.json 5< /dev/null; exec {1} --root {0}/state run --preserve-fds 1 -b {0} c",
            oci.bundle(),
            env!("CARGO_BIN_EXE_coracle-oci")
        );
        let output = std::process::Command::new("sh").arg("-c").arg(script).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let expected = format!("{}0 1 2 3 4 ", oci.config);
        assert_eq!((text, output.status.code()), (expected, Some(0)));
        oci.end();
    });
}

#[test]
fn what_it_says_of_itself() {
    run(|host| {
        let oci = Oci::new(host, "exit 0");
        let version = oci.ok(&["--version"]);
        assert!(version.starts_with("coracle-oci version 0.1.0\nspec: 1."), "{version}");
        let features: serde_json::Value = serde_json::from_str(&oci.ok(&["features"])).unwrap();
        assert_eq!(features["ociVersionMin"], "1.0.0");
        assert!(oci.refused(&["spec", "--bundle", oci.bundle()]).ends_with("exists already"));
        oci.end();
    });
}
