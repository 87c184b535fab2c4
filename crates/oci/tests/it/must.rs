//! Every MUST of config.md and features.md (runtime-spec 1.2) that can be observed, and that no other test has. Those
//! of runtime.md are in `life.rs`, "Linux mount options" in `must_mounts.rs`, of "POSIX-platform Hooks" in `hooks.rs`, of config-linux.md in `must_linux.rs` and
//! `groups.rs`; what only a plan shows is in the runtime crate (`fields.rs`, `check.rs`).

use coracle_testhost::run;
use serde_json::{Value, json};

use crate::support::Oci;

/// What the bundle's program prints; it must succeed.
#[track_caller]
pub(crate) fn prints(oci: &Oci) -> String {
    oci.write();
    oci.ok(&["run", "--bundle", oci.bundle(), "c"])
}

/// What a creation that must fail says, and nothing is left of it.
#[track_caller]
pub(crate) fn refused(oci: &Oci, key: &str, value: Value) -> String {
    let mut config = oci.config.clone();
    *config.pointer_mut(key).unwrap_or_else(|| panic!("no {key}")) = value;
    std::fs::write(oci.dir.join("config.json"), config.to_string()).unwrap();
    let text = oci.refused(&["create", "--bundle", oci.bundle(), "c"]);
    assert_eq!(oci.ok(&["list", "-q"]), "");
    text
}

/// "Specification version": 1.x is accepted, with what later ones of it have besides. "Extensibility": unknown properties
/// MUST be ignored. "Annotations": unknown keys MUST be, too. "Valid values": invalid ones MUST be an error.
#[test]
fn what_it_does_not_know() {
    run(|host| {
        let mut oci = Oci::new(host, "echo ran");
        oci.config["ociVersion"] = json!("1.9.7-later+x");
        oci.config["fromTheFuture"] = json!({ "a": [1] });
        oci.config["process"]["fromTheFuture"] = json!(true);
        oci.config["linux"]["fromTheFuture"] = json!("x");
        oci.config["annotations"] = json!({ "org.example.unknown": "x", "": "" });
        assert_eq!(prints(&oci), "ran\n");
        for (key, value) in [
            ("/ociVersion", json!("2.0.0")),
            ("/ociVersion", json!("one")),
            ("/process/cwd", json!("relative")),
            ("/linux/namespaces/0/type", json!("space")),
            ("/root/path", json!("nosuch")),
            ("/process/args", json!([])),
        ] {
            refused(&oci, key, value);
        }
        oci.end();
    });
}

/// "Root": `readonly`. "Mounts": MUST be mounted in the listed order; a relative destination MUST be taken from the root;
/// sources of binds are relative to the bundle.
#[test]
fn mounts_in_order_from_the_root_and_the_bundle() {
    run(|host| {
        let mut oci = Oci::new(host, "cat /srv/name /mnt/name; touch /x 2>/dev/null || echo read-only");
        for name in ["first", "second"] {
            std::fs::create_dir(oci.dir.join(name)).unwrap();
            std::fs::write(oci.dir.join(name).join("name"), name.to_owned() + "\n").unwrap();
        }
        let mounts = oci.config["mounts"].as_array_mut().unwrap();
        for (source, at) in [("first", "/srv"), ("second", "/srv"), ("second", "mnt"), ("first", "/mnt")] {
            mounts.push(json!({ "destination": at, "source": source, "type": "none", "options": ["bind"] }));
        }
        oci.config["root"]["readonly"] = json!(true);
        assert_eq!(prints(&oci), "second\nfirst\nread-only\n");
        oci.end();
    });
}

/// "Process": `consoleSize` MUST be ignored without a terminal. "POSIX process": limits MUST match; what is no limit, or is
/// there twice, MUST be an error.
#[test]
fn processes() {
    run(|host| {
        let mut oci = Oci::new(host, "ulimit -Sn; ulimit -Hn; ulimit -Sc");
        oci.config["process"]["consoleSize"] = json!({ "height": 3, "width": 4 });
        let limit = |typ: &str, soft: u64| json!({ "type": typ, "soft": soft, "hard": 600 });
        oci.config["process"]["rlimits"] = json!([limit("RLIMIT_NOFILE", 500), limit("RLIMIT_CORE", 0)]);
        assert_eq!(prints(&oci), "500\n600\n0\n");
        refused(&oci, "/process/rlimits", json!([limit("RLIMIT_NOSUCH", 1)]));
        let twice = json!([limit("RLIMIT_CORE", 1), limit("RLIMIT_CORE", 2)]);
        let text = refused(&oci, "/process/rlimits", twice);
        assert!(text.contains("RLIMIT_CORE is there twice"), "{text}");
        oci.end();
    });
}

