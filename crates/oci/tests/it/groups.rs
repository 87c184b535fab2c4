//! Control groups: config-linux.md, "Control groups", and the calls that need them.

use coracle_testhost::{run, skip};
use serde_json::{Value, json};

use crate::support::{Oci, installed, reap, remove_groups, soon};

fn pids(oci: &Oci) -> Vec<u64> {
    serde_json::from_str(&oci.ok(&["ps", "--format", "json", "c"])).unwrap()
}

/// Whether a group can be made, for which the hierarchy of pids stands.
fn writable() -> bool {
    ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"].iter().any(|hierarchy| {
        let probe = std::path::Path::new(hierarchy).join("probe");
        let is_one = std::path::Path::new(hierarchy).join("cgroup.procs").exists();
        is_one && std::fs::create_dir(&probe).and_then(|()| std::fs::remove_dir(&probe)).is_ok()
    })
}

#[test]
fn limits_figures_and_pausing() {
    run(|host| {
        let mut oci = Oci::new(host, "sleep 1000 & while :; do :; done");
        oci.config["linux"]["resources"] = json!({ "pids": { "limit": 30 } });
        oci.config["linux"]["cgroupsPath"] = json!("/some/where");
        let mounts = oci.config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["type"] != "cgroup");
        let options = ["nosuid", "noexec", "nodev", "ro"];
        mounts.push(json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options }));
        oci.write();
        if !writable() {
            oci.end();
            return skip(host.test(), "this host has no control groups that could be written to");
        }
        oci.create();
        let pid = oci.state()["pid"].as_u64().unwrap();
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        assert!(
            groups.lines().any(|line| line.contains(":pids:") && line.ends_with("/some/where"))
                || groups.contains("0::/some/where"),
            "{groups}"
        );
        assert_eq!(pids(&oci), [pid]);
        // This program itself is not in it any more.
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        assert!(!own.contains("/some/where"), "{own}");
        oci.ok(&["start", "c"]);
        soon("both run", || pids(&oci).len() == 2);
        let table = oci.ok(&["ps", "c"]);
        assert!(table.starts_with("UID") && table.contains("sleep 1000"), "{table}");
        // What executes in the container is in its group, too.
        let line = oci.ok(&["exec", "c", "cat", "/proc/self/cgroup"]);
        assert!(!line.contains("/some/where") && line.lines().any(|line| line.ends_with(":/")), "{line}");
        // It sees its own group there and no other, and can change nothing.
        let cat = "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null; true";
        assert_eq!(oci.ok(&["exec", "c", "sh", "-c", cat]), "30\n");
        let write = "for at in /sys/fs/cgroup/pids /sys/fs/cgroup; do echo 1 > $at/pids.max && echo written; done; true";
        assert_eq!(oci.ok(&["exec", "c", "sh", "-c", write]), "");
        oci.ok(&["pause", "c"]);
        assert_eq!(oci.status(), "paused");
        assert!(oci.refused(&["pause", "c"]).ends_with("is paused, not running"));
        assert!(oci.refused(&["exec", "c", "true"]).ends_with("container `c` is paused"));
        oci.ok(&["resume", "c"]);
        assert_eq!(oci.status(), "running");
        assert!(oci.refused(&["resume", "c"]).ends_with("is running, not paused"));
        oci.ok(&["update", "--pids-limit", "40", "c"]);
        let event: Value = serde_json::from_str(&oci.ok(&["events", "--stats", "c"])).unwrap();
        assert_eq!((event["type"].as_str(), &event["data"]["pids"]["limit"]), (Some("stats"), &json!(40)));
        oci.ok(&["kill", "--all", "c", "KILL"]);
        oci.until("stopped");
        soon("they are gone", || {
            reap();
            pids(&oci).is_empty()
        });
        oci.ok(&["delete", "c"]);
        oci.end();
        for entry in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            // The parent is the caller's, and stays as with runc.
            let _ = std::fs::remove_dir(entry.path().join("some"));
        }
        let _ = std::fs::remove_dir("/sys/fs/cgroup/some");
    });
}

