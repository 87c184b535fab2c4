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

/// config.md, "CreateContainer Hooks" and "StartContainer Hooks": where each is looked for, and where it runs.
#[test]
fn hooks_inside_run_where_the_container_is() {
    run(|host| {
        let mut oci = Oci::new(host, "");
        let spaces = "readlink /proc/self/ns/mnt; readlink /proc/self/ns/uts; hostname";
        // Found on this host; the container's root is where its configuration says, and what it mounts there stays.
        let script = format!(
            "cat > {0}/before; ({spaces}) > {0}/spaces; echo made > {0}/rootfs/made; mount --bind {0}/other \
             {0}/rootfs/seen",
            oci.bundle()
        );
        std::fs::write(oci.dir.join("other"), "mounted\n").unwrap();
        std::fs::write(oci.dir.join("rootfs/seen"), "").unwrap();
        let before =
            json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"] }]);
        // Found in the container, with its rights.
        let inside =
            "cat > /dev/shm/state; (readlink /proc/self/ns/mnt; id -u; echo $0 $PATH) > /dev/shm/said";
        std::fs::copy("/bin/sh", oci.dir.join("rootfs/only-here")).unwrap();
        let start = json!([{ "path": "/only-here", "args": ["me", "-c", inside], "env": ["PATH=/bin"] }]);
        oci.config["hooks"] = json!({ "createContainer": before, "startContainer": start });
        oci.config["hostname"] = json!("inside");
        oci.config["process"]["user"] = json!({ "uid": 7, "gid": 7 });
        oci.script(
            "readlink /proc/self/ns/mnt /proc/self/ns/uts; cat /made /seen /dev/shm/state /dev/shm/said; exit 0",
        );
        oci.create();
        let state = seen(&oci, "before");
        assert_eq!((state["status"].as_str(), &state["pid"]), (Some("creating"), &oci.state()["pid"]));
        assert_eq!(oci.out(), "");
        oci.ok(&["start", "c"]);
        oci.until("stopped");
        let out = oci.out();
        let lines: Vec<&str> = out.lines().collect();
        let spaces = std::fs::read_to_string(oci.dir.join("spaces")).unwrap();
        assert_eq!(spaces, format!("{}\n{}\ninside\n", lines[0], lines[1]));
        assert_eq!(lines[2..4], ["made", "mounted"]);
        let state: Value = serde_json::from_str(&lines[4][..lines[4].rfind('}').unwrap() + 1]).unwrap();
        assert_eq!(state["status"], "created", "{out}");
        assert!(out.ends_with(&format!("{}\n7\nme /bin\n", lines[0])), "{out}");
        // Nothing of it is to be seen outside.
        assert_eq!(std::fs::read_to_string(oci.dir.join("rootfs/seen")).unwrap(), "");
        oci.ok(&["delete", "c"]);
        oci.end();
    });
}

/// The container's namespaces are its user namespace, too, whose root the hook is.
#[test]
fn hooks_inside_are_of_the_containers_users() {
    run(|host| {
        let mut oci = Oci::new(host, "cat /seen /proc/self/uid_map; readlink /proc/self/ns/user; exit 0");
        crate::must_users::map(&mut oci, &[(0, 100_000, 65_536)]);
        let bundle = oci.bundle().to_owned();
        std::fs::create_dir(oci.dir.join("said")).unwrap();
        std::os::unix::fs::chown(oci.dir.join("said"), Some(100_000), Some(100_000)).unwrap();
        std::fs::write(oci.dir.join("other"), "mounted\n").unwrap();
        std::fs::write(oci.dir.join("rootfs/seen"), "").unwrap();
        let script = format!(
            "(id -u; cat /proc/self/uid_map; readlink /proc/self/ns/user; grep CapEff /proc/self/status) > \
             {bundle}/said/hook; mount --bind {bundle}/other {bundle}/rootfs/seen"
        );
        let hook =
            json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"] }]);
        oci.config["hooks"] = json!({ "createContainer": hook });
        let printed = crate::must::prints(&oci);
        let said = std::fs::read_to_string(oci.dir.join("said/hook")).unwrap();
        let said: Vec<&str> = said.split_whitespace().collect();
        let printed: Vec<&str> = printed.split_whitespace().collect();
        assert_eq!((printed[0], said[0]), ("mounted", "0"));
        assert_eq!(printed[1..], said[1..5]);
        let rights = u64::from_str_radix(said[6], 16).unwrap();
        assert_eq!(rights & 1 << 21, 1 << 21, "CAP_SYS_ADMIN: {said:?}");
        assert_eq!(std::fs::read_to_string(oci.dir.join("rootfs/seen")).unwrap(), "");
        oci.end();
    });
}

/// runtime.md, "Lifecycle" 3 to 7, 12, 13.
#[test]
fn a_hook_that_fails_ends_what_was_begun() {
    run(|host| {
        let mut oci = Oci::new(host, "echo ran");
        let failing = json!([{ "path": "/bin/sh", "args": ["sh", "-c", "echo no >&2; exit 3"] }]);
        for name in ["prestart", "createRuntime", "createContainer"] {
            oci.config["hooks"] = json!({ name: failing, "poststop": hook(&oci, "poststop") });
            oci.write();
            let refused = oci.refused(&["create", "--bundle", oci.bundle(), "c"]);
            assert!(refused.contains(&format!("hooks.{name}[0]: \"/bin/sh\": exit status 3")), "{refused}");
            assert_eq!(seen(&oci, "poststop")["status"], "stopped");
            std::fs::remove_file(oci.dir.join("poststop")).unwrap();
            assert_eq!(oci.ok(&["list", "-q"]), "");
        }
        let slow = json!([{ "path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1 }]);
        for (hooks, text) in [(failing, "exit status 3"), (slow, "takes longer than 1 s")] {
            oci.config["hooks"] = json!({ "startContainer": hooks });
            oci.write();
            oci.create();
            let refused = oci.refused(&["start", "c"]);
            assert!(refused.contains("hooks.startContainer[0]: ") && refused.contains(text), "{refused}");
            oci.until("stopped");
            assert_eq!(oci.out(), "");
            oci.ok(&["delete", "c"]);
        }
        // config.md: the path MUST be absolute, and a timeout greater than zero.
        for (hook, text) in [
            (json!([{ "path": "bin/true" }]), "hooks.poststop[0]: \"bin/true\" is not an absolute path"),
            (json!([{ "path": "/bin/true", "timeout": 0 }]), "hooks.poststop[0]: timeout 0: it must be more"),
        ] {
            oci.config["hooks"] = json!({ "poststop": hook });
            oci.write();
            let refused = oci.refused(&["create", "--bundle", oci.bundle(), "c"]);
            assert!(refused.contains(text), "{refused}");
        }
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
        assert!(refused.contains("hooks.createRuntime[0]: \"/bin/sh\": exit status 3"), "{refused}");
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