/// "Linux Process": capabilities that can't be had MUST be logged as a warning; `oomScoreAdj` MUST be set, and MUST NOT be
/// changed where it is not.
#[test]
fn capabilities_and_the_score() {
    run(|host| {
        let mut oci = Oci::new(host, "cat /proc/self/oom_score_adj; grep CapEff /proc/self/status");
        let own = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap();
        for set in ["bounding", "permitted", "effective"] {
            oci.config["process"]["capabilities"][set] = json!(["CAP_CHOWN", "CAP_FROM_THE_FUTURE"]);
        }
        oci.write();
        let log = oci.dir.join("log");
        let args = ["--log", log.to_str().unwrap(), "run", "--bundle", oci.bundle(), "c"];
        assert_eq!(oci.ok(&args), format!("{own}CapEff:\t0000000000000001\n"));
        let log = std::fs::read_to_string(log).unwrap();
        let warning = "level=warning msg=\"process.capabilities.effective: `CAP_FROM_THE_FUTURE` is left out";
        assert!(log.contains(warning), "{log}");
        oci.config["process"]["oomScoreAdj"] = json!(321);
        assert!(prints(&oci).starts_with("321\n"));
        oci.end();
    });
}

/// "POSIX-platform User": ids and groups; without a umask the caller's is kept. "Hostname", "Domainname".
#[test]
fn users_and_names() {
    run(|host| {
        let mut oci = Oci::new(host, "id -u; id -g; id -G; umask; hostname; cat /proc/sys/kernel/domainname");
        oci.config["process"]["user"] = json!({ "uid": 7, "gid": 8, "additionalGids": [9, 10] });
        oci.config["hostname"] = json!("box");
        oci.config["domainname"] = json!("example");
        let umask = std::fs::read_to_string("/proc/self/status").unwrap();
        let umask = umask.lines().find_map(|line| line.strip_prefix("Umask:\t")).unwrap().to_owned();
        assert_eq!(prints(&oci), format!("7\n8\n8 9 10\n{umask}\nbox\nexample\n"));
        oci.config["process"]["user"]["umask"] = json!(0o77);
        assert!(prints(&oci).contains("\n0077\n"));
        oci.end();
    });
}

/// "POSIX-platform Hooks": MUST be called in the listed order.
#[test]
fn hooks_in_order() {
    run(|host| {
        let mut oci = Oci::new(host, "true");
        for name in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
            let hook = |number: u32| {
                let script = format!("echo {name} {number} >> {}/order", oci.bundle());
                json!({ "path": "/bin/sh", "args": ["sh", "-c", script] })
            };
            oci.config["hooks"][name] = json!([hook(1), hook(2)]);
        }
        prints(&oci);
        let order = std::fs::read_to_string(oci.dir.join("order")).unwrap();
        let names = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
        let expected: String = names.iter().map(|name| format!("{name} 1\n{name} 2\n")).collect();
        assert_eq!(order, expected);
        oci.end();
    });
}

/// features.md: both versions MUST be accepted; hooks MUST be supported and options of mounts recognized.
#[test]
fn what_it_says_that_it_can() {
    run(|host| {
        let mut oci = Oci::new(host, "echo ran");
        let features: Value = serde_json::from_str(&oci.ok(&["features"])).unwrap();
        for version in ["ociVersionMin", "ociVersionMax"] {
            oci.config["ociVersion"] = features[version].clone();
            assert_eq!(prints(&oci), "ran\n", "{version}");
        }
        for hook in features["hooks"].as_array().unwrap() {
            oci.config["hooks"][hook.as_str().unwrap()] = json!([{ "path": "/bin/true" }]);
        }
        crate::must_users::map(&mut oci, &[(0, 0, 65_536)]);
        for option in features["mountOptions"].as_array().unwrap() {
            let at = format!("/opt/{}", option.as_str().unwrap());
            let kind = if option == "tmpcopyup" { "defaults" } else { "bind" };
            let mount = |option: &Value| json!({ "destination": at, "source": ".", "type": "tmpfs", "options": [kind, option] });
            let mounts = oci.config["mounts"].as_array_mut().unwrap();
            mounts.extend((option == "remount").then(|| mount(&json!("ro"))));
            mounts.push(mount(option));
        }
        assert_eq!(prints(&oci), "ran\n");
        let sorted = |key: &str| {
            let names = features.pointer(key).and_then(Value::as_array).unwrap_or_else(|| panic!("no {key}"));
            names.windows(2).all(|pair| pair[0].as_str() < pair[1].as_str())
        };
        assert!(sorted("/mountOptions") && sorted("/linux/namespaces"));
        assert!(features.pointer("/linux/capabilities").unwrap().as_array().unwrap().len() >= 41);
        for key in [
            "/linux/cgroup/v1",
            "/linux/cgroup/v2",
            "/linux/seccomp/enabled",
            "/linux/mountExtensions/idmap/enabled",
        ] {
            assert_eq!(features.pointer(key), Some(&json!(true)), "{key}");
        }
        oci.end();
    });
}