#[test]
fn limits_of_a_running_one_are_changed() {
    run(|host| {
        let mut oci = Oci::new(host, "exec sleep 1000");
        oci.config["linux"]["cgroupsPath"] = json!("/changed");
        oci.config["linux"]["resources"] = json!({ "memory": { "limit": 64 << 20 } });
        oci.write();
        oci.create();
        oci.ok(&["start", "c"]);
        let words = "update --memory 33554432 --memory-reservation 16777216 --cpu-quota 20000 --cpu-period 50000 \
                     --cpu-share 512 --cpuset-cpus 0 --pids-limit 9 c";
        oci.ok(&words.split_whitespace().collect::<Vec<_>>());
        // A controller that it was not in before has the process now, too.
        for (files, value) in [
            (["memory/changed/memory.limit_in_bytes", "changed/memory.max"], "33554432"),
            (["memory/changed/memory.soft_limit_in_bytes", "changed/memory.low"], "16777216"),
            (["cpu/changed/cpu.cfs_quota_us", "changed/cpu.max"], "20000"),
            (["cpuset/changed/cpuset.cpus", "changed/cpuset.cpus"], "0"),
            (["pids/changed/pids.max", "changed/pids.max"], "9"),
        ] {
            let all =
                files.map(|file| std::fs::read_to_string(std::path::Path::new("/sys/fs/cgroup").join(file)));
            let text = all.into_iter().find_map(Result::ok).unwrap();
            assert_eq!(text.split_whitespace().next(), Some(value), "{files:?}: {text}");
        }
        let pid = oci.state()["pid"].as_u64().unwrap();
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        assert!(["cpu", "cpuset", "pids"].iter().all(|one| {
            groups.lines().any(|line| line.ends_with(&format!(":{one}:/changed")) || line == "0::/changed")
        }));
        // As a document, and refused as a whole where a value is none.
        let file = oci.dir.join("resources.json");
        std::fs::write(&file, json!({ "pids": { "limit": 8 } }).to_string()).unwrap();
        oci.ok(&["update", "--resources", file.to_str().unwrap(), "c"]);
        let event: Value = serde_json::from_str(&oci.ok(&["events", "--stats", "c"])).unwrap();
        assert_eq!(event["data"]["pids"]["limit"], 8);
        assert!(oci.refused(&["update", "--cpuset-cpus", "x", "c"]).contains("linux.resources.cpu.cpus"));
        oci.ok(&["delete", "--force", "c"]);
        assert!(oci.refused(&["update", "--pids-limit", "5", "c"]).contains("does not exist"));
        oci.end();
    });
}

/// runc is the witness: callers read what it writes.
#[test]
fn figures_are_runcs() {
    run(|host| {
        if !installed(&["runc"]) {
            return skip(host.test(), "runc is not installed");
        }
        let mut oci = Oci::new(host, "while :; do :; done");
        oci.config["linux"]["resources"] =
            json!({ "pids": { "limit": 30 }, "memory": { "limit": 64 << 20 } });
        oci.config["linux"]["cgroupsPath"] = json!("/figures");
        oci.write();
        oci.create();
        oci.ok(&["start", "c"]);
        let ours: Value = serde_json::from_str(&oci.ok(&["events", "--stats", "c"])).unwrap();
        oci.ok(&["delete", "--force", "c"]);
        let runc = |args: &[&str]| {
            let mut command = std::process::Command::new("runc");
            let file = |name: &str| std::fs::File::create(oci.dir.join(name)).unwrap();
            command.arg("--root").arg(oci.dir.join("runc")).args(args).stdin(std::process::Stdio::null());
            let status = command.stdout(file("said")).stderr(file("err")).status().unwrap();
            assert!(status.success(), "{}", std::fs::read_to_string(oci.dir.join("err")).unwrap());
            std::fs::read_to_string(oci.dir.join("said")).unwrap()
        };
        runc(&["run", "--detach", "--bundle", oci.bundle(), "c"]);
        let text = runc(&["events", "--stats", "c"]);
        let theirs: Value = serde_json::from_str(&text).unwrap();
        runc(&["delete", "--force", "c"]);
        reap();
        // It leaves out numbers that are nought.
        same_shape("", &ours, &theirs);
        for part in ["/data/memory/usage/limit", "/data/pids/limit", "/data/pids/current"] {
            assert_eq!(ours.pointer(part), theirs.pointer(part), "{part}");
        }
        for part in
            ["/data/memory/raw", "/data/memory/swap", "/data/hugetlb", "/data/blkio", "/data/cpu/throttling"]
        {
            assert!(ours.pointer(part).is_some_and(Value::is_object), "{part}: {ours}");
        }
        oci.end();
        remove_groups(&["figures"]);
    });
}

/// What runc has only where it is not nought.
const LEFT_OUT: [&str; 5] =
    [".data.memory.cache", ".data.cpu.throttling", ".data.memory.raw", ".data.blkio", ".data.hugetlb"];

/// Every value is where runc has one, and of its kind.
fn same_shape(at: &str, ours: &Value, theirs: &Value) {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            for (key, value) in ours {
                let at = format!("{at}.{key}");
                match theirs.get(key) {
                    Some(theirs) => same_shape(&at, value, theirs),
                    None => {
                        assert!(LEFT_OUT.iter().any(|left| at.starts_with(left)), "runc has no {at}: {value}")
                    }
                }
            }
        }
        _ => {
            assert_eq!(std::mem::discriminant(ours), std::mem::discriminant(theirs), "{at}: {ours}, {theirs}")
        }
    }
}
