//! Control groups: config-linux.md, "Control groups", and the calls that need them.

use coracle_testhost::{run, skip};
use serde_json::{Value, json};

use crate::support::{Oci, reap, soon};

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
