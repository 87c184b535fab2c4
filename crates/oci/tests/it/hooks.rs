//! config.md, "POSIX-platform Hooks"; runtime.md, "Lifecycle".

use coracle_testhost::run;
use serde_json::{Value, json};

use crate::support::Oci;

/// A hook that keeps the state it gets in a file of the bundle, and what it sees of the root.
fn hook(oci: &Oci, name: &str) -> Value {
    let script = format!("cat > {0}/{name}; echo $VAR $0 > {0}/{name}-said", oci.bundle());
    json!([{ "path": "/bin/sh", "args": ["zero", "-c", script, "arg"], "env": ["VAR=x", "PATH=/bin"], "timeout": 30 }])
}

fn seen(oci: &Oci, name: &str) -> Value {
    let text = std::fs::read(oci.dir.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    serde_json::from_slice(&text).unwrap()
}

#[test]
fn hooks_get_the_state_at_their_time() {
    run(|host| {
        let mut oci = Oci::new(host, "exit 0");
        for name in ["prestart", "createRuntime", "poststart", "poststop"] {
            oci.config["hooks"][name] = hook(&oci, name);
        }
        oci.write();
        oci.create();
        for name in ["prestart", "createRuntime"] {
            let state = seen(&oci, name);
            assert_eq!((state["status"].as_str(), &state["id"]), (Some("creating"), &json!("c")), "{name}");
            assert_eq!(state["pid"], oci.state()["pid"], "{name}");
            assert_eq!(std::fs::read_to_string(oci.dir.join(format!("{name}-said"))).unwrap(), "x arg\n");
        }
        assert!(!oci.dir.join("poststart").exists());
        oci.ok(&["start", "c"]);
        assert_eq!(seen(&oci, "poststart")["status"], "running");
        oci.until("stopped");
        assert!(!oci.dir.join("poststop").exists());
        oci.ok(&["delete", "c"]);
        assert_eq!(seen(&oci, "poststop")["status"], "stopped");
        oci.end();
    });
}

#[test]
fn a_hook_that_fails_ends_the_creation_and_only_that() {
    run(|host| {
        let mut oci = Oci::new(host, "exit 0");
        let create = ["create", "--bundle", oci.bundle(), "c"].map(str::to_owned);
        let create: Vec<&str> = create.iter().map(String::as_str).collect();
        let failing = |script: &str| json!([{ "path": "/bin/sh", "args": ["sh", "-c", script] }]);
        oci.config["hooks"] = json!({ "createRuntime": failing("echo no >&2; exit 3") });
        oci.write();
        let refused = oci.refused(&create);
        assert!(refused.contains("hooks.createRuntime[0]: \"/bin/sh\": exit status: 3"), "{refused}");
        let slow = json!([{ "path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1 }]);
        oci.config["hooks"] = json!({ "createRuntime": slow });
        oci.write();
        let refused = oci.refused(&create);
        assert!(refused.ends_with("\"/bin/sleep\" takes longer than 1 s"), "{refused}");
        assert_eq!(oci.ok(&["list", "-q"]), "");
        // Those that come later change nothing when they fail: a warning in the log.
        oci.config["hooks"] = json!({ "poststart": failing("exit 4"), "poststop": failing("exit 5") });
        oci.write();
        oci.create();
        let log = oci.dir.join("log");
        let log_path = log.to_str().unwrap();
        oci.ok(&["--log", log_path, "start", "c"]);
        oci.until("stopped");
        oci.ok(&["--log", log_path, "delete", "c"]);
        let log = std::fs::read_to_string(log).unwrap();
        assert!(log.contains("level=warning msg=\"hooks.poststart[0]: "), "{log}");
        assert!(log.contains("level=warning msg=\"hooks.poststop[0]: "), "{log}");
        oci.end();
    });
}
